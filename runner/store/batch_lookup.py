"""Finds rows of a batch by the ids of their requests, and remembers those that are about to be settled."""

from collections.abc import Sequence

from runner.batches import BatchRow
from runner.store import waiting
from runner.store.connection import Connection
from runner.store.stored_fields import StoredFields
from runner.store.waiting import Found

_FIRST_PAGE, _PAGE = 500, 5_000
"""Rows that are read at once: at first, as nothing is known of their size, and then, if they are short."""
_MOST_PAGES, _MOST_CHARS = 4, 8 << 20
"""Pages of rows, and about how many characters of their fields, that are read ahead at most."""


class BatchLookup:
    """The rows of the batches of one run.

    Results come in nearly the order of their requests. So rows are read in that order, some thousands ahead, which takes a third
    of the time of a search by their ids; that is for what lies further away.
    """

    def __init__(self, reader: Connection, run_id: int) -> None:
        self._reader, self._run_id = reader, run_id
        self.forget()

    def forget(self) -> None:
        """Forget what was found: it may have changed."""
        # the batch, and what the last call has found; what was read ahead, and where and with how many rows that goes on
        self._batch = 0
        self._found: dict[str, Found] = {}
        self._ahead: dict[str, Found] = {}
        self._last, self._page, self._ended = 0, _FIRST_PAGE, False

    def found(self, batch_id: int, custom_ids: Sequence[str]) -> dict[str, Found] | None:
        """Return what ``rows`` has found of these; None if it is not known of all of them."""
        if batch_id != self._batch:
            return None
        found = {one: self._found[one] for one in custom_ids if one in self._found}
        return found if len(found) == len(custom_ids) else None

    def settled(self, custom_ids: Sequence[str]) -> None:
        """Take note of rows that have left their batch."""
        for one in custom_ids:
            self._found.pop(one, None)
            self._ahead.pop(one, None)

    async def rows(self, batch_id: int, custom_ids: Sequence[str]) -> dict[str, BatchRow]:
        """Return those of these rows that have no result yet, by the id of the request."""
        if batch_id != self._batch:
            self.forget()
            self._batch = batch_id
        self._found = {}
        missing = self._take(custom_ids)
        while missing and not self._ended and len(self._ahead) < _MOST_PAGES * self._page:
            await self._read_ahead(batch_id)
            missing = self._take(missing)
        if missing:
            for query, values in waiting.queries(self._run_id, batch_id, missing):
                rows = map(waiting.found_of, await self._reader.rows(query, values))
                self._found.update((one.row.custom_id, one) for one in rows)
        return {custom_id: one.row for custom_id, one in self._found.items()}

    def _take(self, custom_ids: Sequence[str]) -> list[str]:
        """Move rows from those that were read ahead to those that were found; return the ids of the others."""
        missing, found, ahead = [], self._found, self._ahead
        for one in custom_ids:
            if one in ahead:
                found[one] = ahead.pop(one)
            elif one not in found:
                missing.append(one)
        return missing

    async def _read_ahead(self, batch_id: int) -> None:
        values = await self._reader.rows(waiting.LEFT, (batch_id, self._last, batch_id, batch_id, self._page))
        self._ended = len(values) < self._page
        if values:
            rows = list(map(waiting.found_of, values))
            self._ahead.update((one.row.custom_id, one) for one in rows)
            self._last = rows[-1].id
            chars = sum(len(one.row.metadata.text) for one in rows if isinstance(one.row.metadata, StoredFields))
            self._page = min(_PAGE, max(1, _MOST_CHARS * len(rows) // max(1, chars) // _MOST_PAGES))

    async def left(self, batch_id: int, limit: int) -> list[BatchRow]:
        """Return rows of a batch that have no result yet, in the order in which they were added."""
        found = await self._reader.rows(waiting.LEFT, (batch_id, 0, batch_id, batch_id, limit))
        return [waiting.row_of(values[:-1]) for values in found]
