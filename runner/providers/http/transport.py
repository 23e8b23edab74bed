"""httpx's transport over our connections: a request out, an answer's head back, and its body as it comes."""

from typing import Self

import aiohttp
import httpx
from aiohttp import StreamReader

from runner.providers.http.aiohttp_internals import RawResponseMessage
from runner.providers.http.connection import Line
from runner.providers.http.errors import unsendable
from runner.providers.http.httpx_internals import Answer, Post
from runner.providers.http.pool import Connector
from runner.providers.http.request import Endpoint


class Chunks(httpx.AsyncByteStream):
    """The body of an answer, as its bytes come; raises aiohttp's own errors, which tell more than httpx's."""

    __slots__ = ("_body", "_connector", "_endpoint", "_line", "raw_headers", "read")

    def __init__(self, message: RawResponseMessage, body: StreamReader, line: Line, endpoint: Endpoint, back: Connector) -> None:
        self._body, self._line, self._endpoint, self._connector = body, line, endpoint, back
        self.raw_headers = message.raw_headers
        # gives no bytes at the end
        self.read = body.readany

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if chunk := await self.read():
            return chunk
        raise StopAsyncIteration

    @property
    def at_end(self) -> bool:
        """All has been read, and the answer has ended well."""
        return self._body.at_eof()

    def close(self) -> None:
        """Give the connection back if all was read, else close it."""
        self._connector.give_back(self._endpoint, self._line)

    async def aclose(self) -> None:
        """Do the same, for httpx."""
        self.close()


class Transport(httpx.AsyncBaseTransport):
    """Sends ``Post`` only; it keeps no cookies, follows no redirects and retries nothing."""

    def __init__(self, proxy: str | None) -> None:
        self._context = httpx.create_ssl_context()
        self._proxy = proxy
        self._connector: Connector | None = None
        self._last: tuple[httpx.URL, httpx.Headers, Endpoint] | None = None

    async def handle_async_request(self, request: httpx.Request) -> Answer:
        """Send a request; return when its answer's head is there. Raises aiohttp.ClientError, OSError, AttemptError."""
        assert isinstance(request, Post)
        connector = self._connector
        if connector is None:
            connector = self._connector = Connector(self._context)
        endpoint, exchange, watch = self._endpoint(request), request.exchange, request.watch
        if exchange.fresh:
            connector.clear(endpoint)
        line = connector.take(endpoint)
        if line is None:
            line = await watch.connected(connector.open(endpoint.request))
        exchange.connected, exchange.reused = True, line.served
        try:
            line.begin(watch, endpoint, request.body)
            message, body = await line.head(endpoint.request)
        except BaseException:
            line.end()
            raise
        return Answer(message, Chunks(message, body, line, endpoint, connector), request)

    async def aclose(self) -> None:
        """Close all connections."""
        if self._connector is not None:
            await self._connector.close()

    def _endpoint(self, request: Post) -> Endpoint:
        """Give what all requests with this address and these headers share; most often it is the last one's."""
        last = self._last
        if last is None or last[0] is not request.url or last[1] is not request.headers:
            last = self._last = request.url, request.headers, self._new_endpoint(request)
        return last[2]

    def _new_endpoint(self, request: Post) -> Endpoint:
        try:
            return Endpoint(request.url, request.headers, self._proxy)
        except aiohttp.ClientError:
            # some are a ValueError too
            raise
        except ValueError as error:
            raise unsendable(error) from error
