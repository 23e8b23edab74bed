"""The counts of a simulator. Nothing of the content of a request or answer is kept."""

from collections import Counter
from collections.abc import Callable
from typing import TypedDict


class Flight:
    """Counts the answers in flight, and the time they take. The clock is an argument."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._changed = clock()
        self._sum_s = 0.0
        self.now = 0
        self.most = 0

    @property
    def sum_s(self) -> float:
        """Seconds in flight of all answers together. Over an interval it grows by the mean number times the length."""
        return self._sum_s + self.now * (self._clock() - self._changed)

    def begin(self) -> None:
        """Count one more answer in flight."""
        self._change(1)
        self.most = max(self.most, self.now)

    def end(self) -> None:
        """Count one answer less in flight."""
        self._change(-1)

    def _change(self, by: int) -> None:
        self._sum_s = self.sum_s
        self._changed = self._clock()
        self.now += by


class Stats(TypedDict):
    """Counts since the simulator started.

    requests: requests that reached one of the two dialects.
    completions: streams and plain answers that were sent completely, including those with a harmless fault.
    refused: requests refused for any cause; a refusal that is itself a fault counts under faults only.
    refused_for: the same by cause, without zeros: key, money, form, limit, outage, capacity.
    faults: injected faults by name, without zeros.
    max_in_flight: largest number of answers in flight at the same time.
    in_flight_s: seconds in flight of all answers together.
    input_tokens: of all admitted requests.
    output_tokens: of all answers that were begun, whole answers even if they were cut; this is what counts against the limit.
    batches: batches that were made; those of which none was processed, because they were refused later, count too.
    batch_requests: requests in these batches. They are not among the requests above.
    batch_answers: answers to them.
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
    batches: int
    batch_requests: int
    batch_answers: int


class Counters:
    """The running counts."""

    def __init__(self) -> None:
        self.requests = 0
        self.completions = 0
        self.refused: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self.input_tokens = 0
        self.output_tokens = 0
        self.batches = 0
        self.batch_requests = 0
        self.batch_answers = 0

    @property
    def number(self) -> int:
        """Which request it is that was counted last, of live ones and answered ones of batches together; 1 is the first."""
        return self.requests + self.batch_answers

    def stats(self, flight: Flight) -> Stats:
        """Return a snapshot of the counts."""
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
            batches=self.batches,
            batch_requests=self.batch_requests,
            batch_answers=self.batch_answers,
        )
