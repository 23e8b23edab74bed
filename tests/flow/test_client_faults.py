"""``HttpClient`` against the network's and HTTP's faults (2.1, 2.2 of the catalogue), over real sockets, on both event loops.

The faults of a stream's content are in ``test_stream_faults``; ``docs/reference/faults.md`` says which test holds which line.
"""

import asyncio
import datetime as dt
import gzip
import os
import socket
import ssl
import threading
import time
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp
import anyio
import anyio.to_thread
import pytest
import trustme
from asking import (
    BEFORE_RESET_S,
    BOTH_LOOPS,
    CALM,
    DIALECTS,
    PROGRAM_LOOP,
    SETTLE_S,
    SHORT,
    ask,
    call,
    under_way,
    until,
)
from raw_server import (
    BLOCK_START,
    BLOCK_STOP,
    DONE,
    EVENTS,
    FIN,
    HANG,
    LAST,
    MESSAGE_START,
    MESSAGE_STOP,
    PING,
    RST,
    STREAM,
    USAGE,
    End,
    RawServer,
    Received,
    Reply,
    anthropic_answer,
    block_delta,
    chunk,
    deaf,
    delta,
    finish,
    free_port,
    head,
    message_delta,
    openai_answer,
    stream,
    whole,
)

from runner.errors import AttemptTimeoutError, ProviderError, StreamError, TransportError
from runner.model import Usage
from runner.providers.http import Caps, HttpClient, Timeouts

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return PROGRAM_LOOP


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(autouse=True)
def _trusted(authority: trustme.CA, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Trust one CA, as a user's environment would name it; that is also quicker to load than all of them."""
    path = tmp_path_factory.getbasetemp() / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    monkeypatch.setenv("SSL_CERT_FILE", str(path))


# -- the happy path, and what is on the wire


@BOTH_LOOPS
@pytest.mark.parametrize(("dialect", "answer"), [("openai", openai_answer()), ("anthropic", anthropic_answer())])
async def test_a_good_stream(dialect: str, answer: Reply) -> None:
    async with RawServer(answer) as server, HttpClient(CALM) as client:
        got = await call(client, server.base_url, dialect, "Grüezi")
    assert got.completion.text == "Hello"
    assert got.completion.usage == Usage(input_tokens=7, output_tokens=3)
    assert got.completion.notes == ()
    exchange = got.exchange
    assert (exchange.status, exchange.connected, exchange.tail_lost) == (200, True, False)
    # between the headers and the last chunk, every byte that is not framing
    assert exchange.bytes_received == sum(len(part) for part in _payloads(answer))
    assert exchange.time_to_first_token_s is not None
    (request,) = server.requests
    assert request.method == "POST"
    assert request.path == {"openai": "/v1/chat/completions", "anthropic": "/v1/messages"}[dialect]
    assert request.json["messages"] == [{"role": "user", "content": "Grüezi"}]
    assert request.headers["accept-encoding"] == "identity"
    assert "a-test-key" in request.headers["authorization" if dialect == "openai" else "x-api-key"]
    assert "cookie" not in request.headers


def _payloads(reply: Reply) -> list[bytes]:
    parts = [step for step in reply.steps[1:] if isinstance(step, bytes) and step != LAST]
    return [part.partition(b"\r\n")[2].removesuffix(b"\r\n") for part in parts]


@BOTH_LOOPS
@pytest.mark.parametrize(("dialect", "answer"), [("openai", openai_answer()), ("anthropic", anthropic_answer())])
async def test_a_connection_is_kept_alive_behind_a_complete_stream(dialect: str, answer: Reply) -> None:
    async with RawServer(answer) as server, HttpClient(CALM) as client:
        for number in range(5):
            got = await call(client, server.base_url, dialect)
            assert got.completion.text == "Hello"
            assert got.exchange.reused is (number > 0)
        assert (server.connections, len(server.requests)) == (1, 5)


@BOTH_LOOPS
async def test_a_connection_is_kept_alive_when_the_body_ends_a_little_behind_the_end_mark() -> None:
    late = stream(delta("Hello"), finish(), DONE, end=(0.1, LAST))
    async with RawServer(late) as server, HttpClient(CALM) as client:
        for _ in range(3):
            assert (await call(client, server.base_url)).completion.text == "Hello"
        assert server.connections == 1


async def test_cookies_are_not_kept() -> None:
    answer = Reply((head(headers={**EVENTS, "set-cookie": "who=me; Path=/"}), *openai_answer().steps[1:]))
    async with RawServer(answer) as server, HttpClient(CALM) as client:
        for _ in range(2):
            await call(client, server.base_url)
        assert "cookie" not in server.requests[1].headers


@BOTH_LOOPS
async def test_calls_at_the_same_time_do_not_mix() -> None:
    def echo(request: Received) -> Reply:
        text = request.json["messages"][0]["content"]
        return stream(delta(text), 0.02, delta(text), finish(), DONE)

    texts: dict[int, str] = {}
    async with RawServer(echo) as server, HttpClient(CALM) as client:

        async def one(number: int) -> None:
            texts[number] = (await call(client, server.base_url, prompt=f"<{number}>")).completion.text

        async with anyio.create_task_group() as group:
            for number in range(40):
                group.start_soon(one, number)
    assert texts == {number: f"<{number}>" * 2 for number in range(40)}


# -- the network


@BOTH_LOOPS
async def test_n1_name_not_found(monkeypatch: pytest.MonkeyPatch) -> None:
    # where no resolver answers, glibc's gives up before our timeout
    monkeypatch.setenv("RES_OPTIONS", "timeout:1 attempts:1")
    async with HttpClient(CALM) as client:
        got = await call(client, "http://no-such-host.invalid/v1")
    if got.failure.code == "timeout_connect":
        pytest.skip("the resolver here does not answer")
    got.is_(TransportError, "dns", "retry", sent=False)
    assert "no-such-host.invalid" in str(got.failure)
    assert (got.exchange.status, got.exchange.connected, got.exchange.bytes_received) == (None, False, 0)


@BOTH_LOOPS
async def test_n2_refused() -> None:
    async with HttpClient(CALM) as client:
        got = await call(client, f"http://127.0.0.1:{free_port()}/v1")
    got.is_(TransportError, "connect", "retry", sent=False)
    assert (got.exchange.status, got.exchange.connected) == (None, False)


@BOTH_LOOPS
async def test_n3_connect_hangs() -> None:
    async with deaf() as port, HttpClient(Timeouts(connect_s=0.2, attempt_s=5)) as client:
        got = await call(client, f"http://127.0.0.1:{port}/v1")
    got.is_(AttemptTimeoutError, "timeout_connect", "retry", sent=False)
    assert not got.exchange.connected


@BOTH_LOOPS
async def test_n3_tls_handshake_hangs() -> None:
    async with RawServer((), greeting=lambda _: (HANG,)) as server, HttpClient(Timeouts(connect_s=0.2, attempt_s=5)) as client:
        got = await call(client, server.base_url.replace("http:", "https:"))
    got.is_(AttemptTimeoutError, "timeout_connect", "retry", sent=False)


@pytest.fixture
def known_ca(authority: trustme.CA) -> Callable[[str], ssl.SSLContext]:
    """Give the server's side of TLS for a name, with a certificate that the client trusts."""

    def context(name: str) -> ssl.SSLContext:
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert(name).configure_cert(made)
        return made

    return context


@BOTH_LOOPS
async def test_tls_that_is_in_order_works(known_ca: Callable[[str], ssl.SSLContext]) -> None:
    async with RawServer(openai_answer(), tls=known_ca("127.0.0.1")) as server, HttpClient(CALM) as client:
        for _ in range(2):
            assert (await call(client, server.base_url)).completion.text == "Hello"
        assert server.connections == 1


@BOTH_LOOPS
async def test_n4_unknown_authority() -> None:
    stranger = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(stranger)
    async with RawServer(openai_answer(), tls=stranger) as server, HttpClient(CALM) as client:
        got = await call(client, server.base_url)
    got.is_(TransportError, "tls", "stop", sent=False)
    assert server.requests == []


@BOTH_LOOPS
async def test_n4_wrong_name(known_ca: Callable[[str], ssl.SSLContext]) -> None:
    async with RawServer(openai_answer(), tls=known_ca("elsewhere.example")) as server, HttpClient(CALM) as client:
        got = await call(client, server.base_url)
    got.is_(TransportError, "tls", "stop", sent=False)
    assert "127.0.0.1" in str(got.failure)
    assert server.requests == []


@BOTH_LOOPS
async def test_n4_expired(authority: trustme.CA) -> None:
    now = dt.datetime.now(dt.UTC)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    yesterday, before = now - dt.timedelta(days=1), now - dt.timedelta(days=9)
    authority.issue_cert("127.0.0.1", not_before=before, not_after=yesterday).configure_cert(context)
    async with RawServer(openai_answer(), tls=context) as server, HttpClient(CALM) as client:
        got = await call(client, server.base_url)
    got.is_(TransportError, "tls", "stop", sent=False)
    assert "expired" in str(got.failure)
    assert server.requests == []


@BOTH_LOOPS
async def test_n4_a_protocol_that_is_too_old() -> None:
    """A server that knows nothing newer than TLS 1.1 says so in an alert; what OpenSSL sends, asyncio's server swallows."""
    alert = b"\x15\x03\x01\x00\x02\x02\x46"
    async with RawServer((), greeting=lambda _: (alert, 0.2, FIN)) as server, HttpClient(CALM) as client:
        got = await call(client, server.base_url.replace("http:", "https:"))
    got.is_(TransportError, "tls", "stop", sent=False)


@BOTH_LOOPS
async def test_n4_plain_http_behind_https() -> None:
    plain = RawServer((), greeting=lambda _: (head("400 Bad Request"), 0.2, FIN))
    async with plain as server, HttpClient(CALM) as client:
        got = await call(client, server.base_url.replace("http:", "https:"))
    got.is_(TransportError, "tls", "stop", sent=False)


@BOTH_LOOPS
async def test_n4_reset_in_the_tls_handshake_is_no_wrong_setting() -> None:
    async with RawServer((), greeting=lambda _: (0.02, RST)) as server, HttpClient(CALM) as client:
        got = await call(client, server.base_url.replace("http:", "https:"))
    assert (got.failure.verdict, got.failure.sent) == ("retry", False)


@BOTH_LOOPS
@pytest.mark.parametrize("end", [RST, FIN])
async def test_n5_closed_before_headers(end: End) -> None:
    got = await ask(Reply((end,)))
    got.is_(TransportError, "closed", "retry")
    assert isinstance(got.failure, TransportError)
    # a fresh connection is not a stale one
    assert not got.failure.stale
    assert (got.exchange.status, got.exchange.connected, got.exchange.bytes_received) == (None, True, 0)


@BOTH_LOOPS
@pytest.mark.parametrize("end", [RST, FIN])
async def test_n5_closed_inside_the_headers(end: End) -> None:
    got = await ask(Reply((STREAM[:30], BEFORE_RESET_S, end)))
    assert (got.failure.verdict, got.failure.sent) == ("retry", True)
    assert got.exchange.time_to_first_token_s is None


@BOTH_LOOPS
@pytest.mark.parametrize("end", [RST, FIN])
@pytest.mark.parametrize(
    ("dialect", "begun"), [("openai", (delta("Hel"),)), ("anthropic", (MESSAGE_START, BLOCK_START, block_delta("Hel")))]
)
async def test_n6_broken_mid_stream(dialect: str, begun: tuple[bytes, ...], end: End) -> None:
    got = await ask(stream(*begun, end=(BEFORE_RESET_S, end)), dialect)
    got.is_(TransportError, "cut", "retry")
    assert (got.exchange.status, got.exchange.tail_lost) == (200, False)
    assert got.exchange.bytes_received == sum(map(len, begun))
    assert got.exchange.time_to_first_token_s is not None


@BOTH_LOOPS
@pytest.mark.parametrize(
    ("dialect", "begun"),
    [
        ("openai", (delta("Hel"),)),
        ("anthropic", (MESSAGE_START, BLOCK_START, block_delta("Hel"))),
        ("anthropic", (MESSAGE_START, BLOCK_START, block_delta("Hel"), BLOCK_STOP)),
        # without its stop_reason a message_stop ends nothing
        ("anthropic", (MESSAGE_START, BLOCK_START, block_delta("Hel"), BLOCK_STOP, MESSAGE_STOP)),
        ("openai", ()),
    ],
)
async def test_n7_clean_end_mid_stream(dialect: str, begun: tuple[bytes, ...]) -> None:
    (await ask(stream(*begun), dialect)).is_(StreamError, "truncated", "retry")


@BOTH_LOOPS
@pytest.mark.parametrize("steps", [(HANG,), (STREAM, HANG), (STREAM[:20], HANG)], ids=["nothing", "headers", "half the headers"])
async def test_n8_stall_before_the_first_byte(steps: tuple[bytes | End, ...]) -> None:
    got = await ask(Reply(steps), timeouts=SHORT)
    got.is_(AttemptTimeoutError, "timeout_first_byte", "retry")
    assert got.exchange.connected
    assert (got.exchange.bytes_received, got.exchange.time_to_first_token_s) == (0, None)


@BOTH_LOOPS
async def test_n9_silence_mid_stream_gives_the_connection_up() -> None:
    async with RawServer([stream(delta("Hel"), end=(HANG,)), openai_answer()]) as server, HttpClient(SHORT) as client:
        got = await call(client, server.base_url)
        got.is_(AttemptTimeoutError, "timeout_silence", "retry")
        assert got.exchange.bytes_received == len(delta("Hel"))
        # and nothing of it is left over for the next one
        assert (await call(client, server.base_url)).completion.text == "Hello"
        assert server.connections == 2


DRIPPED = Timeouts(first_byte_s=5, silence_s=5, attempt_s=1.5)
"""For a drip that would last for five seconds."""


@BOTH_LOOPS
async def test_n10_a_drip_is_ended_by_the_attempts_clock() -> None:
    drip = stream(*(step for _ in range(100) for step in (delta("x"), 0.05)))
    got = await ask(drip, timeouts=DRIPPED)
    got.is_(AttemptTimeoutError, "timeout_attempt", "retry")
    assert got.exchange.time_to_first_token_s is not None


@pytest.mark.parametrize(("dialect", "ping"), [("openai", b": keep-alive\n\n"), ("anthropic", b":\n\n"), ("anthropic", PING)])
async def test_n11_pings_do_not_extend_the_attempt(dialect: str, ping: bytes) -> None:
    pings = stream(*(step for _ in range(100) for step in (ping, 0.05)))
    got = await ask(pings, dialect, timeouts=DRIPPED)
    got.is_(AttemptTimeoutError, "timeout_attempt", "retry")
    assert got.exchange.time_to_first_token_s is None


@BOTH_LOOPS
@pytest.mark.parametrize("end", [RST, FIN])
async def test_n12_a_kept_connection_that_the_server_closes_on_reuse_is_stale(end: End) -> None:
    def once_each(request: Received) -> Reply:
        return openai_answer() if request.turn == 1 else Reply((end,))

    async with RawServer(once_each) as server, HttpClient(CALM) as client:
        assert (await call(client, server.base_url)).completion.text == "Hello"
        got = await call(client, server.base_url)
        got.is_(TransportError, "closed", "retry")
        assert isinstance(got.failure, TransportError)
        assert got.failure.stale
        assert got.exchange.reused
        assert (await call(client, server.base_url)).completion.text == "Hello"
        assert server.connections == 2


@BOTH_LOOPS
@pytest.mark.parametrize("end", [RST, FIN])
async def test_n12_a_kept_connection_closed_while_idle_is_replaced_unseen(end: End) -> None:
    closing = stream(delta("Hello"), finish(), DONE, end=(LAST, SETTLE_S, end))
    async with RawServer(closing) as server, HttpClient(CALM) as client:
        for _ in range(3):
            assert (await call(client, server.base_url)).completion.text == "Hello"
            await until(lambda: not server.open)
            await anyio.sleep(SETTLE_S)
        assert server.connections == 3


@BOTH_LOOPS
async def test_n13_a_server_that_does_not_read_a_large_request() -> None:
    """Bytes that it does not take are no sign of life."""
    got = await ask(Reply((3600.0,)), early=True, prompt="x" * (32 << 20), timeouts=SHORT)
    assert isinstance(got.failure, AttemptTimeoutError)
    assert (got.failure.verdict, got.failure.sent) == ("retry", True)


@BOTH_LOOPS
async def test_n14_no_pool_is_exhausted_and_no_clock_runs_before_its_call() -> None:
    """More calls at once than any library's default pool holds; none is answered before all are there."""
    number, all_there = 150, asyncio.Event()

    def answers(request: Received) -> Reply:
        if server.in_flight == number:
            all_there.set()
        return stream(delta(request.json["messages"][0]["content"]), all_there, finish(), DONE)

    texts: list[str] = []
    async with RawServer(answers) as server, HttpClient(CALM) as client:

        async def one(which: int) -> None:
            texts.append((await call(client, server.base_url, prompt=f"<{which}>")).completion.text)

        async with anyio.create_task_group() as group:
            for which in range(number):
                group.start_soon(one, which)
    assert sorted(texts) == sorted(f"<{which}>" for which in range(number))
    assert (len(server.requests), server.connections) == (number, number)


@BOTH_LOOPS
async def test_n15_a_kept_connection_whose_other_end_is_gone_without_a_word() -> None:
    """Whoever is gone without a FIN takes our bytes, as far as we can see, and says nothing."""

    def answers(request: Received) -> Reply:
        return openai_answer() if request.turn == 1 else Reply((HANG,))

    async with RawServer(answers) as server, HttpClient(SHORT) as client:
        assert (await call(client, server.base_url)).completion.text == "Hello"
        got = await call(client, server.base_url)
        got.is_(AttemptTimeoutError, "timeout_first_byte", "retry")
        assert got.exchange.reused
        # the dead connection is not used a third time
        assert (await call(client, server.base_url)).completion.text == "Hello"
        assert server.connections == 2


@BOTH_LOOPS
@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="our own sockets cannot be listed here")
async def test_n15_the_kernel_asks_after_a_peer_that_is_silent() -> None:
    """As the option of our end of the connection says, whatever object of the library's may hold it."""
    found: list[int] = []

    def answers(request: Received) -> Reply:
        for entry in Path("/proc/self/fd").iterdir():
            with suppress(OSError), socket.socket(fileno=os.dup(int(entry.name))) as twin:
                if twin.getpeername() == ("127.0.0.1", server.port):
                    found.append(twin.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE))
                    # soon enough for an answer that the model thinks about
                    found.append(twin.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE))
        return openai_answer()

    async with RawServer(answers) as server, HttpClient(CALM) as client:
        assert (await call(client, server.base_url)).completion.text == "Hello"
    assert found == [1, 60]


@BOTH_LOOPS
@pytest.mark.parametrize("gone", ["refuses", "is silent"])
async def test_n16_a_name_with_a_dead_address_falls_over_to_the_other(gone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The resolver is the test's: no name with two addresses, one of them dead, can be relied upon."""

    async def resolve(_: object, host: str, port: int = 0, family: int = 0) -> list[dict[str, Any]]:
        assert host == "twofold.invalid"
        common = {"hostname": host, "port": port, "family": 2, "proto": 0, "flags": 0}
        return [{**common, "host": "127.0.0.2"}, {**common, "host": "127.0.0.1"}]

    monkeypatch.setattr(aiohttp.ThreadedResolver, "resolve", resolve)
    async with RawServer(openai_answer()) as server, HttpClient(CALM) as client:
        base_url = f"http://twofold.invalid:{server.port}/v1"
        if gone == "refuses":
            assert (await call(client, base_url)).completion.text == "Hello"
            return
        async with deaf("127.0.0.2", server.port):
            assert (await call(client, base_url)).completion.text == "Hello"


@BOTH_LOOPS
@pytest.mark.parametrize("answer", [b"zzz\r\n\r\n", b"HTTP/1.1 two hundred\r\n\r\n", b"SSH-2.0-OpenSSH_9.6\r\n"])
async def test_n17_a_proxy_that_does_not_speak_http_has_reached_no_server(answer: bytes) -> None:
    async with RawServer(Reply((answer, FIN))) as proxy, HttpClient(CALM, proxy=proxy.origin) as client:
        got = await call(client, "https://far.example/v1")
        assert [one.method for one in proxy.requests] == ["CONNECT"]
    got.is_(TransportError, "proxy", "retry", sent=False)
    assert not got.exchange.connected


# -- HTTP


@DIALECTS
@pytest.mark.parametrize("status", ["301 Moved Permanently", "302 Found", "303 See Other", "307 Temporary Redirect", "308 P"])
async def test_h1_redirects_are_not_followed(status: str, dialect: str) -> None:
    async with RawServer(openai_answer()) as second:
        answer = whole(status, location=f"{second.base_url}/chat/completions?secret=1")
        got = await ask(answer, dialect)
        got.is_(ProviderError, "redirect", "stop")
        assert f"redirects to {second.base_url}/chat/completions" in str(got.failure)
        assert "secret" not in str(got.failure)
        assert (second.connections, second.requests) == (0, [])


@pytest.mark.parametrize("kind", ["text/html; charset=utf-8", "text/plain", "application/octet-stream", None])
async def test_h2_a_page_instead_of_an_answer(kind: str | None) -> None:
    page = "<html>\x1b[31m<title>Log in</title>" + "x" * 100_000
    got = await ask(whole("200 OK", page, kind=kind))
    got.is_(StreamError, "not_an_api", "stop")
    words = str(got.failure)
    assert "Log in" in words
    assert "\x1b" not in words
    assert len(words) < 400
    assert got.exchange.status == 200


OPENAI_JSON = {
    "id": "c-1",
    "model": "m-1",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 7, "completion_tokens": 3},
}
ANTHROPIC_JSON = {
    "id": "m-1",
    "type": "message",
    "model": "m-1",
    "content": [{"type": "text", "text": "Hello"}],
    "stop_reason": "end_turn",
    "usage": {"input_tokens": 7, "output_tokens": 3},
}


@pytest.mark.parametrize("kind", ["application/json", "Application/JSON; charset=utf-8", "application/vnd.api+json"])
@pytest.mark.parametrize(("dialect", "answer"), [("openai", OPENAI_JSON), ("anthropic", ANTHROPIC_JSON)])
async def test_h3_json_instead_of_a_stream(dialect: str, answer: dict[str, Any], kind: str) -> None:
    async with RawServer(whole("200 OK", answer, kind=kind)) as server, HttpClient(CALM) as client:
        for _ in range(2):
            got = await call(client, server.base_url, dialect)
            assert got.completion.text == "Hello"
            assert got.completion.usage == Usage(input_tokens=7, output_tokens=3)
        assert server.connections == 1


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "truncated"),
        (b" \n", "truncated"),
        (b"null", "malformed_stream"),
        (b'{"choices": [', "malformed_stream"),
        (b"[" * 100_000, "malformed_stream"),
        (b'{"choices": [{"message": {"content": "Hel"}, "finish_reason": null}]}', "truncated"),
    ],
)
async def test_h3_json_that_is_no_completion(body: bytes, code: str) -> None:
    (await ask(whole("200 OK", body, kind="application/json"))).is_(StreamError, code, "retry")


async def test_h3_json_is_held_under_the_cap_of_the_text() -> None:
    got = await ask(whole("200 OK", OPENAI_JSON), caps=Caps(text_chars=4))
    got.is_(StreamError, "size_cap", "fail")


async def test_h3_json_with_an_error_in_it() -> None:
    got = await ask(whole("200 OK", {"error": {"type": "insufficient_quota", "message": "no money"}}))
    got.is_(ProviderError, "billing", "stop")


@pytest.mark.parametrize(
    "kind",
    ["text/event-stream;charset=windows-1252", "text/event-stream;", "TEXT/Event-Stream; Charset=UTF-8", " text/event-stream  "],
)
async def test_h4_odd_content_types(kind: str) -> None:
    answer = stream(delta("Grüße 🙂"), finish(), DONE)
    got = await ask(Reply((head(headers={**EVENTS, "content-type": kind}), *answer.steps[1:])))
    assert got.completion.text == "Grüße 🙂"


@pytest.mark.parametrize(
    "reply",
    [
        Reply((head("204 No Content"),)),
        whole("200 OK"),
        whole("200 OK", kind="text/event-stream"),
        whole("200 OK", kind="text/html"),
        whole("200 OK", kind="application/json"),
        Reply((head(headers={"content-type": "text/event-stream"}), FIN)),
    ],
    ids=["204", "no type", "stream", "html", "json", "closed"],
)
async def test_h5_nothing_at_all(reply: Reply) -> None:
    got = await ask(reply)
    assert (got.failure.code, got.failure.verdict) == ("truncated", "retry")
    assert got.exchange.bytes_received == 0


LENGTHS = {"content-type": "text/event-stream"}
SHORT_OF = b"".join((delta("Hello"), finish(), DONE))


@BOTH_LOOPS
@pytest.mark.parametrize(
    "steps",
    [
        (STREAM, chunk(delta("Hel")), b"zz\r\nnonsense\r\n", FIN),
        (STREAM, chunk(delta("Hel")), b"-5\r\nnonsense\r\n", FIN),
        (STREAM, chunk(delta("Hel"))[:-2] + b"garbage behind the chunk\r\n", FIN),
        (STREAM, b"fffffffffffffffffff\r\n" + delta("Hel"), FIN),
        (head(headers={**LENGTHS, "content-length": "9999"}), delta("Hel"), FIN),
        (head(headers={**LENGTHS, "content-length": "-1"}), delta("Hel"), FIN),
        (head(headers={**LENGTHS, "content-length": "twelve"}), delta("Hel"), FIN),
        (head(headers={**LENGTHS, "content-length": str(len(delta("Hel")))}), delta("Hel"), finish(), FIN),
        (head(headers={**EVENTS, "content-length": "5"}), chunk(delta("Hel")), FIN),
        (b"HTTP/1.1 banana\r\n\r\n", FIN),
        (b"SSH-2.0-OpenSSH_9.6\r\n", FIN),
        (b"\x00\x01\x02\x03\r\n\r\n", FIN),
    ],
    ids=[
        "chunk size no number",
        "chunk size negative",
        "garbage behind a chunk",
        "chunk size huge",
        "length too large",
        "length negative",
        "length a word",
        "length too short",
        "length and chunked",
        "status no number",
        "another protocol",
        "binary",
    ],
)
async def test_h6_broken_framing(steps: tuple[bytes | End, ...]) -> None:
    got = await ask(Reply(steps))
    assert got.failure.verdict == "retry"
    assert got.failure.code in ("cut", "bad_http", "truncated", "closed")


@BOTH_LOOPS
async def test_h6_framing_broken_mid_stream_is_seen_at_once_and_not_by_a_clock() -> None:
    got = await ask(stream(delta("Hel"), end=(SETTLE_S, b"zz\r\nnonsense\r\n", FIN)), timeouts=SHORT)
    assert isinstance(got.failure, TransportError)
    assert (got.failure.code, got.failure.verdict) in (("cut", "retry"), ("bad_http", "retry"))


@asynccontextmanager
async def tls_without_a_close(context: ssl.SSLContext, *writes: bytes) -> AsyncIterator[str]:
    """Serve one request over TLS, then neither read nor close: the client's close gets no answer. Gives the base URL."""
    over = threading.Event()

    def serve(listener: socket.socket) -> None:
        with listener.accept()[0] as plain, context.wrap_socket(plain, server_side=True) as peer:
            # each write a packet of its own
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            peer.recv(1 << 16)
            for written in writes:
                peer.sendall(written)
                time.sleep(SETTLE_S)
            over.wait(30)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        async with anyio.create_task_group() as group:
            group.start_soon(anyio.to_thread.run_sync, serve, listener)
            try:
                yield f"https://127.0.0.1:{listener.getsockname()[1]}/v1"
            finally:
                over.set()


@BOTH_LOOPS
async def test_h6_framing_broken_over_tls_is_seen_although_the_peer_does_not_close(
    known_ca: Callable[[str], ssl.SSLContext],
) -> None:
    begun = STREAM + chunk(delta("Hel"))
    async with tls_without_a_close(known_ca("127.0.0.1"), begun, b"zz\r\n") as url, HttpClient(CALM) as client:
        got = await call(client, url)
        got.is_(TransportError, "cut", "retry")


@BOTH_LOOPS
async def test_h6_what_was_read_before_the_framing_broke_over_tls_counts(known_ca: Callable[[str], ssl.SSLContext]) -> None:
    answer = b"".join(map(chunk, (delta("Hello"), finish(), USAGE, DONE))) + b"zz\r\n"
    async with tls_without_a_close(known_ca("127.0.0.1"), STREAM, answer) as url, HttpClient(CALM) as client:
        assert (await call(client, url)).completion.text == "Hello"


@BOTH_LOOPS
async def test_h6_bytes_behind_the_body_are_never_taken_for_the_next_answer() -> None:
    smuggled = b"".join(step for step in openai_answer("SMUGGLED").steps if isinstance(step, bytes))
    first = stream(delta("Hello"), finish(), DONE, end=(LAST + smuggled,))
    async with RawServer([first, openai_answer("second")]) as server, HttpClient(CALM) as client:
        assert (await call(client, server.base_url)).completion.text == "Hello"
        await anyio.sleep(SETTLE_S)
        got = await call(client, server.base_url)
        if got.error is not None:
            assert got.error.verdict == "retry"
            got = await call(client, server.base_url)
        assert got.completion.text == "second"


@pytest.mark.parametrize(
    ("coding", "squeeze"),
    [("gzip", gzip.compress), ("x-gzip", gzip.compress), (" GZip", gzip.compress), ("deflate", zlib.compress)],
)
@pytest.mark.parametrize("piece", [7, 100_000])
async def test_h7_compressed_although_identity_was_asked(coding: str, squeeze: Callable[[bytes], bytes], piece: int) -> None:
    packed = squeeze(SHORT_OF)
    pieces = [packed[start : start + piece] for start in range(0, len(packed), piece)]
    headers = {**EVENTS, "content-encoding": coding}
    got = await ask(Reply((head(headers=headers), *map(chunk, pieces), LAST)))
    assert got.completion.text == "Hello"
    assert got.exchange.bytes_received == len(SHORT_OF)


@pytest.mark.parametrize("coding", ["br", "zstd", "gzip, br", "banana"])
async def test_h7_compression_that_we_cannot_undo_is_refused(coding: str) -> None:
    got = await ask(Reply((head(headers={**EVENTS, "content-encoding": coding}), chunk(SHORT_OF), LAST)))
    got.is_(StreamError, "not_an_api", "stop")
    assert coding in str(got.failure)


@pytest.mark.parametrize("coding", ["br", "zstd"])
@pytest.mark.parametrize(
    ("status", "code", "verdict"),
    [("503 Busy", "server_error", "retry"), ("429 Slow", "rate_limited", "retry"), ("400 Bad", "bad_request", "fail")],
)
async def test_h7_an_error_compressed_beyond_reading_still_counts_by_its_status(
    status: str, code: str, verdict: str, coding: str
) -> None:
    got = await ask(whole(status, b"\x1b\x02\x80\x03", content_encoding=coding))
    assert (got.failure.code, got.failure.verdict) == (code, verdict)


async def test_h7_a_compressed_error_is_read() -> None:
    body = gzip.compress(b'{"error": {"code": "insufficient_quota", "message": "no money"}}')
    got = await ask(whole("429 Slow", body, content_encoding="gzip"))
    got.is_(ProviderError, "billing", "stop")


@pytest.mark.parametrize("packed", [b"not gzip at all, not at all", gzip.compress(delta("Hello"), mtime=0)[:-12] + b"\xff" * 40])
async def test_h7_broken_compression(packed: bytes) -> None:
    got = await ask(Reply((head(headers={**EVENTS, "content-encoding": "gzip"}), chunk(packed), LAST)))
    assert (got.failure.verdict, got.exchange.tail_lost) == ("retry", False)


@pytest.mark.parametrize("kind", ["text/event-stream", "application/json", "text/html"])
async def test_h8_a_bomb_stops_at_the_cap(kind: str) -> None:
    most = 256 << 10
    bomb = gzip.compress(b": " + b"x" * (64 << 20))
    assert len(bomb) < 80_000
    reply = whole("200 OK", bomb, kind=kind, content_encoding="gzip")
    tracemalloc.start()
    try:
        got = await ask(reply, caps=Caps(body_bytes=most))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # all of Python's memory, the server's part and the chunks on their way included
    assert peak < 16 * most
    assert got.failure.verdict in ("fail", "stop")
    assert got.failure.code == ("size_cap" if kind != "text/html" else got.failure.code)
    assert got.exchange.bytes_received <= most + 1


async def test_h8_a_bomb_in_an_error() -> None:
    most = 256 << 10
    bomb = gzip.compress(b"x" * (64 << 20))
    got = await ask(whole("503 Busy", bomb, content_encoding="gzip"), caps=Caps(body_bytes=most))
    assert (got.failure.code, got.failure.verdict) == ("server_error", "retry")
    assert got.exchange.bytes_received <= most + 1


@BOTH_LOOPS
@pytest.mark.parametrize(
    "headers",
    [{"x-giant": "x" * 300_000}, {f"x-{number}": "x" * 30 for number in range(10_000)}],
    ids=["one of 300 KB", "10,000 of them"],
)
async def test_h9_giant_headers(headers: dict[str, str]) -> None:
    answer = Reply((head(headers={**EVENTS, **headers}), *openai_answer().steps[1:]))
    got = await ask(answer)
    got.is_(TransportError, "bad_http", "retry")
    assert len(str(got.failure)) < 400


DATE = {"date": "Sat, 01 Jan 2000 00:00:00 GMT"}


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0"}, 0.0),
        ({"Retry-After": "1.5"}, 1.5),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({**DATE, "retry-after": "Sat, 01 Jan 2000 00:01:30 GMT"}, 90.0),
        ({**DATE, "retry-after": "Fri, 31 Dec 1999 23:00:00 GMT"}, None),
        ({"retry-after": "-3"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "1e999"}, None),
        ({"retry-after": ""}, None),
        ({"retry-after": "soon"}, None),
        ({"x-ratelimit-reset-requests": "6m0s"}, 360.0),
        ({"x-ratelimit-reset-requests": "1s", "x-ratelimit-reset-tokens": "20ms"}, 1.0),
        ({"x-ratelimit-reset-requests": "9s", "x-ratelimit-remaining-requests": "5", "x-ratelimit-reset-tokens": "2s"}, 2.0),
        ({**DATE, "anthropic-ratelimit-requests-reset": "2000-01-01T00:00:42Z"}, 42.0),
        ({}, None),
    ],
    ids=lambda value: "; ".join(f"{k}={v}" for k, v in value.items()) if isinstance(value, dict) else None,
)
async def test_h10_hints(headers: dict[str, str], expected: float | None) -> None:
    got = await ask(whole("429 Too Many Requests", {"error": {"type": "rate_limit_error", "message": "slow"}}, **headers))
    got.is_(ProviderError, "rate_limited", "retry")
    assert isinstance(got.failure, ProviderError)
    assert got.failure.throttled
    assert got.failure.retry_after_s == expected
    assert got.exchange.status == 429


@pytest.mark.parametrize(
    "values",
    [("7", "9"), ("9", "7")],
)
async def test_h10_two_hints_are_never_undercut(values: tuple[str, str]) -> None:
    lines = b"".join(f"retry-after: {value}\r\n".encode() for value in values)
    got = await ask(Reply((b"HTTP/1.1 429 Slow\r\ncontent-length: 0\r\n" + lines + b"\r\n",)))
    assert isinstance(got.failure, ProviderError)
    assert got.failure.retry_after_s in (None, 9.0)


@pytest.mark.parametrize("body", [{"error": {"type": "throttling_error"}}, {"error": {"code": "429"}}, {}, "slow down", b""])
async def test_h11_an_unfamiliar_429_is_still_a_rate_limit(body: dict[str, Any] | str | bytes) -> None:
    got = await ask(whole("429 Too Many Requests", body))
    got.is_(ProviderError, "rate_limited", "retry")


STATUSES = [
    ("400 Bad Request", "bad_request", "fail"),
    ("401 Unauthorized", "auth", "stop"),
    ("402 Payment Required", "billing", "stop"),
    ("404 Not Found", "not_found", "stop"),
    ("408 Request Timeout", "server_error", "retry"),
    ("413 Content Too Large", "too_large", "fail"),
    ("429 Too Many Requests", "rate_limited", "retry"),
    ("500 Internal Server Error", "server_error", "retry"),
    ("502 Bad Gateway", "server_error", "retry"),
    ("529 Overloaded", "overloaded", "retry"),
]
BODIES = {
    "empty": b"",
    "no JSON": b"upstream says no",
    "page": b"<html><head><title>502</title></head>",
    "no UTF-8": b"\xff\xfe\xfa\x80\x81" * 20,
    "null": b"null",
    "deep": b"[" * 50_000,
    "large": b'{"error": {"message": "' + b"x" * 10_000_000 + b'"}}',
    "controls": b"\x1b]0;owned\x07\x00\x9b31m\r\n",
}


@pytest.mark.parametrize(
    ("status", "code", "verdict", "body"),
    [
        pytest.param(*line, body, id=f"{line[0]}-{name}")
        for line in STATUSES
        for name, body in BODIES.items()
        # each status with two bodies, each body with every verdict
        if name in ("empty", "no JSON") or line[0][:3] in ("400", "401", "500")
    ],
)
async def test_h12_odd_error_bodies_count_by_their_status(status: str, code: str, verdict: str, body: bytes) -> None:
    got = await ask(whole(status, body))
    assert (type(got.failure), got.failure.code, got.failure.verdict) == (ProviderError, code, verdict)
    words = str(got.failure)
    assert len(words) < 500
    assert words.isprintable()
    # the body is read up to its cap and no further
    assert got.exchange.bytes_received <= (64 << 10) + (16 << 10)


@pytest.mark.parametrize(
    ("status", "code", "verdict"),
    [("401 Unauthorized", "auth", "stop"), ("429 Slow", "rate_limited", "retry"), ("400 Bad", "bad_request", "fail")],
)
@pytest.mark.parametrize("end", [FIN, RST, HANG])
async def test_h12_an_error_whose_body_breaks_off_counts_by_its_status(status: str, code: str, verdict: str, end: End) -> None:
    headers = {"content-length": "1000", "retry-after": "3"}
    got = await ask(Reply((head(status, headers), b'{"error": ', BEFORE_RESET_S, end)), timeouts=SHORT)
    assert (got.failure.code, got.failure.verdict) == (code, verdict)


async def test_h12_a_refusal_whose_body_takes_its_time_is_no_timeout() -> None:
    """The status is known: the time limits of an answer no longer hold, and the body has one of its own."""
    body = b'{"error": {"message": "no such field"}}'
    refusal = Reply((head("400 Bad Request", {"content-length": str(len(body))}), 1.6, body))
    got = await ask(refusal, timeouts=Timeouts(connect_s=5.0, first_byte_s=1.0, silence_s=5.0, attempt_s=10.0))
    got.is_(ProviderError, "bad_request", "fail")
    assert "no such field" in str(got.failure)


@BOTH_LOOPS
async def test_h12_a_connection_is_kept_alive_behind_a_short_error() -> None:
    async with RawServer([whole("500 Oops", "sorry"), openai_answer()]) as server, HttpClient(CALM) as client:
        assert (await call(client, server.base_url)).failure.code == "server_error"
        assert (await call(client, server.base_url)).completion.text == "Hello"
        assert server.connections == 1


@BOTH_LOOPS
@pytest.mark.parametrize(
    "first", [head("100 Continue"), head("103 Early Hints", {"link": "</x>; rel=preload"}), head("100 Continue") * 3]
)
async def test_h13_interim_answers_are_passed_over(first: bytes) -> None:
    got = await ask(Reply((first, *openai_answer().steps)))
    assert got.completion.text == "Hello"
    assert got.exchange.status == 200


@BOTH_LOOPS
async def test_h13_switching_protocols_is_an_error() -> None:
    got = await ask(Reply((head("101 Switching Protocols", {"upgrade": "websocket", "connection": "upgrade"}), 0.05, FIN)))
    assert got.failure is not None
    assert got.failure.verdict in ("retry", "fail")


OLD = head(headers={"content-type": "text/event-stream"}, version="1.0")


@BOTH_LOOPS
async def test_h14_a_close_delimited_stream() -> None:
    got = await ask(Reply((OLD, delta("Hel"), delta("lo"), finish(), DONE, FIN)))
    assert got.completion.text == "Hello"
    assert not got.exchange.tail_lost


@BOTH_LOOPS
async def test_h14_truncation_of_a_close_delimited_stream_shows_by_the_missing_reason() -> None:
    (await ask(Reply((OLD, delta("Hel"), FIN)))).is_(StreamError, "truncated", "retry")


@BOTH_LOOPS
@pytest.mark.parametrize("offered", [["h2", "http/1.1"], ["http/1.1"], ["h2"]])
async def test_h14_we_speak_http_1_1_whatever_else_is_offered(
    known_ca: Callable[[str], ssl.SSLContext], offered: list[str]
) -> None:
    context = known_ca("127.0.0.1")
    context.set_alpn_protocols(offered)
    async with RawServer(openai_answer(), tls=context) as server, HttpClient(CALM) as client:
        assert (await call(client, server.base_url)).completion.text == "Hello"


@BOTH_LOOPS
async def test_h14_a_server_that_speaks_http_2_only() -> None:
    """It greets with a SETTINGS frame, and closes when it has seen that we are somebody else."""
    settings = b"\x00\x00\x06\x04\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00\x64"
    goaway = b"\x00\x00\x08\x07\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01"
    got = await ask(Reply((settings + goaway, FIN)))
    assert isinstance(got.failure, TransportError)
    assert got.failure.verdict == "retry"
    assert got.failure.code in ("bad_http", "closed")


@BOTH_LOOPS
@pytest.mark.parametrize("end", [(), (0.1, FIN), (FIN,)], ids=["reads on", "closes", "closes at once"])
async def test_h15_an_answer_before_the_request_was_read(end: tuple[float | End, ...]) -> None:
    refusal = whole("413 Content Too Large", {"error": {"message": "too large"}}, *end)
    got = await ask(refusal, early=True, prompt="x" * (8 << 20))
    got.is_(ProviderError, "too_large", "fail")


# -- behind the finish reason


BEHIND = [
    ("openai", (delta("Hello"), finish())),
    ("anthropic", (MESSAGE_START, BLOCK_START, block_delta("Hello"), BLOCK_STOP, message_delta())),
]


@BOTH_LOOPS
@pytest.mark.parametrize("end", [(RST,), (FIN,)], ids=["reset", "closed"])
@pytest.mark.parametrize(("dialect", "events"), BEHIND)
async def test_broken_behind_the_reason_is_an_answer(
    dialect: str, events: tuple[bytes, ...], end: tuple[bytes | End, ...]
) -> None:
    got = await ask(stream(*events, end=(BEFORE_RESET_S, *end)), dialect)
    assert got.completion.text == "Hello"
    assert got.exchange.tail_lost


@BOTH_LOOPS
@pytest.mark.parametrize("end", [RST, FIN])
async def test_broken_behind_the_end_mark_has_lost_nothing(end: End) -> None:
    got = await ask(stream(delta("Hello"), finish(), USAGE, DONE, end=(BEFORE_RESET_S, end)))
    assert got.completion.usage == Usage(input_tokens=7, output_tokens=3)
    assert not got.exchange.tail_lost


@BOTH_LOOPS
async def test_usage_behind_the_reason_is_waited_for() -> None:
    got = await ask(stream(delta("Hello"), finish(), 0.1, USAGE, 0.1, DONE))
    assert got.completion.usage == Usage(input_tokens=7, output_tokens=3)
    assert not got.exchange.tail_lost


@BOTH_LOOPS
@pytest.mark.parametrize("timeouts", [Timeouts(silence_s=0.1), Timeouts(attempt_s=1.0)], ids=["silence", "attempt"])
async def test_no_clock_throws_a_complete_answer_away(timeouts: Timeouts) -> None:
    got = await ask(stream(delta("Hello"), finish(), 1.2, USAGE, DONE), timeouts=timeouts)
    assert got.completion.text == "Hello"


@BOTH_LOOPS
async def test_a_body_that_does_not_end_behind_its_end_mark_costs_only_the_connection() -> None:
    lazy = stream(delta("Hello"), finish(), USAGE, DONE, end=(HANG,))
    async with RawServer([lazy, openai_answer("second")]) as server, HttpClient(CALM) as client:
        got = await call(client, server.base_url)
        assert got.completion.text == "Hello"
        assert not got.exchange.tail_lost
        assert (await call(client, server.base_url)).completion.text == "second"
        assert server.connections == 2


@BOTH_LOOPS
async def test_cancelled_behind_the_reason_the_answer_is_kept() -> None:
    answer = stream(delta("Hello"), finish(), 0.2, USAGE, DONE)
    async with under_way(answer, len(delta("Hello") + finish())) as (results, scope, received):
        await until(received)
        scope.cancel()
    (got,) = results
    assert got.completion.text == "Hello"
    assert got.completion.usage == Usage(input_tokens=7, output_tokens=3)


@BOTH_LOOPS
@pytest.mark.parametrize("steps", [(HANG,), (STREAM, HANG), (STREAM, chunk(delta("Hel")), HANG)])
async def test_cancelled_before_the_reason_it_is_over_at_once(steps: tuple[bytes | End, ...]) -> None:
    async with under_way(Reply(steps), 0) as (results, scope, _):
        await anyio.sleep(0.1)
        scope.cancel()
    assert (results, scope.cancelled_caught) == ([], True)


@BOTH_LOOPS
async def test_a_cancelled_call_leaves_nothing_for_the_next_one() -> None:
    over = asyncio.Event()
    slow = stream(delta("WRONG"), over, delta("WRONG"), finish(), DONE)
    async with RawServer([slow, openai_answer()]) as server, HttpClient(CALM) as client:
        async with anyio.create_task_group() as group:
            group.start_soon(call, client, server.base_url)
            await until(lambda: server.requests)
            await anyio.sleep(SETTLE_S)
            group.cancel_scope.cancel()
        over.set()
        await anyio.sleep(SETTLE_S)
        assert (await call(client, server.base_url)).completion.text == "Hello"
        assert server.connections == 2
