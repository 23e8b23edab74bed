"""The output of an export: standard output, or a file that appears under its name only when it is complete."""

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any, Literal, TypeAlias

from runner.errors import StoreError, UsageError
from runner.exports import remains

Form: TypeAlias = Literal["text", "bytes", "path"]
"""What a format writes to: a text file, a file of bytes, or a file that it opens itself by its path."""

_OPEN_FILES = ("/dev/fd/", "/dev/stderr", "/proc/self/fd/")
_STDOUT = ("/dev/stdout", "/dev/fd/1", "/proc/self/fd/1")


@contextmanager
def open_output(output: str | Path, form: Form = "text") -> Iterator[Any]:
    """Open an output for writing, as a format wants it; ``-`` and ``/dev/stdout`` are standard output.

    Raises UsageError, before anything is written, if the output is a folder or its folder is missing.
    Raises StoreError if a write fails.
    """
    if is_standard_output(output):
        try:
            with _standard_output(form) as out:
                yield out
            sys.stdout.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            raise StoreError(f"standard output cannot be written: {error.strerror or error}") from error
        return
    refuse(output)
    # A symbolic link is resolved, so that its target is replaced and not the link. What it leads to need not have a name: a pipe.
    path = Path(output) if is_special(Path(output)) else Path(output).resolve()
    try:
        if is_special(path):
            with _opened(path, form) as file, _passed_on(file, form) as out:
                yield out
            return
        with _complete_or_absent(path, form) as out:
            yield out
    except OSError as error:
        raise StoreError(f"{output} cannot be written: {error.strerror or error}") from error


def refuse(output: str | Path) -> None:
    """Raise UsageError for an output that is a folder, or whose folder is missing."""
    path = Path(output) if is_special(Path(output)) else Path(output).resolve()
    if path.is_dir() or not path.parent.is_dir():
        raise UsageError(f"{output} cannot be written: {'it is a folder' if path.is_dir() else 'its folder does not exist'}")


def is_standard_output(output: str | Path) -> bool:
    """Return True for ``-`` and for the names that the system gives to standard output."""
    return str(output) in ("-", *_STDOUT)


def is_special(path: Path) -> bool:
    """Tell whether a path is something that is written to in place: a device, a pipe, an open file by its number."""
    return path.exists() and (not path.is_file() or str(path.absolute()).startswith(_OPEN_FILES))


@contextmanager
def _standard_output(form: Form) -> Iterator[Any]:
    if form == "text":
        sys.stdout.reconfigure(encoding="utf-8", newline="")  # type: ignore[union-attr]
        yield sys.stdout
        return
    if sys.stdout.isatty():
        raise UsageError("this format is not for a terminal; name a file with --output, or send standard output elsewhere")
    sys.stdout.flush()
    with _passed_on(sys.stdout.buffer, form) as out:
        yield out


@contextmanager
def _passed_on(file: IO[Any], form: Form) -> Iterator[Any]:
    """Yield what a format writes to; a file that it opens itself is copied to ``file`` when it is complete."""
    if form != "path":
        yield file
        return
    with TemporaryDirectory(prefix="runner-export-") as folder:
        path = Path(folder) / "export"
        yield path
        with path.open("rb") as made:
            shutil.copyfileobj(made, file)


def _opened(file: Path | int, form: Form) -> IO[Any]:
    if form == "text":
        return open(file, "w", encoding="utf-8", newline="")  # noqa: PTH123 - an open file by its number, too
    return open(file, "wb")  # noqa: PTH123 - as above


@contextmanager
def _complete_or_absent(path: Path, form: Form) -> Iterator[Any]:
    remains.remove(path.parent)
    # The name is known before the file is there, so that whatever ends the export, a signal included, removes the file.
    unfinished = path.with_name(remains.name())
    try:
        # mode 0600: an export is private
        handle = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with _opened(handle, form) as file:
            remains.hold(file.fileno())
            yield unfinished if form == "path" else file
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    except BaseException:
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)
        raise
