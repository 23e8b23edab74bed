"""The four timeouts of an exchange, and one timer for all exchanges of a client.

When bytes arrive, a watch only stores the time. The timer is set for the earliest time at which a timeout could expire, and
checks all watches then, which is rare. No task is cancelled: the connection raises an error in its reader. So code under a shield
is not interrupted.

A timeout expires in two looks. At the first one the event loop may not have read what has arrived: some loops run timers first.
So the watch is looked at again a little later, when the loop has read from all connections. If the first look comes much too
late, the process has stood still (stopped by a signal, suspended), and the second look leaves the servers time to be heard.
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

LOOK_S = TICK_S / 2
"""Seconds between the two looks at a watch."""

LATE_S = 1.0
"""A timer that fires so many seconds late shows that the process has stood still."""

LATE_LOOK_S = 5.0
"""Seconds between the two looks when the process has stood still."""

TAIL_S = 5.0
"""Seconds behind a finish reason that a short timeout leaves for the usage and the end mark, at least."""

T = TypeVar("T")


class Timeouts(Struct, frozen=True, kw_only=True):
    """The four timeouts, in seconds."""

    connect_s: float = 10.0
    # from having a connection, or from the last byte, to the first piece of the answer; a model may think for minutes
    first_byte_s: float = 300.0
    # between two reads of bytes behind the first piece; a ping restarts it
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
        self._handle: asyncio.Handle | None = None
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
        self._handle = asyncio.get_running_loop().call_later(max(0.0, due - monotonic()), self._fire)

    def _fire(self) -> None:
        # behind the tasks that have been woken by bytes
        self._handle = asyncio.get_running_loop().call_soon(self._check)

    def _check(self) -> None:
        # a timer may fire up to a tick of the event loop's clock early
        now = monotonic() + 0.001
        late = now - self._set_for > LATE_S
        self._handle, self._set_for = None, math.inf
        for watch in [watch for watch in self._watches if watch.due <= now]:
            watch.look(now + (LATE_LOOK_S if late else LOOK_S), first=late)
        if self._watches:
            self._set(max(min(watch.due for watch in self._watches), now + LOOK_S))


class Watch:
    """The timeouts of one exchange: ``connected`` limits the wait for a connection, then ``follow`` watches the connection.

    timeouts: None: those of the timer.
    """

    __slots__ = (
        "_again",
        "_began",
        "_connection",
        "_end",
        "_extended",
        "_followed",
        "_limit",
        "_looked",
        "_phase",
        "_since",
        "_timeouts",
        "_timer",
    )

    def __init__(self, timer: TimeoutTimer, timeouts: Timeouts | None = None) -> None:
        self._timer, self._timeouts = timer, timeouts or timer.timeouts
        self._began = self._since = monotonic()
        self._end = self._began + self._timeouts.attempt_s
        self._phase: TimeoutKind = "connect"
        self._limit = self._timeouts.connect_s
        self._connection: Failing | None = None
        # the attempt has got its seconds for the tail
        self._extended = False
        # when the connection began to be watched
        self._followed = 0.0
        # the deadline that a first look has found exceeded, and when the second look is
        self._looked = self._again = -math.inf

    @property
    def age_s(self) -> float:
        """Seconds since the exchange began."""
        return monotonic() - self._began

    @property
    def deadline(self) -> float:
        """When the next timeout expires if no byte arrives, in seconds of the monotonic clock."""
        return min(self._since + self._limit, self._end)

    @property
    def due(self) -> float:
        """When the watch is to be looked at."""
        deadline = self.deadline
        return self._again if self._looked == deadline else deadline

    async def connected(self, connecting: Awaitable[T]) -> T:
        """Wait for a connection. Raises AttemptTimeoutError if it takes too long."""
        try:
            async with asyncio.timeout(self.deadline - self._since) as limit:
                return await connecting
        except TimeoutError:
            if not limit.expired():
                raise
            raise self._error(sent=False) from None

    def follow(self, connection: Failing) -> None:
        """Watch a connection, first with the timeout for the first byte."""
        self._connection = connection
        self._phase, self._limit = "first_byte", self._timeouts.first_byte_s
        self._since = self._followed = monotonic()
        self._timer.add(self)

    def began(self) -> None:
        """Switch to the silence timeout: the first piece of the answer has arrived."""
        if self._phase == "first_byte":
            self._phase, self._limit = "silence", self._timeouts.silence_s
            self._since = monotonic()
            self._timer.expect(self.due)

    def tail(self) -> None:
        """Leave at least ``TAIL_S`` for what follows a finish reason, once, however short the timeouts are."""
        self.began()
        if self._phase == "silence":
            self._limit = max(self._timeouts.silence_s, TAIL_S)
            if not self._extended:
                self._extended, self._end = True, max(self._end, monotonic() + TAIL_S)

    def reopened(self) -> None:
        """Return to the ordinary silence timeout: text has come behind a finish reason."""
        if self._phase == "silence":
            self._limit = self._timeouts.silence_s
            self._timer.expect(self.due)

    def beat(self) -> None:
        """Restart the timeout of the first piece or of silence: bytes have arrived."""
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

    def look(self, again: float, *, first: bool) -> None:
        """Expire at the second look at the same deadline. again: when the next look is. first: take this one for a first look."""
        deadline = self.deadline
        if self._looked == deadline and not first:
            self.expire()
        else:
            self._looked, self._again = deadline, again

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
                what = "first byte" if self._since == self._followed else "text: no byte"
                message = f"no {what} within {self._limit:g} s"
            case "silence":
                message = f"the answer stalled: no byte for {self._limit:g} s"
            case _:
                message = f"the answer was not finished within {self._timeouts.attempt_s:g} s"
        return AttemptTimeoutError(message, timeout=kind, sent=sent)
