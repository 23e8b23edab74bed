"""A prompt file with one JSON object per line, plain or gzip.

Read lazily, in bounded memory, up to the size the file had at the start. One rule: a broken line is a Row with
a fault, never an exception; only a file that cannot be read at all is a UsageError.
"""

import re
import stat
from collections.abc import Callable, Generator, Iterable
from pathlib import Path
from typing import IO, Any

import msgspec

from runner.errors import UsageError
from runner.inputs.compression import open_compressed
from runner.model import Row

LINE_BYTES = 64 * 1024 * 1024
"""A longer line is a fault."""

DEPTH = 200
"""Lists and objects within each other, at most: far below what Python can still encode on a deep stack."""

RAW_BYTES = 64 * 1024
"""How much of a broken line a Row keeps."""

_BUFFER = 1024 * 1024
_BOM = b"\xef\xbb\xbf"
_PACKED = {
    b"\x1f\x8b": "gzip inside gzip",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\xfd7zXZ\x00": "xz",
    b"BZh": "bzip2",
    b"PK\x03\x04": "zip",
}
# the UTF-32 mark begins with the UTF-16 one
_WIDE_BOMS = {
    b"\xff\xfe\x00\x00": "UTF-32",
    b"\x00\x00\xfe\xff": "UTF-32",
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
}
# ASCII in two bytes each, without a mark
_WIDE_ASCII = re.compile(rb"(?:[^\0]\0){4}|(?:\0[^\0]){4}")

_decode = msgspec.json.Decoder(dict[str, Any]).decode


def read(path: Path, *, limit_bytes: int | None = None) -> Generator[Row, None, None]:
    """Read the rows of a file, with line numbers from 1; blank lines count but give no row.

    What is appended after this call is not read; ``limit_bytes``, of the file as it lies on the disk, stops earlier still, so
    that a second reading sees what a first one saw. A last line without a line end is a row, unless somebody is still writing
    it. A broken row holds at most the first 64 KiB of its line. Raises UsageError, at once, for a file that cannot be read or is
    not UTF-8 text, and on the way for gzip that is cut off or damaged.
    """
    size, head = _look(path)
    _refuse_other_formats(path, head)
    end = size if limit_bytes is None else min(size, limit_bytes)
    return _rows(path, len(_BOM) if head.startswith(_BOM) else 0, end)


def _rows(path: Path, start: int, end: int) -> Generator[Row, None, None]:
    try:
        with open_compressed(path, end) as (file, packed):
            file.read(start)
            # a last line of which a part only lies before the end is still being written
            yield from _lines(file, lambda: not packed and path.stat().st_size > end)
    except OSError as error:
        raise _unreadable(path, error) from error


def _lines(file: IO[bytes], grows: Callable[[], bool]) -> Generator[Row, None, None]:
    readline = file.readline
    # a line of the full length with its CR LF
    longest = LINE_BYTES + 2
    number = 0
    while line := readline(longest):
        number += 1
        if len(line) > LINE_BYTES and len(_bare(line)) > LINE_BYTES:
            _skip_line(file, line)
            yield _broken(number, line, f"longer than {LINE_BYTES >> 20} MiB")
            continue
        try:
            fields = _decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            # Looked at only now, for blank lines are rare and this would be asked of every row.
            if not line.strip():
                continue
            if not line.endswith(b"\n") and grows():
                return
            yield _broken(number, line, _fault(_bare(line)))
            continue
        # counting brackets is all that an ordinary row pays
        if line.count(b"[") + line.count(b"{") > DEPTH and _deeper(fields, DEPTH):
            yield _broken(number, line, "nested too deeply")
            continue
        yield Row(line=number, fields=fields, size=len(line))


def _deeper(value: object, than: int) -> bool:
    """Tell whether a value is nested deeper; goes level by level, so that no depth can hurt it."""
    level = [value]
    for _ in range(than):
        level = [inner for one in level for inner in _inside(one)]
        if not level:
            return False
    return True


def _inside(value: object) -> Iterable[object]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def _skip_line(file: IO[bytes], line: bytes) -> None:
    """Read on to the end of a line, without keeping it."""
    while line and not line.endswith(b"\n"):
        line = file.readline(_BUFFER)


def _bare(line: bytes) -> bytes:
    return line.removesuffix(b"\n").removesuffix(b"\r")


def _broken(number: int, line: bytes, fault: str) -> Row:
    return Row(line=number, fields=None, fault=fault, raw=_bare(line)[:RAW_BYTES], size=len(line))


# A pair of surrogate escapes, a lone one (the group), or any other escape, so that a backslash is never read twice.
_ESCAPES = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)", re.DOTALL
)
_NOT_A_NUMBER = re.compile(rb"-?(?:NaN|Infinity)", re.IGNORECASE)
_PLACE = re.compile(r" \(byte (\d+)\)$")
_KINDS = {list: "a list", str: "a text", int: "a number", float: "a number", bool: "true or false", type(None): "null"}


def _fault(line: bytes) -> str:
    """Say in one sentence why a line that the decoder refused is not a row."""
    nul = line.find(b"\0")
    if nul >= 0:
        return f"a NUL byte at {_column(line, nul)}"
    try:
        line.decode()
    except UnicodeDecodeError as error:
        return f"not valid UTF-8 at {_column(line, error.start)}"
    for escape in _ESCAPES.finditer(line):
        if escape[1]:
            name = escape[0].decode()
            return f"a lone surrogate escape, {name}, at {_column(line, escape.start())}: half a character"
    try:
        value = msgspec.json.decode(line)
    except RecursionError:
        return "nested too deeply"
    except msgspec.ValidationError:
        return "a number out of range"
    except msgspec.DecodeError as error:
        return f"not JSON: {_reason(line, str(error))}"
    return f"not a JSON object but {_KINDS.get(type(value), 'something else')}"


def _reason(line: bytes, message: str) -> str:
    place = _PLACE.search(message)
    if place is None:
        # msgspec has one such message: the line stops in the middle of a value.
        return "the line ends too early"
    byte = int(place[1])
    reason = message[: place.start()].removeprefix("JSON is malformed: ")
    # For these two msgspec points one byte too far: past what trails, and past the sign of -Infinity.
    if reason == "trailing characters" or line[byte - 1 : byte] == b"-":
        byte -= 1
    if word := _NOT_A_NUMBER.match(line, byte):
        reason = f"{word[0].decode()} is no number"
    return f"{reason} at {_column(line, byte)}"


def _column(line: bytes, byte: int) -> str:
    return f"column {len(line[:byte].decode(errors='replace')) + 1}"


def _look(path: Path) -> tuple[int, bytes]:
    try:
        found = path.stat()
        if stat.S_ISDIR(found.st_mode):
            raise UsageError(f"{path} is a folder, not a prompt file")
        # asked before opening, which would wait for ever for the other end of a pipe
        if not stat.S_ISREG(found.st_mode):
            words = "is not a regular file; a run must be able to read it again, so save it as one first"
            raise UsageError(f"{path} {words}, or pipe it in: runner run -")
        with open_compressed(path, found.st_size) as (file, _):
            return found.st_size, file.read(8)
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError | ValueError) -> UsageError:
    if isinstance(error, FileNotFoundError):
        return UsageError(f"there is no prompt file {path}")
    if isinstance(error, PermissionError):
        return UsageError(f"no permission to read the prompt file {path}")
    return UsageError(f"cannot read the prompt file {path}: {getattr(error, 'strerror', None) or error}")


def _refuse_other_formats(path: Path, head: bytes) -> None:
    packed = next((name for mark, name in _PACKED.items() if head.startswith(mark)), None)
    if packed is not None:
        raise UsageError(f"{path} is compressed ({packed}), which is not supported: unpack it first, or pack it with gzip")
    wide = next((name for mark, name in _WIDE_BOMS.items() if head.startswith(mark)), None)
    if wide is None and _WIDE_ASCII.match(head):
        wide = "UTF-16"
    if wide is not None:
        raise UsageError(f"{path} is {wide} text, not UTF-8: convert it first, e.g. with iconv -f {wide} -t UTF-8")
