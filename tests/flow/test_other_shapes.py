"""Errors of other shapes, streams without blank lines, and servers none of whose answers can count: over real sockets."""

import json
from typing import Any, TypeVar

import pytest
from asking import DIALECTS, PROGRAM_LOOP, ask
from raw_server import DONE, Reply, delta, events, finish, sse, stream, whole

from runner.errors import AttemptError, ProviderError, StreamError
from runner.model import HttpCall
from runner.providers.classify import Names
from runner.providers.reasonless import ENDED, MARKED, Reasonless
from runner.providers.refusal import from_status

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return PROGRAM_LOOP


E = TypeVar("E", bound=AttemptError)


async def refusal(kind: type[E], reply: Reply, dialect: str) -> E:
    error = (await ask(reply, dialect)).failure
    assert isinstance(error, kind)
    return error


ERRORS = [
    ({"error_code": 110, "error_msg": "Access token invalid or no longer valid"}, "auth", "Access token invalid"),
    ({"error_code": 18, "error_msg": "Open api qps request limit reached"}, "rate_limited", "qps"),
    ({"error_code": 336100, "error_msg": "try again later"}, "overloaded", "try again later"),
    ({"success": False, "message": "invalid api key"}, "auth", "invalid api key"),
    ({"success": False, "message": "token expired, please log in"}, "auth", "token expired"),
    ({"status": "error", "message": "invalid api key"}, "auth", "invalid api key"),
    ({"status": "failed", "msg": "Too many requests"}, "rate_limited", "Too many"),
    (
        {"Response": {"Error": {"Code": "AuthFailure.SecretIdNotFound", "Message": "no such id"}, "RequestId": "x"}},
        "auth",
        "AuthFailure.SecretIdNotFound",
    ),
    ({"Response": {"Error": {"Code": "RequestLimitExceeded", "Message": "slow"}}}, "rate_limited", "RequestLimitExceeded"),
    ({"Error": {"Code": "InternalError", "Message": "boom"}}, "server_error", "boom"),
    ({"error": "invalid_client", "error_description": "unknown client id"}, "auth", "unknown client id"),
    ({"errcode": 7, "errmsg": "the engine is gone"}, "server_error", "the engine is gone"),
    ({"header": {"code": 10013, "message": "the engine is gone"}}, "server_error", "the engine is gone"),
]


@DIALECTS
@pytest.mark.parametrize(("body", "code", "words"), ERRORS)
async def test_errors_of_other_shapes(dialect: str, body: dict[str, Any], code: str, words: str) -> None:
    said = json.dumps(body).encode()
    before = events(dialect, "Hel")[:2]
    bare = said + b"\n\n"
    for reply in (stream(sse(body)), whole("200 OK", said), stream(*before, sse(body)), stream(*before, bare)):
        error = await refusal(ProviderError, reply, dialect)
        assert (error.code, words in str(error)) == (code, True), str(error)
    if code != "server_error":
        error = from_status(400, {}, said, now=0.0, names=Names())
        assert (error.code, words in str(error)) == (code, True)


@pytest.mark.parametrize("body", [{"success": True, "message": "fine"}, {"status": "ok", "message": "m"}, {"error_code": 0}])
async def test_what_is_no_error_of_another_shape(body: dict[str, Any]) -> None:
    got = await ask(stream(sse(body), *events("openai", "Hello")), "openai")
    assert got.completion.text == "Hello"


@DIALECTS
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
async def test_events_without_blank_lines(dialect: str, end: bytes) -> None:
    packed = b"".join(event for event in events(dialect, "Hel", "lo")).replace(b"\n\n", b"\n")
    for data in (packed, packed.rstrip(b"\n")):
        for pieces in ((data,), (data[:40], data[40:])):
            got = await ask(stream(*(piece.replace(b"\n", end) for piece in pieces)), dialect)
            assert (got.completion.text, got.completion.notes) == ("Hello", ())


@DIALECTS
async def test_json_in_lines(dialect: str) -> None:
    lines = b"".join(
        line.removeprefix(b"data: ") + b"\n"
        for line in b"".join(events(dialect, "Hel", "lo")).split(b"\n")
        if line.startswith(b"data: {")
    )
    for data in (lines, lines.rstrip(), b": hello\n\n" + lines, lines + b"[DONE]\n"):
        got = await ask(stream(data), dialect)
        assert (got.completion.text, got.completion.notes) == ("Hello", ())
    # the last line is missing
    short = lines[: lines.index(b"lo")]
    error = await refusal(StreamError, stream(short), dialect)
    assert error.verdict == "retry"


@DIALECTS
async def test_the_end_of_a_stream_is_told(dialect: str) -> None:
    begun = events(dialect, "Hel")[:2] if dialect == "openai" else events(dialect, "Hel")[:3]
    page = b"<html><body>502 Bad Gateway</body></html>"
    for last in (page, page + b"\n\n", b"upstream went away\n\n", b"data: " + page + b"\n\n", b"data: " + page):
        error = await refusal(StreamError, stream(*begun[:-1], last), dialect)
        assert ("502 Bad Gateway" in str(error)) or "upstream went away" in str(error)
    error = await refusal(StreamError, stream(*begun[:-1], b'data: {"choices": [{"secret'), dialect)
    assert "last event is cut off" in str(error)
    assert "secret" not in str(error)


async def test_an_answer_of_the_other_dialect_says_so() -> None:
    for speaks, asked in (("anthropic", "openai"), ("openai", "anthropic")):
        body = {"choices": [{"message": {"content": "x"}, "finish_reason": "stop"}]}
        if speaks == "anthropic":
            body = {"type": "message", "content": [{"type": "text", "text": "x"}], "stop_reason": "end_turn"}  # type: ignore[dict-item]
        for reply in (stream(*events(speaks, "Hello")), whole("200 OK", json.dumps(body).encode())):
            error = await refusal(StreamError, reply, asked)
            assert f"use --provider {speaks}" in str(error)
            assert (error.verdict, error.speaks) == ("retry", speaks)


async def test_an_answer_without_a_reason_tells_how_it_ended() -> None:
    none = {"choices": [{"message": {"content": "x"}, "finish_reason": None}]}
    replies = ((stream(delta("x"), DONE), True), (whole("200 OK", json.dumps(none).encode()), True))
    for reply, marked in (*replies, (stream(delta("x")), False)):
        error = await refusal(StreamError, reply, "openai")
        assert (error.code, error.orderly, error.marked) == ("truncated", True, marked)
    assert (await ask(stream(delta("x"), finish()), "openai")).completion.text == "x"


async def test_content_as_a_string_is_a_whole_answer() -> None:
    body = {"type": "message", "content": "hello", "stop_reason": "end_turn"}
    assert (await ask(whole("200 OK", json.dumps(body).encode()), "anthropic")).completion.text == "hello"


def test_answers_that_can_never_count_stop_the_run() -> None:
    def verdicts(number: int, *, rows: bool = True, **more: Any) -> list[str]:
        seen, found = Reasonless(), []
        for row in range(number):
            error = StreamError("m", code="truncated", **more)
            seen.add(error, HttpCall(url="http://x", headers={}, body=b"%d" % (row * rows)).body)
            found.append(error.verdict)
        return found

    assert verdicts(MARKED, marked=True, orderly=True) == ["retry"] * (MARKED - 1) + ["stop"]
    assert verdicts(ENDED, orderly=True) == ["retry"] * (ENDED - 1) + ["stop"]
    assert verdicts(2, speaks="anthropic", rows=False) == ["retry", "stop"]
    # one row again and again is its own trouble; a cut connection shows nothing
    assert set(verdicts(50, marked=True, orderly=True, rows=False)) == {"retry"}
    assert set(verdicts(50)) == {"retry"}
