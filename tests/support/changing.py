"""A store that changes again and again while a command reads it: as if another process worked on it."""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa


@contextmanager
def changed_after_each_read(path: Path, statements: Sequence[str], first: str) -> Iterator[list[str]]:
    """Run statements on a store behind each statement of this process that reads it; from the first one on that has some words.

    Yields the statements behind which the store was changed.
    """
    seen = list[str]()

    def change(_: Any, __: Any, statement: str, *___: Any) -> None:
        if statement.startswith("SELECT") and (seen or first in statement):
            seen.append(statement)
            with closing(sqlite3.connect(path)) as other, other:
                other.execute("PRAGMA synchronous = OFF")
                for one in statements:
                    other.execute(one)

    sa.event.listen(sa.Engine, "after_cursor_execute", change)
    try:
        yield seen
    finally:
        sa.event.remove(sa.Engine, "after_cursor_execute", change)
