"""Records which files were synced to the disk, and how large they were then, when a file gets its name."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest


class Named(NamedTuple):
    """A file that was renamed. synced: its size when it was last synced before that; None if it never was."""

    name: str
    size: int
    synced: int | None


_listeners: list[list[Named]] = []
_synced: dict[int, int] = {}


def _hook(event: str, arguments: tuple[object, ...]) -> None:
    if event == "os.rename" and _listeners:
        source, target = Path(str(arguments[0])), Path(str(arguments[1]))
        status = source.stat()
        _listeners[-1].append(Named(target.name, status.st_size, _synced.get(status.st_ino)))


@contextmanager
def named(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Named]]:
    """Collect what is renamed inside of the block. Every sync and every renaming is a real one."""
    if not getattr(sys, "_syncing_hook", False):
        # a hook stays for as long as the process lives
        sys.addaudithook(_hook)
        sys._syncing_hook = True  # type: ignore[attr-defined]
    sync = os.fsync

    def fsync(file: int) -> None:
        sync(file)
        status = os.fstat(file)
        _synced[status.st_ino] = status.st_size

    _synced.clear()
    found: list[Named] = []
    _listeners.append(found)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", fsync)
            yield found
    finally:
        _listeners.remove(found)
