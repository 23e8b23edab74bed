"""Each rule of the event stream, and the most important one: the cuts between chunks do not matter."""

import codecs
import itertools
import re

import httpx_sse._decoders as theirs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.errors import StreamError
from runner.model import ServerSentEvent
from runner.providers.sse import SSEDecoder

BOM = b"\xef\xbb\xbf"


def decode(*chunks: bytes, **caps: int) -> list[tuple[str, bytes]]:
    decoder = SSEDecoder(**caps)
    return [(event.event, event.data) for chunk in chunks for event in decoder.feed(chunk)]


def by_the_book(body: bytes) -> list[tuple[str, bytes]]:
    """The standard's algorithm, step by step and slowly, as the reference for the decoder."""
    events, name, data = [], "", None
    for line in re.split(rb"\r\n|\r|\n", body.removeprefix(BOM))[:-1]:
        if not line:
            if data is not None:
                events.append((name or "message", data))
            name, data = "", None
            continue
        field, _, value = line.partition(b":")
        value = value[1:] if value.startswith(b" ") else value
        if field == b"data":
            data = value if data is None else data + b"\n" + value
        elif field == b"event":
            name = value.decode("utf-8", "replace")
    return events


@pytest.mark.parametrize(
    ("body", "events"),
    [
        (b"data: x\n\n", [("message", b"x")]),
        (b"data:x\n\n", [("message", b"x")]),
        (b"data:  x\n\n", [("message", b" x")]),
        (b"data: x \n\n", [("message", b"x ")]),
        (b"data:\tx\n\n", [("message", b"\tx")]),
        (b"data: a: b\n\n", [("message", b"a: b")]),
        (b"data: a\ndata: b\n\n", [("message", b"a\nb")]),
        (b"data: a\ndata\ndata: b\n\n", [("message", b"a\n\nb")]),
        (b"data\n\n", [("message", b"")]),
        (b"data:\n\n", [("message", b"")]),
        (b"data: \n\n", [("message", b"")]),
        (b"data\ndata\n\n", [("message", b"\n")]),
        (b"event: e\ndata: x\n\ndata: y\n\n", [("e", b"x"), ("message", b"y")]),
        (b"data: x\nevent: e\n\n", [("e", b"x")]),
        (b"event: e\nevent: f\ndata: x\n\n", [("f", b"x")]),
        (b"event: e\nevent\ndata: x\n\n", [("message", b"x")]),
        (b"event: \ndata: x\n\n", [("message", b"x")]),
        (b"event:e\n\ndata: x\n\n", [("message", b"x")]),
        (b"event: \xff\ndata: x\n\n", [("\ufffd", b"x")]),
        (b"event: e\n\n", []),
        (b"\n\n\n\n", []),
        (b": ping\n\n", []),
        (b":\ndata: x\n:\ndata: y\n\n", [("message", b"x\ny")]),
        (b"id: 1\nretry: 5\ndata: x\n\n", [("message", b"x")]),
        (b"id: a\0b\nretry: soon\ndata: x\n\n", [("message", b"x")]),
        (b"Data: x\n data: x\ndata : x\nwhat: x\nnocolon\n\n", []),
        (b"data: x\n", []),
        (b"data: x", []),
        (b"data: \xff\xfe\n\n", [("message", b"\xff\xfe")]),
        (b"data: \0\n\n", [("message", b"\0")]),
    ],
)
def test_fields(body: bytes, events: list[tuple[str, bytes]]) -> None:
    assert decode(body) == by_the_book(body) == events


@pytest.mark.parametrize("end", [b"\n", b"\r", b"\r\n"])
def test_line_ends(end: bytes) -> None:
    body = end.join([b"event: e", b"data: x", b"", b"data: y", b"data: z", b"", b""])
    assert decode(body) == [("e", b"x"), ("message", b"y\nz")]


def test_line_ends_may_be_mixed_and_split() -> None:
    assert decode(b"data: a\r\ndata: b\rdata: c\ndata: d\r", b"\n\r\n") == [("message", b"a\nb\nc\nd")]
    # an LF after CR LF is an empty line
    assert decode(b"data: a\r", b"\n", b"\ndata: b\n\n") == [("message", b"a"), ("message", b"b")]
    assert decode(b"data: a\n\r", b"\ndata: b\r\r") == [("message", b"a"), ("message", b"b")]


def test_an_event_is_given_at_its_last_cr_without_waiting_for_more() -> None:
    assert decode(b"data: x\r\r") == [("message", b"x")]
    assert decode(b"data: x\r\n\r") == [("message", b"x")]


@pytest.mark.parametrize("other", ["\u2028", "\u2029", "\u0085", "\v", "\f", "\x1c", "\x1d", "\x1e", "\0"])
def test_nothing_else_ends_a_line(other: str) -> None:
    text = f"a{other}b".encode()
    assert decode(b"data: " + text + b"\n\n") == [("message", text)]
    assert decode(b"data: " + text + b"\r\n\r\n") == [("message", text)]


@pytest.mark.parametrize("cut", [0, 1, 2, 3, 4])
def test_one_bom_is_stripped(cut: int) -> None:
    body = BOM + b"data: x\n\ndata: y\n\n"
    assert decode(body[:cut], body[cut:]) == [("message", b"x"), ("message", b"y")]


def test_a_second_bom_is_content_and_so_is_half_a_one() -> None:
    assert decode(BOM + BOM + b"data: x\n\ndata: y\n\n") == [("message", b"y")]
    assert decode(b"data: x\n\n" + BOM + b"data: y\n\n") == [("message", b"x")]
    assert decode(b"\xef", b"data: x\n\ndata: y\n\n") == [("message", b"y")]
    assert decode(BOM, BOM, b": x\n\n") == []
    assert decode(BOM + b": comment\ndata: x\n\n") == [("message", b"x")]


def test_flush_gives_the_unfinished_event() -> None:
    decoder = SSEDecoder()
    assert decoder.flush() is None
    assert decoder.feed(b"event: e\ndata: x\ndata: y") == []
    assert decoder.flush() == ServerSentEvent("e", b"x\ny")
    assert decoder.flush() is None
    for tail in (b"event: e\n", b": data", b"dat", b"", BOM[:2], b"data: x\n\n"):
        decoder = SSEDecoder()
        decoder.feed(tail)
        assert decoder.flush() is None
    for tail in (b"data: x", b"data: x\n", b"data: x\r", b"data: x\r\n"):
        decoder = SSEDecoder()
        decoder.feed(tail)
        assert decoder.flush() == ServerSentEvent("message", b"x")


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
@pytest.mark.parametrize("size", [1, 7, 1000])
def test_a_line_may_be_as_long_as_its_cap(end: bytes, size: int) -> None:
    line = b"data: " + b"x" * 94
    body = line + end + end
    chunks = [body[i : i + size] for i in range(0, len(body), size)]
    assert decode(*chunks, max_line=100) == [("message", b"x" * 94)]
    with pytest.raises(StreamError) as caught:
        decode(*chunks, max_line=99)
    assert (caught.value.code, caught.value.verdict) == ("size_cap", "fail")


@pytest.mark.parametrize("prefix", [b"", b"event: e\n", b"data: a\n\n"])
def test_long_lines_after_a_fresh_start_are_seen(prefix: bytes) -> None:
    with pytest.raises(StreamError):
        decode(b"data: a\n\n", prefix + b"data: " + b"x" * 95 + b"\n\n", max_line=100)
    with pytest.raises(StreamError):
        decode(b"data: a\n\n", b"event: " + b"x" * 94 + b"\ndata: \n\n", max_line=100)


def test_the_gathered_data_of_an_event_has_the_same_cap() -> None:
    lines = [b"data: xxxx\n"] * 20
    # 20 times 4 bytes and 19 line feeds
    assert decode(*lines, b"\n", max_line=99) == [("message", b"\n".join([b"xxxx"] * 20))]
    with pytest.raises(StreamError):
        decode(*lines, b"\n", max_line=98)
    # the next event starts from zero
    assert len(decode(*lines, b"\n", *lines, b"\n", max_line=99)) == 2
    with pytest.raises(StreamError):
        decode(b"data\n" * 102, max_line=100)


def test_the_number_of_events_has_a_cap() -> None:
    event = b"data: x\n\n"
    assert len(decode(event * 3, event * 2, max_events=5)) == 5
    for chunks in ([event * 6], [event] * 6, [event * 5, b"event: e\n" + event]):
        with pytest.raises(StreamError) as caught:
            decode(*chunks, max_events=5)
        assert caught.value.code == "size_cap"
    assert decode(b": ping\n\n" * 50, max_events=5) == []


def test_a_huge_comment_is_dropped_not_kept() -> None:
    decoder = SSEDecoder(max_line=100)
    decoder.feed(b"data: x\n:")
    for _ in range(1000):
        assert decoder.feed(b"y" * 1000) == []
        assert len(decoder._rest) == 0
    assert decoder.feed(b"\n\n") == [ServerSentEvent("message", b"x")]
    assert decode(b":" + b"y" * 1000 + b"\n\ndata: x\n\n", max_line=100) == [("message", b"x")]


class Watched(bytearray):
    """Counts every byte that is read again after it was appended."""

    looked_at = 0

    def _count(self) -> None:
        Watched.looked_at += len(self)

    def __bytes__(self) -> bytes:
        self._count()
        return bytes(bytearray(self))

    def __getitem__(self, key):
        self._count()
        return super().__getitem__(key)

    def __contains__(self, key) -> bool:
        self._count()
        return super().__contains__(key)

    def find(self, *args) -> int:
        self._count()
        return super().find(*args)

    def split(self, *args):
        self._count()
        return super().split(*args)


def test_a_line_fed_byte_by_byte_is_looked_at_once() -> None:
    decoder = SSEDecoder()
    decoder._rest = Watched()
    Watched.looked_at = 0
    size = 200_000
    decoder.feed(b"data: ")
    for _ in range(size):
        decoder.feed(b"x")
    assert Watched.looked_at == 0
    assert decoder.feed(b"\n") == []
    assert decoder.feed(b"\n") == [ServerSentEvent("message", b"x" * size)]
    assert 0 < Watched.looked_at <= size + 6


PIECES = st.sampled_from(
    [
        b"data: ",
        b"data:",
        b"data",
        b"event: ",
        b"event:",
        b":",
        b" ",
        b"id: 1",
        b"\n",
        b"\n\n",
        b"\r",
        b"\r\n",
        b"{}",
        b"x",
        BOM,
        b"\xef",
        b"\xbb",
        b"\xff",
        b"\x00",
        b"data: {}\n\n",
        b"event: e\ndata: y\n\n",
        "\u2028ä".encode(),
    ]
)
BODIES = st.lists(PIECES, max_size=40).map(b"".join)
# a line that is an object is an event of ours, and none of the standard's
ALL_BODIES = st.one_of(BODIES, st.binary(max_size=60).filter(lambda body: b"{" not in body))


@settings(max_examples=600)
@given(ALL_BODIES, st.lists(st.integers(0, 200), max_size=8))
def test_chunks_do_not_matter(body: bytes, cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(body)]
    chunks = [body[a:b] for a, b in itertools.pairwise(edges)]
    expected = by_the_book(body)
    assert decode(body) == expected
    assert decode(*chunks) == expected
    # a chunk of one byte never takes the fast path
    singly = [body[i : i + 1] for i in range(len(body))]
    assert decode(*singly) == expected
    flushed = []
    for way in ([body], chunks, singly):
        decoder = SSEDecoder()
        for chunk in way:
            decoder.feed(chunk)
        flushed.append(decoder.flush())
    assert flushed[0] == flushed[1] == flushed[2]


@settings(max_examples=300)
@given(BODIES, st.lists(st.integers(0, 200), max_size=8), st.integers(1, 12))
def test_chunks_do_not_matter_to_the_caps(body: bytes, cuts: list[int], cap: int) -> None:
    edges = [0, *sorted(cuts), len(body)]
    ways = ([body], [body[a:b] for a, b in itertools.pairwise(edges)], [bytes([c]) for c in body])
    outcomes = []
    # a line end, so that the last line is complete however the body is cut
    for way in ways:
        try:
            outcomes.append(decode(*way, b"\n", max_line=cap))
        except StreamError:
            outcomes.append(None)
    assert outcomes[0] == outcomes[1] == outcomes[2]


@settings(max_examples=600)
@given(st.lists(PIECES, max_size=40))
def test_pieces_as_chunks(pieces: list[bytes]) -> None:
    assert decode(*pieces) == by_the_book(b"".join(pieces))


@pytest.mark.parametrize("line", [b'{"}', b'{"a"}', b'{"a b}'])
def test_a_line_that_only_looks_like_an_object_is_no_event(line: bytes) -> None:
    decoder = SSEDecoder()
    assert (decoder.feed(line + b"\n\n"), decoder.flush(), decoder.stray) == ([], None, line)


@pytest.mark.parametrize("before", [b":", b": x", b"data", b"event: e\n", b"id: 1", b"data: x\r", b"x"])
@pytest.mark.parametrize("whole", [b"data: y\n\n", b"event: f\ndata: y\n\n", b"\ndata: y\n\n", b"\n\n"])
def test_a_whole_event_after_a_piece(before: bytes, whole: bytes) -> None:
    fresh = b"data: z\n\n"
    assert decode(fresh, before, whole, whole, b"\n") == by_the_book(fresh + before + whole + whole + b"\n")


def theirs_on(body: bytes, cuts: list[int]) -> list[tuple[str, str]]:
    """Return the events that httpx-sse decodes from chunks, corrected for the three points where it differs from the standard.

    * It treats a BOM as content, so that the first line becomes an unknown field: the BOM is removed here.
    * At a blank line it dispatches an event without data, too: after an ``event`` or ``retry`` alone (such as ``retry: 1_000``,
      which it accepts as a number), and always once an ``id`` has arrived. Such events are omitted here.
    * Its response class follows the charset of the answer; here the bytes are decoded as UTF-8 beforehand.

    Both drop a last event without a blank line, as the standard says; ours returns it from ``flush``, which is tested above.
    """
    lines, decoder = theirs.SSELineDecoder(), theirs.SSEDecoder()
    utf_8 = codecs.getincrementaldecoder("utf-8")("replace")
    body = body.removeprefix(BOM)
    edges = [0, *sorted(cuts), len(body)]
    # httpx never passes it an empty string
    texts = filter(None, (utf_8.decode(body[a:b], final=b == len(body)) for a, b in itertools.pairwise(edges)))
    events = []
    for line in itertools.chain.from_iterable((*map(lines.decode, texts), lines.flush())):
        had_data = bool(decoder._data)
        event = decoder.decode(line)
        if event is not None and had_data:
            events.append((event.event, event.data))
    return events


@settings(max_examples=600)
@given(ALL_BODIES, st.lists(st.integers(0, 200), max_size=4))
def test_as_httpx_sse_where_that_is_right(body: bytes, cuts: list[int]) -> None:
    ours = [(name, data.decode("utf-8", "replace")) for name, data in decode(body)]
    assert ours == theirs_on(body, [])
    assert ours == theirs_on(body, [cut for cut in cuts if cut <= len(body)])


@pytest.mark.parametrize(
    ("body", "their_events"),
    [
        (b"event: e\n\n", [("e", "")]),
        (b"id: 1\n\n\n", [("message", ""), ("message", "")]),
        (b"retry: 1_000\n\n", [("message", "")]),
        (BOM + b"data: x\n\n", []),
    ],
)
def test_httpx_sse_is_wrong_only_where_we_say_so(body: bytes, their_events: list[tuple[str, str]]) -> None:
    """If this fails, httpx-sse has been fixed, and ``theirs_on`` needs fewer corrections."""
    lines, decoder = theirs.SSELineDecoder(), theirs.SSEDecoder()
    events = [decoder.decode(line) for line in lines.decode(body.decode()) + lines.flush()]
    assert [(event.event, event.data) for event in events if event is not None] == their_events
    assert decode(body) == by_the_book(body) != their_events
