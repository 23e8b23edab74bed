"""The Chat Completions dialect: requests and answers."""

import json

import pytest

from runner.errors import ProviderError, StreamError
from runner.model import Completion, Params, Request, ServerSentEvent, Usage
from runner.providers.dialects import openai

USER = {"role": "user", "content": "hi"}


def sent(base_url=openai.DEFAULT_BASE_URL, key="k", **request):
    params = Params(**request.pop("params", {}))
    asked = Request(**{"model": "m", "messages": (USER,), "params": params, **request})
    call = openai.make(base_url, key, version="9").encode(asked)
    return call, json.loads(call.body)


def test_url_and_headers() -> None:
    for base in ("http://h:1/v1", "http://h:1/v1/"):
        assert sent(base)[0].url == "http://h:1/v1/chat/completions"
    assert sent()[0].url == "https://api.openai.com/v1/chat/completions"
    assert sent()[0].headers == {
        "content-type": "application/json",
        "accept": "text/event-stream",
        "accept-encoding": "identity",
        "user-agent": "prompt-runner/9",
        "authorization": "Bearer k",
    }
    assert "authorization" not in sent(key=None)[0].headers


def test_smallest_body() -> None:
    assert sent()[1] == {
        "model": "m",
        "messages": [USER],
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def test_all_parameters() -> None:
    params = {"max_tokens": 7, "temperature": 0.0, "top_p": 0.5, "stop": ["a"], "seed": 0}
    body = sent("http://h/v1", params=params)[1]
    assert {name: body[name] for name in params} == params
    assert sent("http://h/v1", params={"stop": "x"})[1]["stop"] == "x"


@pytest.mark.parametrize(
    ("base_url", "name"),
    [
        ("https://api.openai.com/v1", "max_completion_tokens"),
        ("https://EU.api.openai.com/v1", "max_completion_tokens"),
        ("https://api.openai.com.evil.example/v1", "max_tokens"),
        ("http://localhost:8000/v1", "max_tokens"),
    ],
)
def test_name_of_max_tokens(base_url: str, name: str) -> None:
    body = sent(base_url, params={"max_tokens": 7})[1]
    assert body[name] == 7
    assert len({"max_tokens", "max_completion_tokens"} & set(body)) == 1


def test_system_text() -> None:
    job = {"role": "system", "content": "be brief"}
    assert sent(system="be brief")[1]["messages"] == [job, USER]
    for role in ("system", "developer"):
        own = {"role": role, "content": "be long"}
        assert sent(system="be brief", messages=(USER, own))[1]["messages"] == [USER, own]


def test_extra_body_wins_and_null_removes() -> None:
    extra = {"temperature": 1, "stream_options": None, "top_k": 5, "nested": {"a": None}}
    body = sent(params={"temperature": 0.5, "extra_body": extra})[1]
    assert body == {
        "model": "m",
        "messages": [USER],
        "temperature": 1,
        "stream": True,
        "top_k": 5,
        "nested": {"a": None},
    }


def test_lone_surrogates_of_the_input_go_out_as_escapes() -> None:
    assert b"\\ud800" in sent(messages=({"role": "user", "content": "\ud800"},))[0].body


def decoder(*chunks, event="message"):
    made = openai.OpenAIDecoder()
    for chunk in chunks:
        data = chunk if isinstance(chunk, bytes) else json.dumps(chunk).encode()
        made.feed(ServerSentEvent(event, data))
    return made


def choice(content=None, finish=None, index=0, **delta):
    if content is not None:
        delta["content"] = content
    return {"index": index, "delta": delta, "finish_reason": finish}


def chunk(*choices, **more):
    return {"choices": list(choices), **more}


def text_of(*chunks) -> str:
    return decoder(*chunks).completion().text


def test_the_state_while_the_answer_arrives() -> None:
    made = decoder(chunk(choice("", role="assistant")))
    assert (made.started, made.complete, made.ended, made.text_chars) == (False, False, False, 0)
    made.feed(ServerSentEvent("message", json.dumps(chunk(choice("äb"))).encode()))
    assert (made.started, made.complete, made.ended, made.text_chars) == (True, False, False, 2)
    made.feed(ServerSentEvent("message", json.dumps(chunk(choice(finish="stop"))).encode()))
    assert (made.complete, made.ended) == (True, False)
    made.feed(ServerSentEvent("message", b" [DONE] "))
    assert made.ended
    made.feed(ServerSentEvent("message", b"rubbish"))
    assert made.completion() == Completion(text="äb", finish_reason="stop")


@pytest.mark.parametrize(
    "odd",
    [
        {},
        {"choices": None},
        {"choices": []},
        {"choices": {}},
        {"choices": [None, 3]},
        {"choices": [{}]},
        chunk({"delta": None, "finish_reason": None}),
        chunk({"index": 0, "delta": [], "finish_reason": 3}),
        chunk({"index": 0, "delta": {"content": None, "role": None}, "finish_reason": ""}),
        chunk({"index": 0, "delta": {"content": 3, "tool_calls": None, "function_call": None}}),
        chunk({"index": 0, "delta": {"tool_calls": [None, 3], "audio": {"data": "x"}, "refusal": []}}),
        chunk(choice(content=[None, 3, {"type": "image", "text": "no"}, {"type": "text", "text": None}])),
        {"error": None, "usage": None, "id": 3, "model": None, "object": "weird", "new": {"field": 1}},
    ],
)
def test_odd_chunks_change_nothing(odd) -> None:
    made = decoder(odd, chunk(choice("a")), odd, chunk(choice("b", "stop")), odd, b"[DONE]")
    assert made.completion() == Completion(text="ab", finish_reason="stop")
    assert not decoder(odd).complete
    assert not decoder(odd).started


def test_only_choice_0_counts() -> None:
    assert text_of(chunk(choice("a"), choice("b", index=1)), chunk(choice("c", index=1), choice("d"))) == "ad"
    bare = [{"delta": {"content": "x"}}, {"delta": {"content": "y"}}]
    assert text_of(chunk(*bare)) == "x"
    assert text_of(chunk({"index": None, "delta": {"content": "x"}})) == "x"


def test_names_are_those_of_the_first_chunk_that_has_them() -> None:
    made = decoder({"id": "", "model": None}, {"id": "a", "model": "m"}, {"id": "b", "model": "n"})
    assert (made.completion().response_id, made.completion().served_model) == ("a", "m")


def test_content_as_parts() -> None:
    parts = ["a", {"type": "text", "text": "b"}, {"type": "refusal", "refusal": "no"}, {"text": "c"}]
    parts += [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}, {"type": "reasoning", "text": "m"}]
    made = decoder(chunk(choice(parts, "stop"))).completion()
    assert (made.text, made.extra) == ("abc", {"refusal": "no", "reasoning": "hmm"})


def test_reasoning_under_both_names_is_taken_once() -> None:
    made = decoder(chunk(choice("x", reasoning="a", reasoning_content="a")), chunk(choice(reasoning="b", finish="stop")))
    assert made.completion().extra == {"reasoning": "ab"}
    assert made.completion().text == "x"
    assert made.text_chars == 3


def test_tool_calls_grow_by_index() -> None:
    def piece(**call):
        return chunk(choice(tool_calls=[call]))

    made = decoder(
        piece(index=1, id="b", function={"name": "g", "arguments": ""}),
        piece(index=0, id="a", function={"name": "f", "arguments": "{"}),
        piece(index=1, function={"arguments": "[1]"}),
        piece(index=0, id="", function={"name": None, "arguments": "}"}),
        piece(index=0, function=None),
    )
    assert made.started
    assert made.completion().extra["tool_calls"] == [
        {"id": "b", "name": "g", "arguments": "[1]"},
        {"id": "a", "name": "f", "arguments": "{}"},
    ]


def test_tool_calls_without_index_and_the_old_function_call() -> None:
    calls = [{"id": i, "function": {"name": i, "arguments": {"x": i}}} for i in ("a", "b")]
    made = decoder(chunk(choice(tool_calls=calls)), chunk(choice(tool_calls=[{"function": {"arguments": "!"}}])))
    assert [c["arguments"] for c in made.completion().extra["tool_calls"]] == ['{"x":"a"}', '{"x":"b"}!']
    old = [{"name": "f", "arguments": "{"}, {"arguments": "}"}]
    made = decoder(*(chunk(choice(function_call=call)) for call in old), chunk(choice(finish="function_call")))
    assert made.completion().extra == {"tool_calls": [{"id": None, "name": "f", "arguments": "{}"}]}
    assert made.completion().notes == ()


FULL = {
    "prompt_tokens": 10,
    "completion_tokens": 5,
    "prompt_tokens_details": {"cached_tokens": 4},
    "completion_tokens_details": {"reasoning_tokens": 3},
}


@pytest.mark.parametrize(
    ("usage", "read"),
    [
        (FULL, Usage(input_tokens=10, output_tokens=5, cached_tokens=4, reasoning_tokens=3)),
        ({"prompt_tokens": 12.0}, Usage(input_tokens=12)),
        ({"prompt_tokens": 0, "completion_tokens": 0}, Usage(input_tokens=0, output_tokens=0)),
        ({"prompt_tokens": 7, "prompt_cache_hit_tokens": 6}, Usage(input_tokens=7, cached_tokens=6)),
        ({"prompt_tokens": -1, "completion_tokens": True}, None),
        ({"prompt_tokens": "3", "prompt_tokens_details": None, "completion_tokens_details": 3}, None),
        ({}, None),
        (None, None),
        (3, None),
        ([], None),
    ],
)
def test_usage(usage, read) -> None:
    assert decoder(chunk(choice("x", "stop")), {"choices": [], "usage": usage}).completion().usage == read
    assert decoder(chunk(choice("x", "stop"), usage=usage)).completion().usage == read
    assert decoder(chunk({**choice("x", "stop"), "usage": usage})).completion().usage == read


def test_the_last_usage_that_says_something_wins() -> None:
    chunks = [
        chunk(usage={"prompt_tokens": 1}),
        chunk(usage=FULL),
        chunk(usage=None),
        chunk(usage={"prompt_tokens": "x"}),
    ]
    assert decoder(*chunks).completion().usage.input_tokens == 10


@pytest.mark.parametrize("reason", ["length", "content_filter", "refusal", "pause_turn", "Brand New!"])
def test_finish_reasons_are_verbatim(reason: str) -> None:
    assert decoder(chunk(choice("x", reason))).completion().finish_reason == reason


def test_notes() -> None:
    assert decoder(chunk(choice(finish="stop"))).completion().notes == ("empty",)
    assert decoder(chunk(choice(finish="stop", reasoning="hm"))).completion().notes == ("empty",)
    assert decoder(chunk(choice(finish="stop", refusal="no"))).completion().notes == ()
    bad = b'{"choices":[{"delta":{"content":"\xff\\ud800"}}]}'
    made = decoder(bad, bad, chunk(choice(finish="stop"))).completion()
    assert (made.text, made.notes) == ("\ufffd\ufffd" * 2, ("invalid_utf8", "lone_surrogate"))


def test_controls_are_kept() -> None:
    every = "".join(map(chr, [*range(32), *range(127, 160), 0x2028, 0xFEFF]))
    assert text_of(chunk(choice(every))) == every


@pytest.mark.parametrize(
    ("error", "status", "code", "verdict"),
    [
        ({"message": "m", "type": "server_error", "code": None}, 500, "server_error", "retry"),
        ({"message": None, "type": "insufficient_quota"}, 429, "billing", "stop"),
        ({"message": {"a": 1}, "code": 429}, 429, "rate_limited", "retry"),
        (
            {"message": "m", "code": "context_length_exceeded", "type": "invalid_request_error"},
            400,
            "context_length",
            "fail",
        ),
        ({"message": "m", "code": 502}, 502, "server_error", "retry"),
        ("boom", None, "server_error", "retry"),
        (True, None, "server_error", "retry"),
    ],
)
def test_errors_inside_the_stream(error, status, code, verdict) -> None:
    for before in ([], [chunk(choice("partial"))], [chunk(choice("all", "stop"))]):
        with pytest.raises(ProviderError) as caught:
            decoder(*before, {"error": error})
        got = caught.value
        assert (got.status, got.code, got.verdict) == (status, code, verdict)
    with pytest.raises(ProviderError):
        openai.OpenAIDecoder().whole(json.dumps({"error": error, "choices": []}).encode())


def test_other_places_of_an_error() -> None:
    with pytest.raises(ProviderError, match="529 overloaded_error inside the answer: m"):
        decoder({"type": "overloaded_error", "message": "m"}, event="error")
    for data in (b"m", b'"m"', b'["m"]'):
        with pytest.raises(ProviderError, match="an error inside the answer: m"):
            decoder(data, event="error")
    with pytest.raises(ProviderError, match="502"):
        decoder(chunk({**choice(finish="error"), "error": {"code": 502, "message": "m"}}))


def test_the_key_is_not_quoted() -> None:
    provider = openai.make("http://h/v1", "own-secret-key", version="1")
    with pytest.raises(ProviderError) as caught:
        provider.decoder().feed(ServerSentEvent("message", b'{"error":"bad own-secret-key"}'))
    assert "own-secret" not in str(caught.value)
    assert "own-secret" not in str(provider.error(401, {}, b"bad own-secret-key"))


def test_whole() -> None:
    body = {
        "id": "i",
        "model": "m",
        "choices": [
            {"message": {"content": "a", "reasoning_content": "r", "tool_calls": []}, "finish_reason": "stop"},
            {"message": {"content": "b"}, "finish_reason": "length"},
        ],
        "usage": FULL,
    }
    made = openai.OpenAIDecoder()
    made.whole(json.dumps(body).encode())
    assert made.complete
    assert made.ended
    usage = Usage(input_tokens=10, output_tokens=5, cached_tokens=4, reasoning_tokens=3)
    assert made.completion() == Completion(
        text="a", finish_reason="stop", usage=usage, served_model="m", response_id="i", extra={"reasoning": "r"}
    )


def test_whole_without_a_reason_is_not_complete() -> None:
    made = openai.OpenAIDecoder()
    made.whole(b'{"choices":[{"message":{"content":"a"},"finish_reason":null}]}')
    assert not made.complete


@pytest.mark.parametrize("body", [b'{"choices":[{"words":"a","finish_reason":"stop"}]}', b'{"choices":{"0":1}}'])
def test_whole_that_is_not_a_completion(body: bytes) -> None:
    with pytest.raises(StreamError, match="JSON that is not a completion"):
        openai.OpenAIDecoder().whole(body)


def test_error_reads_retry_after_with_the_given_clock() -> None:
    provider = openai.make("http://h", None, version="1", clock=lambda: 1_445_412_480.0)
    got = provider.error(429, {"retry-after": "Wed, 21 Oct 2015 07:28:30 GMT"}, b"")
    assert got.retry_after_s == 30.0


def test_rate_codes_reach_the_judgement() -> None:
    body = b'{"error":{"code":"insufficient_quota"}}'
    plain = openai.make("http://h", None, version="1")
    lenient = openai.make("http://h", None, version="1", rate_codes=frozenset({"insufficient_quota"}))
    assert plain.error(429, {}, body).verdict == "stop"
    assert lenient.error(429, {}, body).throttled


@pytest.mark.parametrize(
    ("base_url", "name"),
    [
        ("https://api.openai.com/v1", "seed"),
        ("http://localhost:8000/v1", "seed"),
        ("https://api.mistral.ai/v1", "random_seed"),
        ("https://mistral.ai.example/v1", "seed"),
        ("https://generativelanguage.googleapis.com/v1beta/openai", None),
        ("https://api.anthropic.com/v1", None),
    ],
)
def test_name_of_the_seed(base_url: str, name: str | None) -> None:
    """A seed of the user is sent in any case; one that was made up only where it is known that there are any."""
    call, body = sent(base_url, made_seed=7)
    assert {one: body[one] for one in ("seed", "random_seed") if one in body} == ({} if name is None else {name: 7})
    assert call.made_seed == (None if name is None else 7)
    call, body = sent(base_url, made_seed=7, params={"seed": 5})
    assert (body[name or "seed"], call.made_seed) == (5, None)


@pytest.mark.parametrize("own", [{"seed": 3}, {"random_seed": 3}, {"seed": None}])
def test_a_seed_in_the_body_of_the_user_leaves_no_place_for_another(own: dict[str, int | None]) -> None:
    call, body = sent(made_seed=7, params={"extra_body": own})
    assert (body.get("seed"), call.made_seed) == (own.get("seed"), None)
