"""The Messages dialect: requests and answers."""

import json

import pytest

from runner.errors import ProviderError, StreamError
from runner.model import Completion, Params, Request, ServerSentEvent, Usage
from runner.providers.dialects import anthropic

USER = {"role": "user", "content": "hi"}


def sent(base_url=anthropic.DEFAULT_BASE_URL, key="k", **request):
    params = Params(**request.pop("params", {}))
    asked = Request(**{"model": "m", "messages": (USER,), "params": params, **request})
    call = anthropic.make(base_url, key, version="9").encode(asked)
    return call, json.loads(call.body)


@pytest.mark.parametrize("tail", ["", "/", "/v1", "/v1/", "//"])
def test_url(tail: str) -> None:
    assert sent("http://h:1/anthropic" + tail)[0].url == "http://h:1/anthropic/v1/messages"
    assert sent("http://h:1/anthropic" + tail + "?a=b")[0].url == "http://h:1/anthropic/v1/messages?a=b"


def test_headers() -> None:
    assert sent()[0].headers == {
        "content-type": "application/json",
        "accept": "text/event-stream",
        "accept-encoding": "identity",
        "user-agent": "prompt-runner/9",
        "anthropic-version": "2023-06-01",
        "x-api-key": "k",
    }
    assert "x-api-key" not in sent(key=None)[0].headers


def test_smallest_body() -> None:
    assert sent()[1] == {"model": "m", "max_tokens": 4096, "messages": [USER], "stream": True}


def test_all_parameters() -> None:
    params = {"max_tokens": 7, "temperature": 0.0, "top_p": 0.5, "stop": "a", "seed": 3}
    body = sent(params={**params, "extra_body": {"top_k": 5, "top_p": None}})[1]
    assert body == {
        "model": "m",
        "max_tokens": 7,
        "messages": [USER],
        "stop_sequences": ["a"],
        "temperature": 0.0,
        "stream": True,
        "top_k": 5,
    }
    assert sent(params={"stop": ["a", "b"]})[1]["stop_sequences"] == ["a", "b"]


def test_system_text() -> None:
    own = ({"role": "system", "content": "a"}, USER, {"role": "developer", "content": [{"type": "text", "text": "b"}]})
    assert sent(system="job")[1]["system"] == "job"
    body = sent(system="job", messages=own)[1]
    assert (body["system"], body["messages"]) == ("a\n\nb", [USER])
    assert "system" not in sent(messages=({"role": "system", "content": None}, USER), system="job")[1]


def decoder(*events, name="x"):
    made = anthropic.AnthropicDecoder()
    for event in events:
        data = event if isinstance(event, bytes) else json.dumps(event).encode()
        made.feed(ServerSentEvent(name, data))
    return made


def start(**message):
    return {"type": "message_start", "message": message}


def block(index=0, **content):
    return {"type": "content_block_start", "index": index, "content_block": {"type": "text", **content}}


def delta(index=0, kind="text_delta", **more):
    return {"type": "content_block_delta", "index": index, "delta": {"type": kind, **more}}


def end(reason="end_turn", **usage):
    return {"type": "message_delta", "delta": {"stop_reason": reason}, "usage": usage}


STOP = {"type": "message_stop"}


def test_the_state_while_the_answer_arrives() -> None:
    made = anthropic.AnthropicDecoder()
    seen = []
    for event in (start(id="i", model="m"), block(text=""), delta(text="äb"), end(), STOP, delta(text="more")):
        made.feed(ServerSentEvent("x", json.dumps(event).encode()))
        seen.append((made.started, made.complete, made.ended, made.text_chars))
    no = (False, False, False, 0)
    assert seen == [
        no,
        no,
        (True, False, False, 2),
        (True, True, False, 2),
        (True, True, True, 2),
        (True, True, True, 2),
    ]
    assert made.completion() == Completion(text="äb", finish_reason="end_turn", served_model="m", response_id="i")


def test_blocks_are_joined_by_index() -> None:
    made = decoder(start(), block(2), delta(2, text="c"), block(0, text="a"), block(10), delta(10, text="d"), delta(2, text="C"))
    assert made.completion().text == "acCd"


@pytest.mark.parametrize(
    "odd",
    [
        {"type": "ping"},
        {"type": "brand_new"},
        {"type": None},
        {"type": ["x"]},
        {},
        {"type": "content_block_stop", "index": 99},
        {"type": "content_block_delta", "index": 0, "delta": None},
        {"type": "content_block_delta", "index": 0},
        delta(kind="brand_new", text="no"),
        delta(kind="signature_delta", signature="no"),
        delta(kind="input_json_delta", partial_json="no"),
        delta(text=None),
        delta(text=3),
        {"type": "message_delta"},
        {"type": "message_delta", "delta": {"stop_reason": None}, "usage": None},
        {"type": "message_delta", "delta": {"stop_reason": 3}, "usage": {"output_tokens": "3"}},
    ],
)
def test_odd_events_change_nothing(odd) -> None:
    made = decoder(start(), block(), delta(text="a"), odd, delta(text="b"), odd)
    assert not made.complete
    made.feed(ServerSentEvent("message_delta", json.dumps(end()).encode()))
    assert made.completion() == Completion(text="ab", finish_reason="end_turn")


@pytest.mark.parametrize("data", [b'{"type": "ping"', b'{"type": pi', b"{"])
def test_a_ping_that_is_broken_is_a_broken_stream(data: bytes) -> None:
    with pytest.raises(StreamError) as caught:
        decoder().feed(ServerSentEvent("ping", data))
    assert caught.value.code == "malformed_stream"


def test_a_ping_may_be_empty_and_a_done_is_an_end() -> None:
    made = decoder(start(), block(), delta(text="a"), end())
    made.feed(ServerSentEvent("ping", b""))
    made.feed(ServerSentEvent("message", b"[DONE]"))
    assert made.ended
    assert made.completion().text == "a"


def test_the_event_s_name_stands_in_for_a_missing_type() -> None:
    made = anthropic.AnthropicDecoder()
    for event in (start(), block(), delta(text="a"), end(), STOP):
        nameless = {name: value for name, value in event.items() if name != "type"}
        made.feed(ServerSentEvent(event["type"], json.dumps(nameless).encode()))
    assert made.ended
    assert made.completion().text == "a"


def test_a_block_may_lack_index_and_kind() -> None:
    made = decoder(start(), {"type": "content_block_start"}, {"type": "content_block_delta", "delta": delta(text="a")["delta"]})
    assert made.completion().text == "a"


@pytest.mark.parametrize(
    ("events", "text"),
    [
        ([block()], "content_block_start before any message_start"),
        ([delta(text="a")], "content_block_delta before any message_start"),
        ([end()], "message_delta before any message_start"),
        ([STOP], "message_stop before any message_start"),
        ([start(), delta(text="a")], "block 0, which never started"),
        ([start(), block(), delta(1, text="a")], "block 1, which never started"),
        ([start(), start()], "a second message_start"),
        ([start(), block(), block()], "a second content_block_start for block 0"),
        ([start(), block("0")], "not a whole number"),
        ([start(), block(True)], "not a whole number"),
    ],
)
def test_wrong_grammar(events, text: str) -> None:
    with pytest.raises(StreamError, match=text) as caught:
        decoder(*events)
    assert (caught.value.code, caught.value.verdict) == ("malformed_stream", "retry")


def test_thinking_and_tools_are_kept_apart() -> None:
    made = decoder(
        start(),
        block(0, type="thinking", thinking="h"),
        delta(0, "thinking_delta", thinking="m"),
        block(1, type="redacted_thinking", data="zzz"),
        block(3, type="tool_use", id="b", name="g", input={}),
        block(2, type="server_tool_use", id="a", name="f", input={"x": 1}),
        delta(3, "input_json_delta", partial_json="{}"),
        block(4, type="web_search_tool_result", content=[{"text": "no"}]),
        delta(4, text="no"),
        end("tool_use"),
    )
    assert made.completion() == Completion(
        text="",
        finish_reason="tool_use",
        extra={
            "reasoning": "hm",
            "tool_calls": [
                {"id": "a", "name": "f", "arguments": '{"x":1}'},
                {"id": "b", "name": "g", "arguments": "{}"},
            ],
        },
    )


@pytest.mark.parametrize(
    ("first", "last", "usage"),
    [
        ({"input_tokens": 5, "output_tokens": 1}, {"output_tokens": 9}, Usage(input_tokens=5, output_tokens=9)),
        (
            {"input_tokens": 5, "cache_read_input_tokens": 3, "cache_creation_input_tokens": 2},
            {"output_tokens": 9},
            Usage(input_tokens=10, output_tokens=9, cached_tokens=3, cache_write_tokens=2),
        ),
        ({"input_tokens": 0}, {"input_tokens": 8, "output_tokens": 1.0}, Usage(input_tokens=8, output_tokens=1)),
        ({"input_tokens": 5}, {"input_tokens": None, "output_tokens": -3}, Usage(input_tokens=5)),
        ({"cache_read_input_tokens": 4}, {}, Usage(cached_tokens=4)),
        ({}, {"input_tokens": True, "output_tokens": "3"}, None),
        (None, {}, None),
        ([], {}, None),
    ],
)
def test_usage(first, last, usage) -> None:
    assert decoder(start(usage=first), end(**last), STOP).completion().usage == usage


def test_notes() -> None:
    assert decoder(start(), end()).completion().notes == ("empty",)
    bad = b'{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"\xff\\udfff"}}'
    made = decoder(start(), block(), bad, bad, end()).completion()
    assert (made.text, made.notes) == ("\ufffd\ufffd" * 2, ("invalid_utf8", "lone_surrogate"))


@pytest.mark.parametrize(
    ("type_", "status", "code", "verdict"),
    [
        ("overloaded_error", 529, "overloaded", "retry"),
        ("rate_limit_error", 429, "rate_limited", "retry"),
        ("api_error", 500, "server_error", "retry"),
        ("timeout_error", 504, "server_error", "retry"),
        ("invalid_request_error", 400, "bad_request", "fail"),
        ("request_too_large", 413, "too_large", "fail"),
        ("authentication_error", 401, "auth", "stop"),
        ("permission_error", 403, "auth", "stop"),
        ("billing_error", 402, "billing", "stop"),
        ("not_found_error", 404, "not_found", "stop"),
        ("brand_new_error", None, "server_error", "retry"),
        (None, None, "server_error", "retry"),
    ],
)
def test_errors_inside_the_stream(type_, status, code, verdict) -> None:
    error = {"type": "error", "error": {"type": type_, "message": "m"}}
    for before in ([], [start()], [start(), block(), delta(text="a"), end()]):
        with pytest.raises(ProviderError) as caught:
            decoder(*before, error)
        assert (caught.value.status, caught.value.code, caught.value.verdict) == (status, code, verdict)
        assert caught.value.throttled == (status == 429)
    with pytest.raises(ProviderError):
        decoder({"error": error["error"]}, name="error")
    with pytest.raises(ProviderError, match="an error inside the answer: boom"):
        decoder(b"boom", name="error")
    with pytest.raises(ProviderError):
        anthropic.AnthropicDecoder().whole(json.dumps(error).encode())


def test_whole() -> None:
    body = {
        "type": "message",
        "id": "i",
        "model": "m",
        "content": [
            {"type": "thinking", "thinking": "t"},
            {"type": "text", "text": "a"},
            {"type": "tool_use", "id": "u", "name": "f", "input": {"x": "ä"}},
            {"type": "text", "text": "b"},
            None,
        ],
        "stop_reason": "end_turn",
        "usage": {"input_tokens": 1, "output_tokens": 2},
    }
    made = anthropic.AnthropicDecoder()
    made.whole(json.dumps(body).encode())
    assert made.complete
    assert made.ended
    assert made.completion() == Completion(
        text="ab",
        finish_reason="end_turn",
        usage=Usage(input_tokens=1, output_tokens=2),
        served_model="m",
        response_id="i",
        extra={"reasoning": "t", "tool_calls": [{"id": "u", "name": "f", "arguments": '{"x":"ä"}'}]},
    )


@pytest.mark.parametrize(
    "written",
    [
        '{"a":1,"a":2}', '{"n":NaN,"m":-Infinity}', '{"n":1e400,"m":1.50,"k":12345678901234567890123}',
        '{"half":"\\ud83d","whole":"😀","deep":[{"x":"ä"},true,null]}',
    ],
)  # fmt: skip
def test_the_call_of_a_tool_is_kept_as_it_was_written(written: str) -> None:
    one = anthropic.make("http://x", None, version="1").decoder()
    content = f'[{{"type":"text","text":"so"}},{{"type":"tool_use","id":"u","name":"f","input":{written}}}]'
    one.whole(f'{{"type":"message","content":{content},"stop_reason":"tool_use"}}'.encode())
    assert one.completion().extra["tool_calls"][0]["arguments"] == written


def test_the_call_of_a_tool_may_be_sent_as_text() -> None:
    one = anthropic.make("http://x", None, version="1").decoder()
    content = [{"type": "tool_use", "id": "u", "name": "f", "input": '{"a":1}'}]
    one.whole(json.dumps({"type": "message", "content": content, "stop_reason": "tool_use"}).encode())
    assert one.completion().extra["tool_calls"][0]["arguments"] == '{"a":1}'


def test_spend_limits_stop() -> None:
    provider = anthropic.make("http://h", None, version="1")
    body = b'{"type":"error","error":{"type":"invalid_request_error","message":"Your credit balance is too low to go on"}}'
    assert provider.error(400, {}, body).code == "billing"
    assert provider.error(429, {}, body.replace(b"invalid_request", b"rate_limit")).verdict == "stop"
    plain = b'{"type":"error","error":{"type":"rate_limit_error","message":"slow down"}}'
    assert provider.error(429, {"retry-after": "2"}, plain).retry_after_s == 2.0
