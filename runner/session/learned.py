"""What rows that were sent tell of those that are left: all their attempts, also failed ones and those of unknown usage.

An attempt of unknown usage, such as an answer that was cut off, may have been billed. The row's own answer tells how much that is
about: the request was the same, and the answer is as long as those of this model are. Its limit would be many times as much.
"""

import math
import time
from collections.abc import Mapping, Sequence
from statistics import fmean, stdev
from typing import NamedTuple

from runner.batches import BATCH_TIER
from runner.config.job import Job
from runner.money import STANDARD, highest, tier_of
from runner.prices.book import PriceBook
from runner.prices.interval import Interval
from runner.prices.rates import Schedule
from runner.prices.sample import Drawn, Most, Stratum, Taken, of_attempts, together
from runner.store.samples import RowSpent


class Now(NamedTuple):
    """The rates of what is left. at: when they hold, in seconds since the epoch. tier: the one that is asked for.

    alone: no other tier can serve it.
    """

    book: PriceBook | None
    at: float
    tier: str | None
    alone: bool = False

    def rates(self, model: str, tier: str) -> Schedule | None:
        """Return the rates of a model in a service tier; None if they are not known."""
        return self.book.schedule(model, self.at, tier) if self.book is not None else None


def as_asked(job: Job, book: PriceBook | None) -> Now:
    """Return the rates of what a job sends from now on."""
    return Now(book, time.time(), BATCH_TIER if job.mode != "live" else job.tier, job.mode == "batch")


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
        if name == "cost":
            perhaps += row.unsure
        found[key] = Taken(last, getattr(row.others, name), perhaps)
    return found


def usual(spent: Mapping[str, RowSpent], name: str) -> float | None:
    """Return what an attempt takes in the mean, of those that led to an outcome; None if the usage of none is known."""
    told = [getattr(row.last, name) for row in spent.values() if row.told]
    return fmean(told) if told else None


def most_of(most: Mapping[str, Most], now: Now, read: float, sent: float) -> tuple[float, float]:
    """Return the most that rows can take: tokens of output, and picodollars. Infinite: not known.

    read: tokens of input that they take at the most. sent: how often each is sent in the mean.
    """
    if not most:
        return math.inf, math.inf
    written, cost, whole = 0.0, 0.0, sum(limit.input for limit in most.values())
    for model, limit in most.items():
        output = math.inf if limit.output is None else limit.output * sent
        written += output
        tiers = {tier_of(now.tier)} if now.alone else {STANDARD, *limit.tiers, tier_of(now.tier)}
        found = [now.rates(model, tier) for tier in tiers]
        if rates := [one.worst(math.ceil(limit.input)) for one in found if one is not None]:
            dearest = highest(rates)
            input_rate = max(dearest.highest_input, dearest.cache_write_1h if limit.hour else 0)
            cost += read * limit.input / whole * input_rate if whole else 0.0
            cost += output * dearest.highest_output if dearest.highest_output else 0.0
    return written, cost


def at_tier(cost: Interval, drawn: Drawn, now: Now) -> Interval:
    """Return what is left to pay if another service tier is asked for than in the sample, by what both cost.

    Rows of either may be served by the other, so that the interval goes from one to the other; not so in a batch.
    """
    tier, ratios = tier_of(now.tier), []
    for model in drawn.most if tier != drawn.tier else ():
        then, asked = now.rates(model, drawn.tier), now.rates(model, tier)
        if then is not None and asked is not None and then.base.output:
            ratios.append(asked.base.output / then.base.output)
    if not ratios:
        return cost
    low, high = (min(ratios), max(ratios)) if now.alone else (min(1.0, *ratios), max(1.0, *ratios))
    return Interval(low=cost.low * low, mid=cost.mid * fmean(ratios), high=cost.high * high)


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
