"""``HttpClient`` against what a stream may hold (2.3 of the catalogue), over real sockets, in both dialects."""

import tracemalloc
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
from asking import DIALECTS, PROGRAM_LOOP, SETTLE_S, Got, ask
from raw_server import (
    BLOCK_START,
    BLOCK_STOP,
    DONE,
    HANG,
    LAST,
    MESSAGE_START,
    MESSAGE_STOP,
    PING,
    STREAM,
    USAGE,
    Reply,
    block_delta,
    chunk,
    delta,
    events,
    finish,
    message_delta,
    named,
    sse,
    stream,
)

from runner.errors import ProviderError, StreamError
from runner.model import Usage
from runner.providers.http import Caps, Timeouts

pytestmark = pytest.mark.anyio

BOM = b"\xef\xbb\xbf"


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return PROGRAM_LOOP


async def ask_in_pieces(body: bytes, cuts: Sequence[int], dialect: str = "openai") -> Got:
    """Send a body that reaches the client in pieces: it must have read the one before the next one leaves."""
    pieces = [body[start:end] for start, end in pairwise([0, *cuts, len(body)])]
    spread = [step for piece in pieces if piece for step in (chunk(piece), 0.004)]
    return await ask(Reply((STREAM, *spread, LAST)), dialect)


def body_of(dialect: str, *texts: str) -> bytes:
    return b"".join(events(dialect, *texts))


def places(body: bytes, of: bytes) -> list[int]:
    """Give every place where these bytes begin."""
    found, at = [], body.find(of)
    while at >= 0:
        found.append(at)
        at = body.find(of, at + 1)
    return found


# -- bytes and lines

LINE_ENDS = {"LF": [b"\n"], "CR": [b"\r"], "CRLF": [b"\r\n"], "mixed": [b"\r\n", b"\n", b"\r", b"\n", b"\r", b"\r\n", b"\r\n"]}


def with_ends(body: bytes, ends: Sequence[bytes]) -> bytes:
    lines = body.split(b"\n")
    # an LF right behind a CR would be one line end and not two
    joined = lines[0]
    for number, line in enumerate(lines[1:]):
        end = ends[number % len(ends)]
        joined += (b"\n\n" if joined.endswith(b"\r") and end == b"\n" else end) + line
    return joined


@DIALECTS
@pytest.mark.parametrize("ends", LINE_ENDS.values(), ids=LINE_ENDS)
async def test_s1_line_ends(dialect: str, ends: list[bytes]) -> None:
    body = with_ends(body_of(dialect, "Hel", "lo"), ends)
    got = await ask(stream(body), dialect)
    assert (got.completion.text, got.completion.usage) == ("Hello", Usage(input_tokens=7, output_tokens=3))


@DIALECTS
async def test_s1_crlf_split_between_two_reads(dialect: str) -> None:
    """Each event has its data in two lines: were the halves of a line end two of them, it would fall apart."""
    spelt = (event.replace(b'data: {"', b'data: {\ndata: "') for event in events(dialect, "Hel", "lo"))
    body = with_ends(b"".join(spelt), [b"\r\n"])
    got = await ask_in_pieces(body, [place + 1 for place in places(body, b"\r\n")], dialect)
    assert got.completion.text == "Hello"


@DIALECTS
@pytest.mark.parametrize("cuts", [[], [1], [2], [1, 2, 3]], ids=str)
async def test_s2_a_bom_whole_and_split(dialect: str, cuts: list[int]) -> None:
    assert (await ask_in_pieces(BOM + body_of(dialect, "Hel", "lo"), cuts, dialect)).completion.text == "Hello"


async def test_s2_a_second_bom_belongs_to_the_first_line_which_then_is_no_data() -> None:
    assert (await ask(stream(BOM + BOM + body_of("openai", "Hel", "lo")))).completion.text == "lo"
    # where that line was the name of the event, the type inside the data still tells
    assert (await ask(stream(BOM + BOM + body_of("anthropic", "Hel", "lo")), "anthropic")).completion.text == "Hello"


@DIALECTS
async def test_s3_characters_split_between_two_reads(dialect: str) -> None:
    text = "é日🙂"
    body = body_of(dialect, "<", text, ">")
    # json.dumps escapes them, a real server does not
    body = body.replace(b"\\u00e9\\u65e5\\ud83d\\ude42", text.encode())
    start = body.index(text.encode())
    got = await ask_in_pieces(body, range(start, start + len(text.encode()) + 1), dialect)
    assert (got.completion.text, got.completion.notes) == (f"<{text}>", ())


@DIALECTS
@pytest.mark.parametrize("rubbish", [b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xf0\x9f\x99"], ids=repr)
async def test_s4_bytes_that_are_not_utf_8_are_replaced_and_noted(dialect: str, rubbish: bytes) -> None:
    body = body_of(dialect, "a@b", "c").replace(b"@", rubbish)
    got = await ask(stream(body), dialect)
    assert got.completion.text == f"a{rubbish.decode('utf-8', 'replace')}bc"
    assert got.completion.notes == ("invalid_utf8",)


@DIALECTS
@pytest.mark.parametrize("other", ["\u2028", "\u2029", "\u0085", "\v", "\f", "\x1c", "\x1d", "\x1e", "\0"], ids=ascii)
async def test_s5_no_other_character_ends_a_line(dialect: str, other: str) -> None:
    """They come bare, and not as escapes; what is a control is no good JSON, but nothing is lost by reading it."""
    body = body_of(dialect, "a@b", "c").replace(b"@", other.encode())
    got = await ask(stream(body), dialect)
    assert got.completion.text == f"a{other}bc"


@DIALECTS
async def test_s6_comments_and_pings_are_passed_over(dialect: str) -> None:
    spread = [step for event in events(dialect, "Hel", "lo") for step in (b": ping\n\n", b":\n", PING, event)]
    if dialect == "openai":
        spread = [step for step in spread if step != PING]
    got = await ask(stream(*spread), dialect)
    assert got.completion.text == "Hello"


@DIALECTS
async def test_s6_a_huge_comment_is_not_kept(dialect: str) -> None:
    """Of 24 MB no more is ever held than is on its way; the cap of a line, a sixth of it here, is not for comments."""
    huge = stream(b":", *[b"x" * (64 << 10)] * 384, b"\n", *events(dialect, "Hello"))
    tracemalloc.start()
    try:
        got = await ask(huge, dialect, caps=Caps(line_bytes=4 << 20))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert got.completion.text == "Hello"
    assert got.exchange.bytes_received > 24 << 20
    assert peak < 4 << 20


SPELLINGS = {
    "no space": lambda line: line.replace(b"data: ", b"data:"),
    "two spaces": lambda line: line.replace(b"data: ", b"data:  "),
    "an empty name": lambda line: b"event:\n" + line if line.startswith(b"data") else line,
    "a name without a colon": lambda line: b"event\n" + line if line.startswith(b"data") else line,
    "unknown fields": lambda line: b"x-more: 1\nnothing\ndat: {}\n" + line,
    "id and retry": lambda line: b"id: 1\0\nretry: soon\nretry: 5\nid\n" + line,
    "data in two lines": lambda line: line.replace(b'{"', b'{\ndata: "', 1) if b'data: {"' in line else line,
    "the name behind the data": lambda line: (
        b"\n".join(reversed(line.rstrip(b"\n").split(b"\n"))) + b"\n\n" if line.startswith(b"event") else line
    ),
}


@DIALECTS
@pytest.mark.parametrize("spelling", SPELLINGS)
async def test_s7_fields_are_read_as_the_standard_says(dialect: str, spelling: str) -> None:
    spelt = [SPELLINGS[spelling](event) for event in events(dialect, "Hel", "lo")]
    got = await ask(stream(*spelt), dialect)
    assert (got.completion.text, got.completion.usage) == ("Hello", Usage(input_tokens=7, output_tokens=3))


@DIALECTS
@pytest.mark.parametrize("name", [b"error", b"message", b"content_block_delta"])
async def test_s8_a_name_without_data_is_no_event(dialect: str, name: bytes) -> None:
    spread = [step for event in events(dialect, "Hel", "lo") for step in (b"event: " + name + b"\n\n", event)]
    assert (await ask(stream(*spread), dialect)).completion.text == "Hello"


# -- ends and rubbish

LAST_OPENAI = b'data: {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}'
LAST_ANTHROPIC = b'event: message_delta\ndata: {"type": "message_delta", "delta": {"stop_reason": "end_turn"}}'


@pytest.mark.parametrize("newlines", [b"", b"\n"])
@pytest.mark.parametrize(
    ("dialect", "sent"),
    [
        ("openai", (delta("Hello"), LAST_OPENAI)),
        ("anthropic", (MESSAGE_START, BLOCK_START, block_delta("Hello"), LAST_ANTHROPIC)),
    ],
)
async def test_s9_no_blank_line_behind_the_last_event(dialect: str, sent: tuple[bytes, ...], newlines: bytes) -> None:
    got = await ask(stream(*sent[:-1], sent[-1] + newlines), dialect)
    assert got.completion.text == "Hello"


async def test_s9_an_unfinished_line_that_is_not_json_is_dropped() -> None:
    (await ask(stream(delta("Hel"), LAST_OPENAI[:-7]))).is_(StreamError, "truncated", "retry")


async def test_s9_usage_without_a_blank_line_behind_the_reason_is_read() -> None:
    got = await ask(stream(delta("Hello"), finish(), USAGE.rstrip(b"\n")))
    assert got.completion.usage == Usage(input_tokens=7, output_tokens=3)
    assert not got.exchange.tail_lost


@pytest.mark.parametrize(
    ("dialect", "sent"),
    [
        ("openai", (delta("Hello"), finish())),
        ("openai", (delta("Hello"), finish(), USAGE)),
        ("anthropic", (MESSAGE_START, BLOCK_START, block_delta("Hello"), BLOCK_STOP, message_delta())),
        # some gateways send no content_block_stop
        ("anthropic", (MESSAGE_START, BLOCK_START, block_delta("Hello"), message_delta())),
    ],
)
async def test_s10_no_end_mark(dialect: str, sent: tuple[bytes, ...]) -> None:
    got = await ask(stream(*sent), dialect)
    assert got.completion.text == "Hello"
    assert not got.exchange.tail_lost


async def test_s11_an_end_mark_without_a_reason() -> None:
    (await ask(stream(delta("Hel"), DONE))).is_(StreamError, "truncated", "retry")


@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize(
    ("dialect", "sent"),
    [
        ("openai", (delta("Hello"), finish(), DONE, delta("MORE"), finish("length"))),
        (
            "anthropic",
            (MESSAGE_START, BLOCK_START, block_delta("Hello"), message_delta(), MESSAGE_STOP, block_delta("MORE"), sse(b"{oops")),
        ),
    ],
)
async def test_s12_data_behind_the_end_mark_is_ignored(dialect: str, sent: tuple[bytes, ...], together: bool) -> None:
    got = await ask(stream(b"".join(sent)) if together else stream(*sent), dialect)
    assert got.completion.text == "Hello"
    assert got.completion.finish_reason in ("stop", "end_turn")


BROKEN = {
    "cut JSON": sse(b'{"choices": [{"delta": {"content": "lo'),
    "no JSON": sse(b"oops"),
    "null": sse(b"null"),
    "number": sse(b"17"),
    "array": sse(b"[]"),
    "deep": sse(b"[" * 100_000),
}


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN)
@pytest.mark.parametrize(
    ("dialect", "before", "after"),
    [
        ("openai", (delta("Hel"),), (delta("lo"), finish(), DONE)),
        ("anthropic", (MESSAGE_START, BLOCK_START, block_delta("Hel")), (block_delta("lo"), message_delta(), MESSAGE_STOP)),
    ],
)
async def test_s13_malformed_data_is_not_skipped(
    dialect: str, before: tuple[bytes, ...], after: tuple[bytes, ...], broken: bytes
) -> None:
    got = await ask(stream(*before, broken, *after), dialect)
    got.is_(StreamError, "malformed_stream", "retry")


@pytest.mark.parametrize("together", [False, True], ids=["each its own chunk", "one chunk"])
@pytest.mark.parametrize(
    ("dialect", "sent"),
    [
        ("openai", (delta("Hello"), finish(), sse(b"{oops"))),
        ("anthropic", (MESSAGE_START, BLOCK_START, block_delta("Hello"), BLOCK_STOP, message_delta(), sse(b"{oops"))),
    ],
)
async def test_s13_rubbish_behind_the_reason_costs_the_answer_in_no_cut_of_the_bytes(
    dialect: str, sent: tuple[bytes, ...], together: bool
) -> None:
    """Complete and paid for; what the bytes' way through the network was must not decide."""
    spread = (step for event in sent for step in (event, SETTLE_S))
    got = await ask(stream(b"".join(sent)) if together else stream(*spread), dialect)
    assert got.completion.text == "Hello"
    assert got.exchange.tail_lost


@DIALECTS
@pytest.mark.parametrize("opening", [b"[", b'{"a":'], ids=["lists", "objects"])
@pytest.mark.parametrize("where", ["data", "choices", "error"])
async def test_s14_json_that_is_nested_too_deeply(dialect: str, opening: bytes, where: str) -> None:
    """Python gives up on it with an error of another kind than for all other bad JSON."""
    deep = opening * 100_000
    data = deep if where == "data" else b'{"%b": %b' % (where.encode(), deep)
    first, *rest = events(dialect, "Hel", "lo")
    got = await ask(stream(first, sse(data), *rest), dialect)
    got.is_(StreamError, "malformed_stream", "retry")


@pytest.mark.parametrize(
    "number", [b"NaN", b"Infinity", b"-Infinity", b"1e999", b"9" * 5000], ids=lambda value: value[:9].decode()
)
@DIALECTS
async def test_s15_numbers_that_are_none(dialect: str, number: bytes) -> None:
    """Python's own reader takes most of them; here they are unknown, wherever they stand."""
    if dialect == "openai":
        chunk_ = b'{"choices": [{"index": 0, "delta": {"content": "Hello", "tool_calls": [{"index": 0, "function": {"name": "f",'
        chunk_ += b' "arguments": {"x": %b}}}]}, "logprobs": %b}]}' % (number, number)
        usage = b'{"choices": [], "usage": {"prompt_tokens": %b, "completion_tokens": 3}}' % number
        sent = stream(sse(chunk_), finish(), sse(usage), DONE)
    else:
        usage = (
            b'{"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"input_tokens": %b, "output_tokens": 3}}'
        )
        start = b'{"type": "message_start", "message": {"id": "m-1", "model": "m-1", "x": %b, "usage": {"input_tokens": %b}}}'
        sent = stream(sse(start % (number, number)), BLOCK_START, block_delta("Hello"), sse(usage % number), MESSAGE_STOP)
    got = await ask(sent, dialect)
    if got.error is not None:
        # an integer of 5,000 digits is more than Python reads
        got.is_(StreamError, "malformed_stream", "retry")
        assert number.isdigit()
        return
    assert got.completion.text == "Hello"
    assert got.completion.usage == Usage(input_tokens=None, output_tokens=3)
    assert "nan" not in repr(got.completion.extra).lower()
    assert "inf" not in repr(got.completion.extra).lower()


@pytest.mark.parametrize("size", [2 << 20, 10_000_000])
async def test_s16_a_huge_delta_against_the_cap_of_a_line(size: int) -> None:
    got = await ask(stream(delta("x" * size), finish(), DONE), timeouts=Timeouts())
    got.is_(StreamError, "size_cap", "fail")


async def test_s16_a_huge_delta_under_larger_caps() -> None:
    caps = Caps(line_bytes=16 << 20, text_chars=16 << 20)
    got = await ask(stream(delta("x" * 10_000_000), finish(), DONE), timeouts=Timeouts(), caps=caps)
    assert got.completion.text == "x" * 10_000_000


async def test_s16_a_line_that_never_ends() -> None:
    endless = stream(*[b"x" * 65536] * 40, end=(HANG,))
    got = await ask(Reply((endless.steps[0], chunk(b"data: "), *endless.steps[1:])), timeouts=Timeouts())
    got.is_(StreamError, "size_cap", "fail")


async def test_s17_an_endless_stream_meets_the_cap_of_events() -> None:
    many = stream(*[delta("x") * 50] * 100, end=(HANG,))
    got = await ask(many, caps=Caps(events=1000))
    got.is_(StreamError, "size_cap", "fail")


async def test_s17_an_endless_stream_meets_the_cap_of_text() -> None:
    many = stream(*[delta("x" * 100) * 50] * 100, end=(HANG,))
    got = await ask(many, caps=Caps(text_chars=20_000))
    got.is_(StreamError, "size_cap", "fail")


async def test_s17_an_endless_stream_meets_the_cap_of_bytes() -> None:
    comments = stream(*[b": " + b"x" * 10_000 + b"\n"] * 200, end=(HANG,))
    got = await ask(comments, caps=Caps(body_bytes=100_000))
    got.is_(StreamError, "size_cap", "fail")


async def test_s17_endless_text_behind_the_reason_is_bounded_too() -> None:
    many = stream(delta("Hello"), finish(), *[delta("x" * 100) * 50] * 100)
    got = await ask(many, caps=Caps(text_chars=20_000))
    assert got.error is None or got.error.code == "size_cap"
    # one read more: what was under way when the connection was told to wait
    assert got.decoder.text_chars <= 20_000 + 262_144


ERRORS = [
    ("overloaded_error", "overloaded", "retry", 529, False),
    ("rate_limit_error", "rate_limited", "retry", 429, True),
    ("api_error", "server_error", "retry", 500, False),
    ("invalid_request_error", "bad_request", "fail", 400, False),
    ("authentication_error", "auth", "stop", 401, False),
    ("insufficient_quota", "billing", "stop", 429, False),
    ("brand_new_error", "server_error", "retry", None, False),
]


@pytest.mark.parametrize(("kind", "code", "verdict", "status", "throttled"), ERRORS, ids=[line[0] for line in ERRORS])
@pytest.mark.parametrize("texts", [0, 2])
@DIALECTS
async def test_s23_s24_errors_in_the_stream(
    dialect: str, texts: int, kind: str, code: str, verdict: str, status: int | None, throttled: bool
) -> None:
    error = {"error": {"type": kind, "message": "so it is"}}
    if dialect == "openai":
        sent = [*[delta("Hel")] * texts, sse(error)]
    else:
        begun = [MESSAGE_START, BLOCK_START, *[block_delta("Hel")] * texts] if texts else []
        sent = [*begun, named("error", **error)]
    got = await ask(stream(*sent), dialect)
    got.is_(ProviderError, code, verdict)
    assert isinstance(got.failure, ProviderError)
    assert (got.failure.status, got.failure.throttled, got.exchange.status) == (status, throttled, 200)


@pytest.mark.parametrize("error", [{"error": {"message": None}}, {"error": {"message": 17, "code": 500}}, {"error": "no"}])
async def test_s24_errors_of_odd_shape(error: dict[str, Any]) -> None:
    (await ask(stream(delta("Hel"), sse(error)))).is_(ProviderError, "server_error", "retry")


@pytest.mark.parametrize("together", [False, True])
async def test_s23_an_error_behind_the_reason(together: bool) -> None:
    """An error event and a finish reason contradict each other: no answer (1.3)."""
    sent = (delta("Hel"), finish(), sse({"error": {"type": "server_error", "message": "lost"}}))
    got = await ask(stream(b"".join(sent)) if together else stream(*sent))
    got.is_(ProviderError, "server_error", "retry")


# -- the dialects' freedoms


def odd(**fields: Any) -> bytes:
    return sse({"id": "other", "model": "other", **fields})


MISSING = {
    "no choices": odd(),
    "empty choices": odd(choices=[]),
    "choices null": odd(choices=None),
    "no delta": odd(choices=[{"index": 0}]),
    "delta null": odd(choices=[{"index": 0, "delta": None}]),
    "content null": odd(choices=[{"index": 0, "delta": {"content": None}}]),
    "role null": odd(choices=[{"index": 0, "delta": {"role": None, "content": ""}}]),
    "index null": odd(choices=[{"index": None, "delta": {}}]),
    "another choice": odd(choices=[{"index": 1, "delta": {"content": "WRONG"}, "finish_reason": "stop"}]),
    "a choice that is null": odd(choices=[None]),
    "content a number": odd(choices=[{"index": 0, "delta": {"content": 17}}]),
    "reason empty": odd(choices=[{"index": 0, "delta": {}, "finish_reason": ""}]),
    "nothing": sse({}),
}


@pytest.mark.parametrize("chunk_", MISSING.values(), ids=MISSING)
async def test_s18_what_is_missing_or_null_is_passed_over(chunk_: bytes) -> None:
    got = await ask(stream(chunk_, delta("Hel"), chunk_, delta("lo"), chunk_, finish(), chunk_, USAGE, DONE))
    assert (got.completion.text, got.completion.finish_reason) == ("Hello", "stop")
    assert got.completion.usage == Usage(input_tokens=7, output_tokens=3)


async def test_s18_without_an_index_the_first_choice_counts() -> None:
    bare = sse({"choices": [{"delta": {"content": "Hello"}}, {"delta": {"content": "WRONG"}}]})
    assert (await ask(stream(bare, finish(), DONE))).completion.text == "Hello"


FIGURES = {"prompt_tokens": 7, "completion_tokens": 3}
IN_LAST_CHOICE = sse({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], "usage": FIGURES})
INSIDE_LAST_CHOICE = sse({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop", "usage": FIGURES}]})
NO_USAGE = sse({"choices": [{"index": 0, "delta": {"content": "Hello"}}], "usage": None})
KNOWN = Usage(input_tokens=7, output_tokens=3)


@pytest.mark.parametrize(
    ("sent", "usage"),
    [
        ((delta("Hello"), finish(), DONE), None),
        ((NO_USAGE, finish(), DONE), None),
        ((NO_USAGE, finish(), sse({"choices": [], "usage": {}}), DONE), None),
        ((delta("Hello"), finish(), USAGE, DONE), KNOWN),
        ((NO_USAGE, finish(), USAGE, DONE), KNOWN),
        ((NO_USAGE, IN_LAST_CHOICE, DONE), KNOWN),
        ((NO_USAGE, INSIDE_LAST_CHOICE, DONE), KNOWN),
        ((NO_USAGE, IN_LAST_CHOICE, sse({"choices": [], "usage": None}), DONE), KNOWN),
        ((NO_USAGE, finish(), sse({"choices": [], "usage": {"prompt_tokens": 7}}), DONE), Usage(input_tokens=7)),
        ((NO_USAGE, finish(), sse({"choices": [], "usage": {"prompt_tokens": -1, "completion_tokens": "x"}}), DONE), None),
    ],
    ids=[
        "absent",
        "null",
        "empty",
        "extra chunk",
        "null, then an extra chunk",
        "last choice chunk",
        "inside the last choice",
        "and null behind it",
        "half",
        "nonsense",
    ],
)
async def test_s19_usage_wherever_it_stands_and_unknown_where_it_does_not(sent: tuple[bytes, ...], usage: Usage | None) -> None:
    got = await ask(stream(*sent))
    assert (got.completion.text, got.completion.usage) == ("Hello", usage)


async def test_s19_usage_of_the_other_dialect_in_pieces() -> None:
    nothing = named("message_start", message={"id": "m-1", "model": "m-1"})
    bare = named("message_delta", delta={"stop_reason": "end_turn"})
    got = await ask(stream(nothing, BLOCK_START, block_delta("Hello"), bare, MESSAGE_STOP), "anthropic")
    assert got.completion.usage is None
    # the beginning's output_tokens are no count, so without a message_delta that has one they are unknown
    got = await ask(stream(MESSAGE_START, BLOCK_START, block_delta("Hello"), bare, MESSAGE_STOP), "anthropic")
    assert got.completion.usage == Usage(input_tokens=7, output_tokens=None)


def piece(**fields: Any) -> bytes:
    return sse({"choices": [{"index": 0, "delta": fields}]})


async def test_s20_reasoning_tools_refusal_and_audio_stay_out_of_the_text() -> None:
    calls = (
        [{"index": 0, "id": "t-1", "function": {"name": "f", "arguments": '{"a":'}}],
        [{"index": 0, "function": {"arguments": "1}"}}],
    )
    got = await ask(
        stream(
            piece(role="assistant", content="", reasoning_content="Think"),
            piece(reasoning_content="ing"),
            piece(content="Hel"),
            piece(tool_calls=calls[0]),
            piece(refusal="I will"),
            piece(audio={"id": "a-1", "data": "UklGRg==", "transcript": "NOT TEXT"}),
            piece(content="lo"),
            piece(tool_calls=calls[1]),
            piece(refusal=" not"),
            finish(),
            DONE,
        )
    )
    assert got.completion.text == "Hello"
    assert got.completion.extra == {
        "reasoning": "Thinking",
        "refusal": "I will not",
        "tool_calls": [{"id": "t-1", "name": "f", "arguments": '{"a":1}'}],
    }


def block(index: int, kind: str = "text", **fields: Any) -> bytes:
    return named("content_block_start", index=index, content_block={"type": kind, **fields})


def more(index: int, kind: str = "text_delta", **fields: Any) -> bytes:
    return named("content_block_delta", index=index, delta={"type": kind, **fields})


async def test_s20_the_other_dialects_thinking_and_tools_stay_out_of_the_text() -> None:
    got = await ask(
        stream(
            MESSAGE_START,
            block(0, "thinking", thinking=""),
            more(0, "thinking_delta", thinking="Thinking"),
            more(0, "signature_delta", signature="EqQB"),
            block(1, text=""),
            more(1, text="Hello"),
            block(2, "tool_use", id="t-1", name="f", input={}),
            more(2, "input_json_delta", partial_json='{"a":'),
            more(2, "input_json_delta", partial_json="1}"),
            block(3, "redacted_thinking", data="xyz"),
            message_delta("tool_use"),
            MESSAGE_STOP,
        ),
        "anthropic",
    )
    assert got.completion.text == "Hello"
    assert got.completion.extra == {
        "reasoning": "Thinking",
        "tool_calls": [{"id": "t-1", "name": "f", "arguments": '{"a":1}'}],
    }


async def test_s21_unknown_events_and_blocks_in_any_order() -> None:
    got = await ask(
        stream(
            named("brand_new_event", more="of it"),
            MESSAGE_START,
            PING,
            block(2, text=""),
            block(0, text="Fir"),
            more(2, text="third"),
            named("brand_new_event", index=0),
            more(0, "brand_new_delta", text="WRONG"),
            more(0, text="st, "),
            block(1, "brand_new_block", text="WRONG"),
            more(1, text="WRONG"),
            BLOCK_STOP,
            more(2, text="."),
            more(2, "citations_delta", citation={"cited_text": "WRONG"}),
            message_delta(),
            MESSAGE_STOP,
        ),
        "anthropic",
    )
    assert got.completion.text == "First, third."


GRAMMAR = {
    "delta before its block": ((MESSAGE_START, block_delta("Hello")), "never started"),
    "delta before anything": ((block_delta("Hello"),), "before any message_start"),
    "block before anything": ((BLOCK_START,), "before any message_start"),
    "reason before anything": ((message_delta(),), "before any message_start"),
    "end before anything": ((MESSAGE_STOP,), "before any message_start"),
    "two starts": ((MESSAGE_START, MESSAGE_START), "second message_start"),
    "two starts of a block": ((MESSAGE_START, BLOCK_START, BLOCK_START), "second content_block_start"),
    "an index that is none": ((MESSAGE_START, named("content_block_start", index="x", content_block={})), "index"),
}


@pytest.mark.parametrize(("begun", "words"), GRAMMAR.values(), ids=GRAMMAR)
async def test_s22_wrong_grammar_is_said_clearly(begun: tuple[bytes, ...], words: str) -> None:
    got = await ask(stream(*begun, *events("anthropic", "Hello")), "anthropic")
    got.is_(StreamError, "malformed_stream", "retry")
    assert words in str(got.failure)


REASONS = [
    "length",
    "content_filter",
    "refusal",
    "pause_turn",
    "max_tokens",
    "stop_sequence",
    "brand_new_reason",
    "Grüße 🙂",
    "STOP",
]


@DIALECTS
@pytest.mark.parametrize("reason", REASONS)
async def test_s25_a_finish_reason_is_kept_word_for_word(dialect: str, reason: str) -> None:
    if dialect == "openai":
        got = await ask(stream(delta("Hello"), finish(reason), DONE))
    else:
        got = await ask(stream(MESSAGE_START, BLOCK_START, block_delta("Hello"), message_delta(reason), MESSAGE_STOP), dialect)
    assert (got.completion.text, got.completion.finish_reason, got.completion.notes) == ("Hello", reason, ())


@pytest.mark.parametrize(
    ("dialect", "sent"),
    [
        ("openai", (finish(), DONE)),
        ("openai", (delta(""), finish("content_filter"))),
        ("openai", (piece(reasoning_content="Thinking"), finish("length"), DONE)),
        ("anthropic", (MESSAGE_START, message_delta(), MESSAGE_STOP)),
        ("anthropic", (MESSAGE_START, BLOCK_START, BLOCK_STOP, message_delta("refusal"), MESSAGE_STOP)),
    ],
)
async def test_s26_an_empty_answer_is_one_with_a_note(dialect: str, sent: tuple[bytes, ...]) -> None:
    got = await ask(stream(*sent), dialect)
    assert (got.completion.text, got.completion.notes) == ("", ("empty",))


@DIALECTS
@pytest.mark.parametrize("half", [b"\\ud800", b"\\udfff", b"\\ude42\\ud83d"], ids=bytes.decode)
async def test_s27_half_a_character_is_replaced_and_noted(dialect: str, half: bytes) -> None:
    got = await ask(stream(body_of(dialect, "a@b").replace(b"@", half)), dialect)
    assert got.completion.text == "a" + "\ufffd" * (len(half) // 6) + "b"
    assert got.completion.notes == ("lone_surrogate",)
    got.completion.text.encode()


@DIALECTS
async def test_s27_both_halves_in_one_text_are_a_character(dialect: str) -> None:
    got = await ask(stream(body_of(dialect, "a@b").replace(b"@", b"\\ud83d\\ude42")), dialect)
    assert (got.completion.text, got.completion.notes) == ("a🙂b", ())


@DIALECTS
async def test_s28_controls_are_kept_as_they_are(dialect: str) -> None:
    """Escaped, as they must be; cleaning is for those who print."""
    controls = "".join(map(chr, [*range(0x20), *range(0x7F, 0xA0)]))
    got = await ask(stream(*events(dialect, controls, "x")), dialect)
    assert (got.completion.text, got.completion.notes) == (f"{controls}x", ())
