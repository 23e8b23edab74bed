"""What every session does, whatever its rows come from: runs the engine, with the background tasks next to it."""

import time
from collections.abc import Callable, Sequence
from contextlib import aclosing, suppress
from typing import Any

import anyio

from runner.admission import Reservation
from runner.engine import pipeline
from runner.engine.attempt import Attempts
from runner.engine.collective import Collective
from runner.engine.judge import Judge
from runner.engine.listening import HeardAttempts
from runner.engine.more import nothing
from runner.engine.warming import Warming
from runner.entries import attempts_of
from runner.errors import StoreError
from runner.event_types import Progress as Shown
from runner.event_types import Saved
from runner.interfaces import Client, Handle, Items, Provider
from runner.model import Attempt, Entry, Item, Outcome
from runner.session import budgeting, shaped, to_finish, together, wiring
from runner.session.again import Raising, plain
from runner.session.background import keep_watch, note_pace, tell_progress, tell_stop
from runner.session.books import Books
from runner.session.budgeting import Purse
from runner.session.counting import Counting
from runner.session.reached import Progress
from runner.session.row_steering import RowInput, RowSteering
from runner.session.stopping import BY_PROGRAM

_AT_ONCE = 1_000
"""Outcomes that are saved together."""
STUCK = 2_000
"""Workers that may be added, at most, for items that wait in blocked lanes."""


class Working(Counting):
    """A session at work. The subclasses know where its rows come from."""

    _raising: Raising = staticmethod(plain)  # the command that goes on with other limits of a budget
    _continuing = "the same command"  # the one that goes on after a failure of the store
    _warming: Warming | None = None  # holds back rows of a shared prefix, among the items; None: nothing does
    _used_seeds: Sequence[int] = ()  # that no answer is asked for with, in rising order
    _listens: Callable[[Item], bool] | None = None  # which rows are told of to a listener; None: all
    _heard_by: type[HeardAttempts[Any]] = HeardAttempts  # makes the attempts of a session that has a listener

    def _items(self) -> Items:
        """Return what is to be done."""
        raise NotImplementedError

    async def run(self, provider: Provider, client: Client[Any]) -> None:
        """Run the engine, and the background tasks next to it. Raises UsageError for prices that cannot be used, StoreError."""
        doubt = anyio.Event()
        self._books = self._meter.books = self.late.books = Books(await self.prices(), await self.money())
        self._meter.client = client
        attempts = self._begun(provider, client, doubt.set)
        collective = await self._reserving(attempts)
        sharing = await together.begin(self._job, self._endpoint, self._lanes, self._store.path, self.note)
        self._noting.begin()
        self._store.course = self._noting.course
        failure: Exception | None = None
        try:
            async with anyio.create_task_group() as background:
                background.start_soon(tell_progress, self._tell, self._progress)
                background.start_soon(note_pace, self._store.note_pace, self._meter.pace)
                background.start_soon(tell_stop, self._tell, self._stop, self._lanes)
                keep_watch(background, self._job, self._endpoint, doubt, self._stop, self._lanes, self._meter.start, self._fleet)
                try:
                    await self._rounds(attempts)
                    if self._has_more() and self._stop.error is not None and self._stop.error.code == "budget":
                        await self._give()
                except Exception as error:  # noqa: BLE001 - raised below, outside the group that would wrap it
                    failure = error
                background.cancel_scope.cancel()
        finally:
            await self.steering.finish()
            if sharing is not None:
                sharing.end()
            self._noting.end()
            if collective is not None and collective.reserves and attempts.all_saved:
                # what is not saved may have been billed: then it stays, as after a kill
                with anyio.CancelScope(shield=True), suppress(StoreError):
                    await self._store.release_together()
        if isinstance(failure, StoreError):
            kept = f"; what was saved before is kept, and {self._continuing} continues from there" if failure.kept else ""
            raise StoreError(f"{failure}{kept}", kept=failure.kept, stuck=failure.stuck) from failure
        if failure is not None:
            raise failure

    async def _rounds(self, attempts: Attempts[Any]) -> None:
        """Do all that is to be done, round by round."""
        await self._round(attempts, self._items())
        while self._goes_on():
            await self._round(attempts, self._items() if self._has_more() else nothing())

    async def _reserving(self, attempts: Attempts[Any]) -> Collective | None:
        """Have what requests may use in the store before they go out: for each with a budget, else for all together."""
        book = await self.prices()
        if not budgeting.is_set(self._job):
            extra = self._job.params.extra_body
            collective = Collective(book, self._limits.ceiling, extra, time.time)
            attempts.reserve(collective)
            return collective
        before = await self._store.used()
        self._purse = self.late.purse = Purse(self._job, book, before, self._stop, self._used, self.note, self._raising)
        self._meter.waiting, self.steering.limits.purse = self._purse.waiting, self._purse
        attempts.afford(self._purse, self._warming.let_go if self._warming is not None else None)
        return None

    def _progress(self) -> Shown:
        self._noting.look()
        return self._meter.progress()

    def _row_input(self) -> RowInput | None:
        """Return where rows come from that a person names; None: from the program."""
        return None

    def _send_beside(self, items: Sequence[Item]) -> None:
        """Send rows that are not among the items of a round."""
        if self._purse is not None:
            self._purse.budget.comes(len(items))
        self._beside.add(items)

    def _has_more(self) -> bool:
        """Return True if there is more to be done once all that has been given out is saved."""
        return False

    def _goes_on(self) -> bool:
        """Return True if another round is needed. If not, nothing is taken that is asked from now on: it would not be sent."""
        self.steering.over = self._stop.requested or not (self._has_more() or self._beside.waiting)
        return not self.steering.over

    async def _give(self) -> None:
        """Save the outcomes that rows get from others. Nothing is sent."""
        batch: list[Entry | Reservation] = []
        async with aclosing(self._items()) as items:
            async for one in items:
                if isinstance(one, Outcome):
                    batch.append(one)
                if len(batch) >= _AT_ONCE:
                    await self._save(batch)
                    batch = []
        if batch:
            await self._save(batch)

    def _coming(self) -> bool:
        """Return False while no further row comes until the program gives one."""
        return True

    async def _round(self, attempts: Attempts[Any], items: Items) -> None:
        """Do what is to be done, and save it."""
        items, workers, save = items, self._workers(), self._save
        handle: Handle = attempts.handle
        ledger = self._lanes.ledger
        ledger.more()
        # around one round only: with rows that wait for the next one, it would wait for ever
        if (warming := self._warming) is not None:
            items, handle, attempts.begun = warming.items(items), warming.handle(handle), warming.begun
            warming.holds = ledger.holds
        if self._backlog is not None:
            items, handle = self._backlog.items(items), self._backlog.handle(handle, self._stop, ledger.resting("reader"))
        if self._purse is not None:
            items, handle = self._purse.budget.items(items, self._coming), self._purse.budget.handle(handle)
        await pipeline.run(items, handle, save, workers=workers, stop=self._stop, wanted=self._workers, more=self._beside)

    def _begun(self, provider: Provider, client: Client[Any], doubt: Callable[[], None]) -> Attempts[Any]:
        job, endpoint, answered = self._job, self._endpoint, self._before.bought
        attempts = self._attempts = self._meter.attempts = (Attempts if self._hear is None else self._heard_by)(
            wiring.informed(job, endpoint, provider, self.note, doubt, answered=answered),
            client,
            self._lanes,
            wiring.policy(job),
            Judge(succeeded=answered, model=job.model),
            self._stop,
            redactor=endpoint.redactor,
        )
        if self._fleet is not None and self._prices is not None:
            ways = self._fleet.ways(client, self.note, answered=answered, book=self._prices[0])
            attempts.go_by(ways, self._fleet)
        attempts.avoid(self._used_seeds)
        attempts.obey(self._lanes.halt)
        self.steering.rows = RowSteering(attempts.rows, self._store, self._row_input())
        self.feed.follow(attempts.open, endpoint.redactor, self._stats, self._noting.time, getattr(client, "tell_texts", None))
        if isinstance(attempts, HeardAttempts) and self._hear is not None:
            attempts.tell(self._hear, self._listens, shaped.values_of(job))
        return attempts

    def _workers(self) -> int:
        """Return the number of workers: twice the slots or more, as an item that waits for a retry holds a worker and no slot."""
        slots = self._lanes.slots
        return slots + max(16, slots) + min(self._lanes.stuck(), STUCK)

    def _used(self) -> Progress:
        """Return how far the run is, for its budget. Reads the store, so it is for the end of a session."""
        progress = self._meter.used()
        # without it, the advice is less exact
        with suppress(StoreError):
            progress = to_finish.learnt(self._store.path, self._store.run_id, progress, self._store.variant)
        return progress

    async def _save(self, batch: list[Entry | Reservation]) -> None:
        if self.steering.rows is not None:
            batch = self.steering.rows.as_asked(batch)
        reserved = [one for one in batch if isinstance(one, Reservation)]
        entries = list(self._books.priced([one for one in batch if not isinstance(one, Reservation)]))
        await self._store.save(entries, reserved)
        for one in reserved:
            one.written.set()
        if not reserved or entries:
            await self._told_saved(entries)

    async def _told_saved(self, entries: Sequence[Entry]) -> None:
        """Count entries that have been saved, and tell of them."""
        self._books.add(attempts_of(entries))
        assert self._attempts is not None
        with self._lanes.ledger.at_once():
            for entry in entries:
                self._stats.add(entry)
                # Only now is the slot free for another request, so that a kill loses at most one answer for each slot.
                self._attempts.saved(entry)
        outcomes = tuple(entry for entry in entries if isinstance(entry, Outcome))
        self._note_saved(outcomes)
        if self._job.has_workers or self._store.waits:
            await self.late.saved(entries)
        self._tell(Saved(outcomes=outcomes, attempts=tuple(entry for entry in entries if isinstance(entry, Attempt))))

    def _note_saved(self, outcomes: Sequence[Outcome]) -> None:
        """Take note of outcomes that have been saved, in the same moment as the engine."""

    async def cancelled(self) -> None:
        """Store why the session was cancelled: a third signal, a cancelled task, or a signal handler of the program."""
        with anyio.CancelScope(shield=True), suppress(StoreError):
            reason, last = self._stop.reason or BY_PROGRAM, self._meter.last_pace()
            await self._store.finish(complete=False, stop_reason=reason, pace=last)
