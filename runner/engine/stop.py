"""One event that asks a run to stop, with its reason.

A stop ends every wait that costs nothing (for a slot, for a retry) at once, and gives open requests a grace time.
"""

import asyncio
from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import Self

import anyio

from runner.errors import RunStoppedError


class Stop:
    """The first request decides; later ones change nothing, except that a shorter grace time wins.

    reason: one sentence; None until a stop is requested.
    error: the error that makes further requests pointless; None for any other reason, such as Ctrl-C.
    grace_s: seconds that open requests may still take.
    raised: what the program raised in its observer; its caller gets that when the session has ended.
    """

    def __init__(self) -> None:
        self.reason: str | None = None
        self.error: RunStoppedError | None = None
        self.grace_s = 0.0
        self.raised: BaseException | None = None
        # asks for the stop as a person does, with the reason; whoever counts how often they ask replaces it
        self.ask: Callable[[str], None] = partial(self.request, grace_s=0.0)
        self._event = anyio.Event()
        self._waits: set[Interruptible] = set()

    @property
    def requested(self) -> bool:
        """True once a stop has been requested."""
        return self.reason is not None

    def request(self, reason: str, *, grace_s: float, error: RunStoppedError | None = None) -> None:
        """Ask the run to stop."""
        if self.reason is not None:
            self.grace_s = min(self.grace_s, grace_s)
            return
        self.reason, self.error, self.grace_s = reason, error, grace_s
        self._event.set()
        for wait in self._waits:
            wait.end()

    async def wait(self) -> None:
        """Return when a stop is requested."""
        await self._event.wait()

    def interrupts(self) -> "Interruptible":
        """Return a context manager for a wait that a stop interrupts."""
        return Interruptible(self, self._waits)


class Interruptible:
    """A context manager for one wait of one task, which a stop interrupts. Without a stop, only ``end`` does.

    Works like ``asyncio.timeout``: cancel the task, then uncancel it. Every request has such a wait, and an anyio cancel scope
    costs ten times as much.
    """

    __slots__ = ("_interrupted", "_stop", "_task", "_waits")

    def __init__(self, stop: Stop | None = None, waits: "set[Interruptible] | None" = None) -> None:
        self._stop, self._waits = stop, waits
        self._task: asyncio.Task[object] | None = None
        self._interrupted = False

    def __enter__(self) -> Self:
        self._task = asyncio.current_task()
        if self._waits is not None:
            self._waits.add(self)
        if self._stop is not None and self._stop.requested:
            asyncio.get_running_loop().call_soon(self.end)
        return self

    def end(self) -> None:
        """End the wait, if it has not ended yet."""
        if self._task is not None and not self._interrupted:
            self._interrupted = True
            self._task.cancel()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> bool:
        if self._waits is not None:
            self._waits.discard(self)
        task, self._task = self._task, None
        if not self._interrupted or task is None:
            return False
        task.uncancel()
        # if an anyio scope was cancelled as well, anyio cancels the task again at its next wait
        return isinstance(error, asyncio.CancelledError)
