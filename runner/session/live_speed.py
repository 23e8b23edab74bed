"""How fast the live path of a mixed run answers while rows wait for it: what its limits and slots say is only reckoned."""

from collections import deque

from msgspec import Struct

WINDOW_S, LEAST_S, LEAST_ROWS = 300.0, 30.0, 20
"""A speed is that of the last seconds, of so many at least, with so many answers at least."""
KEPT_S = 600.0
"""Seconds for which a speed holds once no row waits any more."""


class Answered(Struct, frozen=True):
    """Live answers of a session up to an instant, those of the flex tier apart. at: monotonic seconds."""

    at: float
    standard: int
    flex: int = 0


class Speeds(Struct, frozen=True):
    """Rows per second. None: not known."""

    all: float | None = None
    flex: float | None = None


class LiveSpeed:
    """Measures between looks, of which each is an ``Answered``. Rows wait from ``begin`` to ``end``."""

    def __init__(self) -> None:
        self._looks: deque[Answered] = deque()
        self._waits = False
        self._known, self._known_at = Speeds(), 0.0

    def begin(self) -> None:
        """Record that rows wait for the live path from now on."""
        self._looks.clear()
        self._waits = True

    def end(self) -> None:
        """Record that no further row waits."""
        self._waits = False

    def look(self, now: Answered) -> Speeds:
        """Return the speeds. What was measured last holds for a while after rows have ceased to wait."""
        if self._waits:
            self._add(now)
        return self._known if now.at - self._known_at <= KEPT_S else Speeds()

    def _add(self, now: Answered) -> None:
        looks = self._looks
        if len(looks) == 1 and now.standard + now.flex == looks[0].standard + looks[0].flex:
            # it counts from the first answer on, as the first ones are still to come when it begins
            looks.clear()
        looks.append(now)
        while len(looks) > 1 and now.at - looks[1].at >= WINDOW_S:
            looks.popleft()
        first, span_s = looks[0], now.at - looks[0].at
        standard, flex = now.standard - first.standard, now.flex - first.flex
        if span_s >= LEAST_S and standard + flex >= LEAST_ROWS:
            self._known = Speeds((standard + flex) / span_s, flex / span_s if now.flex else None)
            self._known_at = now.at
