"""Reads the store for the routes: in threads, a few at a time, and what takes long is kept as long as it holds."""

import time
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any, TypeVar

import anyio
import anyio.to_thread
from msgspec import Struct
from starlette.requests import Request

T = TypeVar("T")

AT_ONCE = 4
"""Threads that read."""
_AGAIN_S = 1.0
"""While a run writes, what was read holds for so many seconds at least."""
_PATIENCE = 20
"""And for so many times as long as it took to read: so reading takes a twentieth of the time, at most."""
_MOST_KEPT, _MOST_LOCKS = 64, 1_000


class _Kept(Struct):
    value: Any
    state: Hashable
    at: float
    took_s: float


class Reads:
    """Reads one store."""

    def __init__(self, store: Path) -> None:
        self.store = store
        self._limiter = anyio.CapacityLimiter(AT_ONCE)
        self._kept: dict[Hashable, _Kept] = {}
        self._locks: dict[Hashable, anyio.Lock] = {}

    @property
    def is_there(self) -> bool:
        """False as long as the first run has not begun."""
        return self.store.is_file() and self.store.stat().st_size > 0

    async def now(self, read: Callable[[], T]) -> T:
        """Return what is read in a thread."""
        return await anyio.to_thread.run_sync(read, limiter=self._limiter)

    async def kept(self, key: Hashable, read: Callable[[], T]) -> T:
        """Return what is read in a thread, or what was read before, as long as that holds."""
        if len(self._locks) > _MOST_LOCKS:
            # whoever has one keeps it
            self._locks.clear()
        async with self._locks.setdefault(key, anyio.Lock()):
            known = self._kept.get(key)
            if known is None or not self._holds(known):
                state, began = state_of(self.store), time.monotonic()
                value = await self.now(read)
                took = time.monotonic() - began
                if len(self._kept) >= _MOST_KEPT:
                    self._kept.clear()
                self._kept[key] = known = _Kept(value, state, time.monotonic(), took)
            found: T = known.value
            return found

    def _holds(self, known: _Kept) -> bool:
        return time.monotonic() - known.at < max(_AGAIN_S, _PATIENCE * known.took_s) or known.state == state_of(self.store)


def state_of(store: Path) -> Hashable:
    """Return something that changes whenever a store does."""
    return tuple(_mark(path) for path in (store, store.with_name(f"{store.name}-wal")))


def _mark(path: Path) -> Hashable:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


def reads_of(request: Request) -> Reads:
    """Return what reads the store."""
    found: Reads = request.app.state.reads
    return found
