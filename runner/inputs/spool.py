"""Copies standard input and pipes to a file, because a run reads its input twice, and again when it is resumed."""

import os
import re
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from hashlib import blake2b
from pathlib import Path
from secrets import token_hex
from typing import IO

from runner.errors import StoreError, UsageError

if sys.platform != "win32":
    import fcntl

STDIN = Path("-")
"""The name of standard input as a prompt file."""

MARK = "-stdin-"
"""Part of the name of every copy."""
_COPY = re.compile(re.escape(MARK) + r"[0-9a-f]{16}\.jsonl$")
_BLOCK = 1 << 20


def path_of(file: str | Path) -> Path:
    """Return the path that the user named. ``-`` is standard input and ``./-`` a file; ``Path`` does not tell them apart.

    Raises UsageError if the name is empty.
    """
    if not str(file):
        raise UsageError("the name of the prompt file is empty")
    path = Path(file)
    return path.absolute() if path == STDIN and str(file) != "-" else path


def is_stream(path: Path) -> bool:
    """Return True if a prompt file can be read only once: standard input, a named pipe, a terminal."""
    if path == STDIN:
        return True
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISCHR(mode)


def is_copy(path: Path) -> bool:
    """Return True if a file is a copy of standard input or of a pipe, by its name."""
    return _COPY.search(path.name) is not None


def copy_of(store: Path, name: str) -> Path | None:
    """Return the copy with this name that belongs to a store; None if it is no copy, or that of a store with another name."""
    return store.with_name(name) if name.startswith(store.name) and _COPY.fullmatch(name, len(store.name)) else None


def display_name(path: Path) -> str:
    """Return the name of a prompt file for messages: the user does not know the name of a copy of standard input."""
    return "standard input" if path == STDIN or is_copy(path) else path.name


@contextmanager
def stored_copy(source: Path, store: Path, needed: Callable[[Path], bool]) -> Iterator[Path]:
    """Copy a stream to a file next to the store, and yield the path of the copy. Errors name the source as the user did.

    needed: called at the end; returns True if a run uses the copy. A new copy that no run uses is removed.
    Raises UsageError if the source cannot be read or the folder cannot be written, StoreError if the disk is full.
    """
    _remove_unfinished(store)
    path, new = _copy_beside(source, store)
    try:
        yield path
    except UsageError as error:
        raise UsageError(str(error).replace(str(path), _name(source))) from error
    finally:
        if new and not needed(path):
            path.unlink(missing_ok=True)


@contextmanager
def temporary_copy(source: Path) -> Iterator[Path]:
    """Copy a stream to a temporary file, which is removed at the end. Raises the errors of ``stored_copy``."""
    with tempfile.TemporaryDirectory(prefix="runner-") as folder, stored_copy(source, Path(folder, "runner.db"), bool) as path:
        yield path


def _name(source: Path) -> str:
    return "standard input" if source == STDIN else str(source)


def _copy_beside(source: Path, store: Path) -> tuple[Path, bool]:
    """Copy a stream to a file next to the store, in constant memory; return its path, and True if the file is new.

    The file name contains a hash of the content. The same prompts are therefore the same input, so that repeating a command
    continues its run, and different prompts never overwrite a copy.
    """
    refusal = f"{_name(source)} cannot be saved in {store.parent}"
    # The name is known before the file is there, so that whatever ends the copy, a signal included, removes the file.
    unfinished = store.with_name(f"{store.name}{MARK}{token_hex(8)}.tmp")
    try:
        try:
            file = _create(unfinished)
        except OSError as error:
            raise UsageError(f"{refusal}: {error.strerror}") from error
        with file:
            digest = _copy(source, file)
            file.flush()
            os.fsync(file.fileno())
            path = store.with_name(f"{store.name}{MARK}{digest}.jsonl")
            new = not path.exists()
            # The file stays locked until it has its final name, or another process could remove it as unfinished.
            unfinished.replace(path)
    except OSError as error:
        unfinished.unlink(missing_ok=True)
        raise StoreError(f"{refusal}: {error.strerror or error}") from error
    except BaseException:
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)
        raise
    return path, new


def _create(path: Path) -> IO[bytes]:
    """Create the file of an unfinished copy, readable by its owner alone and locked for as long as it is open."""
    while True:
        file = open(path, "xb", opener=lambda name, flags: os.open(name, flags, 0o600))  # noqa: SIM115 - Path has no opener
        with suppress(OSError):
            _lock(file)
        # Before the lock was taken, another process may have removed the file as a left-over.
        if os.fstat(file.fileno()).st_nlink:
            return file
        file.close()


def _remove_unfinished(store: Path) -> None:
    """Remove the unfinished copies of killed processes."""
    with suppress(OSError):
        for path in store.parent.iterdir():
            if path.name.startswith(f"{store.name}{MARK}") and path.suffix == ".tmp":
                # A file that cannot be opened or removed is left: it does no harm.
                with suppress(OSError), path.open("rb") as file:
                    _lock(file, wait=False)
                    path.unlink()


def _lock(file: IO[bytes], *, wait: bool = True) -> None:
    """Lock an open file. Raises OSError if that fails. Not needed on Windows, where an open file cannot be removed."""
    if sys.platform != "win32":
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))


def _copy(source: Path, out: IO[bytes]) -> str:
    """Copy a stream to a file; return a hash of its content."""
    content_hash = blake2b(digest_size=8)
    with _open_source(source) as file:
        while block := _read(source, file):
            content_hash.update(block)
            out.write(block)
    return content_hash.hexdigest()


@contextmanager
def _open_source(source: Path) -> Iterator[IO[bytes]]:
    if source != STDIN:
        try:
            file = source.open("rb")
        except OSError as error:
            raise UsageError(f"{source} cannot be read: {error.strerror or error}") from error
        with file:
            _refuse_endless(source, file)
            yield file
        return
    stream: IO[bytes] | None = getattr(sys.stdin, "buffer", None)
    if stream is None:
        raise UsageError("there is no standard input to read; name a file instead")
    _refuse_endless(source, stream)
    yield stream


def _refuse_endless(source: Path, file: IO[bytes]) -> None:
    """Raise UsageError for a device such as /dev/zero, which may never end. A terminal ends with Ctrl-D."""
    with suppress(OSError, ValueError):
        status = os.fstat(file.fileno())
        if stat.S_ISCHR(status.st_mode) and not file.isatty() and status.st_rdev != Path(os.devnull).stat().st_rdev:
            raise UsageError(f"{_name(source)} is a device, which may never end; name a file, or pipe the prompts in")


def _read(source: Path, file: IO[bytes]) -> bytes:
    try:
        return file.read(_BLOCK)
    except OSError as error:
        raise UsageError(f"{_name(source)} cannot be read: {error.strerror or error}") from error
