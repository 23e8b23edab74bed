"""What a worker does: it makes the exchanges that its driver asks for, and gives back what has come of them."""

import asyncio
import json
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from time import monotonic

import anyio
from msgspec import structs

from runner.engine.outcomes import conceal, partial_of
from runner.errors import AttemptError, ProviderError, StreamError, UsageError
from runner.frames import Batch, Link
from runner.interfaces import Decoder
from runner.model import HttpCall, ServerSentEvent
from runner.passing import PassingDecoder
from runner.providers.http import HttpExchange
from runner.text import Redactor
from runner.workers.ends import End, Ends
from runner.workers.faults import fault_of
from runner.workers.looking import Looking
from runner.workers.protocol import FULL_BYTES, Back, Done, Fault, Heard, Piece, Refusal, Route, Said, Tries, Try, encoded
from runner.workers.routes import MOST_ROUTES, filled

READ_S = 0.2
"""Seconds in which a worker that is to end reads what has arrived."""
STEP = 16
"""Exchanges that begin in one turn of the event loop, so that the answers to fewer are read in one turn, and are in the cache of
the core until they are decoded: with 128 open requests a worker took 2 to 6 % less CPU for each than with all in one turn."""
HEADERS_S = 0.1
"""Seconds between two answers whose headers are passed on. Those of a refusal always are."""


class Hands:
    """Makes exchanges. ends: where they go. secrets: values by variable.

    too_late: returns True if the driver may have given to others what this worker has not sent yet.
    """

    def __init__(self, link: Link, ends: Ends, secrets: Mapping[str, str], too_late: Callable[[], bool]) -> None:
        self._link, self._ends, self._secrets, self._too_late = link, ends, secrets, too_late
        self._redactor = Redactor(secrets.values())
        # address, headers and base URL, by number
        self._routes: OrderedDict[int, tuple[str, dict[str, str], str]] = OrderedDict()
        # by number; None: its task has not begun
        self._scopes: dict[int, anyio.CancelScope | None] = {}
        # what is to begin in the next turns, each with its base URL
        self._next: deque[tuple[Try, HttpCall, str]] = deque()
        # those that are to end before they begin
        self._early: set[int] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._batch = Batch(self.flush, link)
        self._heard: list[Heard] = []
        self._pieces: list[Piece] = []
        self._said: list[Said] = []
        self._done: list[Done] = []
        self.looking = Looking(self._redactor, self._say)
        # about how many bytes those are
        self._size = 0
        self._headers_at = 0.0

    @property
    def out(self) -> int:
        """How many exchanges are going on."""
        return len(self._scopes)

    def take(self, tries: Tries) -> None:
        """Begin exchanges."""
        for route in tries.routes:
            self._learn(route)
        beginning = bool(self._next)
        for one in tries.tries:
            # looked up now: later, others may have taken its place
            url, headers, base_url = self._routes[one.route]
            self._next.append((one, HttpCall(url=url, headers=headers, body=one.body), base_url))
            self._scopes[one.number] = None
        if not beginning:
            self._begin_some()

    def _begin_some(self) -> None:
        loop = asyncio.get_running_loop()
        for _ in range(min(STEP, len(self._next))):
            task = loop.create_task(self._make(*self._next.popleft()))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        if self._next:
            loop.call_soon(self._begin_some)

    def refuse(self, tries: Tries) -> None:
        """Give back requests that came too late to be begun: nothing was sent."""
        end = self._ends.first
        for one in tries.tries:
            problem = StreamError("the worker is ending", code="cancelled")
            self._give(self._result(one.number, end.provider.decoder(), end.client.exchange(), problem, watched=False))

    def cancel(self, numbers: Iterable[int]) -> None:
        """End exchanges. What has come of them is given back as of any other."""
        loop = asyncio.get_running_loop()
        for number in numbers:
            scope = self._scopes.get(number)
            if scope is not None:
                # what has arrived by now is read first, in the next turn of the loop
                loop.call_soon(_cancel_next, scope)
            elif number in self._scopes:
                self._early.add(number)

    async def end(self) -> None:
        """End all exchanges, and give back what has come of them."""
        if self._scopes:
            # what has arrived while this process stood still is read first
            await asyncio.sleep(READ_S)
        while self._next:
            self._begin_some()
        self.cancel(list(self._scopes))
        while self._tasks:
            await asyncio.wait(self._tasks)
        self._batch.now()

    def _learn(self, route: Route) -> None:
        url = filled(self._ends.address(route.url, route.base_url), self._secrets)
        headers = {name: filled(text, self._secrets) for name, text in route.headers.items()}
        self._routes[route.number] = url, headers, route.base_url
        while len(self._routes) > 2 * MOST_ROUTES:
            self._routes.popitem(last=False)

    def _at(self, base_url: str) -> tuple[End, AttemptError | None]:
        """Return the endpoint with a base URL, and why this worker cannot reach it; None if it can."""
        try:
            return self._ends.at(base_url), None
        except UsageError as error:
            # one that has come into the list since this worker has joined
            return self._ends.first, AttemptError(f"a worker cannot reach it: {error}", code="proxy", verdict="stop", sent=False)

    async def _make(self, one: Try, call: HttpCall, base_url: str) -> None:
        number, (end, unreachable) = one.number, self._at(base_url)
        scope = self._scopes[number] = anyio.CancelScope()
        if number in self._early:
            self._early.remove(number)
            scope.cancel()
        exchange = end.client.exchange(
            fresh=one.fresh, fallback=one.fallback, heard=lambda status, raw: self._begun(number, status, raw)
        )
        exchange.too_late = self._too_late
        decoder = end.provider.decoder()
        taking: Decoder = _Passed(decoder, number, self._piece, self._redactor) if one.watched else decoder
        if not one.watched:
            self.looking.begin(number, decoder)
        problem: Exception | None = unreachable
        with scope:
            try:
                if unreachable is None:
                    await end.client.stream(call, taking, exchange, _RefusedError)
            except Exception as error:  # noqa: BLE001 - the driver judges it
                problem = error
        if scope.cancelled_caught:
            problem = StreamError("the exchange was ended", code="cancelled")
        try:
            done = self._result(number, decoder, exchange, problem, watched=one.watched)
        except Exception as error:  # noqa: BLE001 - the driver waits for an end, and judges it
            done = self._result(number, end.provider.decoder(), exchange, error, watched=one.watched)
        finally:
            del self._scopes[number]
            self.looking.end(number)
        self._give(done)

    def _result(self, number: int, decoder: Decoder, exchange: HttpExchange, problem: Exception | None, *, watched: bool) -> Done:
        answer = conceal(partial_of(decoder), self._redactor)
        extra, fault, refusal = b"", None, None
        if isinstance(problem, _RefusedError):
            refusal = self._refusal(problem)
        elif problem is not None:
            fault = self._fault(problem)
        if answer.extra:
            extra = json.dumps(answer.extra, default=str).encode()
            answer = structs.replace(answer, extra={})
        return Done(
            number=number,
            status=exchange.status,
            connected=exchange.connected,
            received=exchange.bytes_received,
            first_s=exchange.time_to_first_token_s,
            answered_s=exchange.answered_s,
            tail_lost=exchange.tail_lost,
            stage=int(decoder.stage),
            ended=decoder.ended,
            started=decoder.started,
            chars=decoder.text_chars,
            # the driver has decoded what it watches
            answer=structs.replace(answer, text="") if watched else answer,
            extra=b"" if watched else extra,
            fault=fault,
            refusal=refusal,
        )

    def _fault(self, error: Exception) -> Fault:
        fault = fault_of(error)
        fields = {name: self._redactor(value) if type(value) is str else value for name, value in fault.fields.items()}
        return Fault(fault.kind, self._redactor(fault.words), fields)

    def _refusal(self, refused: "_RefusedError") -> Refusal:
        headers = {name: self._redactor.answer(value) for name, value in refused.headers.items()}
        return Refusal(refused.answer, headers, _without(self._redactor, refused.body))

    # -- what goes back

    def _begun(self, number: int, status: int, raw: Iterable[tuple[bytes, bytes]]) -> None:
        headers: list[tuple[bytes, bytes]] = []
        now = monotonic()
        if not 200 <= status <= 299 or now - self._headers_at >= HEADERS_S:
            self._headers_at = now
            headers = [(bytes(name), _without(self._redactor, bytes(value))) for name, value in raw]
        self._heard.append(Heard(number, status, headers))
        self._batch.due()

    def _piece(self, piece: Piece) -> None:
        self._pieces.append(piece)
        self._grow(sum(len(data) for _, data in piece.events) + len(piece.whole or b""))

    def _say(self, said: Said) -> None:
        self._said.append(said)
        self._grow(len(said.text))

    def _give(self, done: Done) -> None:
        self._done.append(done)
        text = len(done.answer.text) if done.answer is not None else 0
        self._grow(text + len(done.extra) + (len(done.refusal.body) if done.refusal is not None else 0))

    def _grow(self, size: int) -> None:
        self._size += size
        if self._size > FULL_BYTES:
            self._batch.now()
        self._batch.due(len(self._done))

    def flush(self) -> None:
        """Send what has come together."""
        heard, pieces, said, done = self._heard, self._pieces, self._said, self._done
        self._heard, self._pieces, self._said, self._done, self._size = [], [], [], [], 0
        if not (heard or pieces or said or done):
            return
        self._link.send(encoded(Back(heard, pieces, done, said)))


class _RefusedError(ProviderError):
    """An answer whose status is not 2xx, which the driver classifies."""

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        super().__init__("refused", code="bad_request", verdict="fail")
        self.answer, self.headers, self.body = status, headers, body


class _Passed(PassingDecoder):
    """A decoder that passes on to the driver what it takes, behind its own look at it."""

    def __init__(self, decoder: Decoder, number: int, tell: Callable[[Piece], None], redactor: Redactor) -> None:
        super().__init__(decoder)
        self._number, self._tell_driver, self._redactor = number, tell, redactor

    def feed(self, event: ServerSentEvent) -> None:
        """Take one event."""
        self._pass(lambda: self._decoder.feed(event), [event])

    def feed_all(self, events: Sequence[ServerSentEvent]) -> None:
        """Take the events of one read."""
        if events:
            self._pass(lambda: self._decoder.feed_all(events), events)

    def whole(self, body: bytes) -> None:
        """Take an answer in one piece."""
        self._pass(lambda: self._decoder.whole(body), (), body)

    def _pass(self, take: Callable[[], None], events: Sequence[ServerSentEvent], whole: bytes | None = None) -> None:
        doubtful = True
        try:
            take()
            doubtful = False
        finally:
            told = [(event.event, _without(self._redactor, event.data)) for event in events]
            whole = None if whole is None else _without(self._redactor, whole)
            self._tell_driver(Piece(self._number, told, whole, doubtful))


def _cancel_next(scope: anyio.CancelScope) -> None:
    """Cancel a scope in the next turn of the loop."""
    asyncio.get_running_loop().call_soon(scope.cancel)


def _without(redactor: Redactor, data: bytes) -> bytes:
    """Return bytes without the secrets."""
    text = data.decode("utf-8", "surrogateescape")
    shown: str = redactor.answer(text)
    return data if shown is text or shown == text else shown.encode("utf-8", "surrogateescape")
