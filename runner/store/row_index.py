"""An index of the rows of a store, in a file of its own beside it, by which the page finds rows among a million.

A run does not write it, and so is no slower for it. It is brought up to date in small steps (``RowIndex.step``), the newest rows
first. The file can be deleted at any time; then it is made anew. What it finds is looked up in the store before it is shown.
Several processes may bring it up to date: each step is one transaction, which begins where the last one has ended.

Rows that sessions add, and rows whose attempts they save, are seen in the next step. What changes without an attempt is found by
going over all rows again and again, slowly (``sweep``).
"""

import math
import os
import sqlite3
import time
from contextlib import closing, suppress
from pathlib import Path

from msgspec import Struct

from runner.store import database
from runner.store.index_steps import Step, newest_of

ENDING = ".web-index"
STEP = 200
"""Rows of a step. More would be a tenth quicker, and who reads meanwhile would wait three times as long."""
_APPLICATION, _VERSION = 0x50524E49, 1
_SCHEMA = """
CREATE TABLE state (id INTEGER PRIMARY KEY, low INTEGER, high INTEGER, attempt INTEGER, swept INTEGER);
INSERT INTO state VALUES (1, NULL, NULL, NULL, NULL);
CREATE TABLE runs (id INTEGER PRIMARY KEY, created_at REAL NOT NULL, rows INTEGER NOT NULL DEFAULT 0);
"""
_WAIT_S = 2.0
LATE_S = 2.0
"""Seconds by which the index may be behind the store and count as complete."""


class State(Struct, frozen=True, kw_only=True):
    """How far the index of a run is. complete: it has all rows; those of the last two seconds may be missing."""

    rows: int
    complete: bool


class RowIndex:
    """The index of one store. Its methods block, and may be called from any thread, one at a time.

    Raises StoreError if the store cannot be read; what is wrong with the index alone makes it begin anew.
    """

    def __init__(self, store: Path) -> None:
        self._store, self.path = store, store.with_name(f"{store.name}{ENDING}")
        # when it has last had all that the store had
        self._caught_up_at = -math.inf

    def step(self, rows: int = STEP) -> int:
        """Bring the index up to date by so many rows at most; return how many were looked at, 0 if it is up to date."""
        try:
            with closing(self._opened()) as index, closing(_reading(self._store)) as store:
                began, step = time.monotonic(), Step(index, store, rows)
                done = step.run()
                self._caught_up_at = began if step.caught_up else self._caught_up_at
                return done
        except sqlite3.OperationalError as error:
            if error.sqlite_errorname.startswith("SQLITE_BUSY"):
                # another process does it
                return 0
            raise database.store_error(self.path, "used", error) from error
        except sqlite3.DatabaseError:
            # damaged, or of something else that has been put there
            self.forget()
            return 1

    def sweep(self, rows: int = STEP) -> bool:
        """Look at so many rows whether they have changed, and return True if these were the last ones."""
        try:
            with closing(self._opened()) as index, closing(_reading(self._store)) as store:
                return Step(index, store, rows).sweep()
        except sqlite3.OperationalError as error:
            raise database.store_error(self.path, "used", error) from error
        except sqlite3.DatabaseError:
            self.forget()
            return False

    def reading(self) -> sqlite3.Connection:
        """Return a connection to the index, for who looks for rows. It may lack all of them."""
        return self._opened()

    def is_complete(self, run: int) -> bool:
        """Return True if all rows of a run can be found by the index."""
        with closing(self.reading()) as connection:
            return self.state(connection, run).complete

    def state(self, connection: sqlite3.Connection, run: int) -> State:
        """Return how far the index of a run is."""
        known = connection.execute("SELECT rows FROM runs WHERE id = ?", (run,)).fetchone()
        low, high, seen = connection.execute("SELECT low, high, attempt FROM state").fetchone()
        return State(rows=known[0] if known is not None else 0, complete=low is not None and low <= 1 and self._has(high, seen))

    def _has(self, high: int, seen: int) -> bool:
        """Return True if the index has the newest rows and attempts, or had them a moment ago: a run adds some always."""
        if time.monotonic() - self._caught_up_at < LATE_S:
            return True
        with closing(_reading(self._store)) as store:
            newest, attempt = newest_of(store)
        return high >= newest and seen >= attempt

    def forget(self) -> None:
        """Delete the index."""
        for ending in ("", "-wal", "-shm"):
            with suppress(OSError):
                self.path.with_name(f"{self.path.name}{ending}").unlink(missing_ok=True)

    def _opened(self) -> sqlite3.Connection:
        """Return a connection to the index, which is made if it is missing, or of another version."""
        with suppress(FileExistsError):
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        connection = _connected(self.path)
        if _is_ours(connection):
            return connection
        connection.close()
        self.forget()
        os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600))
        connection = _connected(self.path)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("BEGIN IMMEDIATE")
        if not connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            for statement in _SCHEMA.split(";\n"):
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {_APPLICATION}")
            connection.execute(f"PRAGMA user_version = {_VERSION}")
        connection.execute("COMMIT")
        return connection


def _connected(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=_WAIT_S, isolation_level=None, check_same_thread=False)
    # what a power cut leaves of it is found out, and made anew
    connection.execute("PRAGMA synchronous = OFF")
    return connection


def _is_ours(connection: sqlite3.Connection) -> bool:
    try:
        of = [connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")]
    except sqlite3.DatabaseError as error:
        if error.sqlite_errorname.startswith("SQLITE_BUSY"):
            raise
        return False
    return of == [_APPLICATION, _VERSION]


def _reading(store: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(
        database.address(store), timeout=_WAIT_S, uri=True, isolation_level=None, check_same_thread=False
    )
    connection.execute("PRAGMA query_only = ON")
    return connection
