"""The undocumented parts of aiohttp that the client uses still exist and behave as before, on real sockets.

A failure usually means that another version of aiohttp is installed; the message says what to check.
"""

import asyncio
import gzip
import inspect
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
import trustme
from asking import PROGRAM_LOOP
from internals import Internals, foreign_names, own_names
from multidict import CIMultiDict
from raw_server import FIN, HANG, LAST, STREAM, RawServer, Reply, Tunnel, chunk, head, whole
from yarl import URL

from runner.providers.http import aiohttp_internals
from runner.providers.http.aiohttp_internals import (
    ClientRequest,
    Connection,
    ConnectionKey,
    HttpProcessingError,
    ProtocolConnector,
    RawResponseMessage,
    ResponseProtocol,
    endpoint_request,
    reader_of,
)
from runner.providers.http.connection import HttpConnection

AIOHTTP = Internals(aiohttp_internals, "aiohttp")
ASK = b"POST /v1 HTTP/1.1\r\nHost: here\r\nContent-Length: 0\r\n\r\n"
LARGE = 8 << 20
"""More bytes than the buffers of two sockets and of a reader hold."""


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return PROGRAM_LOOP


class Watched(ResponseProtocol):
    """Records the calls that aiohttp makes."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self.seen: list[object] = []

    def resume_reading(self, resume_parser: bool = True) -> None:
        self.seen.append("resume_reading")
        super().resume_reading(resume_parser)

    def data_received(self, data: bytes) -> None:
        self.seen.append(data)
        super().data_received(data)

    def set_exception(self, exc: BaseException, *cause: BaseException) -> None:
        self.seen.append(exc)
        super().set_exception(exc, *cause)


class Opened:
    """A connection, with its protocol and its connector."""

    def __init__(self, connector: ProtocolConnector, connection: Connection, protocol: Watched) -> None:
        self.connector, self.connection, self.protocol = connector, connection, protocol

    async def ask(self) -> tuple[RawResponseMessage, aiohttp.StreamReader]:
        self.protocol.set_response_params(read_until_eof=True, auto_decompress=False)
        assert self.protocol.transport is not None
        self.protocol.transport.write(ASK)
        return await self.protocol.read()


def request_to(address: str, proxy: str | None = None, **headers: str) -> ClientRequest:
    return endpoint_request(URL(address), CIMultiDict(headers), URL(proxy) if proxy else None, None)


@asynccontextmanager
async def opened(address: str, proxy: str | None = None, context: ssl.SSLContext | None = None) -> AsyncIterator[Opened]:
    connector = ProtocolConnector(Watched, limit=0, context=context or ssl.create_default_context())
    try:
        connection = await connector.open(request_to(address, proxy))
        assert isinstance(connection.protocol, Watched), f"the connector made a {type(connection.protocol).__name__}"
        try:
            yield Opened(connector, connection, connection.protocol)
        finally:
            connection.close()
    finally:
        await connector.close()


@asynccontextmanager
async def connected(*answers: Reply) -> AsyncIterator[Opened]:
    async with RawServer(answers) as server, opened(server.base_url) as found:
        yield found


async def all_of(body: aiohttp.StreamReader) -> bytes:
    found = bytearray()
    while piece := await body.readany():
        found += piece
    return bytes(found)


async def until(true: Callable[[], bool]) -> None:
    while not true():  # noqa: ASYNC110 - aiohttp tells nobody
        await asyncio.sleep(0.001)


# -- names and signatures


def test_the_version_is_the_one_that_was_checked() -> None:
    AIOHTTP.check_one_minor_version()


def test_the_protocol_is_a_protocol_and_a_queue() -> None:
    with AIOHTTP.uses("ResponseHandler is an asyncio.Protocol and a queue of answers' heads; HttpConnection builds on both"):
        names = [base.__name__ for base in aiohttp_internals.ResponseHandler.__mro__]
        assert issubclass(ResponseProtocol, asyncio.Protocol)
        assert {"BaseProtocol", "DataQueue"} <= set(names), names
        assert inspect.iscoroutinefunction(ResponseProtocol.read)
        assert inspect.iscoroutinefunction(ResponseProtocol.drain)
        assert isinstance(vars(ResponseProtocol)["should_close"], property)


@pytest.mark.parametrize(
    ("function", "given", "named"),
    [
        (ResponseProtocol.__init__, ["self", "loop"], []),
        (ResponseProtocol.connection_made, ["self", "transport"], []),
        (ResponseProtocol.connection_lost, ["self", "exc"], []),
        (ResponseProtocol.data_received, ["self", "data"], []),
        (ResponseProtocol.set_exception, ["self", "exc", "cause"], []),
        (ResponseProtocol.set_response_params, ["self"], ["read_until_eof", "auto_decompress"]),
        (aiohttp_internals.ResponseHandler.resume_reading, ["self", "resume_parser"], []),
        (ResponseProtocol.read, ["self"], []),
        (ResponseProtocol.is_connected, ["self"], []),
        (ResponseProtocol.drain, ["self"], []),
        (aiohttp.StreamReader.set_exception, ["self", "exc"], []),
        (aiohttp.TCPConnector.connect, ["self", "request", "traces", "timeout"], []),
        (ClientRequest.__init__, ["self", "method", "url"], ["headers", "data", "loop", "proxy", "proxy_auth"]),
        (Connection.close, ["self"], []),
        (HttpProcessingError.__init__, ["self"], ["code", "message", "headers"]),
    ],
    ids=lambda value: getattr(value, "__qualname__", ""),
)
def test_a_signature_takes_what_it_is_called_with(function: Callable[..., Any], given: list[str], named: list[str]) -> None:
    with AIOHTTP.uses(f"{function.__qualname__} is called with {len(given)} arguments and {named}"):
        signature = inspect.signature(function)
        signature.bind(*given, **dict.fromkeys(named))
        needed = [name for name, one in signature.parameters.items() if one.default is one.empty and one.kind not in (2, 4)]
        assert len(needed) <= len(given) + len(named), f"it asks for {needed}"


def test_the_private_names_are_there_and_those_of_a_connection_are_free() -> None:
    theirs = foreign_names(HttpConnection)
    with AIOHTTP.uses("ResponseProtocol reads _reading_paused and _payload, ProtocolConnector sets _factory and reads _loop"):
        assert {"_reading_paused", "_payload", "transport", "_drain_helper"} <= theirs
        assert {"_factory", "_loop"} <= foreign_names(ProtocolConnector)
    ours = (own_names(HttpConnection) | own_names(ResponseProtocol) | own_names(ProtocolConnector)) - {
        "__module__",
        "__doc__",
        "__init__",
    }
    meant = {
        "connection_made",
        "connection_lost",
        "data_received",
        "set_exception",
        "set_response_params",
        "read",
        "should_close",
        "is_connected",
        "resume_reading",
        "transport",
        "_factory",
    }
    with AIOHTTP.uses(
        "a name that HttpConnection or its bases add must not be one of aiohttp's own: one would overwrite the other"
    ):
        taken = {name for name in ours & (theirs | foreign_names(ProtocolConnector)) if not name.startswith("__")}
        assert taken == meant, f"taken by aiohttp: {sorted(taken ^ meant)}"


# -- a request that represents all


@pytest.mark.anyio
async def test_a_request_has_the_headers_of_an_empty_post() -> None:
    with AIOHTTP.uses_within("request.Endpoint writes ClientRequest.headers, in their order, and splits them at the length of 0"):
        request = request_to("http://127.0.0.1:81/v1", **{"accept": "a", "accept-encoding": "b", "user-agent": "c", "x": "d"})
        found = [(name.lower(), value) for name, value in request.headers.items()]
        assert found[:5] == [("host", "127.0.0.1:81"), ("accept", "a"), ("accept-encoding", "b"), ("user-agent", "c"), ("x", "d")]
        assert found[5:] == [("content-length", "0"), ("content-type", "application/octet-stream")]
        assert "Content-Length" in list(request.headers), "Endpoint looks for this spelling, in which any other is a key as well"
        assert not request.is_ssl()
        assert request_to("https://127.0.0.1/v1").is_ssl()
        error = aiohttp.ClientResponseError(request.request_info, (), status=1, message="m", headers=None)
        assert error.request_info.real_url == URL("http://127.0.0.1:81/v1")


@pytest.mark.anyio
async def test_a_connection_key_tells_which_connections_are_alike() -> None:
    with AIOHTTP.uses_within("pool.ConnectionPool keeps idle connections by ClientRequest.connection_key"):
        one, same, *others = (
            request_to(*address).connection_key
            for address in (
                ("http://127.0.0.1:81/v1",),
                ("http://127.0.0.1:81/other",),
                ("http://127.0.0.1:82/v1",),
                ("http://127.0.0.2:81/v1",),
                ("https://127.0.0.1:81/v1",),
                ("http://127.0.0.1:81/v1", "http://127.0.0.1:9"),
            )
        )
        assert isinstance(one, ConnectionKey)
        assert (one, hash(one)) == (same, hash(same))
        assert len({one, *others}) == 1 + len(others)


# -- connections


@pytest.mark.anyio
async def test_a_connection_has_our_protocol_and_ends_with_close() -> None:
    with AIOHTTP.uses_within(
        "pool.ConnectionPool opens by TCPConnector.connect and ._factory; Connection.close closes connections"
    ):
        async with RawServer(whole("200 OK", b"x")) as server, opened(server.base_url) as found:
            assert found.protocol.is_connected()
            assert found.protocol.transport is not None
            assert found.protocol.transport.get_extra_info("socket") is not None
            assert found.protocol.transport.get_write_buffer_size() == 0
            found.connection.close()
            assert not found.protocol.is_connected()
            await until(lambda: server.open == 0)


@pytest.mark.anyio
async def test_a_connector_closes_what_is_open() -> None:
    with AIOHTTP.uses_within("pool.ConnectionPool.close leaves connections in use to TCPConnector.close"):
        async with RawServer(whole("200 OK", b"x")) as server, opened(server.base_url) as found:
            await found.connector.close()
            await until(lambda: server.open == 0)
            with pytest.raises(aiohttp.ClientConnectionError):
                await found.connector.open(request_to(server.base_url))


@pytest.mark.anyio
async def test_a_connection_has_our_protocol_over_tls_and_behind_a_proxy() -> None:
    authority = trustme.CA()
    theirs, ours = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("127.0.0.1").configure_cert(theirs)
    authority.configure_trust(ours)
    with AIOHTTP.uses_within("TCPConnector makes a protocol by ._factory for TLS, and a second one for TLS behind a proxy"):
        async with RawServer(whole("200 OK", b"x"), tls=theirs) as server:
            async with opened(server.base_url, context=ours) as found:
                assert (await found.ask())[0].code == 200
            async with (
                RawServer(Reply((head("200 OK"), Tunnel(server.port)))) as proxy,
                opened(server.base_url, proxy.origin, ours) as found,
            ):
                assert (await found.ask())[0].code == 200


# -- exchanges


@pytest.mark.anyio
async def test_an_exchange_and_another_one_on_its_connection() -> None:
    with AIOHTTP.uses_within("HttpConnection calls set_response_params, read and StreamReader, and is used for another exchange"):
        first = head("200 OK", {"X-One": "a", "transfer-encoding": "chunked"}) + chunk(b"abc")
        answer = Reply((first, 0.01, chunk(b"de") + LAST))
        async with connected(answer) as found:
            for _ in range(2):
                message, body = await found.ask()
                assert isinstance(message, RawResponseMessage)
                assert isinstance(body, aiohttp.StreamReader)
                assert message.code == 200
                assert tuple(message.raw_headers) == ((b"X-One", b"a"), (b"transfer-encoding", b"chunked"))
                assert found.protocol.should_close, "the body has not been read"
                assert not body.is_eof()
                assert await body.readany() == b"abc"
                assert not body.at_eof()
                assert await all_of(body) == b"de"
                assert body.is_eof()
                assert body.at_eof()
                assert not found.protocol.should_close


@pytest.mark.anyio
async def test_interim_answers_are_heads_of_their_own() -> None:
    with AIOHTTP.uses_within("HttpConnection.head passes over interim answers, each of which read() returns"):
        async with connected(Reply((head("103 Early Hints") + head("200 OK", {"content-length": "1"}) + b"x",))) as found:
            assert (await found.ask())[0].code == 103
            message, body = await found.protocol.read()
            assert (message.code, await all_of(body)) == (200, b"x")


@pytest.mark.anyio
async def test_content_stays_as_it_came() -> None:
    packed = gzip.compress(b"abc")
    with AIOHTTP.uses_within("body.Body inflates: auto_decompress=False keeps the parser from it"):
        async with connected(whole("200 OK", packed, content_encoding="gzip")) as found:
            _, body = await found.ask()
            assert await all_of(body) == packed


@pytest.mark.anyio
async def test_an_answer_without_a_length_ends_with_its_connection() -> None:
    with AIOHTTP.uses_within("read_until_eof=True lets the end of the connection be the end of the body"):
        async with connected(Reply((head("200 OK") + b"abc", FIN))) as found:
            _, body = await found.ask()
            assert await all_of(body) == b"abc"
            assert found.protocol.should_close


@pytest.mark.anyio
async def test_a_server_that_closes_behind_its_answer() -> None:
    with AIOHTTP.uses_within("HttpConnection.leave does not keep a connection that the server will close: should_close"):
        async with connected(whole("200 OK", b"x", connection="close")) as found:
            _, body = await found.ask()
            assert await all_of(body) == b"x"
            assert body.is_eof()
            assert found.protocol.should_close


@pytest.mark.anyio
async def test_reading_pauses_and_goes_on() -> None:
    with AIOHTTP.uses_within("ResponseProtocol.resume_reading: each chunk taken calls it, ._reading_paused says whether it acts"):
        async with connected(whole("200 OK", bytes(LARGE))) as found:
            _, body = await found.ask()
            await until(lambda: found.protocol._reading_paused)
            before = sum(len(data) for data in found.protocol.seen if isinstance(data, bytes))
            assert before < LARGE
            assert len(await all_of(body)) == LARGE
            assert not found.protocol._reading_paused
            assert not found.protocol.should_close


@pytest.mark.anyio
async def test_a_chunk_that_is_taken_is_not_parsed_again() -> None:
    with AIOHTTP.uses_within("ResponseProtocol.resume_reading: without it, aiohttp parses once more with each chunk taken"):
        async with connected(Reply((STREAM, chunk(b"a"), 0.01, chunk(b"b"), 0.01, LAST))) as found:
            _, body = await found.ask()
            assert await all_of(body) == b"ab"
            assert "resume_reading" in found.protocol.seen
            assert b"" not in found.protocol.seen


@pytest.mark.anyio
async def test_all_chunks_that_have_come_are_read_at_once() -> None:
    with AIOHTTP.uses_within(
        "reader_of: StreamReader._buffer holds the chunks that are not read, ._wait waits for the first one"
    ):
        many = [chunk(b"%d," % number) for number in range(200)]
        async with connected(
            Reply((STREAM, b"".join(many), 0.05, chunk(b"end"), 0.05, LAST)), Reply((head("204 None"),))
        ) as found:
            _, body = await found.ask()
            # one waiter, then all that came with what woke it
            read, pieces = reader_of(body), []
            while piece := await read():
                pieces.append(piece)
            assert b"".join(pieces) == b"".join(b"%d," % number for number in range(200)) + b"end"
            assert len(pieces) < 10
            assert body.at_eof()
            assert await read() == b""
            assert found.protocol.seen.count("resume_reading") < 10
            _, empty = await found.ask()
            assert await reader_of(empty)() == b""


@pytest.mark.anyio
async def test_reading_all_at_once_pauses_and_goes_on_too() -> None:
    with AIOHTTP.uses_within("reader_of: readany counts what it takes, and resumes a connection that was paused"):
        async with connected(whole("200 OK", bytes(LARGE))) as found:
            _, body = await found.ask()
            await until(lambda: found.protocol._reading_paused)
            read, size = reader_of(body), 0
            while piece := await read():
                size += len(piece)
            assert size == LARGE
            assert not found.protocol._reading_paused
            assert not found.protocol.should_close


@pytest.mark.anyio
async def test_who_reads_all_at_once_gets_what_has_come_and_then_the_error() -> None:
    with AIOHTTP.uses_within("reader_of: an error reaches who waits, behind the bytes that came before it"):
        async with connected(Reply((STREAM, chunk(b"a"), chunk(b"b"), HANG))) as found:
            _, body = await found.ask()
            read = reader_of(body)
            asyncio.get_running_loop().call_later(0.05, found.protocol.fail_reading, ZeroDivisionError("ours"), None)
            pieces = [await read()]
            if pieces == [b"a"]:
                pieces.append(await read())
            assert b"".join(pieces) == b"ab"
            with pytest.raises(ZeroDivisionError, match="ours"):
                await read()


# -- faults


@pytest.mark.anyio
async def test_who_waits_for_a_body_or_a_head_is_given_an_error() -> None:
    with AIOHTTP.uses_within("ResponseProtocol.fail_reading gives an error to DataQueue.read and to StreamReader.readany"):
        async with connected(Reply((STREAM, chunk(b"a"), HANG))) as found:
            _, body = await found.ask()
            asyncio.get_running_loop().call_later(0.05, found.protocol.fail_reading, ZeroDivisionError("ours"), None)
            with pytest.raises(ZeroDivisionError, match="ours"):
                await all_of(body)
            assert found.protocol.should_close
        async with connected(Reply((HANG,))) as found:
            asyncio.get_running_loop().call_later(0.05, found.protocol.fail_reading, ZeroDivisionError("ours"), None)
            with pytest.raises(ZeroDivisionError, match="ours"):
                await found.ask()


@pytest.mark.anyio
async def test_what_has_come_is_read_before_an_error() -> None:
    with AIOHTTP.uses_within("whoever waits for a body gets the bytes that came before an error, and then the error"):
        async with connected(Reply((STREAM, HANG))) as found:
            _, body = await found.ask()
            reading = asyncio.ensure_future(body.readany())
            await asyncio.sleep(0)
            found.protocol.data_received(chunk(b"abc"))
            found.protocol.fail_reading(ZeroDivisionError("ours"), body)
            assert await reading == b"abc"
            with pytest.raises(ZeroDivisionError, match="ours"):
                await body.readany()


@pytest.mark.anyio
async def test_broken_framing_is_told_to_the_protocol() -> None:
    with AIOHTTP.uses_within("HttpConnection.set_exception ends the exchange on an HttpProcessingError"):
        async with connected(Reply((STREAM + chunk(b"abc"), 0.01, b"no length\r\n", HANG))) as found:
            await found.ask()
            await until(lambda: any(isinstance(one, HttpProcessingError) for one in found.protocol.seen))
        async with connected(Reply((b"no status line\r\n\r\n", HANG))) as found:
            with pytest.raises(HttpProcessingError) as raised:
                await found.ask()
            assert raised.value.code == 400
            assert isinstance(raised.value.message, str)
            assert raised.value.headers is None


@pytest.mark.anyio
async def test_a_connection_that_is_lost() -> None:
    with AIOHTTP.uses_within("errors.transport_error knows a lost connection by the errors of read() and of StreamReader"):
        async with connected(Reply((FIN,))) as found:
            with pytest.raises(aiohttp.ServerDisconnectedError):
                await found.ask()
            assert not found.protocol.is_connected()
        async with connected(Reply((STREAM + chunk(b"abc"), 0.05, FIN))) as found:
            _, body = await found.ask()
            with pytest.raises(aiohttp.ClientPayloadError):
                await all_of(body)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("behind", "fit"),
    [
        (b"", True),
        (b"HTTP/1.1 2", False),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", False),
        (b"what is this", False),
    ],
)
async def test_empty_lines_show_whether_something_came_behind_an_answer(behind: bytes, fit: bool) -> None:
    with AIOHTTP.uses_within("HttpConnection.nothing_received feeds the parser empty lines: they end a head that came in part"):
        async with connected(whole("200 OK", b"x")) as found:
            await all_of((await found.ask())[1])
            assert not found.protocol.should_close
            if behind:
                found.protocol.data_received(behind)
            found.protocol.data_received(b"\r\n\r\n")
            assert found.protocol.should_close is not fit
            if fit:
                assert (await found.ask())[0].code == 200


@pytest.mark.anyio
async def test_draining_waits_until_the_server_reads() -> None:
    with AIOHTTP.uses_within("HttpConnection sends a large body in pieces, and waits for ResponseProtocol.drain between them"):
        taken = asyncio.Event()

        async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await taken.wait()
            await reader.readexactly(LARGE)
            writer.close()

        server = await asyncio.start_server(slow, "127.0.0.1")
        async with server, opened(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}") as found:
            assert found.protocol.transport is not None
            await found.protocol.drain()
            found.protocol.transport.write(bytes(LARGE))
            draining = asyncio.ensure_future(found.protocol.drain())
            await asyncio.sleep(0.05)
            waited = not draining.done()
            taken.set()
            await draining
            await until(lambda: not found.protocol.is_connected())
            # not earlier, or the loop would not end before all is sent
            assert waited, "it does not wait"
            with pytest.raises(aiohttp.ClientConnectionResetError):
                await found.protocol.drain()
