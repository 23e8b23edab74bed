"""What ``HttpClient`` puts on the wire, byte by byte, and which connection it does it on."""

import asyncio
import socket
from typing import Any

import anyio
import pytest
from asking import BOTH_LOOPS, CALM, PROGRAM_LOOP, SETTLE_S, SHORT, Got, call, provider, until
from raw_server import (
    DONE,
    FIN,
    LAST,
    STREAM,
    RawServer,
    Received,
    Reply,
    Step,
    chunk,
    delta,
    finish,
    head,
    openai_answer,
    stream,
)

from runner.errors import AttemptError, TransportError
from runner.model import HttpCall, Request
from runner.providers.http import HttpClient, Timeouts, connection, pool

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return PROGRAM_LOOP


async def sent(dialect: str, base_url: str, prompt: str, proxy: str | None = None) -> tuple[bytes, bytes]:
    """Give the bytes of a request, its head apart from its body; {port} in an address is the server's."""
    received = bytearray()

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received.extend(await reader.readuntil(b"\r\n\r\n"))
        length = int(bytes(received).lower().partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0)
        received.extend(await reader.readexactly(length))
        writer.write(head("500 No", {"content-length": "0", "connection": "close"}))
        writer.close()

    async with await asyncio.start_server(take, "127.0.0.1") as server:
        port = server.sockets[0].getsockname()[1]
        address = base_url.format(port=port)
        async with HttpClient(CALM, proxy=proxy.format(port=port) if proxy is not None else None) as client:
            await call(client, address, dialect, prompt)
    first, end, body = bytes(received).partition(b"\r\n\r\n")
    return (first + end).replace(str(port).encode(), b"PORT"), body


# -- the bytes


OPENAI_HEAD = (
    b"POST /a%%20b/v1/chat/completions HTTP/1.1\r\n"
    b"Host: 127.0.0.1:PORT\r\n"
    b"content-type: application/json\r\n"
    b"accept: text/event-stream\r\n"
    b"accept-encoding: identity\r\n"
    b"user-agent: prompt-runner/0\r\n"
    b"authorization: Bearer a-test-key\r\n"
    b"Content-Length: %d\r\n"
    b"\r\n"
)
ANTHROPIC_HEAD = (
    b"POST /a%%20b/v1/messages HTTP/1.1\r\n"
    b"Host: 127.0.0.1:PORT\r\n"
    b"content-type: application/json\r\n"
    b"accept: text/event-stream\r\n"
    b"accept-encoding: identity\r\n"
    b"user-agent: prompt-runner/0\r\n"
    b"anthropic-version: 2023-06-01\r\n"
    b"x-api-key: a-test-key\r\n"
    b"Content-Length: %d\r\n"
    b"\r\n"
)


@BOTH_LOOPS
@pytest.mark.parametrize("size", [2, 70_000, 3 << 20], ids=["small", "larger than a buffer", "in pieces"])
@pytest.mark.parametrize(("dialect", "expected"), [("openai", OPENAI_HEAD), ("anthropic", ANTHROPIC_HEAD)])
async def test_the_bytes_of_a_request(dialect: str, expected: bytes, size: int) -> None:
    first, body = await sent(dialect, "http://127.0.0.1:{port}/a b/v1", "ü" * size)
    assert first == expected % len(body)
    made = provider("http://127.0.0.1/v1", dialect)
    assert body == made.encode(Request(model="m", messages=({"role": "user", "content": "ü" * size},))).body


@pytest.mark.parametrize("user", [True, False])
async def test_a_proxy_gets_the_whole_address_and_its_user_apart(user: bool) -> None:
    proxy = "http://some%40one:word@127.0.0.1:{port}" if user else "http://127.0.0.1:{port}"
    first, body = await sent("openai", "http://far.example/v1", "Hi", proxy)
    lines = first.split(b"\r\n")
    assert lines[:2] == [b"POST http://far.example/v1/chat/completions HTTP/1.1", b"Host: far.example"]
    length = b"Content-Length: %d" % len(body)
    assert lines[lines.index(length) + 1 :] == ([b"Proxy-Authorization: Basic c29tZUBvbmU6d29yZA=="] if user else []) + [b"", b""]


@pytest.mark.parametrize(
    "headers",
    [{"x-one": "a\r\nb: c"}, {"x-one": "a\nb"}, {"x-one": "a\x00b"}, {"x-one\r\nb": "c"}, {"x": "\x7f"}, {"x": "\u20ac"}],
    ids=["two lines", "a line feed", "NUL", "in a name", "DEL", "beyond ASCII"],
)
async def test_a_header_that_cannot_be_sent_is_refused_before_anything_is(headers: dict[str, str]) -> None:
    async with RawServer(openai_answer()) as server, HttpClient(CALM) as client:
        made = provider(server.base_url)
        request = HttpCall(url=f"{server.base_url}/chat/completions", headers=headers, body=b"{}")
        with pytest.raises(TransportError, match="cannot be sent") as refused:
            await client.stream(request, made.decoder(), client.exchange(), made.error)
        assert (refused.value.code, refused.value.verdict, refused.value.sent) == ("address", "stop", False)
        assert server.connections == 0


async def test_headers_and_addresses_may_change_from_call_to_call() -> None:
    async with RawServer(openai_answer()) as server, HttpClient(CALM) as client:
        made = provider(server.base_url)
        for number in range(4):
            # what a provider says of the length is not what counts
            headers = {"x-number": str(number // 2), "content-length": "7"}
            request = HttpCall(url=f"{server.base_url}/{number}", headers=headers, body=b"{}")
            await client.stream(request, made.decoder(), client.exchange(), made.error)
        assert [one.path for one in server.requests] == [f"/v1/{number}" for number in range(4)]
        assert [one.headers["x-number"] for one in server.requests] == ["0", "0", "1", "1"]
        assert {one.headers["content-length"] for one in server.requests} == {"2"}
        assert server.connections == 1


@pytest.mark.parametrize("address", ["ftp://127.0.0.1/v1", "127.0.0.1/v1", "http:///v1"])
async def test_an_address_that_is_none(address: str) -> None:
    async with HttpClient(CALM) as client:
        got = await call(client, address)
    got.is_(TransportError, "address", "stop", sent=False)
    assert not got.exchange.connected


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("proxy", ["http://me:hush%E2%82%AC@127.0.0.1:9", "http://127.0.0.1:99999", "http://"])
async def test_a_proxy_that_cannot_be_used_is_no_rows_fault(scheme: str, proxy: str) -> None:
    async with HttpClient(CALM, proxy=proxy) as client:
        got = await call(client, f"{scheme}://far.example/v1")
    got.is_(TransportError, "address", "stop", sent=False)
    assert "proxy" in str(got.failure)
    assert "hush" not in str(got.failure)
    assert not got.exchange.connected


# -- the connection


@BOTH_LOOPS
@pytest.mark.parametrize("first", [head("100 Continue"), head("103 Early Hints", {"link": "</x>"}) * 2])
async def test_h13_a_connection_is_kept_behind_interim_answers(first: bytes) -> None:
    async with RawServer(Reply((first, *openai_answer().steps))) as server, HttpClient(CALM) as client:
        for _ in range(3):
            assert (await call(client, server.base_url)).completion.text == "Hello"
        assert server.connections == 1


@BOTH_LOOPS
async def test_h13_a_connection_that_switched_is_not_used_again() -> None:
    switched = Reply((head("101 Switching Protocols", {"upgrade": "websocket", "connection": "upgrade"}), 0.3))
    async with RawServer([switched, openai_answer()]) as server, HttpClient(CALM) as client:
        assert (await call(client, server.base_url)).error is not None
        assert (await call(client, server.base_url)).completion.text == "Hello"
        assert server.connections == 2


CLOSING = Reply((head(headers={"content-type": "text/event-stream", "connection": "close"}), delta("Hello"), finish(), DONE, FIN))


@BOTH_LOOPS
@pytest.mark.parametrize(
    "first",
    [
        CLOSING,
        Reply((head("500 No", {"content-length": "0", "connection": "close"}),)),
        Reply((head("500 No", {"content-length": "0"}, version="1.0"),)),
        Reply((head("500 No", {"content-length": "9"}), b"123", 0.3)),
    ],
    ids=["closing stream", "closing error", "HTTP/1.0", "half an error"],
)
async def test_a_connection_that_is_over_is_not_used_again(first: Reply) -> None:
    async with RawServer([first, openai_answer()]) as server, HttpClient(SHORT) as client:
        await call(client, server.base_url)
        got = await call(client, server.base_url)
        assert got.completion.text == "Hello"
        assert not got.exchange.reused
        assert server.connections == 2


@pytest.fixture
def _little_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the kernel take next to nothing, so that most of a request waits in the process until the server reads it."""
    made = connection.HttpConnection.connection_made

    def narrow(self: connection.HttpConnection, transport: asyncio.BaseTransport) -> None:
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        made(self, transport)

    monkeypatch.setattr(connection.HttpConnection, "connection_made", narrow)


@BOTH_LOOPS
@pytest.mark.usefixtures("_little_room")
@pytest.mark.parametrize("size", [900_000, 30 << 20], ids=["one piece", "in pieces"])
async def test_h15_an_answer_before_the_request_had_gone_out_costs_the_connection(size: int) -> None:
    """The rest of the request would be read as the next one."""
    over, connections = asyncio.Event(), 0

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        number = connections
        await reader.readuntil(b"\r\n\r\n")
        if number == 1:
            writer.write(head("413 Large", {"content-length": "0"}))
            # not a byte more is read
            await over.wait()
            writer.transport.abort()
            return
        for step in openai_answer().steps:
            assert isinstance(step, bytes)
            writer.write(step)
        writer.close()

    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    listener.bind(("127.0.0.1", 0))
    address = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
    async with await asyncio.start_server(answer, sock=listener, limit=4096):
        async with HttpClient(CALM) as client:
            got = await call(client, address, prompt="x" * size)
            assert (got.failure.code, got.failure.verdict) == ("too_large", "fail")
            second = await call(client, address)
            assert (second.completion.text, second.exchange.reused, connections) == ("Hello", False, 2)
        over.set()
        await anyio.sleep(SETTLE_S)


async def over(server: RawServer) -> None:
    """Wait until the server has sent all of its first reply, and a moment more, in which the client may see the end of it."""
    while server.requests[0].over is None:  # noqa: ASYNC110 - the server tells nobody
        await anyio.sleep(SETTLE_S)
    await anyio.sleep(SETTLE_S)


@BOTH_LOOPS
@pytest.mark.parametrize("pause_s", [0.0, SETTLE_S / 3])
@pytest.mark.parametrize(
    "part", [b"H", b"HTTP/1.1 200 O", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\ncontent-ty", b"\r\nHTTP", STREAM[:-2]]
)
async def test_h6_part_of_an_answer_behind_another_costs_the_connection(part: bytes, pause_s: float) -> None:
    good = b"".join(step for step in openai_answer().steps if isinstance(step, bytes))
    first = Reply((good, pause_s, part) if pause_s else (good + part,))
    async with RawServer([first, openai_answer("second")]) as server, HttpClient(CALM) as client:
        assert (await call(client, server.base_url)).completion.text == "Hello"
        await over(server)
        got = await call(client, server.base_url)
        assert got.completion.text == "second"
        assert (server.connections, got.exchange.reused) == (2, False)


@BOTH_LOOPS
@pytest.mark.parametrize("kind", ["an answer", "noise"])
async def test_h6_bytes_that_come_between_two_exchanges_are_nobodys_answer(kind: str) -> None:
    smuggled = b"".join(step for step in openai_answer("SMUGGLED").steps if isinstance(step, bytes))
    behind: Step = smuggled if kind == "an answer" else b"\x00\x01noise\r\n\r\n"
    first = stream(delta("Hello"), finish(), DONE, end=(LAST, SETTLE_S, behind))
    async with RawServer([first, openai_answer("second")]) as server, HttpClient(CALM) as client:
        assert (await call(client, server.base_url)).completion.text == "Hello"
        await over(server)
        got = await call(client, server.base_url)
        assert got.completion.text == "second"
        assert not got.exchange.reused
        assert server.connections == 2


@BOTH_LOOPS
async def test_an_answer_larger_than_the_buffers_is_read_to_its_end() -> None:
    """aiohttp stops reading where more than half a megabyte waits, and goes on when it is taken."""
    padding = b": " + b"x" * 30_000 + b"\n\n"
    large = stream(delta("Hel"), b"".join([padding] * 300), delta("lo"), finish(), DONE)
    async with RawServer(large) as server, HttpClient(CALM) as client:
        for _ in range(2):
            got = await call(client, server.base_url)
            assert (got.completion.text, got.exchange.tail_lost) == ("Hello", False)
            assert got.exchange.bytes_received > 300 * 30_000
        assert server.connections == 1


@BOTH_LOOPS
async def test_idle_connections_are_closed_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "KEEPALIVE_S", 1.0)
    async with RawServer(Reply((0.05, *openai_answer().steps))) as server, HttpClient(CALM) as client:

        async def one() -> None:
            assert (await call(client, server.base_url)).completion.text == "Hello"

        async with anyio.create_task_group() as group:
            for _ in range(5):
                group.start_soon(one)
        assert server.open == 5
        for _ in range(2):
            # one of them is in use all the time, and stays
            await anyio.sleep(0.6)
            await one()
        await until(lambda: server.open < 2)
        assert server.open == 1
        await until(lambda: not server.open)
        assert not (await call(client, server.base_url)).exchange.reused


@BOTH_LOOPS
async def test_a_fresh_connection_is_one_that_has_not_served_and_the_idle_ones_are_closed() -> None:
    async with RawServer(Reply((0.05, *openai_answer().steps))) as server, HttpClient(CALM) as client:
        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(call, client, server.base_url)
        assert (server.connections, server.open) == (3, 3)
        made = provider(server.base_url)
        request = made.encode(Request(model="m", messages=({"role": "user", "content": "Hi"},)))
        for fresh in (True, False):
            exchange = client.exchange(fresh=fresh)
            await client.stream(request, made.decoder(), exchange, made.error)
            assert (server.connections, server.open, exchange.reused) == (4, 1, not fresh)


async def test_closing_the_client_closes_its_connections() -> None:
    async with RawServer(openai_answer()) as server:
        async with HttpClient(CALM) as client:
            for _ in range(2):
                await call(client, server.base_url)
            assert server.open == 1
        await until(lambda: not server.open)


# -- the timeouts


@BOTH_LOOPS
@pytest.mark.parametrize("number", [1, 60])
async def test_clocks_run_out_in_time_however_many_there_are(number: int) -> None:
    hanging = Timeouts(connect_s=20, first_byte_s=20, silence_s=0.1, attempt_s=20)
    took: list[float] = []

    def answers(request: Received) -> Reply:
        return Reply((0.05, STREAM, chunk(delta("Hel")), 3600.0))

    async with RawServer(answers) as server, HttpClient(hanging) as client:

        async def one() -> None:
            began = anyio.current_time()
            got = await call(client, server.base_url)
            took.append(anyio.current_time() - began)
            assert got.failure.code == "timeout_silence"

        async with anyio.create_task_group() as group:
            for _ in range(number):
                group.start_soon(one)
    assert min(took) >= 0.14
    # the machine may have much else to do
    assert max(took) < 10


class _Late:
    """A decoder during whose call a timeout expires, at the moment when the answer is complete."""

    def __init__(self, decoder: Any, client: HttpClient) -> None:
        self._decoder, self._client = decoder, client

    def feed_all(self, events: Any) -> None:
        self._decoder.feed_all(events)
        if self._decoder.complete:
            for watch in list(self._client._timer._watches):
                watch.expire()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._decoder, name)


@BOTH_LOOPS
async def test_a_clock_that_runs_out_with_the_finish_reason_does_not_cost_the_answer() -> None:
    answer = stream(delta("Hello"), finish(), 0.1, DONE)
    async with RawServer(answer) as server, HttpClient(CALM) as client:
        made = provider(server.base_url)
        request = made.encode(Request(model="m", messages=({"role": "user", "content": "Hi"},)))
        exchange, decoder = client.exchange(), _Late(made.decoder(), client)
        await client.stream(request, decoder, exchange, made.error)
        got = Got(None, exchange, decoder)  # type: ignore[arg-type]
        assert got.completion.text == "Hello"
        assert got.exchange.tail_lost
        # its connection is not used again
        assert not (await call(client, server.base_url)).exchange.reused


@BOTH_LOOPS
async def test_a_cancellation_from_outside_is_not_taken_for_a_clock() -> None:
    caught: list[AttemptError] = []
    async with RawServer(Reply((3600.0,))) as server, HttpClient(Timeouts(first_byte_s=1.0)) as client:

        async def one() -> None:
            try:
                caught.append((await call(client, server.base_url)).failure)
            finally:
                # longer than the clock
                with anyio.CancelScope(shield=True):
                    await anyio.sleep(1.0)

        with anyio.move_on_after(0.1) as scope:
            await one()
        assert (caught, scope.cancelled_caught) == ([], True)
        # and the connection that was given up is not used again
        got = await call(client, server.base_url)
        assert (got.failure.code, got.exchange.reused) == ("timeout_first_byte", False)
