"""Reads JSON that is not one object per line: an array of objects or texts, or objects one after the other, however spaced.

The file is read lazily and in bounded memory: its values are found by their brackets, and decoded one by one.
"""

import re
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import IO

import msgspec
from msgspec import structs

from runner.errors import UsageError
from runner.inputs import recognition
from runner.inputs.encoding import open_content
from runner.inputs.files import explained, size_and_head
from runner.inputs.json_rows import ROW_BYTES, TOO_LONG, UNREADABLE, broken, checked, decode, mended
from runner.model import Row

PLACE = "row"
_BLOCK = 1 << 20
_KEPT = 1 << 16
# white space and byte order marks
_BLANK = b" \t\r\n\f\v\x00" + recognition.BOM
# a text; a bracket or a comma; or a quotation mark whose text goes on behind the block
_TOKEN = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[\[\]{},"]', re.DOTALL)


def read(path: Path, *, limit_bytes: int | None = None) -> Generator[Row, None, None]:
    """Read the rows of a file. A row's line is its number, since several may be on one line; a text is a prompt.

    Raises UsageError immediately if the file cannot be read, and during iteration if compressed data is cut off or damaged.
    """
    size, head = size_and_head(path)
    found = recognition.look(head)
    if found.instead is not None:
        raise UsageError(f"{path} {found.instead}")
    return _rows(path, size if limit_bytes is None else min(size, limit_bytes))


def _rows(path: Path, end: int) -> Generator[Row, None, None]:
    with explained(path), open_content(path, end) as (file, compressed):
        values, number = _Values(file), 0
        for number, (line, data) in enumerate(values.found(), 1):
            yield _placed(_row(number, data), line)
        if values.unfinished is not None and not (not compressed and path.stat().st_size > end):
            line, data, why = values.unfinished
            yield _placed(broken(number + 1, data, why), line)


def _placed(row: Row, line: int) -> Row:
    """Return a row with what its number counts. The fault of a broken one tells on which line it begins, too."""
    fault = f"{row.fault} (line {line} of the file)" if row.fault is not None and line > 1 else row.fault
    return structs.replace(row, place=PLACE, fault=fault)


def _row(line: int, data: bytes) -> Row:
    if len(data) > ROW_BYTES:
        return broken(line, data, TOO_LONG)
    try:
        return checked(line, data, decode(data))
    except UNREADABLE:
        pass
    try:
        return Row(line=line, fields={"prompt": msgspec.json.decode(data, type=str)}, size=len(data))
    except UNREADABLE:
        return mended(line, data)


class _Values:
    """The values of a file: the elements of its arrays, and the objects beside them.

    unfinished: at the end, the line, bytes and fault of what is not closed; None if all is.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        # what is read and not done with: how far it is scanned, where the present value begins, and on which line
        self._data = b""
        self._at = self._begin = 0
        self._line = 1
        # brackets that are open, and whether the outermost is that of an array of rows
        self._depth, self._in_array = 0, False
        # the present value is too long, and has been told
        self._skipping = False
        self.unfinished: tuple[int, bytes, str] | None = None

    def found(self) -> Iterator[tuple[int, bytes]]:
        """Yield the line and the bytes of each value. One that is longer than a row may be comes in part."""
        size = _BLOCK
        while block := self._file.read(size):
            self._data += block
            yield from self._scan()
            self._drop(self._begin)
            if len(self._data) > ROW_BYTES:
                if len(self._data) - self._at > ROW_BYTES:
                    self.unfinished = self._line, self._data[:_KEPT], "a text that is not closed; nothing behind it can be read"
                    return
                if not self._skipping:
                    yield self._line, self._data
                self._skipping = True
                self._drop(self._at)
            # so that a long value is not copied again and again
            size = max(_BLOCK, len(self._data))
        rest = self._value(len(self._data))
        if rest is not None and not self._skipping:
            self.unfinished = *rest, "the file ends in the middle of this value"
        elif self._in_array:
            self.unfinished = self._line, b"", "the file ends before its array does"

    def _scan(self) -> Iterator[tuple[int, bytes]]:
        for match in _TOKEN.finditer(self._data, self._at):
            token = match[0]
            if token == b'"':
                # its text goes on in the next block
                self._at = match.start()
                return
            self._at = match.end()
            if token == b"[" and not self._depth:
                self._in_array = True
                yield from self._ended(match.start())
                self._depth = 1
            elif token in (b"[", b"{"):
                self._depth += 1
            elif token in (b"]", b"}"):
                self._depth -= self._depth > 0
                if self._in_array and not self._depth:
                    yield from self._ended(match.start())
                    self._in_array = False
                elif not self._depth:
                    yield from self._ended(match.end())
            elif token == b"," and self._depth == self._in_array:
                yield from self._ended(match.start())
        self._at = max(self._at, len(self._data))

    def _ended(self, end: int) -> Iterator[tuple[int, bytes]]:
        """Yield the value that ends here, if there is one, and begin the next one behind the present token."""
        value = self._value(end)
        if value is not None and not self._skipping:
            yield value
        self._skipping = False
        self._line += self._data.count(b"\n", self._begin, self._at)
        self._begin = self._at

    def _value(self, end: int) -> tuple[int, bytes] | None:
        """Return the line and the bytes of what lies between the last value and ``end``; None if that is nothing."""
        between = self._data[self._begin : end]
        value = between.lstrip(_BLANK)
        return (self._line + between.count(b"\n", 0, len(between) - len(value)), value.rstrip()) if value else None

    def _drop(self, before: int) -> None:
        """Forget what lies before a place in the data."""
        self._line += self._data.count(b"\n", self._begin, before)
        self._data, self._at, self._begin = self._data[before:], self._at - before, 0
