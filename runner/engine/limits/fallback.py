"""The requests of a lane that went from flex to the standard tier: they have slots and a queue of their own.

Another pool of capacity answers them, and a flex request may hold its slot for a quarter of an hour. Pause, outage and limits per
minute are those of the lane, for the account and the endpoint are the same.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from runner.engine.limits.gate import Gate
from runner.engine.limits.ledger import Ledger
from runner.engine.limits.line import Line
from runner.engine.limits.slots import START, Slots

KEPT_S = 10.0
"""Seconds for which places are kept after the last row was to go to the standard tier: it may wait for a budget meanwhile."""


class _Held:
    """Slots of which those count that requests hold."""

    def __init__(self, slots: Slots) -> None:
        self._slots = slots

    @property
    def limit(self) -> int:
        return self._slots.out


class Fallback:
    """Created with the first request that flex has no capacity for. slots: of these requests. clock: monotonic seconds.

    ledger: of the session. Slots count there only while requests hold them: they are there in addition, for rows that may not
    come.
    """

    def __init__(self, slots: Slots, clock: Callable[[], float], ledger: Ledger) -> None:
        self.slots, self._clock = slots, clock
        self.line = Line(ledger, _Held(slots))
        self.gate = Gate()
        # the next of them waits for a slot or a place, and for no pause or outage
        self._ready = False
        # rows that wait for a permit, and until when others wait for capacity of flex
        self.waiting = 0
        self._until = float("-inf")

    def expect(self, until: float) -> None:
        """Record that a row goes to the standard tier at ``until`` if flex has no capacity for it before."""
        self._until = max(self._until, until)

    @contextmanager
    def waits(self) -> Iterator[None]:
        """Count a row that waits for a permit."""
        self.waiting += 1
        try:
            yield
        finally:
            self.waiting -= 1

    @contextmanager
    def held_up(self, *, closed: bool) -> Iterator[None]:
        """Wait for a change. closed: by a pause or an outage."""
        self._ready = not closed
        try:
            yield
        finally:
            self._ready = False

    @property
    def lacks_place(self) -> bool:
        """True while a request has all that it needs but one of the places that all requests share."""
        return self._ready and self.slots.out < self.slots.limit

    @property
    def kept(self) -> int:
        """How many of the places that all requests share other requests leave free: an eighth, but no more than the first slots.

        Where a request waits for nothing else, it gets the next place, even if it is the only one.
        """
        expected = self.waiting or self._clock() < self._until + KEPT_S
        # of a single place, none can be kept for what may never come
        share = min(START, max(self.slots.ceiling // 8, min(1, self.slots.ceiling // 2))) if expected else 0
        return max(share - self.slots.out, int(self.lacks_place))
