"""An amount per minute, requests or tokens, with a ledger for what an estimate got wrong."""

import math

import anyio
from aiolimiter import AsyncLimiter

SLICE = 0.25
"""Part of the bucket that is taken at once."""
LOOK_S = 1.0
"""How long a wait lasts until a look is taken whether the limit is still the same."""
CREDIT_S = 60.0
"""Seconds' worth of reservations given back that may be spent at once."""


class Rate:
    """A leaky bucket whose burst is about one second's worth. One caller at a time: the lane's gate sees to the order.

    aiolimiter's own burst is its whole rate (100 a minute would let 199 through in the first one), it refuses amounts above it,
    and it knows no refund. So the bucket is small, a large amount is taken in slices, and corrections wait in ``debt``, which
    the next caller pays: below zero it is a credit.
    """

    def __init__(self, per_minute: float) -> None:
        self.per_minute = per_minute
        self.debt = 0.0
        self._limiter = _limiter(per_minute)

    def change(self, per_minute: float) -> None:
        """Let another amount through from now on."""
        if per_minute != self.per_minute:
            # a limiter's own pace is fixed when it is made; this one begins with at most a second's worth of burst
            self.per_minute, self._limiter = per_minute, _limiter(per_minute)

    def waits(self, amount: float) -> bool:
        """Tell whether ``amount`` would have to wait."""
        due = self.debt + amount
        return due > 0 and (due > self._limiter.max_rate or not self._limiter.has_capacity(due))

    async def take(self, amount: float) -> None:
        """Let ``amount`` go that need not wait, as ``waits`` has told."""
        self.debt += amount
        if self.debt > 0:
            due, self.debt = self.debt, 0.0
            # where there is capacity, it returns without giving way to anybody
            await self._limiter.acquire(due)

    async def acquire(self, amount: float) -> None:
        """Wait until ``amount`` and what is owed may go; an amount above the bucket waits for all of itself, alone."""
        # whole from here on, so that a cancelled caller leaves behind what it has not used
        self.debt += amount
        try:
            while self.debt > 0:
                limiter = self._limiter
                # a slice as large as the bucket would lose what drips while its timer is late
                piece = min(self.debt, limiter.max_rate * SLICE)
                with anyio.move_on_after(LOOK_S) as wait:
                    await limiter.acquire(piece)
                # the limit may have changed meanwhile
                if not wait.cancelled_caught:
                    self.debt -= piece
        except BaseException:
            self.debt -= amount
            raise

    def settle(self, reserved: float, used: float) -> None:
        """Book the difference between what was set aside and what was used."""
        self.debt = max(self.debt + used - reserved, -self.per_minute * CREDIT_S / 60)

    def drain(self, left: float) -> None:
        """Take over that the server has only ``left`` to give now: never more than a second's worth stays on hand."""
        self.debt = max(self.debt, min(self._limiter.max_rate - left, self._limiter.max_rate))


def _limiter(per_minute: float) -> AsyncLimiter:
    burst = max(1.0, per_minute / 60)
    # what the burst lets through at once is taken from the steady rate, so that no minute holds more than the limit
    steady = max(per_minute - (burst - 1), per_minute / 2)
    if not math.isfinite(steady) or steady <= 0 or not math.isfinite(60 * burst / steady):
        raise ValueError(f"a rate must be a number above 0, not {per_minute}")
    return AsyncLimiter(burst, 60 * burst / steady)
