"""One streamed HTTP exchange: httpx as the interface, aiohttp under it.

Redirects, cookies and retries do not exist here. A complete answer is never thrown away for what comes behind it.
"""

import ssl
import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing, suppress
from contextvars import ContextVar
from typing import Self, cast

import aiohttp
import anyio
import httpx
from aiohttp import ClientTimeout
from aiohttp.client_reqrep import ClientRequest
from aiohttp.connector import Connection
from aiohttp.tracing import Trace
from httpx_aiohttp import AiohttpTransport
from msgspec import Struct

from runner.client.body import Body
from runner.client.clocks import Deadlines, Watch
from runner.client.faults import transport_error
from runner.errors import AttemptTimeoutError, ProviderError, StreamError
from runner.interfaces import Decoder
from runner.model import HttpCall
from runner.sse import SSEDecoder

KEEPALIVE_S = 4.0
"""Idle connections are dropped before the common servers' own five seconds, so that a stale one is rare."""
TAIL_S = 5.0
"""After the finish reason: how long the usage and the end mark may still take."""
END_S = 0.5
"""After the end mark: how long the body may take to end, so that the connection can be used again."""
ERROR_BODY_BYTES = 64 * 1024
"""How much of an error's body is read."""

Refuse = Callable[[int, Mapping[str, str], bytes], ProviderError]
"""Says what an answer other than 200 means."""


class Caps(Struct, frozen=True, kw_only=True):
    """What one answer may be at most, so that a hostile server cannot fill the memory."""

    line_bytes: int = 1 << 20
    events: int = 100_000
    # after decompression
    body_bytes: int = 64 << 20
    text_chars: int = 16 << 20


class HttpExchange:
    """What is known of one exchange while it runs and after it ended."""

    __slots__ = ("connected", "received", "reused", "status", "tail_lost", "time_to_first_token_s", "watch")

    def __init__(self) -> None:
        self.status: int | None = None
        self.received: Body | None = None
        self.time_to_first_token_s: float | None = None
        # a connection was there, so bytes may have reached the server
        self.connected = False
        # ... and it had served an earlier exchange
        self.reused = False
        # the connection broke after the finish reason: usage may be missing
        self.tail_lost = False
        self.watch: Watch | None = None

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
        self._seen: weakref.WeakSet[object] = weakref.WeakSet()

    async def connect(self, req: ClientRequest, traces: list[Trace], timeout: ClientTimeout) -> Connection:  # noqa: ASYNC109
        connection = await super().connect(req, traces, timeout)
        exchange, protocol = _exchange.get(), connection.protocol
        exchange.connected, exchange.reused = True, protocol in self._seen
        if protocol is not None:
            self._seen.add(protocol)
        if exchange.watch is not None:
            exchange.watch.enter("first_byte")
        return connection


class HttpClient:
    """Sends calls and feeds decoders. An async context manager, to be used inside the event loop."""

    def __init__(self, deadlines: Deadlines, caps: Caps | None = None, *, proxy: str | None = None) -> None:
        self._deadlines = deadlines
        self._caps = caps or Caps()
        self._transport = AiohttpTransport(client=self._session, proxy=httpx.Proxy(proxy) if proxy is not None else None)
        # our clocks are the only ones
        self._extensions = {"timeout": {"connect": None, "read": None, "write": None, "pool": None}}

    def _session(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(connector=_Connector(self._transport.ssl_context), cookie_jar=aiohttp.DummyCookieJar())

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        with anyio.CancelScope(shield=True):
            await self._transport.aclose()

    def exchange(self) -> HttpExchange:
        """Make the record for one exchange."""
        return HttpExchange()

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
                    ) from error
                finally:
                    watch.close()
            # only the watch cancels this scope
            raise AttemptTimeoutError(watch.sentence(), clock=watch.expired or "attempt", sent=exchange.connected)
        finally:
            _exchange.reset(mark)

    async def _send(self, call: HttpCall, decoder: Decoder, exchange: HttpExchange, watch: Watch, refuse: Refuse) -> None:
        request = httpx.Request("POST", call.url, headers=call.headers, content=call.body, extensions=self._extensions)
        response = await self._transport.handle_async_request(request)
        # httpx types the stream for its sync and async kinds at once
        stream = cast("httpx.AsyncByteStream", response.stream)
        try:
            exchange.status = response.status_code
            body = exchange.received = Body(response.headers.get("content-encoding", ""), self._caps.body_bytes)
            async with aclosing(cast("AsyncGenerator[bytes, None]", aiter(stream))) as chunks:
                if response.status_code != 200:
                    head = await _head(chunks, body)
                    raise refuse(response.status_code, dict(response.headers), head)
                kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
                if kind == "text/event-stream":
                    await self._events(chunks, body, decoder, exchange, watch)
                elif kind == "application/json" or kind.endswith("+json"):
                    await _whole(chunks, body, decoder, watch)
                else:
                    raise _no_api(kind, await _head(chunks, body))
        finally:
            with anyio.CancelScope(shield=True):
                await stream.aclose()

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
            for event in sse.feed(body(chunk)):
                decoder.feed(event)
            if exchange.time_to_first_token_s is None and decoder.started:
                exchange.time_to_first_token_s = watch.age_s
            if decoder.text_chars > self._caps.text_chars:
                raise StreamError(f"the text is longer than {self._caps.text_chars} characters", code="size_cap", verdict="fail")
            if decoder.complete:
                # paid for and complete: nothing may throw it away now, not even a second Ctrl-C
                with anyio.CancelScope(shield=True):
                    exchange.tail_lost = not await _tail(chunks, body, sse, decoder)
                return
        _feed_unfinished(sse, decoder)
        if not decoder.complete:
            raise StreamError("the stream ended without a finish reason", code="truncated")


async def _tail(chunks: AsyncIterator[bytes], body: Body, sse: SSEDecoder, decoder: Decoder) -> bool:
    """Read usage and end mark behind a complete answer; True when all of it came."""
    ended = decoder.ended
    with anyio.move_on_after(END_S if ended else TAIL_S) as limit:
        try:
            async for chunk in chunks:
                for event in sse.feed(body(chunk)):
                    decoder.feed(event)
                if decoder.ended and not ended:
                    ended, limit.deadline = True, anyio.current_time() + END_S
            _feed_unfinished(sse, decoder)
            return True
        except (httpx.HTTPError, aiohttp.ClientError, OSError, StreamError):
            return decoder.ended
    return decoder.ended


def _feed_unfinished(sse: SSEDecoder, decoder: Decoder) -> None:
    """Some servers close right behind their last data line: it counts if it can be read."""
    last = sse.flush()
    if last is not None:
        with suppress(StreamError):
            decoder.feed(last)


async def _whole(chunks: AsyncIterator[bytes], body: Body, decoder: Decoder, watch: Watch) -> None:
    """Take plain JSON in place of a stream."""
    pieces = []
    watching_silence = False
    async for chunk in chunks:
        if not watching_silence:
            watching_silence = True
            watch.enter("silence")
        watch.beat()
        pieces.append(body(chunk))
    data = b"".join(pieces)
    if not data.strip():
        raise StreamError("the answer is empty", code="truncated")
    decoder.whole(data)
    if not decoder.complete:
        raise StreamError("the answer has no finish reason", code="truncated")


def _no_api(kind: str, head: bytes) -> StreamError:
    if not head.strip():
        return StreamError("the answer is empty", code="truncated")
    quoted = head[:200].decode("utf-8", "replace")
    return StreamError(
        f"the endpoint answered {kind or 'no content type'} and not an event stream: {quoted!r}",
        code="not_an_api",
        verdict="stop",
    )


async def _head(chunks: AsyncIterator[bytes], body: Body) -> bytes:
    """Read the beginning of an answer that is none."""
    head = bytearray()
    async for chunk in chunks:
        head += body(chunk)
        if len(head) >= ERROR_BODY_BYTES:
            break
    return bytes(head[:ERROR_BODY_BYTES])
