"""The rows that are drawn for an estimate, by model, and what they say of all rows. Pure.

Rows with different models are drawn and estimated apart, for their costs may differ by a factor of twenty: each model has a part
of the sample as large as its part of the expected cost. Models with too few rows in the sample are taken together.
"""

import math
from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct

from runner.money import Projection
from runner.prices.interval import Interval, Population, positions, sampled, total

LEAST = 10
"""Rows of a model, at the least, from which its total is estimated apart. An interval from fewer is hardly one."""


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


class Lane(Struct, frozen=True, kw_only=True):
    """How requests for a model went out at the end of the sample: how many at once, and the limits per minute by name."""

    slots: int
    limits: dict[str, float] = {}


class Drawn(Struct, frozen=True, kw_only=True):
    """The rows that were drawn from those of a run that had no outcome then, and what stands beside them.

    number: how many were asked for. input: what was drawn from: the digest of the input, and the number of its rows that counted.
    settled, cost, input_tokens, output_tokens: of the run at that time; cost in picodollars.
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
    # what the rows that were left behind the sample are expected to cost; None until then, or if no price is known
    expected: Projection | None = None

    @property
    def keys(self) -> list[str]:
        """The keys of the rows that were drawn."""
        return [key for stratum in self.strata for key in stratum.drawn]

    @property
    def rows(self) -> int:
        """The rows from which they were drawn."""
        return sum(stratum.rows for stratum in self.strata)


def together(intervals: Sequence[Interval]) -> Interval:
    """Return the sum of estimates whose errors have nothing to do with each other."""
    mid = sum(one.mid for one in intervals)
    below = math.sqrt(sum((one.mid - one.low) ** 2 for one in intervals))
    above = math.sqrt(sum((one.high - one.mid) ** 2 for one in intervals))
    return Interval(low=mid - below, mid=mid, high=mid + above)


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
