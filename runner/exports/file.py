"""The output of an export: standard output, or a file that appears under its name only when it is complete."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from secrets import token_hex
from typing import IO

from runner.errors import StoreError, UsageError


@contextmanager
def open_output(output: str | Path) -> Iterator[IO[str]]:
    """Open an output for writing; ``-`` is standard output.

    Raises UsageError, before anything is written, if the output is a folder or its folder is missing.
    Raises StoreError if a write fails.
    """
    if str(output) == "-":
        sys.stdout.reconfigure(encoding="utf-8", newline="")  # type: ignore[union-attr]
        try:
            yield sys.stdout
            sys.stdout.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            raise StoreError(f"standard output cannot be written: {error.strerror or error}") from error
        return
    # A symbolic link is resolved, so that its target is replaced and not the link.
    path = Path(output).resolve()
    if path.is_dir() or not path.parent.is_dir():
        raise UsageError(f"{output} cannot be written: {'it is a folder' if path.is_dir() else 'its folder does not exist'}")
    try:
        if path.exists() and not path.is_file():
            with path.open("w", encoding="utf-8", newline="") as file:
                yield file
            return
        with _complete_or_absent(path) as file:
            yield file
    except OSError as error:
        raise StoreError(f"{output} cannot be written: {error.strerror or error}") from error


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
