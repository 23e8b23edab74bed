"""Requests per minute, first come first served."""

import anyio
from aiolimiter import AsyncLimiter


class RequestRate:
    """A leaky bucket whose burst is about one second's worth.

    aiolimiter's own burst is its whole rate: 100 a minute would let 199 through in the first one. It also wakes waiters by
    amount, not in order, so a lock lets them in one at a time.
    """

    def __init__(self, per_minute: float) -> None:
        self.per_minute = per_minute
        burst = max(1.0, per_minute / 60)
        # what the burst lets through at once is taken from the steady rate, so that no minute holds more than the limit
        steady = per_minute - (burst - 1)
        self._limiter = AsyncLimiter(burst, 60 * burst / steady)
        self._gate = anyio.Lock()

    async def acquire(self) -> None:
        """Wait for a request's place in the rate."""
        async with self._gate:
            await self._limiter.acquire()
