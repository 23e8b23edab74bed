"""The checkpoint. One writer; when a commit returns, its rows survive a power cut.

Look-ups and the run's own row go through SQLAlchemy's async Core. A batch of entries is written as SQL that Core has compiled,
run by sqlite3 in aiosqlite's thread in one turn: through Core's connection it takes up to twice as long (decisions 0001, 0010).

Only outcomes and attempts have rows. There is no "pending" status in the database, so nothing has to be cleaned up after a crash.
"""

import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec
import sqlalchemy as sa
from anyio import to_thread
from sqlalchemy.ext.asyncio import AsyncConnection

from runner.errors import BAD_ROW, RunLockedError
from runner.model import Attempt
from runner.money import Money, Price
from runner.pace import Pace
from runner.settled import Head
from runner.store import retrying
from runner.store.batches import RunBatches
from runner.store.changes import Changes
from runner.store.connection import Connection
from runner.store.counts import RunCounts, counted
from runner.store.late import book_late
from runner.store.lock import RunLock
from runner.store.owner import owner
from runner.store.repricing import Highest, price_again, price_batches_again, price_open_again
from runner.store.reserving import release_together
from runner.store.retrying import Chosen
from runner.store.reuse import TakenOver, take_over
from runner.store.saving import Saving
from runner.store.schema import attempts, batches, items, reservations, runs
from runner.store.sessions import Course, noting
from runner.store.spending import Used, held_of, is_priced, money_of, rates_of, tokens_of, used_of
from runner.store.taking_up import TakingUp


class RunStore(Saving):
    """One run of one store, owned by this process: an async context manager, created with ``RunStore.own``."""

    def __init__(self, path: Path, taking_up: TakingUp, run_id: int, lock: RunLock, *, durability: str, waits: bool) -> None:
        writer = Connection(path, write=True, synchronous=durability.upper(), lock=lock.path)
        super().__init__(Connection(path, write=False), writer, run_id)
        self.path = path
        # answers of each row that are wanted, and counted
        self.answers = 1
        self._lock, self._taking_up, self._waits = lock, taking_up, waits
        # what waits at a provider: a ``runner.batches.BatchStore``
        self.batches = RunBatches(self, writer, self._reader)
        # returns what is stored of the session beside its pace, and whether it has ended; None: nothing is
        self.course: Callable[[bool], Course] | None = None

    @classmethod
    def own(
        cls,
        path: Path,
        run_id: int,
        *,
        durability: str = "full",
        changes: Changes | None = None,
        created_at: float | None = None,
        waits: bool = False,
    ) -> "RunStore":
        """Take the lock of the run. Raises RunLockedError, with the owner, if another process is working on the run.

        changes: what this session changes about the run. They are written when the context is entered; with ``waits`` by
        ``take_up``. created_at: of the run that is meant, if another one may have its number by now.
        """
        lock = RunLock(path, run_id)
        # `runner status` takes the lock for an instant to see whether it is held
        if not lock.acquire(timeout_s=1.0):
            raise RunLockedError(f"run {run_id} of {path} is in use by {owner(path, run_id)}; wait for it to end, or stop it")
        taking_up = TakingUp(path, run_id, changes or Changes(), created_at)
        return cls(path, taking_up, run_id, lock, durability=durability, waits=waits)

    @property
    def variant(self) -> int | None:
        """The entry of the answer settings of this session; None: those of the run."""
        return self._taking_up.variant

    async def __aenter__(self) -> Self:
        try:
            await self._writer.transaction(self._taking_up.own)
            await self.batches.look()
            if not self._waits:
                await self.take_up()
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self._close()

    async def take_up(self) -> bool:
        """Write what this session changes about the run: it begins. Return True if its rows are on other lines now."""
        return await self._writer.transaction(self._taking_up.begin)

    async def take_back(self, *, created: bool) -> None:
        """Leave the run as it was before this session, which does not begin. created: it has created the run, which goes."""
        await self._writer.transaction(lambda connection: self._taking_up.undo(connection, created=created))

    async def _close(self) -> None:
        try:
            await self._writer.close()
            await self._reader.close()
        finally:
            self._lock.release()

    async def begin(
        self,
        *,
        rows: int | None,
        digest: str,
        size: int | None = None,
        identical: int | None = None,
        look_again: bool = False,
        head: Head | None = None,
    ) -> None:
        """Store what the input contains now: rows, and the hash and length of its content.

        identical: number of rows without an id that repeat an earlier row. look_again: the next session is to look at each row,
        even if the content is the same. head: the beginning in which all is settled.
        """
        values = {"rows": rows, "input_digest": digest, "input_bytes": size, "identical": identical, "look_again": look_again}
        await self._note({**values, "settled_head": msgspec.json.encode(head).decode() if head is not None else None})

    async def take_over(self, rows: Sequence[TakenOver]) -> list[bool]:
        """Copy answers of earlier runs to rows without an outcome, in one transaction; tell for each whether it has one now."""
        return await self._writer.in_one_turn(lambda driver: take_over(driver, self.run_id, rows))

    async def choose(
        self, wanted: sa.ColumnElement[bool], keys: Iterator[list[str]] | None, settings: Mapping[str, Any]
    ) -> Chosen:
        """Choose the rows of a retry, which begins with the session. keys: only these, in batches; None: all that are selected.

        settings: those of the job, without secrets.
        """
        run_id = self.run_id
        retry = await self._writer.transaction(lambda connection: retrying.add(connection, run_id, settings))
        chosen = partial(retrying.choose, run_id=run_id, retry=retry, wanted=wanted, answers=self.answers)
        if keys is None:
            await self._writer.transaction(chosen)
        while keys is not None and (batch := await to_thread.run_sync(next, keys, None)) is not None:
            await self._writer.transaction(partial(chosen, keys=batch))
        return await self.chosen(retry)

    async def chosen(self, retry: int | None = None) -> Chosen:
        """Return the rows that are to be asked again. retry: one that begins with the session; None: the last one goes on."""
        run_id, self.retries = self.run_id, True
        found = await self._writer.transaction(lambda connection: retrying.looked_at(connection, run_id, retry))
        # the retry before it is not given up for nothing
        self._taking_up.retry = retry if found.count else None
        return found

    async def forget_pending(self) -> None:
        """Give up the rows that a retry has not asked again: they are no longer in the input."""
        await self._writer.execute(retrying.forget_pending(self.run_id))

    async def note_compared(self) -> None:
        """Store that all rows have been compared with the answers of earlier runs, so that no later session does it again."""
        await self._note({"compared": True})

    async def write(self, change: Callable[[AsyncConnection], Awaitable[None]]) -> None:
        """Make a change in a transaction of its own, in turn with the saves. Raises StoreError."""
        await self._writer.transaction(change)

    async def note_pace(self, pace: Pace) -> None:
        """Store what the session is doing, for ``runner status`` in another process: one small commit, in turn with the saves.

        Saves are not affected, whether it succeeds or fails. Nothing is stored while another transaction is stuck. Raises
        StoreError, as ``save`` does.
        """
        if not self._writer.stuck:
            await self._note({"pace": msgspec.json.encode(pace).decode()}, ended=False)

    async def counts(self) -> RunCounts:
        """Count the outcomes of the run, without answers that are no longer wanted (``answers``)."""
        return await counted(self._reader.fetch, self.run_id, self.answers)

    async def money(self) -> Money:
        """Add up what the run has cost. A run of which no price is known is spared the look at a million attempts."""
        rates = list(await self._reader.fetch(rates_of(self.run_id)))
        if not is_priced(rates):
            left = money_of([], list(await self._reader.fetch(held_of(self.run_id))))
            return left.plus(Money(unknown=(await self.counts()).attempted))
        return money_of(rates, list(await self._reader.fetch(tokens_of(self.run_id))))

    async def price_again(self, price: Callable[[Attempt], Price], highest: Highest) -> None:
        """Give attempts whose price was not known the one that is known now. price, highest: of ``PriceBook``."""
        run_id = self.run_id
        if unknown := [row[0] for row in await self._reader.fetch(rates_of(run_id)) if row[1] is None]:
            again = await self._writer.in_one_turn(lambda driver: price_again(driver, run_id, unknown, price))
            opened = await self._writer.in_one_turn(lambda driver: price_open_again(driver, run_id, unknown, highest))
            waiting = await self._writer.in_one_turn(lambda driver: price_batches_again(driver, run_id, unknown, price))
            self._taking_up.repriced = {attempts: again, reservations: opened, batches: waiting}

    async def used(self) -> Used:
        """Add up what the run has used of a budget, or may have."""
        return used_of(*[list(await self._reader.fetch(select(self.run_id))) for select in (rates_of, tokens_of)])

    async def forget_broken(self, lines: tuple[int, int | None] | Sequence[int], keep: Sequence[str]) -> None:
        """Delete the broken rows on these lines, except those in ``keep``. lines: first and last, None for the end; or a list."""
        where = [items.c.run_id == self.run_id, items.c.error_code == BAD_ROW, items.c.key.not_in(keep)]
        if isinstance(lines, tuple):
            first, last = lines
            where += [items.c.position >= first, *([items.c.position <= last] if last is not None else [])]
        else:
            where.append(items.c.position.in_(lines))
        if await self._reader.fetch(sa.select(items.c.id).where(*where).limit(1)):
            await self._writer.execute(sa.delete(items).where(*where))

    async def reposition(self, moved: Sequence[tuple[str, int]]) -> None:
        """Store the new lines of rows that have moved in the input, as (key, position)."""
        statement = (
            sa.update(items)
            .where(items.c.run_id == self.run_id, items.c.key == sa.bindparam("moved_key"))
            .values(position=sa.bindparam("new_position"))
        )

        async def write(connection: AsyncConnection) -> None:
            await connection.execute(statement, [{"moved_key": key, "new_position": position} for key, position in moved])

        await self._writer.transaction(write)

    async def book_late(self, late: Sequence[Attempt]) -> None:
        """Write down attempts that were given up as they are known now. Raises StoreError."""
        await self._writer.in_one_turn(lambda driver: book_late(driver, self.run_id, late))

    async def release_together(self) -> None:
        """Delete what the session has reserved for all its requests together: each attempt has been saved."""
        await self._writer.execute(release_together(self.run_id))

    async def finish(self, *, complete: bool, stop_reason: str | None, pace: Pace | None = None) -> None:
        """Store how the session ended. complete: True if every row of the input has an outcome. pace: kept if one has none."""
        last = msgspec.json.encode(pace).decode() if pace is not None and not complete else None
        ended = {"stop_reason": stop_reason, "finished_at": time.time() if complete else None, "pace": last}
        await self._note(ended, ended=True)

    async def _note(self, values: Mapping[str, Any], *, ended: bool | None = None) -> None:
        """Update the row of the run, in a transaction of its own; with ``ended``, that of the session too."""
        course = [noting(self.run_id, self.course(ended))] if self.course is not None and ended is not None else []
        await self._writer.execute(sa.update(runs).where(runs.c.id == self.run_id).values(**values), *course)
