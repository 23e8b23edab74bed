"""A limit per minute, of requests or tokens, that corrects its estimates afterwards."""

import math

import anyio
from aiolimiter import AsyncLimiter

SLICE = 0.25
"""Fraction of the bucket that is taken at once."""
RECHECK_S = 1.0
"""Longest wait, in seconds, before checking whether the limit has changed."""
CREDIT_S = 60.0
"""Unused reservations can be spent at once up to the amount that the limit allows in this many seconds."""

HOLD_S = 5.0
"""A request that takes more than the limit allows in this many seconds lets others go first, and saves up."""

_LIFTED = 1e15
"""An amount per minute that nothing reaches."""


class Rate:
    """A leaky bucket whose burst is about the amount of one second. One caller at a time.

    aiolimiter's own burst is its whole rate (100 per minute would let 199 through in the first minute), it rejects amounts above
    the burst, and it has no refunds. So the bucket here is small, a large amount is taken in slices, and corrections are added to
    ``debt``, which the next caller pays. A negative debt is a credit.
    """

    def __init__(self, per_minute: float) -> None:
        self.per_minute = per_minute
        self.debt = 0.0
        self._limiter = _limiter(per_minute)

    def change(self, per_minute: float) -> None:
        """Replace the limit from now on."""
        if per_minute != self.per_minute:
            # aiolimiter cannot change the rate of a limiter; a new one starts with a burst of at most one second's amount
            self.per_minute, self._limiter = per_minute, _limiter(per_minute)

    def lift(self) -> None:
        """Let through at once whoever waits: there is no limit any more."""
        self.change(_LIFTED)

    def waits(self, amount: float) -> bool:
        """Return True if ``amount`` would have to wait."""
        due = self.debt + amount
        return due > 0 and (due > self._limiter.max_rate or not self._limiter.has_capacity(due))

    def span_s(self, amount: float) -> float:
        """Return the seconds after which ``amount`` can be taken at the latest, the debt included."""
        return 60 * max(0.0, self.debt + amount) / self.per_minute

    def holds_up(self, amount: float) -> bool:
        """Return True if whoever comes next would have to wait for long behind ``amount``."""
        return amount + min(0.0, self.debt) > self.per_minute * HOLD_S / 60

    async def take(self, amount: float) -> None:
        """Take an amount for which ``waits`` has just returned False."""
        self.debt += amount
        if self.debt > 0:
            due, self.debt = self.debt, 0.0
            # there is capacity, so this returns without a switch to another task
            await self._limiter.acquire(due)

    async def acquire(self, amount: float) -> None:
        """Wait until the bucket has let ``amount`` and the debt through, in slices. ``amount`` may exceed the bucket."""
        # added in full now, so that a cancelled caller can take back exactly its own amount
        self.debt += amount
        try:
            while self.debt > 0:
                limiter = self._limiter
                # a slice as large as the bucket would lose the capacity that drains while the timer is late
                part = min(self.debt, limiter.max_rate * SLICE)
                with anyio.move_on_after(RECHECK_S) as wait:
                    await limiter.acquire(part)
                # on a timeout, take the limiter again: the limit may have changed
                if not wait.cancelled_caught:
                    self.debt -= part
        except BaseException:
            self.debt -= amount
            raise

    async def save(self, most: float) -> float:
        """Take one slice towards ``most``, after the debt and out of the credit; return how much of ``most`` was taken.

        A request that would hold others up is saved up for in this way, while they go first.
        """
        if self.debt < 0:
            taken = min(most, -self.debt)
            self.debt += taken
            return taken
        limiter = self._limiter
        part = min(self.debt + most, limiter.max_rate * SLICE)
        with anyio.move_on_after(RECHECK_S) as wait:
            await limiter.acquire(part)
        if wait.cancelled_caught:
            return 0.0
        paid = min(self.debt, part)
        self.debt -= paid
        return part - paid

    def settle(self, reserved: float, used: float) -> None:
        """Correct a reservation to the amount that was really used."""
        self.debt = max(self.debt + used - reserved, -self.per_minute * CREDIT_S / 60)

    def drain(self, left: float) -> None:
        """Raise the debt so that no more than ``left``, the rest that the server reports, can be taken at once.

        The debt is raised to at most one second's amount.
        """
        self.debt = max(self.debt, min(self._limiter.max_rate - left, self._limiter.max_rate))


def _limiter(per_minute: float) -> AsyncLimiter:
    burst = max(1.0, per_minute / 60)
    # the steady rate is lowered by the burst, so that no minute lets more than the limit through
    steady = max(per_minute - (burst - 1), per_minute / 2)
    if not math.isfinite(steady) or steady <= 0 or not math.isfinite(60 * burst / steady):
        raise ValueError(f"a rate must be a number above 0, not {per_minute}")
    return AsyncLimiter(burst, 60 * burst / steady)
