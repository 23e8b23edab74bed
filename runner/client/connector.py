"""aiohttp's connections, under httpx: each tells the exchange it serves when it is there, and when it is gone."""

import asyncio
import functools
import socket
import ssl
import weakref
from contextvars import ContextVar

import aiohttp
import httpx
from aiohttp import ClientTimeout
from aiohttp.client_proto import ResponseHandler
from aiohttp.client_reqrep import ClientRequest
from aiohttp.connector import Connection
from aiohttp.tracing import Trace
from httpx_aiohttp import AiohttpTransport

from runner.client.exchange import HttpExchange

KEEPALIVE_S = 4.0
"""Idle connections are dropped before the common servers' own five seconds, so that a stale one is rare."""
LOST_S = 0.25
"""After a connection is gone: how long the reader may take for what had arrived before."""

current: ContextVar[HttpExchange] = ContextVar("current")
"""The exchange that a task is about; neither library would hand it through."""


class _Connector(aiohttp.TCPConnector):
    """Tells the current exchange when it has a connection, and whether a fresh one."""

    def __init__(self, context: ssl.SSLContext) -> None:
        # slots bound the connections; a second bound here would be a hidden queue
        super().__init__(limit=0, keepalive_timeout=KEEPALIVE_S, ssl=context)
        # protocol of a connection -> its present exchange
        self._serving: weakref.WeakKeyDictionary[ResponseHandler, HttpExchange] = weakref.WeakKeyDictionary()

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


def transport(proxy: str | None) -> AiohttpTransport:
    """Make httpx's transport over our connections; it keeps no cookies."""

    def session() -> aiohttp.ClientSession:
        return aiohttp.ClientSession(connector=_Connector(made.ssl_context), cookie_jar=aiohttp.DummyCookieJar())

    made = AiohttpTransport(client=session, proxy=httpx.Proxy(proxy) if proxy is not None else None)
    return made
