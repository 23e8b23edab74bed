"""The rows of a session that go through the provider's batch API: before, beside or in place of live requests."""

import math
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any

import anyio
from anyio.abc import TaskGroup
from msgspec import structs

from runner.batches import OPEN_STATES, StoredBatch
from runner.config import due
from runner.engine import pipeline
from runner.engine.attempt import Attempts
from runner.engine.batch import outlook, parts
from runner.engine.clock import Clock
from runner.engine.judge import Judge
from runner.inputs import source
from runner.interfaces import Items
from runner.model import Item, Outcome
from runner.pace import BatchesPace
from runner.session import batch_fit, batch_view, batch_words, budgeting, wiring
from runner.session.live_speed import LiveSpeed
from runner.session.saving_both import SavingBoth
from runner.session.sending_once import SendingOnce
from runner.store.batches import NOT_MADE
from runner.text import plural

if TYPE_CHECKING:
    # imported where they are used: a session without batches needs none of them
    from runner.engine.batch.flow import Batches

_FIRST = 1
_LOOK_S = 0.25
_LOST = "the server that had them has ended with that session"


class Batching(SavingBoth):
    """A session whose rows may go through batches. The subclass knows where they come from."""

    # the address of the server that was started for the session
    served: str | None = None
    # when the session is to be done, and when its batches began; seconds since the epoch
    _due: float | None = None
    _began_at = 0.0
    # rows are read more than once, so that what the input holds was counted before
    _many_reads = False
    # what was told of decisions about batches
    _decided: set[str]
    # the live path of a mixed run
    _live: Attempts[Any] | None = None
    _speed: LiveSpeed
    _passed: source.Counts
    _once: SendingOnce | None

    @property
    def batched(self) -> bool:
        """True if the session makes batches."""
        return batch_fit.uses_batches(self._plan.job, self._plan.options)

    async def _rounds(self, attempts: Attempts[Any]) -> None:
        stored = await self._store.batches.batches() if self._store.waits else []
        if self.batched or self._store.reasked:
            attempts.asked_before = self._asked_before
        if self._plan.job.local_server is not None:
            await self._give_up(stored)
            stored = []
        if not self.batched and stored and (reason := batch_fit.lacks(self._plan.job)) is not None:
            self.note(f"the run has rows that wait in batches, which this session leaves alone: asking for them {reason}")
            stored = []
        if not self.batched and not stored:
            if self._plan.options.fetch is None:
                await super()._rounds(attempts)
            return
        self.steering.batched = self.batched
        async with self._opened() as engine:
            self._engine, self._began_at = engine, time.time()
            self._meter.batches = self._batches_pace
            self._due = due.due(self._plan.job.by, self._plan.job.within, self._began_at)
            await engine.recover()
            if (fetch := self._plan.options.fetch) is not None:
                await engine.fetch(fetch or None)
            elif not self.batched:
                await engine.fetch()
                await super()._rounds(attempts)
            elif self._plan.job.mode == "batch":
                await self._all_in_batches(engine)
            else:
                await self._batches_first(engine, attempts)

    async def _asked_before(self, item: Item) -> tuple[Item, int, int]:
        """Return an item that goes live as batches leave it: how often they were asked for a better answer, and failed."""
        found = (await self._store.batches.reasks([item.key])).get(item.key) if self._store.reasked else None
        if found is None or found.fingerprint not in (None, item.fingerprint):
            return item, 0, 0
        from runner.engine.batch.learning import asked_again

        return asked_again(item, found), found.repairs, found.failures

    async def _all_in_batches(self, engine: "Batches") -> None:
        """Send all rows in batches. With a time to be done by, leave then what is not back."""
        detach = self._plan.options.detach
        async with _beside() as beside:
            if self._due is not None:
                beside.start_soon(self._leave_at, self._due)
            left = await engine.run(self._items, detach=detach)
            while left.why == "done" and (left.returned or self._goes_on()) and not self._stop.requested:
                # rows came back open before the session could leave, or wait for the outcomes of others
                left = await engine.run(self._items, detach=detach)
            beside.cancel_scope.cancel()

    async def _leave_at(self, at: float) -> None:
        await anyio.sleep(max(0.0, at - time.time()))
        name = "by" if self._plan.job.by is not None else "within"
        self._stop.request(f"the time of --{name} has come", grace_s=0.0)

    async def _batches_first(self, engine: "Batches", attempts: Attempts[Any]) -> None:
        """Send rows in batches, and live what comes back open or can wait no longer."""
        detach, until = self._plan.options.detach, self._until
        self._live, self._speed, self._decided = attempts, LiveSpeed(), set()
        while not self._stop.requested:
            left = await engine.run(self._items, detach=detach, until=until)
            if left.why in ("waiting", "stopped"):
                return
            if left.why == "done" and self._due is None and not (left.returned or self._goes_on()):
                return
            number = left.decision.live if left.decision is not None else None
            engine.went_live(number)
            over = anyio.Event()
            async with _beside() as beside:
                # a step of it must not be cut off: nobody would know what it has done
                beside.start_soon(engine.follow, until, over.is_set)
                self._speed.begin()
                try:
                    await self._round(attempts, _first(self._items(), number, self._speed.end))
                finally:
                    self._speed.end()
                    over.set()
            if left.why == "done" and not (engine.came_open or engine.open or self._goes_on()):
                return

    def _until(self, standing: parts.Standing) -> outlook.Decision:
        """Decide what is to become of the batches, so that the run is done in time."""
        from runner.engine.batch import policy

        out = sum(batch.waiting for batch in standing.batches)
        flying, settled = self._lanes.in_flight, self._meter.progress().settled_rows
        speeds = self._speed.look(batch_view.answered(self._stats, time.monotonic()))
        left = max(0, settled[2] - out - flying)
        view = batch_view.view(
            self._plan.job, standing, self._lanes, self._stats, speeds, rows=sum(settled), open_rows=left, flying=flying
        )
        if self._live is not None and self._live.lacks_flex:
            view = structs.replace(view, live=structs.replace(view.live, flex=None))
        view = batch_view.priced(view, self._prices[0] if self._prices is not None else None, self._plan.job.model)
        due, began = self._due, self._began_at
        step_s = view.step_s if due is None else min(view.step_s, max(0.2, (due - began) / 30))
        decision = policy.decide(structs.replace(view, deadline=due, began_at=began, step_s=step_s))
        for sentence in batch_words.decided(decision):
            if sentence not in self._decided:
                self._decided.add(sentence)
                self.note(sentence)
        if due is not None and self._live is not None and view.live.flex is not None:
            # rows wait for it as long as there is time, unless the user says otherwise
            most_s = self._plan.job.flex_patience if self._plan.job.said("flex_patience") else math.inf
            self._live.go_flex(min(most_s, decision.flex_patience_s) if decision.tier is not None else None)
        return decision

    @asynccontextmanager
    async def _opened(self) -> AsyncIterator["Batches"]:
        from runner.engine.batch.flow import Batches

        plan, endpoint = self._plan, self._endpoint
        base_url = self.served or endpoint.base_url
        assert base_url is not None
        job, answered = batch_fit.as_sent(plan.job), self._before.bought
        made = wiring.made_at(job, endpoint, base_url)
        provider = wiring.informed(job, endpoint, made, self.note, lambda: None, answered=answered)
        book = await self.prices()
        async with batch_fit.open_service(job, endpoint, base_url, provider) as service:
            yield Batches(
                service,
                self._store.batches,
                provider,
                Judge(succeeded=answered, model=job.model),
                plan=parts.Plan(
                    run_id=self._store.run_id,
                    folder=self._store.path.with_name(f"{self._store.path.name}.batches"),
                    again=plan.job.mode == "batch",
                    purse=self._purse,
                    price=partial(budgeting.batch_price, book),
                    used_seeds=self._used_seeds,
                ),
                rules=parts.Rules(policy=wiring.policy(job), stop=self._stop, redactor=endpoint.redactor, clock=Clock()),
                told=parts.Told(save=self._settle, note=self.note),
            )

    async def _give_up(self, stored: Sequence[StoredBatch]) -> None:
        """Give up batches of a server that was started for an earlier session: no other one can have them."""
        for batch in stored:
            if batch.state in NOT_MADE:
                await self._store.batches.drop_batch(batch.id)
            else:
                await self._store.batches.give_up(batch.id, _LOST)
        if stored:
            rows = sum(batch.waiting for batch in stored)
            self.note(f"{plural(rows, 'row')} of an earlier session waited in batches, and {_LOST}; they are sent again")

    # -- what others see of it

    def _batches_pace(self) -> BatchesPace | None:
        return batch_view.pace(self._engine.open.values(), self._engine.came_open) if self._engine is not None else None

    async def _open_batches(self) -> list[StoredBatch]:
        """Return the batches in which rows wait when the session ends."""
        return [one for one in await self._store.batches.batches() if one.state in OPEN_STATES] if self._store.waits else []

    # -- reading the input more than once

    async def _count_restored(self) -> int:
        if not (self.batched or self._store.waits):
            return await super()._count_restored()
        if self._fresh and not self._plan.options.retry_failed:
            return 0
        # the rows are read several times, so that they can be counted only before
        return await self._look_at_each()

    def _begin_reading(self) -> None:
        """Count what the input holds by what was found before the session, since its rows are read more than once."""
        self._many_reads = self.batched or self._store.waits
        if self._many_reads:
            look, passed = self._look, self._passed
            passed.settled, passed.seen, passed.changed, passed.left = look.settled, look.seen, look.changed, look.left
            passed.complete = True
            if self._once is not None:
                self._once.repeats = True

    async def _new_ones(self, items: Items, seen: set[int]) -> AsyncGenerator[Item | Outcome, None]:
        """Leave out rows that have failed in this session: broken ones, and those that keep an earlier answer. seen: hashes."""
        async with aclosing(items) as candidates:
            async for one in candidates:
                if hash(one.key) in seen:
                    continue
                while self._lanes.halt.on and not self._stop.requested:  # noqa: ASYNC110 - either may end it
                    # paused by a person: what is at the provider goes on there
                    await anyio.sleep(_LOOK_S)
                if isinstance(one, Outcome):
                    seen.add(hash(one.key))
                yield one

    def _later(self) -> source.Selection:
        """Return the rows to be considered when the input is read, wherever the session has got to."""
        fresh = self._fresh and not (self._stats.done or self._stats.failed or self._stats.attempts)
        return structs.replace(self._selection, fresh=fresh)


@asynccontextmanager
async def _beside() -> AsyncIterator[TaskGroup]:
    """Yield a task group. Its errors come as they are: a full disk is a StoreError here too."""
    try:
        async with anyio.create_task_group() as group:
            yield group
    except BaseExceptionGroup as group:
        raise pipeline.cause_of(group) from None


async def _first(items: Items, number: int | None, end: Callable[[], None]) -> AsyncGenerator[Item | Outcome, None]:
    """Yield the first items, so many at most; None: all. end: called when no further one comes."""
    async with aclosing(items) as candidates:
        for place in count(_FIRST):
            one = await anext(candidates, None) if number is None or place <= number else None
            if one is None:
                end()
                return
            yield one
