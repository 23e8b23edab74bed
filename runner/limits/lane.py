"""A lane with a fixed number of slots: one endpoint, model and key."""

import anyio

from runner.limits.pause import Pause
from runner.limits.rate import RequestRate


class FixedLane:
    """Admission over slots, requests per minute and pause, in this order, so that no place in the rate waits for a slot.

    slots: requests in flight at most. rate: None for no limit.
    """

    def __init__(self, slots: int, rate: RequestRate | None = None) -> None:
        self._slots = anyio.Semaphore(slots, max_value=slots, fast_acquire=True)
        # a slot that waits for its place in the rate is taken, but nothing is in flight
        self._out = 0
        self._rate = rate
        # who came first goes first, also through a pause that sends a slot's holder back
        self._gate = anyio.Lock(fast_acquire=True)
        self._pause = Pause()

    @property
    def in_flight(self) -> int:
        """Requests that are out, or answered and not on the disk yet."""
        return self._out

    @property
    def paused(self) -> tuple[float, str] | None:
        """Seconds left of a pause and its reason, or None."""
        left = self._pause.left_s
        return (left, self._pause.reason) if left > 0 else None

    async def acquire(self) -> None:
        """Wait for a place; the caller owes a ``release``."""
        async with self._gate:
            while True:
                # a pause is waited for outside the slot
                await self._pause.wait()
                await self._slots.acquire()
                try:
                    if self._rate is not None and self._pause.left_s == 0:
                        await self._rate.acquire()
                except BaseException:
                    self._slots.release()
                    raise
                if self._pause.left_s == 0:
                    self._out += 1
                    return
                self._slots.release()

    def release(self) -> None:
        """Give the slot back."""
        self._out -= 1
        self._slots.release()

    def pause(self, seconds: float, reason: str) -> None:
        """Let nothing new out for that many seconds."""
        self._pause.extend(seconds, reason)
