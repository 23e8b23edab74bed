"""Holds the rows of a lane whose refusal may be the endpoint's, until the streak has decided. They have a worker and no slot."""

from collections.abc import Callable

import anyio

from runner.admission import Permit, Standing
from runner.engine.limits.outage import Outage
from runner.engine.limits.streak import Fate, Streak, look
from runner.model import Attempt

ALONE_S = 1.0
"""Seconds for which all rows of the lane must be held until they are taken for the last ones, while more may be read."""
LOOK_S = 0.25
"""Interval at which that is checked, in seconds."""


class Holding:
    """The rows that are held, and the streak that decides about them.

    clock: monotonic seconds. outage: of the lane. present: returns the number of rows in the lane.
    """

    def __init__(self, clock: Callable[[], float], outage: Outage, present: Callable[[], int]) -> None:
        self._clock, self._outage, self._present = clock, outage, present
        self.streak = Streak()
        # True if no further row will come
        self._last = False
        self._change: anyio.Event | None = None
        self._alone_since: float | None = None

    def refused(self, standing: Standing, permit: Permit, attempt: Attempt, *, late: bool) -> bool:
        """Hold a row. late: its answer had begun. Return True if this ends an outage in which nothing was answered at all."""
        ended = False
        if self._outage.refusing:
            self._outage.refused(permit)
        else:
            # an answer, whatever it says, shows that the endpoint is there
            ended = self._outage.answered(permit, success=False)
        self._outage.lost(permit)
        seen = look(attempt.error_code, attempt.status, attempt.error)
        if self.streak.refused(standing, permit, seen, self._clock()):
            self._outage.refuse(self.streak.begin(seen), attempt.error_code or "", late=late)
        # the row was in flight until now
        self._alone_since = None
        self.notify()
        return ended

    def end(self) -> None:
        """Record that no further row will come."""
        self._last = True
        self.notify()

    async def fate(self, standing: Standing) -> Fate:
        """Wait until it is known what becomes of a row that was refused."""
        held = self.streak.held[standing]
        try:
            while held.fate is None:
                self._look_around()
                if held.fate is None:
                    await self._wait()
            return held.fate
        finally:
            self.streak.let_go(standing)

    def leave(self, standing: Standing) -> None:
        """Record that a row has left the lane."""
        self.streak.held.pop(standing, None)
        self.notify()

    def answered(self, permit: Permit) -> None:
        """Record an answer."""
        self.streak.answered(permit)
        self.notify()

    def notify(self) -> None:
        """Let each row that is held look again."""
        if self._change is not None:
            self._change.set()
            self._change = None

    def _look_around(self) -> None:
        """Let the rows fail if no other row of the lane is in flight, waits, or is still to come."""
        if len(self.streak.held) < self._present():
            self._alone_since = None
            return
        now = self._clock()
        if self._alone_since is None:
            self._alone_since = now
        if self._last or now - self._alone_since >= ALONE_S:
            self.streak.give_up()
            self.notify()

    async def _wait(self) -> None:
        if self._change is None:
            self._change = anyio.Event()
        with anyio.move_on_after(LOOK_S):
            await self._change.wait()
