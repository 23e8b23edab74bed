"""Brings the index of rows up to date in the background, in small steps, as long as somebody looks at rows."""

import asyncio
import time
from collections.abc import Callable, Hashable
from functools import partial
from typing import TypeVar

import anyio
import anyio.to_thread

from runner.errors import RunnerError
from runner.store.row_index import RowIndex
from runner.web.reads import Reads, state_of

T = TypeVar("T")

FOR_S = 600.0
"""Seconds for which the index is kept up to date after somebody has looked at rows."""
_REST = 1.0
"""Rest after a step, for each second that it took."""
_LOOK_S = 0.5
"""Rest where there was nothing to do."""
_SWEEP, _SWEEPS = 200, 10
"""Rows that are gone over at once, for which a page may have to wait, and how often that is done before a rest."""
_GIVES_WAY_S = 0.25
"""Seconds that a step waits, at most, for pages that are being read: it would slow them down."""


class Indexing:
    """Keeps the index of one store. It begins when it is wanted for the first time. reads: those for which it makes way."""

    def __init__(self, reads: Reads) -> None:
        self.index = RowIndex(reads.store)
        self._reads, self._store = reads, reads.store
        self._wanted_at = 0.0
        # seconds of the steps since it has rested
        self._took_s = 0.0
        self._task: asyncio.Task[None] | None = None
        # the states of the store that all rows have been gone over in, and that they are being gone over in
        self._swept: Hashable = None
        self._sweeping: Hashable = None

    def wanted(self) -> None:
        """Keep the index up to date from now on, for a while."""
        self._wanted_at = asyncio.get_running_loop().time()
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._keep())

    async def aclose(self) -> None:
        """End: the step that is under way is the last one."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _keep(self) -> None:
        loop = asyncio.get_running_loop()
        while loop.time() - self._wanted_at < FOR_S:
            self._took_s, done = 0.0, 0
            try:
                done = await self._step(self.index.step)
                if not done:
                    await self._sweep()
            except (RunnerError, OSError):
                # a store that is locked or full for a moment, or gone; searches say how far the index is
                await asyncio.sleep(5 * _LOOK_S)
            await asyncio.sleep(_REST * self._took_s if done else max(_LOOK_S, self._took_s))

    async def _sweep(self) -> None:
        """Go over some of the rows, unless all have been since the store has changed."""
        now = state_of(self._store)
        if now == self._swept:
            return
        self._sweeping = now if self._sweeping is None else self._sweeping
        for _ in range(_SWEEPS):
            if await self._step(partial(self.index.sweep, _SWEEP)):
                self._swept, self._sweeping = self._sweeping, None
                return

    async def _step(self, step: Callable[[], T]) -> T:
        """Do a step in a thread, when no page is being read: both would wait for each other at each turn."""
        with anyio.move_on_after(_GIVES_WAY_S):
            await self._reads.quiet.wait()
        began = time.monotonic()
        try:
            return await anyio.to_thread.run_sync(step)
        finally:
            self._took_s += time.monotonic() - began
