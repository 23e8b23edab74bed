"""Quantiles of durations in constant memory."""

import math

_STEP = math.log(1.02)
_SMALLEST_S = 1e-4


class Histogram:
    """Counts durations in buckets 2 % wide (as HdrHistogram does), so that quantiles are right within 1 %."""

    def __init__(self) -> None:
        self._counts: dict[int, int] = {}
        self._total = 0

    def add(self, seconds: float) -> None:
        """Count one duration."""
        bucket = max(0, round(math.log(max(seconds, _SMALLEST_S) / _SMALLEST_S) / _STEP))
        self._counts[bucket] = self._counts.get(bucket, 0) + 1
        self._total += 1

    def quantile(self, share: float) -> float | None:
        """Give the duration below which ``share`` (0..1) of all lie, in seconds; None when there are none."""
        if not self._total:
            return None
        rank = max(1, math.ceil(share * self._total))
        for bucket in sorted(self._counts):
            rank -= self._counts[bucket]
            if rank <= 0:
                return _SMALLEST_S * math.exp(bucket * _STEP)
        return None
