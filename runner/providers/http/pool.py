"""Connections: opened by aiohttp (names, addresses, TLS, proxies), kept here between two exchanges."""

import asyncio
import ssl
import time
from collections import defaultdict
from collections.abc import Iterator

from runner.providers.http.aiohttp_internals import ClientRequest, ConnectionKey, ProtocolConnector
from runner.providers.http.connection import Line
from runner.providers.http.request import Endpoint

KEEPALIVE_S = 4.0
"""Idle connections are dropped before the common servers' own five seconds, so that a stale one is rare."""


class Connector:
    """Gives a line to each exchange: the one that was in use last, as it is the least likely to be stale, or a new one."""

    def __init__(self, context: ssl.SSLContext) -> None:
        # slots bound the connections; a second bound here would be a hidden queue
        self._opener = ProtocolConnector(Line, limit=0, context=context)
        # in the order in which they became idle
        self._idle: defaultdict[ConnectionKey, list[Line]] = defaultdict(list)
        self._timer: asyncio.TimerHandle | None = None

    def take(self, endpoint: Endpoint) -> Line | None:
        """Give a line that has served before; None when there is none."""
        idle, oldest = self._idle[endpoint.key], time.monotonic() - KEEPALIVE_S
        while idle:
            line = idle.pop()
            # bytes that nobody asked for must not be taken for an answer
            if line.idle_since >= oldest and line.is_connected() and line.nothing_came():
                return line
            line.end()
        return None

    def clear(self, endpoint: Endpoint) -> None:
        """Close the idle lines to an endpoint: it had closed one of them, and so it may have closed them all."""
        for line in self._idle.pop(endpoint.key, ()):
            line.end()

    async def open(self, request: ClientRequest) -> Line:
        """Open a new line. Raises aiohttp.ClientError, OSError."""
        connection = await self._opener.open(request)
        line = connection.protocol
        assert isinstance(line, Line)
        line.connection = connection
        return line

    def give_back(self, endpoint: Endpoint, line: Line) -> None:
        """Keep a line whose exchange is over, or close it."""
        if not line.leave():
            line.end()
            return
        line.idle_since = time.monotonic()
        self._idle[endpoint.key].append(line)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(KEEPALIVE_S, self._drop)

    async def close(self) -> None:
        """Close all lines, and wait until they are closed."""
        if self._timer is not None:
            self._timer.cancel()
        await self._opener.close()
        for line in self._lines():
            line.end()

    def _drop(self) -> None:
        """Close what has been idle for too long."""
        self._timer = None
        oldest = time.monotonic() - KEEPALIVE_S
        for idle in self._idle.values():
            while idle and idle[0].idle_since <= oldest:
                idle.pop(0).end()
        if left := min((line.idle_since for line in self._lines()), default=None):
            self._timer = asyncio.get_running_loop().call_later(left - oldest, self._drop)

    def _lines(self) -> Iterator[Line]:
        for idle in self._idle.values():
            yield from idle
