"""A bounded queue between tasks, on which a wake-up serves many things and not one.

Its one rule: whoever finds the queue full waits until half of it is free, so that the two ends do not take turns for each thing.
"""

from collections import deque
from typing import Generic, TypeVar

import anyio

T = TypeVar("T")


class BoundedQueue(Generic[T]):
    """What is put on comes off in the same order, also after ``close``. room: how much it holds."""

    __slots__ = ("_closed", "_room", "_space", "_things", "_waiting")

    def __init__(self, room: int) -> None:
        self._room = room
        self._closed = False
        self._things: deque[T] = deque()
        # who waits for a thing, each for one; who waits for space wait together
        self._waiting: deque[anyio.Event] = deque()
        self._space: anyio.Event | None = None

    def __len__(self) -> int:
        return len(self._things)

    @property
    def waited_for(self) -> bool:
        """Somebody waits for a thing."""
        return bool(self._waiting)

    @property
    def over(self) -> bool:
        """It is closed, and all has been taken."""
        return self._closed and not self._things

    def offer(self, thing: T) -> bool:
        """Put a thing on if there is room; tell whether it was."""
        if len(self._things) >= self._room:
            return False
        self._things.append(thing)
        self._wake()
        return True

    async def put(self, thing: T) -> None:
        """Put a thing on; wait until half the queue is free when it is full."""
        while not self.offer(thing):
            if self._space is None:
                self._space = anyio.Event()
            await self._space.wait()

    async def wait(self) -> bool:
        """Wait until there is something; False when nothing comes any more."""
        while not self._things:
            if self._closed:
                return False
            ticket = anyio.Event()
            self._waiting.append(ticket)
            try:
                await ticket.wait()
            except BaseException:
                if ticket.is_set():
                    # what it was woken for is another one's now
                    self._wake()
                else:
                    self._waiting.remove(ticket)
                raise
        return True

    def take(self, most: int) -> list[T]:
        """Take what is there."""
        things = self._things
        taken = [things.popleft() for _ in range(min(most, len(things)))]
        if self._space is not None and len(things) <= self._room // 2:
            self._space.set()
            self._space = None
        return taken

    def close(self) -> None:
        """Say that nothing comes any more."""
        self._closed = True
        while self._waiting:
            self._wake()

    def _wake(self) -> None:
        if self._waiting:
            self._waiting.popleft().set()
