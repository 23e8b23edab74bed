"""Lets one task through at a time. Retries and first attempts alternate; each kind is first come, first served.

Tasks that enter as ``last`` go when no other waits.
"""

import asyncio
from collections import deque


class Gate:
    """A lock with three queues. Costs next to nothing while no task waits. Each ``enter`` must be followed by a ``leave``."""

    __slots__ = ("_first", "_held", "_last", "_retries", "_retry_next")

    def __init__(self) -> None:
        self._held = False
        # plain futures: nearly every request waits here, and anyio's events cost several times as much
        self._retries: deque[asyncio.Future[None]] = deque()
        self._first: deque[asyncio.Future[None]] = deque()
        self._last: deque[asyncio.Future[None]] = deque()
        # which queue is served next if both have waiters
        self._retry_next = True

    @property
    def busy(self) -> bool:
        """True while a task is inside, so that others have to wait."""
        return self._held

    @property
    def wanted(self) -> bool:
        """True if a task waits that goes before those that entered as ``last``."""
        return any(not turn.done() for queue in (self._retries, self._first) for turn in queue)

    async def enter(self, *, again: bool, last: bool = False) -> None:
        """Wait for a turn. again: this is a retry, which does not have to wait for all new items. last: all others go first."""
        if not self._held:
            self._held = True
            return
        queue = self._last if last else self._retries if again else self._first
        turn = asyncio.get_running_loop().create_future()
        queue.append(turn)
        try:
            await turn
        except BaseException:
            # the turn may have been granted at the moment of the cancellation
            if not turn.cancelled():
                self.leave()
            raise

    def leave(self) -> None:
        """Let the next task in."""
        while self._retries or self._first:
            again = bool(self._retries) and (self._retry_next or not self._first)
            turn = (self._retries if again else self._first).popleft()
            # a done turn belongs to a cancelled task that has not run since
            if not turn.done():
                self._retry_next = not again
                turn.set_result(None)
                return
        while self._last:
            turn = self._last.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._held = False
