"""Error bodies of every shape, and what is quoted from them."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.errors import ProviderError
from runner.providers.refusal import Names, Refusal, from_status, from_stream, of, quote, read
from runner.providers.shapes import is_error
from runner.text import Redactor

KEY = "my-own-key-0123456789"


def error(status: int, body: bytes, headers: dict[str, str] | None = None) -> ProviderError:
    return from_status(status, headers or {}, body, now=0.0, names=Names(key=KEY))


@pytest.mark.parametrize(
    ("body", "refusal"),
    [
        (
            {"error": {"message": "m", "type": "t", "code": "c", "param": None}},
            Refusal(type="t", code="c", message="m"),
        ),
        ({"type": "error", "error": {"type": "t", "message": "m"}, "request_id": "r"}, Refusal(type="t", message="m")),
        ({"error": "m"}, Refusal(message="m")),
        ({"error": {"message": None, "type": "t"}}, Refusal(type="t")),
        ({"error": {"message": {"a": 1}}}, Refusal(message='{"a":1}')),
        ({"error": {"message": 3, "code": 429}}, Refusal(message="3", code="429")),
        ({"error": None, "message": "m"}, Refusal(message="m")),
        ({"error": "Not Found", "message": "m", "statusCode": 404}, Refusal(message="m")),
        (
            {"object": "error", "message": "m", "type": "BadRequestError", "code": 400},
            Refusal(type="BadRequestError", code="400", message="m"),
        ),
        ({"detail": "m"}, Refusal(message="m")),
        ({"detail": [{"loc": ["body"], "msg": "m", "type": "missing"}]}, Refusal(type="missing", message="m")),
        ({"detail": {"error": {"message": "m"}}}, Refusal(message="m")),
        ({"errors": [{"message": "m"}]}, Refusal(message="m")),
        (
            [{"error": {"code": 400, "message": "m", "status": "INVALID"}}],
            Refusal(type="INVALID", code="400", message="m"),
        ),
        (
            {"error": {"message": "m", "details": [{"reason": "R"}, 3, {"@type": "quota"}]}},
            Refusal(message="m", details=("R",)),
        ),
        ({"error": {"message": "m", "details": {"error_code": "E", "x": 1}}}, Refusal(message="m", details=("E",))),
        ({"error": {"type": [], "code": True, "details": "x"}}, Refusal()),
        ("m", Refusal(message="m")),
        ([], Refusal()),
        (None, Refusal()),
        (3, Refusal()),
        ({}, Refusal()),
    ],
)
def test_of(body: object, refusal: Refusal) -> None:
    assert of(body) == refusal
    assert read(json.dumps(body).encode()) == refusal


def test_bodies_that_are_no_json() -> None:
    assert read(b"") == Refusal()
    assert read(b"Service Unavailable") == Refusal(message="Service Unavailable")
    assert read(b"\xff busy").message == "\ufffd busy"
    assert read(b" <!doctype html><html><title> 502 Bad Gateway </title>").message == "an HTML page, '502 Bad Gateway'"
    assert read(b"<html>") == Refusal(message="an HTML page")
    assert read(b"<title" * 100_000) == Refusal(message="an HTML page")
    assert len(read(b'{"error": "' + b"x" * 10_000_000 + b'"}').message) <= 4096


def test_bodies_that_dig_deep() -> None:
    for piece in (b'{"error":', b"["):
        assert read(piece * 100_000).type is None
    deep: object = "m"
    for _ in range(900):
        deep = {"error": deep}
    assert of(deep) == Refusal()


@pytest.mark.parametrize(
    ("status", "body", "text"),
    [
        (
            429,
            {"error": {"message": "Rate limit reached for x", "type": "tokens", "code": "rate_limit_exceeded"}},
            "429 rate_limit_exceeded: Rate limit reached for x",
        ),
        (529, {"error": {"type": "overloaded_error", "message": "Overloaded"}}, "529 overloaded_error: Overloaded"),
        (400, {"message": "m", "type": "BadRequestError", "code": 400}, "400 BadRequestError: m"),
        (500, {}, "500: Internal Server Error"),
        (529, {}, "529"),
        (403, {"error": {"type": "t"}}, "403 t"),
        (404, {"detail": "Not Found"}, "404: Not Found"),
    ],
)
def test_the_sentence(status: int, body: object, text: str) -> None:
    assert str(error(status, json.dumps(body).encode())) == text


def test_the_error_in_full() -> None:
    body = b'{"error":{"message":"m","type":"tokens","code":"rate_limit_exceeded"}}'
    got = error(429, body, {"retry-after": "3"})
    assert (got.code, got.verdict, got.throttled, got.status) == ("rate_limited", "retry", True, 429)
    assert (got.provider_code, got.retry_after_s, got.sent) == ("rate_limit_exceeded", 3.0, True)


def test_a_redirect_names_its_target_without_secrets() -> None:
    got = error(307, b"<html>", {"location": "https://user:pass@evil.example/v1?key=abc"})
    assert str(got) == "307: the endpoint redirects to https://evil.example/v1, and redirects are not followed"
    assert "nowhere" in str(error(302, b""))


def test_errors_inside_an_answer() -> None:
    got = from_stream({"error": {"type": "overloaded_error", "message": "Overloaded"}}, names=Names())
    assert (str(got), got.status) == ("529 overloaded_error inside the answer: Overloaded", 529)
    got = from_stream({"error": "boom"}, names=Names())
    assert (str(got), got.status, got.code, got.verdict) == (
        "an error inside the answer: boom",
        None,
        "server_error",
        "retry",
    )
    assert str(from_stream({}, names=Names())) == "an error inside the answer"


def test_no_key_is_ever_quoted() -> None:
    for said in (KEY, "sk-abc123DEF456", "sk-ant-api03-xyz_789", "sk-proj-ab**********yz", "Bearer abc.def.ghi"):
        body = json.dumps({"error": {"message": f"Incorrect key provided: {said}.", "code": f"x {said}"}}).encode()
        got = error(401, body)
        for secret in (said, said.removeprefix("Bearer ")):
            assert secret not in str(got)
            assert secret not in (got.provider_code or "")
        assert KEY not in repr(Names(key=KEY))
    assert quote("task-management, sk-ill", Redactor()) == "task-management, sk-ill"
    assert quote("x marks the spot", Redactor(["x"])) == "x marks the spot"


def test_no_key_survives_the_cut() -> None:
    for lead in range(250, 310):
        assert "sk-" not in quote("a" * lead + " sk-abcdefghijklmnop", Redactor())
        assert KEY[:6] not in quote("a" * lead + " " + KEY, Redactor([KEY]))


def test_quotes_are_one_short_line() -> None:
    assert quote(" a\r\n\tb\x1b[31m\x00\u202ec\ud800 ", Redactor()) == "a b [31m c"
    assert quote("x" * 301, Redactor()) == "x" * 299 + "…"
    assert quote("x" * 300, Redactor()) == "x" * 300


@given(st.integers(100, 599), st.binary(max_size=80), st.dictionaries(st.just("retry-after"), st.text(max_size=5)))
def test_no_answer_ever_raises(status: int, body: bytes, headers: dict[str, str]) -> None:
    got = error(status, body, headers)
    assert len(str(got)) < 400
    assert "\n" not in str(got)


@pytest.mark.parametrize(
    ("body", "wait_s"),
    [
        ({"error": {"details": [{"@type": "x.QuotaFailure"}, {"@type": "x.RetryInfo", "retryDelay": "8.9s"}]}}, 8.9),
        ([{"error": {"details": [{"retryDelay": {"seconds": 3}}]}}], 3.0),
        ({"error": {"message": "busy", "retry_after": 4}}, 4.0),
        ({"error": {"message": "busy"}, "retry_after_ms": 1500}, 1.5),
        ({"error": {"message": "busy", "metadata": {"headers": {"Retry-After": "7"}}}}, 7.0),
        ({"error": {"message": "Rate limit reached. Please try again in 6m0s. Visit"}}, 360.0),
        ({"error": {"message": "Please retry in 12.5s."}}, 12.5),
        ({"error": {"message": "Please try again in 450ms."}}, 0.45),
        ({"error": {"message": "Please retry after 6 seconds."}}, 6.0),
        ({"error": {"message": "try again in 2 minutes"}}, 120.0),
        ({"error": {"message": "You may retry 3 times"}}, None),
        ({"error": {"message": "busy", "retry_after": -1}}, None),
        ({"error": {"message": "busy", "retry_after": "soon"}}, None),
        ({"error": {"message": "busy", "retry_after": 1e300}}, None),
    ],
)
def test_a_wait_that_the_body_alone_tells(body: object, wait_s: float | None) -> None:
    for status in (429, 503):
        assert error(status, json.dumps(body).encode()).retry_after_s == pytest.approx(wait_s)
    assert from_stream(body, names=Names()).retry_after_s == pytest.approx(wait_s)
    # the header is more exact
    assert error(429, json.dumps(body).encode(), {"retry-after": "2"}).retry_after_s == 2.0


def test_a_refusal_in_the_state_of_another_envelope() -> None:
    got = from_stream({"choices": None, "base_resp": {"status_code": 1008, "status_msg": "insufficient balance"}}, names=Names())
    assert (got.code, str(got)) == ("billing", "insufficient_balance inside the answer: insufficient balance (1008)")
    got = from_stream({"base_resp": {"status_code": 1004, "status_msg": "login fail"}}, names=Names())
    assert (got.code, got.verdict) == ("auth", "stop")
    got = from_stream({"base_resp": {"status_code": 1002, "status_msg": "rate limit"}}, names=Names())
    assert (got.code, got.throttled) == ("rate_limited", True)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ({"error": "boom"}, True),
        ({"error": None, "choices": [{}]}, False),
        ({"base_resp": {"status_code": 1008}, "choices": None}, True),
        ({"base_resp": {"status_code": 0, "status_msg": "success"}, "choices": [{}]}, False),
        ({"object": "error", "message": "m", "code": 400}, True),
        ({"type": "error", "message": "m"}, True),
        ({"detail": "Not Found"}, True),
        ({"code": 500, "msg": "busy"}, True),
        ({"choices": [], "usage": {}}, False),
        ({"id": "c", "object": "chat.completion.chunk", "choices": [{"delta": {}}], "code": 500, "message": "m"}, False),
        ({"code": 200, "message": "ok"}, False),
        ({}, False),
    ],
)
def test_a_refusal_in_a_good_status(answer: dict[str, object], expected: bool) -> None:
    assert is_error(answer) is expected
