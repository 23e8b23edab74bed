"""Brings the index of rows up to date in the background, in small steps, as long as somebody looks at rows."""

import asyncio
from collections.abc import Hashable
from pathlib import Path

import anyio.to_thread

from runner.errors import RunnerError
from runner.store.row_index import RowIndex
from runner.web.reads import state_of

FOR_S = 600.0
"""Seconds for which the index is kept up to date after somebody has looked at rows."""
_REST = 1.0
"""Rest after a step, for each second that it took."""
_LOOK_S = 0.5
"""Rest where there was nothing to do."""
_SWEEP = 2_000


class Indexing:
    """Keeps the index of one store. It begins when it is wanted for the first time."""

    def __init__(self, store: Path) -> None:
        self.index = RowIndex(store)
        self._store = store
        self._wanted_at = 0.0
        self._task: asyncio.Task[None] | None = None
        self._swept: Hashable = None

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
        # the state of the store that is gone over, and whether that is done
        sweeping: Hashable = None
        while loop.time() - self._wanted_at < FOR_S:
            began, done = loop.time(), 0
            try:
                done = await anyio.to_thread.run_sync(self.index.step)
                now = state_of(self._store)
                if not done and now != self._swept:
                    sweeping = now if sweeping is None else sweeping
                    if await anyio.to_thread.run_sync(self.index.sweep, _SWEEP):
                        self._swept, sweeping = sweeping, None
            except (RunnerError, OSError):
                # a store that is locked or full for a moment, or gone; searches say how far the index is
                await asyncio.sleep(5 * _LOOK_S)
            took = loop.time() - began
            await asyncio.sleep(_REST * took if done else max(_LOOK_S, took))
