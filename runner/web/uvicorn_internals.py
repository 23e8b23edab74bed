"""What uvicorn does not document, in one place: ``tests/unit/web/test_uvicorn_internals.py`` checks it.

A connection that has begun a request and does not end its head is closed, a viewer that does not read can be dropped, and signals
are the program's.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

CHECKED_WITH = "0.54.0"
"""The version of uvicorn for which this has been looked at."""
HEAD_S = 10.0
"""Seconds in which the head of a request must have come, the first one and each next one, once it has begun."""
MOST_HEAD = 32 << 10
"""Bytes of the head of a request, at most."""
MOST_CONNECTIONS = 2_000
"""Connections at a time; those beyond are closed at once."""


class LimitedProtocol(H11Protocol):
    """The server's side of a connection, with a limit on the time of a head and on the number of connections."""

    transports: ClassVar[dict[Any, asyncio.Transport]] = {}
    _late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for the first request."""
        super().connection_made(transport)
        self.transports[self.client] = transport
        if len(self.connections) > MOST_CONNECTIONS:
            transport.abort()
        self._wait()

    def data_received(self, data: bytes) -> None:
        """Take a part of a request. The time of its head begins with its first byte, and not with each."""
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self._wait_no_more()
        else:
            self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._wait_no_more()
        self.transports.pop(self.client, None)
        super().connection_lost(exc)

    def _wait(self) -> None:
        if self._late is None:
            self._late = self.loop.call_later(HEAD_S, self.transport.abort)

    def _wait_no_more(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None


class Server(uvicorn.Server):
    """A server that leaves signals to the program."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield


def abort(client: Any) -> None:
    """End the connection of a client at once, whatever it has not read. client: as in the scope of a request."""
    transport = LimitedProtocol.transports.get(tuple(client) if client is not None else None)
    if transport is not None:
        transport.abort()
