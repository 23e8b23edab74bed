"""Which rows are drawn of each model, and what they say together."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.estimates import VARIED, held, missed
from runner.prices.interval import Interval
from runner.prices.sample import LEAST, Stratum, Taken, draw, shares, together


@given(st.dictionaries(st.text(min_size=1, max_size=3), st.floats(0, 1e6), min_size=1, max_size=9), st.integers(10, 300))
def test_shares_add_up_and_no_model_has_few_rows_of_its_own(weights: dict[str, float], number: int) -> None:
    found = shares(weights, number)
    assert sum(count for _, count in found) == number
    assert sorted(model for models, _ in found for model in models) == sorted(weights)
    assert all(count >= LEAST - 1 for _, count in found)


def test_a_model_that_costs_more_has_more_of_the_sample_and_a_rare_one_is_with_others() -> None:
    assert shares({"dear": 80.0, "cheap": 20.0}, 50) == [(["dear"], 40), (["cheap"], 10)]
    assert shares({"dear": 80.0, "cheap": 19.0, "rare": 1.0}, 50) == [(["dear"], 40), (["cheap", "rare"], 10)]
    assert shares({"dear": 99.0, "rare": 1.0}, 20) == [(["rare", "dear"], 20)]
    assert shares({"free": 0.0, "other": 0.0}, 20) == [(["free", "other"], 20)]


def test_rows_are_drawn_once_from_their_own_group_and_all_where_they_are_few() -> None:
    chance = random.Random(3)
    models, sizes = [chance.randint(0, 2) for _ in range(600)], [chance.randint(1, 900) for _ in range(600)]
    rare = models.count(2)
    one, other = draw(models, sizes, [({0, 1}, 30), ({2}, 600)], 5)
    assert {models[place] for place in one} == {0, 1}
    assert len(set(one)) == len(one) <= 30
    assert (len(other), {models[place] for place in other}) == (rare, {2})
    assert draw(models, sizes, [({0, 1}, 30), ({2}, 600)], 5) == [one, other]


def test_a_group_that_was_drawn_whole_is_known() -> None:
    known = Stratum(models=["m"], rows=2, size=30, drawn={"a": 10, "b": 20})
    assert known.total({"a": 1.0, "b": 5.0}, 1) == Interval(low=6.0, mid=6.0, high=6.0)


def test_errors_that_have_nothing_to_do_with_each_other_add_up_as_squares() -> None:
    found = together([Interval(low=7, mid=10, high=16), Interval(low=16, mid=20, high=28)])
    assert (found.low, found.mid, found.high) == (pytest.approx(25), 30, pytest.approx(40))


def test_attempts_of_unknown_usage_raise_the_high_bound_of_the_rows_that_were_not_drawn() -> None:
    drawn = {str(number): 10 for number in range(20)}
    some, all_ = (Stratum(models=["m"], rows=rows, size=10 * rows, drawn=drawn) for rows in (40, 20))
    clean = {key: Taken(5.0) for key in drawn}
    for number in (1, LEAST + 2):
        cut = {**clean, **{str(place): Taken(5.0, 0.0, 5.0) for place in range(number)}}
        found, without = some.of_attempts(cut, 1), some.of_attempts(clean, 1)
        assert (found.low, found.mid) == (pytest.approx(without.low), pytest.approx(200))
        assert without.high < found.high < 400
        # all is known of rows that were drawn, but for what may have been billed, which the books say
        assert all_.of_attempts(cut, 1) == Interval(low=100, mid=100, high=100)
        unlimited = {**clean, **{str(place): Taken(5.0, 0.0, math.inf) for place in range(number)}}
        assert math.isinf(some.of_attempts(unlimited, 1).high)
    # a failed attempt of known cost: its own, and that of the one other row for which the drawn one stands
    failed = {**clean, "0": Taken(5.0, 5.0)}
    assert (some.of_attempts(failed, 1).mid, all_.of_attempts(failed, 1).mid) == (pytest.approx(210), 105)


@pytest.mark.parametrize(("again", "cut"), [(0.05, 0.0), (0.0, 0.05)])
def test_intervals_hold_where_attempts_fail(again: float, cut: float) -> None:
    found = [held(seed, again, cut, 500).holds for seed in range(15)]
    assert sum(found) >= 14


def test_intervals_hold_and_are_narrow() -> None:
    """The short form of ``python -m benchmarks.estimates``."""
    found = [held(seed, 0.0, 0.0, 300) for seed in range(40)]
    assert missed([one.holds for one in found], [one.half_width for one in found if one.varied <= VARIED], faults=False) == []
