"""What a session notes about itself while it goes on: where its time goes, and what it does from moment to moment."""

import time
from typing import NamedTuple

from runner.engine.limits import Lanes
from runner.engine.limits.ledger import Reading
from runner.store.sessions import Course
from runner.time_ledger import Moment, TimeLedger, ledger_of

MOST = 600
"""Moments that are kept. When there are more, every second one is left out, so that each tells of twice the time."""
FIRST_S = 0.5
"""Seconds of a moment at first."""
NEARLY_NONE = 0.02
"""Share of the slots up to which it is not told why some were free."""


class _Mark(NamedTuple):
    """What had come together at one instant."""

    at_s: float
    held_s: float
    total_s: float
    free: dict[str, float]


class Timeline:
    """The moments of a session, in constant memory. changed: since they were asked for last."""

    def __init__(self) -> None:
        self._marks = [_Mark(0.0, 0.0, 0.0, {})]
        self._step_s = FIRST_S
        self.changed = True

    def see(self, reading: Reading, *, last: bool = False) -> None:
        """Take note of what a ledger has come to. last: it is the end, which counts in any case."""
        passed_s = reading.at_s - self._marks[-1].at_s
        # a timer is never exact
        if passed_s <= 0 or (passed_s < 0.9 * self._step_s and not last):
            return
        self._marks.append(_Mark(reading.at_s, reading.held_s, reading.total_s, reading.free))
        self.changed = True
        if len(self._marks) > MOST and not last:
            # the newest one stays, since the next moment begins there
            self._marks = self._marks[-1::-2][::-1] if len(self._marks) % 2 else [self._marks[0], *self._marks[1::2]]
            self._step_s *= 2

    def moments(self) -> list[Moment]:
        """Return the moments, oldest first."""
        self.changed = False
        found = []
        for one, two in zip(self._marks, self._marks[1:], strict=False):
            passed_s, slots_s = two.at_s - one.at_s, two.total_s - one.total_s
            free = {cause: seconds - one.free.get(cause, 0.0) for cause, seconds in two.free.items()}
            why = max(free, key=free.__getitem__, default=None)
            tells = why is not None and free[why] > NEARLY_NONE * slots_s
            in_flight, slots = (two.held_s - one.held_s) / passed_s, slots_s / passed_s
            found.append(Moment(round(two.at_s, 2), round(in_flight, 2), round(slots, 2), why if tells else None))
        return found


class Noting:
    """Notes the course of one session, from ``begin`` on."""

    def __init__(self, lanes: Lanes) -> None:
        self._lanes, self._ledger = lanes, lanes.ledger
        self._timeline = Timeline()
        self._began_at: float | None = None

    def begin(self) -> None:
        """Begin: the session is about to send."""
        self._began_at = time.time()
        self._ledger.begin()

    def end(self) -> None:
        """Take note of the end: what comes later counts for nothing."""
        self._ledger.end()
        self._timeline.see(self._ledger.read(), last=True)

    def look(self) -> None:
        """Take note of this moment. Called about twice a second."""
        self._timeline.see(self._ledger.read())

    def course(self, ended: bool) -> Course:
        """Return what is stored of the session. ended: it is over."""
        assert self._began_at is not None
        timeline = self._timeline.moments() if self._timeline.changed else None
        return Course(began_at=self._began_at, at=time.time(), time=self._time(), timeline=timeline, ended=ended)

    def time(self) -> TimeLedger | None:
        """Return where the time went; None if the session has not begun to send."""
        return self._time() if self._began_at is not None else None

    def _time(self) -> TimeLedger:
        now, lanes = self._ledger.read(), self._lanes.states()
        limits, own = dict[str, float](), {str(kind): limit for kind, limit in self._lanes.per_minute.items()}
        for lane in lanes:
            for kind, limit in lane.limits.items():
                limits[kind] = min(limit, limits.get(kind, limit))
        return ledger_of(
            now.causes,
            now.total_s,
            elapsed_s=round(now.at_s, 6),
            busy_s=round(now.busy_s, 6),
            requests=now.requests,
            in_flight=round(now.held_s / now.at_s, 3) if now.at_s else 0.0,
            limits=limits,
            own_limits=tuple(kind for kind, limit in limits.items() if limit == own.get(kind)),
            borrowed_limits=tuple(sorted(self._lanes.borrowed)),
            slots=now.slots,
            ceiling=self._lanes.ceiling,
            tuned=self._lanes.tuned,
            streamed=now.streamed,
            first_token_s=_rounded(now.first_token_s),
            best_first_token_s=_rounded(now.best_first_token_s),
        )


def _rounded(seconds: float | None) -> float | None:
    return round(seconds, 6) if seconds is not None else None
