"""Decodes bytes into server-sent events, as WHATWG defines them: feed, then flush; no I/O.

One rule: the same bytes give the same events, however they were cut into chunks. The data of an event stays bytes.
Beyond the standard, a line ``error: ...`` and a line that is nothing but a JSON error are events named "error". Other lines that
are nothing but a JSON object are events, and so is each of several objects in the data of one event.
"""

import re
from functools import lru_cache

from runner.errors import StreamError
from runner.model import ServerSentEvent

_STRAY = 200
_BOM = b"\xef\xbb\xbf"
_COLON = 0x3A
_LF = 0x0A
_BRACE = 0x7B
# an event with a name and one line of data; at anything else the search ends, and group 3 is all of the rest
# an error that a gateway wrote into the stream without a field, or with a field of its own; "error": null is none
_ERROR = re.compile(rb'\{.*"(?:error|errors|detail)"\s*:\s*+(?!null\b)|\{.*"(?:object|type)"\s*:\s*"error"').match
_OBJECT = re.compile(rb'\{\s*"[^"]*"\s*:').match
_NAMED = re.compile(rb"event: ([^\n]*+)\ndata: ([^\n]*+)\n\n|([\s\S]+)").findall


class SSEDecoder:
    """Decodes the body of one answer.

    max_line: the longest line, and the most data of one event, in bytes. max_events: the most events of the answer.
    Beyond either limit, ``feed`` raises StreamError with the code ``size_cap``. Comments are dropped, whatever their length.
    """

    __slots__ = (
        "_after_cr",
        "_count",
        "_data",
        "_data_name",
        "_head",
        "_in_comment",
        "_max_events",
        "_max_line",
        "_name",
        "_open",
        "_rest",
        "_size",
        "stray",
    )

    def __init__(self, *, max_line: int = 1 << 20, max_events: int = 100_000) -> None:
        self._max_line = max_line
        self._max_events = max_events
        self._count = 0
        # the first bytes, while they may still turn out to be a BOM; None once that is decided
        self._head: bytes | None = b""
        # the last chunk ended in CR: if the next one begins with LF, the two are one line end
        self._after_cr = False
        # the beginning of the latest line that is none of an event, such as a page of a gateway
        self.stray = b""
        self._restart()
        # True at first, so that the first bytes are checked for a BOM
        self._open = True

    def _restart(self) -> None:
        # an event or a line has begun and is not complete
        self._open = False
        self._in_comment = False
        # the incomplete line; it is appended to and never searched, so that a line in single bytes costs linear time
        self._rest = bytearray()
        self._name = ""
        # the name when the first line of data came
        self._data_name = ""
        self._data: list[bytes] = []
        self._size = 0

    def feed(self, chunk: bytes) -> list[ServerSentEvent]:
        """Take the next bytes; return the events that they complete."""
        # most reads hold whole events, which need no parsing by line; a chunk that begins with a BOM fails the test below
        fresh = not self._open or self._head == b""
        if fresh and chunk.startswith((b"data: ", b"event: ")) and b"\r" not in chunk:
            self._head, self._open, self._after_cr = None, False, False
            events = self._whole(chunk)
        else:
            events = self._general(chunk)
        self._count += len(events)
        if self._count > self._max_events:
            raise _over(f"more than {self._max_events} events")
        return events

    def flush(self) -> ServerSentEvent | None:
        """End the body; return the incomplete last event if it has data. The caller decides whether that event counts.

        There may be more, without a blank line between them: call it until it returns None.
        """
        events: list[ServerSentEvent] = []
        self._lines(b"\n", events)
        if not events:
            # ends the event, if the first line end has ended its last line
            self._lines(b"\n", events)
        if not events:
            self._restart()
        return events[0] if events else None

    def _whole(self, chunk: bytes) -> list[ServerSentEvent]:
        """Decode LF-only bytes that begin a new event; in one call where each event is one line of data, named or not."""
        events: list[ServerSentEvent] = []
        rest = chunk
        if len(chunk) <= self._max_line:
            if chunk.startswith(b"data: ") and chunk.endswith(b"\n\n"):
                lines = chunk[6:-2].split(b"\n\ndata: ")
                # searching the joined lines is cheaper than counting the line ends of the chunk
                if b"\n" not in b"".join(lines):
                    return [ServerSentEvent("message", data) for data in lines]
            matches = _NAMED(chunk)
            rest = matches.pop()[2] if matches[-1][2] else b""
            events += [ServerSentEvent(_name(name), data) for name, data, _ in matches]
        if rest:
            self._blocks(rest, events)
        return events

    def _general(self, chunk: bytes) -> list[ServerSentEvent]:
        if self._head is not None:
            chunk = self._strip_bom(chunk, self._head)
        if not chunk:
            return []
        if self._after_cr:
            self._after_cr = False
            if chunk[0] == _LF:
                chunk = chunk[1:]
        if b"\r" in chunk:
            self._after_cr = chunk.endswith(b"\r")
            chunk = chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        events: list[ServerSentEvent] = []
        if self._open:
            # a blank line completes the open event: parse by line up to the first one, by whole events after it
            cut = chunk.find(b"\n\n") + 2
            if cut == 1:
                cut = len(chunk)
            self._lines(chunk[:cut], events)
            chunk = chunk[cut:]
        if chunk:
            self._blocks(chunk, events)
        return events

    def _strip_bom(self, chunk: bytes, head: bytes) -> bytes:
        chunk = head + chunk
        if len(chunk) < len(_BOM) and _BOM.startswith(chunk):
            self._head = chunk
            return b""
        self._head = None
        return chunk.removeprefix(_BOM)

    def _blocks(self, chunk: bytes, events: list[ServerSentEvent]) -> None:
        """Decode LF-only bytes that begin a new event; the two usual shapes of an event need no parsing by line."""
        blocks = chunk.split(b"\n\n")
        tail = blocks.pop()
        limit = self._max_line
        for block in blocks:
            if len(block) <= limit:
                if block.startswith(b"data: "):
                    if b"\n" not in block:
                        events.append(ServerSentEvent("message", block[6:]))
                        continue
                elif block.startswith(b"event: "):
                    name, _, data = block.partition(b"\n")
                    if data.startswith(b"data: ") and b"\n" not in data:
                        events.append(ServerSentEvent(_name(name[7:]), data[6:]))
                        continue
            self._lines(block + b"\n\n", events)
        if tail:
            self._lines(tail, events)

    def _lines(self, chunk: bytes, events: list[ServerSentEvent]) -> None:
        """Decode LF-only bytes line by line."""
        lines = chunk.split(b"\n")
        tail = lines.pop()
        if lines and self._in_comment:
            self._in_comment = False
            del lines[0]
        elif lines and self._rest:
            lines[0] = bytes(self._rest) + lines[0]
            self._rest.clear()
        for line in lines:
            if line:
                self._field(line, events)
            else:
                self._dispatch(events)
        if tail and not self._in_comment:
            if not self._rest and tail[0] == _COLON:
                self._in_comment = True
            else:
                self._rest += tail
                self._check(len(self._rest))
        self._open = bool(self._rest or self._data or self._name or self._in_comment)

    def _field(self, line: bytes, events: list[ServerSentEvent]) -> None:
        if line[0] == _COLON:
            return
        self._check(len(line))
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            if self._data and (_OBJECT(value) or value == b"[DONE]") and self._data[-1].rstrip().endswith(b"}"):
                # no JSON goes on like that: a server that ends its events with one line end
                events.append(ServerSentEvent(self._data_name or "message", b"\n".join(self._data)))
                self._data, self._size = [], 0
            if not self._data:
                self._data_name = self._name
            self._size += len(value) + bool(self._data)
            self._check(self._size)
            self._data.append(value)
        elif name == b"event":
            self._name = str(value, "utf-8", "replace")
        elif name == b"error" and value:
            events.append(ServerSentEvent("error", value))
        elif line[0] == _BRACE and _ERROR(line):
            events.append(ServerSentEvent("error", line))
        elif _OBJECT(line) and line.rstrip().endswith(b"}"):
            # a chunk without its field
            events.append(ServerSentEvent("message", line))
        elif name not in (b"id", b"retry"):
            self.stray = bytes(line[:_STRAY])

    def _dispatch(self, events: list[ServerSentEvent]) -> None:
        if self._data:
            events.append(ServerSentEvent(self._name or "message", b"\n".join(self._data)))
            self._data = []
            self._size = 0
        self._name = ""

    def _check(self, size: int) -> None:
        if size > self._max_line:
            raise _over(f"a line or an event of more than {self._max_line} bytes")


@lru_cache(maxsize=64)
def _name(name: bytes) -> str:
    """Decode the name of an event. Cached, because a stream repeats a few names."""
    return str(name, "utf-8", "replace") or "message"


def _over(what: str) -> StreamError:
    return StreamError(f"the answer holds {what}", code="size_cap", verdict="fail")
