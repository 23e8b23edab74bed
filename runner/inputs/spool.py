"""Copies standard input, pipes and rows in memory to a file: a run reads its input twice, and again when it is resumed."""

import os
import re
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from hashlib import blake2b
from pathlib import Path
from secrets import token_hex
from types import TracebackType
from typing import IO, Self

from runner import origin
from runner.errors import StoreError, UsageError
from runner.inputs.streams import blocks
from runner.text import plural

if sys.platform != "win32":
    import fcntl

STDIN = Path("-")
"""The name of standard input as a prompt file."""

MARK = "-stdin-"
"""Part of the name of every copy of standard input or of a pipe."""
MEMORY = "-memory-"
"""Part of the name of every copy of rows that a program had in memory. What they were follows, so that it can be said later."""
_COPY = re.compile(rf"(?:{MARK}|{MEMORY}(?P<kind>[A-Za-z]+)-(?P<rows>\d+)(?:x(?P<columns>\d+))?-)[0-9a-f]{{16}}\.jsonl$")
_ASKED = re.compile(r"-asked-in-(?P<name>[\w-]+)\.session$")
_OF_TEXTS = ("texts", "column")
_KINDS = {
    "texts": "a list of",
    "rows": "a list of",
    "column": "a column of",
    "iterator": "an iterator of",
    "dataset": "a dataset of",
}


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
    """Return True if a file is a copy of standard input, of a pipe or of rows in memory, by its name."""
    return _COPY.search(path.name) is not None


def copy_of(store: Path, name: str) -> Path | None:
    """Return the copy with this name that belongs to a store; None if it is no copy, or that of a store with another name."""
    return store.with_name(name) if name.startswith(store.name) and _COPY.fullmatch(name, len(store.name)) else None


def is_of_memory(path: Path) -> bool:
    """Return True if a file is a copy of rows that a program had in memory, by its name."""
    return (found := _COPY.search(path.name)) is not None and found["kind"] is not None


def asked_in(store: Path, name: str) -> Path:
    """Return what stands for the input of a run whose rows a program asks one by one: the path of a file that does not exist.

    name: of the program's session.
    """
    return store.with_name(f"{store.name}-asked-in-{name}.session")


def is_asked(path: str) -> bool:
    """Return True for an input that stands for a program's session."""
    return _ASKED.search(path) is not None


def display_name(path: Path) -> str:
    """Return the name of an input for messages: the user does not know the name of a copy."""
    if len(origin.names_of(path)) > 1:
        return f"the input ({origin.shown(path)})"
    if (number := origin.run_of(path)) is not None:
        return f"run {number}"
    if origin.is_of_page(path.name):
        return origin.page_words(path.name)
    if (session := _ASKED.search(path.name)) is not None:
        return f"the session {session['name']!r} of a program"
    found = _COPY.search(path.name)
    if path == STDIN or (found is not None and found["kind"] is None):
        return "standard input"
    return path.name if found is None else in_words(found["kind"], int(found["rows"]), found["columns"])


def in_words(kind: str, rows: int, columns: str | None = None) -> str:
    """Return what a person calls rows in memory. kind: what they are, as the name of the copy has it."""
    if columns is not None:
        return f"{kind} ({plural(rows, 'row')} \N{MULTIPLICATION SIGN} {plural(int(columns), 'column')})"
    return f"{_KINDS.get(kind, kind)} {plural(rows, 'text' if kind in _OF_TEXTS else 'row')} in memory"


def full_name(path: str | Path) -> str:
    """Return an input as a person finds it: its path, its files, or what rows in memory were."""
    return display_name(Path(path)) if is_asked(str(path)) or is_of_memory(Path(path)) else origin.shown(path)


@contextmanager
def stored_copy(
    source: Path, store: Path, needed: Callable[[Path], bool], waits: Callable[[], None] | None = None
) -> Iterator[Path]:
    """Copy a stream to a file next to the store, and yield the path of the copy. Errors name the source as the user did.

    needed: called at the end; returns True if a run uses the copy. A new copy that no run uses is removed. waits: called
    again and again while nothing comes; what it raises ends the copy. Raises UsageError if the source cannot be read or the
    folder cannot be written, StoreError if the disk is full.
    """
    with Copy(store, MARK, _name(source)) as copy:
        for block in blocks(None if source == STDIN else source, _name(source), waits):
            copy.write(block)
        path, new = copy.finish()
    with in_use(path, _name(source), new=new, needed=needed):
        yield path


@contextmanager
def in_use(path: Path, name: str, *, new: bool, needed: Callable[[Path], bool]) -> Iterator[None]:
    """Use a copy. Errors call it by its name, and at the end a new one that no run needs is removed."""
    try:
        yield
    except UsageError as error:
        raise UsageError(str(error).replace(str(path), name)) from error
    finally:
        if new and not needed(path):
            path.unlink(missing_ok=True)


def readable(source: Path) -> AbstractContextManager[Path]:
    """Return an input that can be read more than once: of a stream a copy, which is removed at the end.

    Raises the errors of ``stored_copy``.
    """
    return _temporary_copy(source) if is_stream(source) else nullcontext(source)


@contextmanager
def _temporary_copy(source: Path) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="runner-") as folder, stored_copy(source, Path(folder, "runner.db"), bool) as path:
        yield path


def _name(source: Path) -> str:
    return "standard input" if source == STDIN else str(source)


class Copy:
    """A file next to the store that is being written, in constant memory. A context manager: what is not finished is removed.

    The name of the finished file contains a hash of the content. The same prompts are therefore the same input, so that repeating
    a command continues its run, and different prompts never overwrite a copy.
    """

    def __init__(self, store: Path, mark: str, name: str) -> None:
        """mark: part of the name of the file. name: what is copied, for messages. Raises UsageError in a closed folder."""
        self._store, self._mark = store, mark
        self._refusal = f"{name} cannot be saved in {store.parent}"
        self._hash = blake2b(digest_size=8)
        _remove_unfinished(store)
        # The name is known before the file is there, so that whatever ends the copy, a signal included, removes the file.
        self._unfinished = store.with_name(f"{store.name}{mark}{token_hex(8)}.tmp")
        self._file: IO[bytes] | None = None

    def __enter__(self) -> Self:
        try:
            self._file = _create(self._unfinished)
        except OSError as error:
            raise UsageError(f"{self._refusal}: {error.strerror}") from error
        except BaseException:
            self._discard()
            raise
        return self

    def write(self, block: bytes | bytearray) -> None:
        """Add to the file. Raises StoreError if the disk is full."""
        assert self._file is not None
        self._hash.update(block)
        with self._explained():
            self._file.write(block)

    def finish(self, words: str = "") -> tuple[Path, bool]:
        """Give the file its final name; return its path, and True if it is new. words: what the name says before the hash."""
        assert self._file is not None
        with self._explained():
            self._file.flush()
            os.fsync(self._file.fileno())
            path = self._store.with_name(f"{self._store.name}{self._mark}{words}{self._hash.hexdigest()}.jsonl")
            new = not path.exists()
            # The file stays locked until it has its final name, or another process could remove it as unfinished.
            self._unfinished.replace(path)
        return path, new

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._discard()

    def _discard(self) -> None:
        with suppress(OSError):
            if self._file is not None:
                self._file.close()
        with suppress(OSError):
            self._unfinished.unlink(missing_ok=True)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StoreError(f"{self._refusal}: {error.strerror or error}") from error


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
            if path.name.startswith((f"{store.name}{MARK}", f"{store.name}{MEMORY}")) and path.suffix == ".tmp":
                # A file that cannot be opened or removed is left: it does no harm.
                with suppress(OSError), path.open("rb") as file:
                    _lock(file, wait=False)
                    path.unlink()


def _lock(file: IO[bytes], *, wait: bool = True) -> None:
    """Lock an open file. Raises OSError if that fails. Not needed on Windows, where an open file cannot be removed."""
    if sys.platform != "win32":
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
