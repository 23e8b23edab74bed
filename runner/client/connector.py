"""aiohttp's connections, under httpx: each tells the exchange it serves when it is there, and when it is gone."""

import asyncio
import functools
import socket
import ssl
from collections.abc import AsyncIterator
from contextvars import ContextVar
from typing import Any, Self

import aiohttp
import httpx
from aiohttp import ClientTimeout
from aiohttp.client_proto import ResponseHandler
from aiohttp.client_reqrep import ClientRequest
from aiohttp.connector import Connection
from aiohttp.tracing import Trace
from httpx_aiohttp import AiohttpTransport
from multidict import CIMultiDict

from runner.client.exchange import HttpExchange

KEEPALIVE_S = 4.0
"""Idle connections are dropped before the common servers' own five seconds, so that a stale one is rare."""
LOST_S = 0.25
"""After a connection is gone: how long the reader may take for what had arrived before."""

_NO_CLOCKS = ClientTimeout()
"""Our clocks are the only ones."""

current: ContextVar[HttpExchange] = ContextVar("current")
"""The exchange that a task is about; neither library would hand it through."""


class _Connector(aiohttp.TCPConnector):
    """Tells the current exchange when it has a connection, and whether a fresh one."""

    def __init__(self, context: ssl.SSLContext) -> None:
        # slots bound the connections; a second bound here would be a hidden queue
        super().__init__(limit=0, keepalive_timeout=KEEPALIVE_S, ssl=context)
        # protocol of a connection -> its present exchange
        self._serving: dict[ResponseHandler, HttpExchange] = {}

    async def connect(self, req: ClientRequest, traces: list[Trace], timeout: ClientTimeout) -> Connection:  # noqa: ASYNC109
        exchange = current.get()
        connection = await super().connect(req, traces, timeout)
        while exchange.fresh and connection.protocol in self._serving:
            connection.close()
            connection = await super().connect(req, traces, timeout)
        protocol = connection.protocol
        # a connection that was given out just now has one
        assert protocol is not None
        exchange.connected, exchange.reused = True, protocol in self._serving
        if exchange.reused or self._begin(protocol):
            self._serving[protocol] = exchange
        if exchange.watch is not None:
            exchange.watch.enter("first_byte")
        return connection

    def _begin(self, protocol: ResponseHandler) -> bool:
        """Set a fresh connection up: the kernel asks after a silent peer, and we hear of its end; False when that has come."""
        if protocol.transport is not None and (sock := protocol.transport.get_extra_info("socket")) is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if protocol.closed is None:
            return False
        protocol.closed.add_done_callback(functools.partial(self._gone, protocol))
        return True

    def _gone(self, protocol: ResponseHandler, closed: "asyncio.Future[None]") -> None:
        """End an exchange whose connection is gone: aiohttp leaves its reader waiting when the framing broke in mid-stream."""
        # looked at, so that the loop does not complain that nobody did
        closed.exception()
        exchange = self._serving.pop(protocol, None)
        if exchange is not None and exchange.watch is not None:
            exchange.watch.lose(LOST_S)


class Chunks(httpx.AsyncByteStream):
    """The body of an answer, as its bytes come; raises aiohttp's own errors, which tell more than httpx's."""

    __slots__ = ("_read", "_response", "raw_headers")

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response
        self._read = response.content.readany
        self.raw_headers = response.raw_headers

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if chunk := await self._read():
            return chunk
        raise StopAsyncIteration

    @property
    def at_end(self) -> bool:
        """All has been read, and the answer has ended well."""
        return self._response.content.at_eof()

    async def aclose(self) -> None:
        """Give the connection back if all was read, else close it."""
        self._response.release()
        await self._response.wait_for_close()


class Post(httpx.Request):
    """A POST whose parts are ready as they are: httpx's own constructor would look at each header anew."""

    def __init__(self, url: httpx.URL, headers: httpx.Headers, content: bytes | AsyncIterator[bytes]) -> None:
        self.method, self.url, self.headers = "POST", url, headers
        self.extensions = {}
        self.body = content


class Transport(AiohttpTransport):
    """httpx's transport over our connections, for ``Post`` only; it keeps no cookies and follows no redirects.

    Half of what its parent costs is made anew for each request there and is the same for all of them.
    """

    def __init__(self, proxy: str | None) -> None:
        super().__init__(client=self._session, proxy=httpx.Proxy(proxy) if proxy is not None else None)
        self._options: dict[str, Any] = {"allow_redirects": False, "auto_decompress": False, "timeout": _NO_CLOCKS}
        if self.proxy is not None:
            self._options["proxy"] = str(self.proxy.url)
            self._options["proxy_headers"] = CIMultiDict(self.proxy.headers)
            if self.proxy.auth is not None:
                self._options["proxy_auth"] = aiohttp.BasicAuth(*self.proxy.auth)
        self._last_headers: tuple[httpx.Headers, CIMultiDict[str]] | None = None

    def _session(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(connector=_Connector(self.ssl_context), cookie_jar=aiohttp.DummyCookieJar())

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request; return when its answer's head is there. Raises aiohttp.ClientError, OSError."""
        assert isinstance(request, Post)
        if not isinstance(self.client, aiohttp.ClientSession):
            self.client = self.get_client()
        if self._last_headers is None or self._last_headers[0] is not request.headers:
            self._last_headers = request.headers, CIMultiDict(request.headers)
        response = await self.client.request(
            "POST", str(request.url), data=request.body, headers=self._last_headers[1], **self._options
        )
        # those of a good answer are looked at raw
        headers = response.raw_headers if response.status != 200 else None
        return httpx.Response(response.status, headers=headers, stream=Chunks(response), request=request)
