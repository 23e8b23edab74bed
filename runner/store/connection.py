"""An asynchronous connection to the file of the store, and its transactions."""

import sqlite3
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, cast

import anyio
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from runner.errors import StoreError
from runner.store import database
from runner.store.aiosqlite_internals import in_thread

if TYPE_CHECKING:
    # SQLAlchemy imports it for the first connection
    import aiosqlite

LIMIT_S = 60.0
"""Seconds that a transaction may take: a slower disk is taken for dead."""
STUCK_S = 1.0
"""Seconds after which a transaction counts as stuck, so that optional ones are left out."""

T = TypeVar("T")
_Identity: TypeAlias = tuple[int, int]


class Connection:
    """One connection, opened on first use and discarded after an error. Its transactions run one after another.

    A transaction is shielded from cancellation: SQLite's thread would continue a cancelled one and keep the file locked. A
    transaction that takes longer than ``LIMIT_S`` is abandoned.
    """

    def __init__(self, path: Path, *, write: bool, synchronous: str = "FULL", lock: Path | None = None) -> None:
        """Prepare a connection. lock: the file of a lock that is held and that no other process may create anew."""
        self._path, self._write, self._synchronous = path, write, synchronous
        self._turn = anyio.Lock()
        # when the present transaction began, by the monotonic clock
        self._since: float | None = None
        self._engine: AsyncEngine | None = None
        self._connection: AsyncConnection | None = None
        # the layers below it
        self._pooled: sa.PoolProxiedConnection | None = None
        self._driver: aiosqlite.Connection | None = None
        self._file: _Identity | None = None
        self._companions: dict[Path, _Identity | None] = {}
        self._lock = {lock: _identity(lock)} if lock is not None else {}

    async def transaction(self, work: Callable[[AsyncConnection], Awaitable[T]]) -> T:
        """Run ``work`` in a transaction and commit. Raises StoreError."""

        async def committed(connection: AsyncConnection) -> T:
            await connection.begin()
            result = await work(connection)
            await connection.commit()
            return result

        return await self._in_turn(committed)

    async def in_one_turn(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run ``work`` in the driver's thread in a transaction and commit, all in one turn of the thread. Raises StoreError.

        ``transaction`` takes a turn for each statement, which makes a small batch cost twice as much.
        """
        abandoned = False

        def committed(driver: sqlite3.Connection) -> T:
            driver.execute("BEGIN IMMEDIATE")
            result = work(driver)
            if abandoned:
                # otherwise it would keep the store locked against the transaction that repeats its work
                driver.execute("ROLLBACK")
                raise sqlite3.OperationalError("this transaction was abandoned")
            driver.execute("COMMIT")
            return result

        async def handed_over(_: AsyncConnection) -> T:
            nonlocal abandoned
            assert self._driver is not None
            try:
                return await in_thread(self._driver, committed)
            except anyio.get_cancelled_exc_class():
                abandoned = True
                raise

        return await self._in_turn(handed_over)

    async def rows(self, query: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
        """Return all rows of a SELECT, read through the driver in one turn of its thread; a Core statement takes five turns."""

        async def read(_: AsyncConnection) -> list[tuple[Any, ...]]:
            assert self._driver is not None
            rows = await self._driver.execute_fetchall(query, values)
            return cast("list[tuple[Any, ...]]", rows)

        return await self._in_turn(read)

    async def _in_turn(self, work: Callable[[AsyncConnection], Awaitable[T]]) -> T:
        with anyio.move_on_after(LIMIT_S, shield=True):
            async with self._turn:
                self._since = time.monotonic()
                try:
                    connection = await self._open()
                    self._check_file()
                    result = await work(connection)
                except anyio.get_cancelled_exc_class():
                    self._abandon()
                    raise
                except (sa.exc.DBAPIError, sqlite3.Error, OSError) as error:
                    await self.close()
                    raise database.store_error(self._path, "written" if self._write else "read", error) from error
                except BaseException:
                    await self.close()
                    raise
                finally:
                    self._since = None
                # after the commit, and without closing the connection: only this connection can still move its data to the store
                self._check_companions()
                return result
        raise StoreError(f"the store {self._path} does not respond: no transaction ended within {LIMIT_S:g} s", stuck=True)

    @property
    def stuck(self) -> bool:
        """True if the present transaction takes so long that an optional one should not wait for it."""
        return self._since is not None and time.monotonic() - self._since > STUCK_S

    async def fetch(self, statement: sa.Select[Any]) -> Sequence[Any]:
        """Return all rows of a statement."""

        async def read(connection: AsyncConnection) -> list[Any]:
            result = await connection.execute(statement)
            return list(result)

        return await self.transaction(read)

    async def execute(self, *statements: sa.Executable) -> None:
        """Execute statements in one transaction."""

        async def write(connection: AsyncConnection) -> None:
            for statement in statements:
                await connection.execute(statement)

        await self.transaction(write)

    async def _open(self) -> AsyncConnection:
        if self._connection is None:
            url = sa.URL.create("sqlite+aiosqlite", database=str(self._path))
            self._engine = create_async_engine(url, poolclass=sa.NullPool)
            database.on_connect(self._engine.sync_engine, synchronous=self._synchronous, write=self._write)
            self._connection = await self._engine.connect()
            self._pooled = await self._connection.get_raw_connection()
            self._driver = cast("aiosqlite.Connection", self._pooled.driver_connection)
            self._companions = {}
            # keep the identity from the first connection, so that a later one still detects a replaced file
            self._file = self._file or _identity(self._path)
        return self._connection

    def _check_file(self) -> None:
        """Raise StoreError if the store was deleted or replaced: SQLite would continue to write to a file without a name."""
        if _identity(self._path) != self._file:
            words = "was deleted or replaced while it was in use, and its results with it"
            raise StoreError(f"the store {self._path} {words}; put it back and continue, or start a new run", kept=False)

    def _check_companions(self) -> None:
        """Raise StoreError if a file next to the store was deleted.

        Without SQLite's own, the data in them would be lost after a kill; without the lock, another process would send the same
        rows. SQLite creates its files with the first transaction and keeps them as long as a connection is open.
        """
        if not self._write:
            return
        for ending in ("-wal", "-shm"):
            path = self._path.with_name(f"{self._path.name}{ending}")
            self._companions.setdefault(path, _identity(path))
        for path, identity in (*self._companions.items(), *self._lock.items()):
            if _identity(path) != identity:
                words = "was deleted or replaced while the store was in use; do not touch it during a run"
                raise StoreError(f"{path} {words}")

    def _abandon(self) -> None:
        """Abandon a connection that does not respond: its thread closes the connection when it returns."""
        if self._pooled is not None and self._driver is not None:
            self._pooled.detach()
            self._driver.stop()
        self._engine = self._connection = self._pooled = self._driver = None

    async def close(self) -> None:
        """Close the connection and roll back an open transaction. Called after an error too, since its state is then unknown."""
        connection, engine = self._connection, self._engine
        self._connection = self._engine = self._pooled = self._driver = None
        with anyio.move_on_after(LIMIT_S, shield=True):
            if connection is not None:
                # a connection that cannot roll back is discarded all the same, and the first error is the one to report
                with suppress(sa.exc.DBAPIError):
                    await connection.close()
            if engine is not None:
                await engine.dispose()


def _identity(path: Path) -> _Identity | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_dev, stat.st_ino
