"""A bounded queue between tasks, in which one wake-up serves many elements.

A producer that finds the queue full waits until half of it is free. Otherwise producer and consumer would take turns for every
element.
"""

import asyncio
from collections import deque
from typing import Generic, TypeVar

import anyio

T = TypeVar("T")


class BoundedQueue(Generic[T]):
    """First in, first out. Elements can still be taken after ``close``. capacity: how many elements the queue holds."""

    __slots__ = ("_capacity", "_closed", "_elements", "_space", "_waiting")

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._closed = False
        self._elements: deque[T] = deque()
        # one for each consumer that waits, a plain future: an event of anyio costs several times as much. All producers share one
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._space: anyio.Event | None = None

    def __len__(self) -> int:
        return len(self._elements)

    @property
    def has_waiters(self) -> bool:
        """True if a consumer waits for an element."""
        return bool(self._waiting)

    @property
    def drained(self) -> bool:
        """True once the queue is closed and empty."""
        return self._closed and not self._elements

    def offer(self, element: T) -> bool:
        """Put an element on the queue if there is room. Return True if it was put there."""
        if len(self._elements) >= self._capacity:
            return False
        self._elements.append(element)
        self._wake()
        return True

    async def put(self, element: T) -> None:
        """Put an element on the queue. If the queue is full, first wait until half of it is free."""
        while not self.offer(element):
            if self._space is None:
                self._space = anyio.Event()
            await self._space.wait()

    async def wait(self) -> bool:
        """Wait for an element. Return False if the queue is closed and empty."""
        while not self._elements:
            if self._closed:
                return False
            ticket = asyncio.get_running_loop().create_future()
            self._waiting.append(ticket)
            try:
                await ticket
            except BaseException:
                if ticket in self._waiting:
                    self._waiting.remove(ticket)
                elif not ticket.cancelled():
                    # the element for which this consumer was woken goes to another one
                    self._wake()
                raise
        return True

    def take(self, most: int) -> list[T]:
        """Take up to ``most`` elements, without waiting."""
        elements = self._elements
        taken = [elements.popleft() for _ in range(min(most, len(elements)))]
        self._make_room()
        return taken

    def take_one(self) -> T:
        """Take an element, without waiting. There is one."""
        taken = self._elements.popleft()
        if self._space is not None:
            self._make_room()
        return taken

    def _make_room(self) -> None:
        if self._space is not None and len(self._elements) <= self._capacity // 2:
            self._space.set()
            self._space = None

    def close(self) -> None:
        """End the queue: no further element will be put on it."""
        self._closed = True
        while self._waiting:
            self._wake()

    def _wake(self) -> None:
        while self._waiting:
            ticket = self._waiting.popleft()
            # a done one belongs to a cancelled consumer that has not run since
            if not ticket.done():
                ticket.set_result(None)
                return
