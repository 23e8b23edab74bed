"""Heartbeats and errors between the chunks of a dialect; what a body is by its first bytes."""

from typing import Any

import pytest

from runner.model import ServerSentEvent
from runner.providers.http.response import Shape, head_of, shape_of
from runner.providers.shapes import is_error, is_heartbeat


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("message", b""),
        ("message", b"  "),
        ("message", b"ping"),
        ("message", b"[PING]"),
        ("message", b'"ping"'),
        ("message", b"pong"),
        ("message", b": keep-alive"),
        ("message", b"keepalive"),
        ("message", b"HEARTBEAT"),
        ("message", b": OPENROUTER PROCESSING"),
        ("message", b"ping - 2026-11-29 12:00:00"),
        ("ping", b""),
        ("ping", b"ping"),
        ("ping", b"2026-11-29T12:00:00Z"),
        ("heartbeat", b"17"),
        ("keep-alive", b"null"),
    ],
)
def test_heartbeats(name: str, data: bytes) -> None:
    assert is_heartbeat(ServerSentEvent(name, data))


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("message", b"{"),
        ("message", b"null"),
        ("message", b"[]"),
        ("message", b"17"),
        ("message", b"oops"),
        ("message", b"[DONE"),
        ("message", b"pingu"),
        ("message", b'{"choices": [{"delta": {"content": "ping'),
        ("message", b'ping"}}]}'),
        ("ping", b'{"choices": ['),
        ("ping", b"x" * 100),
    ],
)
def test_what_is_no_heartbeat_is_not_skipped(name: str, data: bytes) -> None:
    assert not is_heartbeat(ServerSentEvent(name, data))


@pytest.mark.parametrize(
    "value",
    [
        {"error": "x"},
        {"error": {"code": 500}},
        {"error": {"code": 500}, "choices": [{"delta": {}}]},
        {"object": "error", "message": "m", "code": 400},
        {"type": "error", "message": "m"},
        {"detail": "Not Found"},
        {"detail": [{"msg": "m", "type": "missing"}]},
        {"errors": [{"message": "m"}]},
        {"code": "InvalidApiKey", "message": "m"},
        {"code": 1301, "message": "m"},
        {"choices": None, "base_resp": {"status_code": 1008, "status_msg": "insufficient balance"}},
    ],
)
def test_errors_of_every_shape(value: dict[str, Any]) -> None:
    assert is_error(value)


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"error": None, "choices": []},
        {"error": None, "code": None, "message": "x"},
        {"choices": [{"delta": {}}], "detail": "x", "code": 7, "message": "m"},
        {"type": "message_start", "message": {"id": "m"}},
        {"type": "message", "content": [{"type": "text"}]},
        {"object": "chat.completion.chunk", "choices": [], "usage": {}},
        {"code": 0, "message": "ok"},
        {"code": "200", "message": "fine"},
        {"choices": [], "base_resp": {"status_code": 0, "status_msg": ""}},
        {"id": "x", "detail": None, "errors": []},
    ],
)
def test_what_is_no_error(value: dict[str, Any]) -> None:
    assert not is_error(value)


SSE, JSON, OTHER = Shape.EVENTS, Shape.JSON, Shape.OTHER


@pytest.mark.parametrize(
    ("kind", "begun", "shape"),
    [
        ("application/json", b"data: {}\n\n", SSE),
        ("text/plain", b"data: {}\n\n", SSE),
        ("", b"data: {}\n\n", SSE),
        ("text/html", b"event: x\ndata: {}\n\n", SSE),
        ("", b": ping\n\n", SSE),
        ("", b"\n\n: ping\n\n", SSE),
        ("", b"data\n", SSE),
        ("", b"\xef\xbb\xbfdata:", SSE),
        ("", b"error: {}\n", SSE),
        ("text/event-stream", b"anything", SSE),
        ("text/event-stream", b' \n{"id": 1}', JSON),
        ("text/html", b'{"id": 1}', JSON),
        ("", b"[{}]", JSON),
        ("application/json", b"null", JSON),
        ("application/problem+json", b"17", JSON),
        ("text/event-stream", b"<html>", OTHER),
        ("application/json", b" \n<html>", OTHER),
        ("text/plain", b"upstream connect error: x", OTHER),
        ("text/plain", b"data center on fire", OTHER),
        ("", b"datax", OTHER),
        ("", b"\x1f\x8b", OTHER),
        # more bytes are needed
        ("", b"", None),
        ("", b" \r\n", None),
        ("", b"\xef", None),
        ("", b"\xef\xbb\xbf", None),
        ("", b"\xef\xbb\xbf\n", None),
        ("", b"da", None),
        ("text/plain", b"data", None),
        ("", b"retr", None),
    ],
)
def test_the_first_bytes_tell_what_a_body_is(kind: str, begun: bytes, shape: Shape | None) -> None:
    assert shape_of(kind, begun) is shape


@pytest.mark.parametrize(
    ("headers", "framed"),
    [([], False), ([(b"Content-Length", b"5")], True), ([(b"Transfer-Encoding", b"chunked")], True), ([(b"Date", b"x")], False)],
)
def test_whether_the_end_of_a_body_can_be_told_from_a_break(headers: list[tuple[bytes, bytes]], framed: bool) -> None:
    assert head_of(headers).framed is framed
