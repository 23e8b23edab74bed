"""What is left of a run by a sample that was drawn from other rows: from more of them, from fewer, or from fewer answers of each.

The sample is drawn by size, so its mean would say too much. What all rows of the sample's input take is estimated first; the rows
that are left have their share of it, by their number and their sizes.
"""

import math
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from runner.money import LEAST_ROWS
from runner.prices.interval import Interval, Population, share
from runner.prices.sample import Drawn, Most, Stratum, together
from runner.session import learned, rest
from runner.session.learned import Now
from runner.session.rest import Guesses, Rest, Use
from runner.session.sizing import Sizer
from runner.session.to_send import ToSend
from runner.store import samples
from runner.store.samples import RowSpent

_MEASURED = 10_000
"""Requests whose sizes are looked at before a session, at most."""


class Left(NamedTuple):
    """What is to be sent. sizes: rows and their sizes, by model. left: how many they are. most: as for ``rest.answered``."""

    sizes: Mapping[str, Population]
    left: int
    most: Mapping[str, Most]


def measured(of: ToSend, now: Now, number: int | None = None) -> Left:
    """Measure what is to be sent of an input. Blocks. Raises UsageError.

    number: how many requests that are, of which the first are measured; None: all are measured.
    """
    sizer, guesses, sizes = Sizer(of.job), Guesses(now.book, now.at), dict[str, Population]()
    for _, row in islice(of.open(), None if number is None else _MEASURED):
        if (size := sizer.size(row)) is not None:
            so_far = sizes.get(size.model, Population(rows=0, size=0))
            sizes[size.model] = Population(rows=so_far.rows + 1, size=so_far.size + size.measure)
            guesses.add(size)
    looked = sum(one.rows for one in sizes.values())
    if number is None or looked < _MEASURED:
        return Left(sizes, looked, guesses.most())
    others = {model: _times(one, number / looked) for model, one in sizes.items()}
    return Left(others, sum(one.rows for one in others.values()), {})


def _times(of: Population, factor: float) -> Population:
    return Population(rows=max(1, round(of.rows * factor)), size=max(1, round(of.size * factor)))


def of_run(of: ToSend, run_id: int, settled: int, now: Now, number: int | None = None) -> tuple[Drawn | None, Rest | None]:
    """Return the rows that were drawn for an estimate of other rows of a run, and what is left if it is like them. Blocks.

    None: there are none, or they do not tell. settled: outcomes of the run. now, number: as for ``like_sample``, ``measured``.
    """
    drawn = drawn_before(of.store, run_id, settled)
    return drawn, like_sample(of.store, run_id, drawn, measured(of, now, number), now) if drawn is not None else None


def drawn_before(store: Path, run_id: int, settled: int) -> Drawn | None:
    """Return the rows that were drawn for an estimate of other rows of a run; None if those answered last tell more."""
    drawn = rest.stored(store, run_id)
    return drawn if drawn is not None and len(drawn.keys) >= LEAST_ROWS and rest.is_fresh(drawn, settled) else None


def like_sample(store: Path, run_id: int, drawn: Drawn, of: Left, now: Now) -> Rest | None:
    """Return what is left if it is like the drawn rows; None if they do not tell. now: as for ``rest.sampled``. Blocks.

    They do not if some of them have no outcome, or if a model was asked of none of them.
    """
    spent, parts = samples.spent_on(store, run_id, drawn.keys), _parts(drawn, of.sizes)
    if len(spent) < len(drawn.keys) or not parts:
        return None
    part = _Part(parts, spent, rest.seed_of(drawn.input[0]))
    read, written = part.total("input_tokens"), part.total("output_tokens")
    sent = max(1.0, sum(row.billed for row in spent.values()) / len(spent))
    most_out, most = learned.most_of(of.most, now, read.high, sent)
    cost, certain = (
        learned.at_tier(learned.capped(part.total("cost", certain=only), most), drawn, now) for only in (False, True)
    )
    priced = all(row.priced for row in spent.values())
    return Rest(
        basis="like_sample",
        left=of.left,
        learned=len(spent),
        uses=part.uses(),
        input=read,
        output=learned.capped(written, most_out),
        cost=cost if priced else None,
        high_certain=certain.high if priced else None,
        answer_cost=learned.usual(spent, "cost"),
        unknown=sum(row.unknown for row in spent.values()),
        unpriced=0 if priced else of.left,
        drawn_from=drawn.rows,
        cost_each=cost.mid / of.left if priced and of.left else None,
        busy_s=part.plain("seconds"),
    )


def _parts(drawn: Drawn, sizes: Mapping[str, Population]) -> list[tuple[Stratum, Population]] | None:
    """Return the rows that are left, by the rows of the sample that tell of them; None if none tell of some."""
    parts, told = list[tuple[Stratum, Population]](), 0
    for stratum in drawn.strata:
        mine = [sizes[model] for model in stratum.models if model in sizes]
        if not mine:
            continue
        told += len(mine)
        if len(stratum.drawn) < 2:
            return None
        rows, size = sum(one.rows for one in mine), sum(one.size for one in mine)
        # among several models, a size in the sample is no number of bytes
        parts.append((stratum, Population(rows=rows, size=size if len(stratum.models) == 1 else _mean_sizes(stratum, rows))))
    return parts if told == len(sizes) else None


def _mean_sizes(stratum: Stratum, rows: int) -> int:
    return round(stratum.size / stratum.rows * rows)


class _Part(NamedTuple):
    """Rows that are left, with what the rows of the sample took that tell of them."""

    parts: list[tuple[Stratum, Population]]
    spent: Mapping[str, RowSpent]
    seed: int

    def total(self, name: str, *, certain: bool = False) -> Interval:
        """Estimate a total over all that is left. The arguments are those of ``learned.total``."""
        return together([self._total(stratum, rows, name, certain=certain) for stratum, rows in self.parts])

    def plain(self, name: str) -> Interval:
        """Estimate a total of a field of ``RowSpent``."""
        return together([self._plain(stratum, rows, name) for stratum, rows in self.parts])

    def uses(self) -> tuple[Use, ...]:
        """Return what the rows take of the limits per minute."""
        return tuple(
            Use(
                models=tuple(stratum.models),
                requests=self._plain(stratum, rows, "attempts"),
                input=self._total(stratum, rows, "input_tokens"),
                output=self._total(stratum, rows, "output_tokens"),
            )
            for stratum, rows in self.parts
        )

    def _total(self, stratum: Stratum, rows: Population, name: str, *, certain: bool = False) -> Interval:
        if stratum.whole:
            return learned.rest_like({key: self.spent[key] for key in stratum.drawn}, name, rows.rows, certain=certain)
        taken = learned.taken(self.spent, name, certain=certain)
        found = {key: taken[key] for key in stratum.drawn}
        values = {key: one.last + one.others for key, one in found.items()}
        return _shared(stratum, rows, values, stratum.of_attempts(found, self.seed))

    def _plain(self, stratum: Stratum, rows: Population, name: str) -> Interval:
        values = {key: float(getattr(self.spent[key], name)) for key in stratum.drawn}
        if stratum.whole:
            return learned.mean(list(values.values()), rows.rows)
        return _shared(stratum, rows, values, stratum.total(values, self.seed))


def _shared(stratum: Stratum, rows: Population, values: Mapping[str, float], whole: Interval) -> Interval:
    """Return what some rows have of a total. They differ from each other too, which counts for more the fewer they are."""
    sample = [(size, values[key]) for key, size in stratum.drawn.items()]
    of, wider = share(sample, Population(rows=stratum.rows, size=stratum.size), rows), math.sqrt(1 + len(sample) / rows.rows)
    mid = whole.mid * of
    below, above = ((whole.mid - whole.low) * of * wider, (whole.high - whole.mid) * of * wider)
    return Interval(low=max(0.0, mid - below), mid=mid, high=mid + above)
