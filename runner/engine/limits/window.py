"""How many of a lane's slots are open: fewer when a fixed number begins, and behind a pause, so that not all come at once."""

from collections.abc import Callable


class Window:
    """Opens by one for each answer that begins, or, with ``by_time``, doubles at an interval. clock: seconds."""

    def __init__(self, clock: Callable[[], float], *, by_time: bool) -> None:
        self._clock, self._by_time = clock, by_time
        # None: all slots are open
        self._open: float | None = None
        self._doubling_s = 1.0
        self._doubled_at = 0.0

    @property
    def opening(self) -> bool:
        """Not all slots are open yet."""
        return self._open is not None

    @property
    def opens_by_time(self) -> bool:
        """Slots open by the passing of time, so a look in a few milliseconds is worth while."""
        return self._by_time and self._open is not None

    def begin(self, some: int, limit: int, doubling_s: float) -> None:
        """Let ``some`` of the slots be open, and then more."""
        self._open = float(some) if some < limit else None
        self._doubling_s, self._doubled_at = doubling_s, self._clock()

    def answered(self, limit: int) -> None:
        """Open one more."""
        if self._open is not None and not self._by_time:
            self._open = self._open + 1 if self._open + 1 < limit else None

    def of(self, limit: int) -> int:
        """Give how many of ``limit`` slots are open now."""
        if self._open is None:
            return limit
        if self._by_time and (steps := int((self._clock() - self._doubled_at) / self._doubling_s)):
            self._open *= 2 ** min(steps, 30)
            self._doubled_at = self._clock()
        if self._open >= limit:
            self._open = None
            return limit
        return int(self._open)
