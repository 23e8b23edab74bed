"""Finds duplicates among millions of hashes, in 8 bytes per hash. Pure."""

from array import array
from bisect import bisect_left, bisect_right
from itertools import pairwise

_BUCKETS = 64
# Hashes are put into buckets by their highest 6 bits, so that the sorted buckets, joined, are sorted too.
_SHIFT = 58


class RepeatedHashes:
    """Hashes that occur more than once, sorted, with their counts; 12 bytes each."""

    __slots__ = ("counts", "hashes")

    def __init__(self) -> None:
        self.hashes = array("q")
        self.counts = array("I")

    def __len__(self) -> int:
        return len(self.hashes)

    def find(self, hashed: int) -> int | None:
        """Return the index of a hash; None if it does not occur more than once."""
        index = bisect_left(self.hashes, hashed)
        return index if index < len(self.hashes) and self.hashes[index] == hashed else None


class HashCollector:
    """Collects signed 64-bit hashes."""

    __slots__ = ("_buckets",)

    def __init__(self) -> None:
        self._buckets = [array("q") for _ in range(_BUCKETS)]

    def add(self, hashed: int) -> None:
        """Add one hash."""
        self._buckets[(hashed >> _SHIFT) + _BUCKETS // 2].append(hashed)

    def repeats(self) -> RepeatedHashes:
        """Return the hashes that occur more than once, and empty the collector."""
        repeated = RepeatedHashes()
        self._buckets.reverse()
        while self._buckets:
            # Only one bucket at a time becomes a list of objects, which takes five times the memory of the array.
            ordered = sorted(self._buckets.pop())
            for hashed in sorted({first for first, second in pairwise(ordered) if first == second}):
                repeated.hashes.append(hashed)
                repeated.counts.append(bisect_right(ordered, hashed) - bisect_left(ordered, hashed))
        return repeated
