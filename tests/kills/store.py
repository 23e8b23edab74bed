"""The store, looked at from outside: what a kill has left, without touching it, and what goes on in it while a run works."""

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple, Self

from migrating import migrate
from processes import HANG_S

OLD = "0001"
"""The revision to which a store is taken back, to be upgraded again."""


class Kept(NamedTuple):
    """One row of ``items``."""

    status: str
    text: str | None
    attempts: int
    attempt_id: int | None


class Tried(NamedTuple):
    """One row of ``attempts``."""

    key: str
    number: int
    sent: bool
    error_code: str | None


class Held(NamedTuple):
    """All that a store held at one moment."""

    # what SQLite's own checks say
    integrity: tuple[str, ...] = ("ok",)
    version: int = 0
    # columns of the table of runs
    columns: frozenset[str] = frozenset()
    runs: int = 0
    finished: bool = False
    # by key, several rows of one key would be seen
    items: tuple[tuple[str, Kept], ...] = ()
    # by number in the store
    attempts: dict[int, Tried] = {}  # noqa: RUF012 - nobody writes into it

    @property
    def done(self) -> dict[str, Kept]:
        return {key: kept for key, kept in self.items if kept.status == "done"}


def look(store: Path, scratch: Path) -> Held:
    """Read a copy of a store whose process is dead: to open the store itself would tidy up what the next session must."""
    copy = copied(store, scratch)
    return _opened(copy) if copy.exists() else Held()


def commits(store: Path, scratch: Path) -> Iterator[Held]:
    """Read a store whose process is dead as each commit that is still in its log had left it."""
    log = store.with_name(f"{store.name}-wal")
    data = log.read_bytes() if log.exists() else b""
    for end in _commit_ends(data):
        copy = copied(store, scratch)
        copy.with_name(f"{copy.name}-wal").write_bytes(data[:end])
        yield _opened(copy)


def _commit_ends(log: bytes) -> Iterator[int]:
    """Find where commits end in a write-ahead log (SQLite's file format, section 4)."""
    if len(log) < 32:
        return
    size, salts = int.from_bytes(log[8:12], "big"), log[16:24]
    for at in range(32, len(log) - size - 23, 24 + size):
        if log[at + 8 : at + 16] != salts:
            # what an earlier log has left
            return
        if any(log[at + 4 : at + 8]):
            yield at + 24 + size


def copied(store: Path, scratch: Path) -> Path:
    """Copy a store whose process is dead into a folder, as the process has left it."""
    scratch.mkdir(exist_ok=True)
    for ending in ("", "-wal", "-journal", "-shm"):
        copy = scratch / f"looked-at.db{ending}"
        copy.unlink(missing_ok=True)
        # the -shm is made anew from the -wal, as after a loss of power
        if ending != "-shm" and (found := store.with_name(store.name + ending)).exists():
            shutil.copy(found, copy)
    return scratch / "looked-at.db"


def _opened(copy: Path) -> Held:
    with closing(sqlite3.connect(copy, timeout=HANG_S)) as connection:
        try:
            return _read(connection)
        except sqlite3.DatabaseError as error:
            return Held(integrity=(str(error),))


def _read(connection: sqlite3.Connection) -> Held:
    def rows(query: str) -> list[Any]:
        return connection.execute(query).fetchall()

    integrity = [row[0] for row in rows("PRAGMA integrity_check")]
    integrity += [f"foreign key: {row}" for row in rows("PRAGMA foreign_key_check")]
    version = rows("PRAGMA user_version")[0][0]
    if not rows("SELECT 1 FROM sqlite_master WHERE name = 'runs'"):
        return Held(integrity=tuple(integrity), version=version)
    attempts = rows("SELECT id, item_key, number, sent, error_code FROM attempts")
    return Held(
        integrity=tuple(integrity),
        version=version,
        columns=frozenset(row[1] for row in rows("PRAGMA table_info(runs)")),
        runs=rows("SELECT count(*) FROM runs")[0][0],
        finished=bool(rows("SELECT 1 FROM runs WHERE finished_at IS NOT NULL")),
        items=tuple((row[0], Kept(*row[1:])) for row in rows("SELECT key, status, text, attempts, attempt_id FROM items")),
        attempts={id_: Tried(key, number, bool(sent), code) for id_, key, number, sent, code in attempts},
    )


class Watch:
    """Looks into a store while it is written, many times a second. A context manager.

    Leave it before the store is copied: closing any file of a store takes away the locks of all connections of a process.
    """

    def __init__(self, store: Path) -> None:
        self._store = store
        self._connection: sqlite3.Connection | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._connection is not None:
            self._connection.close()

    def ask(self, query: str, *values: Any) -> int:
        """Give one number; 0 from a store or a table that is not there yet."""
        with suppress(sqlite3.OperationalError):
            if self._connection is None:
                uri = f"{self._store.resolve().as_uri()}?mode=ro"
                self._connection = sqlite3.connect(uri, uri=True, timeout=HANG_S)
            return int(self._connection.execute(query, values).fetchone()[0])
        return 0


@contextmanager
def locked(store: Path) -> Iterator[None]:
    """Hold the store's write lock, as another writer would: commits wait, readers do not."""
    with closing(sqlite3.connect(store, timeout=HANG_S, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("ROLLBACK")


def take_back(store: Path) -> None:
    """Make it a store of the first version again, with all its rows."""
    migrate(store, OLD)
