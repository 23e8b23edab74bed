"""What an item knows of its requests that were lost with their workers: one of them may still be answered, while it is open.

That answer has been paid for. So whatever the item waits for then is ended, and a request that is out for it by now.
"""

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import anyio

from runner.engine.stop import Interruptible
from runner.engine.way import Way
from runner.interfaces import Decoder
from runner.model import Attempt, Completion

_NOTHING = nullcontext()


class Came(NamedTuple):
    """An answer that came late. attempt: what is saved of it, but for its number. way: where it was sent.

    decoder: has the answer. used: called once, with True when it has been saved as the answer of its item, with False if another
    one is.
    """

    attempt: Attempt
    completion: Completion
    way: Way
    decoder: Decoder
    used: Callable[[bool], None]


class Lost:
    """The lost requests of one item. came: the answer that one of them got. closed: none is taken any more."""

    def __init__(self) -> None:
        self.came: Came | None = None
        self.closed = False
        self._waits: set[Interruptible] = set()
        self.loop: asyncio.AbstractEventLoop | None = None
        self._sending: anyio.CancelScope | None = None

    @property
    def requested(self) -> bool:
        """True once there is an answer, so that the item has to wait for nothing."""
        return self.came is not None

    def take(self, came: Came) -> None:
        """Take an answer: end the wait of the item, or its request."""
        self.came = came
        for wait in [*self._waits]:
            wait.end()
        if self._sending is not None:
            self._sending.cancel()

    def waits(self) -> Interruptible:
        """Return a context manager for a wait that such an answer ends."""
        return Interruptible(self, self._waits)

    def sending(self) -> anyio.CancelScope:
        """Return the scope of a request that such an answer ends. An item has one at a time."""
        self._sending = anyio.CancelScope()
        if self.came is not None:
            self._sending.cancel()
        return self._sending


def interrupts(lost: Lost | None) -> AbstractContextManager[object]:
    """Return a context manager for a wait that an answer to a lost request ends. lost: None: the item has none."""
    return _NOTHING if lost is None else lost.waits()
