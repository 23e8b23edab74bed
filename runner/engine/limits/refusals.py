"""How long a lane pauses by itself after rate limits: longer from one episode to the next, until something succeeds."""

import random

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
