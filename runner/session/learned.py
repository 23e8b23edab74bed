"""What rows that were sent tell of those that are left: all their attempts, also failed ones and those of unknown usage.

An attempt of unknown usage, such as an answer that was cut off, may have been billed. The row's own answer tells how much that is
about: the request was the same, and the answer is as long as those of this model are. Its limit would be many times as much.
"""

import math
from collections.abc import Mapping, Sequence
from statistics import fmean, stdev

from runner.money import STANDARD
from runner.prices.book import PriceBook
from runner.prices.interval import Interval
from runner.prices.rates import highest
from runner.prices.sample import Most, Stratum, Taken, of_attempts, together
from runner.store.samples import RowSpent


def total(strata: Sequence[Stratum], spent: Mapping[str, RowSpent], name: str, seed: int, *, certain: bool = False) -> Interval:
    """Estimate a total over all rows of some strata. name: of a field of ``Spent``. certain: leave out what is perhaps billed."""
    found = taken(spent, name, certain=certain)
    return together([one.of_attempts({key: found[key] for key in one.drawn}, seed) for one in strata])


def rest_like(spent: Mapping[str, RowSpent], name: str, left: int, *, certain: bool = False) -> Interval:
    """Estimate a total over rows that are left, if they are like these, which are taken for a random part of all."""
    found = list(taken(spent, name, certain=certain).values())
    return of_attempts(found, [left / len(found)] * len(found), lambda values: mean(values, left))


def taken(spent: Mapping[str, RowSpent], name: str, *, certain: bool = False) -> dict[str, Taken]:
    """Return what each row took. The arguments are those of ``total``."""
    told, found = usual(spent, name), {}
    for key, row in spent.items():
        last, perhaps = getattr(row.last, name), 0.0
        if row.unknown and not certain:
            bound = row.perhaps if name == "cost" and row.perhaps is not None else math.inf
            like = last if row.told else told
            perhaps = min(bound, row.unknown * like) if like is not None else bound
        found[key] = Taken(last, getattr(row.others, name), perhaps)
    return found


def usual(spent: Mapping[str, RowSpent], name: str) -> float | None:
    """Return what an attempt takes in the mean, of those that led to an outcome; None if the usage of none is known."""
    told = [getattr(row.last, name) for row in spent.values() if row.told]
    return fmean(told) if told else None


def most_of(most: Mapping[str, Most], book: PriceBook | None, at: float, read: float, sent: float) -> tuple[float, float]:
    """Return the most that rows can take: tokens of output, and picodollars. Infinite: not known.

    at: the instant whose prices hold, in seconds since the epoch. read: tokens of input that they take at the most. sent: how
    often each is sent in the mean.
    """
    if not most:
        return math.inf, math.inf
    written, cost, whole = 0.0, 0.0, sum(limit.input for limit in most.values())
    for model, limit in most.items():
        output = math.inf if limit.output is None else limit.output * sent
        written += output
        found = [book.schedule(model, at, tier) for tier in {STANDARD, *limit.tiers}] if book is not None else []
        if rates := [one.worst(math.ceil(limit.input)) for one in found if one is not None]:
            dearest = highest(rates)
            cost += read * limit.input / whole * dearest.highest_input if whole else 0.0
            cost += output * dearest.highest_output if dearest.highest_output else 0.0
    return written, cost


def capped(one: Interval, most: float) -> Interval:
    """Return an interval that does not go beyond what is possible."""
    return Interval(low=one.low, mid=one.mid, high=max(one.mid, min(one.high, most)))


def less(one: Interval, known: float) -> Interval:
    """Return what is left of a total of which a part is known."""
    return Interval(low=max(0.0, one.low - known), mid=max(0.0, one.mid - known), high=max(0.0, one.high - known))


def mean(values: Sequence[float], left: int) -> Interval:
    """Return the sum over the rows that are left if they are like these, which are taken for a random part of all rows."""
    number, middle = len(values), fmean(values)
    # the quantile of Student's t, to 1 % from ten values on
    quantile = 1.96 + 2.7 / (number - 1)
    error = quantile * stdev(values) * left * math.sqrt(1 / number + 1 / left) if left else 0.0
    return Interval(low=max(0.0, middle * left - error), mid=middle * left, high=middle * left + error)
