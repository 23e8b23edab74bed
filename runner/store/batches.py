"""The batches of a run: files of requests at a provider's batch API, and the rows that wait in them.

A batch goes from one state to the next, each written before the request that may change something at the provider, and after it::

    writing ──> written ──> uploading ──> uploaded ──> creating ──> submitted ──> ended ──> done
                   │                                      ▲ │            │          ▲
                   └──── without a file of its own ───────┘ │            └> cancelling

    uploading, creating, submitted, cancelling, ended ──> refused    the provider does not take it, and bills nothing
    creating, submitted, ended ──> uploaded, written                 it was refused for now: the same file is sent later
    uploaded ──> uploading                                           its file is gone: it is uploaded once more
    creating, submitted, cancelling, ended ──> gone                  nobody will tell its results: what it has cost is not known

In the states from ``uploading`` to ``ended`` its rows may be at the provider, and from ``creating`` on they may be billed. A row
leaves its batch with its outcome, or with a failed attempt, in one transaction: so what a kill leaves in ``batch_rows`` is what
is still to be fetched.
"""

import sqlite3
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import msgspec
import sqlalchemy as sa

from runner.batches import OPEN_STATES, BatchRow, Reask, State, StoredBatch
from runner.errors import StoreError
from runner.model import Entry
from runner.money import Price
from runner.store import batch_reading, waiting
from runner.store.batch_lookup import BatchLookup
from runner.store.connection import Connection
from runner.store.saving import Saving
from runner.store.schema import batches
from runner.store.statements import number_prices

NEXT: Mapping[State, tuple[State, ...]] = {
    "writing": ("written",),
    "written": ("uploading", "creating"),
    "uploading": ("uploaded", "refused"),
    "uploaded": ("creating", "uploading"),
    "creating": ("submitted", "uploaded", "written", "refused", "gone"),
    "submitted": ("cancelling", "ended", "uploaded", "written", "refused", "gone"),
    "cancelling": ("ended", "refused", "gone"),
    "ended": ("done", "uploaded", "written", "refused", "gone"),
    "done": (),
    "refused": (),
    "gone": (),
}
"""The states that may follow each; a batch may also stay in its state."""
NOT_MADE: tuple[State, ...] = ("writing", "written", "uploading", "uploaded")
"""States in which there cannot be a batch at the provider, at most a file."""
BILLED: tuple[State, ...] = ("creating", "submitted", "cancelling", "ended")
"""States in which requests of a batch may have been billed."""
_CHANGEABLE = tuple(name for name in StoredBatch.__struct_fields__ if name not in ("id", "run_id", "rows", "waiting", "released"))
_GIVE_UP = """
INSERT INTO attempts (run_id, item_key, number, started_at, duration_s, sent, bytes_received, error_code, error, variant_id, tier,
    input_bound, output_bound, cache_1h_bound, price_id)
SELECT r.run_id, r.key, r.number, coalesce(b.submitted_at, b.created_at), 0.0, 1, 0, 'batch_gone', ?, b.variant_id, 'batch',
    coalesce(r.input_bound, 0), r.output_bound, r.cache_1h_bound, b.price_id
FROM batch_rows r JOIN batches b ON b.id = r.batch_id WHERE b.id = ? AND r.id BETWEEN b.first_row AND b.last_row ORDER BY r.id
"""
# a row that keeps its answer has as many attempts as there were
_COUNT_UP = """
UPDATE items SET attempts = r.number FROM batches b CROSS JOIN batch_rows r WHERE b.id = ? AND r.batch_id = b.id
    AND r.id BETWEEN b.first_row AND b.last_row AND items.run_id = r.run_id AND items.key = r.key AND items.attempts < r.number
"""
_CLEAR = """
DELETE FROM batch_rows WHERE batch_id = ?1 AND id BETWEEN (SELECT first_row FROM batches WHERE id = ?1)
    AND (SELECT last_row FROM batches WHERE id = ?1)
"""
_EMPTY = dict.fromkeys(("waiting", "released", "left_input", "left_output", "left_1h", "left_unlimited"), 0)
_RELEASE = """
UPDATE batch_rows SET released = 1, custom_id = coalesce(custom_id, key) WHERE batch_id = ?1 AND released = 0
    AND id BETWEEN (SELECT first_row FROM batches WHERE id = ?1) AND (SELECT last_row FROM batches WHERE id = ?1)
"""


class RunBatches:
    """The batches of one run, owned by this process: a ``runner.batches.BatchStore``."""

    def __init__(self, store: Saving, writer: Connection, reader: Connection) -> None:
        self._store, self._writer, self._reader = store, writer, reader
        self.run_id = store.run_id
        self._lookup = BatchLookup(reader, store.run_id)

    async def look(self) -> None:
        """Look whether rows of the run wait in batches, or are to be asked again with other messages."""
        self._lookup.forget()
        waits: Any = sa.exists().where(batches.c.run_id == self.run_id, batches.c.state.in_(OPEN_STATES))
        ((self._store.waits, self._store.reasked),) = await self._reader.fetch(
            sa.select(waits, batch_reading.has_reasks(self.run_id))
        )

    async def batches(self, *, all_states: bool = False) -> list[StoredBatch]:
        """Return the batches of the run in the order of their creation: those in an open state, or all."""
        query = batch_reading.select_batches(self.run_id, all_states=all_states)
        return [batch_reading.batch_of(row) for row in await self._reader.fetch(query)]

    async def known(self, remote_ids: Collection[str]) -> set[str]:
        """Return those of these ids of batches at a provider that the store has, of whatever run."""
        found = await self._reader.fetch(sa.select(batches.c.remote_id).where(batches.c.remote_id.in_(remote_ids)))
        return {row.remote_id for row in found}

    async def begin_batch(self, batch: StoredBatch) -> int:
        """Write a batch in the state ``writing`` (its ``id`` is ignored) and return its number."""
        values = {name: getattr(batch, name) for name in _CHANGEABLE if name not in ("state", "input_bound", "output_bound")}

        def write(driver: sqlite3.Connection) -> int:
            fixed = {"run_id": self.run_id, "state": "writing", "output_bound": 0, "variant_id": self._store.variant}
            row = {**self._stored(driver, values), **fixed}
            names = ", ".join(f'"{name}"' for name in row)
            insert = f"INSERT INTO batches ({names}) VALUES ({', '.join('?' * len(row))})"  # noqa: S608 - names of ours
            return driver.execute(insert, tuple(row.values())).lastrowid or 0

        number = await self._writer.in_one_turn(write)
        self._store.waits = True
        return number

    async def add_rows(self, batch_id: int, rows: Sequence[BatchRow]) -> None:
        """Write rows of a batch that is being written. A row that waits in another batch of the run raises StoreError."""

        def write(driver: sqlite3.Connection) -> None:
            state = self._state(driver, batch_id)
            if state != "writing":
                raise StoreError(f"batch {batch_id} of run {self.run_id} is {state}, so no rows are added to it")
            if rows:
                waiting.add(driver, self.run_id, batch_id, rows)

        await self._writer.in_one_turn(write)

    async def change(self, batch_id: int, **values: object) -> None:
        """Change fields of a batch. A state that does not follow its present one raises StoreError.

        In the states ``refused`` and ``gone`` no row waits any more; ``gone`` books them (``give_up``). ``done`` is refused as
        long as a row has no result.
        """

        def write(driver: sqlite3.Connection) -> int:
            before, state = self._state(driver, batch_id), values.get("state")
            if state is not None and state != before and state not in NEXT[before]:
                raise StoreError(f"batch {batch_id} of run {self.run_id} is {before}, and cannot be {state} next")
            freed = self._free(driver, batch_id, str(state), values.get("error")) if state not in (None, before) else 0
            self._set(driver, batch_id, self._stored(driver, values))
            return freed

        await self._writer.in_one_turn(write)
        if values.get("state") not in (None, *OPEN_STATES):
            await self.look()

    def _free(self, driver: sqlite3.Connection, batch_id: int, state: str, error: object) -> int:
        """Take all rows out of a batch that ends in this state; return how many they were."""
        if state in OPEN_STATES:
            return 0
        ((left,),) = driver.execute("SELECT waiting + released FROM batches WHERE id = ?", (batch_id,))
        if state == "done" and left:
            raise StoreError(f"batch {batch_id} of run {self.run_id} is not done: {left} of its rows have no result")
        if state == "gone" and left:
            driver.execute(_GIVE_UP, (str(error or "the batch is gone at the provider"), batch_id))
            driver.execute(_COUNT_UP, (batch_id,))
        if left:
            driver.execute(_CLEAR, (batch_id,))
            self._set(driver, batch_id, _EMPTY)
        return int(left)

    async def give_up(self, batch_id: int, error: str) -> int:
        """Give up a batch that is lost: it is ``gone``, its rows have failed attempts that may have been billed, and are open.

        Return how many rows that were. error: why, one sentence.
        """

        def write(driver: sqlite3.Connection) -> int:
            state = self._state(driver, batch_id)
            if state not in BILLED:
                raise StoreError(f"batch {batch_id} of run {self.run_id} is {state}: there is nothing at the provider to give up")
            freed = self._free(driver, batch_id, "gone", error)
            self._set(driver, batch_id, {"state": "gone", "error": error})
            return freed

        freed = await self._writer.in_one_turn(write)
        await self.look()
        return freed

    async def drop_batch(self, batch_id: int) -> None:
        """Delete a batch that was not made at the provider, with its rows, which are open again."""

        def write(driver: sqlite3.Connection) -> None:
            state = self._state(driver, batch_id)
            if state not in NOT_MADE:
                raise StoreError(f"batch {batch_id} of run {self.run_id} is {state}, so it is kept: it may be at the provider")
            driver.execute(_CLEAR, (batch_id,))
            driver.execute("DELETE FROM batches WHERE id = ?", (batch_id,))

        await self._writer.in_one_turn(write)
        await self.look()

    async def release(self, batch_id: int) -> int:
        """Let the rows of a batch wait no longer, so that they are sent elsewhere. Return their number.

        Their results are still found by ``rows_of`` and written by ``settle`` if they come: an answer where the row has none.
        """

        def write(driver: sqlite3.Connection) -> int:
            freed = driver.execute(_RELEASE, (batch_id,)).rowcount
            driver.execute("UPDATE batches SET released = released + waiting, waiting = 0 WHERE id = ?", (batch_id,))
            return freed

        self._lookup.forget()
        return await self._writer.in_one_turn(write)

    async def rows_of(self, batch_id: int, custom_ids: Sequence[str]) -> Mapping[str, BatchRow]:
        """Return those of these rows that have no result yet, by the id of the request."""
        return await self._lookup.rows(batch_id, custom_ids)

    async def rows_left(self, batch_id: int, limit: int = 1000) -> list[BatchRow]:
        """Return rows of a batch that have no result yet, in the order in which they were added."""
        return await self._lookup.left(batch_id, limit)

    async def settle(self, batch_id: int, entries: Sequence[Entry], settled: Sequence[str], reasks: Sequence[Reask] = ()) -> None:
        """Write outcomes and failed attempts, and take their rows (``settled``: ids of requests) out of the batch, together.

        Entries of rows that have a result already change nothing. Raises StoreError, and then nothing is known of what was
        written: the same may be settled again.
        """
        known = self._lookup.found(batch_id, settled)

        def write(driver: sqlite3.Connection) -> dict[Price, int]:
            self._store.refuse_unsure()
            found = known if known is not None else waiting.find(driver, self.run_id, batch_id, settled)
            keys = {one.row.key: one.row.fingerprint for one in found.values()} if known is None or reasks else None
            ((variant,),) = driver.execute("SELECT variant_id FROM batches WHERE id = ?", (batch_id,))
            new = entries if keys is None else [one for one in entries if one.key in keys]
            _, priced = self._store.put(driver, new, begun=[], variant=variant)
            if keys is not None:
                waiting.add_reasks(driver, self.run_id, [one for one in reasks if one.key in keys], keys)
            if waiting.take_out(driver, batch_id, found.values()) != len(found):
                raise StoreError(f"rows of batch {batch_id} of run {self.run_id} were settled by somebody else meanwhile")
            return priced

        try:
            self._store.learnt(await self._writer.in_one_turn(write))
        except BaseException:
            # it may have been written all the same
            self._lookup.forget()
            raise
        self._lookup.settled(settled)
        self._store.reasked = self._store.reasked or bool(reasks)

    async def reasks(self, keys: Sequence[str]) -> Mapping[str, Reask]:
        """Return what rows are to be asked again with; rows without are left out."""
        if not self._store.reasked:
            return {}
        query = waiting.REASKS.format(", ".join("?" * len(keys)))
        rows = await self._reader.rows(query, (self.run_id, *keys))
        return {
            key: Reask(key=key, messages=msgspec.json.decode(messages), repairs=repairs, failures=failures, fingerprint=asked)
            for key, messages, repairs, failures, asked in rows
        }

    async def left_bounds(self, batch_id: int) -> tuple[int, int, int]:
        """Return the most tokens of the rows of a batch that have no result yet; ``runner.batches`` says of what."""
        (found,) = await self._reader.rows("SELECT left_input, left_output, left_1h FROM batches WHERE id = ?", (batch_id,))
        return found[0], found[1], found[2]

    def _state(self, driver: sqlite3.Connection, batch_id: int) -> State:
        found = driver.execute("SELECT state FROM batches WHERE id = ? AND run_id = ?", (batch_id, self.run_id)).fetchone()
        if found is None:
            raise StoreError(f"run {self.run_id} has no batch {batch_id}; `runner batches` lists them")
        state: State = found[0]
        return state

    def _stored(self, driver: sqlite3.Connection, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return values of a batch as its table has them."""
        if unknown := sorted(set(values).difference(_CHANGEABLE)):
            raise TypeError(f"a batch has no field that can be changed of the name {unknown[0]}")
        row = dict(values)
        if "results" in row:
            row["results"] = msgspec.json.encode(row["results"]).decode()
        if "price" in row:
            price = row.pop("price")
            row["price_id"] = number_prices(driver, self.run_id, [price])[price] if price is not None else None
        return row

    def _set(self, driver: sqlite3.Connection, batch_id: int, row: Mapping[str, Any]) -> None:
        if row:
            names = ", ".join(f'"{name}" = ?' for name in row)
            driver.execute(f"UPDATE batches SET {names} WHERE id = ?", (*row.values(), batch_id))  # noqa: S608 - names of ours
