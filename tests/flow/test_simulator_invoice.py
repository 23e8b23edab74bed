"""The simulator's invoice over real sockets: what each way in which an answer can end costs, caches, tiers, reasoning."""

import json
from collections.abc import AsyncIterator
from decimal import Decimal
from hashlib import sha256
from typing import Any

import aiohttp
import pytest
from processes import QUICK, Simulated, run, simulator, write_prompts
from simulating import ANTHROPIC, BOTH, OPENAI, body, close, collect, datas, http_session, post, quick, raw, text_of, until

from runner.simulator import Line, Price, Simulator, Statement

pytestmark = pytest.mark.anyio

USAGE = {"stream_options": {"include_usage": True}}
DOLLAR = 10**12


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with http_session() as session:
        yield session


def lines(server: Simulator) -> list[Line]:
    found = server.invoice(lines=True).lines
    assert isinstance(found, list)
    return found


def only(server: Simulator) -> Line:
    (line,) = lines(server)
    return line


async def settled(server: Simulator, requests: int) -> Statement:
    """Wait until so many requests are billed and none is open."""
    await until(lambda: server.invoice().requests >= requests and not server.invoice().open)
    return server.invoice()


def usage_of(path: str, answer: bytes, *, stream: bool) -> dict[str, Any]:
    """The last usage of a whole answer, with the input tokens of an Anthropic stream, which come first."""
    found = datas(answer) if stream else [json.loads(answer)]
    if path == ANTHROPIC and stream:
        return {**found[0]["message"]["usage"], **found[-2]["usage"]}
    usage: dict[str, Any] = found[-2 if stream else 0]["usage"]
    return usage


@BOTH
@pytest.mark.parametrize("stream", [True, False])
async def test_a_whole_answer_costs_what_its_usage_says(http: aiohttp.ClientSession, path: str, stream: bool) -> None:
    asked = body(stream=stream, **(USAGE if stream else {}))
    async with quick(prices={"some/model": Price(input=Decimal(3), output=Decimal(15))}) as server:
        _, _, answer = await post(http, server, path, asked)
        line = only(server)
    usage = usage_of(path, answer, stream=stream)
    read, written = (
        usage[name] for name in (("prompt_tokens", "completion_tokens") if path == OPENAI else ("input_tokens", "output_tokens"))
    )
    assert (line.fresh_tokens, line.output_tokens) == (read, written)
    assert line.amount_picodollars == read * 3_000_000 + written * 15_000_000
    assert (line.number, line.model, line.tier) == (1, "some/model", "default" if path == OPENAI else "standard")
    assert (line.reported, line.ending, line.body) == (True, "whole", sha256(asked).hexdigest())


async def test_the_invoice_is_a_document_that_anybody_can_get(http: aiohttp.ClientSession) -> None:
    async with quick() as server:
        await post(http, server, OPENAI, body(**USAGE))
        await post(http, server, OPENAI, body())
        await post(http, server, OPENAI, b"nonsense")
        async with http.get(f"{server.url}/invoice?lines=1") as response:
            found = await response.json()
        async with http.get(f"{server.url}/invoice") as response:
            bare = await response.json()
    listed = found.pop("lines")
    assert found == bare
    assert list(bare) == [
        "currency",
        "requests",
        "open",
        "input_tokens",
        "fresh_tokens",
        "cached_tokens",
        "written_tokens",
        "written_1h_tokens",
        "output_tokens",
        "reasoning_tokens",
        "amount",
        "amount_reported",
        "amount_unreported",
        "doubled",
        "reported_twice",
        "lines_dropped",
    ]
    assert (bare["currency"], bare["requests"], bare["open"]) == ("USD", 2, 0)
    assert [line["reported"] for line in listed] == [True, False]
    assert Decimal(bare["amount"]) * DOLLAR == sum(line["amount_picodollars"] for line in listed)
    assert Decimal(bare["amount"]) == Decimal(bare["amount_reported"]) + Decimal(bare["amount_unreported"])
    assert Decimal(bare["amount_reported"]) * DOLLAR == listed[0]["amount_picodollars"]
    assert list(listed[0]) == [*Line.__struct_fields__]


@BOTH
async def test_what_is_refused_costs_nothing(http: aiohttp.ClientSession, path: str) -> None:
    for settings in (
        {"faults": {"500": 1.0}},
        {"faults": {"429": 1.0}},
        {"faults": {"529": 1.0}},
        {"key": "sk"},
        {"broke": True},
    ):
        async with quick(**settings) as server:
            assert (await post(http, server, path, body()))[0] >= 400
            assert (server.invoice().requests, server.invoice().amount) == (0, "0.000000000000")
    async with quick(rpm=1) as server:
        assert [(await post(http, server, path, body()))[0] for _ in range(2)] == [200, 429]
        assert server.invoice().requests == 1


@BOTH
@pytest.mark.parametrize("fault", ["truncate", "error_event", "malformed"])
async def test_a_stream_that_the_server_cuts_costs_what_was_made(http: aiohttp.ClientSession, path: str, fault: str) -> None:
    async with quick(faults={fault: 1.0}, tokens=50) as server:
        asked = body(**USAGE)
        _, _, stream = await post(http, server, path, asked)
        line = only(server)
        chunks = stream.count(b'"content":"') - 1 if path == OPENAI else stream.count(b"text_delta")
        assert (line.fresh_tokens, line.output_tokens) == (len(asked) // 4, chunks)
        assert not line.reported
        assert line.ending == ("whole" if fault == "malformed" else "cut")
        assert server.invoice().amount_reported == "0.000000000000"


@BOTH
@pytest.mark.parametrize("fault", ["disconnect", "stall"])
async def test_a_connection_that_breaks_or_hangs_costs_what_was_made(path: str, fault: str) -> None:
    async with quick(faults={fault: 1.0}, tokens=50) as server:
        reader, writer = await raw(server, path, body(**USAGE))
        received = bytearray()
        if fault == "stall":
            while b"simulated answer" not in received:
                received += await reader.read(65536)
            assert (server.invoice().open, server.invoice().requests) == (1, 0)
        else:
            with pytest.raises(ConnectionResetError):
                await collect(reader, received)
        await close(writer)
        await settled(server, 1)
        line = only(server)
        chunks = received.count(b'"content":"') - 1 if path == OPENAI else received.count(b"text_delta")
        assert (line.output_tokens, line.reported, line.ending) == (chunks, False, "cut")


@BOTH
async def test_a_client_that_leaves_in_the_middle_pays_for_what_was_made(path: str) -> None:
    # the fourth token would come after an hour
    async with quick(chunk_s=1200.0, tokens=50) as server:
        reader, writer = await raw(server, path, body(**USAGE))
        await reader.readuntil(b"[simulated answer]")
        await close(writer)
        await settled(server, 1)
        line = only(server)
        assert (line.output_tokens, line.reported, line.ending) == (1, False, "abandoned")


@BOTH
@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_that_leaves_before_the_first_byte(path: str, stream: bool) -> None:
    async with quick(first_token_s=3600.0, tokens=50, reasoning_tokens=40) as server:
        asked = body(stream=stream)
        _, writer = await raw(server, path, asked)
        await until(lambda: server.invoice().open == 1)
        await close(writer)
        await settled(server, 1)
        line = only(server)
        assert (line.fresh_tokens, line.reported, line.ending) == (len(asked) // 4, False, "abandoned")
        # a stream was not begun, anything else is made to its end
        assert (line.output_tokens > 40) == (not stream)
        assert (line.reasoning_tokens > 0) == (not stream)


@BOTH
async def test_the_same_request_twice_is_seen(http: aiohttp.ClientSession, path: str) -> None:
    async with quick() as server:
        for text in ("a", "b", "b"):
            await post(http, server, path, body(text, **USAGE))
        assert (server.invoice().doubled, server.invoice().reported_twice) == (1, 1)


@BOTH
@pytest.mark.parametrize("stream", [True, False])
async def test_reasoning_is_output_that_is_not_shown(http: aiohttp.ClientSession, path: str, stream: bool) -> None:
    price = Price(input=Decimal(1), output=Decimal(4), reasoning=Decimal(6))
    asked = body(stream=stream, **(USAGE if stream else {}))
    async with quick(reasoning_tokens=100, prices={"some/model": price}) as server, quick() as plain:
        _, _, answer = await post(http, server, path, asked)
        _, _, calm = await post(http, plain, path, asked)
        line = only(server)
        shown = only(plain).output_tokens
        if stream:
            assert text_of(answer) == text_of(calm)
        assert "reasoning" not in json.dumps(usage_of(path, calm, stream=stream))
        assert server.stats()["output_tokens"] == line.output_tokens
    usage = usage_of(path, answer, stream=stream)
    assert 50 <= line.reasoning_tokens <= 150
    assert line.output_tokens == shown + line.reasoning_tokens
    assert line.amount_picodollars == line.fresh_tokens * 1_000_000 + shown * 4_000_000 + line.reasoning_tokens * 6_000_000
    if path == OPENAI:
        assert usage["completion_tokens"] == line.output_tokens
        assert usage["completion_tokens_details"] == {"reasoning_tokens": line.reasoning_tokens}
        assert usage["total_tokens"] == line.fresh_tokens + line.output_tokens
    else:
        assert usage == {"input_tokens": line.fresh_tokens, "output_tokens": line.output_tokens}


@BOTH
@pytest.mark.parametrize("stream", [True, False])
async def test_answers_can_fill_their_limit(http: aiohttp.ClientSession, path: str, stream: bool) -> None:
    async with quick(fill_limit=True) as server:
        _, _, answer = await post(http, server, path, body(stream=stream, max_tokens=321))
        assert only(server).output_tokens == 321
        assert (b'"finish_reason":"length"' if path == OPENAI else b'"stop_reason":"max_tokens"') in answer


LONG = "word " * 1200
"""1,500 tokens."""


@pytest.mark.parametrize(("kind", "read"), [("openai", 1408), ("vllm", 1488)])
@pytest.mark.parametrize("stream", [True, False])
async def test_an_automatic_cache_is_reported_and_billed(http: aiohttp.ClientSession, kind: str, read: int, stream: bool) -> None:
    messages = [{"role": "system", "content": LONG[:-25]}]
    async with quick(cache=kind) as server:
        for question in ("one?", "two?"):
            asked = body(messages=[*messages, {"role": "user", "content": question}], stream=stream, **(USAGE if stream else {}))
            _, _, answer = await post(http, server, OPENAI, asked)
        first, second = lines(server)
    assert (first.cached_tokens, second.cached_tokens, second.written_tokens) == (0, read, 0)
    assert first.fresh_tokens == second.fresh_tokens + read == len(asked) // 4
    assert second.amount_picodollars == (second.fresh_tokens * 10 + read) * 100_000 + second.output_tokens * 4_000_000
    usage = usage_of(OPENAI, answer, stream=stream)
    assert (usage["prompt_tokens"], usage["prompt_tokens_details"]) == (len(asked) // 4, {"cached_tokens": read})


@pytest.mark.parametrize("stream", [True, False])
async def test_an_explicit_cache_is_reported_and_billed(http: aiohttp.ClientSession, stream: bool) -> None:
    system = [{"type": "text", "text": LONG, "cache_control": {"type": "ephemeral"}}]
    async with quick(cache="anthropic") as server:
        answers = [(await post(http, server, ANTHROPIC, body(text, system=system, stream=stream)))[2] for text in ("one", "two")]
        first, second = lines(server)
        status, _, document = await post(http, server, ANTHROPIC, body(system=system * 5))
        assert (status, json.loads(document)["error"]["type"]) == (400, "invalid_request_error")
        assert server.invoice().requests == 2
    # the name of the role counts for two tokens
    assert (first.written_tokens, first.cached_tokens) == (1502, 0)
    assert (second.written_tokens, second.cached_tokens) == (0, 1502)
    assert first.amount_picodollars == first.fresh_tokens * 1_000_000 + 1502 * 1_250_000 + first.output_tokens * 4_000_000
    assert second.amount_picodollars == second.fresh_tokens * 1_000_000 + 1502 * 100_000 + second.output_tokens * 4_000_000
    for line, answer in zip((first, second), answers, strict=True):
        assert usage_of(ANTHROPIC, answer, stream=stream) == {
            "input_tokens": line.fresh_tokens,
            "cache_creation_input_tokens": line.written_tokens,
            "cache_read_input_tokens": line.cached_tokens,
            "cache_creation": {"ephemeral_5m_input_tokens": line.written_tokens, "ephemeral_1h_input_tokens": 0},
            "output_tokens": line.output_tokens,
        }


async def test_an_explicit_cache_behind_a_gateway(http: aiohttp.ClientSession) -> None:
    content = [{"type": "text", "text": LONG, "cache_control": {"type": "ephemeral"}}]
    async with quick(cache="anthropic") as server:
        asked = body(messages=[{"role": "system", "content": content}, {"role": "user", "content": "?"}], stream=False)
        _, _, answer = await post(http, server, OPENAI, asked)
        assert only(server).written_tokens == 1502
    usage = usage_of(OPENAI, answer, stream=False)
    assert usage["prompt_tokens_details"] == {"cached_tokens": 0, "cache_write_tokens": 1502}
    assert usage["prompt_tokens"] == len(asked) // 4


async def test_a_prefix_is_read_once_the_answer_that_wrote_it_has_begun(http: aiohttp.ClientSession) -> None:
    # the answer of the flex tier would begin after an hour
    async with quick(cache="vllm", flex_delay_s=3600.0) as server:
        _, writer = await raw(server, OPENAI, body(LONG + "a", service_tier="flex"))
        await until(lambda: server.invoice().open == 1)
        await post(http, server, OPENAI, body(LONG + "b"))
        await post(http, server, OPENAI, body(LONG + "c"))
        assert [line.cached_tokens for line in lines(server)] == [0, 1488]
        await close(writer)
        await settled(server, 3)


async def test_a_request_that_is_given_up_before_its_first_byte_writes_nothing() -> None:
    system = [{"type": "text", "text": LONG, "cache_control": {"type": "ephemeral"}}]
    async with quick(cache="anthropic", first_token_s=3600.0) as server:
        for number in (1, 2):
            _, writer = await raw(server, ANTHROPIC, body(system=system))
            await until(lambda: server.invoice().open == 1)
            await close(writer)
            await settled(server, number)
        assert [(line.cached_tokens, line.written_tokens, line.output_tokens) for line in lines(server)] == [(0, 0, 0)] * 2


def tiers(answer: bytes, *, stream: bool) -> set[str | None]:
    found = [data for data in datas(answer) if data != "[DONE]"] if stream else [json.loads(answer)]
    return {data.get("service_tier") for data in found}


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("asked", "served", "output"),
    [
        (None, None, 4_000_000),
        ("auto", "default", 4_000_000),
        ("default", "default", 4_000_000),
        ("flex", "flex", 2_000_000),
        ("priority", "priority", 8_000_000),
    ],
)
async def test_the_answer_names_the_tier_and_the_invoice_charges_it(
    http: aiohttp.ClientSession, stream: bool, asked: str | None, served: str | None, output: int
) -> None:
    async with quick() as server:
        _, _, answer = await post(http, server, OPENAI, body(stream=stream, service_tier=asked, **(USAGE if stream else {})))
        line = only(server)
    assert tiers(answer, stream=stream) == {served}
    assert line.tier == (served or "default")
    assert line.amount_picodollars == line.fresh_tokens * output // 4 + line.output_tokens * output


async def test_flex_requests_can_be_served_by_the_standard_tier(http: aiohttp.ClientSession) -> None:
    # the flex tier would take an hour
    async with quick(flex_downgrade=1.0, flex_delay_s=3600.0) as server:
        _, _, answer = await post(http, server, OPENAI, body(service_tier="flex"))
        line = only(server)
    assert tiers(answer, stream=True) == {"default"}
    assert (line.tier, line.amount_picodollars) == ("default", line.fresh_tokens * 1_000_000 + line.output_tokens * 4_000_000)


async def test_the_flex_tier_is_slow(http: aiohttp.ClientSession) -> None:
    async with quick(flex_delay_s=3600.0) as server:
        _, writer = await raw(server, OPENAI, body(service_tier="flex"))
        await until(lambda: server.invoice().open == 1)
        # others do not wait for it
        assert (await post(http, server, OPENAI, body(service_tier="default")))[0] == 200
        assert server.invoice().open == 1
        await close(writer)
        await settled(server, 2)
        assert [(line.tier, line.output_tokens > 0) for line in lines(server)] == [("default", True), ("flex", False)]


@pytest.mark.parametrize(
    ("status", "kind", "code"),
    [(429, "resource_unavailable", "resource_unavailable"), (498, "capacity_exceeded", "capacity_exceeded")],
)
async def test_flex_requests_can_be_refused_for_lack_of_capacity(
    http: aiohttp.ClientSession, status: int, kind: str, code: str
) -> None:
    async with quick(flex_full=1.0, flex_status=status) as server:
        found, headers, document = await post(http, server, OPENAI, body(service_tier="flex"))
        error = json.loads(document)["error"]
        assert (found, error["type"], error["code"]) == (status, kind, code)
        assert "retry-after" not in headers
        assert (await post(http, server, OPENAI, body()))[0] == 200
        assert server.invoice().requests == 1
        assert server.stats()["refused_for"] == {"capacity": 1}


@pytest.mark.parametrize("stream", [True, False])
async def test_the_tier_of_the_other_dialect(http: aiohttp.ClientSession, stream: bool) -> None:
    async with quick() as server:
        _, _, answer = await post(http, server, ANTHROPIC, body(service_tier="auto", stream=stream))
        assert usage_of(ANTHROPIC, answer, stream=stream)["service_tier"] == "standard"
        status, _, document = await post(http, server, ANTHROPIC, body(service_tier="flex"))
        assert (status, json.loads(document)["error"]["message"]) == (
            400,
            "service_tier: Input should be 'auto' or 'standard_only'",
        )
        status, _, document = await post(http, server, OPENAI, body(service_tier="gold"))
        assert (status, json.loads(document)["error"]["param"]) == (400, "service_tier")


async def test_a_server_that_ends_bills_what_was_open() -> None:
    async with quick(first_token_s=3600.0) as server:
        _, writer = await raw(server, OPENAI, body())
        await until(lambda: server.invoice().open == 1)
    assert (server.invoice().requests, server.invoice().open, only(server).ending) == (1, 0, "abandoned")
    await close(writer)


OPTIONS = (
    *(
        "--reasoning-tokens",
        "30",
        "--fill",
        "--cache",
        "vllm",
        "--cache-seconds",
        "1m",
        "--flex-full",
        "0",
        "--flex-status",
        "498",
    ),
    *("--flex-downgrade", "0", "--flex-delay", "0", "--prices", '{"m": {"input": 2, "output": 8}}'),
)


@pytest.fixture(scope="module")
def priced() -> Any:
    with simulator(*QUICK, *OPTIONS) as server:
        yield server


def test_a_run_and_its_invoice(priced: Simulated, tmp_path: Any) -> None:
    write_prompts(tmp_path / "prompts.jsonl", range(5))
    ended = run("run", "prompts.jsonl", "--model", "m", "--max-tokens", "50", "--base-url", priced.openai, cwd=tmp_path)
    assert ended.code == 0
    found = priced.invoice(lines=True)
    assert (found["requests"], found["output_tokens"], found["amount_unreported"]) == (5, 250, "0.000000000000")
    assert found["reasoning_tokens"] >= 5 * 15
    rates = found["fresh_tokens"] * 2_000_000 + found["cached_tokens"] * 200_000 + 250 * 8_000_000
    assert Decimal(found["amount"]) * DOLLAR == rates
    assert [line["ending"] for line in found["lines"]] == ["whole"] * 5
