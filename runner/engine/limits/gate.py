"""Lets one task through at a time. Retries and first attempts alternate; each kind is first come, first served.

Tasks that enter as last go when no other waits, or in turn with the others once they have waited long enough. To pass a turn on
takes a turn of the event loop. So whoever is inside also serves those that wait, as long as there is something for them.
"""

import asyncio
from collections import deque
from collections.abc import Callable

from runner.admission import Permit


class Gate:
    """A lock with three queues. Costs next to nothing while no task waits.

    Each ``enter`` must be followed by a ``leave``, unless it returns True.
    """

    __slots__ = ("_first", "_held", "_last", "_last_next", "_loop", "_retries", "_retry_next")

    def __init__(self) -> None:
        self._held = False
        # looked up once, as that takes a system call
        self._loop: asyncio.AbstractEventLoop | None = None
        # plain futures: nearly every request waits here, and anyio's events cost several times as much
        self._retries: deque[tuple[asyncio.Future[bool], Permit | None]] = deque()
        self._first: deque[tuple[asyncio.Future[bool], Permit | None]] = deque()
        self._last: deque[tuple[asyncio.Future[bool], float]] = deque()
        # True if the next turn belongs to the last ones
        self._last_next = False
        # which queue is served next if both have waiters
        self._retry_next = True

    @property
    def busy(self) -> bool:
        """True while a task is inside, so that others have to wait."""
        return self._held

    @property
    def wanted(self) -> bool:
        """True if a task waits that goes before those that entered as last."""
        return any(not turn.done() for queue in (self._retries, self._first) for turn, _ in queue)

    async def enter(self, permit: Permit | None = None, *, again: bool) -> bool:
        """Wait for a turn. again: this is a retry, which does not have to wait for all new items.

        permit: what the turn is needed for. Return True if that was served meanwhile: then the task is not inside.
        """
        if self._held:
            turn = self._turn()
            (self._retries if again else self._first).append((turn, permit))
            if await self._wait(turn):
                return True
        self._held = True
        return False

    async def enter_last(self, until: float, *, back: bool) -> None:
        """Wait for a turn, and let all others go first; from ``until`` on, take turns with them.

        back: the task has only let others go first, and keeps its place before those that came after it.
        """
        if self._held:
            turn = self._turn()
            (self._last.appendleft if back else self._last.append)((turn, until))
            await self._wait(turn)
        self._held = True

    def _turn(self) -> asyncio.Future[bool]:
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        return self._loop.create_future()

    async def _wait(self, turn: asyncio.Future[bool]) -> bool:
        """Wait for a turn. Return True if it is needed no more."""
        try:
            return await turn
        except BaseException:
            # the turn may have been granted at the moment of the cancellation
            if not turn.cancelled() and not turn.result():
                self.leave()
            raise

    def serve(self, serves: Callable[[Permit], bool]) -> None:
        """Let those go on who wait, in their order, until ``serves`` returns False for one. Called by the one inside."""
        while self._retries or self._first:
            again = bool(self._retries) and (self._retry_next or not self._first)
            queue = self._retries if again else self._first
            turn, permit = queue[0]
            # a done turn belongs to a cancelled task that has not run since
            if not turn.done():
                if permit is None or not serves(permit):
                    return
                self._retry_next = not again
                turn.set_result(True)
            queue.popleft()

    def take_turns(self, now: float) -> None:
        """Give the next turn to the first task that entered as last, if it has waited long enough. Called by the one inside."""
        while self._last and self._last[0][0].done():
            self._last.popleft()
        self._last_next = bool(self._last) and self._last[0][1] <= now

    def leave(self) -> None:
        """Let the next task in."""
        if self._last_next:
            self._last_next = False
            if self._let_last():
                return
        while self._retries or self._first:
            again = bool(self._retries) and (self._retry_next or not self._first)
            turn, _ = (self._retries if again else self._first).popleft()
            if not turn.done():
                self._retry_next = not again
                turn.set_result(False)
                return
        if not self._let_last():
            self._held = False

    def _let_last(self) -> bool:
        while self._last:
            turn, _ = self._last.popleft()
            if not turn.done():
                turn.set_result(False)
                return True
        return False
