"""What a batch and the live path have to say of the rows of a session, saved so that each row counts once."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import anyio

from runner.admission import Reservation
from runner.batches import Reask
from runner.model import Entry, Item, Outcome
from runner.session.foreseen import Foreseen

if TYPE_CHECKING:
    # imported where it is used: a session without batches needs none of it
    from runner.engine.batch.flow import Batches


class SavingBoth(Foreseen):
    """A session whose rows may be answered by a batch, live, or by both: then the first answer stays."""

    _engine: "Batches | None" = None

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        # what a batch and the live path have to say of a row is saved one after the other
        self._saving = anyio.Lock()
        # rows that a batch has answered after they were sent live: the live outcome is still to come
        self._second = set[str]()

    async def _settle(
        self, batch_id: int | None, entries: Sequence[Entry], settled: Sequence[str] = (), reasks: Sequence[Reask] = ()
    ) -> Sequence[Entry]:
        """Save what has come of rows of a batch, as ``_save`` does for live ones."""
        async with self._saving:
            if batch_id is None:
                await self._store.save(priced := list(self._books.priced(entries)))
            else:
                entries, late = await self._late(batch_id, entries)
                await self._store.batches.settle(batch_id, priced := list(self._books.priced(entries)), settled, reasks)
                self._answered_late(late)
            await self._told_saved(priced)
        return priced

    async def _late(self, batch_id: int, entries: Sequence[Entry]) -> tuple[Sequence[Entry], set[str]]:
        """Return entries of a batch as they count if its rows were sent live too, and the rows of those that are answers."""
        batch = self._engine.open.get(batch_id) if self._engine is not None else None
        if batch is None or not batch.released:
            return entries, set()
        answers = {one.key for one in entries if isinstance(one, Outcome)}
        done = {key for key, found in (await self._store.settled(list(answers))).items() if found.status == "done"}
        return [entry for one in entries if (entry := _without(one, done)) is not None], answers - done

    def _answered_late(self, keys: set[str]) -> None:
        """Take no more live answers to rows that a batch has answered although they were sent live."""
        assert self._attempts is not None
        self._second |= keys
        for key in keys:
            (self._attempts.rows.give_up if self._attempts.rows.at_work(key) else self._attempts.rows.give_up_ahead)(key)

    async def _save(self, batch: list[Entry | Reservation]) -> None:
        if self._engine is None:
            await super()._save(batch)
            return
        async with self._saving:
            if self._second:
                kept = [one if isinstance(one, Reservation) else _without(one, self._second) for one in batch]
                self._second.difference_update(one.key for one in batch if isinstance(one, Outcome))
                batch = [one for one in kept if one is not None]
            await super()._save(batch)

    def _send_beside(self, items: Sequence[Item]) -> None:
        self._second.difference_update(item.key for item in items)
        super()._send_beside(items)


def _without(entry: Entry, answered: set[str]) -> Entry | None:
    """Return an entry as it counts if these rows have an answer already: of an outcome the attempt stays; None: there is none."""
    return entry.attempt if isinstance(entry, Outcome) and entry.key in answered else entry
