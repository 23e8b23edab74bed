"""Nothing goes out until a point in time; one item's hint cools the lane for all."""

from collections.abc import Callable

_NEVER = float("-inf")


class Pause:
    """Ends by itself; a longer pause replaces a shorter one, never the other way round.

    until: when it ends, on ``clock`` (monotonic seconds); reason: one phrase for the display.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.until = _NEVER
        self.reason = ""
        # by the server
        self.asked = False

    @property
    def left_s(self) -> float:
        """Seconds until it ends, 0 when there is none."""
        # asked for every request, and nearly always there is none
        if self.until == _NEVER:
            return 0.0
        left = self.until - self._clock()
        if left <= 0:
            self.until = _NEVER
            return 0.0
        return left

    def extend(self, seconds: float, reason: str, *, asked: bool = False) -> bool:
        """Pause for that many seconds from now; False when it is paused for longer already."""
        until = self._clock() + seconds
        if seconds <= 0 or until <= self.until:
            return False
        self.until, self.reason, self.asked = until, reason, asked
        return True
