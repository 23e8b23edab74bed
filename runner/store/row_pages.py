"""Pages of the rows of a run that have an outcome: a page begins behind a row, and not after so many rows, so each is as quick.

Synchronous. What the text of a row holds is found by ``row_index``.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import sqlalchemy as sa

from runner.model import Result
from runner.origin import Files
from runner.store import database
from runner.store.result_rows import Asked, located, result_of, select_results
from runner.store.schema import items, reused, runs
from runner.store.spending import has_open

MOST_ROWS = 500
"""Rows of a page, at most."""


class Place(NamedTuple):
    """Where a row stands in the order of the input: its line, which answer of its row it is, and its number in the store."""

    position: int
    answer_number: int
    id: int


class Page(NamedTuple):
    """Rows in their order, each with its place, and whether there are more behind them."""

    rows: list[tuple[Place, Result]]
    more: bool


def run_ids(store: Path) -> list[int]:
    """Return the numbers of all runs, the newest first. Raises StoreError."""
    with database.transaction(store, write=False) as connection:
        return list(connection.execute(sa.select(runs.c.id).order_by(runs.c.id.desc())).scalars())


class RowPages:
    """Reads pages of the rows of one run. files: those that it has read, if several. asked: what a row asked (``result_of``)."""

    def __init__(self, store: Path, run_id: int, files: Files | None, asked: Asked | None) -> None:
        self._store, self._run, self._files, self._asked = store, run_id, files, asked

    def page(self, after: Place | None, limit: int, *, statuses: Sequence[str] = (), backwards: bool = False) -> Page:
        """Return the rows behind a place, or before it. statuses: none means any. Raises StoreError."""
        where = [items.c.run_id == self._run, *([items.c.status.in_(statuses)] if statuses else [])]
        order = (items.c.position, items.c.answer_number, items.c.id)
        if after is not None:
            where += _behind(after, backwards=backwards)
        with database.transaction(self._store, write=False) as connection:
            statement = self._selected(connection).where(*where)
            ordered = statement.order_by(*(one.desc() if backwards else one for one in order)).limit(limit + 1)
            found = self._rows(connection.execute(ordered))
        return Page(found[:limit], len(found) > limit)

    def of(self, ids: Sequence[int]) -> list[tuple[Place, Result]]:
        """Return the rows with these numbers in the store, in this order, without those that are there no more."""
        # the numbers tell where the rows are; the index of the run would be read as a whole
        mine = (items.c.run_id + 0 == self._run, items.c.id.in_(ids))
        with database.transaction(self._store, write=False) as connection:
            found = self._rows(connection.execute(self._selected(connection).where(*mine)))
        by_id = {place.id: (place, row) for place, row in found}
        return [by_id[one] for one in ids if one in by_id]

    def _selected(self, connection: sa.Connection) -> sa.Select[Any]:
        # some of what was taken over may have been sent since; to count it would take as long as reading all rows
        has_taken_over = sa.exists().where(reused.c.run_id == self._run)
        taken_over, open_requests = connection.execute(sa.select(has_taken_over, has_open(self._run))).one()
        selected = select_results(taken_over=bool(taken_over), open_requests=bool(open_requests))
        return selected.add_columns(items.c.position, items.c.answer_number, items.c.id)

    def _rows(self, found: Any) -> list[tuple[Place, Result]]:
        try:
            return [(Place(*row[-3:]), located(result_of(row[:-3], self._asked), self._files)) for row in map(tuple, found)]
        except database.DAMAGE as error:
            raise database.store_error(self._store, "read", error) from error


def _behind(after: Place, *, backwards: bool) -> list[sa.ColumnElement[bool]]:
    """Select what is behind a place, or before it; by the line first, which an index finds."""
    position, rest = items.c.position, sa.tuple_(items.c.answer_number, items.c.id)
    here = sa.tuple_(sa.literal(after.answer_number), sa.literal(after.id))
    if backwards:
        return [position <= after.position, sa.or_(position < after.position, rest < here)]
    return [position >= after.position, sa.or_(position > after.position, rest > here)]
