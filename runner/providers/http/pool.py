"""The connection pool: aiohttp opens connections (names, addresses, TLS, proxies); the pool keeps them between exchanges."""

import asyncio
import ssl
import time
from collections import defaultdict
from collections.abc import Iterator

from runner.providers.http.aiohttp_internals import ClientRequest, ConnectionKey, ProtocolConnector
from runner.providers.http.connection import HttpConnection
from runner.providers.http.request import Endpoint

KEEPALIVE_S = 4.0
"""Seconds after which an idle connection is closed: less than the five of common servers, so that stale ones are rare."""


class ConnectionPool:
    """Provides a connection for each exchange: the one used last, as it is least likely to be stale, or a new one."""

    def __init__(self, context: ssl.SSLContext | None) -> None:
        # the slots limit the number of connections; a second limit here would be a hidden queue
        self._opener = ProtocolConnector(HttpConnection, limit=0, context=context)
        # in the order in which they became idle
        self._idle: defaultdict[ConnectionKey, list[HttpConnection]] = defaultdict(list)
        self._timer: asyncio.TimerHandle | None = None

    def take(self, endpoint: Endpoint) -> HttpConnection | None:
        """Return an idle connection, or None."""
        idle, oldest = self._idle[endpoint.key], time.monotonic() - KEEPALIVE_S
        while idle:
            connection = idle.pop()
            # unrequested bytes must not be taken for an answer
            if connection.idle_since >= oldest and connection.is_connected() and connection.nothing_received():
                return connection
            connection.end()
        return None

    def clear(self, endpoint: Endpoint) -> None:
        """Close the idle connections to an endpoint: the server has closed one of them, so it may have closed all."""
        for connection in self._idle.pop(endpoint.key, ()):
            connection.end()

    async def open(self, request: ClientRequest) -> HttpConnection:
        """Open a new connection. Raises aiohttp.ClientError, OSError."""
        handle = await self._opener.open(request)
        connection = handle.protocol
        assert isinstance(connection, HttpConnection)
        connection.handle = handle
        return connection

    def give_back(self, endpoint: Endpoint, connection: HttpConnection) -> None:
        """Keep a connection whose exchange has ended, or close it if it cannot be reused."""
        if not connection.leave():
            connection.end()
            return
        connection.idle_since = time.monotonic()
        self._idle[endpoint.key].append(connection)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(KEEPALIVE_S, self._close_expired)

    async def close(self) -> None:
        """Close all connections, and wait until they are closed."""
        if self._timer is not None:
            self._timer.cancel()
        await self._opener.close()
        for connection in self._all_idle():
            connection.end()

    def _close_expired(self) -> None:
        """Close the connections that have been idle for too long."""
        self._timer = None
        oldest = time.monotonic() - KEEPALIVE_S
        for idle in self._idle.values():
            while idle and idle[0].idle_since <= oldest:
                idle.pop(0).end()
        if first_idle_since := min((connection.idle_since for connection in self._all_idle()), default=None):
            self._timer = asyncio.get_running_loop().call_later(first_idle_since - oldest, self._close_expired)

    def _all_idle(self) -> Iterator[HttpConnection]:
        for idle in self._idle.values():
            yield from idle
