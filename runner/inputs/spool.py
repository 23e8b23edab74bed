"""Prompts that can be read only once, standard input above all, kept in a file: a run reads them twice, and again later."""

import os
import re
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from hashlib import blake2b
from pathlib import Path
from typing import IO

from runner.errors import StoreError, UsageError

if sys.platform != "win32":
    import fcntl

STDIN = Path("-")
"""How standard input is named as a prompt file."""

MARK = "-stdin-"
"""Stands in the name of a file in which it is kept."""
_KEPT = re.compile(re.escape(MARK) + r"[0-9a-f]{16}\.jsonl$")
_BLOCK = 1 << 20


def path_of(file: str | Path) -> Path:
    """Make a path of what a person wrote: ``-`` is standard input, ``./-`` a file, which a Path would not tell apart."""
    path = Path(file)
    return path.absolute() if path == STDIN and str(file) != "-" else path


def flows(path: Path) -> bool:
    """Tell whether a prompt file can be read only once: standard input, a pipe by name, a terminal."""
    if path == STDIN:
        return True
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISCHR(mode)


def called(path: Path) -> str:
    """Name a prompt file for a person, who does not know under what name standard input is kept."""
    return "standard input" if path == STDIN or _KEPT.search(path.name) else path.name


@contextmanager
def kept(source: Path, store: Path, needed: Callable[[Path], bool]) -> Iterator[Path]:
    """Keep what flows in a file beside the store, and give its path; errors name it as the user did.

    needed: tells at the end whether a run goes on with the file; one that came just now for nothing is removed.
    Raises UsageError for an input that cannot be read and a folder that cannot be written, StoreError for a disk that is full.
    """
    _sweep(store)
    path, new = _keep(source, store)
    try:
        yield path
    except UsageError as error:
        raise UsageError(str(error).replace(str(path), _name(source))) from error
    finally:
        if new and not needed(path):
            path.unlink(missing_ok=True)


@contextmanager
def for_a_while(source: Path) -> Iterator[Path]:
    """Keep what flows in a file of its own as long as it is looked at. Raises as ``kept``."""
    with tempfile.TemporaryDirectory(prefix="runner-") as folder, kept(source, Path(folder, "runner.db"), bool) as path:
        yield path


def _name(source: Path) -> str:
    return "standard input" if source == STDIN else str(source)


def _keep(source: Path, store: Path) -> tuple[Path, bool]:
    """Copy an input to a file beside the store, in constant memory; give its path, and whether it was not there before.

    The file is named by its content: the same prompts again are the same input, so the same command goes on with their run, and
    no other prompts take their place.
    """
    words = f"{_name(source)} cannot be kept in {store.parent}"
    try:
        file, unfinished = _made(store)
    except OSError as error:
        raise UsageError(f"{words}: {error.strerror}") from error
    try:
        with file:
            digest = _copy(source, file)
            file.flush()
            os.fsync(file.fileno())
            path = store.with_name(f"{store.name}{MARK}{digest}.jsonl")
            new = not path.exists()
            # still locked, or another process may sweep it away
            unfinished.replace(path)
    except OSError as error:
        unfinished.unlink(missing_ok=True)
        raise StoreError(f"{words}: {error.strerror or error}") from error
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
    return path, new


def _made(store: Path) -> tuple[IO[bytes], Path]:
    """Make a file for a copy that is not finished, locked as long as it is open."""
    while True:
        handle, name = tempfile.mkstemp(prefix=f"{store.name}{MARK}", suffix=".tmp", dir=store.parent)
        file = os.fdopen(handle, "wb")
        with suppress(OSError):
            _lock(file)
        # before that another process may have taken it for one that was left behind
        if os.fstat(handle).st_nlink:
            return file, Path(name)
        file.close()


def _sweep(store: Path) -> None:
    """Remove copies that a killed process has not finished."""
    with suppress(OSError):
        for path in store.parent.iterdir():
            if path.name.startswith(f"{store.name}{MARK}") and path.suffix == ".tmp":
                # what cannot be opened or removed stays, for it harms nobody
                with suppress(OSError), path.open("rb") as file:
                    _lock(file, wait=False)
                    path.unlink()


def _lock(file: IO[bytes], *, wait: bool = True) -> None:
    """Lock an open file; raises OSError where that cannot be, or another process holds it. Windows removes no open file."""
    if sys.platform != "win32":
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))


def _copy(source: Path, out: IO[bytes]) -> str:
    """Copy an input; give a hash of it."""
    hashed = blake2b(digest_size=8)
    with _open_source(source) as file:
        while block := _read(source, file):
            hashed.update(block)
            out.write(block)
    return hashed.hexdigest()


@contextmanager
def _open_source(source: Path) -> Iterator[IO[bytes]]:
    if source != STDIN:
        try:
            file = source.open("rb")
        except OSError as error:
            raise UsageError(f"{source} cannot be read: {error.strerror or error}") from error
        with file:
            yield file
        return
    stream: IO[bytes] | None = getattr(sys.stdin, "buffer", None)
    if stream is None:
        raise UsageError("there is no standard input that could be read; name a file")
    yield stream


def _read(source: Path, file: IO[bytes]) -> bytes:
    try:
        return file.read(_BLOCK)
    except OSError as error:
        raise UsageError(f"{_name(source)} cannot be read: {error.strerror or error}") from error
