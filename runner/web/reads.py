"""Reads the store for the routes: in threads, a few at a time, and what takes long is kept as long as it holds."""

import asyncio
import threading
import time
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any, TypeVar

import anyio
import anyio.to_thread
from msgspec import Struct
from starlette.requests import Request

from runner.errors import RunnerError

T = TypeVar("T")

AT_ONCE = 4
"""Threads that read."""
_AGAIN_S = 1.0
"""While a run writes, what was read holds for so many seconds at least."""
_PATIENCE = 20
"""And for so many times as long as it took to read: so reading takes a twentieth of the time, at most."""
_SLOW_S = 0.05
"""What takes longer is read anew in the background while the former answer is told, for as long again."""
_MOST_KEPT, _MOST_LOCKS = 64, 1_000


class _Kept(Struct):
    value: Any
    state: Hashable
    at: float
    took_s: float

    @property
    def age(self) -> float:
        """Seconds since it was read."""
        return time.monotonic() - self.at

    @property
    def holds_s(self) -> float:
        """Seconds for which it holds whatever is written."""
        return max(_AGAIN_S, _PATIENCE * self.took_s)


class Reads:
    """Reads one store."""

    def __init__(self, store: Path) -> None:
        self.store = store
        self._limiter, self._reading = anyio.CapacityLimiter(AT_ONCE), 0
        # set while nothing is being read
        self.quiet = asyncio.Event()
        self.quiet.set()
        self._kept: dict[Hashable, _Kept] = {}
        self._locks: dict[Hashable, anyio.Lock] = {}
        # what is read in the background
        self._anew: dict[Hashable, asyncio.Task[None]] = {}
        self._one_thread = threading.Lock()

    @property
    def is_there(self) -> bool:
        """False as long as the first run has not begun."""
        return self.store.is_file() and self.store.stat().st_size > 0

    async def now(self, read: Callable[[], T]) -> T:
        """Return what is read in a thread."""
        self._reading += 1
        self.quiet.clear()
        try:
            return await anyio.to_thread.run_sync(read, limiter=self._limiter)
        finally:
            self._reading -= 1
            if not self._reading:
                self.quiet.set()

    async def kept(self, key: Hashable, read: Callable[[], T]) -> T:
        """Return what is read in a thread, or what was read before, as long as that holds."""
        known = self._kept.get(key)
        if known is not None and known.took_s > _SLOW_S and known.age < 2 * known.holds_s:
            if not self._holds(known) and key not in self._anew:
                self._anew[key] = asyncio.create_task(self._again(key, read))
            stale: T = known.value
            return stale
        return await self._read(key, read)

    async def _read(self, key: Hashable, read: Callable[[], T]) -> T:
        if len(self._locks) > _MOST_LOCKS:
            # whoever has one keeps it
            self._locks.clear()
        async with self._locks.setdefault(key, anyio.Lock()):
            known = self._kept.get(key)
            if known is None or not self._holds(known):
                state, began = state_of(self.store), time.monotonic()
                known = self._keep(key, await self.now(read), state, began)
            found: T = known.value
            return found

    def kept_in_thread(self, key: Hashable, read: Callable[[], T]) -> T:
        """Do what ``kept`` does for who is in a thread that reads."""
        with self._one_thread:
            known = self._kept.get(key)
            if known is None or not self._holds(known):
                state, began = state_of(self.store), time.monotonic()
                known = self._keep(key, read(), state, began)
            found: T = known.value
            return found

    def _keep(self, key: Hashable, value: object, state: Hashable, began: float) -> _Kept:
        if len(self._kept) >= _MOST_KEPT:
            self._kept.clear()
        now = time.monotonic()
        self._kept[key] = known = _Kept(value, state, now, now - began)
        return known

    async def _again(self, key: Hashable, read: Callable[[], object]) -> None:
        """Read in the background. An error is told to whoever asks when the former answer is too old."""
        try:
            await self._read(key, read)
        except (RunnerError, OSError):
            return
        finally:
            del self._anew[key]

    def _holds(self, known: _Kept) -> bool:
        return known.age < known.holds_s or known.state == state_of(self.store)


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
