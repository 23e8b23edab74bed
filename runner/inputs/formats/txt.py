"""Reads plain text: each line that is not blank is a prompt."""

from collections.abc import Callable, Generator
from pathlib import Path
from typing import IO

from msgspec import structs

from runner.errors import UsageError
from runner.inputs import encoding, recognition
from runner.inputs.encoding import Encoding, open_text
from runner.inputs.files import explained, size_and_head
from runner.inputs.json_rows import RAW_BYTES, ROW_BYTES, TOO_LONG
from runner.inputs.options import ReadOptions
from runner.model import Row

OPTIONS = ("encoding",)


def read(path: Path, *, limit_bytes: int | None = None, options: ReadOptions | None = None) -> Generator[Row, None, None]:
    """Read the rows of a file, lazily. Lines are numbered from 1; blank lines are counted but yield no row.

    Raises UsageError immediately if the file cannot be read or is no text, and during iteration if compressed data is cut off or
    damaged.
    """
    size, head = size_and_head(path)
    wrong = recognition.other_than_text(head)
    if wrong is not None and not wrong.startswith(recognition.MARKUP):
        raise UsageError(f"{path} is no plain text: it {wrong}")
    return _rows(path, size if limit_bytes is None else min(size, limit_bytes), settled(path, options or ReadOptions())[0])


def settled(path: Path, options: ReadOptions, *, most_bytes: int | None = None) -> tuple[ReadOptions, list[str]]:
    """Return the options with the encoding of the file, and what a person should know of how it is read.

    most_bytes: look at the beginning of the file alone.
    """
    with explained(path):
        end = path.stat().st_size if most_bytes is None else most_bytes
        found = encoding.named(options.encoding) if options.encoding else encoding.find(path, end)
    return structs.replace(options, encoding=found.name), encoding.remarks(found)


def _rows(path: Path, end: int, options: ReadOptions) -> Generator[Row, None, None]:
    assert options.encoding is not None
    with explained(path), open_text(path, end, Encoding(options.encoding)) as (text, compressed):
        yield from _lines(text, lambda: not compressed and path.stat().st_size > end)


def _lines(text: IO[str], grows: Callable[[], bool]) -> Generator[Row, None, None]:
    number, readline = 0, text.readline
    while line := readline(ROW_BYTES):
        number += 1
        whole = line[-1] in "\r\n"
        if not whole and len(line) >= ROW_BYTES:
            yield Row(line=number, fields=None, fault=TOO_LONG, raw=line[:RAW_BYTES].encode(errors="replace"), size=len(line))
            while line and line[-1] not in "\r\n":
                line = readline(ROW_BYTES)
        elif not whole and grows():
            # another process is still writing it
            return
        elif prompt := line.rstrip("\r\n").strip("\0"):
            fault = encoding.fault(prompt)
            if fault is not None:
                raw = prompt[:RAW_BYTES].encode(errors="surrogateescape")
                yield Row(line=number, fields=None, fault=fault, raw=raw, size=len(line))
            elif prompt.strip():
                yield Row(line=number, fields={"prompt": prompt}, size=len(line))
