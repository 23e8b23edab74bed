"""The output of an export: standard output, or a file that appears under its name only when it is complete."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from secrets import token_hex
from typing import IO

from runner.errors import StoreError, UsageError

_OPEN_FILES = ("/dev/fd/", "/dev/stderr", "/proc/self/fd/")
_STDOUT = ("/dev/stdout", "/dev/fd/1", "/proc/self/fd/1")


@contextmanager
def open_output(output: str | Path) -> Iterator[IO[str]]:
    """Open an output for writing; ``-`` and ``/dev/stdout`` are standard output.

    Raises UsageError, before anything is written, if the output is a folder or its folder is missing.
    Raises StoreError if a write fails.
    """
    if is_standard_output(output):
        sys.stdout.reconfigure(encoding="utf-8", newline="")  # type: ignore[union-attr]
        try:
            yield sys.stdout
            sys.stdout.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            raise StoreError(f"standard output cannot be written: {error.strerror or error}") from error
        return
    # A symbolic link is resolved, so that its target is replaced and not the link. What it leads to need not have a name: a pipe.
    path = Path(output) if _is_special(Path(output)) else Path(output).resolve()
    if path.is_dir() or not path.parent.is_dir():
        raise UsageError(f"{output} cannot be written: {'it is a folder' if path.is_dir() else 'its folder does not exist'}")
    try:
        if _is_special(path):
            with path.open("w", encoding="utf-8", newline="") as file:
                yield file
            return
        with _complete_or_absent(path) as file:
            yield file
    except OSError as error:
        raise StoreError(f"{output} cannot be written: {error.strerror or error}") from error


def is_standard_output(output: str | Path) -> bool:
    """Return True for ``-`` and for the names that the system gives to standard output."""
    return str(output) in ("-", *_STDOUT)


def _is_special(path: Path) -> bool:
    """Tell whether a path is something that is written to in place: a device, a pipe, an open file by its number."""
    return path.exists() and (not path.is_file() or str(path.absolute()).startswith(_OPEN_FILES))


@contextmanager
def _complete_or_absent(path: Path) -> Iterator[IO[str]]:
    # The name is known before the file is there, so that whatever ends the export, a signal included, removes the file.
    unfinished = path.with_name(f".export-{token_hex(8)}.tmp")
    try:
        # mode 0600: an export is private
        handle = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    except BaseException:
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)
        raise
