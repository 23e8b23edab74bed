"""What killed exports leave: unfinished files, and folders of formats that need one. The next export to that folder removes them.

An export holds a lock on its unfinished file, which ends with its process. Where the system has no such locks nothing is removed.
"""

import os
import re
import shutil
import stat
import sys
import time
from contextlib import suppress
from pathlib import Path
from secrets import token_hex

if sys.platform != "win32":
    import fcntl

_NAME = re.compile(r"\.export-[0-9a-f]{16}\.tmp")
_YOUNG_S = 60.0
"""Seconds for which an unfinished file is left alone: it may not be locked yet."""


def name() -> str:
    """Return a name for an unfinished file."""
    return f".export-{token_hex(8)}.tmp"


def beside(unfinished: Path) -> str:
    """Return how the name of a folder begins that belongs to an unfinished file."""
    return f"{unfinished.name}."


def hold(file: int) -> None:
    """Show that an unfinished file is being written, by a lock. file: its number."""
    if sys.platform != "win32":
        # some file systems have no locks
        with suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def remove(folder: Path) -> None:
    """Remove from a folder what killed exports have left there."""
    if sys.platform == "win32":
        return
    with suppress(OSError):
        for entry in list(os.scandir(folder)):
            if _NAME.fullmatch(entry.name) and _is_left(folder / entry.name):
                _remove(folder / entry.name)


def _is_left(unfinished: Path) -> bool:
    """Return True if nobody writes an unfinished file any more."""
    if sys.platform == "win32":
        return False
    with suppress(OSError):
        file = os.open(unfinished, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            found = os.fstat(file)
            if not stat.S_ISREG(found.st_mode) or time.time() - found.st_mtime < _YOUNG_S:
                return False
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        finally:
            os.close(file)
    return False


def _remove(unfinished: Path) -> None:
    for other in unfinished.parent.glob(f"{beside(unfinished)}*"):
        if other.is_dir() and not other.is_symlink():
            shutil.rmtree(other, ignore_errors=True)
    with suppress(OSError):
        unfinished.unlink()
