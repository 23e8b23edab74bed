"""Answers of another shape than the dialect's documentation: read for what they are, over real sockets, in both dialects."""

import json
from typing import Any

import pytest
from asking import BEFORE_RESET_S, DIALECTS, PROGRAM_LOOP, Got, ask
from raw_server import (
    BLOCK_START,
    BLOCK_STOP,
    DONE,
    FIN,
    HANG,
    LAST,
    MESSAGE_START,
    MESSAGE_STOP,
    RST,
    Reply,
    Step,
    block_delta,
    chunk,
    delta,
    events,
    finish,
    head,
    message_delta,
    named,
    sse,
    stream,
    whole,
)
from test_client_faults import ANTHROPIC_JSON, OPENAI_JSON

from runner.errors import ProviderError, StreamError
from runner.model import Usage
from runner.providers.http import Timeouts

pytestmark = pytest.mark.anyio
JSONS = {"openai": OPENAI_JSON, "anthropic": ANTHROPIC_JSON}
KINDS = ["text/event-stream", "application/json", "text/plain", "text/html", "application/octet-stream", None]
STATUSES = ["200 OK", "201 Created", "202 Accepted", "206 Partial Content", "299 Odd"]


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return PROGRAM_LOOP


def typed(kind: str | None, *parts: Step, status: str = "200 OK", end: tuple[Step, ...] = (LAST,)) -> Reply:
    """Return a chunked answer of a content type, each part in a chunk of its own."""
    headers = {"transfer-encoding": "chunked", **({"content-type": kind} if kind else {})}
    sent = (chunk(part) if isinstance(part, bytes) else part for part in parts)
    return Reply((head(status, headers), *sent, *end))


def is_hello(got: Got) -> None:
    assert (got.completion.text, got.completion.notes) == ("Hello", ())
    assert got.completion.usage == Usage(input_tokens=7, output_tokens=3)
    assert not got.exchange.tail_lost


# -- what the body is, whatever its headers say


@DIALECTS
@pytest.mark.parametrize("kind", KINDS)
async def test_a_stream_of_any_content_type(dialect: str, kind: str | None) -> None:
    is_hello(await ask(typed(kind, *events(dialect, "Hel", "lo")), dialect))


@DIALECTS
@pytest.mark.parametrize("kind", KINDS)
async def test_json_of_any_content_type(dialect: str, kind: str | None) -> None:
    is_hello(await ask(typed(kind, json.dumps(JSONS[dialect]).encode()), dialect))


@DIALECTS
@pytest.mark.parametrize("status", STATUSES)
async def test_any_2xx_is_an_answer(dialect: str, status: str) -> None:
    is_hello(await ask(typed("text/event-stream", *events(dialect, "Hello"), status=status), dialect))
    is_hello(await ask(typed("application/json", json.dumps(JSONS[dialect]).encode(), status=status), dialect))


@DIALECTS
@pytest.mark.parametrize("begun", [b"", b"\n\n", b" \r\n \n", b"\xef\xbb\xbf", b": waiting\n\n"])
async def test_what_stands_before_a_stream_and_how_its_first_bytes_are_cut(dialect: str, begun: bytes) -> None:
    body = begun + b"".join(events(dialect, "Hello"))
    pieces = [step for at in range(12) for step in (body[at : at + 1], 0.003)]
    is_hello(await ask(typed("application/json", *pieces, body[12:]), dialect))


@DIALECTS
async def test_white_space_that_keeps_the_connection_alive_before_json(dialect: str) -> None:
    spaces = [step for _ in range(8) for step in (b" \n", 0.05)]
    answer = typed("application/json", *spaces, json.dumps(JSONS[dialect]).encode())
    is_hello(await ask(answer, dialect, timeouts=Timeouts(first_byte_s=0.3, silence_s=0.3)))


@pytest.mark.parametrize("kind", KINDS)
async def test_a_page_is_no_answer_whatever_its_type(kind: str | None) -> None:
    got = await ask(whole("200 OK", " \n<!doctype html><title>Log in</title>" + "x" * 9999, kind=kind))
    got.is_(StreamError, "not_an_api", "stop")
    assert "Log in" in str(got.failure)
    assert len(str(got.failure)) < 400


async def test_a_text_that_is_no_answer() -> None:
    got = await ask(whole("200 OK", "upstream connect error", kind="text/plain"))
    got.is_(StreamError, "not_an_api", "stop")
    assert "upstream connect error" in str(got.failure)


@pytest.mark.parametrize("end", [(BEFORE_RESET_S, RST), (BEFORE_RESET_S, FIN), (HANG,)], ids=["reset", "closed", "silent"])
@DIALECTS
async def test_json_is_whole_with_its_last_bracket(dialect: str, end: tuple[Step, ...]) -> None:
    """And so nobody pays for it twice, however the body ends."""
    body = json.dumps(JSONS[dialect]).encode()
    short = Timeouts(first_byte_s=0.3, silence_s=0.3)
    assert (await ask(typed("application/json", body, end=end), dialect, timeouts=short)).completion.text == "Hello"
    got = await ask(typed("application/json", body[:-9], end=end), dialect, timeouts=short)
    assert got.failure.verdict == "retry"


# -- heartbeats

BEATS = {
    "empty": b"data:\n\n",
    "empty with a space": b"data: \n\n",
    "named": b"event: ping\ndata: ping\n\n",
    "named and empty": b"event: ping\ndata:\n\n",
    "named with JSON": b'event: ping\ndata: {"type": "ping"}\n\n',
    "another name": b"event: heartbeat\ndata: 17\n\n",
    "a word": b"data: ping\n\n",
    "a word in brackets": b"data: [PING]\n\n",
    "a comment in the data": b"data: : keep-alive\n\n",
    "a comment": b": keep-alive\n\n",
    "an empty object": b"data: {}\n\n",
}


@DIALECTS
@pytest.mark.parametrize("beat", BEATS.values(), ids=BEATS)
async def test_heartbeats_between_all_events(dialect: str, beat: bytes) -> None:
    is_hello(await ask(stream(beat, *(part for event in events(dialect, "Hel", "lo") for part in (event, beat))), dialect))


# -- the choices and the text in them


def chunk_of(choice: dict[str, Any], **fields: Any) -> bytes:
    return sse({"id": "c-1", "model": "m-1", "choices": [choice], **fields})


def plain(index: int, text: str, reason: str | None = None) -> bytes:
    return chunk_of({"index": index, "delta": {"content": text}, "finish_reason": reason})


TEXTS = {
    "message for delta": (
        chunk_of({"index": 0, "message": {"role": "assistant", "content": "Hel"}}),
        chunk_of({"index": 0, "message": {"content": "lo"}, "finish_reason": "stop"}),
    ),
    "message for delta, the same twice": (
        chunk_of({"index": 0, "message": {"content": "Hello"}}),
        chunk_of({"index": 0, "message": {"content": ""}, "finish_reason": "stop"}),
    ),
    "message and an empty delta": (
        chunk_of({"index": 0, "delta": {}, "message": {"content": "Hello"}, "finish_reason": "stop"}),
    ),
    "message and delta null": (chunk_of({"index": 0, "delta": None, "message": {"content": "Hello"}, "finish_reason": "stop"}),),
    "the whole message once more at the end": (
        delta("Hel"),
        delta("lo"),
        chunk_of({"index": 0, "delta": {}, "message": {"content": "Hello"}, "finish_reason": "stop"}),
    ),
    "text of the old dialect": (
        chunk_of({"index": 0, "text": "Hel", "logprobs": None, "finish_reason": None}),
        chunk_of({"index": 0, "text": "lo", "finish_reason": "stop"}),
    ),
    "index 1 alone": (plain(1, "Hel"), plain(1, "lo", "stop")),
    "index 7 alone": (plain(7, "Hello", "stop"),),
    "index 1 first, then 0": (plain(1, "WRONG", "stop"), plain(0, "Hel"), plain(1, "WRONG"), plain(0, "lo", "stop")),
    "index 0 first, then 1": (plain(0, "Hel"), plain(1, "WRONG", "length"), plain(0, "lo", "stop")),
    "index 1, then 2": (plain(1, "Hel"), plain(2, "WRONG"), plain(1, "lo", "stop"), plain(2, "", "length")),
}


@pytest.mark.parametrize("sent", TEXTS.values(), ids=TEXTS)
async def test_where_the_text_stands(sent: tuple[bytes, ...]) -> None:
    for together in (False, True):
        got = await ask(stream(b"".join(sent), DONE) if together else stream(*sent, DONE))
        assert (got.completion.text, got.completion.finish_reason) == ("Hello", "stop")
        assert got.completion.extra == {}


@pytest.mark.parametrize(
    "choices",
    [
        [{"text": "Hello", "finish_reason": "stop"}],
        [{"index": 1, "message": {"content": "Hello"}, "finish_reason": "stop"}],
        [
            {"index": 1, "message": {"content": "WRONG"}, "finish_reason": "length"},
            {"index": 0, "message": {"content": "Hello"}, "finish_reason": "stop"},
        ],
    ],
)
async def test_where_the_text_of_json_stands(choices: list[dict[str, Any]]) -> None:
    assert (await ask(whole("200 OK", {"choices": choices}))).completion.text == "Hello"


# -- tool calls


def called(name: str, arguments: str, **fields: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "arguments": arguments}, **fields}


TWO = [("a", "f", "{1}"), ("b", "g", "{2}")]
CALLS = {
    "all with index 0": [[called("f", "{1}", index=0, id="a")], [called("g", "{2}", index=0, id="b")]],
    "all with index 0, in pieces": [
        [called("f", "{", index=0, id="a")],
        [{"index": 0, "function": {"arguments": "1}"}}],
        [called("g", "{", index=0, id="b")],
        [{"index": 0, "function": {"arguments": "2}"}}],
    ],
    "all with index 0, pieces with their ids": [
        [called("f", "{", index=0, id="a")],
        [called("g", "{", index=0, id="b")],
        [{"index": 0, "id": "a", "function": {"arguments": "1}"}}],
        [{"index": 0, "id": "b", "function": {"arguments": "2}"}}],
    ],
    "all with index 0, in one chunk": [[called("f", "{1}", index=0, id="a"), called("g", "{2}", index=0, id="b")]],
    "no index": [[called("f", "{1}", id="a")], [called("g", "{2}", id="b")]],
    "no index, in pieces": [
        [called("f", "{", id="a")],
        [{"function": {"arguments": "1}"}}],
        [called("g", "{", id="b")],
        [{"id": "b", "function": {"arguments": "2}"}}],
    ],
    "as they should be": [
        [called("f", "", index=0, id="a"), called("g", "", index=1, id="b")],
        [{"index": 1, "function": {"arguments": "{2}"}}],
        [{"index": 0, "function": {"arguments": "{1}"}}],
    ],
    "the id in every piece": [
        [called("f", "{", index=0, id="a")],
        [called("f", "1}", index=0, id="a")],
        [called("g", "{2}", index=1, id="b")],
    ],
}


@pytest.mark.parametrize("calls", CALLS.values(), ids=CALLS)
async def test_calls_are_told_apart_by_index_and_id(calls: list[list[dict[str, Any]]]) -> None:
    sent = [chunk_of({"index": 0, "delta": {"tool_calls": call}}) for call in calls]
    got = await ask(stream(*sent, finish("tool_calls"), DONE))
    assert [(call["id"], call["name"], call["arguments"]) for call in got.completion.extra["tool_calls"]] == TWO


async def test_calls_without_ids_are_told_apart_by_name() -> None:
    for sent in ([[called("f", "{1}"), called("g", "{2}")]], [[called("f", "{1}", index=0)], [called("g", "{2}", index=0)]]):
        got = await ask(stream(*(chunk_of({"index": 0, "delta": {"tool_calls": call}}) for call in sent), finish(), DONE))
        assert [call["arguments"] for call in got.completion.extra["tool_calls"]] == ["{1}", "{2}"]
    twice = chunk_of({"index": 0, "delta": {"tool_calls": [called("f", "{1}", index=0), called("f", "{2}", index=0)]}})
    got = await ask(stream(twice, finish(), DONE))
    assert [call["arguments"] for call in got.completion.extra["tool_calls"]] == ["{1}", "{2}"]


@pytest.mark.parametrize("fields", [({"index": 0}, {"index": 0}), ({}, {}), ({"index": 0}, {"index": 1})])
async def test_each_call_of_json_is_one(fields: tuple[dict[str, Any], ...]) -> None:
    calls = [called("f", "{1}", id="a", **fields[0]), called("f", "{2}", id="b", **fields[1]), called("f", "{3}")]
    message = {"content": None, "tool_calls": calls}
    got = await ask(whole("200 OK", {"choices": [{"message": message, "finish_reason": "tool_calls"}]}))
    assert [call["arguments"] for call in got.completion.extra["tool_calls"]] == ["{1}", "{2}", "{3}"]


async def test_blocks_that_use_an_index_again() -> None:
    tools = [
        part
        for id_ in "ab"
        for part in (
            named("content_block_start", index=0, content_block={"type": "tool_use", "id": id_, "name": "f", "input": {}}),
            named("content_block_delta", index=0, delta={"type": "input_json_delta", "partial_json": f'"{id_}"'}),
            BLOCK_STOP,
        )
    ]
    text = (BLOCK_START, block_delta("Hel"), BLOCK_STOP, BLOCK_START, block_delta("lo"), BLOCK_STOP)
    got = await ask(stream(MESSAGE_START, *text, *tools, message_delta("tool_use"), MESSAGE_STOP), "anthropic")
    assert got.completion.text == "Hello"
    assert [(call["id"], call["arguments"]) for call in got.completion.extra["tool_calls"]] == [("a", '"a"'), ("b", '"b"')]


# -- errors

WORDS = "This model's maximum context length is 8192 tokens"
ERRORS: dict[str, tuple[bytes, str, str]] = {
    "a line of its own": (b'error: {"code": 500, "message": "%b"}\n\n' % WORDS.encode(), "context_length", "fail"),
    "a bare line": (b'{"error": {"code": 503, "message": "%b"}}\n\n' % WORDS.encode(), "server_error", "retry"),
    "a bare line, refused": (b'{"error":{"code":400,"message":"%b"}}\n' % WORDS.encode(), "context_length", "fail"),
    "an object": (sse({"object": "error", "message": WORDS, "code": 400}), "context_length", "fail"),
    "a type": (sse({"type": "error", "message": WORDS, "code": 400}), "context_length", "fail"),
    "a detail": (sse({"detail": WORDS}), "context_length", "fail"),
    "a list of details": (sse({"detail": [{"msg": WORDS, "type": "value_error"}]}), "context_length", "fail"),
    "code and message": (sse({"code": 429, "message": WORDS}), "rate_limited", "retry"),
}


@DIALECTS
@pytest.mark.parametrize("texts", [0, 1])
@pytest.mark.parametrize("end", [(), (LAST,)], ids=["silent", "ended"])
@pytest.mark.parametrize(("error", "code", "verdict"), ERRORS.values(), ids=ERRORS)
async def test_errors_in_a_stream_are_read(
    dialect: str, error: bytes, code: str, verdict: str, texts: int, end: tuple[Step, ...]
) -> None:
    begun = (delta("Hel"),) if dialect == "openai" else (MESSAGE_START, BLOCK_START, block_delta("Hel"))
    after = () if end else (HANG,)
    got = await ask(stream(*begun[: texts * 3], b": x\n\n", error, end=(*end, *after)), dialect)
    got.is_(ProviderError, code, verdict)
    assert "maximum context length" in str(got.failure)


@DIALECTS
@pytest.mark.parametrize("kind", ["text/event-stream", "application/json"])
@pytest.mark.parametrize(
    "body",
    [
        {"error": {"code": 400, "message": WORDS}},
        [{"error": {"code": 400, "message": WORDS}}],
        {"object": "error", "message": WORDS, "code": 400},
        {"code": 400, "message": WORDS},
    ],
)
async def test_errors_in_place_of_an_answer_are_read(dialect: str, kind: str, body: Any) -> None:
    text = json.dumps(body).encode()
    for sent in (text, text + b"\n\ndata: [DONE]\n\n") if isinstance(body, dict) and "error" in body else (text,):
        got = await ask(typed(kind, sent), dialect)
        got.is_(ProviderError, "context_length", "fail")
        assert "maximum context length" in str(got.failure)


async def test_a_bare_line_that_is_no_error_is_passed_over() -> None:
    got = await ask(stream(delta("Hel"), b'{"error": null}\n', b'{"x": 1}\n', delta("lo"), finish(), DONE))
    assert got.completion.text == "Hello"


@pytest.mark.parametrize("reason", [None, "error"])
async def test_an_error_in_the_choice_is_kept_and_tried_again(reason: str | None) -> None:
    error = chunk_of({"index": 0, "delta": {}, "error": {"code": 502, "message": "the worker died"}, "finish_reason": reason})
    got = await ask(stream(delta("Hel"), error, finish("error"), DONE))
    got.is_(ProviderError, "server_error", "retry")
    assert "the worker died" in str(got.failure)


# -- tokens


async def test_usage_on_the_wire() -> None:
    figures = {"prompt_tokens": 7, "completion_tokens": 10, "total_tokens": 707}
    zeros = sse({"choices": [], "usage": {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}})
    got = await ask(stream(delta("Hello"), finish(), sse({"choices": [], "usage": figures}), zeros, DONE))
    assert got.completion.usage == Usage(input_tokens=7, output_tokens=700, reasoning_tokens=690)
    body = {**OPENAI_JSON, "usage": figures}
    assert (await ask(whole("200 OK", body))).completion.usage == got.completion.usage
    groq = sse({"choices": [], "x_groq": {"usage": {"prompt_tokens": 7, "completion_tokens": 3}}})
    assert (await ask(stream(delta("Hello"), finish(), groq, DONE))).completion.usage == Usage(input_tokens=7, output_tokens=3)


async def test_usage_of_zeros_at_the_end_of_a_message() -> None:
    end = named("message_delta", delta={"stop_reason": "end_turn"}, usage={"input_tokens": 0, "output_tokens": 3})
    got = await ask(stream(MESSAGE_START, BLOCK_START, block_delta("Hello"), BLOCK_STOP, end, MESSAGE_STOP), "anthropic")
    assert got.completion.usage == Usage(input_tokens=7, output_tokens=3)
