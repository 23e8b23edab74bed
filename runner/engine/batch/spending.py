"""What batches hold of a budget: all that they can use before they are sent, until their rows settle.

It is held as by open requests: others wait for it, since most of it comes back.
"""

from collections.abc import Sequence

from runner.admission import Amounts, Reservation
from runner.batches import BATCH_TIER, BatchRow, BatchStore, StoredBatch
from runner.engine.admitting import Purse
from runner.engine.bounds import Bounds
from runner.entries import attempts_of
from runner.model import Entry
from runner.money import Price


class Spending:
    """The budget of a session, as its batches use it. purse: None: there is none, and each batch may go out."""

    def __init__(self, purse: Purse | None, store: BatchStore) -> None:
        self._purse, self._store = purse, store
        # what each batch holds
        self._held: dict[int, Amounts] = {}

    def output_bound(self, model: str, bound: Bounds, at: float) -> int | None:
        """Return the most output that a request can have. Raises AttemptError if a budget needs that, and it is not known."""
        return bound.output if self._purse is None else self._purse.quote(model, bound, at).output_bound

    async def take_up(self, batches: Sequence[StoredBatch]) -> None:
        """Hold what the rows of batches of earlier sessions can still use: it counts as used."""
        if self._purse is None:
            return
        for batch in batches:
            self._held[batch.id] = left = _most(batch, *await self._store.left_bounds(batch.id))
            self._purse.budget.hold_used(left)

    def take(self, batch: StoredBatch, hour_bound: int) -> bool:
        """Hold what a batch can use. False: there is no room. hour_bound: of its input, in caches kept for an hour."""
        if self._purse is None:
            return True
        need = _most(batch, batch.input_bound, batch.output_bound or 0, hour_bound)
        # what a whole batch needs says nothing of what a row does
        if self._purse.budget.part(need) < 1 or not self._purse.budget.take(need):
            return False
        self._held[batch.id] = need
        return True

    def over(self, number: int) -> None:
        """Count what a batch still holds that has ended as used: nobody knows whether it was."""
        if self._purse is not None and (left := self._held.pop(number, None)) is not None:
            self._purse.budget.settle(left, left)

    def let_go(self) -> None:
        """Count what all batches hold as used, since the session waits for them no more."""
        for number in list(self._held):
            self.over(number)

    def rows(self, batch: StoredBatch, hour_bound: int) -> int:
        """Return for about how many rows of a batch there is room."""
        need = _most(batch, batch.input_bound, batch.output_bound or 0, hour_bound)
        return batch.rows if self._purse is None else int(batch.rows * self._purse.budget.part(need))

    async def wait(self, batch: StoredBatch, hour_bound: int) -> None:
        """Wait for room for a batch while nothing else can use the budget. Without any, the budget is reached: the run stops."""
        if self._purse is not None:
            need = _most(batch, batch.input_bound, batch.output_bound or 0, hour_bound)
            await self._purse.budget.wait(need)
            self._purse.budget.settle(need, Amounts())

    def give_back(self, batch: StoredBatch) -> None:
        """Count what rows of a batch without a result can use as unused: it was not sent, or is not taken."""
        if self._purse is not None and (left := self._held.pop(batch.id, None)) is not None:
            self._purse.budget.settle(left, Amounts())

    def settle(self, batch: StoredBatch, rows: Sequence[BatchRow], saved: Sequence[Entry]) -> None:
        """Count rows of a batch as what they have used. saved: their entries, with prices."""
        if self._purse is None or not rows:
            return
        held = {row.key: _of(batch, row) for row in rows}
        cost = tokens = 0
        for attempt in attempts_of(saved):
            amounts = held.get(attempt.key, Amounts())
            reserved = Reservation(
                key=attempt.key,
                number=attempt.number,
                started_at=attempt.started_at,
                amounts=amounts,
                input_bound=attempt.input_bound or 0,
                output_bound=attempt.output_bound or 0,
                price=batch.price or Price(model=batch.model, tier=BATCH_TIER, rates=None),
            )
            used = self._purse.used(attempt, reserved)
            cost, tokens = cost + used.cost, tokens + used.tokens
        was = Amounts(sum(one.cost for one in held.values()), sum(one.tokens for one in held.values()))
        if (left := self._held.get(batch.id)) is None:
            self._purse.budget.correct(was, Amounts(cost, tokens))
            return
        self._held[batch.id] = Amounts(left.cost - was.cost, left.tokens - was.tokens)
        self._purse.budget.settle_part(was, Amounts(cost, tokens))


def _of(batch: StoredBatch, row: BatchRow) -> Amounts:
    return _most(batch, row.input_bound or 0, row.output_bound or 0, row.cache_1h_bound or 0)


def _most(batch: StoredBatch, read: int, written: int, hour: int) -> Amounts:
    rates = batch.price.rates if batch.price is not None else None
    return Amounts(rates.most(read, written, hour) if rates is not None else 0, read + written)
