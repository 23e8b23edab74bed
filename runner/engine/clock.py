"""Time and chance, as one value that is handed in, so that a test can run hours in virtual time and draw the same twice."""

import time
from collections.abc import Awaitable, Callable
from random import Random

import anyio
from msgspec import Struct, field


class Clock(Struct, frozen=True, kw_only=True):
    """What the engine knows of time and chance."""

    # seconds that never jump; differences count, the value itself means nothing
    monotonic: Callable[[], float] = time.monotonic
    # UTC seconds since the epoch, for what people read
    wall: Callable[[], float] = time.time
    # waits so many seconds
    sleep: Callable[[float], Awaitable[None]] = anyio.sleep
    # draws the jitter of waits; no secret depends on it
    random: Random = field(default_factory=Random)
