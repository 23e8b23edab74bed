"""Text in ``message`` in place of ``delta``: pieces, the whole so far, or the whole once more. Never doubled, never cut."""

import json
from typing import Any

import pytest

from runner.model import ServerSentEvent, Stage
from runner.providers.dialects import openai


def answer(*choices: dict[str, Any]) -> Any:
    made = openai.make("http://h", None, version="0").decoder()
    made.feed_all(
        [
            ServerSentEvent("message", json.dumps({"id": "i", "model": "m", "choices": [{"index": 0, **choice}]}).encode())
            for choice in choices
        ]
    )
    return made


def said(text: str | None, reason: str | None = None, **more: Any) -> dict[str, Any]:
    return {"message": {"role": "assistant", "content": text, **more}, "finish_reason": reason}


def delta(text: str | None, **more: Any) -> dict[str, Any]:
    return {"delta": {"content": text, **more}, "finish_reason": None}


@pytest.mark.parametrize(
    ("choices", "text"),
    [
        # each brings the whole so far
        ([said("hel"), said("hello"), said("hello world", "stop")], "hello world"),
        ([said("hel"), said("hello"), said("hello", "stop")], "hello"),
        ([said("hel"), said("hel"), said("hello"), said("", "stop")], "hello"),
        ([said(""), said("hel"), said("hello ", None), said("hello", "stop")], "hello"),
        ([said("ha"), said("ha", "stop")], "ha"),
        # each brings a piece
        ([said("hel"), said("lo"), said(" hello"), said("", "stop")], "hello hello"),
        ([said("ha"), said("ha"), said("ha"), said(None, "stop")], "hahaha"),
        ([said("1"), said("10"), said("5", "stop")], "1105"),
        ([said("a"), said(" a"), said("b", "stop")], "a ab"),
        # the whole once more, behind deltas
        ([delta("hel"), delta("lo"), said("hello", "stop")], "hello"),
        ([delta(" hello"), delta(" world "), said("hello world", "stop")], "hello world"),
        ([delta("hello"), said("hello ", "stop")], "hello "),
        ([delta("hello "), said("hello world", "stop")], "hello world"),
        ([delta("hello"), {"delta": {"content": ""}, **said("hello", "stop")}], "hello"),
        ([delta("hello"), said("", "stop")], "hello"),
        ([delta("hello"), said(None, "stop")], "hello"),
        ([delta("hello"), said("hello"), said("hello", "stop")], "hello"),
        # the only text, beside a delta that is empty but for its role
        ([{"delta": {"role": "assistant", "content": ""}, **said("hello", "stop")}], "hello"),
    ],
)
def test_text_is_neither_doubled_nor_cut(choices: list[dict[str, Any]], text: str) -> None:
    made = answer(*choices)
    assert (made.completion().text, made.complete) == (text, True)
    assert made.text_chars >= len(text)
    # the same of reasoning
    swapped = json.loads(json.dumps(choices).replace('"content"', '"reasoning_content"'))
    assert answer(*swapped).completion().extra.get("reasoning") == text


def test_the_whole_with_reasoning_and_tool_calls() -> None:
    call = {"index": 0, "id": "c", "function": {"name": "f", "arguments": '{"a":1}'}}
    made = answer(
        delta(None, reasoning_content="think"),
        delta("hello", tool_calls=[call]),
        said("hello ", "stop", reasoning_content="think", tool_calls=[call]),
    ).completion()
    assert (made.text, made.extra["reasoning"]) == ("hello ", "think")
    assert made.extra["tool_calls"] == [{"id": "c", "name": "f", "arguments": '{"a":1}'}]
    begun = {**call, "function": {"name": "f", "arguments": '{"a"'}}
    made = answer(said(None, tool_calls=[begun]), said(None, "tool_calls", tool_calls=[call])).completion()
    assert made.extra["tool_calls"] == [{"id": "c", "name": "f", "arguments": '{"a":1}'}]


def test_more_of_the_whole_behind_a_reason_reopens() -> None:
    made = answer(said("hel", "stop"), said("hello"))
    assert (made.completion().text, made.stage) == ("hello", Stage.OPEN)


def test_a_finish_reason_inside_the_delta() -> None:
    for last in (delta(None, finish_reason="stop"), delta("lo", finish_reason="stop")):
        made = answer(delta("hel"), last)
        assert (made.complete, made.completion().finish_reason) == (True, "stop")
    assert made.completion().text == "hello"
