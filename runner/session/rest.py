"""What the rows that are left of a run will take: from a sample of them, from the rows answered so far, or from sizes alone.

Each is computed of what the caller has read; only ``sampled`` and ``answered`` look into the store.
"""

import math
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Literal, TypeAlias

import msgspec
from msgspec import Struct

from runner.model import Row
from runner.money import Money, Projection
from runner.prices.book import PriceBook
from runner.prices.guess import Guess, Size, plus, times
from runner.prices.interval import Interval
from runner.prices.sample import Drawn, Stratum, together
from runner.session.sizing import Sizer
from runner.store import samples
from runner.store.samples import RowSpent

Basis: TypeAlias = Literal["sample", "answers", "sizes"]

LEAST_ROWS = 10
"""Answered rows, at the least, that tell what others will take."""


class Use(Struct, frozen=True, kw_only=True):
    """What the rows of some models take of their limits per minute."""

    models: tuple[str, ...]
    requests: Interval
    input: Interval
    output: Interval


class Rest(Struct, frozen=True, kw_only=True):
    """What the rows that are left will take. Costs in picodollars; an infinite bound is not known."""

    basis: Basis
    left: int
    # rows from which it was learned
    learned: int
    uses: tuple[Use, ...]
    input: Interval
    output: Interval
    # None: no price is known
    cost: Interval | None = None
    # of the rows that are left: those whose price is not known, about
    unpriced: int = 0
    # seconds that requests are open, all added up; None: not known
    busy_s: Interval | None = None

    @property
    def projection(self) -> Projection | None:
        """What a sample says of the rows that are left; None if it was no sample, or no price is known."""
        if self.basis != "sample" or self.cost is None or not self.left:
            return None
        return Projection(left=self.left, cost=round(self.cost.mid))


def drawn_rows(store: Path, run_id: int, source: tuple[str, int], settled: int) -> Drawn | None:
    """Return the rows that were drawn for an estimate of a run; None if there are none, or they no longer tell of what is left.

    source: the digest of the input and the number of its rows that count now. settled: rows with an outcome.
    """
    drawn = _stored(store, run_id)
    if drawn is None or drawn.input != source:
        return None
    # of an estimate of all, the error is the same in absolute terms when most is known already
    return drawn if settled - drawn.settled - len(drawn.keys) <= drawn.rows / 2 else None


def _stored(store: Path, run_id: int) -> Drawn | None:
    text = samples.drawn_for(store, run_id)
    try:
        return msgspec.json.decode(text, type=Drawn) if text is not None else None
    except (msgspec.MsgspecError, ValueError):
        # of another version
        return None


def sampled(store: Path, run_id: int, drawn: Drawn, money: Money, left: int) -> Rest | None:
    """Return what is left by what the drawn rows took; None if some of them have no outcome yet. money: what the run has cost."""
    spent = samples.spent_on(store, run_id, drawn.keys)
    if len(spent) < len(drawn.keys):
        return None
    so_far = samples.tokens_so_far(store, run_id)
    seed = seed_of(drawn.input[0])
    share = left / drawn.rows if drawn.rows else 0.0
    known = [stratum for stratum in drawn.strata if all(spent[key].cost is not None for key in stratum.drawn)]
    unknown = sum(stratum.rows for stratum in drawn.strata if stratum not in known)
    return Rest(
        basis="sample",
        left=left,
        learned=len(spent),
        uses=tuple(_use(stratum, spent, seed, share) for stratum in drawn.strata),
        input=_less(_sum(drawn.strata, spent, "input_tokens", seed), so_far.input_tokens - drawn.input_tokens),
        output=_less(_sum(drawn.strata, spent, "output_tokens", seed), so_far.output_tokens - drawn.output_tokens),
        cost=_less(together([_cost(one, spent, seed) for one in known]), money.spent - drawn.cost) if known else None,
        unpriced=round(unknown * share),
        busy_s=times(_sum(drawn.strata, spent, "seconds", seed), share),
    )


def answered(store: Path, run_id: int, model: str, left: int, *, again: bool = False) -> Rest | None:
    """Return what is left if it is like the newest answered rows; None if these are too few. model: that of most rows.

    again: failed rows are sent again, so what they have cost tells nothing. Nor do rows that were drawn, which are large.
    """
    drawn = _stored(store, run_id)
    besides = frozenset(drawn.keys) if drawn is not None else frozenset()
    newest = samples.newest(store, run_id).items()
    rows = [row for key, row in newest if key not in besides and (row.done or not again)]
    if len(rows) < LEAST_ROWS:
        return None
    read, written = (_mean([getattr(row, name) for row in rows], left) for name in ("input_tokens", "output_tokens"))
    priced = [row.cost for row in rows if row.cost is not None]
    cost = _mean(priced, left) if len(priced) == len(rows) else None
    if cost is not None and any(row.perhaps != 0 for row in rows):
        most = [(row.cost or 0) + (math.inf if row.perhaps is None else row.perhaps) for row in rows]
        cost = Interval(low=cost.low, mid=cost.mid, high=_mean(most, left).high if math.isfinite(sum(most)) else math.inf)
    return Rest(
        basis="answers",
        left=left,
        learned=len(rows),
        uses=(Use(models=(model,), requests=_mean([row.attempts for row in rows], left), input=read, output=written),),
        input=read,
        output=written,
        cost=cost,
        unpriced=0 if cost is not None else left,
        busy_s=_mean([row.seconds for row in rows], left),
    )


class Guesses:
    """Adds up what requests may take by their sizes. book: the prices; None: none is known. at: the instant, since the epoch."""

    def __init__(self, book: PriceBook | None, at: float) -> None:
        self._book, self._at = book, at
        self._models: dict[str, Guess] = {}

    def add(self, size: Size) -> None:
        """Count one request."""
        book = self._book
        guess = self._models.setdefault(size.model, Guess())
        limit = book.limit(size.model) if book is not None and size.most is None else None
        guess.add(size, book.schedule(size.model, self._at) if book is not None else None, limit)

    def cost(self) -> dict[str, float]:
        """Return what each model is expected to cost; where a price is not known, its tokens count."""
        costs = {model: guess.cost.mid if guess.cost is not None else 0.0 for model, guess in self._models.items()}
        if all(costs.values()):
            return costs
        return {model: guess.input.mid + guess.output.mid for model, guess in self._models.items()}

    def rest(self, left: int, factor: float = 1.0) -> Rest:
        """Return what is left. factor: what all rows have for what was counted here."""
        found = self._models
        zero = Interval(low=0, mid=0, high=0)
        read, written, cost = zero, zero, None
        for guess in found.values():
            read, written = plus(read, guess.input), plus(written, guess.output)
            cost = plus(cost or zero, guess.cost) if guess.cost is not None else cost
        rows = sum(guess.rows for guess in found.values())
        unpriced = sum(guess.rows for guess in found.values() if guess.cost is None)
        return Rest(
            basis="sizes",
            left=left,
            learned=0,
            uses=tuple(_guessed(model, guess, left / rows, factor) for model, guess in found.items()),
            input=times(read, factor),
            output=times(written, factor),
            cost=times(cost, factor) if cost is not None else None,
            unpriced=round(unpriced * left / rows) if rows else 0,
        )


def examples(sizer: Sizer, rows: Iterable[Row], guesses: Guesses, size: float, left: int) -> Rest | None:
    """Return what is left by the sizes of some rows; None if no request can be made of any. size: bytes of a row in the mean.

    Where the size of a row is known, it tells by how much these are larger or smaller than others.
    """
    counted = bytes_ = 0
    for row in rows:
        if (found := sizer.size(row)) is not None:
            guesses.add(found)
            counted, bytes_ = counted + 1, bytes_ + row.size
    if not counted:
        return None
    ratio = size * counted / bytes_ if size and bytes_ else 1.0
    return guesses.rest(left, ratio * left / counted)


def seed_of(digest: str) -> int:
    """Return the seed of a sample: the same input has the same sample."""
    return zlib.crc32(digest.encode())


def _guessed(model: str, guess: Guess, share: float, factor: float) -> Use:
    requests = Interval(low=guess.rows * share, mid=guess.rows * share, high=guess.rows * share)
    return Use(models=(model,), requests=requests, input=times(guess.input, factor), output=times(guess.output, factor))


def _use(stratum: Stratum, spent: Mapping[str, RowSpent], seed: int, share: float) -> Use:
    figures = (
        times(stratum.total({key: getattr(spent[key], name) for key in stratum.drawn}, seed), share)
        for name in ("attempts", "input_tokens", "output_tokens")
    )
    requests, read, written = figures
    return Use(models=tuple(stratum.models), requests=requests, input=read, output=written)


def _sum(strata: Sequence[Stratum], spent: Mapping[str, RowSpent], name: str, seed: int) -> Interval:
    return together([one.total({key: getattr(spent[key], name) for key in one.drawn}, seed) for one in strata])


def _cost(stratum: Stratum, spent: Mapping[str, RowSpent], seed: int) -> Interval:
    """Return what the rows of a stratum cost. What some may have cost in addition raises the high bound alone."""
    known = stratum.total({key: spent[key].cost or 0 for key in stratum.drawn}, seed)
    extra = [spent[key].perhaps for key in stratum.drawn]
    if not any(one != 0 for one in extra):
        return known
    if any(one is None for one in extra):
        return Interval(low=known.low, mid=known.mid, high=math.inf)
    most = stratum.total({key: (spent[key].cost or 0) + (spent[key].perhaps or 0) for key in stratum.drawn}, seed)
    return Interval(low=known.low, mid=known.mid, high=max(known.high, most.high))


def _less(one: Interval, known: float) -> Interval:
    """Return what is left of a total of which a part is known."""
    return Interval(low=max(0.0, one.low - known), mid=max(0.0, one.mid - known), high=max(0.0, one.high - known))


def _mean(values: Sequence[float], left: int) -> Interval:
    """Return the sum over the rows that are left if they are like these, which are taken for a random part of all rows."""
    number, mean = len(values), fmean(values)
    # the quantile of Student's t, to 1 % from ten values on
    quantile = 1.96 + 2.7 / (number - 1)
    error = quantile * stdev(values) * left * math.sqrt(1 / number + 1 / left) if left else 0.0
    return Interval(low=max(0.0, mean * left - error), mid=mean * left, high=mean * left + error)
