"""Everything of aiosqlite that is used below its documented surface, and nothing else.

Decision 0010 says why, and how to leave it.
``tests/unit/store/test_aiosqlite_internals.py`` fails when a new version changes what is used here.
"""

import sqlite3
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar, cast

if TYPE_CHECKING:
    # SQLAlchemy imports it for the first connection
    import aiosqlite

CHECKED_WITH = "0.22.1"
"""The version of aiosqlite that every name below was last checked with."""

T = TypeVar("T")


def in_thread(driver: "aiosqlite.Connection", work: Callable[[sqlite3.Connection], T]) -> Awaitable[T]:
    """Run a function of ours in the driver's thread, on the connection of sqlite3 that lives there.

    ``_execute`` runs any function, in the order of the calls, and returns or raises what the function does. ``_conn`` is the
    connection of sqlite3. The documented methods run one statement each, every time with a turn of the thread and of the loop.
    """
    return cast("Awaitable[T]", driver._execute(work, driver._conn))  # type: ignore[no-untyped-call]
