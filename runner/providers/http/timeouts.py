"""The four timeouts of an exchange, and one timer for all exchanges of a client.

When bytes arrive, a watch only stores the time. The timer is set for the earliest time at which a timeout could expire, and
checks all watches then, which is rare. No task is cancelled: the connection raises an error in its reader. So bytes that have
arrived are read first, and code under a shield is not interrupted.
"""

import asyncio
import math
from collections.abc import Awaitable
from time import monotonic
from typing import Literal, Protocol, TypeAlias, TypeVar

from msgspec import Struct

from runner.errors import AttemptError, AttemptTimeoutError, TransportError

TimeoutKind: TypeAlias = Literal["connect", "first_byte", "silence", "attempt", "lost"]
"""What ends an exchange: one of the four timeouts, or the loss of its connection."""

TICK_S = 0.02
"""Seconds between two checks at least: a thousand timeouts one after the other must not cost a thousand checks of all watches."""

T = TypeVar("T")


class Timeouts(Struct, frozen=True, kw_only=True):
    """The four timeouts, in seconds."""

    connect_s: float = 10.0
    # from having a connection to the first byte of the body
    first_byte_s: float = 120.0
    # between two reads of bytes; a ping restarts it
    silence_s: float = 60.0
    # the whole exchange, whatever arrives
    attempt_s: float = 600.0


class Failing(Protocol):
    """A connection whose exchange a timeout can end."""

    def fail(self, error: AttemptError) -> None:
        """Raise the error in the reader, after the bytes that have arrived."""
        ...


class TimeoutTimer:
    """Holds the watches of a client's exchanges, and ends those whose timeout has expired."""

    def __init__(self, timeouts: Timeouts) -> None:
        self.timeouts = timeouts
        self._watches: set[Watch] = set()
        self._handle: asyncio.TimerHandle | None = None
        # when the timer will fire
        self._set_for = math.inf

    def add(self, watch: "Watch") -> None:
        """Begin to check a watch."""
        self._watches.add(watch)
        self.expect(watch.due)

    def remove(self, watch: "Watch") -> None:
        """Stop checking a watch. The timer stays set, as there is usually another watch by the time it fires."""
        self._watches.discard(watch)

    def expect(self, due: float) -> None:
        """Make sure that the timer fires at ``due`` or earlier."""
        if due < self._set_for:
            self._set(due)

    def close(self) -> None:
        """Stop the timer."""
        if self._handle is not None:
            self._handle.cancel()

    def _set(self, due: float) -> None:
        if self._handle is not None:
            self._handle.cancel()
        self._set_for = due
        self._handle = asyncio.get_running_loop().call_later(max(0.0, due - monotonic()), self._check)

    def _check(self) -> None:
        self._handle, self._set_for = None, math.inf
        # a timer may fire up to a tick of the event loop's clock early
        now = monotonic() + 0.001
        for watch in [watch for watch in self._watches if watch.due <= now]:
            watch.expire()
        if self._watches:
            self._set(max(min(watch.due for watch in self._watches), now + TICK_S))


class Watch:
    """The timeouts of one exchange: ``connected`` limits the wait for a connection, then ``follow`` watches the connection."""

    __slots__ = ("_began", "_connection", "_end", "_limit", "_phase", "_since", "_timer")

    def __init__(self, timer: TimeoutTimer) -> None:
        self._timer = timer
        self._began = self._since = monotonic()
        self._end = self._began + timer.timeouts.attempt_s
        self._phase: TimeoutKind = "connect"
        self._limit = timer.timeouts.connect_s
        self._connection: Failing | None = None

    @property
    def age_s(self) -> float:
        """Seconds since the exchange began."""
        return monotonic() - self._began

    @property
    def due(self) -> float:
        """When the next timeout expires if no byte arrives, in seconds of the monotonic clock."""
        return min(self._since + self._limit, self._end)

    async def connected(self, connecting: Awaitable[T]) -> T:
        """Wait for a connection. Raises AttemptTimeoutError if it takes too long."""
        try:
            async with asyncio.timeout(self.due - self._since) as limit:
                return await connecting
        except TimeoutError:
            if not limit.expired():
                raise
            raise self._error(sent=False) from None

    def follow(self, connection: Failing) -> None:
        """Watch a connection, first with the timeout for the first byte."""
        self._connection = connection
        self._phase, self._limit = "first_byte", self._timer.timeouts.first_byte_s
        self._since = monotonic()
        self._timer.add(self)

    def began(self) -> None:
        """Switch to the silence timeout: the first byte has arrived."""
        if self._phase == "first_byte":
            self._phase, self._limit = "silence", self._timer.timeouts.silence_s
            self._since = monotonic()
            self._timer.expect(self.due)

    def beat(self) -> None:
        """Restart the silence timeout: bytes have arrived."""
        self._since = monotonic()

    def lose(self, after_s: float) -> None:
        """End the exchange after ``after_s`` seconds unless it ends before: its connection is lost."""
        if self._connection is not None:
            self._phase, self._limit = "lost", after_s
            self._since = monotonic()
            self._timer.expect(self.due)

    def close(self) -> None:
        """Stop all timeouts of the exchange."""
        self._connection = None
        self._timer.remove(self)

    def expire(self) -> None:
        """End the exchange: a timeout has expired."""
        connection = self._connection
        error = self._error(sent=True)
        self.close()
        if connection is not None:
            connection.fail(error)

    def _error(self, *, sent: bool) -> AttemptError:
        kind: TimeoutKind = "attempt" if self._end <= self._since + self._limit else self._phase
        match kind:
            case "lost":
                return TransportError("the connection broke in the middle of the answer", code="cut")
            case "connect":
                message = f"no connection within {self._limit:g} s"
            case "first_byte":
                message = f"no first byte within {self._limit:g} s"
            case "silence":
                message = f"the answer stalled: no byte for {self._limit:g} s"
            case _:
                message = f"the answer was not finished within {self._timer.timeouts.attempt_s:g} s"
        return AttemptTimeoutError(message, timeout=kind, sent=sent)
