"""What the store uses of aiosqlite below its documented surface is still there and still does the same, on real files.

A failure here most often means that another version of aiosqlite or SQLAlchemy is installed; its message says what to look at.
"""

import asyncio
import inspect
import sqlite3
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import aiosqlite
import anyio
import pytest
import sqlalchemy as sa
from internals import GUARD_S, Internals
from sqlalchemy.ext.asyncio import create_async_engine

from runner.store import aiosqlite_internals
from runner.store.aiosqlite_internals import in_thread

pytestmark = pytest.mark.anyio

AIOSQLITE = Internals(aiosqlite_internals, "aiosqlite")


@asynccontextmanager
async def opened(path: Path) -> AsyncIterator[aiosqlite.Connection]:
    """Open a file with one table as the store does: without implicit transactions."""
    async with aiosqlite.connect(path, isolation_level=None) as driver:
        await driver.execute_fetchall("CREATE TABLE t (x UNIQUE)")
        yield driver


def held(path: Path) -> bool:
    """Return True if a transaction is writing to the file."""
    with closing(sqlite3.connect(path, timeout=0, isolation_level=None)) as other:
        try:
            other.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            return True
        return False


def test_the_version_is_the_one_that_was_checked() -> None:
    AIOSQLITE.check_one_minor_version()


def test_the_private_names_are_there() -> None:
    with AIOSQLITE.uses("in_thread calls Connection._execute(function, argument) and reads Connection._conn"):
        assert inspect.iscoroutinefunction(aiosqlite.Connection._execute)
        inspect.signature(aiosqlite.Connection._execute).bind("self", print, "connection")
        assert isinstance(aiosqlite.Connection._conn, property)
        inspect.signature(aiosqlite.Connection.stop).bind("self")


async def test_a_function_runs_in_the_driver_s_thread_on_its_connection(tmp_path: Path) -> None:
    with AIOSQLITE.uses_within("in_thread runs a function in the one thread of a connection, on sqlite3's own connection"):
        async with opened(tmp_path / "db") as driver:

            def batch(connection: sqlite3.Connection) -> tuple[threading.Thread, int]:
                assert type(connection) is sqlite3.Connection
                connection.execute("BEGIN IMMEDIATE")
                connection.executemany("INSERT INTO t VALUES (?)", [(1,), (2,)])
                connection.execute("COMMIT")
                return threading.current_thread(), connection.total_changes

            thread, changes = await in_thread(driver, batch)
            assert changes == 2
            assert thread is not threading.current_thread()
            assert (await in_thread(driver, lambda _: threading.current_thread())) is thread
            assert await driver.execute_fetchall("SELECT x FROM t") == [(1,), (2,)]
            with closing(sqlite3.connect(tmp_path / "db")) as other:
                assert other.execute("SELECT count(*) FROM t").fetchone() == (2,)


async def test_an_error_comes_out_as_it_is(tmp_path: Path) -> None:
    with AIOSQLITE.uses_within("in_thread raises what the function raises; database.trouble reads sqlite_errorname"):
        async with opened(tmp_path / "db") as driver:
            with pytest.raises(sqlite3.IntegrityError) as raised:
                await in_thread(driver, lambda connection: connection.execute("INSERT INTO t VALUES (1), (1)"))
            assert raised.value.sqlite_errorname == "SQLITE_CONSTRAINT_UNIQUE"
            with pytest.raises(ZeroDivisionError):
                await in_thread(driver, lambda _: 1 // 0)
            assert await in_thread(driver, lambda _: "goes on") == "goes on"


async def test_calls_run_in_their_order_and_one_at_a_time(tmp_path: Path) -> None:
    with AIOSQLITE.uses_within("in_thread's function is one turn: nothing else runs on the connection until it returns"):
        async with opened(tmp_path / "db") as driver:
            asked, may_end = threading.Event(), threading.Event()

            def slow(connection: sqlite3.Connection) -> None:
                connection.execute("INSERT INTO t VALUES (1)")
                asked.set()
                assert may_end.wait(GUARD_S)
                connection.execute("INSERT INTO t VALUES (2)")

            writing = asyncio.ensure_future(in_thread(driver, slow))
            await anyio.to_thread.run_sync(asked.wait)
            reading = asyncio.ensure_future(driver.execute_fetchall("SELECT count(*) FROM t"))
            await asyncio.sleep(0.05)
            assert not reading.done(), "a statement ran in the middle of the function"
            may_end.set()
            assert await reading == [(2,)]
            await writing


async def test_a_function_goes_on_when_nobody_waits_for_it(tmp_path: Path) -> None:
    with AIOSQLITE.uses_within("a cancelled in_thread ends for its caller at once; connection.in_one_turn rolls back by itself"):
        async with opened(tmp_path / "db") as driver:
            asked, may_end, over = threading.Event(), threading.Event(), threading.Event()

            def slow(connection: sqlite3.Connection) -> None:
                asked.set()
                assert may_end.wait(GUARD_S)
                connection.execute("INSERT INTO t VALUES (1)")
                over.set()

            writing = asyncio.ensure_future(in_thread(driver, slow))
            await anyio.to_thread.run_sync(asked.wait)
            writing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await writing
            assert not over.is_set()
            may_end.set()
            assert await driver.execute_fetchall("SELECT x FROM t") == [(1,)]


async def test_a_stuck_connection_can_be_left_behind(tmp_path: Path) -> None:
    """As ``Connection._abandon`` does it; all of SQLAlchemy that it uses is documented, and so is ``stop``."""
    path = tmp_path / "db"
    with AIOSQLITE.uses_within("detach and stop leave a stuck thread behind, which closes the connection when it comes back"):
        engine = create_async_engine(sa.URL.create("sqlite+aiosqlite", database=str(path)), poolclass=sa.NullPool)
        connection = await engine.connect()
        pooled = await connection.get_raw_connection()
        driver = pooled.driver_connection
        assert isinstance(driver, aiosqlite.Connection), f"the driver's connection is a {type(driver).__name__}"
        asked, may_end = threading.Event(), threading.Event()
        threads: list[threading.Thread] = []

        def stuck(file: sqlite3.Connection) -> None:
            threads.append(threading.current_thread())
            file.execute("BEGIN IMMEDIATE")
            asked.set()
            assert may_end.wait(GUARD_S)

        writing = asyncio.ensure_future(in_thread(driver, stuck))
        await anyio.to_thread.run_sync(asked.wait)
        assert held(path)
        assert threads[0].daemon, "a thread that hangs would keep the process from its end"
        pooled.detach()
        stopped = driver.stop()
        assert threads[0].is_alive()
        may_end.set()
        await writing
        assert stopped is not None
        await stopped
        await anyio.to_thread.run_sync(threads[0].join)
        assert not held(path), "the connection was not closed"
