"""Every recording decodes to its completion, however it is cut into chunks; none is complete before its finish reason."""

from contextlib import suppress
from pathlib import Path

import pytest
from decoding import fed

from runner.errors import AttemptError, StreamError
from runner.interfaces import Decoder
from runner.model import Completion, HttpCall, Params, Request, Usage
from runner.providers.dialects import anthropic, openai
from runner.providers.sse import SSEDecoder

RECORDINGS = Path(__file__).parent.parent / "recordings"
DIALECTS = {
    "openai": openai.make(openai.DEFAULT_BASE_URL, "sk-test-key", version="1"),
    "anthropic": anthropic.make(anthropic.DEFAULT_BASE_URL, "sk-test-key", version="1"),
}
O_ID, A_ID = "chatcmpl-AbC123", "msg_01XFDUDYJgAACzvnptvVoYEL"
GPT, CLAUDE = "gpt-4o-mini-2024-07-18", "claude-sonnet-4-5-20250929"
O_USAGE = Usage(input_tokens=14, output_tokens=5, cached_tokens=0, reasoning_tokens=0)


def o(text, finish="stop", usage=O_USAGE, model=GPT, **more):
    return Completion(text=text, finish_reason=finish, usage=usage, served_model=model, response_id=O_ID, **more)


def a(text, finish="end_turn", input_tokens=25, output_tokens=15, cached_tokens=0, cache_write_tokens=0, **more):
    usage = Usage(
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        cached_tokens=cached_tokens,
        cache_write_tokens=cache_write_tokens,
    )
    return Completion(
        text=text, finish_reason=finish, usage=usage, served_model=CLAUDE, tier="standard", response_id=A_ID, **more
    )


def call(id_, name, arguments):
    return {"id": id_, "name": name, "arguments": arguments}


WEATHER = '{"city":"Zürich"}'
EXPECTED = {
    "openai/plain": o("Hello there!"),
    "openai/no_usage_no_done": o("Paris", usage=None),
    "openai/reasoning": o(
        "4",
        usage=Usage(input_tokens=20, output_tokens=9, cached_tokens=16, reasoning_tokens=7),
        model="deepseek-reasoner",
        extra={"reasoning": "Two and two."},
    ),
    "openai/tool_call": o(
        "",
        "tool_calls",
        extra={"tool_calls": [call("call_9aB", "get_weather", WEATHER), call("call_9aC", "get_time", "{}")]},
    ),
    "openai/usage_in_last_choice": o("Yes.", "length", model="Qwen/Qwen2.5-7B-Instruct"),
    "openai/refusal": o("", extra={"refusal": "I'm sorry, I can't help with that."}),
    "openai/non_ascii_crlf_pings": o("Grüße, 日本語 👩\u200d🚀\u2028\u0085 — ok\\n\n"),
    "openai/content_filter_empty": o("", "content_filter", usage=None, notes=("empty",)),
    "anthropic/plain": a("Hello!"),
    "anthropic/thinking_and_blocks": a(
        "First. Second.",
        input_tokens=133,
        output_tokens=40,
        cached_tokens=100,
        cache_write_tokens=7,
        extra={
            "reasoning": "Let me see.",
            "citations": [{"type": "char_location", "cited_text": "x", "start_index": 6, "end_index": 14}],
        },
    ),
    "anthropic/tool_use": a(
        "I will look.",
        "tool_use",
        output_tokens=30,
        extra={"tool_calls": [call("toolu_01T1x", "get_weather", '{"city": "Zürich"}')]},
    ),
    "anthropic/mixed_order_crlf": a("Grüße, welt 🌍!\u2028", "max_tokens", output_tokens=12),
    "anthropic/unknown_things": a("Only this.", "pause_turn", output_tokens=3),
    "anthropic/refusal": a("", "refusal", output_tokens=2, notes=("empty",)),
}
every_recording = pytest.mark.parametrize("name", sorted(EXPECTED))


def recorded(name: str) -> bytes:
    return (RECORDINGS / f"{name}.sse").read_bytes()


def decoder_for(name: str) -> Decoder:
    return DIALECTS[name.partition("/")[0]].decoder()


def decoded(name: str, *chunks: bytes) -> Completion:
    return fed(decoder_for(name), chunks).completion()


def test_every_recording_is_expected() -> None:
    assert sorted(EXPECTED) == sorted(
        path.relative_to(RECORDINGS).with_suffix("").as_posix()
        for dialect in DIALECTS
        for path in (RECORDINGS / dialect).glob("*.sse")
    )


@every_recording
def test_whole(name: str) -> None:
    decoder = fed(decoder_for(name), [recorded(name)])
    assert decoder.complete
    assert decoder.ended == (name != "openai/no_usage_no_done")
    assert decoder.completion() == EXPECTED[name]
    assert decoder.completion() == EXPECTED[name]
    assert decoder.started == bool(EXPECTED[name].text or EXPECTED[name].extra)


@every_recording
def test_cut_at_every_byte(name: str) -> None:
    body = recorded(name)
    for cut in range(len(body) + 1):
        assert decoded(name, body[:cut], body[cut:]) == EXPECTED[name], cut


@every_recording
def test_byte_by_byte(name: str) -> None:
    body = recorded(name)
    assert decoded(name, *(body[i : i + 1] for i in range(len(body)))) == EXPECTED[name]


@every_recording
def test_other_line_ends(name: str) -> None:
    plain = recorded(name).replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    for end in (b"\n", b"\r\n", b"\r"):
        assert decoded(name, plain.replace(b"\n", end)) == EXPECTED[name]


@every_recording
def test_truncated_before_the_finish_reason_is_never_complete(name: str) -> None:
    body = recorded(name)
    finish = f'"{EXPECTED[name].finish_reason}"'.encode()
    reason = b'_reason":' + finish
    end = body.index(reason) + len(reason)
    for cut in range(end + 1):
        decoder = decoder_for(name)
        with suppress(StreamError):
            fed(decoder, [body[:cut]])
        assert not decoder.complete, cut


@every_recording
def test_anything_after_the_end_is_ignored(name: str) -> None:
    body = recorded(name)
    if name != "openai/no_usage_no_done":
        assert decoded(name, body + b"data: not json\n\n" + body) == EXPECTED[name]


@pytest.mark.parametrize("dialect", sorted(DIALECTS))
@pytest.mark.parametrize("data", [b"null", b"3", b"[]", b'"x"', b"{", b"[" * 100_000, b'{"a":' * 900])
def test_data_that_is_no_object(dialect: str, data: bytes) -> None:
    sse = SSEDecoder()
    (event,) = sse.feed(b"data: " + data + b"\n\n")
    for take in (lambda: DIALECTS[dialect].decoder().feed(event), lambda: DIALECTS[dialect].decoder().whole(data)):
        with pytest.raises(StreamError) as caught:
            take()
        assert (caught.value.code, caught.value.verdict) == ("malformed_stream", "retry")


@pytest.mark.parametrize("dialect", sorted(DIALECTS))
@pytest.mark.parametrize("body", [b"{}", b"[]", b'{"choices":[]}', b'{"choices":[null]}', b'{"content":"x"}', b"<html>"])
def test_json_that_is_no_completion(dialect: str, body: bytes) -> None:
    with pytest.raises(StreamError) as caught:
        DIALECTS[dialect].decoder().whole(body)
    assert caught.value.code == "malformed_stream"


@pytest.mark.parametrize("dialect", sorted(DIALECTS))
def test_a_call_shows_no_key_and_shares_its_headers(dialect: str) -> None:
    request = Request(model="m", messages=({"role": "user", "content": "hi"},), params=Params())
    first, second = DIALECTS[dialect].encode(request), DIALECTS[dialect].encode(request)
    assert isinstance(first, HttpCall)
    assert first.headers is second.headers
    assert "sk-test-key" not in repr(first)
    assert "sk-test-key" in "".join(first.headers.values())
    assert first.headers["accept"] == "text/event-stream"
    assert first.headers["accept-encoding"] == "identity"
    assert first.headers["user-agent"] == "prompt-runner/1"


@pytest.mark.parametrize("dialect", sorted(DIALECTS))
@pytest.mark.parametrize(
    ("status", "code", "verdict"),
    [
        (401, "auth", "stop"),
        (402, "billing", "stop"),
        (404, "not_found", "stop"),
        (308, "redirect", "stop"),
        (429, "rate_limited", "retry"),
        (529, "overloaded", "retry"),
        (503, "server_error", "retry"),
        (413, "too_large", "fail"),
        (400, "bad_request", "fail"),
        (204, "truncated", "retry"),
    ],
)
@pytest.mark.parametrize(
    "body", [b"", b"\xff\xfe", b"<html><title>Oops</title>", b"null", b"[]", b'{"error":null}', b"x" * 10_000_000]
)
def test_status_alone_decides_when_the_body_says_nothing(dialect, status, code, verdict, body) -> None:
    error = DIALECTS[dialect].error(status, {}, body)
    assert isinstance(error, AttemptError)
    assert (error.status, error.code, error.verdict) == (status, code, verdict)
    assert str(error).startswith(str(status))
    assert len(str(error)) < 400
    assert str(error).isprintable()
