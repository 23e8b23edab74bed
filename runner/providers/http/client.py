"""The HTTP client: streamed exchanges, in httpx's types, over aiohttp's connections.

There are no redirects, cookies or retries. A complete answer is not discarded because of what follows it, unless that is an error
of the provider.
"""

from collections.abc import Callable, Mapping
from typing import Self, cast

import aiohttp
import anyio
import httpx
from msgspec import Struct

from runner.errors import ProviderError, StreamError
from runner.interfaces import Decoder, Heard
from runner.model import HttpCall
from runner.providers.http.body import Body
from runner.providers.http.errors import transport_error, unsendable
from runner.providers.http.exchange import HttpExchange
from runner.providers.http.httpx_internals import Post
from runner.providers.http.response import ERROR_BODY_S, content_of, error_body, feed_unfinished, head_of, no_api, tail, whole
from runner.providers.http.timeouts import Timeouts, TimeoutTimer, Watch
from runner.providers.http.transport import Chunks, Transport
from runner.providers.sse import SSEDecoder

Refuse = Callable[[int, Mapping[str, str], bytes], ProviderError]
"""Returns the error for an answer other than 200."""


class Caps(Struct, frozen=True, kw_only=True):
    """Size limits of one answer, so that a hostile server cannot fill the memory."""

    line_bytes: int = 1 << 20
    events: int = 100_000
    # after decompression
    body_bytes: int = 64 << 20
    # an answer in one piece
    json_bytes: int = 5 << 19
    # today's longest answers are a fifth shorter; up to four bytes a character, and as many again when the pieces are joined
    text_chars: int = 768 << 10


class HttpClient:
    """Sends calls and feeds decoders. An asynchronous context manager; create it inside the event loop."""

    def __init__(self, timeouts: Timeouts, caps: Caps | None = None, *, proxy: str | None = None) -> None:
        self._timer = TimeoutTimer(timeouts)
        self._caps = caps or Caps()
        self._transport = Transport(proxy)
        # the last URL and headers, converted for httpx: the conversion costs as much CPU as the rest of a request
        self._last: tuple[str, dict[str, str], httpx.URL, httpx.Headers] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._timer.close()
        with anyio.CancelScope(shield=True):
            await self._transport.aclose()

    def exchange(self, *, fresh: bool = False, heard: Heard | None = None) -> HttpExchange:
        """Return the record for one exchange. fresh: use a new connection. heard: see ``interfaces``."""
        return HttpExchange(fresh=fresh, heard=heard)

    async def stream(self, call: HttpCall, decoder: Decoder, exchange: HttpExchange, refuse: Refuse) -> None:
        """Send the call and feed the decoder until its answer is complete. Raises AttemptError."""
        watch = Watch(self._timer)
        try:
            response = await self._transport.handle_async_request(self._request(call, exchange, watch))
            chunks = cast("Chunks", response.stream)
            try:
                exchange.status, exchange.headers = response.status_code, chunks.raw_headers
                await self._receive(response, chunks, decoder, exchange, watch, refuse)
            finally:
                chunks.close()
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

    def _request(self, call: HttpCall, exchange: HttpExchange, watch: Watch) -> Post:
        last = self._last
        if last is None or last[0] != call.url or last[1] is not call.headers:
            last = self._last = call.url, call.headers, httpx.URL(call.url), _headers(call)
        return Post(last[2], last[3], call.body, exchange, watch)

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
            # error_body has its own time limit
            watch.close()
            limit_s = min(ERROR_BODY_S, self._timer.timeouts.silence_s)
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

    async def _events(self, chunks: Chunks, body: Body, decoder: Decoder, exchange: HttpExchange, watch: Watch) -> None:
        sse = SSEDecoder(max_line=self._caps.line_bytes, max_events=self._caps.events)
        first_byte_seen = False
        while chunk := await chunks.read():
            if first_byte_seen:
                watch.beat()
            else:
                first_byte_seen = True
                watch.began()
                exchange.began()
            try:
                for piece in body.pieces(chunk):
                    decoder.feed_all(sse.feed(piece))
                    self._check_text(decoder)
            except StreamError:
                # after the finish reason, the tail is lost and the answer is kept
                if not decoder.complete:
                    raise
                exchange.answered_s = watch.age_s
                exchange.tail_lost = not decoder.ended
                return
            if exchange.time_to_first_token_s is None and decoder.started:
                exchange.time_to_first_token_s = watch.age_s
            if decoder.complete:
                exchange.answered_s = watch.age_s
                # usually the end of the body has arrived with the finish reason
                if not chunks.at_end:
                    # tail has its own time limit, and no timeout may discard the answer now
                    watch.close()
                    exchange.tail_lost = not await tail(chunks, body, sse, decoder, self._caps.text_chars)
                    return
                break
        feed_unfinished(sse, decoder)
        if not decoder.complete:
            raise StreamError("the stream ended without a finish reason", code="truncated")

    def _check_text(self, decoder: Decoder) -> None:
        if decoder.text_chars > self._caps.text_chars:
            raise StreamError(f"the text is longer than {self._caps.text_chars} characters", code="size_cap", verdict="fail")


def _headers(call: HttpCall) -> httpx.Headers:
    try:
        return httpx.Headers(call.headers, encoding="latin-1")
    except ValueError as error:
        raise unsendable(error) from error
