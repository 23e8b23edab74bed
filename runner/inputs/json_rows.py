"""Makes the row of a JSON object, or of what should be one; and of each line of a stream that holds one in each line."""

from collections.abc import Callable, Generator, Iterable
from typing import IO, Any

import msgspec

from runner.inputs.broken_lines import own_id, reason, without_nan
from runner.model import Row

ROW_BYTES = 64 * 1024 * 1024
"""Longest row that is read; a longer one is a broken row."""

DEPTH = 200
"""Deepest nesting of lists and objects: far below what Python can encode on a deep stack."""

RAW_BYTES = 64 * 1024
"""Bytes of a broken row that its Row keeps."""

_BUFFER = 1024 * 1024
TOO_LONG = f"longer than {ROW_BYTES >> 20} MiB"
_TOO_DEEP = "nested too deeply"

UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What ``decode`` raises for anything but an object."""

decode = msgspec.json.Decoder(dict[str, Any]).decode


def lines_of(file: IO[bytes], grows: Callable[[], bool], number: int = 0) -> Generator[Row, None, None]:
    """Read the lines of a file. grows: returns True if it has grown since. number: how many lines there are before them."""
    readline = file.readline
    # the longest line with its CR LF
    longest = ROW_BYTES + 2
    while line := readline(longest):
        number += 1
        if len(line) > ROW_BYTES and len(without_end(line)) > ROW_BYTES:
            _skip_line(file, line)
            yield broken(number, line, TOO_LONG)
            continue
        try:
            fields = decode(line)
        except UNREADABLE:
            # Blank lines are rare, so testing for them only here spares every other row the test.
            if not line.strip():
                continue
            if not line.endswith(b"\n") and grows():
                return
            yield mended(number, line)
            continue
        # most rows have no bracket but their first one, and to find none is ten times as quick as to count them
        if (line.find(b"{", 1) > 0 or b"[" in line) and line.count(b"[") + line.count(b"{") > DEPTH:
            yield checked(number, line, fields)
            continue
        yield Row(line=number, fields=fields, size=len(line))


def _skip_line(file: IO[bytes], line: bytes) -> None:
    """Read to the end of a line and discard it."""
    while line and not line.endswith(b"\n"):
        line = file.readline(_BUFFER)


def checked(number: int, data: bytes, fields: dict[str, Any]) -> Row:
    """Return the row of a decoded object, which may be nested too deeply. data: the bytes that it was decoded from."""
    if data.count(b"[") + data.count(b"{") > DEPTH and is_deeper(fields, DEPTH):
        return broken(number, data, _TOO_DEEP)
    return Row(line=number, fields=fields, size=len(data))


def mended(number: int, data: bytes) -> Row:
    """Return the row of data that ``decode`` refused: NaN and the infinities become null, anything else is a fault."""
    without, nulls = without_nan(data)
    if nulls:
        try:
            fields = decode(without)
        except UNREADABLE:
            pass
        else:
            deep = is_deeper(fields, DEPTH)
            return broken(number, data, _TOO_DEEP) if deep else Row(line=number, fields=fields, nulls=nulls, size=len(data))
    return broken(number, data, reason(without_end(without)))


def broken(number: int, data: bytes, fault: str) -> Row:
    """Return the row of data that is none, with its id if that can be read."""
    own = own_id(data)
    fields = {"id": own} if own is not None else None
    return Row(line=number, fields=fields, fault=fault, raw=without_end(data)[:RAW_BYTES], size=len(data))


def without_end(line: bytes) -> bytes:
    """Return a line without its line end."""
    return line.removesuffix(b"\n").removesuffix(b"\r")


def is_deeper(value: object, limit: int) -> bool:
    """Return True if a value is nested deeper than ``limit``. Goes level by level, because recursion could overflow the stack."""
    level = [value]
    for _ in range(limit):
        level = [child for parent in level for child in _children(parent)]
        if not level:
            return False
    return True


def _children(value: object) -> Iterable[object]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()
