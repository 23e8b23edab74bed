"""An HTTP connection: aiohttp's protocol and parser, used without a session. It carries one exchange at a time."""

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
"""Seconds after the loss of a connection in which its reader may still read what had arrived."""
LARGE_BODY = 1 << 20
"""Bytes. A larger request body is written in pieces, so that one write does not block the event loop."""
_PIECE = LARGE_BODY // 4
_PROBES = {"TCP_KEEPIDLE": 60, "TCP_KEEPALIVE": 60, "TCP_KEEPINTVL": 15, "TCP_KEEPCNT": 4}
"""When the kernel probes a silent peer: after 60 s, then each 15 s, four times. Its defaults are hours. macOS has another name
for the first one, and a system may lack any of them."""
_EMPTY_LINES = b"\r\n\r\n"


class HttpConnection(ResponseProtocol):
    """``begin`` sends a request, ``head`` returns the answer's head and its body's reader, ``leave`` ends the exchange."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        # aiohttp's handle for this connection; closing it closes the connection
        self.handle: Connection | None = None
        # True once the connection has carried an exchange
        self.served = False
        self.idle_since = 0.0
        self._watch: Watch | None = None
        self._body: StreamReader | None = None
        self._sending: asyncio.Task[None] | None = None

    # -- called by the event loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Set up the connection, with TCP keep-alive, so that the kernel notices a dead peer."""
        super().connection_made(transport)
        if (sock := transport.get_extra_info("socket")) is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for name, value in _PROBES.items():
                if (option := getattr(socket, name, None)) is not None:
                    sock.setsockopt(socket.IPPROTO_TCP, option, value)

    def connection_lost(self, exc: BaseException | None) -> None:
        """End the exchange if its reader is still waiting."""
        super().connection_lost(exc)
        if self._watch is not None:
            self._watch.lose(LOST_S)

    def set_exception(self, exc: BaseException, *cause: BaseException) -> None:
        """End the exchange if the framing is broken: aiohttp leaves the reader of the body waiting.

        The loss of the connection would come too late: over TLS, aiohttp's close waits for the peer to close.
        """
        super().set_exception(exc, *cause)
        if self._watch is not None and isinstance(exc, HttpProcessingError):
            self._watch.lose(LOST_S)

    # -- an exchange

    def begin(self, watch: Watch, endpoint: Endpoint, body: bytes) -> None:
        """Send a request. Raises aiohttp.ClientError if the connection is lost."""
        self._watch, self._body = watch, None
        watch.follow(self)
        # makes a new parser, as aiohttp does for each answer; no decompression, and the body may end with the connection
        self.set_response_params(read_until_eof=True, auto_decompress=False)
        if len(body) <= LARGE_BODY:
            self._send(endpoint.head(len(body)) + body)
        else:
            self._sending = asyncio.get_running_loop().create_task(self._send_in_pieces(endpoint.head(len(body)), body))

    async def head(self, request: ClientRequest) -> tuple[RawResponseMessage, StreamReader]:
        """Wait for the head of the answer; return it with the reader of the body. Interim answers (1xx) are skipped."""
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
        """Raise an error in the reader, after the bytes that have arrived."""
        self.fail_reading(error, self._body)

    def leave(self) -> bool:
        """End an exchange; return True if the connection can be used for another one."""
        done = self._body is not None and self._body.is_eof()
        self._watch = self._body = None
        self.served = True
        # an answer may arrive before the whole request has been sent
        return done and not self._unsent and not self.should_close

    def nothing_received(self) -> bool:
        """Return True if no bytes, not even part of an answer, have arrived after the last answer."""
        if self.should_close:
            return False
        # the parser ignores empty lines between two answers, but they end a head that it has read in part
        self.data_received(_EMPTY_LINES)
        return not self.should_close

    def end(self) -> None:
        """Close the connection."""
        self._watch = self._body = None
        if self._sending is not None:
            self._sending.cancel()
        if self._unsent and self.transport is not None:
            # an orderly close would wait for a peer that does not read
            self.transport.abort()
        if self.handle is not None:
            self.handle.close()

    @property
    def _unsent(self) -> bool:
        return self._sending is not None or (self.transport is not None and self.transport.get_write_buffer_size() > 0)

    def _send(self, data: bytes) -> None:
        if self.transport is None or self.transport.is_closing():
            raise aiohttp.ClientConnectionResetError("Cannot write to closing transport")
        self.transport.write(data)

    async def _send_in_pieces(self, head: bytes, body: bytes) -> None:
        """Send a large request. An error is raised in the reader of the answer."""
        try:
            self._send(head)
            for start in range(0, len(body), _PIECE):
                self._send(body[start : start + _PIECE])
                await self.drain()
        except OSError as error:
            self.set_exception(error)
        else:
            self._sending = None
