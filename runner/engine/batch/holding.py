"""The open batches of a run, as the store has them, with what only this session knows of each."""

from collections.abc import Callable

from msgspec import Struct, field, structs

from runner.batches import OPEN_STATES, BatchStore, Fault, State, StoredBatch
from runner.engine.clock import Clock
from runner.money import Price

FIRST_LOOK_S = 1.0
"""Seconds until a batch is looked at first: small ones may be answered by then."""


class Looks(Struct):
    """When a batch is looked at. Instants are of the monotonic clock."""

    # when next, and how long the wait before it was; 0: there was none
    next_at: float = 0.0
    last_s: float = 0.0
    # since when the provider does not know it, None: it does; and whether it has been seen in this session
    missing_since: float | None = None
    seen: bool = False
    # how often it ended without all results that it counts
    short: int = 0
    # what the provider has said is wrong with its file
    faults: tuple[Fault, ...] = ()
    # its creation may have come through: how often it was looked for in vain; and batches that look like it, and are not
    sought: int = 0
    others: set[str] = field(default_factory=set)
    # it goes on from an earlier step whose end is not known
    again: bool = False
    # its file was gone at the provider, and is uploaded once more
    reuploaded: bool = False
    # what is odd about it has been said
    told: bool = False
    # when the session asked for its cancel, seconds since the epoch
    cancel_asked_at: float | None = None


class OpenBatches:
    """Keeps what the store has of the open batches, and writes what changes. changed: called after each change."""

    def __init__(self, store: BatchStore, clock: Clock, changed: Callable[[], None]) -> None:
        self._store, self._clock, self._changed = store, clock, changed
        # called with the number of a batch that is open no longer
        self.over: Callable[[int], None] = lambda _: None
        self.by_id: dict[int, StoredBatch] = {}
        self.looks: dict[int, Looks] = {}
        # how long cancels took that have ended
        self.cancels_s: list[float] = []
        # rows that came back open in this session and were not sent again; and when the first of them did, by the monotonic clock
        self.returned = 0
        self.returned_at: float | None = None
        # the provider's queue is full until an open batch ends, or until this instant of the monotonic clock
        self.full_until: float | None = None

    async def load(self) -> None:
        """Read the open batches of the run."""
        found = await self._store.batches()
        self.by_id = {batch.id: batch for batch in found}
        self.looks = {batch.id: self.looks.get(batch.id, Looks()) for batch in found}

    def in_state(self, *states: State) -> list[StoredBatch]:
        """Return the batches in one of these states, the oldest first."""
        return [batch for batch in self.by_id.values() if batch.state in states]

    async def begin(self, batch: StoredBatch) -> StoredBatch:
        """Write a new batch."""
        number = await self._store.begin_batch(batch)
        self.by_id[number] = batch = structs.replace(batch, id=number)
        self.looks[number] = Looks()
        self._changed()
        return batch

    async def change(self, number: int, **values: object) -> StoredBatch:
        """Change a batch in the store, then here. One that is in no open state any more is not kept."""
        await self._store.change(number, **values)
        batch = self.by_id[number] = structs.replace(self.by_id[number], **values)
        if batch.state not in OPEN_STATES:
            self._forget(number)
        self._changed()
        return batch

    async def written(self, number: int, rows: int, size: int, price: Price | None) -> StoredBatch:
        """Record that the file of a batch is whole. size: its bytes."""
        batch = await self.change(number, state="written", bytes=size, price=price)
        # the store has counted them as they were added
        self.by_id[number] = batch = structs.replace(batch, rows=rows, waiting=rows)
        return batch

    def bound(self, number: int, read: int, written: int | None) -> StoredBatch:
        """Record the most tokens of a batch, which the store has added up. read: of input; written: of output, None: no limit."""
        self.by_id[number] = batch = structs.replace(self.by_id[number], input_bound=read, output_bound=written)
        return batch

    async def refuse(self, number: int, why: str) -> None:
        """End a batch that the provider has not taken. Its rows are open again."""
        self._return(self.by_id[number].waiting)
        await self.change(number, state="refused", error=why)

    async def give_up(self, number: int, why: str) -> None:
        """End a batch whose results nobody will tell. Its rows are open again, with attempts that may have been billed."""
        self._return(self.by_id[number].waiting)
        await self._store.give_up(number, why)
        self._forget(number)
        self._changed()

    async def release(self, number: int) -> None:
        """Let the rows of a batch be sent elsewhere, although they may still be answered."""
        batch = self.by_id.get(number)
        if batch is not None and batch.waiting:
            freed = await self._store.release(number)
            self.by_id[number] = structs.replace(batch, waiting=0, released=batch.released + freed)
            self._return(freed)
            self._changed()

    async def drop(self, number: int) -> None:
        """Delete a batch that was not made at the provider. Its rows are open again."""
        batch = self.by_id[number]
        await self._store.drop_batch(number)
        if batch.state not in ("writing", "written"):
            self._return(batch.waiting)
        self._forget(number)
        self._changed()

    @property
    def returned_s(self) -> float:
        """Seconds since the first of the rows that are open again came back."""
        return self._clock.monotonic() - self.returned_at if self.returned_at is not None else 0.0

    def settled(self, number: int, rows: int, released: int, returned: int) -> None:
        """Count rows that no longer wait in a batch, and released ones. returned: of the first, those that are open again."""
        batch = self.by_id[number]
        left, others = max(0, batch.waiting - rows), max(0, batch.released - released)
        self.by_id[number] = structs.replace(batch, waiting=left, released=others)
        self._return(returned)
        self._changed()

    def settled_elsewhere(self, rows: int) -> None:
        """Count rows that were open again, and have an outcome now."""
        self.returned = max(0, self.returned - rows)

    def _return(self, rows: int) -> None:
        if rows:
            self.returned += rows
            self.returned_at = self._clock.monotonic() if self.returned_at is None else self.returned_at

    def take_returned(self, rows: int | None) -> None:
        """Count rows that came back open as sent again. None: all."""
        self.returned = 0 if rows is None else max(0, self.returned - rows)
        self.returned_at = self.returned_at if self.returned else None

    def look_next(self, number: int, wait_s: float) -> None:
        """Have a batch looked at after so many seconds."""
        looks = self.looks[number]
        looks.next_at, looks.last_s = self._clock.monotonic() + wait_s, wait_s

    @property
    def is_full(self) -> bool:
        """True while the provider takes no more, as far as is known."""
        return self.full_until is not None and self.full_until > self._clock.monotonic()

    @property
    def waiting(self) -> int:
        """Rows that wait in open batches."""
        return sum(batch.waiting for batch in self.by_id.values())

    def _forget(self, number: int) -> None:
        del self.by_id[number], self.looks[number]
        self.over(number)
