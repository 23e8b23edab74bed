"""One request at a worker, as its driver sees it: what is heard of it, and how it ends."""

import asyncio
from collections.abc import Callable, Mapping

from runner.errors import AttemptError, ProviderError, StreamError
from runner.interfaces import Decoder, Heard
from runner.model import HttpCall, ServerSentEvent, Stage
from runner.passing import PassingDecoder
from runner.workers.faults import error_of
from runner.workers.held import HeldDecoder
from runner.workers.protocol import Done, Piece, Said

Refuse = Callable[[int, Mapping[str, str], bytes], ProviderError]
Offer = Callable[[Decoder, "RemoteExchange", Callable[[bool], None]], bool]
"""Offers a complete answer that has come late to its row, and returns False if that does not take it.

The last argument is called later, if it is taken: with True once it is saved as the answer of the row, with False if another
one is.
"""


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
    that is on the books, and whose usage is what this request has used, if that is known one day. offer: to the row of it.
    """

    __slots__ = (
        "_behind", "_decoder", "_ended", "_exchange", "_failure", "_inner", "_waiter",
        "call", "cancelled", "number", "of", "offer", "whole",
    )  # fmt: skip

    def __init__(self, call: HttpCall, decoder: Decoder, exchange: RemoteExchange) -> None:
        self.call, self._decoder, self._exchange = call, decoder, exchange
        self._inner = decoder.inner if isinstance(decoder, PassingDecoder) else decoder
        # True once nobody looks at the answer any more, and it is still decoded: for what it has cost
        self._behind = False
        self.number = 0
        self.whole = self._ended = False
        self._failure: AttemptError | Exception | Done | None = None
        # True if the driver has told the worker to end it
        self.cancelled = False
        self._waiter: asyncio.Future[None] | None = None
        self.of: tuple[str, int] | None = None
        self.offer: Offer | None = None

    @property
    def watched(self) -> bool:
        """True if the events of the answer are needed here."""
        return self._inner.watched if isinstance(self._inner, HeldDecoder) else True

    @property
    def ended_early(self) -> bool:
        """True if who looks at the answer has ended it, as it is of no use."""
        return isinstance(self._failure, AttemptError) and self._failure.early

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

    async def over(self, loop: asyncio.AbstractEventLoop) -> None:
        """Wait for its end. loop: the one that runs, as it takes a system call to find that."""
        while not self._ended:
            self._waiter = loop.create_future()
            await self._waiter

    def heard(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        """Record that the answer has begun."""
        exchange = self._exchange
        exchange.status = status
        if exchange.heard is not None:
            exchange.heard(status, headers)

    def take(self, piece: Piece) -> bool:
        """Take a piece of an answer that is watched. Return False if that has ended the answer."""
        if self._failure is not None:
            self.take_behind(piece)
            return True
        try:
            _feed(self._decoder, piece)
        except StreamError as error:
            # the worker has seen the same, and says how the answer ends; what ends it early, it does not see
            if error.early or not piece.doubtful:
                self._failure, self._behind = error, error.early
        except Exception as error:  # noqa: BLE001 - raised where the answer is waited for
            self._failure = error
        return self._failure is None

    def take_behind(self, piece: Piece) -> None:
        """Take a piece that was on its way when the answer was ended early, or when its worker was lost. Nobody looks at it."""
        if not self._behind:
            return
        try:
            _feed(self._inner, piece)
        except Exception:  # noqa: BLE001 - why it has failed is known already
            self._behind = piece.doubtful

    def say(self, said: Said) -> None:
        """Take what the answer says, if nobody else here knows."""
        if isinstance(self._decoder, HeldDecoder):
            self._decoder.say(said)

    def told(self, done: Done) -> None:
        """Record what the worker says of the exchange."""
        exchange = self._exchange
        exchange.connected, exchange.tail_lost, exchange.bytes_received = done.connected, done.tail_lost, done.received
        exchange.status, exchange.time_to_first_token_s, exchange.answered_s = done.status, done.first_s, done.answered_s
        if isinstance(self._inner, HeldDecoder):
            self._inner.put(done)

    def done(self, done: Done) -> None:
        """Record how the exchange has ended."""
        self.told(done)
        if self._behind and (self._inner.complete if done.whole else done.is_ended and self._inner.stage >= Stage.WHOLE):
            # all of it had come when it was ended early: it is looked at as a whole, as any other
            self._is_whole(tail_lost=done.tail_lost if done.whole else not self._inner.ended)
            return
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
        """Record that nobody knows what comes of it: its worker is lost. It may have been billed if it was sent.

        An answer that is watched may be here as a whole: then it is as if its connection had broken.
        """
        if (self._failure is None or self._behind) and self.watched and self._inner.stage >= Stage.WHOLE:
            self._is_whole(tail_lost=not self._inner.ended)
            return
        error = AttemptError(words, code="worker_lost", sent=sent)
        # it goes out again at once, and counts against nothing
        error.mended, error.booked = True, self._booked
        self._behind = self._behind or (self._failure is None and self.watched)
        self._failure = self._failure or error
        self._end()

    def _is_whole(self, *, tail_lost: bool) -> None:
        self._failure, self.whole, self._exchange.tail_lost = None, True, tail_lost
        self._end()

    def offered(self, used: Callable[[bool], None]) -> bool:
        """Offer an answer that has come late to its row. used: see ``Offer``. Return False if that does not take it."""
        if self.offer is None or not self._inner.complete or (self.watched and not self._behind):
            return False
        return self.offer(self._inner, self._exchange, used)

    def _booked(self, key: str, number: int, offer: Offer) -> None:
        self.of, self.offer = (key, number), offer

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


def _feed(decoder: Decoder, piece: Piece) -> None:
    if piece.whole is not None:
        decoder.whole(piece.whole)
    else:
        decoder.feed_all([ServerSentEvent(event, data) for event, data in piece.events])
