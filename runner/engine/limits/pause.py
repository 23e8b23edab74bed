"""A pause of a lane: no request is sent until a point in time. The wait asked of one item applies to all."""

import random
from collections.abc import Callable

LONG_PAUSE_S = 600.0
"""Seconds. A longer pause is shown with its date, and does not count towards an item's patience."""
_NEVER = float("-inf")


class Pause:
    """Ends by itself. A longer pause replaces a shorter one, never the reverse.

    until: when the pause ends, by ``clock`` (monotonic seconds). reason: one phrase for the display.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.until = _NEVER
        self.reason = ""
        # True if the server asked for it
        self.asked = False

    @property
    def left_s(self) -> float:
        """Seconds until the pause ends; 0 if there is none."""
        # a short cut: this is called for every request, and a pause is rare
        if self.until == _NEVER:
            return 0.0
        left = self.until - self._clock()
        if left <= 0:
            self.until = _NEVER
            return 0.0
        return left

    def extend(self, seconds: float, reason: str, *, asked: bool = False) -> bool:
        """Pause for ``seconds`` from now. Return False if the present pause already lasts longer."""
        until = self._clock() + seconds
        if seconds <= 0 or until <= self.until:
            return False
        self.until, self.reason, self.asked = until, reason, asked
        return True


FIRST_S = 0.5
LONGEST_S = 60.0
"""First and longest pause, in seconds, after a refusal without a hint."""
PATIENT_HINTS = 3
"""For this many episodes in a row without a success, the pause is only as long as the server's hint says."""


class PauseBackoff:
    """Pauses that grow with each episode of refusals. Refusals of requests that were in flight together are one episode."""

    def __init__(self, draw: random.Random) -> None:
        self._draw = draw
        self._episodes = 0

    def succeeded(self) -> None:
        """Start again with the shortest pause."""
        self._episodes = 0

    def pause_s(self, hint_s: float | None, *, first: bool) -> float:
        """Return the seconds of our own pause; the lane takes the longer of this and the hint. first: a new episode begins."""
        self._episodes += first
        # if following the hints does not help, the pause grows all the same
        times = self._episodes - 1 if hint_s is None else self._episodes - PATIENT_HINTS
        if not first or times < 0:
            return 0.0
        longest = LONGEST_S if hint_s is None else max(FIRST_S, 2 * hint_s)
        ceiling = min(longest, FIRST_S * 2 ** min(times, 16))
        return self._draw.uniform(ceiling / 2, ceiling)
