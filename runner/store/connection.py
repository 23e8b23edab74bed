"""One asynchronous connection to the store's file, and its transactions."""

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
"""How long a transaction may take: a disk that is slower than this is dead."""
STUCK_S = 1.0

T = TypeVar("T")
_Identity: TypeAlias = tuple[int, int]


class Connection:
    """One connection, opened on first use and thrown away after an error, whose transactions take turns.

    A transaction is not cancelled: cut off in the middle, SQLite's thread would go on with it and keep the file locked. One
    that takes longer than ``LIMIT_S`` is left to its fate.
    """

    def __init__(self, path: Path, *, write: bool, synchronous: str = "FULL") -> None:
        self._path, self._write, self._synchronous = path, write, synchronous
        self._turn = anyio.Lock()
        # when the present transaction began to wait for the store, by the monotonic clock
        self._since: float | None = None
        self._engine: AsyncEngine | None = None
        self._connection: AsyncConnection | None = None
        # what lies under it
        self._pooled: sa.PoolProxiedConnection | None = None
        self._driver: aiosqlite.Connection | None = None
        self._file: _Identity | None = None
        self._companions: dict[Path, _Identity | None] = {}

    async def transaction(self, work: Callable[[AsyncConnection], Awaitable[T]]) -> T:
        """Do the work and commit. Raises StoreError."""

        async def committed(connection: AsyncConnection) -> T:
            await connection.begin()
            result = await work(connection)
            await connection.commit()
            return result

        return await self._in_turn(committed)

    async def in_one_turn(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do the work and commit, in one turn of the driver's thread, where the work runs. Raises StoreError.

        With a turn for each statement, as ``transaction`` has it, a small batch costs twice as much.
        """
        given_up = False

        def committed(driver: sqlite3.Connection) -> T:
            driver.execute("BEGIN IMMEDIATE")
            result = work(driver)
            if given_up:
                # else it would keep the store locked, for what is written a second time
                driver.execute("ROLLBACK")
                raise sqlite3.OperationalError("nobody waits for this transaction any more")
            driver.execute("COMMIT")
            return result

        async def handed_over(_: AsyncConnection) -> T:
            nonlocal given_up
            assert self._driver is not None
            try:
                return await in_thread(self._driver, committed)
            except anyio.get_cancelled_exc_class():
                given_up = True
                raise

        return await self._in_turn(handed_over)

    async def rows(self, query: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
        """Read all rows of one SELECT through the driver, in one turn of its thread: a Core statement takes five."""

        async def read(_: AsyncConnection) -> list[tuple[Any, ...]]:
            assert self._driver is not None
            found = await self._driver.execute_fetchall(query, values)
            return cast("list[tuple[Any, ...]]", found)

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
                    self._give_up()
                    raise
                except (sa.exc.DBAPIError, sqlite3.Error, OSError) as error:
                    await self.close()
                    raise database.trouble(self._path, "written" if self._write else "read", error) from error
                except BaseException:
                    await self.close()
                    raise
                finally:
                    self._since = None
                # behind the commit, and the connection stays open: it alone can still bring what it holds into the store
                self._check_companions()
                return result
        raise StoreError(f"the store {self._path} does not answer: no transaction within {LIMIT_S:g} s", stuck=True)

    @property
    def stuck(self) -> bool:
        """A transaction takes so long that one more, which can be done without, had better not get in line."""
        return self._since is not None and time.monotonic() - self._since > STUCK_S

    async def fetch(self, statement: sa.Select[Any]) -> Sequence[Any]:
        """Read all rows of a statement."""

        async def read(connection: AsyncConnection) -> list[Any]:
            result = await connection.execute(statement)
            return list(result)

        return await self.transaction(read)

    async def execute(self, *statements: sa.Executable) -> None:
        """Do several statements in one transaction."""

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
            # the file of the first connection: a later one must not hide that it was replaced
            self._file = self._file or _identity(self._path)
        return self._connection

    def _check_file(self) -> None:
        """Notice a store that was deleted or replaced: SQLite would go on writing into a file that nobody can find."""
        if _identity(self._path) != self._file:
            words = "was deleted or replaced while it was in use, and its results with it"
            raise StoreError(f"the store {self._path} {words}; put it back and go on, or begin anew", kept=False)

    def _check_companions(self) -> None:
        """Notice that SQLite's files beside the store were deleted: a kill would now cost what only they hold.

        They come with the first transaction, and stay as long as a connection is open.
        """
        if not self._write:
            return
        for ending in ("-wal", "-shm"):
            path = self._path.with_name(f"{self._path.name}{ending}")
            found = _identity(path)
            if self._companions.setdefault(path, found) != found:
                words = "was deleted or replaced while the store was in use; leave it alone while a run is going on"
                raise StoreError(f"{path} {words}")

    def _give_up(self) -> None:
        """Leave a connection behind that does not answer: its thread closes it when it comes back."""
        if self._pooled is not None and self._driver is not None:
            self._pooled.detach()
            self._driver.stop()
        self._engine = self._connection = self._pooled = self._driver = None

    async def close(self) -> None:
        """Close, rolling back what is open; after an error the connection's state is not to be trusted."""
        connection, engine = self._connection, self._engine
        self._connection = self._engine = self._pooled = self._driver = None
        with anyio.move_on_after(LIMIT_S, shield=True):
            if connection is not None:
                # a connection that cannot even roll back is gone all the same, and the first error is the one to tell
                with suppress(sa.exc.DBAPIError):
                    await connection.close()
            if engine is not None:
                await engine.dispose()


def _identity(path: Path) -> _Identity | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
