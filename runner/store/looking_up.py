"""Looks rows up in the store of a run: by their keys, and on the lines of the input."""

from collections.abc import Mapping, Sequence

import sqlalchemy as sa
from msgspec import structs

from runner.errors import BAD_ROW
from runner.settled import Settled
from runner.store.connection import Connection
from runner.store.retry_tables import IS_PENDING
from runner.store.retrying import number_pending
from runner.store.sessions import of_clock

# {}: whether a retry is to ask the row again
SETTLED = (
    f"SELECT key, status, position, fingerprint, attempts, error_code IS '{BAD_ROW}'{{}} FROM items"  # noqa: S608 - a constant
    " WHERE run_id = ? AND key IN ({})"
)
BETWEEN = (
    "SELECT position, key, fingerprint FROM items WHERE run_id = ? AND position BETWEEN ? AND ? {}"  # noqa: S608 - as above
    f"AND error_code IS NOT '{BAD_ROW}' ORDER BY position"
)
NOT_PENDING = f"AND NOT {IS_PENDING} "
# the row of an answered item holds the number of its answer; the index contains only failed attempts
_FAILED_BEFORE = "run_id = ? AND item_key IN ({}) AND error_code IS NOT NULL"
# released: a batch may still bring a result, but the row no longer waits for it
_IN_BATCHES = " UNION ALL ".join(
    f"SELECT key, number, released FROM batch_rows WHERE run_id = ?1 AND released = {released} AND key IN ({{}})"  # noqa: S608
    for released in (0, 1)
)
TRIED = f"SELECT item_key, max(number) FROM attempts WHERE {_FAILED_BEFORE} GROUP BY item_key"  # noqa: S608 - as above


class RowLookup:
    """The rows of one run. retries: the session is a retry, and has to know which rows it has chosen.

    waits: the run has open batches, in which rows may wait. reasked: rows are to be asked again with other messages.
    """

    def __init__(self, reader: Connection, run_id: int) -> None:
        self._reader, self.run_id = reader, run_id
        self.retries = False
        self.waits = self.reasked = False

    async def settled(self, keys: Sequence[str]) -> Mapping[str, Settled]:
        """Look up keys. The result leaves out keys without an attempt or outcome."""
        # through the driver, for speed: on resume a million finished rows may be looked up before the first new request
        query = SETTLED.format(f", {IS_PENDING}" if self.retries else "", placeholders(keys))
        rows = await self._reader.rows(query, (self.run_id, *keys))
        settled = {key: Settled(*rest) for key, *rest in rows}
        open_keys = [key for key in keys if (row := settled.get(key)) is None or row.status != "done"]
        if open_keys:
            for key, number in (await self.tried(open_keys)).items():
                before = settled.get(key) or Settled(status=None, position=None, fingerprint=None, attempts=0)
                settled[key] = structs.replace(before, attempts=max(number, before.attempts))
        if self.waits:
            await self._mark_waiting(settled, keys)
        return settled

    async def _mark_waiting(self, settled: dict[str, Settled], keys: Sequence[str]) -> None:
        """Mark the rows that wait in open batches, and count the attempts in batches."""
        places = ", ".join(f"?{number}" for number in range(2, len(keys) + 2))
        for key, number, released in await self._reader.rows(_IN_BATCHES.format(places, places), (self.run_id, *keys)):
            before = settled.get(key) or Settled(status=None, position=None, fingerprint=None, attempts=0)
            attempts = max(number, before.attempts)
            settled[key] = structs.replace(before, attempts=attempts, waiting=before.waiting or not released)

    async def settled_between(self, first: int, last: int) -> Sequence[tuple[int, str, int]]:
        """Return the settled rows on these lines that are not to be asked again, in order: (position, key, fingerprint)."""
        return await self._reader.rows(BETWEEN.format(NOT_PENDING if self.retries else ""), (self.run_id, first, last))

    async def pending(self) -> int:
        """Return how many rows an interrupted retry is still to ask again."""
        return int((await self._reader.fetch(number_pending(self.run_id)))[0][0])

    async def session_number(self) -> int:
        """Return the number that a session of the run has which begins now."""
        return 1 + int((await self._reader.fetch(sa.select(sa.func.count()).where(of_clock(self.run_id))))[0][0])

    async def tried(self, keys: Sequence[str]) -> Mapping[str, int]:
        """Return the number of the last failed attempt for each key that has one. ``settled`` omits those of done rows."""
        return dict(await self._reader.rows(TRIED.format(placeholders(keys)), (self.run_id, *keys)))


def placeholders(values: Sequence[object]) -> str:
    """Return as many places for values in a statement."""
    return ",".join("?" * len(values))
