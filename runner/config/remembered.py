"""The file in the user's configuration folder that holds what the user has named or allowed (``config.trust``).

It holds names, no values. It is believed only if it is a whole file that nobody else may write to. One that is not believed is
put aside before a new one is written, so that nothing in it is lost.
"""

import os
import stat
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from tempfile import mkstemp

import msgspec
from msgspec import Struct

from runner.text import shell_word

Pair = tuple[str, str]

_LOCK_S = 10.0
"""Seconds to wait for another process that writes, which takes it milliseconds. If it hangs, its pairs may be lost."""


class Remembered(Struct):
    """Pairs of (secret, server) and of (module, place)."""

    keys: list[Pair] = []
    code: list[Pair] = []


def remembered_in(environment: Mapping[str, str]) -> Path | None:
    """Return the file in the user's configuration folder; None if there is no such folder."""
    base = Path(environment.get("XDG_CONFIG_HOME", ""))
    if not base.is_absolute():
        try:
            home = Path.home()
        except RuntimeError:
            return None
        base = home / ".config"
        if sys.platform == "darwin":
            base = home / "Library" / "Application Support"
        elif sys.platform == "win32":
            base = Path(environment.get("APPDATA") or home / "AppData" / "Roaming")
    return base / "prompt-runner" / "trusted.json"


def read(environment: Mapping[str, str]) -> Remembered:
    """Return what is remembered: nothing if the file is missing or not believed."""
    return _read(remembered_in(environment))[0]


def fault(environment: Mapping[str, str]) -> str | None:
    """Return why the file is not believed and what to do, in one sentence; None if it is, or if there is none."""
    path = remembered_in(environment)
    why = _read(path)[1]
    if path is None or why is None:
        return None
    hint = f"; look at it, then use `chmod go-w {shell_word(str(path))}`" if why == _SHARED else ""
    return f"{path} {why}, so what it allows does not count{hint}"


def add(keys: Iterable[Pair], code: Iterable[Pair], environment: Mapping[str, str]) -> list[str]:
    """Write down further pairs. Return what the user should know of it, one sentence each."""
    keys, code = list(keys), list(code)
    path = remembered_in(environment)
    known, why = _read(path)
    # nearly always, all of them are there
    if set(keys) <= set(known.keys) and set(code) <= set(known.code):
        return []
    notes = []
    reason: str | None = "there is no home folder"
    if path is not None:
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with _locked(path):
                # another process may have written since
                known, why = _read(path)
                if why is not None:
                    aside = _put_aside(path)
                    notes.append(f"{path} {why}; it is kept as {aside}, and what it allows is asked about again")
                joined = Remembered(list(dict.fromkeys([*known.keys, *keys])), list(dict.fromkeys([*known.code, *code])))
                _write(path, msgspec.json.format(msgspec.json.encode(joined)))
            return notes
        except OSError as error:
            reason = error.strerror
    return [*notes, f"what this run may send could not be remembered ({reason}); `runner resume` will need --trust"]


_SHARED = "can be written by others"


def _read(path: Path | None) -> tuple[Remembered, str | None]:
    """Return what a file holds, and why it is not believed, in words that follow its name."""
    try:
        # a pipe or a device might never end
        found = path.stat() if path is not None else None
        if path is None or found is None:
            return Remembered(), None
        if not stat.S_ISREG(found.st_mode):
            return Remembered(), "is not a plain file"
        if os.name == "posix" and found.st_mode & 0o022:
            return Remembered(), _SHARED
        if os.name == "posix" and found.st_uid not in (os.geteuid(), 0):
            return Remembered(), "belongs to another user"
        return msgspec.json.decode(path.read_bytes(), type=Remembered), None
    except (FileNotFoundError, NotADirectoryError):
        return Remembered(), None
    except (OSError, ValueError) as error:
        # names with a null byte, and bytes that are no text, are a ValueError
        why = error.strerror if isinstance(error, OSError) else None
        return Remembered(), f"cannot be read ({why})" if why else "is damaged"
    except (msgspec.DecodeError, RecursionError):
        return Remembered(), "is damaged"


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Let one process at a time read and write the file. Where nothing can be locked, go on all the same."""
    # imported here: hardly ever is anything written
    from filelock import FileLock, Timeout

    lock = FileLock(path.with_name(f".{path.name}.lock"), mode=0o600)
    with suppress(OSError, NotImplementedError, Timeout):
        lock.acquire(timeout=_LOCK_S)
    try:
        yield
    finally:
        lock.release()


def _put_aside(path: Path) -> Path:
    """Rename the file. Return its new name."""
    free = (aside for number in count(1) if not os.path.lexists(aside := path.with_name(f"{path.name}.old{number}")))
    return path.rename(next(free))


def _write(path: Path, data: bytes) -> None:
    """Replace the file at once, readable by its owner alone."""
    descriptor, name = mkstemp(prefix=f".{path.name}-", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        with suppress(OSError):
            Path(name).unlink()
        raise
