"""Limits per minute: never exceeded, almost fully used, and corrected whenever an estimate was wrong."""

import random
from collections.abc import Awaitable, Callable

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from virtual import BACKEND

from runner.admission import Permit
from runner.engine.limits.bucket import CREDIT_S, Rate
from runner.engine.limits.estimate import BYTES_PER_TOKEN, OUTPUT_TOKENS, Estimate
from runner.engine.limits.headers import Kind, Seen
from runner.engine.limits.rates import DRAIN_S, Rates
from runner.model import Usage

pytestmark = pytest.mark.anyio


async def reserve(lane_rates: Rates, permit: Permit, most: int | None) -> None:
    permit.most = most
    await lane_rates.reserve(permit)


@pytest.fixture
def anyio_backend() -> object:
    return BACKEND


def rates(**given: float) -> Rates:
    limits: dict[Kind, float] = dict(given)  # type: ignore[arg-type]
    return Rates(limits, anyio.current_time)


async def times(acquire: Callable[[], Awaitable[object]], count: int) -> list[float]:
    """Acquire one after another, as the lane's gate ensures. Return the seconds at which each was let through."""
    start, through = anyio.current_time(), []
    for _ in range(count):
        await acquire()
        through.append(anyio.current_time() - start)
    return through


# -- one rate


@pytest.mark.parametrize("per_minute", [6, 60, 90, 600, 6000])
async def test_the_burst_is_one_seconds_worth(per_minute: float) -> None:
    rate = Rate(per_minute)
    through = await times(lambda: rate.acquire(1), 2 * int(per_minute / 60) + 3)
    assert sum(time < 30 / per_minute for time in through) == max(1, per_minute // 60)


@pytest.mark.parametrize("per_minute", [30, 100, 600])
async def test_no_minute_sees_more_than_the_limit_and_nearly_all_of_it_is_used(per_minute: float) -> None:
    rate = Rate(per_minute)
    through = await times(lambda: rate.acquire(1), 4 * int(per_minute))
    for start in through:
        assert sum(start <= time < start + 60 for time in through) <= per_minute
    assert 4 * per_minute / (through[-1] / 60) >= 0.97 * per_minute


async def test_no_minute_sees_more_tokens_than_the_limit() -> None:
    draw, rate = random.Random(1), Rate(60_000)
    amounts = [draw.choice([50.0, 200.0, 900.0, 3000.0]) for _ in range(400)]
    given = iter(amounts)
    through = await times(lambda: rate.acquire(next(given)), len(amounts))
    went = list(zip(through, amounts, strict=True))
    for start, _ in went:
        assert sum(amount for time, amount in went if start < time <= start + 60) <= 60_000 * 1.0001
    assert sum(amounts) / (through[-1] / 60) >= 0.97 * 60_000


async def test_an_amount_above_the_bucket_waits_for_all_of_itself() -> None:
    rate = Rate(600)
    assert rate.waits(100)
    (first, second) = await times(lambda: rate.acquire(100), 2)
    assert first == pytest.approx(9, rel=0.05)
    assert second - first == pytest.approx(10, rel=0.05)


async def test_an_amount_above_a_whole_minutes_limit_is_let_in_all_the_same() -> None:
    rate = Rate(60)
    (first,) = await times(lambda: rate.acquire(150), 1)
    assert first == pytest.approx(149, rel=0.01)


async def test_it_tells_whether_one_has_to_wait() -> None:
    rate = Rate(60)
    assert not rate.waits(1)
    await rate.acquire(1)
    assert rate.waits(1)
    await anyio.sleep(1)
    assert not rate.waits(1)


async def test_what_was_used_beyond_the_reservation_is_paid_by_the_next() -> None:
    rate = Rate(60)
    await rate.acquire(1)
    rate.settle(1, 11)
    (through,) = await times(lambda: rate.acquire(1), 1)
    assert through == pytest.approx(11, abs=0.01)


async def test_what_was_not_used_is_a_credit_and_at_most_a_minutes_worth() -> None:
    rate = Rate(60)
    await rate.acquire(10)
    rate.settle(10, 4)
    through = await times(lambda: rate.acquire(1), 8)
    assert (through[5], through[6]) == (pytest.approx(0, abs=0.01), pytest.approx(1, abs=0.05))
    rate.settle(10_000, 0)
    assert rate.debt == -60 * CREDIT_S / 60


@pytest.mark.parametrize("after_s", [0.0, 0.5, 3.0, 7.5])
async def test_who_gives_up_in_the_middle_leaves_only_what_went_through_behind(after_s: float) -> None:
    rate = Rate(60)
    await rate.acquire(1)
    with anyio.move_on_after(after_s) as scope:
        await rate.acquire(10)
    assert scope.cancelled_caught
    # the capacity that was drained for it may be lost, but it leaves no debt
    assert -10 <= rate.debt <= 0
    (through,) = await times(lambda: rate.acquire(1), 1)
    assert through <= 1.01


async def test_giving_up_again_and_again_neither_mints_nor_loses_tokens() -> None:
    draw, rate, start, went = random.Random(3), Rate(600), anyio.current_time(), 0.0
    while anyio.current_time() - start < 600:
        with anyio.move_on_after(draw.uniform(0, 0.5)):
            await rate.acquire(5)
            went += 5
    assert went <= 600 * 10 + 10
    assert -600 <= rate.debt <= 0.001
    start, total = anyio.current_time(), 0
    while anyio.current_time() - start < 180:
        await rate.acquire(5)
        total += 5
    assert total <= 600 * 3 * 1.02 + 600


async def test_a_new_limit_holds_for_who_waits_already() -> None:
    rate = Rate(60)
    await rate.acquire(1)
    through: list[float] = []

    async def wait() -> None:
        start = anyio.current_time()
        await rate.acquire(100)
        through.append(anyio.current_time() - start)

    async with anyio.create_task_group() as group:
        group.start_soon(wait)
        await anyio.sleep(10)
        rate.change(600)
    # ten in ten seconds, the other ninety at the new rate
    assert through == [pytest.approx(19, abs=1.5)]


async def test_the_same_limit_again_gives_no_new_burst() -> None:
    rate = Rate(600)
    for _ in range(50):
        rate.change(600)
        await rate.acquire(1)
    (through,) = await times(lambda: rate.acquire(1), 1)
    assert through > 0


async def test_what_the_server_has_left_is_the_most_that_stays_on_hand() -> None:
    rate = Rate(600)
    rate.drain(3)
    through = await times(lambda: rate.acquire(1), 5)
    assert [time < 0.01 for time in through] == [True, True, True, False, False]
    rate.drain(0)
    assert rate.debt <= 10
    # it never lets anything through
    rate.drain(10_000)
    (through_s,) = await times(lambda: rate.acquire(1), 1)
    assert through_s > 0


@pytest.mark.parametrize("wrong", [0.0, -1.0, float("nan"), float("inf")])
async def test_a_rate_is_a_number_above_0(wrong: float) -> None:
    with pytest.raises(ValueError):
        Rate(wrong)


# -- all rates of a lane


async def minutes(lane_rates: Rates, used: Usage, count: int, *, size: int = 400, most: int | None = None) -> list[float]:
    """Send that many requests that all use the same amount. Return when each was sent."""
    start, went = anyio.current_time(), []
    for _ in range(count):
        permit = Permit(admitted_at=0, size=size)
        await reserve(lane_rates, permit, most)
        went.append(anyio.current_time() - start)
        lane_rates.used(permit, used, complete=True)
    return went


@pytest.mark.parametrize("factor", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("kind", ["tpm", "input_tpm", "output_tpm"])
async def test_estimates_twice_too_high_or_too_low_land_on_the_limit(kind: Kind, factor: float) -> None:
    """Without learning: the corrections alone must keep the limit."""
    lane_rates = rates(**{kind: 60_000})
    lane_rates._estimate.learn = lambda size, usage: None  # type: ignore[method-assign]
    into, out = 100 * factor, OUTPUT_TOKENS * factor
    took = {"tpm": into + out, "input_tpm": into, "output_tpm": out}[kind]
    went = await minutes(lane_rates, Usage(input_tokens=int(into), output_tokens=int(out)), int(5 * 60_000 / took))
    assert 5 / (went[-1] / 60) == pytest.approx(1, abs=0.03)


async def test_answers_that_come_late_land_on_the_limit_too() -> None:
    draw, lane_rates, used = random.Random(2), rates(tpm=60_000), [0.0]
    start = anyio.current_time()

    async def answer(permit: Permit) -> None:
        await anyio.sleep(draw.uniform(1, 20))
        out = draw.randrange(20, 2000)
        used[0] += 100 + out
        lane_rates.used(permit, Usage(input_tokens=100, output_tokens=out), complete=True)

    async with anyio.create_task_group() as group:
        while anyio.current_time() - start < 600:
            permit = Permit(admitted_at=0, size=400)
            await reserve(lane_rates, permit, None)
            group.start_soon(answer, permit)
    assert used[0] / 10 == pytest.approx(60_000, rel=0.05)


async def test_large_requests_are_not_starved_by_small_ones() -> None:
    """A request is sent after all requests before it, whatever its size."""
    lane_rates, gate, order = rates(input_tpm=600), anyio.Lock(), list[int]()

    async def one(name: int, size: int) -> None:
        async with gate:
            await reserve(lane_rates, Permit(admitted_at=0, size=size), None)
            order.append(name)

    async with anyio.create_task_group() as group:
        for name in range(60):
            group.start_soon(one, name, 2000 if name == 10 else 40)
    assert order == list(range(60))


async def test_nothing_is_set_aside_where_there_are_no_limits() -> None:
    permit = Permit(admitted_at=0, size=400)
    await reserve(rates(), permit, None)
    assert permit.reserved == {}


async def test_each_kind_sets_its_own_amount_aside() -> None:
    permit = Permit(admitted_at=0, size=400)
    await reserve(rates(rpm=60_000, tpm=1e6, input_tpm=1e6, output_tpm=1e6), permit, 50)
    into = 400 / BYTES_PER_TOKEN
    assert permit.reserved == {"rpm": 1, "tpm": into + 50, "input_tpm": into, "output_tpm": 50}


async def set_aside(lane_rates: Rates) -> Permit:
    permit = Permit(admitted_at=0, size=400)
    await reserve(lane_rates, permit, 50)
    return permit


def debts(lane_rates: Rates) -> dict[Kind, float]:
    return {kind: rate.debt for kind, rate in lane_rates._rates.items()}


async def test_a_refusal_costs_the_request_and_no_tokens() -> None:
    lane_rates = rates(rpm=6000, tpm=1e6)
    lane_rates.refused(await set_aside(lane_rates))
    assert debts(lane_rates) == {"rpm": 0, "tpm": -150}


async def test_what_never_reached_the_server_costs_nothing() -> None:
    lane_rates = rates(rpm=6000, tpm=1e6)
    lane_rates.unused(await set_aside(lane_rates))
    assert debts(lane_rates) == {"rpm": -1, "tpm": -150}


async def test_the_estimate_stands_where_usage_is_unknown_or_half_known() -> None:
    lane_rates = rates(rpm=6000, tpm=1e6)
    lane_rates.used(await set_aside(lane_rates), None, complete=False)
    assert debts(lane_rates) == {"rpm": 0, "tpm": 0}
    lane_rates.used(await set_aside(lane_rates), Usage(input_tokens=70), complete=False)
    assert debts(lane_rates) == {"rpm": 0, "tpm": -30}


@pytest.mark.parametrize("kind", ["tpm", "input_tpm", "output_tpm"])
@pytest.mark.parametrize("most", [None, 50])
async def test_an_absurd_usage_holds_nobody_up_for_days(kind: Kind, most: int | None) -> None:
    many = rates(**{kind: 1_000_000.0})
    permit = Permit(admitted_at=0.0, size=400)
    await reserve(many, permit, most)
    many.used(permit, Usage(input_tokens=10**12, output_tokens=10**12, cached_tokens=0), complete=True)
    with anyio.fail_after(300):
        await reserve(many, Permit(admitted_at=0.0, size=400), most)


async def test_an_absurd_usage_is_not_what_the_next_request_is_expected_to_use() -> None:
    many = rates(tpm=1_000_000.0)
    for _ in range(3):
        permit = Permit(admitted_at=0.0, size=400)
        await reserve(many, permit, 50)
        many.used(permit, Usage(input_tokens=10**12, output_tokens=10**12), complete=True)
    permit = Permit(admitted_at=0.0, size=400)
    with anyio.fail_after(1000):
        await reserve(many, permit, 50)
    assert permit.reserved["tpm"] < 1_000_000


async def used_at_once(usage: Usage, *, kind: Kind) -> float:
    """Return how long a request waits after one of this usage."""
    many = rates(**{kind: 6000.0})
    permit = Permit(admitted_at=0.0, size=4_000)
    await reserve(many, permit, 1)
    many.used(permit, usage, complete=False)
    start = anyio.current_time()
    await reserve(many, Permit(admitted_at=0.0, size=4), 1)
    return anyio.current_time() - start


async def test_what_a_cache_has_read_is_no_input_per_minute() -> None:
    cached = Usage(input_tokens=3000, output_tokens=1, cached_tokens=2990)
    plain = Usage(input_tokens=3000, output_tokens=1, cached_tokens=0)
    assert await used_at_once(cached, kind="input_tpm") < 1
    assert await used_at_once(plain, kind="input_tpm") > 15
    # the limit of all tokens counts them
    assert await used_at_once(cached, kind="tpm") == pytest.approx(await used_at_once(plain, kind="tpm"), abs=0.5)
    # a part cannot be larger than the whole
    assert await used_at_once(Usage(input_tokens=3000, cached_tokens=10**9), kind="input_tpm") < 1


async def test_a_permit_is_settled_once() -> None:
    lane_rates = rates(rpm=6000, tpm=1e6)
    permit = await set_aside(lane_rates)
    lane_rates.used(permit, Usage(input_tokens=100, output_tokens=50), complete=True)
    lane_rates.unused(permit)
    lane_rates.refused(permit)
    assert debts(lane_rates) == {"rpm": 0, "tpm": 0}


async def test_a_failed_attempt_teaches_the_estimate_nothing() -> None:
    lane_rates = rates(tpm=1e6)
    lane_rates.used(await set_aside(lane_rates), Usage(input_tokens=9999, output_tokens=1), complete=False)
    assert lane_rates._estimate.input_tokens(400) == 100


async def test_who_gives_up_at_the_second_limit_gets_the_first_back() -> None:
    lane_rates = rates(rpm=6000, tpm=600)
    await reserve(lane_rates, Permit(admitted_at=0, size=40), 10)
    permit = Permit(admitted_at=0, size=40)
    with anyio.move_on_after(0.1) as scope:
        await reserve(lane_rates, permit, 1000)
    assert scope.cancelled_caught
    assert permit.reserved == {}
    assert lane_rates._rates["rpm"].debt == -1


async def test_what_somebody_waits_for_is_told_while_it_is_waited_for() -> None:
    lane_rates = rates(rpm=60_000, input_tpm=600)
    await set_aside(lane_rates)
    assert lane_rates.waits_for is None
    async with anyio.create_task_group() as group:
        group.start_soon(reserve, lane_rates, Permit(admitted_at=0, size=40), 1)
        await anyio.wait_all_tasks_blocked()
        assert lane_rates.waits_for == "input_tpm"
    assert lane_rates.waits_for is None


# -- limits that the server tells


@pytest.mark.parametrize(("given", "told", "holds"), [(100.0, 60.0, 60.0), (100.0, 500.0, 100.0), (None, 500.0, 500.0)])
async def test_of_a_given_and_a_told_limit_the_smaller_holds(given: float | None, told: float, holds: float) -> None:
    lane_rates = rates() if given is None else rates(rpm=given)
    lane_rates.learn("rpm", Seen(limit=told))
    assert lane_rates.per_minute == {"rpm": holds}


async def test_a_told_limit_may_rise_again_up_to_the_given_one() -> None:
    lane_rates = rates(rpm=100)
    for told, holds in ((60.0, 60.0), (80.0, 80.0), (1000.0, 100.0)):
        lane_rates.learn("rpm", Seen(limit=told))
        assert lane_rates.per_minute == {"rpm": holds}


@pytest.mark.parametrize("seen", [Seen(), Seen(limit=0.0), Seen(limit=10_000.0, reset_s=3600.0), Seen(remaining=0.0)])
async def test_what_is_no_pace_is_not_learned(seen: Seen) -> None:
    lane_rates = rates()
    lane_rates.learn("rpm", seen)
    assert lane_rates.per_minute == {}


async def test_a_limit_learned_while_somebody_waits_holds_from_the_next_on() -> None:
    lane_rates = rates(tpm=600)
    await set_aside(lane_rates)
    permit = Permit(admitted_at=0, size=400)
    async with anyio.create_task_group() as group:
        group.start_soon(reserve, lane_rates, permit, 50)
        await anyio.sleep(1)
        lane_rates.learn("rpm", Seen(limit=60.0))
    assert set(permit.reserved) == {"tpm"}
    lane_rates.used(permit, None, complete=False)
    assert set((await set_aside(lane_rates)).reserved) == {"tpm", "rpm"}


async def test_a_limit_lowered_while_somebody_waits_holds_for_it() -> None:
    lane_rates, start = rates(input_tpm=6000), anyio.current_time()
    async with anyio.create_task_group() as group:
        group.start_soon(reserve, lane_rates, Permit(admitted_at=0, size=8000), None)
        await anyio.sleep(10)
        lane_rates.learn("input_tpm", Seen(limit=600.0))
    # 1100 of 2000 were sent in the first ten seconds
    assert anyio.current_time() - start == pytest.approx(100, rel=0.05)


async def test_what_the_server_has_left_is_taken_over_once_a_second() -> None:
    lane_rates = rates(rpm=6000)
    lane_rates.learn("rpm", Seen(limit=6000.0, remaining=0.0))
    owed = debts(lane_rates)["rpm"]
    assert owed == 100
    lane_rates._rates["rpm"].debt = 0
    lane_rates.learn("rpm", Seen(limit=6000.0, remaining=0.0))
    assert debts(lane_rates)["rpm"] == 0
    await anyio.sleep(DRAIN_S)
    lane_rates.learn("rpm", Seen(limit=6000.0, remaining=0.0))
    assert debts(lane_rates)["rpm"] == 100


# -- estimates


async def test_an_estimate_begins_with_what_is_usual() -> None:
    estimate = Estimate()
    assert estimate.input_tokens(4000) == 4000 / BYTES_PER_TOKEN
    assert (estimate.output_tokens(None), estimate.output_tokens(100_000), estimate.output_tokens(16)) == (256, 256, 16)
    assert estimate.input_tokens(0) == 1


async def test_an_estimate_learns_and_leans_to_the_newest() -> None:
    estimate = Estimate()
    estimate.learn(1000, Usage(input_tokens=500, output_tokens=1000))
    assert (estimate.input_tokens(2000), estimate.output_tokens(None), estimate.output_tokens(10)) == (1000, 1000, 10)
    for _ in range(200):
        estimate.learn(1000, Usage(input_tokens=100, output_tokens=20))
    assert estimate.input_tokens(1000) == pytest.approx(100, rel=0.05)
    assert estimate.output_tokens(None) == pytest.approx(20, rel=0.5)


async def test_what_is_not_reported_teaches_nothing() -> None:
    estimate = Estimate()
    estimate.learn(1000, Usage())
    estimate.learn(0, Usage(input_tokens=10))
    assert (estimate.input_tokens(400), estimate.output_tokens(None)) == (100, OUTPUT_TOKENS)


ENVELOPE_BYTES, ENVELOPE_TOKENS = 110, 8


def in_truth(size: int, bytes_per_token: float) -> int:
    """Return the tokens of a request whose JSON costs next to nothing, beside its text."""
    return round((size - ENVELOPE_BYTES) / bytes_per_token) + ENVELOPE_TOKENS


def learned(sizes: tuple[int, int], bytes_per_token: float, count: int) -> Estimate:
    draw, estimate = random.Random(3), Estimate()
    for _ in range(count):
        size = draw.randint(*sizes)
        estimate.learn(size, Usage(input_tokens=max(1, round(in_truth(size, bytes_per_token) * draw.uniform(0.9, 1.1)))))
    return estimate


# Chinese and Japanese, code, English; 5 is long words
@pytest.mark.parametrize("bytes_per_token", [1.5, 2.0, 3.0, 4.0, 5.0])
@pytest.mark.parametrize("count", [5, 50, 300])
async def test_small_rows_tell_the_tokens_of_a_large_one(bytes_per_token: float, count: int) -> None:
    estimate = learned((120, 200), bytes_per_token, count)
    for size in (600, 30_000, 1_000_000):
        assert 0.8 < estimate.input_tokens(size) / in_truth(size, bytes_per_token) < 1.3


@pytest.mark.parametrize("count", [1, 5, 300])
async def test_rows_that_are_all_alike_tell_nothing_about_a_large_one(count: int) -> None:
    estimate = learned((140, 140), 4.0, count)
    assert estimate.input_tokens(140) == pytest.approx(in_truth(140, 4.0), rel=0.15)
    assert estimate.input_tokens(30_000) >= 0.95 * in_truth(30_000, 4.0)


@pytest.mark.parametrize("bytes_per_token", [1.5, 2.0, 3.0, 4.0, 5.0])
@pytest.mark.parametrize("sizes", [(30_000, 30_000), (20_000, 40_000)])
async def test_large_rows_tell_the_tokens_of_a_small_one(bytes_per_token: float, sizes: tuple[int, int]) -> None:
    estimate = learned(sizes, bytes_per_token, 30)
    assert estimate.input_tokens(30_000) == pytest.approx(in_truth(30_000, bytes_per_token), rel=0.1)
    # in proportion, so that the fixed part of a small row is all that is wrong
    for size in (120, 600, 3000):
        assert 0 < estimate.input_tokens(size) - in_truth(size, bytes_per_token) < ENVELOPE_BYTES / bytes_per_token + 60


async def test_a_large_row_is_not_forgotten_over_many_small_ones() -> None:
    estimate = learned((30_000, 30_000), 4.0, 1)
    for _ in range(400):
        estimate.learn(140, Usage(input_tokens=9))
        assert estimate.input_tokens(140) < 40
        assert estimate.input_tokens(30_000) > 6000


async def test_images_have_few_tokens_and_many_bytes() -> None:
    draw, estimate = random.Random(1), Estimate()
    for _ in range(30):
        estimate.learn(draw.randint(300_000, 2_000_000), Usage(input_tokens=draw.randint(800, 1200)))
    assert 500 < estimate.input_tokens(400_000) < 1500
    assert estimate.input_tokens(6_000_000) < 8000


@given(
    answers=st.lists(st.tuples(st.integers(1, 10**7), st.integers(0, 10**6)), max_size=40),
    sizes=st.tuples(st.integers(0, 10**7), st.integers(0, 10**7)),
)
@settings(max_examples=200, deadline=None)
def test_more_bytes_never_have_fewer_tokens(answers: list[tuple[int, int]], sizes: tuple[int, int]) -> None:
    estimate = Estimate()
    for size, tokens in answers:
        estimate.learn(size, Usage(input_tokens=tokens))
    less, more = (estimate.input_tokens(size) for size in sorted(sizes))
    assert 1 <= less <= more * (1 + 1e-9) < 1e9


# -- a request that would hold others up


@pytest.mark.parametrize(
    ("limits", "size", "most", "large"),
    [
        ({}, 10**9, None, False),
        # a request is one request, however few of them a minute takes
        ({"rpm": 0.5}, 10**9, None, False),
        ({"tpm": 12_000}, 3600, 100, False),
        ({"tpm": 12_000}, 3610, 100, True),
        ({"tpm": 12_000}, 48_000, 100, True),
        ({"input_tpm": 12_000}, 4000, 100, False),
        ({"input_tpm": 12_000}, 4010, 100, True),
        ({"output_tpm": 12_000}, 10**9, 1000, False),
        ({"output_tpm": 600}, 40, 60, True),
        ({"rpm": 0.5, "tpm": 10**9, "input_tpm": 120}, 41, 100, True),
    ],
)
async def test_a_request_that_takes_seconds_of_a_limit_lets_others_go_first(
    limits: dict[str, float], size: int, most: int | None, large: bool
) -> None:
    assert rates(**limits).postpones(Permit(admitted_at=0.0, size=size, most=most)) is large


async def test_where_there_is_credit_nobody_has_to_save() -> None:
    lane_rates = rates(tpm=6000)
    lane_rates._rates["tpm"].settle(4000, 0)
    assert not lane_rates.postpones(Permit(admitted_at=0.0, size=16_000, most=100))
    assert lane_rates.postpones(Permit(admitted_at=0.0, size=24_000, most=100))


async def test_a_slice_pays_the_debt_first_and_uses_the_credit() -> None:
    rate = Rate(600)
    rate.settle(0, 5)
    saved = 0.0
    start = anyio.current_time()
    while saved < 20:
        saved += await rate.save(20 - saved)
    # 25 at ten a second, the burst of one second at once
    assert anyio.current_time() - start == pytest.approx(1.5, abs=0.3)
    rate.settle(30, 0)
    assert await rate.save(12) == 12
    assert rate.debt == pytest.approx(-18)
