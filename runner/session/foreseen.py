"""What a session over an input will cost: looked up before it sends anything, told as it goes on, and learned from a sample."""

import msgspec
from msgspec import structs

from runner.engine.stop import Stop
from runner.money import Money
from runner.prices.sample import Drawn
from runner.session import budgeting
from runner.session.audience import Audience
from runner.session.backlog import Backlog
from runner.session.drawing import Drawing, drawing, with_lanes
from runner.session.expecting import Expected, expected, said
from runner.session.prepare import Plan, in_thread
from runner.session.rest import sampled
from runner.session.to_send import ToSend, of_plan
from runner.session.working import Working
from runner.store.checkpoint import RunStore
from runner.store.counts import RunCounts


def owned(plan: Plan) -> RunStore:
    """Return the run of a session, owned by it. What the session changes about the run waits until it begins."""
    return RunStore.own(
        plan.given.store,
        plan.run.id,
        durability=plan.job.durability,
        changes=plan.changes,
        created_at=plan.run.created_at,
        waits=True,
    )


class Foreseen(Working):
    """A session that has a plan, and so knows before what it will send."""

    def __init__(self, plan: Plan, store: RunStore, stop: Stop, audience: Audience, backlog: Backlog | None) -> None:
        super().__init__(plan.job, plan.endpoint, store, stop, audience, backlog)
        self._plan = plan
        # the rows that were drawn for an estimate; None if all are sent
        self._drawing: Drawing | None = None

    @property
    def _in_part(self) -> bool:
        """Return True if the session leaves rows of the input to others."""
        return self._plan.options.limit is not None or self._plan.options.sample is not None

    @property
    def _fresh(self) -> bool:
        """Return True if the store holds no attempt and no outcome of the run."""
        before = self._before
        return not (before.attempted or before.done or before.failed or before.broken)

    def _open(self, *, settled: bool) -> ToSend:
        return of_plan(self._plan, settled=settled, variant=self._store.variant)

    async def _to_send(self, left: int) -> int:
        """Return how many requests are to be sent. left: answers without an outcome; rows get some of them from others."""
        same = self._plan.same
        if same is not None:
            sent = left - same.rows * self._plan.answers if self._fresh else await in_thread(self._open(settled=True).number)
            self._meter.copies = max(0, left - sent)
        return self._meter.bought(left)

    async def _expected(self, left: int) -> Expected | None:
        """Return what the session will cost, if that is known. left: requests to be sent. Draws the rows of an estimate."""
        cost, job = await self._by_rows(left), self._plan.job
        if cost is None or not budgeting.costs_count(job):
            return cost
        return structs.replace(cost, most=budgeting.dollars_left(job, await self._store.used()))

    async def _by_rows(self, left: int) -> Expected | None:
        plan, before = self._plan, self._before
        book, money = await self.prices(), await self.money()
        settled = before.done + before.failed + before.broken
        if (number := plan.options.sample) is not None:
            self._drawing = found = await in_thread(lambda: drawing(plan, number, book, money, settled))
            return said(found.rest, plan.answers) if found.rest is not None else None
        if book is None or left <= 0:
            return None
        cost = await in_thread(lambda: expected(plan, self._open(settled=settled > 0), book, money, left=left, settled=settled))
        self._meter.expected = cost.projection if cost is not None else None
        return cost

    async def _note_drawn(self, drawn: Drawn, left: int) -> None:
        """Store what the sample tells of the limits, and of what is left."""
        plan, money = self._plan, self._books.money
        if plan.same is not None:
            left = await in_thread(self._open(settled=True).number)
        found = await in_thread(lambda: sampled(plan.given.store, plan.run.id, drawn, money, left))
        self._meter.expected = found.projection if found is not None else None
        await self._note_sample(structs.replace(with_lanes(drawn, self._lanes.states()), expected=self._meter.expected))

    async def _note_sample(self, drawn: Drawn) -> None:
        await self._store.note_sample(msgspec.json.encode(drawn).decode())

    def _projected(self, money: Money, now: RunCounts, left: int) -> int | None:
        # how many of the rows that others will send get the answers of others, only a look at them can tell
        in_part = left > 0 and self._plan.job.dedupe and (self._in_part or self._plan.narrowed)
        return None if in_part else super()._projected(money, now, self._meter.bought(left))
