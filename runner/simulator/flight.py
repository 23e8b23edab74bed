"""Answers under way: how many, the most at once, and their sum over time."""

from collections.abc import Callable


class Flight:
    """Counts answers as they begin and end. The clock is an argument."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._changed = clock()
        self._sum_s = 0.0
        self.now = 0
        self.most = 0

    @property
    def sum_s(self) -> float:
        """Seconds that all answers together were under way; it grows over an interval by the mean number times the length."""
        return self._sum_s + self.now * (self._clock() - self._changed)

    def begin(self) -> None:
        """One more is under way."""
        self._change(1)
        self.most = max(self.most, self.now)

    def end(self) -> None:
        """One less is under way."""
        self._change(-1)

    def _change(self, by: int) -> None:
        self._sum_s = self.sum_s
        self._changed = self._clock()
        self.now += by
