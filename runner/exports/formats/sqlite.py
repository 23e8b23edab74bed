"""A SQLite database with one table, ``answers``. Columns are typed; lists, objects and what has several kinds are JSON texts."""

import errno
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path

from runner.exports.columns import caseless, spelt
from runner.exports.kinds import Kind, typed

OUTPUT = "path"
"""Opens the file itself."""
ALIKE = caseless
"""Names of columns that differ in capital letters only are one for SQLite."""
APPLICATION_ID = 0x50524E45
"""In the header of the file: by it an earlier export is known. "PRNE" in ASCII."""
_TYPES: dict[Kind, str] = {"int": "INTEGER", "float": "REAL", "bool": "BOOLEAN", "text": "TEXT", "other": "TEXT"}
MOST_COLUMNS = 2_000
_ONE_WRITE = ("journal_mode = OFF", "synchronous = OFF", f"application_id = {APPLICATION_ID}")
"""Nobody else has the file before it is complete, and it is made durable then."""


def write(columns: Sequence[str], records: Iterable[Sequence[object]], out: Path, *, kinds: Sequence[Kind]) -> int:
    """Write all records into a new database; return their number. kinds: what each column holds.

    Raises OSError if the file cannot be written.
    """
    count = 0

    def rows() -> Iterator[list[object]]:
        nonlocal count
        for count, record in enumerate(typed(records, kinds), 1):  # noqa: B007 - the last count is the result
            yield record

    table = ", ".join(f"{_quoted(name)} {_TYPES[kind]}" for name, kind in zip(columns, kinds, strict=True))
    places = ", ".join("?" * len(columns))
    try:
        with closing(sqlite3.connect(out, isolation_level=None)) as connection:
            for pragma in _ONE_WRITE:
                connection.execute(f"PRAGMA {pragma}")
            connection.execute("BEGIN")
            connection.execute(f"CREATE TABLE answers ({table})")
            connection.executemany(f"INSERT INTO answers VALUES ({places})", rows())  # noqa: S608 - question marks
            connection.execute("COMMIT")
    except sqlite3.Error as error:
        # whoever has opened the output says which one it is
        raise OSError(errno.EIO, str(error)) from error
    return count


def _quoted(name: str) -> str:
    return '"{}"'.format(spelt(name).replace('"', '""'))
