"""The rows of a session that go through a provider's batch API: the one class that the session drives.

    rows that are open --> files of requests --> batches --> results --> the store
           ^                                                   |
           +------- expired, to be tried again, asked again ---+

One task does everything, a step of one batch after the other: what is stored before and after each request is in ``sending``.
"""

from collections.abc import Callable, Mapping, Sequence

from runner.batches import SENT_STATES, BatchService, BatchStore, StoredBatch
from runner.engine.answers import InformedProvider
from runner.engine.batch.asking import Stopped, ask
from runner.engine.batch.driving import SENDING, Driving
from runner.engine.batch.encoding import Encoding
from runner.engine.batch.files import Folder
from runner.engine.batch.holding import OpenBatches
from runner.engine.batch.importing import SHORT_WAITS_S, Importing
from runner.engine.batch.parts import Decision, Left, Plan, Rules, Standing, Told, Until, Why
from runner.engine.batch.shared import Shared
from runner.engine.batch.spending import Spending
from runner.engine.batch.submitting import Submitting
from runner.engine.batch.trouble import Trouble
from runner.engine.judge import Judge
from runner.errors import AttemptError
from runner.interfaces import Items

AGAIN_S = 600.0
"""Seconds after which rows that came back open go into a batch while others are still out."""
_LONGEST_S, _LOOK_S = 60.0, 1.0
_MANY = 1 << 62


class Batches:
    """Submits rows as batches, polls them and imports what comes. One instance for a session; not for several tasks at once.

    provider: made with ``stream=False``. judge: the session's, or one of its own.
    """

    def __init__(
        self,
        service: BatchService,
        store: BatchStore,
        provider: InformedProvider,
        judge: Judge,
        *,
        plan: Plan,
        rules: Rules,
        told: Told,
    ) -> None:
        self._plan, self._rules, self._told = plan, rules, told
        self._folder, self._held = Folder(plan.folder, plan.run_id), OpenBatches(store, rules.clock, told.changed)
        shared = Shared(
            service=service,
            store=store,
            held=self._held,
            folder=self._folder,
            rules=rules,
            told=told,
            trouble=Trouble(provider, judge, rules, told.note, live=not plan.again),
            spending=Spending(plan.purse, store),
            further=plan.again,
        )
        self._spending, self._trouble, self._held.over = shared.spending, shared.trouble, shared.spending.over
        importing = Importing(shared, provider, judge)
        encoding = Encoding(service, provider, plan, rules, importing.learning, shared.spending)
        self._submitting = Submitting(shared, encoding, plan)
        self._driving = Driving(shared, self._submitting, importing)
        self._source: Items | None = None
        self._read = False  # all of the input has been read
        self._said = set[str | None]()

    @property
    def open(self) -> Mapping[int, StoredBatch]:
        """The batches of the run in an open state, by number, as they are known now. Empty before ``recover``."""
        return self._held.by_id

    @property
    def came_open(self) -> int:
        """How many rows came back open in this session (expired, to be tried again, asked again), and were not sent again yet."""
        return self._held.returned

    async def recover(self) -> None:
        """Take up the open batches of earlier sessions: delete those of which nothing was sent, and have the others looked for.

        To be called first, also before rows go live. Sends nothing. Raises StoreError.
        """
        await self._held.load()
        await self._spending.take_up(self._held.in_state(*SENT_STATES))
        for batch in list(self._held.by_id.values()):
            whole = await self._folder.size(batch.token) == batch.bytes > 0
            if batch.state == "writing" or (batch.state in ("written", "uploading") and not whole):
                if batch.state == "uploading":
                    # a file that was uploaded without a batch is found by nobody, and costs nothing
                    self._spending.give_back(batch)
                await self._held.drop(batch.id)
                await self._folder.clear(batch.token)
                continue
            self._held.looks[batch.id].again = batch.state in ("uploading", "creating")
            if (warning := self._driving.polling.warn(batch)) is not None:
                self._told.note(warning)
        await self._folder.sweep([batch.token for batch in self._held.by_id.values()])

    async def run(self, items: Callable[[], Items], *, detach: bool = False, until: Until | None = None) -> Left:
        """Submit, poll and import until nothing waits, the session is to detach, rows are to go live, or a stop is requested.

        items: returns what is to be done, from the beginning of the input: rows without outcome that do not wait. It is called
        once for each pass over the input, perhaps several times. Broken rows among them are saved. detach: submit, poll once,
        import what has ended, and return. Raises StoreError; the error of a stop is in ``stop.error``.
        """
        self._read = False
        try:
            while not self._rules.stop.requested:
                decision = await self._decided(until)
                if decision is not None and decision.live > 0:
                    return self._left("live", decision)
                moved = await self._submit(items, decision)
                moved = await self._step() or moved
                read = self._read
                if not moved and (why := self._is_over(decision, detach=detach)) is not None:
                    return self._left(why)
                if not moved and read == self._read:
                    # else a new pass over the input begins at once
                    await self._wait(decision)
        except Stopped:
            # the state of the batch at hand says how far it has come
            pass
        finally:
            await self._close()
        return await self._stopped()

    async def follow(self, until: Until | None = None, over: Callable[[], bool] = lambda: False) -> None:
        """Send, poll and import the open batches until none is left, beside a live engine. Makes no batches. Ends with a stop.

        over: looked at every second between two steps; True: return. It must not be cancelled in place of that.
        """
        try:
            while self._held.by_id and not self._rules.stop.requested and not over():
                decision = await self._decided(until)
                if not await self._step() and self._held.by_id:
                    await self._wait(decision, _LOOK_S)
        except Stopped:
            return

    def went_live(self, rows: int | None) -> None:
        """Count rows that came back open as sent, since a live round begins that takes so many rows; None: all that are open."""
        self._held.take_returned(rows)

    async def fetch(self, batch_ids: Sequence[int] | None = None) -> Left:
        """Poll open batches once, and import what has ended. None: all. Raises StoreError."""
        for number in list(self._held.by_id) if batch_ids is None else batch_ids:
            if self._rules.stop.requested:
                break
            try:
                await self._fetch(number)
            except Stopped:
                break
        self._spending.let_go()
        return self._left("stopped" if self._rules.stop.requested else "waiting" if self._held.by_id else "done")

    async def _fetch(self, number: int) -> None:
        """Poll a batch once, and import it if it has ended; again while results are missing. Raises Stopped."""
        while (batch := self._held.by_id.get(number)) is not None and batch.state not in SENDING:
            await self._driving.step(batch)
            if number not in self._held.by_id or not self._is_short(number):
                return
            clock = self._rules.clock
            await ask(self._rules.stop, clock.sleep(max(0.05, self._held.looks[number].next_at - clock.monotonic())))

    async def cancel(self, batch_ids: Sequence[int]) -> None:
        """Ask the provider to cancel batches; one of which nothing was sent is deleted. Raises AttemptError, StoreError."""
        for number in batch_ids:
            if (batch := self._held.by_id.get(number)) is not None:
                await self._driving.cancel(batch)

    # -- the parts of the loop

    async def _decided(self, until: Until | None) -> Decision | None:
        """Ask what is to become of the batches, and do it."""
        if until is None:
            return None
        decision = until(self._standing())
        if decision.told is not None and decision.about not in self._said:
            self._said.add(decision.about)
            self._told.note(decision.told)
        for number in decision.cancel:
            if (batch := self._held.by_id.get(number)) is not None:
                try:
                    await self._driving.cancel(batch)
                except AttemptError as error:
                    await self._driving.met(number, error)
        for number in decision.overtake:
            await self._held.release(number)
        return decision

    def _standing(self) -> Standing:
        held = self._held
        asked = {number: looks.cancel_asked_at for number, looks in held.looks.items() if looks.cancel_asked_at is not None}
        return Standing(
            now=self._rules.clock.wall(),
            batches=tuple(held.by_id.values()),
            cancel_asked_at=asked,
            cancels_s=tuple(held.cancels_s),
            returned=held.returned,
            returned_s=held.returned_s,
            submitting="never" if self._trouble.takes_none else "full" if held.is_full else "open",
        )

    async def _submit(self, items: Callable[[], Items], decision: Decision | None) -> bool:
        """Write one more file of requests, if rows are left and the provider takes them. Return True if one was written."""
        most = decision.submit if decision is not None else _MANY
        if self._submitting.again:
            self._submitting.again = self._read = False
            await self._close()
        # one after the other: what is written and not sent may have to be written again
        if self._read or most <= 0 or self._held.is_full or self._held.in_state("written", "uploaded"):
            return False
        if self._source is None:
            self._source, self._held.returned, self._held.returned_at = items(), 0, None
        if decision is not None:
            self._submitting.limit(decision.piece_rows)
        whole, taken = await self._submitting.next(self._source, most)
        self._read = not whole and taken < most
        if self._read:
            await self._close()
        return whole

    async def _step(self) -> bool:
        """Make a step of each batch that is due. Return True if there was one."""
        now = self._rules.clock.monotonic()
        due = [batch.id for batch in self._held.by_id.values() if batch.state != "writing" and self._driving.due_at(batch) <= now]
        for number in due:
            batch = self._held.by_id.get(number)
            if batch is not None and not self._rules.stop.requested:
                await self._driving.step(batch)
        return bool(due)

    def _is_over(self, decision: Decision | None, *, detach: bool) -> Why | None:
        """Return why the engine has nothing more to do; None: it goes on. A new pass over the input is begun if rows are open."""
        held, mixed = self._held, decision is not None
        if detach and (self._read or held.is_full) and all(self._is_left(batch) for batch in held.by_id.values()):
            return "waiting" if held.by_id else "done"
        if (held.is_full and decision.open > 0) if decision is not None else not self._read:
            return None
        if not held.by_id and (mixed or not held.returned or not self._plan.again):
            return "live" if held.returned else "done"
        soon = not held.by_id or held.returned >= self._submitting.most or held.returned_s >= AGAIN_S
        if not mixed and not detach and self._plan.again and held.returned and soon:
            self._read = False
        return None

    def _is_left(self, batch: StoredBatch) -> bool:
        """Return True if a session that detaches has done what it can for a batch: sent it, and looked at it once."""
        if batch.state in SENDING:
            return self._held.is_full and batch.state != "creating"
        # each session would begin anew to wait for results that are missing
        return self._held.looks[batch.id].seen and not self._is_short(batch.id)

    def _is_short(self, number: int) -> bool:
        """Return True while results of a batch are missing that may still come."""
        return 0 < self._held.looks[number].short <= len(SHORT_WAITS_S)

    async def _wait(self, decision: Decision | None, most_s: float = _LONGEST_S) -> None:
        """Wait until the next batch is due. Raises Stopped. most_s: seconds at the most."""
        held, clock = self._held, self._rules.clock
        now = clock.monotonic()
        sent = [batch for batch in held.by_id.values() if batch.state != "writing"]
        instants = [now + most_s, *map(self._driving.due_at, sent)]
        if held.returned_at is not None and held.returned_at + AGAIN_S > now:
            instants.append(held.returned_at + AGAIN_S)
        if held.full_until is not None and held.is_full:
            instants.append(held.full_until)
        wait_s = min(instants) - now
        if decision is not None:
            wait_s = min(wait_s, decision.wake_at - clock.wall())
        await ask(self._rules.stop, clock.sleep(max(0.05, wait_s)))

    async def _close(self) -> None:
        """Leave the input."""
        if (source := self._source) is not None:
            self._source = None
            await source.aclose()

    async def _stopped(self) -> Left:
        """Delete what was written and not sent, since the session ends."""
        await self._submitting.undo()
        return self._left("stopped")

    def _left(self, why: Why, decision: Decision | None = None) -> Left:
        held = self._held
        kept = [batch.kept_until for batch in held.by_id.values() if batch.kept_until is not None]
        return Left(
            why=why,
            batches=len(held.by_id),
            waiting=held.waiting,
            returned=held.returned,
            decision=decision,
            kept_until=min(kept, default=None),
        )
