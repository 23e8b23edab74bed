"""One session of a run: prepare it, wire the parts together, run them, sum up."""

import os
import sys
from pathlib import Path

import anyio
import msgspec
from msgspec import structs

from runner.config import trust
from runner.config.job import Job
from runner.engine.listening import Hear
from runner.engine.stop import Stop
from runner.errors import RunStoppedError
from runner.event_types import CHOSEN, DECLINED, INPUT_CHANGED, LIMITED, SAMPLED, Finished, Summary
from runner.inputs import source, spool
from runner.interfaces import Items, Observer
from runner.prices.sample import Drawn
from runner.session import continuing, naming, prefixes, prepare, reading, reuse, wiring
from runner.session.audience import Audience
from runner.session.backlog import Backlog
from runner.session.continuing import Idle
from runner.session.drawing import Drawing, drawing, with_lanes
from runner.session.expecting import Confirm, Expected, expected, said
from runner.session.options import SessionOptions
from runner.session.oversized import oversized, sentences
from runner.session.prepare import Plan, in_thread
from runner.session.rest import sampled
from runner.session.stopping import interruption
from runner.session.working import Working
from runner.settled import Head
from runner.store.checkpoint import RunStore
from runner.store.counts import RunCounts


async def execute(
    job: Job,
    store_path: Path,
    options: SessionOptions,
    stop: Stop,
    observe: Observer,
    hear: Hear | None = None,
    backlog: Backlog | None = None,
    confirm: Confirm | None = None,
) -> Summary:
    """Run a job until all its rows have outcomes or a stop is requested. hear: receives the pieces of answers as they come.

    backlog: of a reader that new rows wait for; None: there is none. confirm: is told what the session will cost, if
    that is known, before it sends anything; returns True if it has said so, and raises what ends the session.
    Raises UsageError before anything is sent, StoreError, and RunStoppedError when further requests would be pointless.
    """
    audience = Audience(observe, interruption(stop), hear)
    plan = await prepare.prepare(job, store_path, options)
    if isinstance(plan, Idle):
        for event in prepare.nothing_to_do(job, plan):
            audience.tell(event)
        return prepare.summary(plan.run, plan.money)
    run_id, changes = plan.run.id, plan.chosen.changes
    async with await in_thread(lambda: RunStore.own(store_path, run_id, durability=job.durability, changes=changes)) as store:
        session = _Session(plan, store, stop, audience, backlog)
        try:
            await session.begin(confirm)
            async with wiring.open_provider(plan.job, plan.endpoint) as (provider, client):
                await session.run(provider, client)
            summary = await session.end()
        except anyio.get_cancelled_exc_class():
            await session.cancelled()
            raise
    audience.tell(Finished(summary=summary))
    if stop.error is not None and not summary.finished:
        raise RunStoppedError(naming.in_full(str(stop.error), run_id, store_path), code=stop.error.code)
    return summary


class _Session(Working):
    """The state of one session over a prompt file."""

    def __init__(self, plan: Plan, store: RunStore, stop: Stop, audience: Audience, backlog: Backlog | None) -> None:
        super().__init__(plan.job, plan.endpoint, store, stop, audience, backlog)
        self._plan = plan
        self._warming = prefixes.warming(plan.job, plan.template)
        before = plan.scanned.before
        self._passed = source.Counts(settled=before.rows, seen=before.rows - before.broken)
        self._look = source.SettledRows()
        # what was stored last of the input: whether the next session is to look at each row, and the settled beginning
        self._noted: tuple[bool, Head | None] = (False, None)
        # the rows that were drawn for an estimate; None if all are sent
        self._drawing: Drawing | None = None

    async def begin(self, confirm: Confirm | None) -> None:
        """Read what the run holds, ask whether it is to go on, and send the event Started. confirm: as for ``execute``."""
        plan = self._plan
        taken = await reuse.take_over(plan, self._store, self._stop, self._tell)
        self._stats.reused = sum(taken.values())
        self._before = await self._store.counts()
        restored = await self._count_restored()
        # If rows have changed, or lie beyond --limit, the next session looks at each row and reports them again.
        unseen = self._in_part and not (plan.unchanged or self._fresh)
        look_again = self._look.changed > 0 or unseen
        # what was settled in another state of the file may be in another place now
        head = plan.run.head if plan.unchanged or plan.scanned.before.rows else None
        await self._note_input(look_again, head)
        more = await in_thread(lambda: trust.remember(plan.job, plan.endpoint.grants, os.environ))
        more += [self._limits_note] if self._limits_note is not None else []
        given, chosen, options = plan.given, plan.chosen, plan.options
        elsewhere = await in_thread(lambda: continuing.answered_elsewhere(plan.job, given, chosen, options, plan.run.id))
        large = await in_thread(lambda: oversized(plan.prompts, self._limits.per_minute, plan.job.params.max_tokens))
        notes = (
            *plan.endpoint.notes,
            *more,
            *sentences(large, plan.prompts.places),
            *prepare.notes(plan, self._before, self._look.changed, taken),
            *elsewhere,
        )
        failed = 0 if plan.options.retry_failed else min(self._before.failed, restored)
        rows, name = plan.rows - self._look.left, spool.full_name(plan.job.input)
        cost = await self._expected(rows - restored)
        if self._drawing is not None:
            rows, failed = len(self._drawing.drawn.keys), 0
            restored = rows - self._drawing.left
        if cost is not None and not (confirm is not None and await self._confirmed(confirm, cost)):
            notes = (*notes, cost.sentence)
        self._tell(self._meter.begin(plan.run.id, name, rows, restored, failed, notes, self._before.paid))

    @property
    def _in_part(self) -> bool:
        """Return True if the session leaves rows of the input to others."""
        return self._plan.options.limit is not None or self._plan.options.sample is not None

    @property
    def _as_asked(self) -> str | None:
        """Return why rows are left to other sessions; None if none are."""
        if self._drawing is not None:
            return SAMPLED
        return LIMITED if self._plan.options.limit is not None else CHOSEN if self._plan.narrowed else None

    async def _expected(self, left: int) -> Expected | None:
        """Return what the session will cost, if that is known. left: rows without an outcome. Draws the rows of an estimate."""
        plan, before = self._plan, self._before
        book, money = await self.prices(), await self.money()
        settled = before.done + before.failed + before.broken
        if (number := plan.options.sample) is not None:
            self._drawing = found = await in_thread(lambda: drawing(plan, number, book, money, settled))
            await self._store.note_sample(msgspec.json.encode(found.drawn).decode())
            return said(found.rest) if found.rest is not None else None
        if book is None or left <= 0:
            return None
        cost = await in_thread(lambda: expected(plan, book, money, left=left, settled=settled))
        self._meter.expected = cost.projection if cost is not None else None
        return cost

    async def _confirmed(self, confirm: Confirm, cost: Expected) -> bool:
        """Return True if it has been said what the session will cost. Blocks the event loop: nothing else goes on."""
        try:
            return confirm(cost)
        except BaseException:
            # a run that was finished before, and that only a retry has opened, is as it was
            complete = self._plan.run.finished and self._plan.unchanged
            await self._store.finish(complete=complete, stop_reason=None if complete else DECLINED)
            raise

    async def _note_input(self, look_again: bool, head: Head | None) -> None:
        plan, given = self._plan, self._plan.given
        self._noted = look_again, head
        if plan.narrowed:
            # what the store holds is about the rows of the run, which other sessions use again
            return
        await self._store.begin(
            rows=plan.scanned.rows,
            digest=given.digest,
            size=given.content.size,
            identical=plan.scanned.identical,
            look_again=look_again,
            head=head,
        )

    async def _count_restored(self) -> int:
        options = self._plan.options
        # a retry has to know which rows it leaves, and the others may be counted without a look at each
        if self._plan.unchanged and options.limit is None and not options.accept_changes and not options.retry_failed:
            return self._before.done + self._before.failed
        if self._fresh and not options.retry_failed:
            return 0
        # rows may have been added, removed or moved, so each row of the file is looked up
        self._look = await source.find_settled(self._plan.prompts, self._plan.scanned, self._store, self._selection)
        return self._look.settled

    @property
    def _fresh(self) -> bool:
        """Return True if the store holds no attempt and no outcome of the run."""
        before = self._before
        return not (before.attempted or before.done or before.failed or before.broken)

    @property
    def _selection(self) -> source.Selection:
        options = self._plan.options
        return source.Selection(
            # what is beyond it is no size of a file
            limit=None if options.limit is None else min(options.limit, sys.maxsize),
            retry_failed=options.retry_failed,
            accept_changes=options.accept_changes,
            fresh=self._fresh,
            # a broken row that is not chosen has not left the input
            may_hold_broken=self._before.broken > 0 and not self._plan.narrowed,
            only=None if self._drawing is None else frozenset(self._drawing.drawn.keys),
        )

    def _items(self) -> Items:
        plan = self._plan
        return source.items(plan.prompts, plan.scanned, plan.template, self._store, self._passed, self._selection, self._look)

    async def end(self) -> Summary:
        """Store the state of the run, and return the summary of the session."""
        plan, stats, passed = self._plan, self._stats, self._passed
        now = await self._store.counts()
        settled = passed.settled + stats.done + stats.failed
        # the run may be finished although a stop was requested: the last row may have been saved just before
        finished = settled == plan.rows and (passed.complete or await self._rest_settled(now))
        stop_reason = self._stop.reason if not finished else None
        if passed.complete and not finished and stop_reason is None and not passed.left:
            stop_reason = INPUT_CHANGED
        changed = passed.changed + stats.kept
        if finished:
            # rows beyond --limit may have moved or changed
            look_again = changed > 0 or not passed.complete
            head = None if look_again else reading.head_of(plan.given, plan.scanned, passed.last_line)
            if (look_again, head) != self._noted:
                await self._note_input(look_again, head)
        finished = finished and (plan.run.finished or not plan.narrowed)
        if self._drawing is not None:
            await self._note_drawn(self._drawing.drawn, self._left(now, stop_reason))
        await self._store.finish(complete=finished, stop_reason=stop_reason or (None if finished else self._as_asked))
        return self._summary(now, finished=finished, changed=changed, stop_reason=stop_reason)

    async def _note_drawn(self, drawn: Drawn, left: int) -> None:
        """Store what the sample tells of the limits, and of what is left."""
        plan, money = self._plan, self._books.money
        found = await in_thread(lambda: sampled(plan.given.store, plan.run.id, drawn, money, left))
        self._meter.expected = found.projection if found is not None else None
        drawn = structs.replace(with_lanes(drawn, self._lanes.states()), expected=self._meter.expected)
        await self._store.note_sample(msgspec.json.encode(drawn).decode())

    def _summary(self, now: RunCounts, *, finished: bool, changed: int, stop_reason: str | None) -> Summary:
        plan, stats, passed = self._plan, self._stats, self._passed
        before = self._before.done + self._before.failed
        options, error = plan.options, self._stop.error
        return self._summed(
            now,
            finished=finished,
            rows=self._rows(now),
            skipped=self._rows(now) - stats.done - stats.failed if finished else passed.settled,
            missing=max(0, before - passed.seen) if finished and passed.complete and not plan.narrowed else 0,
            changed=changed,
            stop_reason=stop_reason,
            same_command=not options.new and not self._in_part and not passed.left and not plan.narrowed,
            left=0 if finished else self._left(now, stop_reason),
            limit=options.limit,
            chosen=not plan.narrowed and (plan.job.where is not None or plan.job.sample is not None),
            narrowed=plan.narrowed,
            stop_code=error.code if error is not None and not finished else None,
        )

    def _rows(self, now: RunCounts) -> int:
        """Return the rows of the input; of a session that alone has chosen some, those of its run."""
        run = self._plan.chosen.run
        if not self._plan.narrowed or run is None:
            return self._plan.scanned.rows
        return max(run.rows or self._plan.scanned.rows, now.done + now.failed + now.broken)

    def _left(self, now: RunCounts, stop_reason: str | None) -> int:
        """Return how many rows of an unfinished run have no outcome, at the least: rows that have left the file may hide some."""
        left = self._rows(now) - now.done - now.failed - now.broken
        return max(1 if self._in_part and stop_reason is None else 0, left)

    async def _rest_settled(self, now: RunCounts) -> bool:
        """Return True if the rows beyond --limit all have an outcome, as in a run that was finished before."""
        plan = self._plan
        enough = now.done + now.failed + now.broken >= plan.scanned.rows
        if not self._in_part or self._stop.requested or not enough:
            return False
        return await source.all_settled(plan.prompts, plan.scanned, plan.template, self._store)
