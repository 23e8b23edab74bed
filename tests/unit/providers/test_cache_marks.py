"""The marks of the Messages dialect for a cache."""

import json
from typing import Any

import pytest

from runner.model import Params, Request
from runner.providers.dialects import anthropic

MARK = {"cache_control": {"type": "ephemeral"}}


def body(*messages: dict[str, Any], prefixes: Any = (), **more: Any) -> dict[str, Any]:
    request = Request(model="m", messages=messages, prefixes=tuple(prefixes), **more)
    found: dict[str, Any] = json.loads(anthropic.make("http://x", None, version="1").encode(request).body)
    return found


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


def system(content: Any) -> dict[str, Any]:
    return {"role": "system", "content": content}


def text(words: str, *, marked: bool = False) -> dict[str, Any]:
    return {"type": "text", "text": words, **(MARK if marked else {})}


def test_the_system_text_and_a_message() -> None:
    found = body(user("a"), {"role": "assistant", "content": "b"}, user("c"), system="S", prefixes=[(0, 0), (2, 0)])
    assert found["system"] == [text("S", marked=True)]
    assert found["messages"] == [user("a"), {"role": "assistant", "content": [text("b", marked=True)]}, user("c")]


def test_a_text_that_is_shared_in_part_becomes_two_blocks() -> None:
    assert body(user("Sum up: it"), prefixes=[(0, 8)])["messages"] == [user([text("Sum up: ", marked=True), text("it")])]
    assert body(user("a"), system="In de", prefixes=[(-1, 3)])["system"] == [text("In ", marked=True), text("de")]
    both = body(user("Sum up: it"), prefixes=[(0, 8), (1, 0)])["messages"]
    assert both == [user([text("Sum up: ", marked=True), text("it", marked=True)])]


def test_a_block_of_blanks_is_never_made() -> None:
    for words, at in (("  it", 2), ("it ", 2), ("it", 2), (" ", 1)):
        assert body(user(words), prefixes=[(0, at)])["messages"][0]["content"] in (words, [text(words)])


def test_the_last_block_of_a_message_in_parts_is_marked() -> None:
    picture = {"type": "image", "source": {"type": "url", "url": "http://x/a.png"}}
    assert body(user([text("a"), picture]), user("b"), prefixes=[(1, 0)])["messages"][0] == user([text("a"), {**picture, **MARK}])
    # what cannot have a mark has none
    for last in ({"type": "thinking", "thinking": "hm"}, text(" "), "text"):
        assert body(user([text("a"), last]), user("b"), prefixes=[(1, 0)])["messages"][0] == user([text("a"), last])
    assert body(user([]), user("b"), prefixes=[(1, 0)])["messages"][0] == user([])


def test_system_messages_are_one_text() -> None:
    found = body(system("S"), user("a"), prefixes=[(1, 0), (2, 0)])
    assert found["system"] == [text("S", marked=True)]
    assert found["messages"] == [user([text("a", marked=True)])]
    assert body(system("In de"), user("a"), prefixes=[(0, 3)])["system"] == [text("In ", marked=True), text("de")]
    # a prefix that ends before the last of them has no block of its own
    assert body(system("S"), system("T"), user("a"), prefixes=[(1, 0)])["system"] == "S\n\nT"
    assert body(system("S"), system("T"), user("a"), prefixes=[(1, 1)])["system"] == "S\n\nT"
    assert body(system("S"), system("T"), user("a"), prefixes=[(2, 0)])["system"] == [text("S\n\nT", marked=True)]


@pytest.mark.parametrize(
    "more",
    [
        {"messages": (user([text("mine", marked=True)]), user("b"))},
        {"messages": (user("a"), user("b")), "params": Params(extra_body={"cache_control": {"type": "ephemeral"}})},
        {"messages": (user("a"), user("b")), "params": Params(extra_body={"tools": [{"name": "t", **MARK}]})},
    ],
)
def test_marks_of_the_users_own_are_left_alone(more: dict[str, Any]) -> None:
    messages = more.pop("messages")
    assert body(*messages, prefixes=[(1, 0)], **more) == body(*messages, **more)


HOUR = {"cache_control": {"type": "ephemeral", "ttl": "1h"}}


def test_a_system_message_keeps_the_marks_of_its_parts() -> None:
    found = body(system([{**text("rules"), **HOUR}, text("more", marked=True), text("today"), "!"]), user("a"))
    assert found["system"] == [{**text("rules"), **HOUR}, text("more", marked=True), text("today"), text("!")]
    assert found["messages"] == [user("a")]
    # as one text, it would read the same
    found = body(system("S"), system([text("T", marked=True)]), {"role": "developer", "content": "D"}, user("a"))
    assert found["system"] == [text("S"), text("\n\nT", marked=True), text("\n\nD")]
    assert body({**system("S"), **MARK}, system("T"), user("a"))["system"] == [text("S", marked=True), text("\n\nT")]
    assert body({**system([text("S"), text("T")]), **MARK}, user("a"))["system"] == [text("S"), text("T", marked=True)]


def test_a_system_block_of_blanks_is_never_made() -> None:
    parts = [text(" "), text("S"), text("", marked=True), text(" "), text("T"), text(" ")]
    assert body(system(parts), user("a"))["system"] == [text(" S", marked=True), text(" T ")]
    # the mark that a block has of its own stays
    assert body(system([{**text("S"), **HOUR}, text(" ", marked=True)]), user("a"))["system"] == [{**text("S "), **HOUR}]
    assert "system" not in body(system([text("", marked=True)]), user("a"))


@pytest.mark.parametrize("mark", [{}, {"cache_control": None}])
def test_a_system_message_without_marks_is_one_text(mark: dict[str, Any]) -> None:
    found = body(system([{**text("S"), **mark}, text("T"), {"type": "image"}]), system(None), system(["U"]), user("a"))
    assert found["system"] == "ST\n\nU"


def test_marks_of_a_system_message_are_the_users_own() -> None:
    messages = (system([text("S", marked=True), text("T")]), user("a"), user("b"))
    for prefixes in ([(1, 0)], [(0, 1)], [(2, 0)]):
        assert body(*messages, prefixes=prefixes) == body(*messages)


def test_the_word_in_a_text_is_no_mark() -> None:
    words = 'say "cache_control": please'
    assert body(user(words), user("b"), prefixes=[(1, 0)])["messages"][0] == user([text(words, marked=True)])
