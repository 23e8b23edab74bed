"""Attempts that were given up with their worker, and what is known of them later: for the store, the sums and the budget."""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import NamedTuple

from msgspec import structs

from runner.entries import LateUsage, attempts_of
from runner.errors import StoreError
from runner.model import Attempt, Entry
from runner.session.books import Books
from runner.session.budgeting import Purse
from runner.session.stats import SessionStats
from runner.store.checkpoint import RunStore

LOST = ("worker_lost", "batch_late")
"""Error codes of attempts of which something may be heard later: the worker may have had the answer, the batch may end yet."""


class Change(NamedTuple):
    """An attempt as it was saved, and as it is now."""

    was: Attempt
    now: Attempt


class LateUsages:
    """What becomes known late in a session. books: its sums of money. purse: its budget, if it has one."""

    def __init__(self, store: RunStore, stats: SessionStats) -> None:
        self._store, self._stats = store, stats
        self.books = Books()
        self.purse: Purse | None = None
        # attempts that are on the books as perhaps billed; and what was heard of some before they were
        self._lost: dict[tuple[str, int], Attempt] = {}
        self._early: list[LateUsage] = []

    async def saved(self, entries: Sequence[Entry]) -> None:
        """Remember the attempts among entries of which something may be heard yet. They have been saved."""
        for attempt in attempts_of(entries):
            if attempt.error_code in LOST and attempt.sent:
                self._lost[attempt.key, attempt.number] = attempt
        if self._early:
            early, self._early = self._early, []
            # a store that cannot be written is told where rows are saved
            with suppress(StoreError):
                await self.book(early)

    async def book(self, late: Sequence[LateUsage]) -> None:
        """Take up what has come late. Raises StoreError."""
        changes = list(self._changes(late))
        if not changes:
            return
        await self._store.book_late([change.now for change in changes])
        for was, now in changes:
            self.books.correct(was, now)
            self._stats.add_usage(now.usage)
            if self.purse is not None:
                self.purse.correct(was, now)

    def _changes(self, late: Sequence[LateUsage]) -> Iterable[Change]:
        for one in late:
            was = self._lost.get((one.key, one.number))
            if was is None:
                self._early.append(one)
            elif (now := self._known(was, one)) is not None:
                del self._lost[one.key, one.number]
                yield Change(was, now)

    def _known(self, was: Attempt, late: LateUsage) -> Attempt | None:
        """Return an attempt as it is known now; None if its usage is not known as a whole: then it keeps its bounds."""
        answer = late.answer
        if answer is None:
            return structs.replace(was, sent=False, input_bound=None, output_bound=None, cache_1h_bound=None)
        usage = answer.usage
        if usage is None or usage.input_tokens is None or usage.output_tokens is None:
            return None
        known = structs.replace(
            was,
            usage=usage,
            input_bound=None,
            output_bound=None,
            cache_1h_bound=None,
            served_model=answer.served_model,
            tier=answer.tier,
            response_id=answer.response_id,
        )
        # the price that it has stands for all tiers that could have served it
        (priced,) = attempts_of(self.books.priced([structs.replace(known, price=None)]))
        return priced if priced.price is not None and priced.price.rates is not None else known
