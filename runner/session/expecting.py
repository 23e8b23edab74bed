"""What the rest of a run is expected to cost, before its session sends anything."""

import math
import time
from collections.abc import Callable
from itertools import islice
from typing import TypeAlias

from msgspec import Struct, structs

from runner.money import PICO, Projection, shown
from runner.prices.book import PriceBook
from runner.providers.finish import is_cut
from runner.session import like_sample, rest
from runner.session.learned import Now, as_asked
from runner.session.prepare import Plan
from runner.session.rest import Basis, Guesses, Rest
from runner.session.sizing import Sizer
from runner.session.to_send import ToSend
from runner.several import unit
from runner.store import made_with
from runner.text import plural

_FIRST = 256
"""Rows whose sizes are looked at where an earlier session has scanned the input."""


class Expected(Struct, frozen=True, kw_only=True):
    """What a session will cost, about, and how that is said.

    dollars: the middle of the interval. most: what the budget leaves, in dollars; None: there is none.
    """

    dollars: float
    sentence: str
    projection: Projection | None
    most: float | None = None


Confirm: TypeAlias = Callable[[Expected], bool]
"""Is told what a session will cost. Returns True if it has said so; raises what ends the session."""


def expected(plan: Plan, of: ToSend, book: PriceBook, *, left: int, settled: int, broken: int = 0) -> Expected | None:
    """Return what is left will cost; None if no price is known, or nothing is left. Blocks.

    of: what is to be sent. left: requests that are to be sent. settled: outcomes of the run. broken: of ``left``, rows that were
    broken before and are read again.
    """
    store, run, options = plan.given.store, plan.run, plan.options
    found, sent = None, left - broken
    if sent > 0 and settled:
        drawn = None if options.retry_failed else rest.drawn_rows(store, run.id, (plan.given.digest, plan.requests), settled)
        now = as_asked(plan.job, book)
        # its share is one of the rows that count as left, as it is while the session goes on
        found = rest.sampled(store, run.id, drawn, of.so_far(run.id), left, now) if drawn is not None else None
        found = found or (like_sample.of_run(of, run.id, settled, now, sent)[1] if not options.retry_failed else None)
        found = found or _like_answered(plan, of, sent, now)
    if sent > 0 and (found is None or found.cost is None):
        by_sizes = _asked_again if options.retry_failed else _by_sizes
        found = by_sizes(plan, of, book, sent, settled=settled > 0)
    if found is not None and found.unknown:
        # as an estimate counts them: those of all rows, not of those from which it was learned
        found = structs.replace(found, unknown=of.so_far(run.id).unknown)
    return said(found, counted(plan)) if found is not None else None


def _like_answered(plan: Plan, of: ToSend, left: int, now: Now) -> Rest | None:
    again = plan.options.retry_failed
    return rest.answered(of.store, plan.run.id, plan.job.model or "", left, now, again=again, variant=of.variant)


def counted(plan: Plan) -> str:
    """Return what is counted before it is sent: a request that several rows make is one."""
    return unit(plan.answers) if plan.same is None else "request"


def said(found: Rest, one: str) -> Expected | None:
    """Return what a session will cost, in words; None if no price is known. one: what is counted."""
    cost = found.cost
    if cost is None:
        return None
    low, mid = shown(round(cost.low)), shown(round(cost.mid))
    rows = plural(found.left, one)
    if math.isinf(cost.high):
        bounds = f"{low} or more; without --max-tokens an answer has no known limit"
    else:
        bounds = f"{low} to {shown(round(cost.high))}"
    more = f"; beside {plural(found.unpriced, one)} whose price is not known" if found.unpriced else ""
    certain = shown(round(found.high_certain)) if found.high_certain is not None else None
    if found.unknown and certain is not None and (math.isinf(cost.high) or certain != shown(round(cost.high))):
        more += f"; {unknown_attempts(found.unknown)}: without them at most {certain}"
    return Expected(
        dollars=cost.mid / PICO,
        projection=found.projection(found.left),
        sentence=f"expected cost of {rows}: about {mid} ({bounds}), {basis(found.basis, found.learned, one)}{more}",
    )


def unknown_attempts(number: int, at_ends: int = 0) -> str:
    """Return why a high bound is high, in words. number: attempts of unknown usage.

    at_ends: requests that were open when a session ended, at the most. None of them is expected again.
    """
    if at_ends:
        open_ones = f"up to {plural(at_ends, 'request')} {'was' if at_ends == 1 else 'were'} open when a session ended"
        return f"{unknown_attempts(number)}, and {open_ones}" if number else f"{open_ones}, perhaps billed"
    if number == 1:
        return "1 attempt ended without its usage, so it was perhaps billed, as others may be"
    return f"{number:,} attempts ended without their usage, so they were perhaps billed, as others may be"


def basis(kind: Basis, number: int, one: str) -> str:
    """Return from what an estimate was made, in words. number: of what it was learned from; one: what each of these is called."""
    match kind:
        case "sample":
            return f"from a sample of {plural(number, one)}"
        case "like_sample":
            return f"if they are like the {plural(number, one)} of the sample"
        case "answers":
            return f"if they are like the {number:,} {'rows answered' if one == 'row' else 'answers got'} last"
        case "sizes":
            return "by sizes alone"


def _asked_again(plan: Plan, of: ToSend, book: PriceBook, left: int, *, settled: bool) -> Rest | None:
    """Return what the rows of a retry will cost by their sizes. An answer that was cut needs more than it had."""
    asked = made_with.asked_again(of.store, plan.run.id, _FIRST) if settled else {}
    sizer, guesses, looked, measured = Sizer(plan.job), Guesses(book, time.time()), 0, 0
    for looked, (key, row) in enumerate(of.rows_of(asked), 1):  # noqa: B007 - their number
        if (size := sizer.size(row)) is not None:
            old, measured = asked[key], measured + 1
            guesses.add(size.cut_at(old.output_tokens or 0) if is_cut(old.finish_reason or "") else size)
    if not measured:
        return None
    sent = round(left * measured / looked)
    return guesses.rest(sent, sent / measured)


def _by_sizes(plan: Plan, of: ToSend, book: PriceBook, left: int, *, settled: bool) -> Rest | None:
    scanned, sizer = plan.scanned, Sizer(plan.job)
    guesses = Guesses(book, time.time())
    if of.same is not None:
        # rows that make the same request may be larger or smaller than others
        return rest.examples(sizer, (row for _, row in of.open()), guesses, 0.0, left)
    if settled:
        # those with an outcome tell nothing: broken ones are not sent again
        found = rest.examples(sizer, (row for _, row in islice(of.open(), _FIRST)), guesses, 0.0, left)
        if found is not None:
            return found
    if scanned.some:
        size = scanned.size / max(1, scanned.rows - scanned.before.rows)
        return rest.examples(sizer, scanned.some, guesses, size, left)
    return rest.examples(sizer, islice(plan.prompts.read(), _FIRST), guesses, 0.0, left)
