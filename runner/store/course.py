"""What happened over the time of a run: counted in SQL by slices of time, in constant memory."""

import math
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import pairwise, takewhile
from typing import Any, TypeAlias

import sqlalchemy as sa

from runner.figures import Cause, Course, Period, Slice
from runner.store.cost import billed, cost, perhaps
from runner.store.schema import attempts, prices, sessions
from runner.store.sessions import of_clock, sessions_of
from runner.store.spending import Fetch, of_run, once

_SLICES = 72
"""Slices at most, apart from those that the ends of periods add."""
_MOST_PERIODS = 12
_PAUSE_S = 60.0
"""A pause within a session is left out if nothing was under way for longer than this, and for longer than a part of all other
time. What lies between two sessions is left out however short it is."""
_PART = 0.02
_SECONDS = (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400)
"""Widths of slices that a person can read."""
_REFUSED = ("rate_limited", "overloaded", "no_capacity")
"""Error codes of attempts that a limit of the server refused."""
Stretch: TypeAlias = tuple[float, float]
"""From an instant to another."""
_BEGUN, _ENDED = attempts.c.started_at, attempts.c.started_at + attempts.c.duration_s


def course_of(fetch: Fetch, run_id: int) -> tuple[Course | None, list[Cause]]:
    """Return what happened over time, and all attempts by how they ended. fetch: must read one state of the store.

    Raises OverflowError for times that no clock shows: somebody has changed the store.
    """
    busy = _stretches(fetch, run_id)
    if not busy:
        return None, []
    width, shown = _shown(busy)
    periods, first = list[Period](), 0
    for earliest, end in shown:
        # at an instant that a clock shows
        begin = earliest // width * width
        periods.append(Period(begin, end, first))
        first += max(1, -int(-(end - begin) // width))
    begins = [
        one.begin + place * width for one, after in pairwise([*periods, Period(0, 0, first)]) for place in _within(one, after)
    ]
    slices = [Slice(begin=begin) for begin in begins]
    groups = fetch(_ends(run_id, periods, width))
    for group in groups:
        _count(slices[min(max(group.at, 0), len(slices) - 1)], group)
    _open(slices, width, fetch(_edges(run_id, _BEGUN, periods, width)), fetch(_edges(run_id, _ENDED, periods, width)))
    return Course(width=width, periods=periods, slices=slices, worked_s=_seconds(busy)), _causes(groups)


def _within(period: Period, after: Period) -> range:
    return range(after.first - period.first)


def _begins(fetch: Fetch, run_id: int) -> list[float]:
    """Return when each session of the run began, in order."""
    began_at = sessions.c.began_at
    return [instant for (instant,) in fetch(sa.select(began_at).where(of_clock(run_id)).order_by(began_at))]


def _still_open(fetch: Fetch, run_id: int) -> Iterator[Stretch]:
    """Yield the stretches in which requests were open that have not ended, as sessions that go on or were killed noted them."""
    for session in sessions_of(fetch, run_id, unended=True):
        # backwards, as long as something was in flight
        ends = [session.began_at + one.at for one in takewhile(lambda one: one.in_flight > 0, reversed(session.timeline))]
        if ends:
            # in the first of these moments it may have begun at any instant
            yield min(ends), max(ends)


def _stretches(fetch: Fetch, run_id: int) -> list[Stretch]:
    """Return the stretches of time in which requests were under way, without long pauses and what lies between two sessions."""
    begins = _begins(fetch, run_id)
    groups: list[Any] = [sa.cast(_BEGUN / 60, sa.Integer).label("minute")]
    if len(begins) > 1:
        of_session = (sessions.c.run_id == run_id) & (sessions.c.began_at <= _BEGUN)
        groups.append(sa.select(sa.func.max(sessions.c.began_at)).where(of_session).scalar_subquery().label("session"))
    edges = sa.select(sa.func.min(_BEGUN), sa.func.max(_ENDED)).where(of_run(run_id)).group_by(*groups)
    found = [(begin, max(begin, end)) for begin, end in fetch(edges)]
    if found:
        # else there is nothing to show
        found += _still_open(fetch, run_id)
    if not all(math.isfinite(end - begin) for begin, end in found):
        raise OverflowError("an attempt has a time that no clock shows")
    stretches = _joined(found, _PAUSE_S, begins)
    return _joined(stretches, max(_PAUSE_S, _PART * _seconds(stretches)), begins)


def _shown(stretches: list[Stretch]) -> tuple[float, list[Stretch]]:
    """Return the width of a slice and the periods that are shown."""
    if len(stretches) > _MOST_PERIODS:
        pauses = sorted(after[0] - before[1] for before, after in pairwise(stretches))
        # as many as there may be, but for one, are longer than this
        stretches = _joined(stretches, pauses[-_MOST_PERIODS])
    width = _width(stretches)
    # what is shorter than a slice is not to be seen
    return width, _joined(stretches, min(width, _PAUSE_S))


def _seconds(stretches: Sequence[Stretch]) -> float:
    return sum(end - begin for begin, end in stretches)


def _joined(stretches: Sequence[Stretch], pause: float, begins: Sequence[float] = ()) -> list[Stretch]:
    """Join stretches between which there is no longer pause than this. begins: no pause is joined in which one of these lies."""
    found: list[Stretch] = []
    for begin, end in sorted(stretches):
        last = found[-1] if found else None
        if last and (begin <= last[1] or (begin - last[1] <= pause and not _is_between(begins, last[1], begin))):
            found[-1] = (last[0], max(last[1], end))
        else:
            found.append((begin, end))
    return found


def _is_between(instants: Sequence[float], after: float, until: float) -> bool:
    return bisect_right(instants, after) < bisect_right(instants, until)


def _width(busy: Sequence[Stretch]) -> float:
    least = max(_seconds(busy) / _SLICES, _SECONDS[0])
    days = 86400.0
    return next((width for width in _SECONDS if width >= least), days * -int(-least // days))


def slice_at(instant: sa.ColumnElement[float], periods: Sequence[Period], width: float) -> sa.ColumnElement[int]:
    """Return the number of the slice in which an instant lies."""

    def number(period: Period) -> sa.ColumnElement[int]:
        return sa.cast((instant - period.begin) / width, sa.Integer) + period.first

    # an attempt that a clock set back has left outside of its period counts in the next one
    *others, last = periods
    return sa.case(*((instant <= one.end, number(one)) for one in others), else_=number(last)) if others else number(last)


def _ends(run_id: int, periods: Sequence[Period], width: float) -> sa.Select[Any]:
    """Count the attempts of a run by the slice in which they ended, and by how; with their tokens and their money."""
    a, is_billed = attempts.c, sa.literal_column(billed("attempts"), sa.Boolean)
    spent = sa.literal_column(f"coalesce({cost('attempts', 'prices')}, 0) / 1e12", sa.Float)
    beyond = sa.literal_column(f"{perhaps('attempts', 'prices')} / 1e12", sa.Float)
    place, code = slice_at(_ENDED, periods, width).label("at"), a.error_code.label("code")
    amounts = (a.duration_s, a.input_tokens, a.output_tokens, prices.c.input.is_not(None).label("priced"))
    columns = (place, code, *amounts, is_billed.label("billed"), spent.label("spent"), beyond.label("beyond"))
    source = attempts.outerjoin(prices, prices.c.id == a.price_id)
    row = once(sa.select(*columns).select_from(source).where(of_run(run_id))).c
    return sa.select(
        row.at,
        row.code,
        sa.func.count().label("count"),
        sa.func.sum(row.duration_s).label("seconds"),
        sa.func.sum(row.input_tokens).label("input_tokens"),
        sa.func.sum(row.output_tokens).label("output_tokens"),
        sa.func.sum(row.spent).filter(row.billed, row.priced).label("cost"),
        sa.func.sum(row.beyond).filter(row.billed, row.priced).label("perhaps"),
        sa.func.count().filter(row.billed, row.priced, row.beyond.is_(None)).label("unlimited"),
        sa.func.count().filter(row.billed, ~row.priced).label("unpriced"),
    ).group_by(row.at, row.code)


def _count(one: Slice, group: Any) -> None:
    if group.code is None:
        one.answers += group.count
    elif group.code in _REFUSED:
        one.refused += group.count
    else:
        one.failed += group.count
    one.input_tokens += group.input_tokens or 0
    one.output_tokens += group.output_tokens or 0
    one.cost += group.cost or 0.0


def _causes(groups: Sequence[Any]) -> list[Cause]:
    """Add up over time; answers first, then what happened most often."""
    by_code: dict[str | None, list[Any]] = {}
    for group in groups:
        by_code.setdefault(group.code, []).append(group)
    found = [_cause(code, of) for code, of in by_code.items()]
    return sorted(found, key=lambda cause: (cause.code is not None, -cause.attempts, cause.code or ""))


def _cause(code: str | None, groups: Sequence[Any]) -> Cause:
    def known(name: str) -> Any:
        values = [value for group in groups if (value := getattr(group, name)) is not None]
        return sum(values) if values else None

    return Cause(
        code=code,
        attempts=known("count"),
        seconds=known("seconds"),
        input_tokens=known("input_tokens"),
        output_tokens=known("output_tokens"),
        cost=known("cost"),
        perhaps=known("perhaps"),
        unlimited=known("unlimited"),
        unpriced=known("unpriced"),
    )


def _edges(run_id: int, instant: sa.ColumnElement[float], periods: Sequence[Period], width: float) -> sa.Select[Any]:
    """Count the attempts that began, or ended, in each slice, and add up these instants."""
    place = slice_at(instant, periods, width).label("at")
    columns: list[Any] = [place, sa.func.count(), sa.func.sum(instant - periods[0].begin)]
    return sa.select(*columns).where(of_run(run_id)).group_by(place)


def _open(slices: Sequence[Slice], width: float, begun: Sequence[Any], ended: Sequence[Any]) -> None:
    """Set how many requests were open in the mean of each slice: those from before, and parts of those that began or ended in it.

    begun, ended: the rows of ``_edges``.
    """
    origin, last = slices[0].begin, len(slices) - 1
    changes: list[list[float]] = [[0, 0.0] for _ in slices]
    for sign, groups in ((1, begun), (-1, ended)):
        for at, count, total in groups:
            change = changes[min(max(at, 0), last)]
            change[0] += sign * count
            change[1] += sign * total
    is_open = 0.0
    for one, (count, total) in zip(slices, changes, strict=True):
        # an instant t within the slice leaves end - t of it
        end = one.begin - origin + width
        one.in_flight = max(0.0, is_open + (count * end - total) / width)
        is_open += count
