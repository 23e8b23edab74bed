"""Which of millions of hashes stand more than once, in 8 bytes a hash. Pure."""

from array import array
from bisect import bisect_left, bisect_right
from itertools import pairwise

_BUCKETS = 64
# by their highest bits, so that the buckets, one behind the other, are in order
_SHIFT = 58


class RepeatedHashes:
    """Hashes that stand more than once, in order, and how often; 12 bytes each."""

    __slots__ = ("counts", "hashes")

    def __init__(self) -> None:
        self.hashes = array("q")
        self.counts = array("I")

    def __len__(self) -> int:
        return len(self.hashes)

    def find(self, hashed: int) -> int | None:
        """Give a hash's place among them; None when it does not stand more than once."""
        at = bisect_left(self.hashes, hashed)
        return at if at < len(self.hashes) and self.hashes[at] == hashed else None


class HashCollector:
    """Hashes of 64 bits, signed, as they come."""

    __slots__ = ("_buckets",)

    def __init__(self) -> None:
        self._buckets = [array("q") for _ in range(_BUCKETS)]

    def add(self, hashed: int) -> None:
        """Take one in."""
        self._buckets[(hashed >> _SHIFT) + _BUCKETS // 2].append(hashed)

    def repeats(self) -> RepeatedHashes:
        """Find those that stand more than once, and forget all others."""
        found = RepeatedHashes()
        self._buckets.reverse()
        while self._buckets:
            # as objects they are five times as large, so only one bucket at a time
            ordered = sorted(self._buckets.pop())
            for hashed in sorted({one for one, next_one in pairwise(ordered) if one == next_one}):
                found.hashes.append(hashed)
                found.counts.append(bisect_right(ordered, hashed) - bisect_left(ordered, hashed))
        return found
