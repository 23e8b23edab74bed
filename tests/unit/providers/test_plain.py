"""The short way to read a whole answer gives exactly what the decoder gives, or nothing."""

import json
from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

import pytest

from runner.errors import AttemptError
from runner.model import Completion
from runner.providers import plain
from runner.providers.chat_completions import OpenAIDecoder
from runner.providers.messages import AnthropicDecoder

CHAT: dict[str, Any] = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "m-1",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Yes."}, "logprobs": None, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 20, "completion_tokens": 8, "total_tokens": 28},
}
MESSAGE: dict[str, Any] = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "m-1",
    "content": [{"type": "text", "text": "Yes."}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {"input_tokens": 20, "output_tokens": 8, "service_tier": "batch"},
}
# what may stand in the place of any value of an answer
ODD: tuple[Any, ...] = (
    None, "", "auto", "default", 0, 1, 7, 3.0, -1, 2**63, 2**64, True, [], {}, [{}], "x\ud800y", "é", "a" * 5000,
    [{"type": "text", "text": "more"}], {"type": "text", "text": "more"}, {"message": "bad", "code": "x"}, {"cached_tokens": 5},
    {"reasoning_tokens": 3}, {"ephemeral_1h_input_tokens": 4, "ephemeral_5m_input_tokens": 1}, ["é", {"url": "u"}],
)  # fmt: skip
# names that the decoders look at, and some that they do not
NAMES = (
    "error", "Error", "detail", "errors", "message", "code", "status", "success", "object", "type", "index", "content", "text",
    "reasoning", "reasoning_content", "refusal", "tool_calls", "function_call", "annotations", "citations", "logprobs",
    "finish_reason", "usage", "service_tier", "x_groq", "choices", "delta", "input", "input_tokens", "output_tokens",
    "cached_tokens", "prompt_cache_hit_tokens", "cache_read_input_tokens", "cache_write_tokens", "cache_creation_tokens",
    "cache_creation_input_tokens", "cache_creation", "cache_creation_token_details", "reasoning_tokens", "thinking_tokens",
    "prompt_tokens_details", "completion_tokens_details", "input_tokens_details", "output_tokens_details", "total_tokens",
    "ephemeral_1h_input_tokens", "ephemeral_5m_input_tokens", "Response", "response", "header", "base_resp", "error_code",
    "id", "model",
)  # fmt: skip


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where the parts of a value are."""
    yield path
    for name, part in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from places(part, (*path, name))


def changed(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    if not path:
        return new
    copied = dict(value) if isinstance(value, dict) else list(value)
    copied[path[0]] = changed(
        value[path[0]] if path[0] in (copied if isinstance(copied, dict) else range(len(copied))) else {}, path[1:], new
    )
    return copied


def shapes(answer: dict[str, Any]) -> Iterator[Any]:
    """The answer, with each part of it replaced, and with each name added to each of its objects."""
    yield answer
    for path in places(answer):
        yield from (changed(answer, path, odd) for odd in ODD)
        here = answer
        for name in path:
            here = here[name]
        if isinstance(here, dict):
            for name, odd in product(NAMES, ODD):
                yield changed(answer, (*path, name), odd)
        if isinstance(here, list):
            yield changed(answer, path, [*here, *here])


def full(decoder: Any, body: bytes) -> Completion | None:
    try:
        decoder.whole(body)
    except AttemptError:
        return None
    # the client takes no other answer
    return decoder.completion() if decoder.complete else None


def with_usage(answer: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {**answer, "usage": {**answer["usage"], **more}}


@pytest.mark.parametrize(
    ("answer", "short", "decoder"),
    [
        (CHAT, plain.chat, OpenAIDecoder),
        (with_usage(CHAT, prompt_tokens_details={"cached_tokens": 4, "audio_tokens": 0}), plain.chat, OpenAIDecoder),
        (with_usage(CHAT, completion_tokens_details={"reasoning_tokens": 2}), plain.chat, OpenAIDecoder),
        (MESSAGE, plain.message, AnthropicDecoder),
        (with_usage(MESSAGE, cache_creation={"ephemeral_1h_input_tokens": 3}), plain.message, AnthropicDecoder),
    ],
    ids=["chat", "cached", "reasoning", "message", "lives"],
)
def test_the_short_way_is_the_long_way(
    answer: dict[str, Any], short: Callable[[bytes], Completion | None], decoder: Callable[[], Any]
) -> None:
    assert short(json.dumps(answer).encode()) is not None
    taken = 0
    for shape in shapes(answer):
        for body in (json.dumps(shape).encode(), json.dumps(shape, ensure_ascii=False).encode(errors="surrogatepass")):
            found = short(body)
            if found is not None:
                taken += 1
                assert found == full(decoder(), body), body
    assert taken > 2000


@pytest.mark.parametrize(
    "body",
    [
        json.dumps(CHAT).encode().replace(b"Yes.", b"Y\xff"),
        json.dumps(CHAT).encode().replace(b"chat.completion", b"chat\xff"),
        json.dumps({**CHAT, "extra": "\ud800"}).encode(),
        json.dumps(CHAT).encode().replace(b"Yes.", b"Y\nes"),
        json.dumps(CHAT).encode().replace(b'"stop"', b'"stop", "finish_reason": "length"'),
        json.dumps({**CHAT, "deep": json.loads("[" * 900 + "]" * 900)}).encode(),
        b"[" * 5000 + b"]" * 5000,
        json.dumps(CHAT).encode()[:-3],
        b"\xef\xbb\xbf" + json.dumps(CHAT).encode(),
        b"",
    ],
)  # fmt: skip
def test_what_is_no_clean_json_is_read_as_before(body: bytes) -> None:
    found = plain.chat(body)
    assert found is None or found == full(OpenAIDecoder(), body)
