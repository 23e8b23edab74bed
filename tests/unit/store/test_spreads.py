"""Bars of any values: every value lies in one, and there are few."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.figures import Bar, Spread
from runner.store.spreads import _bars, _edges, _quantiles, alike, nice

ANY = st.floats(-1e18, 1e18, allow_nan=False).map(lambda value: float(f"{value:.2e}"))
TIMES = st.floats(0, 1e5).map(lambda value: float(f"{value:.2e}"))
WHOLE = st.integers(-(10**6), 10**6).map(lambda value: float(f"{value:.2e}"))


@given(st.one_of(*(st.dictionaries(values, st.integers(1, 10**6), min_size=1, max_size=40) for values in (ANY, TIMES, WHOLE))))
def test_every_value_lies_in_one_bar(found: dict[float, int]) -> None:
    values = sorted(found.items())
    bars = _bars(values, _edges(values)[0])
    assert 1 <= len(bars) <= 60
    assert sum(bar.number for bar in bars) == sum(found.values())
    assert [bar.high for bar in bars[:-1]] == [bar.low for bar in bars[1:]]
    assert all(bar.low < bar.high for bar in bars)
    # a bound is as exact as the arithmetic of its width
    slack = 1e-6 * (bars[0].high - bars[0].low)
    assert bars[0].low <= values[0][0] + slack
    assert bars[-1].high >= values[-1][0] - slack


def test_whole_numbers_have_a_bar_each() -> None:
    values = [(1.0, 4), (2.0, 1), (5.0, 2)]
    assert _bars(values, _edges(values)[0]) == [Bar(1, 2, 4), Bar(2, 3, 1), Bar(3, 4, 0), Bar(4, 5, 0), Bar(5, 6, 2)]


@pytest.mark.parametrize("width", [1e-9, 0.013, 0.2, 1.0, 3.1, 26.0, 7e9])
def test_a_width_is_one_to_count_with(width: float) -> None:
    found = nice(width)
    assert width <= found * (1 + 1e-9) <= 2.6 * width
    digits = found / 10 ** math.floor(math.log10(found) + 1e-9)
    assert any(math.isclose(digits, step) for step in (1, 2, 2.5, 5))


def spread(*values: float) -> Spread:
    counted = [(value, 1) for value in values]
    edges, in_proportion = _edges(counted)
    return Spread(
        count=len(values), mean=1.0, quantiles={}, bars=_bars(counted, edges), in_proportion=in_proportion, values=counted
    )


def test_spreads_of_several_runs_have_the_same_bars() -> None:
    narrow, wide = spread(0.5, 0.6), spread(0.01, 3.0)
    assert (narrow.in_proportion, wide.in_proportion) == (False, True)
    found = alike([narrow, None, wide])
    assert found[1] is None
    first, _, second = found
    assert first is not None and second is not None  # noqa: PT018
    assert [bar[:2] for bar in first.bars] == [bar[:2] for bar in second.bars] == [bar[:2] for bar in wide.bars]
    assert first.in_proportion and second.in_proportion  # noqa: PT018
    assert [sum(bar.number for bar in one.bars) for one in (first, second)] == [2, 2]
    assert all(any(bar.low <= value < bar.high and bar.number for bar in first.bars) for value in (0.5, 0.6))
    assert alike([narrow]) == [narrow]
    assert alike([None, None]) == [None, None]


def test_a_percentile_is_the_value_of_its_rank_counted_upwards() -> None:
    found = _quantiles([(1.0, 3), (2.0, 1), (7.0, 1)], 5)
    assert found == {0: 1.0, 1: 1.0, 5: 1.0, 10: 1.0, 25: 1.0, 50: 1.0, 75: 2.0, 90: 7.0, 95: 7.0, 99: 7.0, 100: 7.0}
