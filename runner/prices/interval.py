"""Estimates the total of something over all rows of a file, such as its cost, from a sample of rows, with a 95 % interval.

The sample is drawn systematically (Madow 1949) with a probability proportional to a row's size plus the mean size: long rows,
which cost most, are likely to be in it, and short ones, whose answers cost as much, are not too rare. The total is estimated with
the general regression estimator (Saerndal, Swensson, Wretman, Model Assisted Survey Sampling, 1992, chapter 6): the sample tells
how the value depends on the size, and the sizes of all rows are known. The interval is a bootstrap-t (Efron, Tibshirani, An
Introduction to the Bootstrap, 1993, chapter 12), because answers are skewed: an interval from Student's t would miss the total of
such files too often on the high side.

What only a few of the sampled rows have, such as a failed attempt that was billed, is estimated apart (``rare``): a sample of 50
has none in one case of thirteen where 5 % of all rows have it, and knows nothing of its spread where one row has it.
"""

import math
import random
from collections.abc import Iterable, Iterator, Sequence
from statistics import fmean
from typing import TypeVar

from msgspec import Struct

T = TypeVar("T")

RESAMPLES = 999
_TAIL = 0.025
_Z = 1.96


class Interval(Struct, frozen=True, kw_only=True):
    """An estimate, and the bounds between which the truth lies with a probability of 95 %."""

    low: float
    mid: float
    high: float


class Population(Struct, frozen=True, kw_only=True):
    """All rows: their number, and the sum of their sizes in bytes."""

    rows: int
    size: int

    def measure(self, size: int) -> float:
        """Return to what the probability of a row is proportional; it adds up to twice the size of all rows."""
        return size + self.size / self.rows


def positions(population: Population, number: int, seed: int) -> list[float]:
    """Return where in the sum of the sizes the sampled rows lie, ascending: one in each of ``number`` equal parts."""
    step = 2 * population.size / number
    offset = random.Random(seed).random() * step  # noqa: S311 - no secret
    return [offset + part * step for part in range(number)]


def sampled(rows: Iterable[tuple[T, int]], population: Population, at: Sequence[float]) -> Iterator[T]:
    """Yield the rows that lie at these positions, each once. rows: (row, size), in order."""
    behind, reached = 0.0, 0
    for row, size in rows:
        behind += population.measure(size)
        if reached < len(at) and at[reached] < behind:
            yield row
            while reached < len(at) and at[reached] < behind:
                reached += 1


def total(sample: Sequence[tuple[int, float]], population: Population, seed: int = 0) -> Interval:
    """Estimate a total. sample: (size, value) of the sampled rows, two at least, no size 0."""
    mid, error = _estimate(sample, population)
    if error <= 1e-12 * abs(mid):
        return Interval(low=mid, mid=mid, high=mid)
    chance = random.Random(seed)  # noqa: S311 - no secret
    ratios = []
    for _ in range(RESAMPLES):
        again = chance.choices(sample, k=len(sample))
        value, deviation = _estimate(again, population)
        # a resample of equal rows says nothing about its own error
        if deviation > 1e-9 * error:
            ratios.append((value - mid) / deviation)
    ratios.sort()
    above, below = -_quantile(ratios, _TAIL), _quantile(ratios, 1 - _TAIL)
    known = sum(value for _, value in sample)
    low = max(known, mid - max(below, _Z) * error)
    return Interval(low=min(low, mid), mid=mid, high=mid + max(above, _Z) * error)


def rare(amounts: Sequence[float], usual: float, most: Sequence[float] | None = None) -> Interval:
    """Estimate a sum of which only a few sampled rows have a part, by the gamma interval of Fay and Feuer (1997).

    amounts: of the rows that have one, each times the number of rows for which it stands. usual: such an amount of a row that has
    none: a sample without any is no proof that no row has one (the mean in place of the largest: Tiwari, Clegg, Zou 2006).
    most: for the high bound, amounts that may be larger.
    """
    mid, high = sum(amounts), amounts if most is None else most
    low = min(mid, _gamma(mid, sum(one * one for one in amounts), -_Z))
    if not all(map(math.isfinite, high)):
        return Interval(low=low, mid=mid, high=math.inf)
    above = _gamma(sum(high) + usual, sum(one * one for one in high) + usual * usual, _Z)
    return Interval(low=low, mid=mid, high=max(above, mid))


def share(sample: Sequence[tuple[int, float]], population: Population, part: Population) -> float:
    """Return which share of a total some rows have, which were not drawn by themselves. sample: as for ``total``.

    It lies between their share of the number and their share of the size: a line through few values tells no more than that.
    """
    base, slope = _line(sample, [1 / population.measure(size) for size, _ in sample])
    whole = base * population.rows + slope * population.size
    bounds = sorted((part.rows / population.rows, part.size / population.size))
    by_line = (base * part.rows + slope * part.size) / whole if whole > 0 else bounds[0]
    return min(max(by_line, bounds[0]), bounds[1])


def _gamma(mean: float, variance: float, z: float) -> float:
    """Return a quantile of a gamma distribution. z: that of the normal one (Wilson, Hilferty 1931: to 1 % where it matters)."""
    if mean <= 0 or variance <= 0:
        return 0.0
    spread = variance / (mean * mean) / 9
    return mean * max(0.0, 1 - spread + z * math.sqrt(spread)) ** 3


def _estimate(sample: Sequence[tuple[int, float]], population: Population) -> tuple[float, float]:
    """Return the estimated total and its standard error."""
    number = len(sample)
    weights = [2 * population.size / (number * population.measure(size)) for size, _ in sample]
    base, slope = _line(sample, weights)
    predicted = base * population.rows + slope * population.size
    # residuals, expanded to the population; g-weights are left out: they change the error by less than it is known
    rest = [weight * number * (value - base - slope * size) for weight, (size, value) in zip(weights, sample, strict=True)]
    mean = fmean(rest)
    # two figures of the line are estimated too
    spread = sum((one - mean) ** 2 for one in rest) / max(1, number - 2)
    return predicted + mean, math.sqrt(spread / number)


def _line(sample: Sequence[tuple[int, float]], weights: Sequence[float]) -> tuple[float, float]:
    """Return the weighted line of least squares through the values, by size; a flat or steep sample gives a proportional one."""
    whole = sum(weights)
    sizes = sum(weight * size for weight, (size, _) in zip(weights, sample, strict=True)) / whole
    values = sum(weight * value for weight, (_, value) in zip(weights, sample, strict=True)) / whole
    spread = sum(weight * (size - sizes) ** 2 for weight, (size, _) in zip(weights, sample, strict=True))
    if spread <= 1e-9 * whole * sizes * sizes:
        return 0.0, values / sizes
    both = sum(weight * (size - sizes) * (value - values) for weight, (size, value) in zip(weights, sample, strict=True))
    slope = both / spread
    return values - slope * sizes, slope


def _quantile(ordered: Sequence[float], share: float) -> float:
    if not ordered:
        return _Z if share > 0.5 else -_Z
    return ordered[min(len(ordered) - 1, max(0, round(share * (len(ordered) - 1))))]
