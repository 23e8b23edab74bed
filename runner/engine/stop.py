"""One event that asks a run to end, with its reason.

It ends every wait that costs nothing (for a slot, for a retry) at once, and gives work in flight a grace time.
"""

import asyncio
from types import TracebackType
from typing import Self

import anyio

from runner.errors import RunStoppedError


class Stop:
    """Asked once; later requests change nothing, except that a shorter grace time wins.

    reason: one sentence, None until asked.
    error: why the provider made going on pointless, None for a options of the user.
    grace_s: seconds that work in flight may still take.
    """

    def __init__(self) -> None:
        self.reason: str | None = None
        self.error: RunStoppedError | None = None
        self.grace_s = 0.0
        self._event = anyio.Event()
        self._waits: set[Interruptible] = set()

    @property
    def requested(self) -> bool:
        """True once somebody asked."""
        return self.reason is not None

    def request(self, reason: str, *, grace_s: float, error: RunStoppedError | None = None) -> None:
        """Ask the run to end."""
        if self.reason is not None:
            self.grace_s = min(self.grace_s, grace_s)
            return
        self.reason, self.error, self.grace_s = reason, error, grace_s
        self._event.set()
        for wait in self._waits:
            wait.end()

    async def wait(self) -> None:
        """Return when somebody has asked."""
        await self._event.wait()

    def interrupts(self) -> "Interruptible":
        """Make the context of a wait that a stop ends."""
        return Interruptible(self, self._waits)


class Interruptible:
    """The context of one wait of one task, which a stop ends.

    By the means of ``asyncio.timeout``, as every request has such a wait and anyio's scope costs ten times as much.
    """

    __slots__ = ("_asked", "_stop", "_task", "_waits")

    def __init__(self, stop: Stop, waits: "set[Interruptible]") -> None:
        self._stop, self._waits = stop, waits
        self._task: asyncio.Task[object] | None = None
        self._asked = False

    def __enter__(self) -> Self:
        self._task = asyncio.current_task()
        self._waits.add(self)
        if self._stop.requested:
            asyncio.get_running_loop().call_soon(self.end)
        return self

    def end(self) -> None:
        """End the wait, if it is still under way."""
        if self._task is not None and not self._asked:
            self._asked = True
            self._task.cancel()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> bool:
        self._waits.discard(self)
        task, self._task = self._task, None
        if not self._asked or task is None:
            return False
        task.uncancel()
        # should it have been cancelled from elsewhere too, anyio says so again at the next wait
        return isinstance(error, asyncio.CancelledError)
