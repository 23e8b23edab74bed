"""Time and randomness as one value that is passed in, so that a test can run hours in virtual time and repeat every draw."""

import time
from collections.abc import Awaitable, Callable
from random import Random

import anyio
from msgspec import Struct, field


class Clock(Struct, frozen=True, kw_only=True):
    """The sources of time and randomness that the engine uses."""

    # seconds on a clock that never jumps; only differences mean anything
    monotonic: Callable[[], float] = time.monotonic
    # UTC seconds since the epoch, for times that people read
    wall: Callable[[], float] = time.time
    # sleeps for a number of seconds
    sleep: Callable[[float], Awaitable[None]] = anyio.sleep
    # draws the jitter of waits; not used for secrets
    random: Random = field(default_factory=Random)
