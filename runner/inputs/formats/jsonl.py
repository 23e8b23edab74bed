"""Reads a prompt file with one JSON object per line, plain or gzip.

The file is read lazily, in bounded memory, up to the size it had at the start. A broken line becomes a Row with a fault and never
raises; UsageError is raised only for a file that cannot be read at all.
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
"""Longest line that is read; a longer one is a broken row."""

DEPTH = 200
"""Deepest nesting of lists and objects: far below what Python can encode on a deep stack."""

RAW_BYTES = 64 * 1024
"""Bytes of a broken line that its Row keeps."""

_BUFFER = 1024 * 1024
_BOM = b"\xef\xbb\xbf"
_UNSUPPORTED = {
    b"\x1f\x8b": "gzip inside gzip",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\xfd7zXZ\x00": "xz",
    b"BZh": "bzip2",
    b"PK\x03\x04": "zip",
}
# UTF-32 comes first, because its byte order mark begins with that of UTF-16.
_WIDE_BOMS = {
    b"\xff\xfe\x00\x00": "UTF-32",
    b"\x00\x00\xfe\xff": "UTF-32",
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
}
# ASCII characters in two bytes each, without a byte order mark
_WIDE_ASCII = re.compile(rb"(?:[^\0]\0){4}|(?:\0[^\0]){4}")

_decode = msgspec.json.Decoder(dict[str, Any]).decode


def read(path: Path, *, limit_bytes: int | None = None) -> Generator[Row, None, None]:
    """Read the rows of a file. Lines are numbered from 1; blank lines are counted but yield no row.

    Anything appended after this call is not read. ``limit_bytes``, counted in the file on disk, can end the reading earlier, so
    that a second reading sees the same bytes as the first. A last line without a line end is a row, unless another process is
    still writing it. A broken row keeps at most the first 64 KiB of its line.

    Raises UsageError immediately if the file cannot be read or is not UTF-8 text, and during iteration if gzip data is cut off or
    damaged.
    """
    size, head = _size_and_head(path)
    _refuse_other_formats(path, head)
    end = size if limit_bytes is None else min(size, limit_bytes)
    return _rows(path, len(_BOM) if head.startswith(_BOM) else 0, end)


def read_behind(path: Path, *, limit_bytes: int, offset: int, lines: int) -> Generator[Row, None, None] | None:
    """Read the rows behind the first ``offset`` bytes of the content, which hold so many whole lines, as ``read`` does.

    Returns None if the file does not begin with a JSON object in its first line: then it may have to be read in another way.
    """
    _refuse_other_formats(path, _size_and_head(path)[1])
    try:
        with open_compressed(path, limit_bytes) as (file, _):
            _decode(file.readline(LINE_BYTES).removeprefix(_BOM))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    except OSError as error:
        raise _unreadable(path, error) from error
    return _rows(path, offset, limit_bytes, lines)


def _rows(path: Path, start: int, end: int, lines: int = 0) -> Generator[Row, None, None]:
    """Read rows behind the first ``start`` bytes of the content. lines: how many there are before them."""
    try:
        with open_compressed(path, end) as (file, compressed):
            while start and (skipped := file.read(min(start, _BUFFER))):
                start -= len(skipped)
            # If the file has grown past ``end``, its last line up to there is still being written.
            yield from _lines(file, lambda: not compressed and path.stat().st_size > end, lines)
    except OSError as error:
        raise _unreadable(path, error) from error


def _lines(file: IO[bytes], grows: Callable[[], bool], number: int) -> Generator[Row, None, None]:
    """Read the lines of a file. number: how many lines there are before them."""
    readline = file.readline
    # the longest line with its CR LF
    longest = LINE_BYTES + 2
    while line := readline(longest):
        number += 1
        if len(line) > LINE_BYTES and len(_without_end(line)) > LINE_BYTES:
            _skip_line(file, line)
            yield _broken(number, line, f"longer than {LINE_BYTES >> 20} MiB")
            continue
        try:
            fields = _decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            # Blank lines are rare, so testing for them only here spares every other row the test.
            if not line.strip():
                continue
            if not line.endswith(b"\n") and grows():
                return
            yield _broken(number, line, _fault(_without_end(line)))
            continue
        # For an ordinary row, counting brackets is the whole cost of this check.
        if line.count(b"[") + line.count(b"{") > DEPTH and _is_deeper(fields, DEPTH):
            yield _broken(number, line, "nested too deeply")
            continue
        yield Row(line=number, fields=fields, size=len(line))


def _is_deeper(value: object, limit: int) -> bool:
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


def _skip_line(file: IO[bytes], line: bytes) -> None:
    """Read to the end of a line and discard it."""
    while line and not line.endswith(b"\n"):
        line = file.readline(_BUFFER)


def _without_end(line: bytes) -> bytes:
    return line.removesuffix(b"\n").removesuffix(b"\r")


def _broken(number: int, line: bytes, fault: str) -> Row:
    return Row(line=number, fields=None, fault=fault, raw=_without_end(line)[:RAW_BYTES], size=len(line))


# A pair of surrogate escapes, a lone one (the group), or any other escape. Matching every escape ensures that a backslash is
# never read as part of two escapes.
_ESCAPES = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)", re.DOTALL
)
_NOT_A_NUMBER = re.compile(rb"-?(?:NaN|Infinity)", re.IGNORECASE)
_POSITION = re.compile(r" \(byte (\d+)\)$")
_KINDS = {list: "a list", str: "a string", int: "a number", float: "a number", bool: "true or false", type(None): "null"}


def _fault(line: bytes) -> str:
    """Return why the decoder refused a line, in one phrase."""
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
    position = _POSITION.search(message)
    if position is None:
        # Only one message of msgspec has no position: the line stops in the middle of a value.
        return "the line ends too early"
    byte = int(position[1])
    reason = message[: position.start()].removeprefix("JSON is malformed: ")
    # In these two cases msgspec's position is one byte too high: after trailing characters, and after the sign of -Infinity.
    if reason == "trailing characters" or line[byte - 1 : byte] == b"-":
        byte -= 1
    if match := _NOT_A_NUMBER.match(line, byte):
        reason = f"{match[0].decode()} is not a JSON number"
    return f"{reason} at {_column(line, byte)}"


def _column(line: bytes, byte: int) -> str:
    return f"column {len(line[:byte].decode(errors='replace')) + 1}"


def _size_and_head(path: Path) -> tuple[int, bytes]:
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise UsageError(f"{path} is a folder, not a prompt file")
        # This check comes before opening, which would wait forever for the other end of a pipe.
        if not stat.S_ISREG(status.st_mode):
            reason = "is not a regular file, and a run reads its input more than once"
            raise UsageError(f"{path} {reason}; save it to a file first, or pipe it in: runner run -")
        with open_compressed(path, status.st_size) as (file, _):
            return status.st_size, file.read(8)
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError | ValueError) -> UsageError:
    if isinstance(error, FileNotFoundError):
        return UsageError(f"there is no prompt file {path}")
    if isinstance(error, PermissionError):
        return UsageError(f"no permission to read the prompt file {path}")
    return UsageError(f"cannot read the prompt file {path}: {getattr(error, 'strerror', None) or error}")


def _refuse_other_formats(path: Path, head: bytes) -> None:
    compression = next((name for magic, name in _UNSUPPORTED.items() if head.startswith(magic)), None)
    if compression is not None:
        raise UsageError(f"{path} is compressed ({compression}), which is not supported: unpack it first, or use gzip instead")
    wide = next((name for mark, name in _WIDE_BOMS.items() if head.startswith(mark)), None)
    if wide is None and _WIDE_ASCII.match(head):
        wide = "UTF-16"
    if wide is not None:
        raise UsageError(f"{path} is {wide} text, not UTF-8: convert it first, e.g. with iconv -f {wide} -t UTF-8")
