"""Gives the space of deleted runs back to the disk: SQLite writes the store anew, in one transaction.

A process that is killed meanwhile leaves the store as it was. What it needs of the disk is looked at before.
"""

import os
import shutil
import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

from runner.errors import StoreError
from runner.store import database

_SPARE = 1.05
"""What is written is a little more than the pages: each has a header in the log."""
_OF_THE_SYSTEM = ("/var/tmp", "/usr/tmp", "/tmp")  # noqa: S108 - where SQLite looks, in this order
_PRAGMAS = ("page_count", "freelist_count", "page_size")


class Need(NamedTuple):
    """Bytes that a folder must have free."""

    folder: Path
    size: int


def size_of(store: Path) -> int:
    """Return the bytes that a store takes on the disk, its log included."""
    files = (store, store.with_name(f"{store.name}-wal"))
    return sum(file.stat().st_size for file in files if file.exists())


def needs(store: Path) -> list[Need]:
    """Return what must be free: SQLite puts a copy in the folder for temporary files, and then a log beside the store."""
    with _explained(store), closing(sqlite3.connect(database.address(store), uri=True, timeout=database.BUSY_S)) as connection:
        pages, unused, size = (connection.execute(f"PRAGMA {name}").fetchone()[0] for name in _PRAGMAS)
    used, temporary = int((pages - unused) * size * _SPARE), _temporary()
    if temporary.stat().st_dev == store.parent.stat().st_dev:
        return [Need(store.parent, 2 * used)]
    return [Need(temporary, used), Need(store.parent, used)]


def refuse_full(store: Path) -> None:
    """Raise StoreError if a folder has not the room that ``vacuum`` needs."""
    for folder, size in needs(store):
        free = shutil.disk_usage(folder).free
        if free < size:
            what = f"{in_words(size)} free in {folder}, and {in_words(free)} are free there"
            raise StoreError(
                f"to give space back, {store} is written anew, which needs {what}; free some space, or set SQLITE_TMPDIR to a "
                "folder on another disk. Nothing was changed"
            )


def vacuum(store: Path, *, done: str = "") -> None:
    """Write the store anew without the space that was freed. Raises StoreError, also if a reader keeps the file as it is.

    done: what was done before, as the beginning of the sentence about such a reader.
    """
    opened = sqlite3.connect(store, timeout=database.BUSY_S, isolation_level=None, check_same_thread=False)
    with _explained(store), closing(opened) as connection:
        _interruptible(connection, "VACUUM")
        busy, *_ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    if busy:
        how = "it comes back when that ends, at the latest with the next run"
        raise StoreError(f"{done}something still reads {store}, so the space is not given back yet; {how}")


def in_words(size: int) -> str:
    """Return a number of bytes as a person reads it."""
    return f"{size / 1e9:,.1f} GB" if size >= 1e9 else f"{size / 1e6:,.1f} MB"


def _interruptible(connection: sqlite3.Connection, statement: str) -> None:
    """Execute a statement in a thread: in a call of SQLite, the main one would look at no signal before its end."""
    with ThreadPoolExecutor(1) as pool:
        executed = pool.submit(connection.execute, statement)
        try:
            executed.result()
        except BaseException:
            connection.interrupt()
            raise


@contextmanager
def _explained(store: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise database.store_error(store, "vacuumed", error) from error


def _temporary() -> Path:
    """Return the folder in which SQLite puts temporary files, as its documentation says."""
    named = (os.environ.get(name) for name in ("SQLITE_TMPDIR", "TMPDIR"))
    folders = (Path(name) for name in (*named, *_OF_THE_SYSTEM) if name)
    return next((folder for folder in folders if folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)), Path())
