"""Slots that open gradually: at the start, after a pause and after an outage."""

from collections.abc import Callable


class Window:
    """Opens slots gradually: one more for each answer that begins or, with ``by_time``, twice as many at an interval."""

    def __init__(self, clock: Callable[[], float], *, by_time: bool) -> None:
        self._clock, self._by_time = clock, by_time
        # None: all slots are open
        self._open: float | None = None
        self._doubling_s = 1.0
        self._doubled_at = 0.0

    @property
    def opening(self) -> bool:
        """True while not all slots are open."""
        return self._open is not None

    @property
    def opens_by_time(self) -> bool:
        """True while slots open by the passing of time."""
        return self._by_time and self._open is not None

    def begin(self, count: int, limit: int, doubling_s: float) -> None:
        """Start with ``count`` open slots."""
        self._open = float(count) if count < limit else None
        self._doubling_s, self._doubled_at = doubling_s, self._clock()

    def answered(self, limit: int) -> None:
        """Open one more slot, because an answer has begun."""
        if self._open is not None and not self._by_time:
            self._open = self._open + 1 if self._open + 1 < limit else None

    def of(self, limit: int) -> int:
        """Return how many of ``limit`` slots are open now."""
        if self._open is None:
            return limit
        if self._by_time and (steps := int((self._clock() - self._doubled_at) / self._doubling_s)):
            self._open *= 2 ** min(steps, 30)
            self._doubled_at = self._clock()
        if self._open >= limit:
            self._open = None
            return limit
        return int(self._open)
