"""What the rows that are left of a run will take: from a sample of them, from the rows answered so far, or from sizes alone.

Each is computed of what the caller has read; only ``sampled`` and ``answered`` look into the store.
"""

import math
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal, TypeAlias

import msgspec
from msgspec import Struct

from runner.model import Row
from runner.money import LEAST_ROWS, STANDARD, Projection, tier_of
from runner.prices.book import PriceBook
from runner.prices.guess import Guess, Size, plus, times
from runner.prices.interval import Interval
from runner.prices.sample import Drawn, Most, Stratum, together
from runner.session import learned, like_now
from runner.session.learned import Now
from runner.session.sizing import Sizer
from runner.store import samples
from runner.store.samples import RowSpent, RunSpent

Basis: TypeAlias = Literal["sample", "like_sample", "answers", "sizes"]


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
    # its high bound if no attempt of unknown usage was billed; None: as for cost
    high_certain: float | None = None
    # of the rows from which it was learned: what an answer cost in the mean (None: not known), and the attempts of unknown usage
    answer_cost: float | None = None
    unknown: int = 0
    # of a sample: the rows from which it was drawn, and what one of them costs in the mean (None: no price is known)
    drawn_from: int = 0
    cost_each: float | None = None
    # of the rows that are left: those whose price is not known, about
    unpriced: int = 0
    # seconds that requests are open, all added up; None: not known
    busy_s: Interval | None = None

    def projection(self, left: int) -> Projection | None:
        """Return what a sample says of the rows that its run has left; None if it was no sample, or no price is known.

        left: their number. Behind a limit they are more than those from which the sample was drawn, which tell of the others.
        """
        if self.basis not in ("sample", "like_sample") or self.cost is None or self.cost_each is None or not left:
            return None
        others = max(0, left - self.left)
        return Projection(left=left, cost=round(self.cost.mid + others * self.cost_each), drawn_from=self.drawn_from)


def drawn_rows(store: Path, run_id: int, source: tuple[str, int], settled: int) -> Drawn | None:
    """Return the rows that were drawn for an estimate of a run; None if there are none, or they no longer tell of what is left.

    source: the digest of the input and the number of its rows that count now. settled: rows with an outcome.
    """
    drawn = stored(store, run_id)
    return drawn if drawn is not None and drawn.input == source and is_fresh(drawn, settled) else None


def is_fresh(drawn: Drawn, settled: int) -> bool:
    """Return True until the newest answered rows tell more than those that were drawn. settled: rows with an outcome."""
    # of an estimate of all, the error is the same in absolute terms when most is known already
    return settled - drawn.settled - len(drawn.keys) <= drawn.rows / 2


def stored(store: Path, run_id: int) -> Drawn | None:
    """Return the rows that were drawn last for an estimate of a run; None if there are none."""
    text = samples.drawn_for(store, run_id)
    try:
        return msgspec.json.decode(text, type=Drawn) if text is not None else None
    except (msgspec.MsgspecError, ValueError):
        # of another version
        return None


def sampled(store: Path, run_id: int, drawn: Drawn, so_far: RunSpent, left: int, now: Now) -> Rest | None:
    """Return what is left by what the drawn rows took; None if some of them have no outcome yet.

    so_far: what the run has taken for the rows of which those were drawn. left: of these. now: the rates at which the rest is
    billed.
    """
    spent = samples.spent_on(store, run_id, drawn.keys)
    if len(spent) < len(drawn.keys):
        return None
    seed = seed_of(drawn.input[0])
    share = left / drawn.rows if drawn.rows else 0.0
    known = [stratum for stratum in drawn.strata if all(spent[key].priced for key in stratum.drawn)]
    unknown = sum(stratum.rows for stratum in drawn.strata if stratum not in known)
    read, written = (learned.total(drawn.strata, spent, name, seed) for name in ("input_tokens", "output_tokens"))
    # failed attempts come on top of one for each row
    sent = max(1.0, sum(row.billed for row in spent.values()) / max(1, len(spent)))
    most_out, most = learned.most_of(drawn.most, now, read.high, sent)
    whole, whole_certain = (
        learned.capped(learned.total(known, spent, "cost", seed, certain=only), most) for only in (False, True)
    )
    cost, certain = (learned.less(one, so_far.money.spent - drawn.cost) for one in (whole, whole_certain))
    return Rest(
        basis="sample",
        left=left,
        learned=len(spent),
        uses=tuple(_use(stratum, spent, seed, share) for stratum in drawn.strata),
        input=learned.less(read, so_far.input_tokens - drawn.input_tokens),
        output=learned.less(learned.capped(written, most_out), so_far.output_tokens - drawn.output_tokens),
        cost=learned.at_tier(cost, drawn, now) if known else None,
        high_certain=learned.at_tier(certain, drawn, now).high if known else None,
        answer_cost=learned.usual(spent, "cost"),
        unknown=sum(row.unknown for row in spent.values()),
        unpriced=round(unknown * share),
        drawn_from=drawn.rows,
        cost_each=learned.at_tier(whole, drawn, now).mid / drawn.rows if known else None,
        busy_s=times(together([_plain(one, spent, "seconds", seed) for one in drawn.strata]), share),
    )


def answered(
    store: Path,
    run_id: int,
    model: str,
    left: int,
    now: Now,
    *,
    again: bool = False,
    most: Mapping[str, Most] | None = None,
    variant: int | None = None,
) -> Rest | None:
    """Return what is left if it is like the newest answered rows; None if these are too few, or were asked in another way.

    model: that of most rows. now: as for ``sampled``. again: failed rows are sent again, so what they have cost tells nothing.
    most: what the rows that are left can take; None: not known. variant: as in ``ToSend``.
    """
    newest = {key: row for key, row in like_the_rest(store, run_id).items() if row.done or not again}
    rows = like_now.as_now(store, run_id, newest, variant, now)
    if len(rows) < LEAST_ROWS:
        return None
    read, written = (learned.rest_like(rows, name, left) for name in ("input_tokens", "output_tokens"))
    sent = sum(row.billed for row in rows.values()) / len(rows)
    most_out, limit = learned.most_of(most or {}, now, read.high, max(1.0, sent))
    cost, certain = (learned.capped(learned.rest_like(rows, "cost", left, certain=only), limit) for only in (False, True))
    priced = all(row.priced for row in rows.values())
    requests = learned.mean([row.attempts for row in rows.values()], left)
    return Rest(
        basis="answers",
        left=left,
        learned=len(rows),
        uses=(Use(models=(model,), requests=requests, input=read, output=written),),
        input=read,
        output=learned.capped(written, most_out),
        cost=cost if priced else None,
        high_certain=certain.high if priced else None,
        answer_cost=learned.usual(rows, "cost"),
        unknown=sum(row.unknown for row in rows.values()),
        unpriced=0 if priced else left,
        busy_s=learned.mean([row.seconds for row in rows.values()], left),
    )


def like_the_rest(store: Path, run_id: int) -> dict[str, RowSpent]:
    """Return the newest settled rows that may be like those left: without the rows that were drawn, which are large."""
    drawn = stored(store, run_id)
    besides = frozenset(drawn.keys) if drawn is not None else frozenset()
    return {key: row for key, row in samples.newest(store, run_id).items() if key not in besides}


class Guesses:
    """Adds up what requests may take by their sizes. book: the prices; None: none is known. at: the instant, since the epoch."""

    def __init__(self, book: PriceBook | None, at: float) -> None:
        self._book, self._at = book, at
        self._models: dict[str, Guess] = {}
        self._tiers: dict[str, set[str]] = {}

    def add(self, size: Size) -> None:
        """Count one request. One that asks for another tier than the standard one may be served by that all the same."""
        book, tier = self._book, tier_of(size.tier)
        guess = self._models.setdefault(size.model, Guess())
        self._tiers.setdefault(size.model, set()).add(tier)
        limit = book.limit(size.model) if book is not None and size.most is None else None
        asked, other = (
            book.schedule(size.model, self._at, one) if book is not None else None
            for one in (tier, tier if size.alone else STANDARD)
        )
        guess.add(size, asked, limit, other)

    def most(self) -> dict[str, Most]:
        """Return the most tokens that the requests for each model can take."""
        return {
            model: Most(
                input=guess.input.high,
                output=guess.output.high if math.isfinite(guess.output.high) else None,
                tiers=sorted(self._tiers[model]),
                hour=guess.hour,
            )
            for model, guess in self._models.items()
        }

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

    Where the size of a row is known, it tells by how much these are larger or smaller than others. Their texts are then, and
    neither what a template adds to each nor the answers. left: with as many broken rows as there are among these.
    """
    looked, measured = 0, list[tuple[int, Size]]()
    for looked, row in enumerate(rows, 1):  # noqa: B007 - their number
        if (found := sizer.size(row)) is not None:
            measured.append((row.size, found))
    if not measured:
        return None
    counted, bytes_ = len(measured), sum(of_row for of_row, _ in measured)
    ratio, left = size * counted / bytes_ if size and bytes_ else 1.0, round(left * counted / looked)
    for of_row, found in measured:
        # of a row, no more than its request has is sent
        more = round((ratio - 1) * min(of_row, found.text))
        guesses.add(found.longer(more))
    return guesses.rest(left, left / counted)


def seed_of(digest: str) -> int:
    """Return the seed of a sample: the same input has the same sample."""
    return zlib.crc32(digest.encode())


def _guessed(model: str, guess: Guess, share: float, factor: float) -> Use:
    requests = Interval(low=guess.rows * share, mid=guess.rows * share, high=guess.rows * share)
    return Use(models=(model,), requests=requests, input=times(guess.input, factor), output=times(guess.output, factor))


def _use(stratum: Stratum, spent: Mapping[str, RowSpent], seed: int, share: float) -> Use:
    requests = _plain(stratum, spent, "attempts", seed)
    read, written = (learned.total([stratum], spent, name, seed) for name in ("input_tokens", "output_tokens"))
    requests, read, written = (times(one, share) for one in (requests, read, written))
    return Use(models=tuple(stratum.models), requests=requests, input=read, output=written)


def _plain(stratum: Stratum, spent: Mapping[str, RowSpent], name: str, seed: int) -> Interval:
    return stratum.total({key: getattr(spent[key], name) for key in stratum.drawn}, seed)
