"""A prompt file as bytes: plain, or gzip by its first bytes, and no further than a size."""

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


class _First(io.RawIOBase):
    """The first bytes of a file, as if it had no more."""

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
    """Open the first ``size`` bytes of a file, unpacked where they are gzip; tell whether they were.

    Raises UsageError, also while it is read, for gzip that is cut off or damaged; OSError for a file that cannot be read.
    """
    with ExitStack() as stack:
        file = stack.enter_context(path.open("rb", buffering=0))
        plain = stack.enter_context(io.BufferedReader(_First(file, size), _BUFFER))
        if plain.peek(2)[:2] != _GZIP:
            yield plain, False
            return
        try:
            yield stack.enter_context(io.BufferedReader(gzip.GzipFile(fileobj=plain), _BUFFER)), True
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise UsageError(f"{path} is cut off or damaged: gzip says {str(error).rstrip('.')!r}") from error


def bare(path: Path) -> Path:
    """Take the ending of a packed file off its name: what is left ends as its content does."""
    return path.with_suffix("") if path.suffix.lower() == ".gz" else path
