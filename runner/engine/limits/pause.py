"""Nothing goes out until a point in time; one item's hint cools the lane for all."""

import random
from collections.abc import Callable

PARKED_S = 600.0
"""Seconds. A longer pause is shown with its date, and does not use up an item's patience."""
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


FIRST_S = 0.5


LONGEST_S = 60.0
"""First and longest pause after a refusal that names no wait."""


PATIENT_HINTS = 3
"""So many episodes with a hint, one after another without a success, are met by what the hint says alone."""


class Refusals:
    """Counts episodes: refusals of requests that were in flight together are one."""

    def __init__(self, draw: random.Random) -> None:
        self._draw = draw
        self._episodes = 0

    def succeeded(self) -> None:
        """Begin anew."""
        self._episodes = 0

    def pause_s(self, hint_s: float | None, *, first: bool) -> float:
        """Give the seconds to pause beside the wait that the server asked for. first: the refusal begins an episode."""
        self._episodes += first
        # a server whose hints lead nowhere is given more and more time
        times = self._episodes - 1 if hint_s is None else self._episodes - PATIENT_HINTS
        if not first or times < 0:
            return 0.0
        longest = LONGEST_S if hint_s is None else max(FIRST_S, 2 * hint_s)
        ceiling = min(longest, FIRST_S * 2 ** min(times, 16))
        return self._draw.uniform(ceiling / 2, ceiling)
