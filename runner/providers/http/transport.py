"""Sends a request over our connection pool, returns the answer's head, and streams its body; in httpx's types (decision 0002)."""

from typing import Self

import aiohttp
import httpx
from aiohttp import StreamReader

from runner.errors import TransportError
from runner.providers.http.aiohttp_internals import RawResponseMessage, reader_of
from runner.providers.http.connection import HttpConnection
from runner.providers.http.errors import unsendable
from runner.providers.http.httpx_internals import Answer, Post
from runner.providers.http.pool import ConnectionPool
from runner.providers.http.request import Endpoint


class Chunks(httpx.AsyncByteStream):
    """The body of an answer, in chunks as they arrive. Raises aiohttp's errors, which say more than httpx's."""

    __slots__ = ("_body", "_connection", "_endpoint", "_pool", "raw_headers", "read")

    def __init__(
        self,
        message: RawResponseMessage,
        body: StreamReader,
        connection: HttpConnection,
        endpoint: Endpoint,
        pool: ConnectionPool,
    ) -> None:
        self._body, self._connection, self._endpoint, self._pool = body, connection, endpoint, pool
        self.raw_headers = message.raw_headers
        # returns b"" at the end
        self.read = reader_of(body)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if chunk := await self.read():
            return chunk
        raise StopAsyncIteration

    @property
    def at_end(self) -> bool:
        """True if the body has been read completely, and has ended without an error."""
        return self._body.at_eof()

    def close(self) -> None:
        """Return the connection to the pool if the whole body was read, else close it."""
        self._pool.give_back(self._endpoint, self._connection)

    async def aclose(self) -> None:
        """Do the same as ``close``; httpx calls this."""
        self.close()


class Transport(httpx.AsyncBaseTransport):
    """Sends only ``Post``; keeps no cookies, follows no redirects, retries nothing."""

    def __init__(self, proxy: str | None) -> None:
        self._proxy = proxy
        # with TLS and without; made when needed, since to load the certificates takes as long as the rest of a start
        self._pools: dict[bool, ConnectionPool] = {}
        self._last: tuple[httpx.URL, httpx.Headers, Endpoint, ConnectionPool] | None = None

    async def handle_async_request(self, request: httpx.Request) -> Answer:
        """Send a request; return when the head of its answer has arrived. Raises aiohttp.ClientError, OSError, AttemptError."""
        assert isinstance(request, Post)
        endpoint, pool = self._endpoint(request)
        exchange, watch = request.exchange, request.watch
        if exchange.fresh:
            pool.clear(endpoint)
        connection = pool.take(endpoint)
        if connection is None:
            connection = await watch.connected(pool.open(endpoint.request))
        if exchange.too_late is not None and exchange.too_late():
            connection.end()
            raise TransportError("it was too late to send the request", code="cancelled", sent=False)
        exchange.connected, exchange.reused = True, connection.served
        try:
            connection.begin(watch, endpoint, request.body)
            request.body = b""
            message, body = await connection.head(endpoint.request)
        except BaseException:
            connection.end()
            raise
        return Answer(message, Chunks(message, body, connection, endpoint, pool), request)

    async def aclose(self) -> None:
        """Close all connections."""
        for pool in self._pools.values():
            await pool.close()

    def _endpoint(self, request: Post) -> tuple[Endpoint, ConnectionPool]:
        """Return the endpoint for this address and these headers, and its pool; usually they are those of the last request."""
        last = self._last
        if last is None or last[0] is not request.url or last[1] is not request.headers:
            last = self._last = request.url, request.headers, self._new_endpoint(request), self._pool(request.url)
        return last[2:]

    def _pool(self, url: httpx.URL) -> ConnectionPool:
        # a proxy may be reached with TLS too
        tls = url.scheme == "https" or self._proxy is not None
        if tls not in self._pools:
            self._pools[tls] = ConnectionPool(httpx.create_ssl_context() if tls else None)
        return self._pools[tls]

    def _new_endpoint(self, request: Post) -> Endpoint:
        try:
            return Endpoint(request.url, request.headers, self._proxy)
        except aiohttp.ClientError:
            # some of them are a ValueError, too
            raise
        except ValueError as error:
            raise unsendable(error) from error
