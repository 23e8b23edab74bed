"""The four clocks of an exchange, and one timer for all exchanges of a client.

A beat only notes the time. The timer is set for the earliest moment at which any clock could run out, and looks at all of them
then, which is seldom. Nothing is cancelled: who reads is given an error to raise, so bytes that have come are read first, and
what is shielded in the task stays so.
"""

import asyncio
import math
from collections.abc import Awaitable
from time import monotonic
from typing import Literal, Protocol, TypeAlias, TypeVar

from msgspec import Struct

from runner.errors import AttemptError, AttemptTimeoutError, TransportError

Clock: TypeAlias = Literal["connect", "first_byte", "silence", "attempt", "lost"]
"""What ends an exchange: a clock, or the loss of its connection."""

TICK_S = 0.02
"""Between two looks; a thousand clocks that run out one after the other must not cost a thousand looks at all of them."""

T = TypeVar("T")


class Deadlines(Struct, frozen=True, kw_only=True):
    """How long each clock runs, in seconds."""

    connect_s: float = 10.0
    # from the connection to the first byte of the body
    first_byte_s: float = 120.0
    # between two bytes; a ping counts as life
    silence_s: float = 60.0
    # all of it, whatever arrives
    attempt_s: float = 600.0


class Failing(Protocol):
    """What a clock ends: whoever reads from it gets the error."""

    def fail(self, error: AttemptError) -> None:
        """Give the error to the reader, once it has read what is there."""
        ...


class Clocks:
    """The watches of a client, and their timer."""

    def __init__(self, deadlines: Deadlines) -> None:
        self.deadlines = deadlines
        self._watches: set[Watch] = set()
        self._timer: asyncio.TimerHandle | None = None
        # when the timer is set for
        self._set_for = math.inf

    def add(self, watch: "Watch") -> None:
        """Look after a watch."""
        self._watches.add(watch)
        self.expect(watch.due)

    def remove(self, watch: "Watch") -> None:
        """Look after it no longer. The timer stays: most often there is another watch by then."""
        self._watches.discard(watch)

    def expect(self, due: float) -> None:
        """See to it that the timer is set for then, or earlier."""
        if due < self._set_for:
            self._set(due)

    def close(self) -> None:
        """Stop the timer."""
        if self._timer is not None:
            self._timer.cancel()

    def _set(self, due: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._set_for = due
        self._timer = asyncio.get_running_loop().call_later(max(0.0, due - monotonic()), self._look)

    def _look(self) -> None:
        self._timer, self._set_for = None, math.inf
        # a timer may fire a clock tick early
        now = monotonic() + 0.001
        for watch in [watch for watch in self._watches if watch.due <= now]:
            watch.expire()
        if self._watches:
            self._set(max(min(watch.due for watch in self._watches), now + TICK_S))


class Watch:
    """The clocks of one exchange: ``connected`` bounds the way to a connection, then ``follow`` watches what is read from it."""

    __slots__ = ("_began", "_clocks", "_end", "_limit", "_line", "_phase", "_since")

    def __init__(self, clocks: Clocks) -> None:
        self._clocks = clocks
        self._began = self._since = monotonic()
        self._end = self._began + clocks.deadlines.attempt_s
        self._phase: Clock = "connect"
        self._limit = clocks.deadlines.connect_s
        self._line: Failing | None = None

    @property
    def age_s(self) -> float:
        """Seconds since the exchange began."""
        return monotonic() - self._began

    @property
    def due(self) -> float:
        """When the first clock runs out, if no sign of life comes."""
        return min(self._since + self._limit, self._end)

    async def connected(self, connecting: Awaitable[T]) -> T:
        """Wait for a connection; raise AttemptTimeoutError when it takes too long."""
        try:
            async with asyncio.timeout(self.due - self._since) as limit:
                return await connecting
        except TimeoutError:
            if not limit.expired():
                raise
            raise self._error(sent=False) from None

    def follow(self, line: Failing) -> None:
        """The connection is there: watch it, from the request to the first byte."""
        self._line = line
        self._phase, self._limit = "first_byte", self._clocks.deadlines.first_byte_s
        self._since = monotonic()
        self._clocks.add(self)

    def began(self) -> None:
        """The first byte is there: from now on silence counts."""
        if self._phase == "first_byte":
            self._phase, self._limit = "silence", self._clocks.deadlines.silence_s
            self._since = monotonic()
            self._clocks.expect(self.due)

    def beat(self) -> None:
        """Note a sign of life."""
        self._since = monotonic()

    def lose(self, after_s: float) -> None:
        """End the exchange a little later, unless it ends by itself: its connection is gone."""
        if self._line is not None:
            self._phase, self._limit = "lost", after_s
            self._since = monotonic()
            self._clocks.expect(self.due)

    def close(self) -> None:
        """Stop all clocks."""
        self._line = None
        self._clocks.remove(self)

    def expire(self) -> None:
        """End the exchange: a clock has run out."""
        line = self._line
        error = self._error(sent=True)
        self.close()
        if line is not None:
            line.fail(error)

    def _error(self, *, sent: bool) -> AttemptError:
        clock = "attempt" if self._end <= self._since + self._limit else self._phase
        match clock:
            case "lost":
                return TransportError("the connection broke in the middle of the answer", code="cut")
            case "connect":
                words = f"no connection within {self._limit:g} s"
            case "first_byte":
                words = f"no first byte within {self._limit:g} s"
            case "silence":
                words = f"the answer stalled: no byte for {self._limit:g} s"
            case _:
                words = f"the answer was not finished within {self._clocks.deadlines.attempt_s:g} s"
        return AttemptTimeoutError(words, clock=clock, sent=sent)
