"""The answered rows of a run, read in pages while other processes write to the store. Synchronous.

Each page is a transaction of its own: one that stayed open for hours would keep the write-ahead log from being emptied.
"""

from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import sqlalchemy as sa

from runner.errors import UsageError
from runner.store import database
from runner.store.result_rows import ORDER, ORDER_OF_ANSWERS
from runner.store.schema import items

_PAGE = 500
_PAGE_CHARS = 4 << 20
"""A page ends early when its texts reach this many characters."""
_AT_ONCE = 50
"""Rows that the driver holds in memory."""


class Answered(NamedTuple):
    """An answered row. key: its own, or that of one of its answers. fields: its stored fields as JSON; None if it has none."""

    position: int
    key: str
    fields: str | None
    text: str | None


class AnsweredRows:
    """The rows of a run that are answered now, in input order, each once for each answer. Takes 16 bytes of memory per answer.

    Which rows these are, and their order, is settled here: each reading yields the same ones once, though the run may go on, and
    its rows may move, in the meantime. several: rows may have more than one answer.
    """

    def __init__(self, store: Path, run_id: int, *, several: bool = False) -> None:
        self._store, self._run_id = store, run_id
        self._ids, self._positions = array("q"), array("q")
        # reads only an index
        answered = sa.select(items.c.id, items.c.position).where(items.c.run_id == run_id, items.c.status == "done")
        ordered = answered.order_by(*(ORDER_OF_ANSWERS if several else ORDER))
        with database.transaction(store, write=False) as connection:
            for number, position in connection.execution_options(yield_per=10_000).execute(ordered):
                self._ids.append(number)
                self._positions.append(position)

    def __len__(self) -> int:
        return len(self._ids)

    def __iter__(self) -> Iterator[Answered]:
        at = 0
        while at < len(self._ids):
            page = self._page(at)
            yield from page
            at += len(page)

    def _page(self, at: int) -> list[Answered]:
        """Return the next rows, from a place in their order on. Raises UsageError if they are gone, StoreError."""
        wanted = self._ids[at : at + _PAGE]
        found: dict[int, tuple[str, str | None, str | None]] = {}
        left = _PAGE_CHARS
        with database.transaction(self._store, write=False) as connection:
            for part in (wanted[first : first + _AT_ONCE] for first in range(0, len(wanted), _AT_ONCE)):
                for number, key, fields, text in connection.execute(_rows(part)):
                    found[number] = key, fields, text
                    left -= len(fields or "") + len(text or "")
                if any(number not in found for number in part):
                    raise UsageError(f"the answers of run {self._run_id} have been deleted while they were read")
                if left <= 0:
                    break
        return [
            Answered(position, *found[number])
            for number, position in zip(wanted, self._positions[at : at + _PAGE], strict=True)
            if number in found
        ]


def _rows(ids: Sequence[int]) -> sa.Select[Any]:
    return sa.select(items.c.id, items.c.key, items.c.metadata, items.c.text).where(items.c.id.in_(ids))
