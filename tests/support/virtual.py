"""Virtual time: an event loop that jumps to its next timer, so that waits are exact and take no real time."""

import asyncio
import selectors
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import anyio

T = TypeVar("T")

MOMENT_S = 1e-6
"""Seconds that every turn of the loop takes, as in reality."""


class VirtualTime(asyncio.SelectorEventLoop):
    """A loop whose clock jumps to its next timer instead of waiting for it."""

    def __init__(self) -> None:
        self._now = 1000.0
        super().__init__(_Jump(self))

    def time(self) -> float:
        return self._now


class _Jump(selectors.DefaultSelector):
    def __init__(self, loop: VirtualTime) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is None:
            # without a timer, only an event from outside can wake the loop
            return super().select(None)
        self._loop._now += MOMENT_S + max(timeout, 0.0)
        # what comes from outside is taken before the clock jumps, and not in every turn
        return super().select(0) if timeout > 0 else []


BACKEND: tuple[str, dict[str, Any]] = ("asyncio", {"loop_factory": VirtualTime})
"""The value of the fixture ``anyio_backend`` in a file whose tests run in virtual time."""


def run(main: Callable[[], Awaitable[T]]) -> T:
    """Run a coroutine function in virtual time, outside of a test."""
    return anyio.run(main, backend=BACKEND[0], backend_options=BACKEND[1])
