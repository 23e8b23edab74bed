"""The rows that are drawn for an estimate, by model, and what they say of all rows. Pure.

Rows with different models are drawn and estimated apart, for their costs may differ by a factor of twenty: each model has a part
of the sample as large as its part of the expected cost. Models with too few rows in the sample are taken together.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import fmean
from typing import NamedTuple

from msgspec import Struct

from runner.money import STANDARD, Projection
from runner.prices.interval import Interval, Population, positions, rare, sampled, total

LEAST = 10
"""Rows of a model, at the least, from which its total is estimated apart. An interval from fewer is hardly one."""


class Taken(NamedTuple):
    """What all attempts of a row took, such as its cost.

    last: the attempt that led to its outcome. others: the attempts before it, as far as they are known. perhaps: what attempts of
    unknown usage may have taken in addition; infinite: that is not known.
    """

    last: float
    others: float = 0.0
    perhaps: float = 0.0


class Stratum(Struct, frozen=True, kw_only=True):
    """The rows of a model, or of several: their number, the sum of their sizes, and key and size of each that was drawn."""

    models: list[str]
    rows: int
    size: int
    drawn: dict[str, int] = {}

    @property
    def whole(self) -> bool:
        """True if all rows were drawn."""
        return len(self.drawn) == self.rows

    def total(self, values: Mapping[str, float], seed: int) -> Interval:
        """Estimate the total of a value over all rows. values: of each row that was drawn."""
        sample = [(size, float(values[key])) for key, size in self.drawn.items()]
        if self.whole or len(sample) < 2:
            known = sum(value for _, value in sample)
            return Interval(low=known, mid=known, high=known)
        return total(sample, Population(rows=self.rows, size=self.size), seed)

    def of_attempts(self, taken: Mapping[str, Taken], seed: int) -> Interval:
        """Estimate the total over all rows of what their attempts take. taken: of each row that was drawn.

        What attempts of unknown usage may take counts for the rows that were not drawn. Of those that were, it is in no bound.
        """
        own = sum(one.last + one.others for one in taken.values())
        if self.whole or len(taken) < 2:
            return Interval(low=own, mid=own, high=own)
        population = Population(rows=self.rows, size=self.size)
        number = len(self.drawn)
        stands = [max(0.0, 2 * self.size / (number * population.measure(self.drawn[key])) - 1) for key in taken]

        def others(values: Sequence[float]) -> Interval:
            return moved(self.total(dict(zip(taken, values, strict=True)), seed), -sum(values))

        return moved(of_attempts(list(taken.values()), stands, others), own)


class Lane(Struct, frozen=True, kw_only=True):
    """How requests for a model went out at the end of the sample: how many at once, and the limits per minute by name."""

    slots: int
    limits: dict[str, float] = {}


class Most(Struct, frozen=True, kw_only=True):
    """The most tokens that the rows of a model can take if each has one attempt. output: None if an answer has no limit.

    tiers: the service tiers that they ask for. hour: some may ask for a cache that is kept for an hour.
    """

    input: float
    output: float | None
    tiers: list[str]
    hour: bool = False


class Drawn(Struct, frozen=True, kw_only=True):
    """The rows that were drawn from those of a run that had no outcome then, and what stands beside them.

    number: how many were asked for. input: what was drawn from: the digest of the input, and the number of its rows that counted.
    settled: of the run at that time. cost, input_tokens, output_tokens: what it had taken for the rows that counted; cost in
    picodollars.
    """

    number: int
    input: tuple[str, int]
    settled: int
    cost: int
    input_tokens: int
    output_tokens: int
    strata: list[Stratum]
    # by model; empty until the rows were sent
    lanes: dict[str, Lane] = {}
    # by model, of all rows from which they were drawn; empty: not known
    most: dict[str, Most] = {}
    # the service tier that the job asked for
    tier: str = STANDARD
    # what the rows that the run had left behind the sample are expected to cost; until then, what an earlier sample said, if any
    expected: Projection | None = None

    @property
    def keys(self) -> list[str]:
        """The keys of the rows that were drawn."""
        return [key for stratum in self.strata for key in stratum.drawn]

    @property
    def rows(self) -> int:
        """The rows from which they were drawn."""
        return sum(stratum.rows for stratum in self.strata)


def of_attempts(taken: Sequence[Taken], stands: Sequence[float], total_of: Callable[[Sequence[float]], Interval]) -> Interval:
    """Estimate what the attempts of other rows take, from those of some rows.

    stands: for how many other rows each of these stands. total_of: estimates the total over the others from the values of these.
    What attempts of unknown usage may take raises the high bound alone.
    """
    failing = [(one, number) for one, number in zip(taken, stands, strict=True) if one.others or one.perhaps]
    if len(failing) < LEAST:
        usual = fmean(one.last * number for one, number in zip(taken, stands, strict=True))
        known = [one.others * number for one, number in failing]
        most = [(one.others + one.perhaps) * number for one, number in failing if number]
        return together([total_of([one.last for one in taken]), rare(known, usual, most)])
    known = [one.last + one.others for one in taken]
    certain, perhaps = total_of(known), sum(one.perhaps for one in taken)
    if not perhaps:
        return certain
    high = (
        total_of([value + one.perhaps for value, one in zip(known, taken, strict=True)]).high if perhaps < math.inf else perhaps
    )
    return Interval(low=certain.low, mid=certain.mid, high=max(certain.high, high))


def together(intervals: Sequence[Interval]) -> Interval:
    """Return the sum of estimates whose errors have nothing to do with each other."""
    mid = sum(one.mid for one in intervals)
    below = math.sqrt(sum((one.mid - one.low) ** 2 for one in intervals))
    above = math.sqrt(sum((one.high - one.mid) ** 2 for one in intervals))
    return Interval(low=mid - below, mid=mid, high=mid + above)


def moved(one: Interval, by: float) -> Interval:
    """Return an interval plus a known amount."""
    return Interval(low=one.low + by, mid=one.mid + by, high=one.high + by)


def shares(weights: Mapping[str, float], number: int) -> list[tuple[list[str], int]]:
    """Return how many rows of each group of models are drawn. weights: what each model is expected to cost, of any unit."""
    whole = sum(weights.values())
    ranked = sorted(weights, key=lambda model: (-weights[model], model))
    parts = {model: number * weights[model] / whole for model in ranked} if whole else dict.fromkeys(ranked, 0.0)
    apart = [model for model in ranked if parts[model] >= LEAST]
    rest = [model for model in ranked if parts[model] < LEAST]
    if rest and apart and sum(parts[model] for model in rest) < LEAST:
        rest.append(apart.pop())
    groups = [[model] for model in apart] + ([rest] if rest else [])
    given = [math.floor(sum(parts[model] for model in group)) for group in groups]
    # what rounding left goes to the first, which cost most
    given[0] += number - sum(given)
    return list(zip(groups, given, strict=True))


def draw(models: Sequence[int], sizes: Sequence[int], groups: Iterable[tuple[set[int], int]], seed: int) -> list[list[int]]:
    """Return which rows are drawn of each group, by their place in ``sizes``. models: of each row, by number."""
    chosen = []
    for of_group, number in groups:
        rows = [place for place, model in enumerate(models) if model in of_group]
        if len(rows) <= number:
            chosen.append(rows)
            continue
        population = Population(rows=len(rows), size=sum(sizes[place] for place in rows))
        chosen.append(list(sampled(((place, sizes[place]) for place in rows), population, positions(population, number, seed))))
    return chosen
