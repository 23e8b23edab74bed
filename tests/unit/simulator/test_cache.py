"""What the simulator caches of prompts, by the rules of each provider. No socket; the clock is the test's."""

import json
from contextlib import suppress
from typing import Any

import pytest

from runner.simulator.cache import Cache, CacheKind, Hit
from runner.simulator.dialect import Refusal
from runner.simulator.prompt import blocks

MARK = {"cache_control": {"type": "ephemeral"}}


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def made(kind: CacheKind, *, lifetime_s: float = 300, remembered: int = 1000) -> tuple[Cache, Clock]:
    clock = Clock()
    return Cache(kind, lifetime_s=lifetime_s, remembered=remembered, clock=clock), clock


def words(tokens: int, letter: str = "a") -> str:
    """A text of this many tokens."""
    return letter * (4 * tokens)


def chat(*texts: str, **more: Any) -> bytes:
    return json.dumps({"messages": [{"role": "user", "content": text} for text in texts], **more}).encode()


def hit(cache: Cache, body: bytes, *, model: str = "m", kept: bool = True) -> Hit:
    """Ask the cache about a request, and let the answer begin."""
    asked = cache.read(model, body)
    assert asked is not None
    found = cache.find(asked, len(body) // 4)
    if kept:
        cache.keep(asked)
    return found


def test_the_content_of_a_request_is_tools_then_system_then_messages() -> None:
    picture = {"type": "image_url", "image_url": {"url": "x"}}
    body = {
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "é"}, picture, {"type": "text", "text": "b", **MARK}]},
            {"role": "assistant", "content": None},
            {"role": "user", "content": "c"},
        ],
        "system": [{"type": "text", "text": "s", **MARK}],
        "tools": [{"name": "t", **MARK}],
    }
    assert blocks(json.dumps(body).encode()) == [
        (b'\0tool\0{"name":"t"}', "5m"),
        (b"\0system\0s", "5m"),
        ("\0user\0é".encode(), None),
        (b'{"image_url":{"url":"x"},"type":"image_url"}', None),
        (b"b", "5m"),
        (b"\0assistant\0", None),
        (b"\0user\0c", None),
    ]
    assert blocks(chat("a", "b", **MARK))[-1] == (b"\0user\0b", "5m")


@pytest.mark.parametrize("content", [7, True, {"text": 1}, [], [[]], [None], [{"type": "text", "text": 5}], {"x": 10**30}])
def test_content_of_any_form_is_read(content: Any) -> None:
    assert blocks(json.dumps({"messages": [{"role": "user", "content": content}], "tools": "none", "system": None}).encode())


def test_content_that_is_nested_too_deeply_is_refused_and_raises_nothing_else() -> None:
    # which depths can be read, and which of these can no longer be written, depends on the version of Python
    for depth in range(850, 1050):
        content = b'{"a":' * depth + b"1" + b"}" * depth
        with suppress(Refusal):
            blocks(b'{"messages":[{"role":"user","content":[%s]}]}' % content)


def test_no_cache_reads_nothing() -> None:
    cache, _ = made("off")
    assert cache.read("m", b"not even JSON") is None


def test_openai_caches_from_1024_tokens_in_steps_of_128() -> None:
    cache, _ = made("openai")
    assert hit(cache, chat(words(1000), "x")) == Hit(0, 0)
    assert hit(cache, chat(words(1000), "x")) == Hit(0, 0)
    assert hit(cache, chat(words(1300), "x")) == Hit(0, 0)
    # a message begins with the name of its role, so that 1,300 tokens of text are a little more
    assert hit(cache, chat(words(1300), "y")) == Hit(1280, 0)
    assert hit(cache, chat(words(1160), "y")) == Hit(1152, 0)
    assert hit(cache, chat(words(1030) + "b" + words(500), "y")) == Hit(1024, 0)
    assert hit(cache, chat(words(2000), "y")) == Hit(1280, 0)
    assert hit(cache, chat("b" + words(1300), "y")) == Hit(0, 0)
    assert hit(cache, chat(words(1300)), model="other") == Hit(0, 0)


def test_vllm_caches_full_blocks_of_16_tokens() -> None:
    cache, _ = made("vllm")
    assert hit(cache, chat(words(40), "x")) == Hit(0, 0)
    assert hit(cache, chat(words(40), "y")) == Hit(32, 0)
    assert hit(cache, chat(words(20) + "b" + words(40))) == Hit(16, 0)
    assert hit(cache, chat(words(9))) == Hit(0, 0)


def test_roles_count() -> None:
    cache, _ = made("vllm")
    body = {"messages": [{"role": "user", "content": words(40)}]}
    assert hit(cache, json.dumps(body).encode()) == Hit(0, 0)
    body["messages"][0]["role"] = "system"
    assert hit(cache, json.dumps(body).encode()) == Hit(0, 0)


def marked(*texts: str, marks: tuple[int, ...], system: str | None = None) -> bytes:
    parts = [{"type": "text", "text": text, **(MARK if at in marks else {})} for at, text in enumerate(texts)]
    body: dict[str, Any] = {"messages": [{"role": "user", "content": parts}]}
    if system is not None:
        body["system"] = [{"type": "text", "text": system, **MARK}]
    return json.dumps(body).encode()


def test_anthropic_writes_what_is_marked_and_reads_it_afterwards() -> None:
    cache, _ = made("anthropic")
    # "\0system\0" is two tokens
    assert hit(cache, marked("x", marks=(), system=words(1100))) == Hit(0, 1102)
    assert hit(cache, marked("y", marks=(), system=words(1100))) == Hit(1102, 0)
    assert hit(cache, marked("x", marks=(), system=words(1021))) == Hit(0, 0)
    assert hit(cache, marked("x", marks=(), system=words(1100, "b"))) == Hit(0, 1102)
    # nothing is kept without a mark
    assert hit(cache, marked(words(2000), marks=())) == Hit(0, 0)
    assert hit(cache, marked(words(2000), marks=())) == Hit(0, 0)


def test_a_later_mark_writes_only_what_is_new_and_marks_may_be_moved() -> None:
    cache, _ = made("anthropic")
    first = hit(cache, marked(words(1200), words(300), "x", marks=(0,)))
    assert first == Hit(0, 1201)
    assert hit(cache, marked(words(1200), words(300), "x", marks=(1,))) == Hit(1201, 300)
    assert hit(cache, marked(words(1200), words(300), "y", marks=(0, 1))) == Hit(1501, 0)
    # what was kept for the later mark alone is not there for the earlier one
    assert hit(cache, marked(words(1200, "c"), words(300), marks=(1,))) == Hit(0, 1501)
    assert hit(cache, marked(words(1200, "c"), words(300, "d"), marks=(0,))) == Hit(0, 1201)


def test_a_mark_looks_back_over_twenty_blocks() -> None:
    cache, _ = made("anthropic")
    many = [words(60)] * 60
    assert hit(cache, marked(*many, marks=(30,))).written == 31 * 60 + 1
    assert hit(cache, marked(*many, marks=(50,)), kept=False).read == 31 * 60 + 1
    assert hit(cache, marked(*many, marks=(51,)), kept=False).read == 0


def test_more_than_four_marks_are_refused() -> None:
    cache, _ = made("anthropic")
    assert cache.read("m", marked(*"abcd", marks=(0, 1, 2, 3))) is not None
    with pytest.raises(Refusal) as caught:
        cache.read("m", marked(*"abcd", marks=(0, 1, 2, 3), system="s"))
    assert (caught.value.status, caught.value.message) == (
        400,
        "A maximum of 4 blocks with cache_control may be provided. Found 5.",
    )


@pytest.mark.parametrize(
    ("kind", "body"),
    [("openai", chat(words(1500))), ("vllm", chat(words(1500))), ("anthropic", marked(words(1500), marks=(0,)))],
)
def test_a_prefix_is_read_once_an_answer_has_begun_and_as_long_as_it_is_used(kind: CacheKind, body: bytes) -> None:
    cache, clock = made(kind, lifetime_s=10)
    assert hit(cache, body, kept=False).read == 0
    # the first answer has not begun
    assert hit(cache, body, kept=False).read == 0
    assert hit(cache, body).read == 0
    for now in (10.0, 20.0):
        clock.now = now
        assert hit(cache, body, kept=False).read > 1000
    clock.now = 30.1
    assert hit(cache, body).read == 0


def test_the_least_recently_used_prefix_is_forgotten_first() -> None:
    cache, _ = made("anthropic", remembered=2)
    one, two, three = (marked(words(1100, letter), marks=(0,)) for letter in "abc")
    hit(cache, one)
    hit(cache, two)
    assert hit(cache, one).read
    hit(cache, three)
    assert hit(cache, one, kept=False).read
    assert not hit(cache, two, kept=False).read


def test_of_a_long_prompt_the_beginning_is_remembered() -> None:
    cache, _ = made("vllm", remembered=3)
    hit(cache, chat(words(160)))
    assert hit(cache, chat(words(160)), kept=False).read == 48


def test_no_more_is_read_than_the_request_has() -> None:
    cache, _ = made("vllm")
    asked = cache.read("m", chat(words(64)))
    assert asked is not None
    cache.keep(asked)
    assert cache.find(asked, 10) == Hit(10, 0)


def lives(*parts: tuple[str, str | None], ttl: Any = None) -> bytes:
    """A request whose parts are marked with the life that is given."""
    found = [
        {"type": "text", "text": text, **({"cache_control": {"type": "ephemeral", "ttl": life}} if life else {})}
        for text, life in parts
    ]
    body = {"messages": [{"role": "user", "content": found}], **({"cache_control": {"ttl": ttl}} if ttl else {})}
    return json.dumps(body).encode()


def test_what_is_kept_for_an_hour_is_told_apart_and_lives_longer() -> None:
    cache, clock = made("anthropic", lifetime_s=10)
    both = lives((words(1200), "1h"), (words(300), "5m"), ("x", None))
    assert hit(cache, both) == Hit(0, 1501, written_1h=1201)
    clock.now = 11.0
    # the longer prefix is gone, and is written again
    assert hit(cache, both) == Hit(1201, 300)
    # a prefix that was kept for minutes is kept for an hour from now on, and nothing is written for it
    assert hit(cache, lives((words(1200), "1h"), (words(300), "1h"))) == Hit(1501, 0)
    clock.now = 30.0
    assert hit(cache, both, kept=False) == Hit(1501, 0)
    clock.now = 200.0
    assert hit(cache, both) == Hit(0, 1501, written_1h=1201)
    assert hit(cache, lives((words(1200, "b"), None), ttl="1h")) == Hit(0, 1201, written_1h=1201)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (lives(("a", "5m"), ("b", "1h")), "a ttl='1h' cache_control block must not come after a ttl='5m' cache_control block"),
        (lives(("a", "2h")), "cache_control.ttl: Input should be '5m' or '1h'"),
    ],
)
def test_lives_that_anthropic_does_not_sell_are_refused(body: bytes, said: str) -> None:
    with pytest.raises(Refusal) as caught:
        made("anthropic")[0].read("m", body)
    assert (caught.value.status, caught.value.message) == (400, said)
