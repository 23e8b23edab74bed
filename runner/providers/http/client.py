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

from runner.errors import ProviderError
from runner.interfaces import Decoder, Heard
from runner.model import HttpCall
from runner.providers.http.answer import AnswerReader
from runner.providers.http.body import Body
from runner.providers.http.errors import transport_error, unsendable
from runner.providers.http.exchange import HttpExchange
from runner.providers.http.httpx_internals import Post
from runner.providers.http.response import ERROR_BODY_S, error_body, head_of
from runner.providers.http.timeouts import Timeouts, TimeoutTimer, Watch
from runner.providers.http.transport import Chunks, Transport
from runner.providers.sse import SSEDecoder

Refuse = Callable[[int, Mapping[str, str], bytes], ProviderError]
"""Returns the error for an answer whose status is not 2xx."""
_Head = tuple[str, dict[str, str], httpx.URL, httpx.Headers]
_MOST_HEADS = 4_096


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
    """Sends calls and feeds decoders. An asynchronous context manager; create it inside the event loop.

    fallback: timeouts of rows that fell back from flex to the standard tier; None: the same.
    """

    def __init__(
        self, timeouts: Timeouts, caps: Caps | None = None, *, proxy: str | None = None, fallback: Timeouts | None = None
    ) -> None:
        self._timer, self._fallback = TimeoutTimer(timeouts), fallback
        self._caps = caps or Caps()
        self._transport = Transport(proxy)
        # the last URL and headers, converted for httpx: the conversion costs as much CPU as the rest of a request
        self._last: _Head | None = None
        # those of several endpoints, by URL and headers
        self._heads: dict[tuple[str, int], _Head] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._timer.close()
        with anyio.CancelScope(shield=True):
            await self._transport.aclose()

    def exchange(self, *, fresh: bool = False, heard: Heard | None = None, fallback: bool = False) -> HttpExchange:
        """Return the record for one exchange. fresh: use a new connection. heard, fallback: see ``interfaces``."""
        return HttpExchange(fresh=fresh, heard=heard, fallback=fallback)

    async def stream(self, call: HttpCall, decoder: Decoder, exchange: HttpExchange, refuse: Refuse) -> None:
        """Send the call and feed the decoder until its answer is complete. Raises AttemptError."""
        watch = Watch(self._timer, self._fallback if exchange.fallback else None)
        try:
            request = self._request(call, exchange, watch)
            # the body may be large; the transport forgets it when it is sent
            del call
            response = await self._transport.handle_async_request(request)
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
            last = self._last = self._head(call)
        return Post(last[2], last[3], call.body, exchange, watch)

    def _head(self, call: HttpCall) -> "_Head":
        head = self._heads.get((call.url, id(call.headers)))
        if head is None or head[1] is not call.headers:
            if len(self._heads) >= _MOST_HEADS:
                self._heads.clear()
            # the headers are kept, so that no others get their id
            head = self._heads[call.url, id(call.headers)] = call.url, call.headers, httpx.URL(call.url), _headers(call)
        return head

    async def _receive(
        self,
        response: httpx.Response,
        chunks: Chunks,
        decoder: Decoder,
        exchange: HttpExchange,
        watch: Watch,
        refuse: Refuse,
    ) -> None:
        head = head_of(chunks.raw_headers)
        if not 200 <= response.status_code <= 299:
            exchange.began()
            # error_body has its own time limit
            watch.close()
            limit_s = min(ERROR_BODY_S, self._timer.timeouts.silence_s)
            with anyio.CancelScope(shield=True):
                begun = await error_body(chunks, head.encoding, self._caps.body_bytes, limit_s)
            raise refuse(response.status_code, dict(response.headers), begun)
        caps = self._caps
        body = exchange.received = Body(head.encoding, caps.body_bytes)
        reader = AnswerReader(chunks, body, decoder, exchange, watch, most_json=caps.json_bytes, most_chars=caps.text_chars)
        await reader.read(head, SSEDecoder(max_line=caps.line_bytes, max_events=caps.events))


def _headers(call: HttpCall) -> httpx.Headers:
    try:
        return httpx.Headers(call.headers, encoding="latin-1")
    except ValueError as error:
        raise unsendable(error) from error
