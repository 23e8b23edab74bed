"""Looks rows of one run up before a session begins: which of them a file holds, and what precedes its new rows. Synchronous."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from runner.errors import BAD_ROW
from runner.origin import LINES
from runner.several import row_of
from runner.store import database
from runner.store.schema import items

_SPREAD = 1_000_003
"""A prime: by it, files of any number of rows each give rows to a sample."""


class StoredRows:
    """The settled rows of a run, read in one transaction."""

    def __init__(self, connection: sa.Connection, run_id: int) -> None:
        self._connection, self._run_id = connection, run_id
        self._mine = items.c.run_id == run_id
        # in the words of the condition of an index: few runs have any, and nothing is read in the others
        self._further = sa.and_(self._mine, sa.text("items.answer_number > 1"))

    def sample(self, most: int) -> dict[str, int]:
        """Return about ``most`` settled rows, spread over the input: key -> fingerprint."""
        number = self._count(self._mine)
        step = max(1, number // most)
        # the lines of several files are alike, so the number of the file counts too
        place = items.c.position % LINES + sa.cast(items.c.position / LINES, sa.Integer) * _SPREAD
        spread = sa.select(items.c.key, items.c.fingerprint).where(self._mine, place % step == 0).limit(2 * most)
        # of a row with several answers, any of them stands for it
        return {row_of(key): asked for key, asked in self._pairs(spread).items()}

    def is_empty(self) -> bool:
        """Return True if no row is settled."""
        return self._connection.execute(sa.select(items.c.id).where(self._mine).limit(1)).first() is None

    def fingerprints(self, keys: Sequence[str]) -> dict[str, int]:
        """Return those of the keys that are settled, with their fingerprints."""
        among = sa.select(items.c.key, items.c.fingerprint).where(self._mine, items.c.key.in_(keys))
        return self._pairs(among)

    def answered(self, keys: Sequence[str]) -> dict[str, int]:
        """Return those of the keys that have an answer, with their fingerprints."""
        among = sa.select(items.c.key, items.c.fingerprint).where(self._mine, items.c.status == "done", items.c.key.in_(keys))
        return self._pairs(among)

    def positions(self, keys: Sequence[str]) -> dict[str, int]:
        """Return those of the keys that are settled, with their lines."""
        among = sa.select(items.c.key, items.c.position).where(self._mine, items.c.key.in_(keys))
        return self._pairs(among)

    def identical(self, key: str, lines: int) -> int:
        """Return how many settled rows on the first ``lines`` lines have a generated key, with or without an ordinal."""
        with_ordinal = sa.and_(items.c.key > f"{key}-", items.c.key < f"{key}.")
        here = (self._mine, items.c.answer_number == 1, sa.or_(items.c.key == key, with_ordinal), items.c.position <= lines)
        return self._count(*here)

    def counted(self, lines: int) -> tuple[int, int]:
        """Return how many settled rows the first ``lines`` lines have, and how many of them are broken."""
        here = (self._mine, items.c.position <= lines)
        rows = self._count(*here) - self._count(self._further, items.c.position <= lines)
        # the index tells which rows have failed, so that only those are read
        is_broken = (items.c.status == "failed", items.c.error_code == BAD_ROW, items.c.answer_number == 1)
        return rows, self._count(*here, *is_broken)

    def _count(self, *where: sa.ColumnElement[bool]) -> int:
        return self._connection.execute(sa.select(sa.func.count()).select_from(items).where(*where)).scalar() or 0

    def _pairs(self, statement: sa.Select[tuple[str, int]]) -> dict[str, int]:
        pairs: list[Any] = list(self._connection.execute(statement))
        return dict(pairs)


@contextmanager
def stored_rows(store: Path, run_id: int) -> Iterator[StoredRows]:
    """Yield the settled rows of a run. Raises StoreError."""
    with database.transaction(store, write=False) as connection:
        yield StoredRows(connection, run_id)
