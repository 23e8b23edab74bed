"""What a simulator has counted so far. Only counts: nothing of any request or answer is kept."""

from collections import Counter
from typing import TypedDict


class Stats(TypedDict):
    """Counts since the simulator started.

    requests: all that reached one of the two dialects.
    completions: streams and plain answers sent to their proper end, those of a harmless fault included.
    refused: for key, form or limit; a refusal that is itself a fault counts under faults only.
    faults: by name, those that happened.
    max_in_flight: the most answers under way at the same time.
    """

    requests: int
    completions: int
    refused: int
    faults: dict[str, int]
    max_in_flight: int


class Tally:
    """The running counts."""

    def __init__(self) -> None:
        self.requests = 0
        self.completions = 0
        self.refused = 0
        self.faults: Counter[str] = Counter()

    def stats(self, *, max_in_flight: int) -> Stats:
        """The counts as a value of their own."""
        return Stats(
            requests=self.requests,
            completions=self.completions,
            refused=self.refused,
            faults=dict(self.faults),
            max_in_flight=max_in_flight,
        )
