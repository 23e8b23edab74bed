"""However the bytes of a stream are cut and whatever may stand between its events, the completion is the same.

Streams come from recordings, and from a model of each dialect that knows what the completion must be.
"""

import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import pairwise
from typing import Any

import pytest
from decoding import fed
from hypothesis import given, settings
from hypothesis import strategies as st
from test_providers import DIALECTS, EXPECTED, recorded

from runner.errors import AttemptError, StreamError
from runner.model import Completion, ServerSentEvent, Usage
from runner.providers.sse import SSEDecoder

BOM = b"\xef\xbb\xbf"


def decoded(dialect: str, chunks: Sequence[bytes]) -> Completion:
    decoder = fed(DIALECTS[dialect].decoder(), chunks)
    assert decoder.complete
    return decoder.completion()


def cut(body: bytes, places: Sequence[float]) -> list[bytes]:
    """Cut a body at these fractions of its length; a chunk may be empty."""
    edges = [0, *sorted(int(place * len(body)) for place in places), len(body)]
    return [body[start:end] for start, end in pairwise(edges)]


CUTS = st.lists(st.floats(0, 1, allow_nan=False), max_size=12)


@pytest.mark.parametrize("name", sorted(EXPECTED))
@settings(max_examples=60)
@given(CUTS)
def test_a_recording_cut_anywhere_gives_its_completion(name: str, places: list[float]) -> None:
    assert decoded(name.partition("/")[0], cut(recorded(name), places)) == EXPECTED[name]


# -- streams out of a model


# what JSON can say and UTF-8 can carry; half a character has its own tests
CHARACTERS = st.characters(exclude_categories=["Cs"])
TEXT = st.text(st.one_of(CHARACTERS, st.sampled_from("\u2028\u2029\u0085\v\f\x1c\0\r\n é日🙂\ufeff:")), max_size=8)
COUNTS = st.integers(0, 2**40)
REASONS = st.sampled_from(["stop", "length", "content_filter", "end_turn", "max_tokens", "refusal", "brand_new"])
ENDS = st.sampled_from([b"\n", b"\r\n", b"\r"])
LINES_BETWEEN = st.lists(
    st.sampled_from(
        [b": ping", b":", b": " + b"x" * 300, b"id: 7", b"retry: 10", b"retry: soon", b"x-unknown: {}", b"nocolon", b"dat: x"]
    ),
    max_size=2,
)


def spelt(data: st.DrawFn, event: tuple[str | None, Any], end: bytes) -> bytes:
    """Write one event as a server might: with or without blanks, bare or escaped, in one line or several."""
    name, value = event
    if isinstance(value, bytes):
        lines = [value]
    else:
        indent = data(st.sampled_from([None, None, 1]))
        # JSON's own line feeds become data lines of their own, as the standard has it
        text = json.dumps(value, ensure_ascii=data(st.booleans()), indent=indent)
        lines = text.encode().split(b"\n") if indent else [text.encode()]
    colon = data(st.sampled_from([b": ", b":"]))
    written = [b"data" + colon + line for line in lines]
    if name is not None:
        written.insert(data(st.integers(0, len(written))), b"event" + colon + name.encode())
    for line in data(LINES_BETWEEN):
        written.insert(data(st.integers(0, len(written))), line)
    return end.join([*written, b"", b""])


def body_of(data: st.DrawFn, events: Sequence[tuple[str | None, Any]]) -> bytes:
    """Write a stream: each event with line ends of its own, junk that is no event in between, sometimes a BOM before all."""
    parts = [BOM] if data(st.booleans()) else []
    for event in events:
        end = data(ENDS)
        if data(st.integers(0, 3)) == 0:
            parts.append(end.join([*data(LINES_BETWEEN), b"event: nothing", b"", b""]))
        parts.append(spelt(data, event, end))
    body = b""
    for part in parts:
        # an LF right behind a CR would belong to it; a comment keeps them apart
        body += (b":\n" if body.endswith(b"\r") and part.startswith(b"\n") else b"") + part
    return body


@st.composite
def openai_streams(draw: st.DrawFn) -> tuple[bytes, Completion]:
    """Make a Chat Completions stream and what it must come to."""
    pieces = draw(
        st.lists(st.tuples(st.sampled_from(["content", "reasoning_content", "refusal", "tool", "odd"]), TEXT), max_size=8)
    )
    tool = draw(st.sampled_from([0, 3]))
    events: list[tuple[str | None, Any]] = []
    texts: dict[str, str] = {"content": "", "reasoning_content": "", "refusal": "", "tool": ""}
    tool_seen = False
    for kind, text in pieces:
        if kind == "odd":
            odd: Any = draw(st.sampled_from([{}, {"choices": []}, {"choices": [{"index": 1, "delta": {"content": "WRONG"}}]}]))
            events.append((None, odd))
            continue
        delta: dict[str, Any] = {kind: text}
        if kind == "tool":
            function = {"arguments": text} if tool_seen else {"name": "f", "arguments": text}
            delta = {"tool_calls": [{"index": tool, **({} if tool_seen else {"id": "t-1"}), "function": function}]}
            tool_seen = True
        texts[kind] += text
        events.append((None, {"id": "c-1", "model": "m-1", "choices": [{"index": 0, "delta": delta}], "usage": None}))
    events.insert(0, (None, {"id": "c-1", "model": "m-1", "choices": [{"index": 0, "delta": {"role": "assistant"}}]}))
    reason = draw(REASONS)
    last: dict[str, Any] = {"id": "c-1", "choices": [{"index": 0, "delta": {}, "finish_reason": reason}]}
    usage = None
    where = draw(st.sampled_from(["nowhere", "last", "extra"]))
    if where != "nowhere":
        usage = Usage(input_tokens=draw(COUNTS), output_tokens=draw(COUNTS))
        figures = {"prompt_tokens": usage.input_tokens, "completion_tokens": usage.output_tokens}
        if where == "last":
            last["usage"] = figures
    events.append((None, last))
    if where == "extra":
        events.append((None, {"choices": [], "usage": figures}))
    if draw(st.booleans()):
        events.append((None, b"[DONE]"))
    extra: dict[str, Any] = {}
    if texts["reasoning_content"]:
        extra["reasoning"] = texts["reasoning_content"]
    if texts["refusal"]:
        extra["refusal"] = texts["refusal"]
    if tool_seen:
        extra["tool_calls"] = [{"id": "t-1", "name": "f", "arguments": texts["tool"]}]
    empty = not texts["content"] and not texts["refusal"] and not tool_seen
    expected = Completion(
        text=texts["content"],
        finish_reason=reason,
        usage=usage,
        served_model="m-1",
        response_id="c-1",
        extra=extra,
        notes=("empty",) if empty else (),
    )
    return body_of(draw, events), expected


@st.composite
def anthropic_streams(draw: st.DrawFn) -> tuple[bytes, Completion]:
    """Make a Messages stream, its blocks interleaved, and what it must come to."""
    kinds = draw(st.lists(st.sampled_from(["text", "thinking", "tool_use", "brand_new"]), max_size=4))
    texts = [draw(st.lists(TEXT, max_size=4)) for _ in kinds]
    queues = [_block_events(index, kind, texts[index]) for index, kind in enumerate(kinds)]
    events: list[tuple[str | None, Any]] = []
    while any(queues):
        queue = queues[draw(st.sampled_from([index for index, queue in enumerate(queues) if queue]))]
        events.append(queue.pop(0))
        if draw(st.integers(0, 4)) == 0:
            events.append(
                draw(st.sampled_from([("ping", {"type": "ping"}), ("brand_new", {"type": "brand_new", "text": "WRONG"})]))
            )
    inputs, outputs, reason = draw(COUNTS), draw(COUNTS), draw(REASONS)
    message = {"id": "m-1", "model": "m-1", "usage": {"input_tokens": inputs, "output_tokens": 1}}
    events.insert(0, ("message_start", {"type": "message_start", "message": message}))
    stop = {"type": "message_delta", "delta": {"stop_reason": reason}, "usage": {"output_tokens": outputs}}
    events.append(("message_delta", stop))
    if draw(st.booleans()):
        events.append(("message_stop", {"type": "message_stop"}))
    joined = {kind: ["".join(texts[index]) for index, each in enumerate(kinds) if each == kind] for kind in kinds}
    extra: dict[str, Any] = {}
    if "".join(joined.get("thinking", [])):
        extra["reasoning"] = "".join(joined["thinking"])
    if joined.get("tool_use"):
        indexes = [index for index, kind in enumerate(kinds) if kind == "tool_use"]
        extra["tool_calls"] = [{"id": f"t-{index}", "name": "f", "arguments": "".join(texts[index])} for index in indexes]
    text = "".join(joined.get("text", []))
    expected = Completion(
        text=text,
        finish_reason=reason,
        usage=Usage(input_tokens=inputs, output_tokens=outputs),
        served_model="m-1",
        response_id="m-1",
        extra=extra,
        notes=() if text or "tool_use" in kinds else ("empty",),
    )
    return body_of(draw, events), expected


def _block_events(index: int, kind: str, texts: Sequence[str]) -> list[tuple[str | None, Any]]:
    block: dict[str, Any] = {"type": kind}
    if kind == "tool_use":
        block |= {"id": f"t-{index}", "name": "f", "input": {}}
    field = {"text": "text", "thinking": "thinking", "tool_use": "partial_json", "brand_new": "text"}[kind]
    delta = {"text": "text_delta", "thinking": "thinking_delta", "tool_use": "input_json_delta", "brand_new": "text_delta"}[kind]
    events = [("content_block_start", {"type": "content_block_start", "index": index, "content_block": block})]
    events += [
        ("content_block_delta", {"type": "content_block_delta", "index": index, "delta": {"type": delta, field: text}})
        for text in texts
    ]
    return [*events, ("content_block_stop", {"type": "content_block_stop", "index": index})]


STREAMS = {"openai": openai_streams(), "anthropic": anthropic_streams()}


@pytest.mark.parametrize("dialect", sorted(STREAMS))
@settings(max_examples=250)
@given(st.data())
def test_a_generated_stream_gives_its_completion_however_it_is_cut(dialect: str, data: st.DataObject) -> None:
    body, expected = data.draw(STREAMS[dialect])
    assert decoded(dialect, [body]) == expected
    assert decoded(dialect, cut(body, data.draw(CUTS))) == expected
    # every byte its own read
    assert decoded(dialect, [body[place : place + 1] for place in range(len(body))]) == expected


@pytest.mark.parametrize("dialect", sorted(STREAMS))
@settings(max_examples=100)
@given(st.data())
def test_a_generated_stream_that_ends_early_is_no_completion(dialect: str, data: st.DataObject) -> None:
    """Wherever it breaks off before its finish reason is whole."""
    body, expected = data.draw(STREAMS[dialect])
    words = {"openai": b'"finish_reason"', "anthropic": b'"stop_reason"'}[dialect]
    end = body.index(json.dumps(expected.finish_reason).encode(), body.rindex(words)) + len(expected.finish_reason)
    at = data.draw(st.integers(0, end))
    decoder, chunks = DIALECTS[dialect].decoder(), cut(body[:at], data.draw(CUTS))
    with suppress(StreamError):
        fed(decoder, chunks)
    assert not decoder.complete


def fault(call: Callable[[], object]) -> tuple[type, str] | None:
    """What a call raises."""
    try:
        call()
    except AttemptError as error:
        return type(error), str(error)
    return None


DELTA = b'{"type":"content_block_delta","index":%s,"delta":{"type":"text_delta","text":"x"}}'
BREAKS = st.sampled_from(
    [
        *(DELTA % one for one in (b"0", b"0.0", b"false", b"null", b'"0"', b"9")),
        b"{",
        b"null",
        b'{"error":{"message":"m","type":"t"}}',
        b'{"choices":[',
        b"\xff",
        b"[DONE]",
    ]
)


@pytest.mark.parametrize("dialect", sorted(STREAMS))
@settings(max_examples=150)
@given(st.data())
def test_events_taken_at_once_are_taken_as_one_by_one(dialect: str, data: st.DataObject) -> None:
    """Also where one of them breaks the dialect: what stood before it is kept, what stands behind it is not looked at."""
    body, _ = data.draw(STREAMS[dialect])
    events = SSEDecoder().feed(body)
    for broken in data.draw(st.lists(BREAKS, max_size=2)):
        name = data.draw(st.sampled_from(["message", "error", "ping", "content_block_delta"]))
        events.insert(data.draw(st.integers(0, len(events))), ServerSentEvent(name, broken))
    singly, at_once = DIALECTS[dialect].decoder(), DIALECTS[dialect].decoder()
    assert fault(lambda: [singly.feed(event) for event in events]) == fault(lambda: at_once.feed_all(events))
    for one in ("complete", "ended", "started", "text_chars"):
        assert getattr(singly, one) == getattr(at_once, one), one
    assert singly.completion() == at_once.completion()
