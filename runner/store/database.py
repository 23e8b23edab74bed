"""The file of the store: creates it with the right mode, checks it, and brings it to the current schema.

A missing or damaged file is never silently replaced by a new one.
"""

import errno
import importlib.resources
import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.pool import ConnectionPoolEntry

from runner import databases
from runner.errors import StoreError, UsageError
from runner.model import Json
from runner.store import filesystem, schema
from runner.store.schema import APPLICATION_ID, VERSION
from runner.text import shell_word

BUSY_S = 15.0
"""Seconds that a writer waits for another one."""
_RETRY_S = 0.02
_CREATING = threading.Lock()
"""Held while the file is created: closing it would take away the locks of another thread that has just opened it with SQLite."""
_DAMAGED = ("SQLITE_CORRUPT", "SQLITE_NOTADB")
DAMAGE = (msgspec.DecodeError, RecursionError)
"""What reading JSON raises that is none, or of another shape, or nested more deeply than anything that runner stores."""
_JSON = ("settings", "pace", "settled_head")
"""Columns of a run without which its results can be read."""
_ADVICE = {
    "SQLITE_FULL": "free some space there",
    "SQLITE_IOERR": "check the disk and the system log",
    "SQLITE_BUSY": "another program has locked it, such as `runner vacuum`; wait for that program, or end it",
    "SQLITE_READONLY": "it is read-only; change its permissions, or name another store with --db",
    "SQLITE_CANTOPEN": "check that its folder can be read and written",
}
"""Advice, by the beginning of SQLite's name for an error."""


def prepare(path: Path, *, create: bool) -> None:
    """Bring the file at ``path`` to the current schema.

    create: create the file if it is missing. Raises UsageError for a path that cannot hold a store, StoreError for a file that is
    not a store.
    """
    if create:
        _create(path)
    elif path.is_dir():
        raise UsageError(f"{path} is a folder, not a store; name a file with --db")
    elif not path.is_file() or not path.stat().st_size:
        raise UsageError(f"there is no store at {path}; run `runner run FILE` first, or name the store with --db")
    with _explained(path):
        databases.note(path)
        version = _version(path)
        if version > VERSION:
            raise StoreError(f"{path} was written by a newer runner (schema {version}, this one reads {VERSION}); update runner")
        if version < VERSION:
            _check_writable(path, version)
            (_migrate if version else _fill)(path)


def is_store(path: Path) -> bool:
    """Return True if a file is a store, by its header; False too if it cannot be read."""
    return databases.application(path) == APPLICATION_ID


def address(path: Path) -> str:
    """Return the URI for reading a store.

    In WAL mode SQLite creates files next to the store even for reading. In a folder that cannot be written, a store that is not
    in use is therefore opened as immutable.
    """
    immutable = not os.access(path.parent, os.W_OK) and not path.with_name(f"{path.name}-wal").exists()
    return f"file:{quote(os.fsencode(path))}" + ("?immutable=1" if immutable else "")


def store_error(path: Path, verb: str, error: BaseException) -> StoreError:
    """Return an error that says in one sentence what is wrong with the store at ``path``, and what to do."""
    # SQLAlchemy wraps the error of SQLite
    inner = getattr(error, "orig", None) or error
    words = str(inner) or type(inner).__name__
    name = getattr(inner, "sqlite_errorname", None) or ""
    if name.startswith(_DAMAGED) or isinstance(inner, (*DAMAGE, TypeError)):
        advice = f"restore a copy of it, or recover what can be read with `sqlite3 {shell_word(str(path))} .recover`"
        return StoreError(f"the store {path} cannot be {verb}: it is damaged ({words}); {advice}", kept=False)
    advice = next((f" ({advice})" for prefix, advice in _ADVICE.items() if name.startswith(prefix)), "")
    return StoreError(f"the store {path} cannot be {verb}: {words}{advice}")


def refuse_damaged(path: Path, run: sa.Row[Any]) -> None:
    """Raise StoreError if a column of a run holds another type than its own. SQLite takes any."""
    for column in schema.runs.columns:
        value, kind = getattr(run, column.name), column.type.python_type
        fits = isinstance(value, int | float) if kind in (int, float, bool) else isinstance(value, kind)
        if column.name not in _JSON and not fits and not (value is None and column.nullable):
            error = TypeError(f"run {run.id} has {value!r} as {column.name}")
            raise store_error(path, "read", error) from error


def settings_of(text: str) -> dict[str, Json] | None:
    """Return the settings of a run as the table of runs has them; None if they are damaged."""
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except (*DAMAGE, TypeError):
        # a column of another type is no text
        return None


def on_connect(engine: sa.Engine, *, synchronous: str, write: bool) -> None:
    """Configure every connection of an engine. write: begin transactions as a writer, so that they wait for a busy store."""

    @sa.event.listens_for(engine, "connect")
    def connect(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
        # turn off the transaction control of Python's sqlite3, which begins no transaction for SELECT or DDL
        connection.isolation_level = None
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout = {int(BUSY_S * 1000)}")
        cursor.execute("PRAGMA foreign_keys = ON")
        if write:
            cursor.execute("PRAGMA journal_mode = WAL")
            cursor.execute(f"PRAGMA synchronous = {synchronous}")
            # fsync on macOS leaves the data in the cache of the drive; on other systems this has no effect
            cursor.execute(f"PRAGMA fullfsync = {int(synchronous == 'FULL')}")
        else:
            cursor.execute("PRAGMA query_only = ON")
        cursor.close()

    @sa.event.listens_for(engine, "begin")
    def begin(connection: sa.Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")


@contextmanager
def transaction(path: Path, *, write: bool) -> Iterator[sa.Connection]:
    """Yield a synchronous connection with an open transaction, which is committed at the end. Raises StoreError."""
    engine = sa.create_engine(sa.URL.create("sqlite", database=str(path))) if write else _reading(address(path))
    if write:
        on_connect(engine, synchronous="FULL", write=True)
    try:
        with engine.begin() as connection:
            yield connection
    except sa.exc.DBAPIError as error:
        raise store_error(path, "used", error) from error
    finally:
        engine.dispose()


@lru_cache(maxsize=32)
def _reading(file: str) -> sa.Engine:
    """Return the engine that reads at an address, which works even in a folder that cannot be written.

    It is kept, since it keeps the SQL of statements: to compile one anew takes longer than to find a row. It holds no connection.
    """
    engine = sa.create_engine(sa.URL.create("sqlite", database=file, query={"uri": "true"}), poolclass=sa.NullPool)
    on_connect(engine, synchronous="FULL", write=False)
    return engine


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, sa.exc.DBAPIError) as error:
        raise store_error(path, "used", error) from error
    except OSError as error:
        raise StoreError(f"the store {path} cannot be read: {error.strerror}") from error


def _create(path: Path) -> None:
    if path.is_dir():
        raise UsageError(f"{path} is a folder, not a store; name a file with --db")
    if not path.parent.is_dir():
        raise UsageError(f"the folder {path.parent} does not exist; create it, or name another store with --db")
    kind = filesystem.network(path.parent)
    if kind is not None:
        why = f"is on a network file system ({kind}), where SQLite can lose data"
        raise UsageError(f"the store {path} {why}; name a store on a local disk with --db")
    try:
        # mode 0600 before SQLite opens the file, since it gives its -wal and -shm files the same mode
        _create_file(path)
    except OSError as error:
        raise UsageError(f"the store {path} cannot be written: {error.strerror}; name another store with --db") from error
    if not os.access(path.parent, os.W_OK):
        words = "cannot be written, and SQLite creates files next to the store; name another store with --db"
        raise UsageError(f"the folder {path.parent} {words}")


def _create_file(path: Path) -> None:
    """Create the file if it is missing. One that is there is not opened: it may be in use in this process."""
    with _CREATING:
        if path.exists():
            if not os.access(path, os.R_OK | os.W_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            return
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))


def _version(path: Path) -> int:
    """Return the schema version; 0 for an empty file. Raises StoreError for a file that is not a store."""
    size = path.stat().st_size
    if not size:
        return 0
    foreign = StoreError(f"{path} is not a runner store (it is not a SQLite file); name another file with --db")
    if size < databases.HEADER_BYTES and not databases.begins_like_one(path):
        raise foreign
    try:
        with closing(sqlite3.connect(address(path), timeout=BUSY_S, uri=True, isolation_level=None)) as connection:
            # one transaction, because another process may be creating the store
            connection.execute("BEGIN")
            (application,) = connection.execute("PRAGMA application_id").fetchone()
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.DatabaseError as error:
        if error.sqlite_errorname == "SQLITE_NOTADB" and not databases.begins_like_one(path):
            raise foreign from error
        raise
    if application != APPLICATION_ID and tables:
        raise StoreError(f"{path} is another program's database, not a runner store; name another file with --db")
    return int(version)


def _check_writable(path: Path, version: int) -> None:
    """Raise UsageError if an older store cannot be upgraded."""
    # SQLite creates files next to the store, so the folder must be writable too
    if not (os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)):
        why = f"was written by an older runner (schema {version}, this one needs {VERSION}) and is read-only here"
        raise UsageError(f"the store {path} {why}; copy it to a folder that you can write to, and name the copy with --db")


def _fill(path: Path) -> None:
    """Create the schema in an empty file."""
    with _schema_change(path) as connection:
        # check again, now that no other process can write: another first run may have been quicker
        if not connection.exec_driver_sql("SELECT count(*) FROM sqlite_master").scalar():
            schema.create(connection)


def _migrate(path: Path) -> None:
    # imported here, because the import takes 0.1 s and only an older store needs it
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(scripts()).replace("%", "%%"))
    with _schema_change(path) as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


@contextmanager
def _schema_change(path: Path) -> Iterator[sa.Connection]:
    _switch_to_wal(path)
    engine = sa.create_engine(sa.URL.create("sqlite", database=str(path)))
    on_connect(engine, synchronous="FULL", write=True)
    try:
        with engine.begin() as connection:
            yield connection
    finally:
        engine.dispose()


def _switch_to_wal(path: Path) -> None:
    """Switch the file to WAL mode. SQLite fails with "locked", without waiting, while another process does the same."""
    until = time.monotonic() + BUSY_S
    with closing(sqlite3.connect(path, timeout=BUSY_S)) as connection:
        while True:
            try:
                connection.execute("PRAGMA journal_mode = WAL")
            except sqlite3.OperationalError as error:
                if error.sqlite_errorname != "SQLITE_BUSY" or time.monotonic() >= until:
                    raise
                time.sleep(_RETRY_S)
            else:
                return


def scripts() -> Path:
    """Return the folder of the migrations: inside the installed package, or at the top of a checkout."""
    room = Path(str(importlib.resources.files("runner"))) / "store"
    installed = room / "_migrations"
    return installed if installed.is_dir() else room.parent.parent / "migrations"
