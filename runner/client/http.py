"""One streamed HTTP exchange: httpx as the interface, aiohttp under it.

Redirects, cookies and retries do not exist here. A complete answer is not thrown away for what comes behind it, unless that
is an error of the provider.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Self, cast

import aiohttp
import anyio
import httpx
from msgspec import Struct

from runner.client.body import Body
from runner.client.clocks import Deadlines, Watch
from runner.client.connector import Chunks, Post, Transport, current
from runner.client.exchange import HttpExchange
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


class HttpClient:
    """Sends calls and feeds decoders. An async context manager, to be used inside the event loop."""

    def __init__(self, deadlines: Deadlines, caps: Caps | None = None, *, proxy: str | None = None) -> None:
        self._deadlines = deadlines
        self._caps = caps or Caps()
        self._transport = Transport(proxy)
        # one address per endpoint; parsing it anew costs as much as building the rest of a request
        self._address = functools.lru_cache(maxsize=16)(httpx.URL)
        self._last_headers: tuple[dict[str, str], httpx.Headers] | None = None

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
        mark = current.set(exchange)
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
            current.reset(mark)

    async def _send(self, call: HttpCall, decoder: Decoder, exchange: HttpExchange, watch: Watch, refuse: Refuse) -> None:
        content = call.body
        headers = self._prepared(call.headers)
        if len(content) > LARGE_BODY:
            headers = httpx.Headers({**call.headers, "content-length": str(len(content))})
        request = Post(self._address(call.url), headers, content if len(content) <= LARGE_BODY else pieces(content))
        response = await self._transport.handle_async_request(request)
        chunks = cast("Chunks", response.stream)
        try:
            exchange.status, exchange.headers = response.status_code, chunks.raw_headers
            await self._receive(response, chunks, decoder, exchange, watch, refuse)
        except BaseException:
            with anyio.CancelScope(shield=True):
                await chunks.aclose()
            raise
        # all of it was read, so there is nothing to wait for
        await chunks.aclose()

    async def _receive(
        self,
        response: httpx.Response,
        chunks: Chunks,
        decoder: Decoder,
        exchange: HttpExchange,
        watch: Watch,
        refuse: Refuse,
    ) -> None:
        kind, encoding = content_of(chunks.raw_headers)
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

    async def _events(self, chunks: Chunks, body: Body, decoder: Decoder, exchange: HttpExchange, watch: Watch) -> None:
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
                    decoder.feed_all(sse.feed(piece))
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
                # most often the end has come with it
                if not chunks.at_end:
                    exchange.tail_lost = not await tail(chunks, body, sse, decoder, self._caps.text_chars)
                    return
                break
        feed_unfinished(sse, decoder)
        if not decoder.complete:
            raise StreamError("the stream ended without a finish reason", code="truncated")

    def _check_text(self, decoder: Decoder) -> None:
        if decoder.text_chars > self._caps.text_chars:
            raise StreamError(f"the text is longer than {self._caps.text_chars} characters", code="size_cap", verdict="fail")
