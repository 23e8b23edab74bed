"""A finish reason is not the end of the text: what is stored as done is all of it, over real sockets, in both dialects.

``runner/providers/completeness.py`` draws the stages; ``docs/decisions/0011-when-an-answer-is-complete.md`` gives the reasons.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import anyio
import pytest
from asking import BEFORE_RESET_S, CALM, DIALECTS, PATIENCE_S, PROGRAM_LOOP, SETTLE_S, Got, ask, call, under_way, until
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from raw_server import (
    BLOCK_START,
    BLOCK_STOP,
    DONE,
    FIN,
    HANG,
    LAST,
    MESSAGE_START,
    MESSAGE_STOP,
    RST,
    USAGE,
    RawServer,
    Reply,
    Step,
    block_delta,
    finish,
    head,
    message_delta,
    named,
    sse,
    stream,
)

from runner.errors import AttemptTimeoutError, StreamError, TransportError
from runner.model import Usage
from runner.providers.http import HttpClient, Timeouts, answer
from runner.providers.http import timeouts as timeouts_module

pytestmark = pytest.mark.anyio

LONGER_THAN_ANY_TAIL_S = 5.6
IMPATIENT = Timeouts(connect_s=5.0, first_byte_s=5.0, silence_s=0.15, attempt_s=10.0)


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return PROGRAM_LOOP


@pytest.fixture
def _short_tails(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the shortest wait behind a finish reason shorter, so that a test need not take seconds."""
    monkeypatch.setattr(timeouts_module, "TAIL_S", 0.15)
    monkeypatch.setattr(answer, "TAIL_S", 0.15)
    monkeypatch.setattr(answer, "_LIMITS_S", dict.fromkeys(answer._LIMITS_S, 0.15))


def c(text: str, reason: str | None = None, **fields: Any) -> bytes:
    """Return a chunk with text, a finish reason, or both."""
    content = {"content": text} if text else {}
    return sse({"id": "c-1", "model": "m-1", "choices": [{"index": 0, "delta": {**content, **fields}, "finish_reason": reason}]})


WORDS = [f"word{number} " for number in range(9)]
GEMINI = [c(word, "stop") for word in WORDS]
OPEN = (MESSAGE_START, BLOCK_START, block_delta("Hel"))


def spread(*events: bytes) -> list[Step]:
    """Put a pause behind each event, so that each is read by itself."""
    return [step for event in events for step in (event, SETTLE_S)]


# -- text behind the reason


async def test_a_reason_on_every_chunk_ends_nothing() -> None:
    for sent in (spread(*GEMINI, USAGE, DONE), [*GEMINI, USAGE, DONE], [b"".join([*GEMINI, USAGE, DONE])], spread(*GEMINI)):
        got = await ask(stream(*sent))
        assert got.completion.text == "".join(WORDS)
        assert not got.exchange.tail_lost
        has_usage = any(isinstance(step, bytes) and USAGE in step for step in sent)
        assert got.completion.usage == (Usage(input_tokens=7, output_tokens=3) if has_usage else None)


LATE: dict[str, tuple[str, tuple[Step, ...], str]] = {
    "text behind a reason with text": (
        "openai",
        (c("Hel", "stop"), LONGER_THAN_ANY_TAIL_S, c("lo", "stop"), USAGE, DONE),
        "Hello",
    ),
    "text behind a reason of its own": ("openai", (c("Hel"), finish(), LONGER_THAN_ANY_TAIL_S, c("lo", "stop"), DONE), "Hello"),
    "text behind the reasoning": (
        "openai",
        (c("", "stop", reasoning_content="Thinking"), LONGER_THAN_ANY_TAIL_S, c("Hello", "stop"), DONE),
        "Hello",
    ),
    "and no end mark": (
        "openai",
        (c("", "stop", reasoning_content="Thinking"), LONGER_THAN_ANY_TAIL_S, c("Hello"), finish()),
        "Hello",
    ),
    "the other dialect": (
        "anthropic",
        (*OPEN, message_delta(), LONGER_THAN_ANY_TAIL_S, block_delta("lo"), message_delta(), MESSAGE_STOP),
        "Hello",
    ),
    "the other dialect, behind a block that stopped": (
        "anthropic",
        (
            *OPEN,
            BLOCK_STOP,
            message_delta(),
            LONGER_THAN_ANY_TAIL_S,
            named("content_block_start", index=1, content_block={"type": "text", "text": "l"}),
            named("content_block_delta", index=1, delta={"type": "text_delta", "text": "o"}),
            message_delta(),
            MESSAGE_STOP,
        ),
        "Hello",
    ),
}


async def test_text_long_behind_a_reason_belongs_to_the_answer() -> None:
    """All at the same time, because each takes seconds."""
    texts: dict[str, str] = {}

    async def one(name: str, dialect: str, steps: tuple[Step, ...]) -> None:
        texts[name] = (await ask(stream(*steps), dialect)).completion.text

    async with anyio.create_task_group() as group:
        for name, (dialect, steps, _) in LATE.items():
            group.start_soon(one, name, dialect, steps)
    assert texts == {name: text for name, (_, _, text) in LATE.items()}


async def test_an_answer_that_goes_on_is_an_open_one_for_all_clocks() -> None:
    got = await ask(stream(c("Hel", "stop"), SETTLE_S, c("lo"), end=(HANG,)), timeouts=IMPATIENT)
    got.is_(AttemptTimeoutError, "timeout_silence", "retry")
    drip = [step for _ in range(300) for step in (c("x", "stop"), 0.05)]
    got = await ask(stream(*drip), timeouts=Timeouts(first_byte_s=5, silence_s=5, attempt_s=2.0), dialect="openai")
    got.is_(AttemptTimeoutError, "timeout_attempt", "retry")


async def test_text_behind_a_reason_without_another_reason() -> None:
    # the end mark completes it, the end of the body alone does not
    assert (await ask(stream(c("Hel", "stop"), c("lo"), DONE))).completion.text == "Hello"
    (await ask(stream(c("Hel", "stop"), c("lo")))).is_(StreamError, "truncated", "retry")


async def test_an_end_mark_without_a_reason_ends_the_reading_at_once() -> None:
    (await ask(stream(c("Hel"), DONE, end=(HANG,)))).is_(StreamError, "truncated", "retry")


async def test_the_time_of_an_answer_ends_at_its_last_reason() -> None:
    got = await ask(stream(c("Hel", "stop"), 0.2, c("lo", "stop"), DONE))
    assert got.exchange.answered_s is not None
    assert got.exchange.answered_s >= 0.2


# -- a break behind the reason

BLOCK_2 = named("content_block_start", index=1, content_block={"type": "tool_use", "id": "t", "name": "f", "input": {}})
CUT = {
    "a reason with text": ("openai", (c("Hel", "stop"),)),
    "a reason with reasoning": ("openai", (c("", "stop", reasoning_content="Think"),)),
    "a reason behind the reasoning": ("openai", (c("", None, reasoning_content="Think"), finish())),
    "a reason with a piece of a tool call": (
        "openai",
        (c("Hel"), c("", "tool_calls", tool_calls=[{"index": 0, "id": "t", "function": {"name": "f", "arguments": "{"}}])),
    ),
    "a reason with a refusal": ("openai", (c("", "stop", refusal="I will"),)),
    "text behind a reason": ("openai", (c("Hel"), finish(), c("lo"))),
    "a reason of a server whose reasons mean nothing": ("openai", (c("Hel", "stop"), c("lo"), finish())),
    "a block that has not stopped": ("anthropic", (*OPEN, message_delta())),
    "a second block that has not stopped": ("anthropic", (*OPEN, BLOCK_STOP, BLOCK_2, message_delta())),
    "text behind the reason": ("anthropic", (*OPEN, BLOCK_STOP, message_delta(), block_delta("lo"))),
    "a block behind the reason": ("anthropic", (*OPEN, BLOCK_STOP, message_delta(), BLOCK_2)),
}
CALL = {"index": 0, "id": "t", "function": {"name": "f", "arguments": "{}"}}
KEPT = {
    "a reason behind the text": ("openai", (c("Hello"), finish())),
    "a reason behind a tool call": (
        "openai",
        (
            c("Hello", None, tool_calls=[{"index": 0, "id": "t", "function": {"name": "f", "arguments": "{}"}}]),
            finish("tool_calls"),
        ),
    ),
    "a reason with text, and the usage": ("openai", (c("Hello", "stop"), USAGE)),
    "all blocks stopped": ("anthropic", (MESSAGE_START, BLOCK_START, block_delta("Hello"), BLOCK_STOP, message_delta())),
}
BREAKS: dict[str, tuple[Step, ...]] = {"reset": (BEFORE_RESET_S, RST), "closed": (BEFORE_RESET_S, FIN), "silent": (HANG,)}


@pytest.mark.parametrize("end", BREAKS.values(), ids=BREAKS)
@pytest.mark.parametrize(("dialect", "sent"), CUT.values(), ids=CUT)
@pytest.mark.usefixtures("_short_tails")
async def test_a_break_where_text_may_be_missing_is_a_cut(dialect: str, sent: tuple[bytes, ...], end: tuple[Step, ...]) -> None:
    got = await ask(stream(*sent, end=end), dialect, timeouts=IMPATIENT)
    assert isinstance(got.failure, TransportError | AttemptTimeoutError)
    assert (got.failure.code, got.failure.verdict) in (("cut", "retry"), ("timeout_silence", "retry"))
    assert not got.exchange.tail_lost


@pytest.mark.parametrize("end", BREAKS.values(), ids=BREAKS)
@pytest.mark.parametrize(("dialect", "sent"), KEPT.values(), ids=KEPT)
@pytest.mark.usefixtures("_short_tails")
async def test_a_break_where_the_text_is_whole_loses_the_tail_alone(
    dialect: str, sent: tuple[bytes, ...], end: tuple[Step, ...]
) -> None:
    got = await ask(stream(*sent, end=end), dialect, timeouts=IMPATIENT)
    assert got.completion.text == "Hello"
    assert got.exchange.tail_lost


@pytest.mark.usefixtures("_short_tails")
@pytest.mark.parametrize(("sent", "kept"), [((c("Hello"), finish()), True), ((c("Hel", "stop"),), False)])
async def test_a_cancellation_behind_a_reason_waits_for_the_tail_and_not_for_ever(sent: tuple[bytes, ...], kept: bool) -> None:
    with anyio.fail_after(PATIENCE_S):
        async with under_way(stream(*sent, end=(HANG,)), sum(map(len, sent))) as (results, scope, received):
            await until(received)
            scope.cancel()
    assert [(got.completion.text, got.exchange.tail_lost) for got in results] == ([("Hello", True)] if kept else [])


async def test_a_server_whose_reasons_mean_nothing_is_remembered() -> None:
    """What was learned from one answer holds for the next ones of the model, and for no other model."""
    alone = stream(c("Hello"), finish(), end=(BEFORE_RESET_S, RST))
    other = stream(c("Hello").replace(b"m-1", b"m-2"), finish(), end=(BEFORE_RESET_S, RST))
    async with RawServer([alone, stream(*GEMINI, DONE), alone, other, stream(*GEMINI)]) as server, HttpClient(CALM) as client:
        made = None
        gots: list[Got] = []
        for _ in range(5):
            got = await call(client, server.base_url, made=made)
            made = got.provider
            gots.append(got)
    assert (gots[0].completion.text, gots[0].exchange.tail_lost) == ("Hello", True)
    assert gots[1].completion.text == "".join(WORDS)
    gots[2].is_(TransportError, "cut", "retry")
    assert gots[3].completion.text == "Hello"
    assert gots[4].completion.text == "".join(WORDS)


OLD = head(headers={"content-type": "text/event-stream"}, version="1.0")


@pytest.mark.parametrize("end", [FIN, RST])
async def test_the_end_of_a_connection_alone_is_no_clean_end(end: Step) -> None:
    """Where nothing but the end of the connection ends the body, it cannot be told from a break."""
    pause = BEFORE_RESET_S
    got = await ask(Reply((OLD, c("Hel", "stop"), pause, end)))
    assert got.failure.verdict == "retry"
    for sent, lost in (((c("Hello"), finish()), True), ((c("Hello", "stop"), USAGE), False), ((c("Hello", "stop"), DONE), False)):
        got = await ask(Reply((OLD, *sent, pause, end)))
        assert (got.completion.text, got.exchange.tail_lost) == ("Hello", lost)


# -- the property


@st.composite
def openai_events(draw: st.DrawFn) -> list[tuple[str, bytes]]:
    """Generate the events of an answer, as (what it is, bytes)."""
    kinds = draw(st.lists(st.sampled_from(["text", "text", "both", "reason", "usage"]), min_size=1, max_size=6))
    made = {"text": c("ab"), "both": c("ab", "stop"), "reason": finish(), "usage": USAGE, "end": DONE}
    return [(kind, made[kind]) for kind in [*kinds, draw(st.sampled_from(["reason", "end"]))]]


@st.composite
def anthropic_events(draw: st.DrawFn) -> list[tuple[str, bytes]]:
    kinds = draw(st.lists(st.sampled_from(["text", "text", "stop", "reason"]), min_size=1, max_size=6))
    made = {"text": block_delta("ab"), "stop": BLOCK_STOP, "reason": message_delta(), "end": MESSAGE_STOP}
    begun = [("start", MESSAGE_START), ("start", BLOCK_START)]
    return begun + [(kind, made[kind]) for kind in [*kinds, "reason", draw(st.sampled_from(["reason", "end"]))]]


def undecidable(sent: Sequence[str]) -> bool:
    """Return True if everything that was sent looks like a whole answer, from a server that has not shown otherwise."""
    last = max((at for at, kind in enumerate(sent) if kind in ("text", "both")), default=-1)
    doubted = any(kind in ("reason", "both") for kind in sent[: max(last, 0)])
    tail = list(sent[last + 1 :])
    if "end" in tail:
        return True
    # the usage means something behind a reason alone, and then it says that the answer is over, an empty one too
    reasons = [at for at, kind in enumerate(tail) if kind == "reason"]
    begin = 0 if last >= 0 and sent[last] == "both" else min(reasons, default=len(tail))
    if "usage" in tail[begin:]:
        return True
    stopped = "stop" in sent if "start" in sent else last >= 0
    return bool(reasons) and stopped and not doubted


STREAMS = {"openai": openai_events(), "anthropic": anthropic_events()}


class Case(NamedTuple):
    """A stream that ends somewhere, somehow: sent and missed are the kinds of its events, events are the bytes that are sent."""

    sent: list[str]
    missed: list[str]
    end: str
    events: list[Step]


@st.composite
def cases(draw: st.DrawFn, dialect: str) -> Case:
    """Generate a case whose right outcome is known."""
    made = draw(STREAMS[dialect])
    end = draw(st.sampled_from(["clean", "reset", "closed", "silent"]))
    # a server that says nothing at all is tried elsewhere, and takes its time
    at = draw(st.integers(1 if end == "silent" else 0, len(made)))
    sent, missed = [kind for kind, _ in made[:at]], [kind for kind, _ in made[at:]]
    assume(end == "clean" or not any(kind in ("text", "both") for kind in missed) or not undecidable(sent))
    part = made[at][1][: draw(st.integers(0, 20))] if at < len(made) else b""
    return Case(sent, missed, end, [event for _, event in made[:at]] + ([part] if part else []))


@pytest.mark.usefixtures("_short_tails")
@DIALECTS
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_what_is_done_is_the_whole_text(dialect: str, data: st.DataObject) -> None:
    """Wherever the reasons stand, wherever the body ends, and however it ends."""
    ends: dict[str, tuple[Step, ...]] = {"clean": (LAST,), **BREAKS}
    # six at once, for most of their time is waiting
    drawn = data.draw(st.lists(cases(dialect), min_size=6, max_size=6))
    gots: list[Got | None] = [None] * len(drawn)

    async def one(number: int, case: Case) -> None:
        gots[number] = await ask(stream(*case.events, end=ends[case.end]), dialect, timeouts=IMPATIENT)

    async def all_of_them() -> None:
        async with anyio.create_task_group() as group:
            for number, case in enumerate(drawn):
                group.start_soon(one, number, case)

    anyio.run(all_of_them)
    for case, got in zip(drawn, gots, strict=True):
        assert got is not None
        check_whole(case, got)


def check_whole(case: Case, got: Got) -> None:
    # a server that means to say no more than it has said is as good as its word
    whole = case.sent if case.end == "clean" else [*case.sent, *case.missed]
    if got.error is None:
        assert got.completion.text == "ab" * sum(kind in ("text", "both") for kind in whole)
    else:
        assert got.error.verdict == "retry"
    # and what is whole and was said to be over is not bought again
    over = case.sent and case.sent[-1] in ("reason", "both", "end") and any(kind in ("reason", "both") for kind in case.sent)
    if case.end == "clean" and over:
        assert got.error is None, got.error


def test_the_exclusions_of_the_property_are_few() -> None:
    assert undecidable(["text", "reason"])
    assert not undecidable(["both"])
    assert not undecidable(["both", "text", "reason"])
    assert not undecidable(["reason"])
    assert undecidable(["reason", "usage"])
    assert undecidable(["both", "usage"])
    assert not undecidable(["both", "text", "usage", "reason"])
    assert undecidable(["start", "start", "text", "stop", "reason"])
    assert not undecidable(["start", "start", "text", "reason"])
