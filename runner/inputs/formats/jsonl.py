"""Reads a prompt file with one JSON object per line.

The file is read lazily, in bounded memory, up to the size it had at the start. A broken line becomes a Row with a fault and never
raises; UsageError is raised only for a file that cannot be read at all.
"""

from collections.abc import Generator
from pathlib import Path

from runner.errors import UsageError
from runner.inputs import recognition
from runner.inputs.compression import open_compressed
from runner.inputs.encoding import open_content
from runner.inputs.files import explained, size_and_head
from runner.inputs.json_rows import ROW_BYTES, UNREADABLE, decode, lines_of
from runner.model import Row

_BUFFER = 1024 * 1024
_BOM = recognition.BOM


def read(path: Path, *, limit_bytes: int | None = None) -> Generator[Row, None, None]:
    """Read the rows of a file. Lines are numbered from 1; blank lines are counted but yield no row.

    Anything appended after this call is not read. ``limit_bytes``, counted in the file on disk, can end the reading earlier, so
    that a second reading sees the same bytes as the first. A last line without a line end is a row, unless another process is
    still writing it. A broken row keeps at most the first 64 KiB of its line, and its id if that can be read. NaN and the
    infinities are read as null.

    Raises UsageError immediately if the file cannot be read or its first bytes show that it does not hold JSON lines, and during
    iteration if compressed data is cut off or damaged.
    """
    size, head = size_and_head(path)
    _refuse_other_formats(path, head)
    end = size if limit_bytes is None else min(size, limit_bytes)
    return _rows(path, len(_BOM) if head.startswith(_BOM) else 0, end)


def read_behind(path: Path, *, limit_bytes: int, offset: int, lines: int) -> Generator[Row, None, None] | None:
    """Read the rows behind the first ``offset`` bytes of the content, which hold so many whole lines, as ``read`` does.

    Returns None if the file does not begin with a JSON object in its first line: then it may have to be read in another way.
    """
    _refuse_other_formats(path, size_and_head(path)[1])
    with explained(path), open_compressed(path, limit_bytes) as (file, _):
        first = file.readline(ROW_BYTES).removeprefix(_BOM)
    try:
        decode(first)
    except UNREADABLE:
        return None
    return _rows(path, offset, limit_bytes, lines)


def _rows(path: Path, start: int, end: int, lines: int = 0) -> Generator[Row, None, None]:
    """Read rows behind the first ``start`` bytes of the content. lines: how many there are before them."""
    with explained(path), open_content(path, end) as (file, compressed):
        while start and (skipped := file.read(min(start, _BUFFER))):
            start -= len(skipped)
        # If the file has grown past ``end``, its last line up to there is still being written.
        yield from lines_of(file, lambda: not compressed and path.stat().st_size > end, lines)


def _refuse_other_formats(path: Path, head: bytes) -> None:
    wrong = recognition.not_json_lines(head)
    if wrong is not None:
        raise UsageError(f"{path} {wrong}")
