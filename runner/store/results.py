"""Reads the results of a run inside an event loop, as an export has them: by their keys, or those of earlier sessions."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from sqlalchemy.dialects import sqlite

from runner.errors import BAD_ROW
from runner.model import Result
from runner.store import database
from runner.store.connection import Connection
from runner.store.result_rows import Asked, result_of, select_results
from runner.store.schema import items

_SELECT = str(select_results(taken_over=True).add_columns(items.c.id).compile(dialect=sqlite.dialect(paramstyle="qmark")))
_BY_KEYS = f"{_SELECT} WHERE items.run_id = ? AND items.key IN ({{}})"
_BY_IDS = f"{_SELECT} WHERE items.id IN ({{}})"
# the plus signs: in the order of the numbers, which no change of a row's line disturbs, without sorting them for each page
_PAGE = f"{_SELECT} WHERE +items.run_id = ? AND items.id > ? AND items.id <= ? {{}}ORDER BY items.id LIMIT ?"
_BROKEN = {False: f"AND items.error_code IS NOT '{BAD_ROW}' ", True: f"AND items.error_code = '{BAD_ROW}' "}
_LAST_LINE = "SELECT coalesce(max(position), 0) FROM items WHERE run_id = ?"
_NEWEST = "SELECT coalesce(max(id), 0) FROM items WHERE run_id = ?"
_FIRST = f"SELECT id FROM items WHERE run_id = ? AND id <= ? {_BROKEN[False]}ORDER BY position, status, id LIMIT ?"  # noqa: S608


class ResultReader:
    """An asynchronous context manager. asked: see ``result_rows``."""

    def __init__(self, store: Path, run_id: int, asked: Asked) -> None:
        self._store, self._run, self._asked = store, run_id, asked
        self._connection = Connection(store, write=False)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self._connection.close()

    async def of(self, keys: Sequence[str]) -> dict[str, Result]:
        """Return the results of these rows by their keys; a row that has none is left out."""
        rows = await self._connection.rows(_BY_KEYS.format(_places(keys)), (self._run, *keys))
        return {row[0]: result for row, result in zip(rows, self._results(rows), strict=True)}

    async def newest(self) -> int:
        """Return the highest number of a stored row: those up to it are from earlier sessions."""
        ((number,),) = await self._connection.rows(_NEWEST, (self._run,))
        return int(number)

    async def last_line(self) -> int:
        """Return the highest line of a stored row; 0 if there is none."""
        ((line,),) = await self._connection.rows(_LAST_LINE, (self._run,))
        return int(line)

    async def first(self, upto: int, most: int) -> list[int]:
        """Return the numbers of the first rows in the order of the input, without broken ones. upto: no number is higher."""
        return [number for (number,) in await self._connection.rows(_FIRST, (self._run, upto, most))]

    async def numbered(self, numbers: Sequence[int]) -> list[tuple[str, Result]]:
        """Return keys and results of the rows with these numbers."""
        rows = await self._connection.rows(_BY_IDS.format(_places(numbers)), tuple(numbers))
        return [(row[0], result) for row, result in zip(rows, self._results(rows), strict=True)]

    async def page(self, after: int, upto: int, most: int, *, broken: bool) -> tuple[int, list[tuple[str, Result]]]:
        """Return the number of the last of the next rows behind a number, up to another one, with their keys and results.

        broken: True for broken rows, False for all others.
        """
        query = _PAGE.format(_BROKEN[broken])
        rows = await self._connection.rows(query, (self._run, after, upto, most))
        found = [(row[0], result) for row, result in zip(rows, self._results(rows), strict=True)]
        return (rows[-1][-1] if rows else upto), found

    def _results(self, rows: Iterable[Sequence[Any]]) -> list[Result]:
        try:
            return [result_of(row[:-1], self._asked) for row in rows]
        except database.DAMAGE as error:
            raise database.store_error(self._store, "read", error) from error


def _places(values: Sequence[object]) -> str:
    return ",".join("?" * len(values))
