"""What a simulator has counted so far. Only counts: nothing of any request or answer is kept."""

from collections import Counter
from collections.abc import Callable
from typing import TypedDict


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


class Stats(TypedDict):
    """Counts since the simulator started.

    requests: all that reached one of the two dialects.
    completions: streams and plain answers sent to their proper end, those of a harmless fault included.
    refused: for any cause; a refusal that is itself a fault counts under faults only.
    refused_for: the same by cause, those that happened: key, money, form, limit, outage.
    faults: by name, those that happened.
    max_in_flight: the most answers under way at the same time.
    in_flight_s: seconds that all answers together have been under way.
    input_tokens: of all requests admitted.
    output_tokens: of all answers begun, as they count against the limit, however far they got.
    """

    requests: int
    completions: int
    refused: int
    refused_for: dict[str, int]
    faults: dict[str, int]
    max_in_flight: int
    in_flight_s: float
    input_tokens: int
    output_tokens: int


class Counters:
    """The running counts."""

    def __init__(self) -> None:
        self.requests = 0
        self.completions = 0
        self.refused: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self.input_tokens = 0
        self.output_tokens = 0

    def stats(self, flight: Flight) -> Stats:
        """The counts as a value of their own."""
        return Stats(
            requests=self.requests,
            completions=self.completions,
            refused=self.refused.total(),
            refused_for=dict(self.refused),
            faults=dict(self.faults),
            max_in_flight=flight.most,
            in_flight_s=flight.sum_s,
            input_tokens=self.input_tokens,
            output_tokens=self.output_tokens,
        )
