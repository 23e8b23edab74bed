"""How long a server takes until its first token, and by how much that is longer than at its best: the queue in front of it.

The best is the lowest median of ``BLOCK`` answers in a row. One answer that is quick by chance, such as one from a cache, does
not make it lower, and a server that was quick only at the start is still measured by that.
"""

from math import log

BLOCK = 20
"""Answers in a row whose median may be the best. Before there are so many, nothing counts as a queue."""
_PER_STEP = 1 / log(1.02)
_SMALLEST_S = 1e-4


class FirstTokens:
    """Times to the first token of one model, in constant memory. best_s: None before the first block."""

    __slots__ = ("_block", "_buckets", "best_s")

    def __init__(self) -> None:
        self.best_s: float | None = None
        self._block: list[float] = []
        # by bucket, 2 % wide: how many, and their sum
        self._buckets: dict[int, list[float]] = {}

    @property
    def count(self) -> int:
        """How many answers were counted."""
        return int(sum(count for count, _ in self._buckets.values()))

    @property
    def total_s(self) -> float:
        """Their times, added up."""
        return sum(total for _, total in self._buckets.values())

    def add(self, seconds: float) -> None:
        """Count one answer."""
        number = int(log(max(_SMALLEST_S, seconds)) * _PER_STEP)
        bucket = self._buckets.get(number)
        if bucket is None:
            bucket = self._buckets[number] = [0.0, 0.0]
        bucket[0] += 1.0
        bucket[1] += seconds
        block = self._block
        block.append(seconds)
        if len(block) == BLOCK:
            median = sorted(block)[BLOCK // 2]
            self.best_s = median if self.best_s is None else min(self.best_s, median)
            block.clear()

    def beyond_s(self) -> float:
        """Return the seconds beyond the best, added up over all answers. The bucket of the best counts as one value."""
        if (best_s := self.best_s) is None:
            return 0.0
        return sum(max(0.0, total - count * best_s) for count, total in self._buckets.values())
