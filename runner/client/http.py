"""One streamed HTTP exchange: httpx as the interface, aiohttp under it.

Redirects, cookies and retries do not exist here. A complete answer is not thrown away for what comes behind it, unless that
is an error of the provider.
"""

import asyncio
import functools
import socket
import ssl
import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing
from contextvars import ContextVar
from typing import Self, cast

import aiohttp
import anyio
import httpx
from aiohttp import ClientTimeout
from aiohttp.client_proto import ResponseHandler
from aiohttp.client_reqrep import ClientRequest
from aiohttp.connector import Connection
from aiohttp.tracing import Trace
from httpx_aiohttp import AiohttpTransport
from msgspec import Struct

from runner.client.body import Body
from runner.client.clocks import Deadlines, Watch
from runner.client.faults import transport_error
from runner.client.reading import (
    ERROR_BODY_S,
    LARGE_BODY,
    content_of,
    error_body,
    feed_unfinished,
    head_of,
    no_api,
    pieces,
    tail,
    whole,
)
from runner.errors import AttemptTimeoutError, ProviderError, StreamError, TransportError
from runner.interfaces import Decoder, Heard
from runner.model import HttpCall
from runner.sse import SSEDecoder

KEEPALIVE_S = 4.0
"""Idle connections are dropped before the common servers' own five seconds, so that a stale one is rare."""
LOST_S = 0.25
"""After a connection is gone: how long the reader may take for what had arrived before."""

Refuse = Callable[[int, Mapping[str, str], bytes], ProviderError]
"""Says what an answer other than 200 means."""


class Caps(Struct, frozen=True, kw_only=True):
    """What one answer may be at most, so that a hostile server cannot fill the memory."""

    line_bytes: int = 1 << 20
    events: int = 100_000
    # after decompression
    body_bytes: int = 64 << 20
    # an answer in one piece
    json_bytes: int = 5 << 19
    # the longest answers of today's models have a fifth less; four bytes each at worst, and as many again when they are joined
    text_chars: int = 768 << 10


class HttpExchange:
    """What is known of one exchange while it runs and after it ended."""

    __slots__ = (
        "answered_s",
        "connected",
        "fresh",
        "headers",
        "heard",
        "received",
        "reused",
        "status",
        "tail_lost",
        "time_to_first_token_s",
        "watch",
    )

    def __init__(self, *, fresh: bool = False, heard: Heard | None = None) -> None:
        # a connection that has served before will not do
        self.fresh = fresh
        # is told when an answer begins
        self.heard = heard
        self.status: int | None = None
        self.headers: list[tuple[bytes, bytes]] = []
        self.received: Body | None = None
        self.time_to_first_token_s: float | None = None
        self.answered_s: float | None = None
        # a connection was there, so bytes may have reached the server
        self.connected = False
        # ... and it had served an earlier exchange
        self.reused = False
        # the connection broke after the finish reason: usage may be missing
        self.tail_lost = False
        self.watch: Watch | None = None

    def began(self) -> None:
        """Tell that the answer begins."""
        if self.heard is not None and self.status is not None:
            self.heard(self.status, self.headers)

    @property
    def bytes_received(self) -> int:
        """Bytes of the body, after decompression."""
        return self.received.received if self.received is not None else 0


_exchange: ContextVar[HttpExchange] = ContextVar("_exchange")


class _Connector(aiohttp.TCPConnector):
    """Tells the current exchange when it has a connection, and whether a fresh one."""

    def __init__(self, context: ssl.SSLContext) -> None:
        # slots bound the connections; a second bound here would be a hidden queue
        super().__init__(limit=0, keepalive_timeout=KEEPALIVE_S, ssl=context)
        # protocol of a connection -> its present exchange
        self._serving: weakref.WeakKeyDictionary[ResponseHandler, HttpExchange] = weakref.WeakKeyDictionary()

    async def connect(self, req: ClientRequest, traces: list[Trace], timeout: ClientTimeout) -> Connection:  # noqa: ASYNC109
        exchange = _exchange.get()
        connection = await super().connect(req, traces, timeout)
        while exchange.fresh and connection.protocol in self._serving:
            connection.close()
            connection = await super().connect(req, traces, timeout)
        protocol = connection.protocol
        # a connection that was given out just now has one
        assert protocol is not None
        exchange.connected, exchange.reused = True, protocol in self._serving
        self._serving[protocol] = exchange
        if not exchange.reused:
            self._begin(protocol)
        if exchange.watch is not None:
            exchange.watch.enter("first_byte")
        return connection

    def _begin(self, protocol: ResponseHandler) -> None:
        """Set a fresh connection up: the kernel asks after a silent peer, and we hear when it is gone."""
        if protocol.transport is not None and (sock := protocol.transport.get_extra_info("socket")) is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if protocol.closed is not None:
            protocol.closed.add_done_callback(functools.partial(self._gone, weakref.ref(protocol)))

    def _gone(self, which: "weakref.ref[ResponseHandler]", closed: "asyncio.Future[None]") -> None:
        """End an exchange whose connection is gone: aiohttp leaves its reader waiting when the framing broke in mid-stream."""
        # looked at, so that the loop does not complain that nobody did
        closed.exception()
        protocol = which()
        exchange = self._serving.get(protocol) if protocol is not None else None
        if exchange is not None and exchange.watch is not None:
            exchange.watch.lose(LOST_S)


class HttpClient:
    """Sends calls and feeds decoders. An async context manager, to be used inside the event loop."""

    def __init__(self, deadlines: Deadlines, caps: Caps | None = None, *, proxy: str | None = None) -> None:
        self._deadlines = deadlines
        self._caps = caps or Caps()
        self._transport = AiohttpTransport(client=self._session, proxy=httpx.Proxy(proxy) if proxy is not None else None)
        # one address per endpoint; parsing it anew costs as much as building the rest of a request
        self._address = functools.lru_cache(maxsize=16)(httpx.URL)
        self._last_headers: tuple[dict[str, str], httpx.Headers] | None = None
        # our clocks are the only ones
        self._extensions = {"timeout": {"connect": None, "read": None, "write": None, "pool": None}}

    def _session(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(connector=_Connector(self._transport.ssl_context), cookie_jar=aiohttp.DummyCookieJar())

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        with anyio.CancelScope(shield=True):
            await self._transport.aclose()

    def exchange(self, *, fresh: bool = False, heard: Heard | None = None) -> HttpExchange:
        """Make the record for one exchange. fresh: on a connection that has not served before. heard: see ``interfaces``."""
        return HttpExchange(fresh=fresh, heard=heard)

    async def stream(self, call: HttpCall, decoder: Decoder, exchange: HttpExchange, refuse: Refuse) -> None:
        """Send the call and feed the decoder until its answer is complete; raise AttemptError otherwise."""
        mark = _exchange.set(exchange)
        try:
            with anyio.CancelScope() as scope:
                watch = exchange.watch = Watch(self._deadlines, scope)
                try:
                    await self._send(call, decoder, exchange, watch, refuse)
                    return
                except (httpx.HTTPError, httpx.InvalidURL, aiohttp.ClientError, OSError) as error:
                    raise transport_error(
                        error,
                        connected=exchange.connected,
                        reused=exchange.reused,
                        answered=exchange.status is not None,
                        age_s=watch.age_s,
                    ) from error
                finally:
                    watch.close()
            # only the watch cancels this scope
            if watch.expired == "lost":
                raise TransportError("the connection broke in the middle of the answer", code="cut")
            raise AttemptTimeoutError(watch.sentence(), clock=watch.expired or "attempt", sent=exchange.connected)
        finally:
            _exchange.reset(mark)

    async def _send(self, call: HttpCall, decoder: Decoder, exchange: HttpExchange, watch: Watch, refuse: Refuse) -> None:
        content = call.body
        headers = self._prepared(call.headers)
        if len(content) > LARGE_BODY:
            headers = httpx.Headers({**call.headers, "content-length": str(len(content))})
        request = httpx.Request(
            "POST",
            self._address(call.url),
            headers=headers,
            content=content if len(content) <= LARGE_BODY else pieces(content),
            extensions=self._extensions,
        )
        response = await self._transport.handle_async_request(request)
        # httpx types the stream for its sync and async kinds at once
        stream = cast("httpx.AsyncByteStream", response.stream)
        try:
            exchange.status, exchange.headers = response.status_code, response.headers.raw
            async with aclosing(cast("AsyncGenerator[bytes, None]", aiter(stream))) as chunks:
                await self._receive(response, chunks, decoder, exchange, watch, refuse)
        except BaseException:
            with anyio.CancelScope(shield=True):
                await stream.aclose()
            raise
        # all of it was read, so there is nothing to wait for
        await stream.aclose()

    async def _receive(
        self,
        response: httpx.Response,
        chunks: AsyncIterator[bytes],
        decoder: Decoder,
        exchange: HttpExchange,
        watch: Watch,
        refuse: Refuse,
    ) -> None:
        kind, encoding = content_of(response.headers.raw)
        if response.status_code != 200:
            exchange.began()
            limit_s = min(ERROR_BODY_S, self._deadlines.silence_s)
            with anyio.CancelScope(shield=True):
                head = await error_body(chunks, encoding, self._caps.body_bytes, limit_s)
            raise refuse(response.status_code, dict(response.headers), head)
        body = exchange.received = Body(encoding, self._caps.body_bytes)
        if kind == "text/event-stream":
            await self._events(chunks, body, decoder, exchange, watch)
        elif kind == "application/json" or kind.endswith("+json"):
            await whole(chunks, body, decoder, watch, self._caps.json_bytes)
            exchange.began()
            self._check_text(decoder)
        else:
            raise no_api(kind, await head_of(chunks, body))

    def _prepared(self, headers: dict[str, str]) -> httpx.Headers:
        """Give httpx's form of a provider's headers; it makes one dict for all its calls."""
        if self._last_headers is None or self._last_headers[0] is not headers:
            self._last_headers = headers, httpx.Headers(headers)
        return self._last_headers[1]

    async def _events(
        self, chunks: AsyncIterator[bytes], body: Body, decoder: Decoder, exchange: HttpExchange, watch: Watch
    ) -> None:
        sse = SSEDecoder(max_line=self._caps.line_bytes, max_events=self._caps.events)
        watching_silence = False
        async for chunk in chunks:
            if watching_silence:
                watch.beat()
            else:
                watching_silence = True
                watch.enter("silence")
                exchange.began()
            try:
                for piece in body.pieces(chunk):
                    for event in sse.feed(piece):
                        decoder.feed(event)
                    self._check_text(decoder)
            except StreamError:
                # behind the finish reason it costs the tail, not the answer
                if not decoder.complete:
                    raise
                exchange.answered_s = watch.age_s
                exchange.tail_lost = not decoder.ended
                return
            if exchange.time_to_first_token_s is None and decoder.started:
                exchange.time_to_first_token_s = watch.age_s
            if decoder.complete:
                exchange.answered_s = watch.age_s
                exchange.tail_lost = not await tail(chunks, body, sse, decoder, self._caps.text_chars)
                return
        feed_unfinished(sse, decoder)
        if not decoder.complete:
            raise StreamError("the stream ended without a finish reason", code="truncated")

    def _check_text(self, decoder: Decoder) -> None:
        if decoder.text_chars > self._caps.text_chars:
            raise StreamError(f"the text is longer than {self._caps.text_chars} characters", code="size_cap", verdict="fail")
