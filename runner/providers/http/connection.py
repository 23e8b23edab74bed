"""One connection: aiohttp's protocol and parser, used without its session. It carries one exchange at a time."""

import asyncio
import socket

import aiohttp
from aiohttp import StreamReader

from runner.errors import AttemptError
from runner.providers.http.aiohttp_internals import (
    ClientRequest,
    Connection,
    HttpProcessingError,
    RawResponseMessage,
    ResponseProtocol,
)
from runner.providers.http.request import Endpoint
from runner.providers.http.timeouts import Watch

LOST_S = 0.25
"""After a connection is gone: how long the reader may take for what had arrived before."""
LARGE_BODY = 1 << 20
"""A request body beyond this is handed over in pieces, so that one write does not hold up the loop."""
_PIECE = LARGE_BODY // 4
_EMPTY_LINES = b"\r\n\r\n"


class Line(ResponseProtocol):
    """``begin`` and ``head`` open an exchange, ``StreamReader`` gives its body, ``end`` closes the connection."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        # aiohttp's handle on this very connection
        self.connection: Connection | None = None
        # it has carried an exchange before
        self.served = False
        self.idle_since = 0.0
        self._watch: Watch | None = None
        self._body: StreamReader | None = None
        self._pouring: asyncio.Task[None] | None = None

    # -- what the event loop tells

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Set the connection up; the kernel asks after a peer that is silent."""
        super().connection_made(transport)
        if (sock := transport.get_extra_info("socket")) is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)

    def connection_lost(self, exc: BaseException | None) -> None:
        """End the exchange, should its reader still wait."""
        super().connection_lost(exc)
        if self._watch is not None:
            self._watch.lose(LOST_S)

    def set_exception(self, exc: BaseException, *cause: BaseException) -> None:
        """End the exchange too when the framing is broken: aiohttp leaves the body's reader waiting.

        The connection's loss would come late: over TLS aiohttp's close waits for the peer's.
        """
        super().set_exception(exc, *cause)
        if self._watch is not None and isinstance(exc, HttpProcessingError):
            self._watch.lose(LOST_S)

    # -- an exchange

    def begin(self, watch: Watch, endpoint: Endpoint, body: bytes) -> None:
        """Send a request. Raises aiohttp.ClientError when the connection is gone."""
        self._watch, self._body = watch, None
        watch.follow(self)
        # a parser of its own for each answer, as aiohttp has it; content stays as it came, and its end may be the connection's
        self.set_response_params(read_until_eof=True, auto_decompress=False)
        if len(body) <= LARGE_BODY:
            self._send(endpoint.head(len(body)) + body)
        else:
            self._pouring = asyncio.get_running_loop().create_task(self._pour(endpoint.head(len(body)), body))

    async def head(self, request: ClientRequest) -> tuple[RawResponseMessage, StreamReader]:
        """Wait for an answer's head, and give it with its body; interim answers are passed over."""
        while True:
            try:
                message, body = await self.read()
            except HttpProcessingError as error:
                raise aiohttp.ClientResponseError(
                    request.request_info, (), status=error.code, message=error.message, headers=error.headers
                ) from error
            if not 100 <= message.code <= 199 or message.code == 101:
                self._body = body
                return message, body

    def fail(self, error: AttemptError) -> None:
        """Give the reader an error, once it has read what is there."""
        self.fail_reading(error, self._body)

    def leave(self) -> bool:
        """Take leave of an exchange that is over; True when the connection is fit for another one."""
        done = self._body is not None and self._body.is_eof()
        self._watch = self._body = None
        self.served = True
        # an answer may come before the whole request has gone out
        return done and not self._unsent and not self.should_close

    def nothing_came(self) -> bool:
        """Tell whether nothing, not even part of an answer, has come behind the last answer."""
        if self.should_close:
            return False
        # a parser passes over empty lines between two answers, but they end the head of one that it has read in part
        self.data_received(_EMPTY_LINES)
        return not self.should_close

    def end(self) -> None:
        """Close the connection."""
        self._watch = self._body = None
        if self._pouring is not None:
            self._pouring.cancel()
        if self._unsent and self.transport is not None:
            # closing in good order would wait for a peer that does not read
            self.transport.abort()
        if self.connection is not None:
            self.connection.close()

    @property
    def _unsent(self) -> bool:
        return self._pouring is not None or (self.transport is not None and self.transport.get_write_buffer_size() > 0)

    def _send(self, data: bytes) -> None:
        if self.transport is None or self.transport.is_closing():
            raise aiohttp.ClientConnectionResetError("Cannot write to closing transport")
        self.transport.write(data)

    async def _pour(self, head: bytes, body: bytes) -> None:
        """Send a large request; what goes wrong with it, the reader is told."""
        try:
            self._send(head)
            for start in range(0, len(body), _PIECE):
                self._send(body[start : start + _PIECE])
                await self.drain()
        except OSError as error:
            self.set_exception(error)
        else:
            self._pouring = None
