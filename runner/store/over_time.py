"""The figures of a run over time, for charts: what happened in each slice, how long first tokens took, and what the limit was."""

import math
from collections.abc import Sequence
from itertools import groupby
from typing import Any

import sqlalchemy as sa
from msgspec import Struct

from runner.figures import Course, Period
from runner.store.course import course_of, slice_at
from runner.store.schema import attempts
from runner.store.sessions import sessions_of
from runner.store.spending import Fetch, of_run


class TimeSlice(Struct, frozen=True, kw_only=True):
    """What happened in one slice of the time. begin: UTC seconds since the epoch."""

    begin: float
    # attempts that ended as an answer; that were refused for a limit; that ended otherwise
    answers: int
    refused: int
    failed: int
    input_tokens: int
    output_tokens: int
    # dollars
    cost: float
    # requests that were open, and that might have been, in the mean; null: not known
    in_flight: float
    limit: float | None
    # seconds to the first token of the answers that ended in it; null: none did
    first_token_p50_s: float | None
    first_token_p95_s: float | None


class OverTime(Struct, frozen=True, kw_only=True):
    """What happened over time. Where nothing was sent for long, and between two sessions, time is left out.

    width: seconds of a slice. periods: the stretches of time that are shown, each with the number of its first slice.
    """

    width: float
    periods: Sequence[Period]
    slices: Sequence[TimeSlice]


def over_time(fetch: Fetch, run_id: int) -> OverTime:
    """Return what happened over the time of a run. fetch: must read one state of the store.

    Raises OverflowError for times that no clock shows: somebody has changed the store.
    """
    course, _ = course_of(fetch, run_id)
    if course is None:
        return OverTime(width=1.0, periods=[], slices=[])
    firsts, limits = _first_tokens(fetch, run_id, course), _limits(fetch, run_id, course)
    slices = [
        TimeSlice(
            begin=one.begin,
            answers=one.answers,
            refused=one.refused,
            failed=one.failed,
            input_tokens=one.input_tokens,
            output_tokens=one.output_tokens,
            cost=one.cost,
            in_flight=round(one.in_flight, 3),
            limit=limits.get(place),
            first_token_p50_s=_quantile(firsts.get(place, []), 0.5),
            first_token_p95_s=_quantile(firsts.get(place, []), 0.95),
        )
        for place, one in enumerate(course.slices)
    ]
    return OverTime(width=course.width, periods=course.periods, slices=slices)


def _first_tokens(fetch: Fetch, run_id: int, course: Course) -> dict[int, list[tuple[float, int]]]:
    """Return for each slice the times to the first token, rounded to three digits, each with how often it occurs."""
    a = attempts.c
    place = slice_at(a.started_at + a.duration_s, course.periods, course.width).label("at")
    rounded = sa.func.printf("%.2e", a.time_to_first_token_s).label("rounded")
    answered = (of_run(run_id), a.error_code.is_(None), a.time_to_first_token_s.is_not(None))
    groups = fetch(sa.select(place, rounded, sa.func.count()).where(*answered).group_by(place, rounded))
    last = len(course.slices) - 1
    values = sorted((min(max(at, 0), last), float(text), count) for at, text, count in groups)
    return {at: [(value, count) for _, value, count in of] for at, of in groupby(values, lambda one: one[0])}


def _limits(fetch: Fetch, run_id: int, course: Course) -> dict[int, float]:
    """Return for each slice how many requests might have been open, as the sessions noted it."""
    sums: dict[int, list[float]] = {}
    for session in sessions_of(fetch, run_id):
        for moment in session.timeline:
            at = session.began_at + moment.at
            period, after = _period(course, at)
            if period is not None and period.begin <= at and math.isfinite(at):
                place = min(period.first + int((at - period.begin) / course.width), after - 1)
                total = sums.setdefault(place, [0.0, 0])
                total[0] += moment.slots
                total[1] += 1
    return {place: round(total / number, 3) for place, (total, number) in sums.items()}


def _period(course: Course, at: float) -> tuple[Period | None, int]:
    """Return the period in which an instant lies, and the first slice behind it."""
    after = len(course.slices)
    for one in reversed(course.periods):
        if one.begin <= at:
            return (one if at <= one.end + course.width else None), after
        after = one.first
    return None, after


def _quantile(values: Sequence[tuple[float, int]], share: float) -> Any:
    """Return the value below which a share of all lie. values: in rising order, each with how often it occurs."""
    rank = max(1, math.ceil(share * sum(count for _, count in values)))
    for value, count in values:
        rank -= count
        if rank <= 0:
            return value
    return None
