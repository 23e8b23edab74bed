"""Reads a prompt file as bytes: plain or gzip, told apart by the first bytes, and up to a given size."""

import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

from runner.errors import UsageError

_BUFFER = 1 << 20
_GZIP = b"\x1f\x8b"


class _Head(io.RawIOBase):
    """The first ``size`` bytes of a file, as if the file ended there."""

    def __init__(self, file: io.FileIO, size: int) -> None:
        self._file, self._left = file, size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        count = self._file.readinto(memoryview(buffer)[: self._left])
        self._left -= count
        return count


@contextmanager
def open_compressed(path: Path, size: int) -> Iterator[tuple[IO[bytes], bool]]:
    """Open the first ``size`` bytes of a file, and decompress them if they are gzip; yield the stream and whether they are.

    Raises UsageError, also during reading, if the gzip data is cut off or damaged; OSError if the file cannot be read.
    """
    with ExitStack() as stack:
        file = stack.enter_context(path.open("rb", buffering=0))
        plain = stack.enter_context(io.BufferedReader(_Head(file, size), _BUFFER))
        if plain.peek(2)[:2] != _GZIP:
            yield plain, False
            return
        try:
            yield stack.enter_context(io.BufferedReader(gzip.GzipFile(fileobj=plain), _BUFFER)), True
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            why = str(error).rstrip(".")
            raise UsageError(f"{path} is cut off or damaged (gzip: {why}); make the file again, or copy it again") from error


def without_gz(path: Path) -> Path:
    """Return the path without a ``.gz`` ending, so that its suffix names the format of the content."""
    return path.with_suffix("") if path.suffix.lower() == ".gz" else path
