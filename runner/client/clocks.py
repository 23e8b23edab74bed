"""The four clocks of one exchange, on one timer.

A beat only notes the time; the timer looks when it fires and goes on if there is time left, so a chunk costs next to nothing.
"""

import asyncio
import time
from typing import Literal, TypeAlias

import anyio
from msgspec import Struct

Clock: TypeAlias = Literal["connect", "first_byte", "silence", "attempt", "lost"]
"""What ended an exchange: a clock, or the loss of its connection."""


class Deadlines(Struct, frozen=True, kw_only=True):
    """How long each clock runs, in seconds."""

    connect_s: float = 10.0
    # from the connection to the first byte of the body
    first_byte_s: float = 120.0
    # between two bytes; a ping counts as life
    silence_s: float = 60.0
    # all of it, whatever arrives
    attempt_s: float = 600.0


class Watch:
    """Cancels a scope when one of the clocks runs out; ``expired`` names it."""

    __slots__ = (
        "_began",
        "_deadlines",
        "_due",
        "_end",
        "_handle",
        "_limit",
        "_loop",
        "_phase",
        "_scope",
        "_since",
        "expired",
    )

    def __init__(self, deadlines: Deadlines, scope: anyio.CancelScope) -> None:
        self._deadlines, self._scope = deadlines, scope
        self._loop = asyncio.get_running_loop()
        self._began = time.monotonic()
        self._since = self._loop.time()
        self._end = self._since + deadlines.attempt_s
        self._phase: Clock = "connect"
        self._limit = deadlines.connect_s
        self.expired: Clock | None = None
        self._due = min(self._since + self._limit, self._end)
        self._handle = self._loop.call_at(self._due, self._look)

    @property
    def age_s(self) -> float:
        """Seconds since the exchange began."""
        # uvloop's clock stands still within a turn of the loop and counts milliseconds
        return time.monotonic() - self._began

    def beat(self) -> None:
        """Note a sign of life."""
        self._since = self._loop.time()

    def enter(self, phase: Literal["first_byte", "silence"]) -> None:
        """Let another clock run."""
        self._phase = phase
        self._limit = self._deadlines.first_byte_s if phase == "first_byte" else self._deadlines.silence_s
        self._since = self._loop.time()
        if min(self._since + self._limit, self._end) < self._due:
            self._handle.cancel()
            self._arm()

    def lose(self, after_s: float) -> None:
        """End the exchange a little later, unless it ends by itself: its connection is gone."""
        if not self._handle.cancelled():
            self._handle.cancel()
            self._handle = self._loop.call_later(after_s, self._expire, "lost")

    def close(self) -> None:
        """Stop the timer."""
        self._handle.cancel()

    def sentence(self) -> str:
        """Say what ran out."""
        match self.expired:
            case "connect":
                return f"no connection within {self._limit:g} s"
            case "first_byte":
                return f"no first byte within {self._limit:g} s"
            case "silence":
                return f"the answer stalled: no byte for {self._limit:g} s"
            case _:
                return f"the answer was not finished within {self._deadlines.attempt_s:g} s"

    def _arm(self) -> None:
        self._due = min(self._since + self._limit, self._end)
        self._handle = self._loop.call_at(self._due, self._look)

    def _look(self) -> None:
        due = min(self._since + self._limit, self._end)
        # a timer may fire a clock tick early
        if self._loop.time() < due - 0.001:
            self._arm()
            return
        self._expire("attempt" if due == self._end else self._phase)

    def _expire(self, clock: Clock) -> None:
        self.expired = clock
        self._scope.cancel()
