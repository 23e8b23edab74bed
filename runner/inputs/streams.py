"""Reads what can be read only once: standard input, a named pipe, a terminal."""

import os
import select
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from io import BufferedReader
from pathlib import Path
from typing import IO

from runner.errors import UsageError

_BLOCK = 1 << 20
"""Bytes that are read at once."""
_LOOK_MS = 250
"""How often ``waits`` is called while nothing comes, in milliseconds."""


def blocks(source: Path | None, name: str, waits: Callable[[], None] | None = None) -> Iterator[bytes]:
    """Yield what a stream holds. source: None is standard input. name: what the user calls it, for messages.

    waits: called again and again while nothing comes; what it raises ends the reading. Nothing can be called while a pipe waits
    for the first program that writes to it, and on Windows. Raises UsageError if it cannot be read.
    """
    with _opened(source, name) as file:
        try:
            while block := file.read(_BLOCK) if waits is None else _next(file, waits):
                yield block
        except OSError as error:
            raise UsageError(f"{name} cannot be read: {error.strerror or error}") from error


@contextmanager
def _opened(source: Path | None, name: str) -> Iterator[IO[bytes]]:
    if source is not None:
        try:
            file = source.open("rb")
        except OSError as error:
            raise UsageError(f"{name} cannot be read: {error.strerror or error}") from error
        with file:
            _refuse_endless(file, name)
            yield file
        return
    stream: IO[bytes] | None = getattr(sys.stdin, "buffer", None)
    if stream is None:
        raise UsageError("there is no standard input to read; name a file instead")
    _refuse_endless(stream, name)
    yield stream


def _refuse_endless(file: IO[bytes], name: str) -> None:
    """Raise UsageError for a device such as /dev/zero, which may never end. A terminal ends with Ctrl-D."""
    with suppress(OSError, ValueError):
        status = os.fstat(file.fileno())
        if stat.S_ISCHR(status.st_mode) and not file.isatty() and status.st_rdev != Path(os.devnull).stat().st_rdev:
            raise UsageError(f"{name} is a device, which may never end; name a file, or pipe the prompts in")


def _next(file: IO[bytes], waits: Callable[[], None]) -> bytes:
    """Return what comes next; nothing at the end. What Python has read ahead is returned with it, since the end comes too."""
    if sys.platform == "win32" or not isinstance(file, BufferedReader):
        return file.read(_BLOCK)
    some = select.poll()
    some.register(file, select.POLLIN)
    while not some.poll(_LOOK_MS):
        waits()
    return file.read1(_BLOCK)
