"""The figures of a run over time, for charts: what happened in each slice, how long first tokens took, and what the limit was."""

import math
from collections.abc import Iterator, Sequence
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
    """Return for each slice how many requests might have been open, in the mean of what sessions noted of it.

    What they noted are means over stretches, which may be longer than a slice, or shorter.
    """
    sums: dict[int, list[float]] = {}
    for session in sessions_of(fetch, run_id):
        before = session.began_at
        for moment in session.timeline:
            at = session.began_at + moment.at
            for place, seconds in _parts(course, before, at):
                total = sums.setdefault(place, [0.0, 0.0])
                total[0] += moment.slots * seconds
                total[1] += seconds
            before = max(before, at)
    return {place: round(total / seconds, 3) for place, (total, seconds) in sums.items()}


def _parts(course: Course, begin: float, end: float) -> Iterator[tuple[int, float]]:
    """Yield the slices in which a stretch of time lies, each with the seconds of it that are in that slice."""
    if not math.isfinite(begin) or not math.isfinite(end):
        return
    firsts = [*(one.first for one in course.periods), len(course.slices)]
    for period, after in zip(course.periods, firsts[1:], strict=True):
        first = period.first + max(0, math.floor((begin - period.begin) / course.width))
        last = min(after - 1, period.first + math.floor((end - period.begin) / course.width))
        for place in range(first, last + 1):
            at = period.begin + (place - period.first) * course.width
            if (seconds := min(end, at + course.width) - max(begin, at)) > 0:
                yield place, seconds


def _quantile(values: Sequence[tuple[float, int]], share: float) -> Any:
    """Return the value below which a share of all lie. values: in rising order, each with how often it occurs."""
    rank = max(1, math.ceil(share * sum(count for _, count in values)))
    for value, count in values:
        rank -= count
        if rank <= 0:
            return value
    return None
