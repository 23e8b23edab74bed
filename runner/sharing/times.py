"""How long runs wait for each other."""

BEAT_S = 0.5
"""Seconds between two signs of life."""
SILENT_S = 5.0
"""Seconds without a word after which a run is given up, and the one that serves replaced."""
WELCOME_S = 3.0
"""Seconds in which the run that serves has to answer a run that comes."""
LATE_S = 1.5
"""By so many seconds a beat may be late until it is known that this run itself was stopped: then nobody is given up for it."""


class Beats:
    """Tells whether this run itself was stopped."""

    def __init__(self, now: float) -> None:
        self._at = now

    def late(self, now: float) -> bool:
        """Return True if this beat comes far too late."""
        late = now - self._at > BEAT_S + LATE_S
        self._at = now
        return late
