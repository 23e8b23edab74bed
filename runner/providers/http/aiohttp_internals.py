"""Every undocumented part of aiohttp that we use, and nothing else. Decision 0010 says why, and how to do without them.

The documented way, a session, costs a third of an answer's CPU. ``tests/unit/providers/test_aiohttp_internals.py`` fails
when a new version changes what is used here. Every name was last checked with the version ``CHECKED_WITH``.
"""

import asyncio
import functools
import ssl
from collections.abc import Awaitable, Callable
from typing import TypeAlias, cast

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.client_reqrep import ClientRequest, ConnectionKey
from aiohttp.connector import Connection
from aiohttp.http import HttpProcessingError, RawResponseMessage
from multidict import CIMultiDict
from yarl import URL

__all__ = [
    "CHECKED_WITH",
    "ClientRequest",
    "Connection",
    "ConnectionKey",
    "HttpProcessingError",
    "ProtocolConnector",
    "RawResponseMessage",
    "ResponseProtocol",
    "endpoint_request",
    "reader_of",
]

CHECKED_WITH = "3.14.5"
"""The version of aiohttp that every name below was last checked with."""

# -- names that aiohttp has and does not document, as they are
#
# ClientRequest         passed to a connector, which opens a connection for it; a session makes one for every request.
#                       Used: connection_key, headers, is_ssl(), request_info
# ConnectionKey         connections with the same key are interchangeable: host, port, TLS, proxy. Used: as a dictionary key
# Connection            a connector's handle on an open connection; a session hides it. Used: protocol, close()
# RawResponseMessage    an answer's head from the parser; ClientResponse would decode each header. Used: code, raw_headers
# HttpProcessingError   what the parser raises; a session wraps it in a ClientResponseError. Used: code, message, headers

_NO_TIMEOUTS = aiohttp.ClientTimeout()

_Factory: TypeAlias = "functools.partial[ResponseHandler]"


class ResponseProtocol(ResponseHandler):
    """aiohttp's protocol of a client connection, with its parser in C. A subclass uses only the names below.

    A session uses this class too, and adds a request, a response, a timer and a writer task to every exchange.
    """

    # None before the connection is made and after it is lost
    transport: asyncio.Transport | None

    # called by the event loop; a subclass may extend them
    connection_made = ResponseHandler.connection_made
    connection_lost = ResponseHandler.connection_lost
    # takes bytes that arrived; also called to feed the parser bytes that did not arrive
    data_received = ResponseHandler.data_received
    # reports a broken connection or broken framing; aiohttp calls it too. The next ``read`` raises the error
    set_exception = ResponseHandler.set_exception

    # makes a parser for the next answer
    set_response_params = ResponseHandler.set_response_params
    # waits for the next answer's head, and returns it with the body's StreamReader
    read = ResponseHandler.read
    # False only if the last answer was read to its end, nothing came after it, and both sides keep the connection
    should_close = ResponseHandler.should_close
    is_connected = ResponseHandler.is_connected
    # waits until the transport accepts more; without it, a large body would be in memory twice
    drain = ResponseHandler._drain_helper

    def resume_reading(self, resume_parser: bool = True) -> None:
        """Resume reading if it is paused. aiohttp calls this for every chunk taken, and would run the parser each time."""
        if self._reading_paused:
            super().resume_reading(resume_parser)

    def fail_reading(self, error: Exception, body: aiohttp.StreamReader | None) -> None:
        """Raise an error in the reader of the head or of the body, after the bytes for which it has already been woken."""
        self.set_exception(error)
        # before the head has been read, only the protocol has the body
        for reader in (self._payload, body):
            if reader is not None:
                reader.set_exception(error)


def reader_of(body: aiohttp.StreamReader) -> Callable[[], Awaitable[bytes]]:
    """Return what ``readany`` is: it returns all bytes that have arrived and are not read yet, waits for some, b"" at the end.

    The documented one takes each chunk of HTTP by itself, and a stream has one for each token: a tenth of a client's CPU.
    """
    # the other class is that of a body which is empty by the rules of HTTP
    return functools.partial(_read_all, body) if type(body) is aiohttp.StreamReader else body.readany


async def _read_all(body: aiohttp.StreamReader) -> bytes:
    chunks = body._buffer
    if not chunks and not body._eof and body._exception is None:
        await body._wait("readany")
    if len(chunks) > 1:
        joined = b"".join(chunks)
        chunks.clear()
        chunks.append(joined)
    return await body.readany()


class ProtocolConnector(aiohttp.TCPConnector):
    """aiohttp's connector (names, addresses, TLS, proxies), for connections with our own protocol.

    The documented connector always creates aiohttp's protocol, and only a session calls it.
    """

    def __init__(
        self, protocol: Callable[[asyncio.AbstractEventLoop], ResponseProtocol], *, limit: int, context: ssl.SSLContext | None
    ) -> None:
        """context: None if no connection is to use TLS."""
        super().__init__(limit=limit, ssl=context or True)
        self._factory = cast("_Factory", functools.partial(protocol, self._loop))

    async def open(self, request: ClientRequest) -> Connection:
        """Open a connection, with no time limit. Raises aiohttp.ClientError, OSError."""
        return await self.connect(request, [], _NO_TIMEOUTS)


def endpoint_request(
    address: URL, headers: CIMultiDict[str], proxy: URL | None, proxy_auth: aiohttp.BasicAuth | None
) -> ClientRequest:
    """Return one aiohttp request that represents all requests to an address with these headers.

    Its headers are those of a POST with an empty body, in the order in which aiohttp sends them.
    """
    loop = asyncio.get_running_loop()
    return ClientRequest("POST", address, headers=headers, data=b"", loop=loop, proxy=proxy, proxy_auth=proxy_auth)
