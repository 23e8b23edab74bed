"""Lets one at a time through: who comes again and who comes first take turns, each kind in the order in which it came."""

import asyncio
from collections import deque


class Gate:
    """Costs next to nothing while nobody waits. Who has entered owes ``leave``."""

    __slots__ = ("_again", "_first", "_held", "_turn_again")

    def __init__(self) -> None:
        self._held = False
        # plain futures: nearly every request waits here, and anyio's events cost several times as much
        self._again: deque[asyncio.Future[None]] = deque()
        self._first: deque[asyncio.Future[None]] = deque()
        # whose turn it is when both wait
        self._turn_again = True

    @property
    def busy(self) -> bool:
        """Somebody is in it, so others have to wait."""
        return self._held

    async def enter(self, *, again: bool) -> None:
        """Wait for one's turn. again: not for the first time, so that a retry need not stand behind all that is new."""
        if not self._held:
            self._held = True
            return
        queue = self._again if again else self._first
        turn = asyncio.get_running_loop().create_future()
        queue.append(turn)
        try:
            await turn
        except BaseException:
            # it may have been given the turn in the same instant
            if not turn.cancelled():
                self.leave()
            raise

    def leave(self) -> None:
        """Let the next one in."""
        while self._again or self._first:
            again = bool(self._again) and (self._turn_again or not self._first)
            turn = (self._again if again else self._first).popleft()
            # else it has been given up, and its task has not come to know yet
            if not turn.done():
                self._turn_again = not again
                turn.set_result(None)
                return
        self._held = False
