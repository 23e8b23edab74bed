"""Reads a prompt file with one JSON object per line, plain or gzip.

The file is read lazily, in bounded memory, up to the size it had at the start. A broken line becomes a Row with a fault and never
raises; UsageError is raised only for a file that cannot be read at all.
"""

import stat
from collections.abc import Callable, Generator, Iterable
from pathlib import Path
from typing import IO, Any

import msgspec

from runner.errors import UsageError
from runner.inputs import shape
from runner.inputs.broken_lines import own_id, reason, without_nan
from runner.inputs.compression import open_compressed
from runner.model import Row

LINE_BYTES = 64 * 1024 * 1024
"""Longest line that is read; a longer one is a broken row."""

DEPTH = 200
"""Deepest nesting of lists and objects: far below what Python can encode on a deep stack."""

RAW_BYTES = 64 * 1024
"""Bytes of a broken line that its Row keeps."""

_BUFFER = 1024 * 1024
_LONGEST_HEAD = 16 * 1024 * 1024
"""Bytes of a first line, at most, by which the shape of a file is recognised: one with images may have millions."""
_BOM = shape.BOM
_TOO_DEEP = "nested too deeply"

_decode = msgspec.json.Decoder(dict[str, Any]).decode


def read(path: Path, *, limit_bytes: int | None = None) -> Generator[Row, None, None]:
    """Read the rows of a file. Lines are numbered from 1; blank lines are counted but yield no row.

    Anything appended after this call is not read. ``limit_bytes``, counted in the file on disk, can end the reading earlier, so
    that a second reading sees the same bytes as the first. A last line without a line end is a row, unless another process is
    still writing it. A broken row keeps at most the first 64 KiB of its line, and its id if that can be read. NaN and the
    infinities are read as null.

    Raises UsageError immediately if the file cannot be read or its first bytes show that it does not hold JSON lines, and during
    iteration if gzip data is cut off or damaged.
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
            yield _mended(number, line)
            continue
        # For an ordinary row, counting brackets is the whole cost of this check.
        if line.count(b"[") + line.count(b"{") > DEPTH and _is_deeper(fields, DEPTH):
            yield _broken(number, line, _TOO_DEEP)
            continue
        yield Row(line=number, fields=fields, size=len(line))


def _mended(number: int, line: bytes) -> Row:
    """Return the row of a line that the decoder refused: NaN and the infinities become null, anything else is a fault."""
    mended, nulls = without_nan(line)
    if nulls:
        try:
            fields = _decode(mended)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            pass
        else:
            deep = _is_deeper(fields, DEPTH)
            return _broken(number, line, _TOO_DEEP) if deep else Row(line=number, fields=fields, nulls=nulls, size=len(line))
    return _broken(number, line, reason(_without_end(mended)))


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
    own = own_id(line)
    fields = {"id": own} if own is not None else None
    return Row(line=number, fields=fields, fault=fault, raw=_without_end(line)[:RAW_BYTES], size=len(line))


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
            return status.st_size, _head(file)
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error


def _head(file: IO[bytes]) -> bytes:
    """Return the first bytes of a file, to the end of its first line that is not blank if that is not too long."""
    head = file.read(shape.HEAD_BYTES)
    while len(head) < _LONGEST_HEAD and b"\n" not in head.removeprefix(_BOM).lstrip() and (more := file.read(shape.HEAD_BYTES)):
        # of blanks nothing is kept
        head = (head if head.strip() else b"") + more
    return head


def _unreadable(path: Path, error: OSError | ValueError) -> UsageError:
    if isinstance(error, FileNotFoundError):
        return UsageError(f"there is no prompt file {path}")
    if isinstance(error, PermissionError):
        return UsageError(f"no permission to read the prompt file {path}")
    return UsageError(f"cannot read the prompt file {path}: {getattr(error, 'strerror', None) or error}")


def _refuse_other_formats(path: Path, head: bytes) -> None:
    wrong = shape.refusal(head)
    if wrong is not None:
        raise UsageError(f"{path} {wrong}")
