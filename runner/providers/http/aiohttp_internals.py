"""Everything of aiohttp that is used below its documented surface, and nothing else. Decision 0010 says why, and how to leave it.

The documented way, a session, costs a third of an answer's CPU. ``tests/unit/providers/test_aiohttp_internals.py`` fails
when a new version changes what is used here. Every name was last checked with the version ``CHECKED_WITH``.
"""

import asyncio
import functools
import ssl
from collections.abc import Callable
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
]

CHECKED_WITH = "3.14.5"
"""The version of aiohttp that every name below was last checked with."""

# -- names that aiohttp has and does not document, as they are
#
# ClientRequest         what a connector opens a connection for; a session makes one anew for every request.
#                       Used: connection_key, headers, is_ssl(), request_info
# ConnectionKey         says which connections may take each other's place: host, port, TLS, proxy. Used: that it can be a key
# Connection            a connector's handle on an open connection; a session hides it. Used: protocol, close()
# RawResponseMessage    an answer's head as the parser made it; ClientResponse would decode each header. Used: code, raw_headers
# HttpProcessingError   what the parser raises; a session wraps it in a ClientResponseError. Used: code, message, headers

_NO_TIMEOUTS = aiohttp.ClientTimeout()

_Factory: TypeAlias = "functools.partial[ResponseHandler]"


class ResponseProtocol(ResponseHandler):
    """aiohttp's protocol of a client connection, with its parser in C. A subclass uses the names below and no others.

    A session has it too, and puts a request, a response, a timer and a writer's task around every exchange.
    """

    # None before the connection is there and after it is gone
    transport: asyncio.Transport | None

    # what the event loop calls: a subclass may do more
    connection_made = ResponseHandler.connection_made
    connection_lost = ResponseHandler.connection_lost
    # what arrived; also called to feed the parser bytes that did not
    data_received = ResponseHandler.data_received
    # a broken connection or broken framing; aiohttp calls it too. The next ``read`` raises the error
    set_exception = ResponseHandler.set_exception

    # makes a parser for the next answer
    set_response_params = ResponseHandler.set_response_params
    # waits for the next answer's head, and returns it with the body's StreamReader
    read = ResponseHandler.read
    # True unless the last answer was read to its end, nothing came behind it, and both sides keep the connection
    should_close = ResponseHandler.should_close
    is_connected = ResponseHandler.is_connected
    # waits until the transport takes more; without it a large body lies in memory once more
    drain = ResponseHandler._drain_helper

    def resume_reading(self, resume_parser: bool = True) -> None:
        """Read on. aiohttp asks for it with every chunk that is taken, and it parses anew each time."""
        if self._reading_paused:
            super().resume_reading(resume_parser)

    def fail_reading(self, error: Exception, body: aiohttp.StreamReader | None) -> None:
        """Give whoever reads the head or the body an error, behind the bytes for which a reader has been woken already."""
        self.set_exception(error)
        # until the head has been read, the protocol alone knows the body
        for reader in (self._payload, body):
            if reader is not None:
                reader.set_exception(error)


class ProtocolConnector(aiohttp.TCPConnector):
    """aiohttp's connector (names, addresses, TLS, proxies), for connections whose protocol is ours.

    The documented connector always makes aiohttp's own protocol, and is called by a session only.
    """

    def __init__(
        self, protocol: Callable[[asyncio.AbstractEventLoop], ResponseProtocol], *, limit: int, context: ssl.SSLContext
    ) -> None:
        super().__init__(limit=limit, ssl=context)
        self._factory = cast("_Factory", functools.partial(protocol, self._loop))

    async def open(self, request: ClientRequest) -> Connection:
        """Open a connection, with no time limit. Raises aiohttp.ClientError, OSError."""
        return await self.connect(request, [], _NO_TIMEOUTS)


def endpoint_request(
    address: URL, headers: CIMultiDict[str], proxy: URL | None, proxy_auth: aiohttp.BasicAuth | None
) -> ClientRequest:
    """Return aiohttp's request that stands for all requests to an address with these headers.

    Its headers are those of a POST with an empty body, in the order in which aiohttp sends them.
    """
    loop = asyncio.get_running_loop()
    return ClientRequest("POST", address, headers=headers, data=b"", loop=loop, proxy=proxy, proxy_auth=proxy_auth)
