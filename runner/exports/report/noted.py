"""What sessions have noted from moment to moment, by the slices of a chart: how many requests might be in flight, and were."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from runner.figures import Course, Period
from runner.time_ledger import Moment

_ALIKE, _ALIKE_SHARE = 0.1, 0.02
"""By how much what a session noted may be more than what its requests tell: it counts a request until its answer is saved."""


class Noted(NamedTuple):
    """What a session has noted. began: when, seconds since the epoch. ended: False if it goes on, or was killed."""

    began: float
    moments: Sequence[Moment]
    ended: bool = True


class Flight(NamedTuple):
    """Requests in flight, in the mean of each slice; None: not known. limit: how many might be; None: not noted.

    noted: some slices are what a session noted, as requests were open that have not ended. unknown: so were some of which nothing
    was noted.
    """

    in_flight: Sequence[float | None] = ()
    limit: Sequence[float | None] = ()
    noted: bool = False
    unknown: bool = False


def flight_over(course: Course | None, sessions: Iterable[Noted]) -> Flight:
    """Return the requests in flight over time. sessions: in their order.

    What it takes grows with the moments, and not with the periods beside them.
    """
    if course is None:
        return Flight()
    slots, tails, begins = _Means(course), list[tuple[float, dict[int, float]]](), list[float]()
    for session in sessions:
        begins.append(session.began)
        slots.add(session, [moment.slots for moment in session.moments])
        if not session.ended:
            held = _Means(course)
            held.add(session, [moment.in_flight for moment in session.moments])
            tails.append((session.began, held.known()))
    in_flight: list[float | None] = [one.in_flight for one in course.slices]
    starts, noted, unknown = [one.begin for one in course.slices], False, False
    for began, known in tails:
        after = bisect_right(begins, began)
        end = bisect_left(starts, begins[after]) if after < len(begins) else len(starts)
        for at in range(end - 1, bisect_left(starts, began - course.width), -1):
            if at not in known:
                in_flight[at], unknown = None, True
                continue
            exact = course.slices[at].in_flight
            if known[at] <= exact + _ALIKE + _ALIKE_SHARE * known[at]:
                break
            in_flight[at], noted = known[at], True
    return Flight(in_flight, slots.each(), noted, unknown)


class _Means:
    """Means of what moments tell, by slices."""

    def __init__(self, course: Course) -> None:
        self._course = course
        # of each slice that has some: the sum over time, and the seconds of it
        self._sums: dict[int, tuple[float, float]] = {}
        self._behind = [*(period.first for period in course.periods[1:]), len(course.slices)]
        self._ends = [course.slices[place - 1].begin + course.width for place in self._behind]

    def add(self, session: Noted, values: Sequence[float]) -> None:
        course, since = self._course, session.began
        for moment, value in zip(session.moments, values, strict=True):
            until = session.began + moment.at
            # those before have ended
            for place in range(bisect_right(self._ends, since), len(self._ends)):
                period = course.periods[place]
                if period.begin >= until:
                    break
                # in a store that somebody has changed, a stretch may end far behind all of it
                for at in _slices(period, self._behind[place], course.width, since, min(until, self._ends[place])):
                    begin = course.slices[at].begin
                    shared = min(until, begin + course.width) - max(since, begin)
                    if shared > 0:
                        total, seconds = self._sums.get(at, (0.0, 0.0))
                        self._sums[at] = total + shared * value, seconds + shared
            since = until

    def known(self) -> dict[int, float]:
        """Return the means of the slices of which something is known."""
        return {at: total / seconds for at, (total, seconds) in self._sums.items()}

    def each(self) -> list[float | None]:
        """Return the mean of each slice; None where nothing is known."""
        known = self.known()
        return [known.get(at) for at in range(len(self._course.slices))]


def _slices(period: Period, behind: int, width: float, since: float, until: float) -> range:
    """Return the slices of a period that have a part of a stretch of time. behind: the first slice that it no longer has."""
    first, last = (period.first + int((instant - period.begin) // width) for instant in (since, until))
    return range(max(period.first, first), min(behind, last + 1))
