"""The simulator over real sockets: streams, faults as bytes on the wire, limits, keys, shutdown."""

import asyncio
import json
import socket
import struct
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

import aiohttp
import pytest
from simulating import (
    ANTHROPIC,
    BOTH,
    OPENAI,
    VERSION,
    body,
    close,
    collect,
    datas,
    http_session,
    post,
    quick,
    raw,
    text_of,
    until,
)

from runner.errors import UsageError
from runner.simulator import Behaviour, Simulator

pytestmark = pytest.mark.anyio


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with http_session() as session:
        yield session


def counts(server: Simulator) -> dict[str, object]:
    """The plain counts of the stats."""
    names = ("requests", "completions", "refused", "faults", "max_in_flight")
    return {name: value for name, value in server.stats().items() if name in names}


async def test_an_openai_stream(http: aiohttp.ClientSession) -> None:
    async with quick() as server:
        asked = body(stream_options={"include_usage": True})
        status, headers, stream = await post(http, server, OPENAI, asked)
        assert status == 200
        assert headers["content-type"] == "text/event-stream; charset=utf-8"
        assert headers["x-request-id"].startswith("req_")
        *chunks, usage, done = datas(stream)
        assert done == "[DONE]"
        assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": "", "refusal": None}
        assert chunks[-1]["choices"] == [{"index": 0, "delta": {}, "logprobs": None, "finish_reason": "stop"}]
        assert {(chunk["id"], chunk["model"], chunk["object"], chunk["usage"]) for chunk in chunks} == {
            (usage["id"], "some/model", "chat.completion.chunk", None)
        }
        assert usage["choices"] == []
        assert usage["usage"] == {
            "prompt_tokens": len(asked) // 4,
            "completion_tokens": len(chunks) - 2,
            "total_tokens": len(asked) // 4 + len(chunks) - 2,
        }
        assert text_of(stream).startswith("[simulated answer]")
        _, again, other = await post(http, server, OPENAI, body())
        assert "usage" not in datas(other)[-2]
        assert datas(other)[0]["id"] != usage["id"]
        assert again["x-request-id"] != headers["x-request-id"]


async def test_an_anthropic_stream(http: aiohttp.ClientSession) -> None:
    async with quick() as server:
        asked = body()
        status, headers, stream = await post(http, server, ANTHROPIC, asked)
        assert status == 200
        assert headers["request-id"].startswith("req_")
        blocks = [block.split("\n") for block in stream.decode().removesuffix("\n\n").split("\n\n")]
        events = [event.removeprefix("event: ") for event, _ in blocks]
        found = datas(stream)
        assert events == [data["type"] for data in found]
        count = events.count("content_block_delta")
        assert events == [
            "message_start",
            "content_block_start",
            "ping",
            *["content_block_delta"] * count,
            "content_block_stop",
            "message_delta",
            "message_stop",
        ]
        message = found[0]["message"]
        assert message["model"] == "some/model"
        assert message["id"].startswith("msg_")
        assert message["usage"]["input_tokens"] == len(asked) // 4
        assert found[-2]["delta"]["stop_reason"] == "end_turn"
        assert found[-2]["usage"] == {"output_tokens": count}


@BOTH
@pytest.mark.parametrize("faults", [{}, {"json": 1.0}])
async def test_plain_json(http: aiohttp.ClientSession, path: str, faults: dict[str, float]) -> None:
    async with quick(faults=faults) as server:
        status, headers, document = await post(http, server, path, body(stream=True if faults else None))
        assert (status, headers["content-type"]) == (200, "application/json")
        whole = json.loads(document)
        if path == OPENAI:
            assert whole["object"] == "chat.completion"
            assert whole["choices"][0]["finish_reason"] == "stop"
            text, tokens = whole["choices"][0]["message"]["content"], whole["usage"]["completion_tokens"]
        else:
            assert (whole["type"], whole["stop_reason"]) == ("message", "end_turn")
            text, tokens = whole["content"][0]["text"], whole["usage"]["output_tokens"]
        assert text.startswith("[simulated answer]")
        assert tokens > 0
        assert server.stats()["completions"] == 1


@BOTH
async def test_slow_and_fast_streams_say_the_same(http: aiohttp.ClientSession, path: str) -> None:
    async with quick() as fast, quick(first_token_s=0.002, chunk_s=0.001) as slow:
        texts = [text_of((await post(http, server, path, body()))[2]) for server in (fast, slow)]
    assert texts[0] == texts[1]


@BOTH
async def test_two_servers_agree_in_any_order(http: aiohttp.ClientSession, path: str) -> None:
    names = [f"prompt {number}" for number in range(20)]
    faults = {"500": 0.2, "length": 0.2, "empty": 0.1, "truncate": 0.1}

    async def texts(server: Simulator, order: list[str]) -> dict[str, tuple[int, str]]:
        answers = await asyncio.gather(*(post(http, server, path, body(name)) for name in order))
        found = [text_of(stream) if status == 200 else "" for status, _, stream in answers]
        return {name: (answer[0], text) for name, answer, text in zip(order, answers, found, strict=True)}

    async with quick(seed=7, faults=faults) as one, quick(seed=7, faults=faults) as other, quick(seed=8) as third:
        first = [await texts(one, names), await texts(one, names)]
        again = [await texts(other, names[::-1]), await texts(other, names)]
        assert again == first
        assert first[0] != first[1]
        assert {status for status, _ in first[0].values()} == {200, 500}
        assert await texts(third, names) != first[0]
        assert one.stats()["faults"] == other.stats()["faults"]


@BOTH
@pytest.mark.parametrize("status", [429, 500, 503, 529])
async def test_refusals_by_fault(http: aiohttp.ClientSession, path: str, status: int) -> None:
    async with quick(faults={str(status): 1.0}) as server:
        found, headers, document = await post(http, server, path, body())
        assert found == status
        assert headers.get("retry-after") == ("1" if status == 429 else None)
        check_error(path, headers, document)
        assert counts(server) == {"requests": 1, "completions": 0, "refused": 0, "faults": {str(status): 1}, "max_in_flight": 1}


def check_error(path: str, headers: dict[str, str], document: bytes) -> dict[str, Any]:
    whole = json.loads(document)
    assert headers["content-type"] == "application/json"
    error: dict[str, Any] = whole["error"]
    if path == OPENAI:
        assert list(whole) == ["error"]
        assert list(error) == ["message", "type", "param", "code"]
    else:
        assert whole["type"] == "error"
        assert list(error) == ["type", "message"]
        assert whole["request_id"] == headers["request-id"]
    assert error["message"]
    return error


@BOTH
async def test_disconnect_is_a_reset_after_some_text(path: str) -> None:
    async with quick(faults={"disconnect": 1.0}) as server:
        reader, writer = await raw(server, path, body())
        received = bytearray()
        with pytest.raises(ConnectionResetError):
            await collect(reader, received)
        assert received.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"[simulated answer]" in received
        assert not received.endswith(b"0\r\n\r\n")
        await close(writer)
        assert server.stats()["faults"] == {"disconnect": 1}
        assert server.stats()["completions"] == 0


@BOTH
async def test_truncate_ends_cleanly_without_a_reason(http: aiohttp.ClientSession, path: str) -> None:
    async with quick(faults={"truncate": 1.0}) as server:
        status, _, stream = await post(http, server, path, body())
        assert status == 200
        assert text_of(stream).startswith("[simulated answer]")
        assert b"[DONE]" not in stream
        assert b'"finish_reason":"' not in stream
        assert b"message_delta" not in stream
        assert server.stats()["completions"] == 0


@BOTH
async def test_a_stalled_stream_lasts_until_its_client_leaves(path: str) -> None:
    async with quick(faults={"stall": 1.0}, max_in_flight=1) as server:
        reader, writer = await raw(server, path, body())
        received = await reader.readuntil(b"[simulated answer]")
        assert b"200 OK" in received
        # The only place is taken as long as the stream stands still.
        refused, other = await raw(server, path, body("other"))
        assert await refused.readline() == b"HTTP/1.1 429 Too Many Requests\r\n"
        await close(other)
        await close(writer)
        await until(lambda: not server._connections)
        again, writer = await raw(server, path, body("third"))
        assert await again.readline() == b"HTTP/1.1 200 OK\r\n"
        await close(writer)
        assert server.stats()["max_in_flight"] == 1


@BOTH
async def test_malformed_breaks_one_line_only(http: aiohttp.ClientSession, path: str) -> None:
    async with quick(faults={"malformed": 1.0}) as server:
        status, _, stream = await post(http, server, path, body())
        assert status == 200
        broken = 0
        for line in stream.decode().split("\n"):
            if line.startswith("data: ") and line != "data: [DONE]":
                try:
                    json.loads(line.removeprefix("data: "))
                except json.JSONDecodeError:
                    broken += 1
        assert broken == 1
        assert b'"finish_reason":"stop"' in stream or b'"stop_reason":"end_turn"' in stream
        assert server.stats()["completions"] == 0


@BOTH
async def test_an_error_event_inside_the_stream(http: aiohttp.ClientSession, path: str) -> None:
    async with quick(faults={"error_event": 1.0}) as server:
        status, headers, stream = await post(http, server, path, body())
        assert status == 200
        *before, last = datas(stream)
        assert before
        if path == OPENAI:
            error = check_error(path, {"content-type": "application/json"}, json.dumps(last).encode())
            assert (error["type"], error["code"]) == ("service_unavailable_error", "server_is_overloaded")
        else:
            assert b"event: error\n" in stream
            assert last["error"] == {"type": "overloaded_error", "message": "Overloaded"}
            assert last["request_id"] == headers["request-id"]


@BOTH
async def test_length_and_empty_are_complete_answers(http: aiohttp.ClientSession, path: str) -> None:
    reasons = {
        OPENAI: ('"finish_reason":"length"', '"finish_reason":"stop"'),
        ANTHROPIC: ('"max_tokens"', '"end_turn"'),
    }
    async with quick(faults={"length": 1.0}) as long, quick(faults={"empty": 1.0}) as empty:
        _, _, stream = await post(http, long, path, body())
        assert reasons[path][0].encode() in stream
        assert text_of(stream)
        _, _, stream = await post(http, empty, path, body())
        assert reasons[path][1].encode() in stream
        assert text_of(stream) == ""
        assert datas(stream)[-1] in ("[DONE]", {"type": "message_stop"})
        assert long.stats()["completions"] == empty.stats()["completions"] == 1


@BOTH
async def test_max_tokens_cuts(http: aiohttp.ClientSession, path: str) -> None:
    async with quick(tokens=50) as server:
        _, _, stream = await post(http, server, path, body(max_tokens=3))
        if path == OPENAI:
            assert [data["choices"][0]["finish_reason"] for data in datas(stream)[:-1]] == [None] * 4 + ["length"]
        else:
            assert datas(stream)[-2]["delta"]["stop_reason"] == "max_tokens"
            assert datas(stream)[-2]["usage"] == {"output_tokens": 3}


async def test_requests_per_minute_openai(http: aiohttp.ClientSession) -> None:
    async with quick(rpm=2, tpm=1_000_000) as server:
        for left in ("1", "0"):
            status, headers, _ = await post(http, server, OPENAI, body())
            assert status == 200
            assert headers["x-ratelimit-limit-requests"] == "2"
            assert headers["x-ratelimit-remaining-requests"] == left
            assert headers["x-ratelimit-reset-requests"].endswith("s")
            assert headers["x-ratelimit-limit-tokens"] == "1000000"
        status, headers, document = await post(http, server, OPENAI, body())
        assert status == 429
        assert 1 <= int(headers["retry-after"]) <= 30
        assert headers["x-ratelimit-remaining-requests"] == "0"
        error = check_error(OPENAI, headers, document)
        assert (error["type"], error["code"]) == ("requests", "rate_limit_exceeded")
        assert server.stats()["refused"] == 1


async def test_tokens_per_minute_anthropic(http: aiohttp.ClientSession) -> None:
    async with quick(tpm=10) as server:
        status, headers, _ = await post(http, server, ANTHROPIC, body())
        assert status == 200
        assert "anthropic-ratelimit-requests-limit" not in headers
        status, headers, document = await post(http, server, ANTHROPIC, body())
        assert status == 429
        assert int(headers["retry-after"]) > 60
        assert headers["anthropic-ratelimit-tokens-limit"] == "10"
        assert headers["anthropic-ratelimit-tokens-remaining"] == "0"
        assert datetime.fromisoformat(headers["anthropic-ratelimit-tokens-reset"]).tzinfo is not None
        assert check_error(ANTHROPIC, headers, document)["type"] == "rate_limit_error"


@BOTH
async def test_the_key_is_required(http: aiohttp.ClientSession, path: str) -> None:
    async with quick(key="sk-right") as server:
        for wrong in ({}, {"authorization": "Bearer sk-wrong"}, {"x_api_key": ""}, {"authorization": "sk-right"}):
            status, headers, document = await post(http, server, path, body(), **wrong)
            assert status == 401
            check_error(path, headers, document)
            assert b"sk-" not in document
        for right in ({"authorization": "Bearer sk-right"}, {"x_api_key": "sk-right"}):
            assert (await post(http, server, path, body(), **right))[0] == 200
        assert server.stats()["refused"] == 4
        async with http.get(server.url + "/v1/models") as response:
            assert response.status == 401


@pytest.mark.parametrize(
    ("path", "missing"),
    [
        (OPENAI, "model"),
        (OPENAI, "messages"),
        (ANTHROPIC, "model"),
        (ANTHROPIC, "messages"),
        (ANTHROPIC, "max_tokens"),
        (ANTHROPIC, "anthropic-version"),
    ],
)
async def test_what_is_missing_is_named(http: aiohttp.ClientSession, path: str, missing: str) -> None:
    async with quick() as server:
        without: dict[str, Any] = {missing: None}
        data = body(**without)
        headers = {} if missing == "anthropic-version" else VERSION
        async with http.post(server.url + path, data=data, headers=headers) as response:
            assert response.status == 400
            found = {name.lower(): value for name, value in response.headers.items()}
            error = check_error(path, found, await response.read())
            assert missing in error["message"]
            assert error["type"] == "invalid_request_error"


async def test_other_paths(http: aiohttp.ClientSession) -> None:
    async with quick() as server:
        for path in ("/", "/v1/completions", "/v1/messages", "/%0A"):
            async with http.get(server.url + path, headers=VERSION) as response:
                assert response.status == 404
                found = {name.lower(): value for name, value in response.headers.items()}
                check_error(ANTHROPIC, found, await response.read())
        async with http.post(server.url + "/v1/embeddings") as response:
            assert response.status == 404
            assert (await response.json())["error"]["type"] == "invalid_request_error"
        async with http.get(server.url + "/v1/models") as response:
            assert [model["object"] for model in (await response.json())["data"]] == ["model"]
        async with http.get(server.url + "/v1/models", headers=VERSION) as response:
            assert [model["type"] for model in (await response.json())["data"]] == ["model"]
        await post(http, server, OPENAI, body())
        async with http.get(server.url + "/stats") as response:
            assert await response.json() == server.stats()
        assert counts(server) == {"requests": 1, "completions": 1, "refused": 0, "faults": {}, "max_in_flight": 1}


async def test_the_largest_body_is_accepted_and_a_larger_one_is_not(http: aiohttp.ClientSession) -> None:
    largest = 64 * 1024 * 1024
    padding = largest - len(body(""))
    async with quick() as server:
        data = body("x" * padding)
        assert len(data) == largest
        assert (await post(http, server, OPENAI, data))[0] == 200
        status, headers, document = await post(http, server, OPENAI, data + b" ")
        assert status == 413
        check_error(OPENAI, headers, document)


async def test_addresses() -> None:
    async with quick() as server:
        assert server.url == f"http://127.0.0.1:{server.port}"
        assert server.base_url("openai") == server.url + "/v1"
        assert server.base_url("anthropic") == server.url
        with pytest.raises(UsageError):
            server.base_url("other")
        with pytest.raises(RuntimeError):
            await server.__aenter__()


async def test_a_port_in_use_is_a_usage_error() -> None:
    async with quick() as server:
        with pytest.raises(UsageError, match=f"cannot listen on 127.0.0.1:{server.port}: Address already in use"):
            await Simulator(Behaviour(), port=server.port).__aenter__()


@BOTH
async def test_leaving_cuts_open_streams_and_leaves_nothing_behind(path: str) -> None:
    before = asyncio.all_tasks()
    async with quick(faults={"stall": 0.5}, first_token_s=3600.0) as waiting, quick(faults={"stall": 1.0}) as server:
        connections = [await raw(server, path, body(f"{number}")) for number in range(5)]
        for reader, _ in connections:
            await reader.readuntil(b"[simulated answer]")
        connections += [await raw(waiting, path, body(f"{number}")) for number in range(5)]
        connections.append(await asyncio.open_connection("127.0.0.1", server.port))
        await until(lambda: waiting.stats()["max_in_flight"] == 5)
        port = server.port
    assert asyncio.all_tasks() == before
    for reader, writer in connections:
        rest = await reader.read()
        assert not rest.endswith(b"0\r\n\r\n")
        await close(writer)
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)
    assert server.stats()["faults"] == {"stall": 5}


async def test_a_cancelled_caller_still_closes_everything() -> None:
    before = asyncio.all_tasks()
    entered = asyncio.Event()
    ports = []

    async def run() -> None:
        async with quick() as server:
            ports.append(server.port)
            entered.set()
            await asyncio.sleep(3600)

    task = asyncio.create_task(run())
    await entered.wait()
    task.cancel()
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert asyncio.all_tasks() == before
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", ports[0])


async def test_a_client_that_leaves_in_the_middle_makes_no_noise(caplog: pytest.LogCaptureFixture) -> None:
    async with quick(tokens=4000, chunk_s=0.001) as server:
        reader, writer = await raw(server, OPENAI, body(max_tokens=None))
        await reader.readuntil(b"[simulated answer]")
        writer.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await close(writer)
        await until(lambda: not server._connections)
    assert not caplog.records
    assert server.stats()["completions"] == 0


@BOTH
async def test_limits_change_while_it_runs(http: aiohttp.ClientSession, path: str) -> None:
    async with quick(rpm=1, tpm=1_000_000) as server:
        assert [(await post(http, server, path, body(f"{number}")))[0] for number in range(2)] == [200, 429]
        server.limit(rpm=None)
        assert [(await post(http, server, path, body(f"{number}")))[0] for number in range(2)] == [200, 200]
        server.limit(rpm=1, max_in_flight=5)
        status, headers, _ = await post(http, server, path, body())
        assert status == 200
        # What was not named is as before.
        assert "1000000" in headers.values()
        with pytest.raises(UsageError):
            server.limit(rpm=5, tpm=0)
        status, headers, _ = await post(http, server, path, body())
        assert (status, server.stats()["refused_for"]) == (429, {"limit": 2})
        assert "1" in (headers.get("x-ratelimit-limit-requests"), headers.get("anthropic-ratelimit-requests-limit"))


@BOTH
async def test_a_bucket_that_begins_empty_and_a_server_that_gives_no_hint(http: aiohttp.ClientSession, path: str) -> None:
    async with quick(rpm=1, fill=0.0) as telling, quick(rpm=1, fill=0.0, hints=False) as silent:
        for server, hinted in ((telling, True), (silent, False)):
            status, headers, document = await post(http, server, path, body())
            assert status == 429
            check_error(path, headers, document)
            assert ("retry-after" in headers) is hinted
            assert any("ratelimit" in name for name in headers) is hinted


@BOTH
@pytest.mark.parametrize("status", [429, 500, 503, 529])
async def test_an_outage_refuses_everything_until_it_ends(http: aiohttp.ClientSession, path: str, status: int) -> None:
    async with quick(first_token_s=0.05, key="sk-right", max_in_flight=1) as server:
        right = {"x_api_key": "sk-right"}
        under_way = asyncio.create_task(post(http, server, path, body(), **right))
        await until(lambda: server.stats()["max_in_flight"] == 1)
        server.outage(status)
        for headers in (right, {}):
            found, answered, document = await post(http, server, path, body(), **headers)
            assert (found, answered.get("retry-after")) == (status, None)
            check_error(path, answered, document)
        # What was under way is not touched.
        assert (await under_way)[0] == 200
        server.outage(None)
        assert (await post(http, server, path, body(), **right))[0] == 200
        assert counts(server) == {"requests": 4, "completions": 2, "refused": 2, "faults": {}, "max_in_flight": 1}
        assert server.stats()["refused_for"] == {"outage": 2}


async def test_an_outage_has_a_known_status() -> None:
    async with quick() as server:
        with pytest.raises(UsageError, match="429, 500, 503, 529, not 418"):
            server.outage(418)


@BOTH
async def test_a_closed_port_cuts_refuses_and_opens_again_at_the_same_port(path: str) -> None:
    async with quick(faults={"stall": 1.0}) as server:
        port = server.port
        cut, cut_writer = await raw(server, path, body())
        await cut.readuntil(b"[simulated answer]")
        idle, idle_writer = await asyncio.open_connection("127.0.0.1", port)
        await server.close_port()
        with pytest.raises(RuntimeError):
            await server.close_port()
        assert not (await cut.read()).endswith(b"0\r\n\r\n")
        for _ in range(3):
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection("127.0.0.1", port)
        # Connected before, and no request yet: it gets no answer either.
        idle_writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert await idle.read() == b""
        await server.open_port()
        with pytest.raises(RuntimeError):
            await server.open_port()
        assert server.port == port
        reader, writer = await raw(server, path, body())
        await reader.readuntil(b"[simulated answer]")
        for each in (cut_writer, idle_writer, writer):
            await close(each)
        assert server.stats()["requests"] == 2


async def test_leaving_with_a_closed_port_leaves_nothing_behind() -> None:
    before = asyncio.all_tasks()
    async with quick() as server:
        await server.close_port()
    assert asyncio.all_tasks() == before
    # Its port is free.
    async with Simulator(Behaviour(), port=server.port):
        pass
    with pytest.raises(RuntimeError):
        await server.open_port()


@BOTH
async def test_no_money(http: aiohttp.ClientSession, path: str) -> None:
    async with quick(broke=True, key="sk-right") as server:
        assert (await post(http, server, path, body()))[0] == 401
        status, headers, document = await post(http, server, path, body(), x_api_key="sk-right")
        error = check_error(path, headers, document)
        if path == OPENAI:
            assert (status, error["type"], error["code"]) == (429, "insufficient_quota", "insufficient_quota")
            assert error["message"].startswith("You exceeded your current quota, please check your plan and billing details.")
        else:
            assert (status, error["type"]) == (400, "invalid_request_error")
            assert error["message"].startswith("Your credit balance is too low to access the Anthropic API.")
        assert "retry-after" not in headers
        assert server.stats()["refused_for"] == {"key": 1, "money": 1}
        assert server.stats()["refused"] == 2


@BOTH
async def test_an_echo_survives_its_retries(http: aiohttp.ClientSession, path: str) -> None:
    text = 'Wörter, “words” and\n\n"words" 😀.'
    async with quick(echo=True, faults={"truncate": 0.5}) as server:
        texts = {text_of((await post(http, server, path, body(text)))[2]) for _ in range(20)}
        assert text in texts
        assert all(text.startswith(part) for part in texts)
        assert server.stats()["faults"].keys() == {"truncate"}


@BOTH
async def test_tokens_and_time_under_way_are_counted(http: aiohttp.ClientSession, path: str) -> None:
    async with quick(tokens=1000, first_token_s=0.02, key="sk-right") as server:
        asked = [body("x" * 400 * number, max_tokens=7 * number) for number in (1, 2, 3)]
        clock = asyncio.get_running_loop().time
        start = clock()
        await asyncio.gather(*(post(http, server, path, one, x_api_key="sk-right") for one in asked))
        took_s = clock() - start
        await post(http, server, path, body())
        stats = server.stats()
        assert stats["input_tokens"] == sum(len(one) // 4 for one in asked)
        assert stats["output_tokens"] == 7 + 14 + 21
        # Each of the three waits half of the mean at least, and no longer than all of it took.
        assert 3 * 0.01 <= stats["in_flight_s"] <= 3 * took_s
        assert stats["refused_for"] == {"key": 1}
