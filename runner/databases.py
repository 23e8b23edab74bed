"""Databases of SQLite, which this process opens in no other way than through SQLite.

The system takes all locks of a process on a file away as soon as the process closes it, whichever part of it had opened it. The
next reader in another process then takes itself for the only one, and deletes the log in which a session still writes. SQLite
knows which of its connections hold locks, and closes a file only after the last of them.
"""

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

_MAGIC = b"SQLite format 3\x00"
HEADER_BYTES = 100
"""A smaller file is no database, and so in use by none of SQLite's connections."""
_used = set[tuple[int, int]]()


def note(path: Path) -> None:
    """Note that this process opens a database with SQLite, now or later."""
    status = path.stat()
    _used.add((status.st_dev, status.st_ino))


def is_used(path: Path) -> bool:
    """Return True if a file is a database that this process has opened with SQLite: it must not be opened as a plain file."""
    # a later file may have the number of one that was deleted
    return _has_opened(path) and application(path) is not None


def _has_opened(path: Path) -> bool:
    try:
        status = path.stat()
    except (OSError, ValueError):
        return False
    return (status.st_dev, status.st_ino) in _used


def application(path: Path) -> int | None:
    """Return the number of the application in the header of a database; 0 if it cannot be told, None if it is no database."""
    try:
        if path.stat().st_size < HEADER_BYTES or not path.is_file():
            return None
        address = f"file:{quote(os.fsencode(path))}?mode=ro&immutable=1"
        with closing(sqlite3.connect(address, uri=True)) as connection:
            (number,) = connection.execute("PRAGMA application_id").fetchone()
            # SQLite has it as a number with a sign
            return int(number) & 0xFFFFFFFF
    except sqlite3.Error as error:
        name = getattr(error, "sqlite_errorname", None)
        # SQLite opens no path of more than 512 bytes; no connection of this process then has it open under that name
        unopened = name == "SQLITE_CANTOPEN" and not _has_opened(path)
        if name != "SQLITE_NOTADB" and not unopened:
            return 0 if os.access(path, os.R_OK) else None
        return 0 if begins_like_one(path) else None
    except OSError:
        return None


def begins_like_one(path: Path) -> bool:
    """Return True if a file in which SQLite finds no database begins like one: it is damaged. No connection has locks on it."""
    with path.open("rb") as file:
        return file.read(len(_MAGIC)) == _MAGIC
