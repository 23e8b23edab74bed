"""The file under the store: made with the right mode, checked, brought to the present schema.

Nothing is ever recreated in silence.
"""

import importlib.resources
import os
import shlex
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import quote

import sqlalchemy as sa
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.pool import ConnectionPoolEntry

from runner.errors import StoreError, UsageError
from runner.store import filesystem, schema
from runner.store.schema import APPLICATION_ID, VERSION

BUSY_S = 15.0
"""How long a writer waits for another one."""
_RETRY_S = 0.02
_MAGIC = b"SQLite format 3\x00"
_DAMAGED = ("SQLITE_CORRUPT", "SQLITE_NOTADB")
_ADVICE = {
    "SQLITE_FULL": "free some space there",
    "SQLITE_IOERR": "look at the disk, and at what the system says of it",
    "SQLITE_BUSY": "another program holds it; wait for it, or end it",
    "SQLITE_READONLY": "it may not be written; give permission, or name another one with --db",
    "SQLITE_CANTOPEN": "may its folder be read and written?",
}
"""What to do, by the beginning of SQLite's name for an error."""


def prepare(path: Path, *, create: bool) -> None:
    """Bring the file at ``path`` to the present schema.

    create: make it where it is missing. Raises UsageError for a path that cannot hold a store, StoreError for a file
    that is not one.
    """
    if create:
        _create(path)
    elif path.is_dir():
        raise UsageError(f"{path} is a folder, not a store; name a file with --db")
    elif not path.is_file() or not path.stat().st_size:
        raise UsageError(f"there is no store at {path}; run `runner run FILE` first, or name the store with --db")
    with _explained(path):
        version = _version(path)
        if version > VERSION:
            raise StoreError(f"{path} was written by a newer runner (schema {version}, this one knows {VERSION}); update runner")
        if version < VERSION:
            _refuse_old(path, version)
            (_migrate if version else _make)(path)


def address(path: Path) -> str:
    """Give the URI under which a store is read.

    WAL needs files beside the store even to read it; in a folder that cannot be written a store at rest is read as it is.
    """
    at_rest = not os.access(path.parent, os.W_OK) and not path.with_name(f"{path.name}-wal").exists()
    return f"file:{quote(str(path))}" + ("?immutable=1" if at_rest else "")


def trouble(path: Path, verb: str, error: BaseException) -> StoreError:
    """Say in one sentence what is wrong with the store at ``path``, and what to do."""
    # SQLite's own words stand under SQLAlchemy's wrapping
    inner = getattr(error, "orig", None) or error
    words = str(inner) or type(inner).__name__
    name = getattr(inner, "sqlite_errorname", None) or ""
    if name.startswith(_DAMAGED):
        advice = f"put a copy of it back, or save what can be read with `sqlite3 {shlex.quote(str(path))} .recover`"
        return StoreError(f"the store {path} cannot be {verb}: it is damaged ({words}); {advice}", kept=False)
    advice = next((f" ({todo})" for begin, todo in _ADVICE.items() if name.startswith(begin)), "")
    return StoreError(f"the store {path} cannot be {verb}: {words}{advice}")


def on_connect(engine: sa.Engine, *, synchronous: str, write: bool) -> None:
    """Set every connection of the engine up. write: begin transactions as writers, so that a busy store is waited for."""

    @sa.event.listens_for(engine, "connect")
    def connect(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
        # sqlite3's own transaction control opens none for SELECT or DDL
        connection.isolation_level = None
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout = {int(BUSY_S * 1000)}")
        cursor.execute("PRAGMA foreign_keys = ON")
        if write:
            cursor.execute("PRAGMA journal_mode = WAL")
            cursor.execute(f"PRAGMA synchronous = {synchronous}")
            # a Mac's fsync leaves the data in the drive's own cache; elsewhere this does nothing
            cursor.execute(f"PRAGMA fullfsync = {int(synchronous == 'FULL')}")
        else:
            cursor.execute("PRAGMA query_only = ON")
        cursor.close()

    @sa.event.listens_for(engine, "begin")
    def begin(connection: sa.Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, sa.exc.DBAPIError) as error:
        raise trouble(path, "used", error) from error
    except OSError as error:
        raise StoreError(f"the store {path} cannot be read: {error.strerror}") from error


def _create(path: Path) -> None:
    if path.is_dir():
        raise UsageError(f"{path} is a folder, not a store; name a file with --db")
    if not path.parent.is_dir():
        raise UsageError(f"the folder {path.parent} does not exist; make it, or name another store with --db")
    kind = filesystem.network(path.parent)
    if kind is not None:
        why = f"lies on a network file system ({kind}), where SQLite may lose what was saved"
        raise UsageError(f"the store {path} {why}; name one on a disk of this machine with --db")
    try:
        # 0600 before SQLite sees it: its -wal and -shm take the mode of the file
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    except OSError as error:
        raise UsageError(f"the store {path} cannot be written: {error.strerror}; name another one with --db") from error
    if not os.access(path.parent, os.W_OK):
        words = "cannot be written, and SQLite keeps files beside the store; name another one with --db"
        raise UsageError(f"the folder {path.parent} {words}")


def _version(path: Path) -> int:
    """Read the schema version; 0 for an empty file. Raises StoreError for a file that is not ours."""
    with path.open("rb") as file:
        head = file.read(16)
    if not head:
        return 0
    if head != _MAGIC:
        raise StoreError(f"{path} is not a store of runner (it is no SQLite file); name another one with --db")
    with closing(sqlite3.connect(address(path), timeout=BUSY_S, uri=True, isolation_level=None)) as connection:
        # one transaction, as another process may be making the store
        connection.execute("BEGIN")
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if application != APPLICATION_ID and tables:
        raise StoreError(f"{path} is another program's database, not a store of runner; name another one with --db")
    return int(version)


def _refuse_old(path: Path, version: int) -> None:
    """Raise UsageError where an older store cannot be brought up to date."""
    # SQLite keeps files beside the store, so the folder counts too
    if not (os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)):
        why = f"was written by an older runner (schema {version}, this one needs {VERSION}) and may not be written here"
        raise UsageError(f"the store {path} {why}; copy it to a folder of yours and name the copy with --db")


def _make(path: Path) -> None:
    with _transaction(path) as connection:
        # another first run may have been quicker: nobody else can write now
        if not connection.exec_driver_sql("SELECT count(*) FROM sqlite_master").scalar():
            schema.create(connection)


def _migrate(path: Path) -> None:
    # imported here: it costs a tenth of a second, and only an older store needs it
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(scripts()).replace("%", "%%"))
    with _transaction(path) as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


@contextmanager
def _transaction(path: Path) -> Iterator[sa.Connection]:
    _into_wal(path)
    engine = sa.create_engine(sa.URL.create("sqlite", database=str(path)))
    on_connect(engine, synchronous="FULL", write=True)
    try:
        with engine.begin() as connection:
            yield connection
    finally:
        engine.dispose()


def _into_wal(path: Path) -> None:
    """Switch the file to WAL. SQLite answers "locked" at once, with no wait, while another process does the same."""
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
