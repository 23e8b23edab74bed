"""Waits between attempts: bounded, jittered, never under a hint, and an end to them."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.engine.retry import RetryPolicy

WAITS = st.floats(min_value=0, max_value=1e6, allow_nan=False)
TIMES = st.integers(min_value=1, max_value=5_000)


class Highest(random.Random):
    """Draws the upper bound."""

    def uniform(self, a: float, b: float) -> float:
        return b


class Lowest(random.Random):
    """Draws the lower bound."""

    def uniform(self, a: float, b: float) -> float:
        return a


@pytest.mark.parametrize(("failures", "expected"), [(1, 0.5), (2, 1.0), (3, 2.0), (4, 4.0), (5, None), (6, None)])
def test_the_ceiling_doubles_until_the_attempts_are_used_up(failures: int, expected: float | None) -> None:
    assert RetryPolicy().delay(failures, draw=Highest()) == expected


@pytest.mark.parametrize(("times", "expected"), [(1, 2.0), (2, 4.0), (5, 32.0), (6, 60.0), (7, 60.0), (5_000, 60.0)])
def test_rate_limits_back_off_further_up_to_the_cap_and_have_no_last_attempt(times: int, expected: float) -> None:
    assert RetryPolicy().throttled_delay(times, waited_s=0, draw=Highest()) == expected


def test_jitter_is_full_over_a_small_floor() -> None:
    assert RetryPolicy().delay(3, draw=Lowest()) == pytest.approx(0.1)
    assert RetryPolicy().delay(3, draw=Highest()) == 2.0


def test_a_wait_is_longer_than_the_one_before_up_to_eight_times_its_bound() -> None:
    policy = RetryPolicy(base_s=1.0)
    assert policy.delay(2, draw=Lowest(), last_s=0.8) == pytest.approx(1.12)
    # a last wait that a pause had drawn out
    assert policy.delay(2, draw=Lowest(), last_s=600.0) == pytest.approx(16.0)
    assert policy.delay(2, draw=Highest(), last_s=600.0) == pytest.approx(22.4)
    assert policy.throttled_delay(1, waited_s=0, draw=Lowest(), last_s=1.0) == pytest.approx(1.4)
    # the server's own wait needs no floor
    assert policy.delay(2, draw=Lowest(), hint_s=0.1, last_s=600.0) == pytest.approx(0.1)


def test_a_server_that_we_hung_up_on_gets_time_to_see_it() -> None:
    policy = RetryPolicy(base_s=1.0)
    assert policy.delay(1, draw=Lowest(), hung_up=True) == pytest.approx(1.0)
    assert [policy.delay(n, draw=Highest(), hung_up=True) for n in (1, 2, 3)] == [2.0, 4.0, 8.0]
    assert policy.delay(2, draw=Lowest(), hung_up=True, last_s=2.0) == pytest.approx(2.8)
    assert policy.delay(5, draw=Lowest(), hung_up=True) is None


def test_the_same_seed_gives_the_same_waits() -> None:
    first, second = random.Random(7), random.Random(7)
    policy = RetryPolicy()
    assert [policy.delay(n, draw=first) for n in range(1, 5)] == [policy.delay(n, draw=second) for n in range(1, 5)]


@given(times=TIMES, hint_s=WAITS, seed=st.integers())
def test_a_hint_is_never_undercut_and_its_jitter_is_small(times: int, hint_s: float, seed: int) -> None:
    policy = RetryPolicy(attempts=10_000)
    for wait, base_s in (
        (policy.delay(times, draw=random.Random(seed), hint_s=hint_s), policy.base_s),
        (policy.throttled_delay(times, waited_s=0, draw=random.Random(seed), hint_s=hint_s), policy.throttled_base_s),
    ):
        assert wait is not None
        # hints that led nowhere so often are given more and more time
        beyond = base_s if times <= policy.patient else policy.cap_s
        assert hint_s <= wait <= hint_s + beyond


@given(times=TIMES, seed=st.integers())
def test_without_a_hint_no_wait_passes_the_cap(times: int, seed: int) -> None:
    policy = RetryPolicy(attempts=10_000)
    wait = policy.delay(times, draw=random.Random(seed))
    assert wait is not None
    assert 0 <= wait <= policy.cap_s


def test_a_hint_gives_no_further_attempt() -> None:
    assert RetryPolicy(attempts=2).delay(2, draw=Lowest(), hint_s=1) is None


@pytest.mark.parametrize(("waited_s", "gives_up"), [(0.0, False), (3599.9, False), (3600.0, True), (9999.0, True)])
def test_patience_with_rate_limits_ends(waited_s: float, gives_up: bool) -> None:
    assert (RetryPolicy().throttled_delay(3, waited_s=waited_s, draw=Lowest()) is None) is gives_up


def test_one_attempt_means_no_retry() -> None:
    assert RetryPolicy(attempts=1).delay(1, draw=Lowest()) is None


@pytest.mark.parametrize(("times", "expected"), [(1, 0.5), (2, 1.0), (4, 4.0), (5, 4.0), (5_000, 4.0)])
def test_a_server_out_of_reach_is_tried_again_soon_and_for_ever(times: int, expected: float) -> None:
    assert RetryPolicy(attempts=1).unreached_delay(times, draw=Highest()) == expected
    assert RetryPolicy(attempts=1).unreached_delay(times, draw=Lowest()) == pytest.approx(0.1)


def test_a_hint_beyond_the_cap_is_kept() -> None:
    assert RetryPolicy().throttled_delay(1, waited_s=0, draw=Highest(), hint_s=7200) == 7202
    assert RetryPolicy().delay(1, draw=Lowest(), hint_s=7200) == 7200
