"""How values of attempts and answers are spread: percentiles and bars, from one pass of SQL and in constant memory.

SQLite counts values that are rounded to three digits, of which there are at most 900 in each power of ten. Rounding keeps the
order, so that a percentile is that of the values themselves, rounded to three digits.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import sqlalchemy as sa
from msgspec import structs

from runner.figures import QUANTILES, Bar, Spread
from runner.store.spending import Fetch, once

_BARS = 26
"""Bars at most."""
_WIDE = 40
"""Bars have widths in proportion where the larger values are so many times the smaller ones."""
_WIDEST = 10**12
"""Values that are so many times smaller than the largest one are in a bar with 0."""
_STEPS = (1, 2, 2.5, 5, 10)
"""A width of bars is one of these, times a power of ten."""


def spread(fetch: Fetch, value: sa.ColumnElement[Any], source: sa.FromClause, *where: sa.ColumnElement[bool]) -> Spread | None:
    """Return how a value of some rows is spread; None if no row has it."""
    return spread_and_rest(fetch, value, source, *where)[0]


def spread_and_rest(
    fetch: Fetch, value: sa.ColumnElement[Any], source: sa.FromClause, *where: sa.ColumnElement[bool]
) -> tuple[Spread | None, int]:
    """Return the same, and how many rows do not have the value."""
    one = once(sa.select(value.label("value")).select_from(source).where(*where)).c.value
    rounded = sa.case((one.is_not(None), sa.func.printf("%.2e", one))).label("rounded")
    groups = fetch(sa.select(rounded, sa.func.count(), sa.func.sum(one * 1.0)).group_by(rounded))
    values = sorted((float(text), count) for text, count, _ in groups if text is not None)
    rest, number = sum(count for text, count, _ in groups if text is None), sum(count for _, count in values)
    if not number:
        return None, rest
    mean = sum(total for text, _, total in groups if text is not None) / number
    edges, in_proportion = _edges(values)
    bars = _bars(values, edges)
    found = Spread(
        count=number, mean=mean, quantiles=_quantiles(values, number), bars=bars, in_proportion=in_proportion, values=values
    )
    return found, rest


def alike(spreads: Sequence[Spread | None]) -> list[Spread | None]:
    """Return spreads of the same measure with bars between the same bounds, so that they can be compared by eye."""
    every = sorted(_values_of(spreads))
    if not every:
        return list(spreads)
    edges, in_proportion = _edges(every)
    return [one and structs.replace(one, bars=_bars(one.values, edges), in_proportion=in_proportion) for one in spreads]


def _values_of(spreads: Iterable[Spread | None]) -> list[tuple[float, int]]:
    return [value for one in spreads if one is not None for value in one.values]


def _quantiles(values: Sequence[tuple[float, int]], number: int) -> dict[int, float]:
    """Return the value of each rank. values: ascending, each with how often it occurs."""
    ranks = {share: max(1, math.ceil(share / 100 * number)) for share in (0, *QUANTILES, 100)}
    found, seen = dict[int, float](), 0
    for value, count in values:
        seen += count
        for share, rank in ranks.items():
            if share not in found and seen >= rank:
                found[share] = value
    return found


def _edges(values: Sequence[tuple[float, int]]) -> tuple[list[float], bool]:
    """Return bounds that a person can read, and whether they are in proportion. values: ascending."""
    least, most = values[0][0], values[-1][0]
    above = next((value for value, _ in values if value > most / _WIDEST), 0.0) if most > 0 else 0.0
    in_proportion = bool(above) and least >= 0 and most / above > _WIDE
    edges = _in_proportion(above, most) if in_proportion else _even(least, most)
    if 0 <= least < edges[0]:
        edges.insert(0, 0.0)
    return edges, in_proportion


def _bars(values: Sequence[tuple[float, int]], edges: Sequence[float]) -> list[Bar]:
    """Count values between bounds."""
    counts, at = [0] * (len(edges) - 1), 0
    for value, count in values:
        while at < len(counts) - 1 and value >= edges[at + 1]:
            at += 1
        counts[at] += count
    return [Bar(low, high, count) for low, high, count in zip(edges[:-1], edges[1:], counts, strict=True)]


def _even(least: float, most: float) -> list[float]:
    """Return bounds at the same distance from each other."""
    largest = max(abs(least), abs(most))
    width = nice((most - least) / (_BARS - 2) or largest / 10 or 1.0)
    # whole numbers are told apart by whole numbers, and no bar is narrower than what the values were rounded to
    if least == int(least) and most == int(most):
        width = max(1.0, width)
    if largest:
        width = max(width, _plain(10.0 ** (math.floor(math.log10(largest)) - 2)))
    first = math.floor(least / width + 1e-9)
    number = math.floor(most / width + 1e-9) - first + 1
    return [_plain((first + step) * width) for step in range(number + 1)]


def _in_proportion(least: float, most: float) -> list[float]:
    """Return bounds of which each is the same multiple of the one before, as far as a person can read them."""
    steps = (1, 1.5, 2, 3, 5, 7) if most / least < 10**4 else (1, 2, 5) if most / least < 10**8 else (1,)
    power, edges = math.floor(math.log10(least)), list[float]()
    stride = max(1, math.ceil(math.log10(most / least) / _BARS))
    while not edges or edges[-1] <= most:
        edges += [_plain(step * 10.0**power) for step in steps]
        power += stride
    first = max(place for place, edge in enumerate(edges) if edge <= least or place == 0)
    last = next(place for place, edge in enumerate(edges) if edge > most)
    return edges[first : last + 1]


def nice(width: float) -> float:
    """Return the least width of at least this size that a person can count with."""
    power = 10.0 ** math.floor(math.log10(width))
    return _plain(next(step * power for step in _STEPS if step * power >= width * (1 - 1e-9)))


def _plain(value: float) -> float:
    """Return a number without what the arithmetic of floats adds to it."""
    return float(f"{value:.9g}")
