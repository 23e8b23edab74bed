"""One request at a worker, as its driver sees it: what is heard of it, and how it ends."""

import asyncio
from collections.abc import Callable, Mapping

from runner.errors import AttemptError, ProviderError, StreamError
from runner.interfaces import Decoder, Heard
from runner.model import HttpCall, ServerSentEvent, Stage
from runner.workers.faults import error_of
from runner.workers.held import HeldDecoder
from runner.workers.protocol import Done, Piece, Said

Refuse = Callable[[int, Mapping[str, str], bytes], ProviderError]


class RemoteExchange:
    """The state of one exchange that a worker makes. The attributes are those of ``interfaces.Exchange``."""

    __slots__ = (
        "answered_s", "bytes_received", "connected", "fallback", "fresh", "heard", "status", "tail_lost", "time_to_first_token_s",
    )  # fmt: skip

    def __init__(self, *, fresh: bool = False, heard: Heard | None = None, fallback: bool = False) -> None:
        self.fresh, self.heard, self.fallback = fresh, heard, fallback
        self.status: int | None = None
        self.connected = self.tail_lost = False
        self.bytes_received = 0
        self.time_to_first_token_s: float | None = None
        self.answered_s: float | None = None


class Trial:
    """One request that a worker makes, until the driver knows what has come of it.

    whole: there is a complete answer. number: of the request; 0 before it is given to a worker. of: key and number of an attempt
    that is on the books, and whose usage is what this request has used, if that is known one day.
    """

    __slots__ = ("_decoder", "_ended", "_exchange", "_failure", "_waiter", "call", "cancelled", "number", "of", "whole")

    def __init__(self, call: HttpCall, decoder: Decoder, exchange: RemoteExchange) -> None:
        self.call, self._decoder, self._exchange = call, decoder, exchange
        self.number = 0
        self.whole = self._ended = False
        self._failure: AttemptError | Exception | Done | None = None
        # True if the driver has told the worker to end it
        self.cancelled = False
        self._waiter: asyncio.Future[None] | None = None
        self.of: tuple[str, int] | None = None

    @property
    def watched(self) -> bool:
        """True if the events of the answer are needed here."""
        return self._decoder.watched if isinstance(self._decoder, HeldDecoder) else True

    @property
    def fresh(self) -> bool:
        """Use a new connection."""
        return self._exchange.fresh

    @property
    def fallback(self) -> bool:
        """Its row fell back from flex."""
        return self._exchange.fallback

    def sent(self) -> None:
        """Record that it is with a worker, so that it may have reached the server."""
        self._exchange.connected = True

    async def over(self) -> None:
        """Wait for its end."""
        while not self._ended:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter

    def heard(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        """Record that the answer has begun."""
        exchange = self._exchange
        exchange.status = status
        if exchange.heard is not None:
            exchange.heard(status, headers)

    def take(self, piece: Piece) -> bool:
        """Take a piece of an answer that is watched. Return False if that has ended the answer."""
        decoder = self._decoder
        if self._failure is not None:
            return True
        try:
            if piece.whole is not None:
                decoder.whole(piece.whole)
            else:
                decoder.feed_all([ServerSentEvent(event, data) for event, data in piece.events])
        except StreamError as error:
            # the worker has seen the same, and says how the answer ends
            if not piece.doubtful:
                self._failure = error
        except Exception as error:  # noqa: BLE001 - raised where the answer is waited for
            self._failure = error
        return self._failure is None

    def say(self, said: Said) -> None:
        """Take what the answer says, if nobody else here knows."""
        if isinstance(self._decoder, HeldDecoder):
            self._decoder.say(said)

    def done(self, done: Done) -> None:
        """Record how the exchange has ended."""
        exchange = self._exchange
        exchange.connected, exchange.tail_lost, exchange.bytes_received = done.connected, done.tail_lost, done.received
        exchange.status, exchange.time_to_first_token_s, exchange.answered_s = done.status, done.first_s, done.answered_s
        if isinstance(self._decoder, HeldDecoder):
            self._decoder.put(done)
        if self._failure is None and not self.cancelled and done.is_ended:
            self.lost("its worker has ended", sent=done.connected)
            return
        if done.fault is not None or done.refusal is not None:
            self._failure = self._failure or done
        elif self._failure is None and self._decoder.stage is Stage.OPEN:
            self._failure = StreamError("the answer has no finish reason", code="truncated")
        self.whole = self._failure is None
        self._end()

    def lost(self, words: str, *, sent: bool = True) -> None:
        """Record that nobody knows what comes of it: its worker is lost. It may have been billed if it was sent."""
        error = AttemptError(words, code="worker_lost", sent=sent)
        # it goes out again at once, and counts against nothing
        error.mended, error.booked = True, self._booked
        self._failure = self._failure or error
        self._end()

    def _booked(self, key: str, number: int) -> None:
        self.of = key, number

    def _end(self) -> None:
        self._ended = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def result(self, refuse: Refuse) -> None:
        """Raise what the exchange has ended with, unless there is a complete answer. refuse: see ``interfaces.Client``."""
        failure = self._failure
        if isinstance(failure, Done):
            if failure.refusal is not None:
                raise refuse(failure.refusal.status, failure.refusal.headers, failure.refusal.body)
            assert failure.fault is not None
            raise error_of(failure.fault)
        if failure is not None:
            raise failure
