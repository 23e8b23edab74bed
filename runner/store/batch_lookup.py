"""Finds rows of a batch by the ids of their requests, and remembers those that are about to be settled."""

from collections.abc import Sequence

from runner.batches import BatchRow
from runner.store import waiting
from runner.store.connection import Connection
from runner.store.waiting import Found

_MOST_OUT_OF_ORDER = 0.5
"""Where more of the rows than this lie elsewhere, the results of a batch come in another order than its requests."""


class BatchLookup:
    """The rows of the batches of one run."""

    def __init__(self, reader: Connection, run_id: int) -> None:
        self._reader, self._run_id = reader, run_id
        self.forget()

    def forget(self) -> None:
        """Forget what was found: it may have changed."""
        self._found: dict[str, Found] = {}
        # the batch, the last of its entries that was found, and whether its results come in the order of the requests
        self._batch, self._last, self._in_order = 0, 0, True

    def found(self, batch_id: int, custom_ids: Sequence[str]) -> dict[str, Found] | None:
        """Return what ``rows`` has found of these; None if it is not known of all of them."""
        if batch_id != self._batch or not self._found.keys() >= set(custom_ids):
            return None
        return {one: self._found[one] for one in custom_ids}

    def settled(self, custom_ids: Sequence[str]) -> None:
        """Take note of rows that have left their batch."""
        for one in custom_ids:
            self._found.pop(one, None)

    async def rows(self, batch_id: int, custom_ids: Sequence[str]) -> dict[str, BatchRow]:
        """Return those of these rows that have no result yet, by the id of the request."""
        if batch_id != self._batch:
            self.forget()
            self._batch = batch_id
        found = await self._next(batch_id, custom_ids) if self._in_order else {}
        if missing := [one for one in custom_ids if one not in found]:
            for query, values in waiting.queries(self._run_id, batch_id, missing):
                found.update((one.row.custom_id, one) for one in map(waiting.found_of, await self._reader.rows(query, values)))
        self._found = found
        return {custom_id: one.row for custom_id, one in found.items()}

    async def _next(self, batch_id: int, custom_ids: Sequence[str]) -> dict[str, Found]:
        """Return those of these rows that are the next ones of the batch. They are read for half of the price of a search."""
        values = (batch_id, self._last, batch_id, batch_id, len(custom_ids))
        rows, wanted = map(waiting.found_of, await self._reader.rows(waiting.LEFT, values)), set(custom_ids)
        found = {one.row.custom_id: one for one in rows if one.row.custom_id in wanted}
        if found:
            self._last = max(one.id for one in found.values())
        self._in_order = len(found) >= _MOST_OUT_OF_ORDER * len(wanted)
        return found

    async def left(self, batch_id: int, limit: int) -> list[BatchRow]:
        """Return rows of a batch that have no result yet, in the order in which they were added."""
        found = await self._reader.rows(waiting.LEFT, (batch_id, 0, batch_id, batch_id, limit))
        return [waiting.row_of(values[:-1]) for values in found]
