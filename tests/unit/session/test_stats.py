"""Quantiles right within a percent, in constant memory."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.errors import BAD_ROW
from runner.event_types import Quantiles
from runner.model import Attempt, Outcome, Usage
from runner.session.stats import Histogram, SessionStats

DURATIONS = st.floats(min_value=1e-4, max_value=1e5)


def filled(*durations: float) -> Histogram:
    histogram = Histogram()
    for seconds in durations:
        histogram.add(seconds)
    return histogram


def test_nothing_measured_has_no_quantile() -> None:
    assert Histogram().quantile(0.5) is None


@given(st.lists(DURATIONS, min_size=1, max_size=60), st.floats(min_value=0, max_value=1))
def test_every_quantile_is_within_a_percent_of_the_true_one(durations: list[float], share: float) -> None:
    true = sorted(durations)[max(1, math.ceil(share * len(durations))) - 1]
    assert filled(*durations).quantile(share) == pytest.approx(true, rel=0.0101)


@given(st.lists(DURATIONS, min_size=1, max_size=30))
def test_quantiles_grow_with_their_share(durations: list[float]) -> None:
    histogram = filled(*durations)
    found = [histogram.quantile(share / 20) for share in range(21)]
    assert found == sorted(found, key=lambda value: value or 0.0)


def test_the_order_does_not_matter() -> None:
    durations = [0.01 * number for number in range(1, 500)]
    shuffled = random.Random(1).sample(durations, len(durations))
    assert [filled(*durations).quantile(s) for s in (0.5, 0.95)] == [filled(*shuffled).quantile(s) for s in (0.5, 0.95)]


@pytest.mark.parametrize("seconds", [0.0, -1.0, 1e-9])
def test_a_duration_too_small_to_measure_counts_as_the_smallest(seconds: float) -> None:
    assert filled(seconds).quantile(0.5) == pytest.approx(1e-4)


def test_memory_does_not_grow_with_the_number_of_durations() -> None:
    draw = random.Random(3)
    histogram = filled(*(draw.lognormvariate(0, 2) for _ in range(20_000)))
    assert len(histogram._counts) < 1200


def an_attempt(number: int, code: str | None, *, into: int | None, out: int | None) -> Attempt:
    usage = Usage(input_tokens=into, output_tokens=out) if into is not None or out is not None else None
    return Attempt(key="a", number=number, started_at=0.0, duration_s=1.0, status=200, usage=usage, error_code=code, error=code)


def test_tokens_of_failed_attempts_are_in_the_summary() -> None:
    stats = SessionStats()
    stats.add(an_attempt(1, "cut", into=100, out=None))
    stats.add(an_attempt(2, "truncated", into=100, out=7))
    stats.add(an_attempt(3, "closed", into=None, out=None))
    assert (stats.attempts, stats.input_tokens, stats.output_tokens) == (3, 200, 7)
    # they say nothing about how long an answer takes
    assert stats.quantiles() == (Quantiles(p50=None, p95=None), Quantiles(p50=None, p95=None))
    assert (stats.sent().requests, stats.sent().rows, stats.sent().input_tokens) == (3, 0, 200)


def test_broken_rows_say_nothing_about_the_time_that_a_row_takes() -> None:
    stats = SessionStats()
    for position, code in enumerate((BAD_ROW, "bad_request", BAD_ROW)):
        stats.add(Outcome(key=str(position), position=position, status="failed", metadata={}, fingerprint=0, error_code=code))
    assert (stats.failed, stats.sent().rows) == (3, 1)
