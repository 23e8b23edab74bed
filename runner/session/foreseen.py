"""What a session over an input will cost: looked up before it sends anything, told as it goes on, and learned from a sample."""

import sys
from collections.abc import Mapping
from contextlib import suppress

import anyio
import msgspec
from msgspec import structs

from runner.engine.stop import Stop
from runner.errors import RunnerError, StoreError
from runner.inputs import source
from runner.money import Money, Projection
from runner.prices.sample import Drawn
from runner.session import asked_again, budgeting, called, own_settings, rest, reuse, unpriced
from runner.session.again import Again
from runner.session.audience import Audience
from runner.session.backlog import Backlog
from runner.session.drawing import Drawing, drawing, with_lanes
from runner.session.expecting import Confirm, Expected, counted, expected, said
from runner.session.learned import as_asked
from runner.session.naming import command
from runner.session.options import SessionOptions
from runner.session.prepare import Plan, in_thread, same_in
from runner.session.to_send import ToSend, of_plan
from runner.session.working import Working
from runner.store import former
from runner.store.changes import Changes
from runner.store.checkpoint import RunStore
from runner.store.counts import RunCounts
from runner.store.retrying import Chosen
from runner.store.reuse import seeds_taken_over
from runner.store.samples import note_drawn

_MOST_COUNTED = 100_000
"""Answers that are looked at when a session has ended, to count what is left."""


def owned(plan: Plan) -> RunStore:
    """Return the run of a session, owned by it. What the session changes about the run waits until it begins."""
    return RunStore.own(
        plan.given.store,
        plan.run.id,
        durability=plan.job.durability,
        changes=changes_of(plan),
        created_at=plan.run.created_at,
        waits=True,
    )


def changes_of(plan: Plan) -> Changes:
    """Return what a session changes about its run: as it was chosen, and as it was found (not for a resume or a retry)."""
    chosen, found = plan.chosen.changes, plan.run.changes
    return structs.replace(chosen, columns={**chosen.columns, **found.columns}, noted=(*chosen.noted, *found.noted))


class Foreseen(Working):
    """A session that has a plan, and so knows before what it will send."""

    def __init__(
        self, plan: Plan, store: RunStore, stop: Stop, audience: Audience, backlog: Backlog | None, again: Again
    ) -> None:
        super().__init__(plan.job, plan.endpoint, store, stop, audience, backlog)
        self._plan, self._again, self._raising = plan, again, again.raising
        self.steering.db = plan.options.db or str(plan.given.store)
        self._meter.retries = plan.options.retry_failed
        if plan.options.retry_failed:
            # the same command would choose its rows anew
            self._continuing = f"`{command('resume', plan.run.id, plan.options.db or plan.given.store)}`"
        self._drawing: Drawing | None = None  # the rows that were drawn for an estimate; None if all are sent
        # what was found before the session began: answers taken over, by run; the rows that have an outcome from earlier sessions
        # and are not to be sent again; what is said of the cost
        self._taken: Mapping[int, int] = {}
        self._look, self._restored, self._chosen = source.SettledRows(), 0, Chosen()
        self._cost = tuple[str, ...]()
        # what is said of rows that keep settings of their own
        self._own = tuple[str, ...]()
        self._others_pending = 0  # rows that an interrupted retry has left, and that this session leaves

    async def ask(self, confirm: Confirm | None) -> None:
        """Read what the run holds, and ask whether the session is to begin. If it is not, the run stays as it was.

        confirm: as for ``execute``.
        """
        try:
            await self._look_up()
            to_send = await self._to_send(self._plan.wanted - self._look.left - self._restored)
            cost = await self._expected(to_send)
            if cost is not None and not (confirm is not None and not self._stop.requested and confirm(cost)):
                self._cost = (cost.sentence,)
            elif cost is None and (unknown := await self._unpriced(to_send)) is not None:
                self._cost = (unknown,)
            # another new run may have got the name meanwhile
            await in_thread(lambda: called.label(self._plan.options, self._plan.given.store, self._plan.run.id))
        except BaseException:
            # whatever it was, nothing has been sent
            with anyio.CancelScope(shield=True), suppress(StoreError):
                await self._store.take_back(created=not self._plan.run.existed)
            raise

    async def _look_up(self) -> None:
        """Take over what other runs have answered, and count what is left. Changes nothing that cannot be taken back."""
        self._taken = await reuse.take_over(self._plan, self._store, self._stop, self._tell)
        if self._plan.answers > 1:
            self._used_seeds = await in_thread(lambda: seeds_taken_over(self._store.path, self._store.run_id))
        self._stats.reused = sum(self._taken.values())
        self._before, self._store.replaces = await self._store.counts(), self._replaces
        self._others_pending = await self._store.pending() if self._plan.run.existed else 0
        if self._plan.options.retry_failed:
            self._chosen = await asked_again.choose(self._plan, self._store)
            self._others_pending = self._others_pending if not self._chosen.count else 0
            of = self._open(settled=True)
            self._own = tuple(await in_thread(lambda: own_settings.kept(self._plan, of))) if self._chosen.count else ()
        # also what another session asks anew, because it has changed or was broken, is done with: nobody is to buy it again
        self._store.marks = self._plan.options.retry_failed or self._others_pending > 0
        self._restored = await self._count_restored()

    async def _count_restored(self) -> int:
        options = self._plan.options
        # a retry has to know which rows it leaves, and the others may be counted without a look at each
        whole = options.limit is None and not options.accept_changes and not options.retry_failed
        # what has left the file of a finished run was counted in its last session, and is not known any more
        if self._plan.unchanged and whole and not self._plan.chosen.raised and not self._has_more_than_read:
            return self._before.done + self._before.failed
        if self._fresh and not options.retry_failed:
            return 0
        # rows may have been added, removed or moved
        return await self._look_at_each()

    async def _look_at_each(self) -> int:
        self._look = await source.find_settled(self._plan.prompts, self._plan.scanned, self._store, self._selection)
        if self._plan.scanned.before.rows:
            # the others are in the settled beginning
            self._look.failed += max(0, self._before.failed - self._look.seen_failed)
        return self._look.settled

    @property
    def _selection(self) -> source.Selection:
        options = self._plan.options
        return source.Selection(
            # what is beyond it is no size of a file
            limit=None if options.limit is None else min(options.limit, sys.maxsize),
            answers=self._plan.answers,
            retries=options.retry_failed,
            accept_changes=options.accept_changes,
            fresh=self._fresh,
            # a broken row that is not chosen has not left the input
            may_hold_broken=self._before.broken > 0 and not self._plan.narrowed,
            in_part=self._plan.job.where is not None or self._plan.job.sample is not None,
            # the session leaves out rows of the run, so that the number of the run is not that of these
            counts_failed=(options.limit is not None or self._plan.narrowed or options.accept_changes or self._has_more_than_read)
            and self._before.failed + self._before.broken > 0,
            only=None if self._drawing is None else frozenset(self._drawing.drawn.keys),
        )

    @property
    def _has_more_than_read(self) -> bool:
        """Return True if the run may have outcomes of rows that the session does not read: others were chosen, or have gone."""
        before, job = self._before, self._plan.job
        chooses = job.where is not None or job.sample is not None
        return chooses or self._plan.scanned.rows * self._plan.answers < before.done + before.failed

    @property
    def _in_part(self) -> bool:
        """Return True if the session leaves rows of the input to others."""
        return self._plan.options.limit is not None or self._plan.options.sample is not None

    @property
    def _replaces(self) -> bool:
        """Return True if rows that have an outcome may be sent again."""
        return self._plan.options.retry_failed or self._plan.options.accept_changes

    @property
    def _fresh(self) -> bool:
        """Return True if the store holds no attempt and no outcome of the run."""
        before = self._before
        return not (before.attempted or before.done or before.failed or before.broken or self._store.waits)

    def _open(self, *, settled: bool) -> ToSend:
        return of_plan(self._plan, settled=settled, variant=self._store.variant)

    async def _to_send(self, left: int) -> int:
        """Return how many requests are to be sent. left: answers without an outcome; rows get some of them from others."""
        same = self._plan.same
        if same is not None:
            sent = left - same.rows * self._plan.answers if self._fresh else await in_thread(self._open(settled=True).number)
            self._meter.copies = max(0, left - sent)
        to_send = self._meter.bought(left)
        if self._plan.job.dedupe and not (self._in_part or self._plan.narrowed or self._replaces):
            self._meter.requests = self._before.paid + to_send
        return to_send

    async def _expected(self, left: int) -> Expected | None:
        """Return what the session will cost, if that is known. left: requests to be sent. Draws the rows of an estimate."""
        cost, job = await self._by_rows(left), self._plan.job
        if cost is None or not budgeting.costs_count(job):
            return cost
        return structs.replace(cost, most=budgeting.dollars_left(job, await self._store.used()))

    async def _by_rows(self, left: int) -> Expected | None:
        plan, before = self._plan, self._before
        # what was sent at an unknown price has the one that is known now
        book, _ = await self.prices(), await self.money()
        settled = before.done + before.failed + before.broken
        if (number := plan.options.sample) is not None:
            self._drawing = found = await in_thread(lambda: drawing(plan, number, book, settled))
            return said(found.rest, counted(plan)) if found.rest is not None else None
        if book is None or left <= 0:
            return None
        self._meter.again = await in_thread(self._on_newer)
        of, broken = self._open(settled=settled > 0), self._still_broken
        cost = await in_thread(lambda: expected(plan, of, book, left=left, settled=settled, broken=broken))
        own = cost.projection if cost is not None and not self._in_part else None
        self._meter.expected = own or await in_thread(self._expected_before)
        return cost

    def _expected_before(self) -> Projection | None:
        """Return what the last sample of the run said of the rows that it left; None without one."""
        drawn = rest.stored(self._plan.given.store, self._plan.run.id)
        return drawn.expected if drawn is not None else None

    @property
    def _still_broken(self) -> int:
        """Return how many rows count as left and are known to be broken: they are read again, and nothing is sent for them."""
        plan, options = self._plan, self._plan.options
        counted = plan.same is None and plan.unchanged
        whole = not (self._in_part or plan.narrowed or options.retry_failed or options.accept_changes)
        return self._before.broken if counted and whole else 0

    async def _unpriced(self, left: int) -> str | None:
        """Return the sentence for what will be sent at an unknown cost; None for an estimate, which says so itself."""
        return None if left <= 0 or self._drawing is not None else unpriced.of_job(self._job, await self.prices())

    async def _note_drawn(self, drawn: Drawn, left: int, paid: int) -> None:
        """Store what the sample tells of the limits, and of what is left. paid: rows for which something was sent."""
        plan, of = self._plan, self._open(settled=True)
        behind_limit = plan.options.limit is not None
        left_here = await in_thread(of.number) if behind_limit or plan.same is not None else left
        requests = await self._requests(left) if plan.job.dedupe and behind_limit else left_here
        if plan.job.dedupe:
            self._meter.requests = paid + requests if requests is not None else None
        now = as_asked(plan.job, await self.prices())
        run = plan.run.id
        found = await in_thread(lambda: rest.sampled(plan.given.store, run, drawn, of.so_far(run), left_here, now))
        of_run = left if not plan.job.dedupe else requests or 0
        told, before = found.projection(of_run) if found is not None else None, drawn.expected
        if behind_limit and before is not None and before.drawn_from > drawn.rows and before.counts(of_run):
            # it tells of more rows
            told = before
        self._meter.expected = told
        await self._note_sample(structs.replace(with_lanes(drawn, self._lanes.states()), expected=told))

    async def _note_sample(self, drawn: Drawn) -> None:
        run, told = self._store.run_id, msgspec.json.encode(drawn).decode()
        await self._store.write(lambda connection: note_drawn(connection, run, told))

    async def _requests(self, number: int, *, again: bool = False) -> int | None:
        """Return how many requests the rows make that are left, where equal ones are sent once; None if that is not counted.

        number: of these rows. again: the failed rows instead, as a retry sends them.
        """
        plan = self._plan
        if not number or not plan.job.dedupe or plan.narrowed or plan.scanned.rows * plan.answers > _MOST_COUNTED:
            return None
        with suppress(RunnerError, OSError):
            # of an input that is no longer there, nothing is said
            return min(number, await in_thread(lambda: self._counted(number, again=again)))
        return None

    def _counted(self, number: int, *, again: bool) -> int:
        plan, options = self._plan, SessionOptions(retry_failed=again)
        same = same_in(plan.job, plan.prompts, options) if self._in_part else plan.same
        if same is None:
            return number
        variant = self._store.variant if again else None
        found = structs.replace(self._open(settled=True), options=options, same=same, variant=variant, chosen=False)
        return found.number()

    def _projected(self, money: Money, now: RunCounts, left: int) -> int | None:
        # how many of the rows that others will send get the answers of others, only a look at them can tell
        in_part = left > 0 and self._plan.job.dedupe and (self._in_part or self._plan.narrowed)
        return (
            None if in_part else self._meter.projected(money, now.paid, self._meter.bought(left), self._on_newer() if left else 0)
        )

    def _on_newer(self) -> int:
        """Return what the run has cost for answers of rows that had one already. Blocks."""
        with suppress(StoreError):
            return former.spent_on_newer(self._store.path, self._store.run_id)
        # without it, the sentence says more
        return 0

    async def _rest_settled(self, now: RunCounts) -> bool:
        """Return True if the rows beyond --limit all have an outcome, as in a run that was finished before."""
        plan = self._plan
        enough = now.done + now.failed + now.broken >= plan.scanned.rows * plan.answers
        if not self._in_part or self._stop.requested or not enough:
            return False
        return await source.all_settled(plan.prompts, plan.scanned, plan.template, self._store, plan.answers)
