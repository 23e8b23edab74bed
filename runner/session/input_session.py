"""A session over an input: what is to be done of its rows, what it tells first, and how it ends."""

import os
from collections.abc import Sequence

import anyio
from msgspec import structs

from runner.config import trust
from runner.engine.stop import Stop
from runner.event_types import CHOSEN, FETCHED, INPUT_CHANGED, LIMITED, SAMPLED, Summary
from runner.inputs import source, spool
from runner.interfaces import Items
from runner.model import Outcome
from runner.session import asked_again, continuing, nothing_left, prefixes, prepare, reading, wiring
from runner.session.again import Again
from runner.session.audience import Audience
from runner.session.backlog import Backlog
from runner.session.batch_words import summed, waits
from runner.session.batching import Batching
from runner.session.controlled import Controlled
from runner.session.input_rows import InputRows
from runner.session.options import Told
from runner.session.oversized import oversized, sentences
from runner.session.prepare import Plan, in_thread
from runner.session.sending_once import SendingOnce
from runner.settled import Head
from runner.store.checkpoint import RunStore
from runner.store.counts import RunCounts
from runner.store.shared import SharedAnswers


class InputSession(Batching):
    """The state of one session over a prompt file."""

    def __init__(
        self, plan: Plan, store: RunStore, stop: Stop, audience: Audience, backlog: Backlog | None, again: Again
    ) -> None:
        super().__init__(plan, store, stop, audience, backlog, again)
        self._warming = prefixes.warming(plan.job, plan.template)
        store.answers = answers = plan.answers
        before = plan.scanned.before
        self._passed = source.Counts(settled=before.rows * answers, seen=(before.rows - before.broken) * answers)
        same = plan.same
        # the variant is there once the session has begun
        self._once = (
            SendingOnce(plan, same, lambda: SharedAnswers(store.path, store.run_id, store.variant)) if same is not None else None
        )
        self._rows_again = InputRows(plan, self._once, self._reopen, self._send_beside)
        # of the rows that have an outcome from earlier sessions and are not to be sent again: those that failed
        self._restored_failed = 0
        # hashes of the keys of rows that failed in this session, and would be read again as open
        self._failed_now: set[int] = set()
        # what was stored last of the input: whether the next session is to look at each row, and the settled beginning
        self._noted: tuple[bool, Head | None] = (False, None)

    async def whole(self, controlled: Controlled) -> Summary:
        """Do all that the session does, once it may send, and return its summary."""
        plan = self._plan
        try:
            await controlled.begin(self, self._store)
            await self.begin()
            # what workers and batches need
            told = Told(self._stop, self.note, self.late.book, self._store.path, lambda at: setattr(self, "served", at))
            async with wiring.open_provider(plan.job, plan.endpoint, told) as (provider, client):
                await self.run(provider, client)
            return await self.end()
        except anyio.get_cancelled_exc_class():
            await self.cancelled()
            raise

    async def begin(self) -> None:
        """Write what the session changes about its run, and send the event Started."""
        plan = self._plan
        if await self._store.take_up():
            # the rows have other lines than those on which they were found
            self._look.untouched.clear()
        # If rows have changed, lie beyond --limit or have left the file, the next session looks at each row and tells it again.
        unseen = self._in_part and not (plan.unchanged or self._fresh)
        look_again = self._look.changed > 0 or unseen or self._has_others
        # what was settled in another state of the file may be in another place now
        head = plan.run.head if plan.unchanged or plan.scanned.before.rows else None
        await self._note_input(look_again, head)
        if self._drawing is not None:
            await self._note_sample(self._drawing.drawn)
        self._begin_reading()
        notes = await self._notes()
        restored = self._restored
        failed = self._restored_failed = min(self._failed_before, restored)
        name, left = spool.full_name(plan.job.input), plan.wanted - self._look.left
        if self._drawing is not None:
            left, failed, self._meter.copies = len(self._drawing.drawn.keys), 0, 0
            restored = left - self._drawing.left
        rows, answers = (left, None) if plan.answers == 1 else (plan.rows, left)
        paid = self._before.paid
        begun = self._meter.begin(plan.run.id, name, rows, restored, failed, notes, paid=paid, answers=answers)
        self._tell(structs.replace(begun, each=plan.answers))

    async def _notes(self) -> tuple[str, ...]:
        """Return what a person should know first, one sentence each."""
        plan = self._plan
        granted = await in_thread(lambda: trust.remember(plan.job, plan.endpoint.grants, os.environ))
        elsewhere = await in_thread(
            lambda: continuing.answered_elsewhere(plan.job, plan.given, plan.chosen, plan.options, plan.run.id)
        )
        unmarked = await in_thread(lambda: prefixes.unmarked(plan.job, plan.prompts))
        large = await in_thread(lambda: oversized(plan.prompts, self._limits.per_minute, plan.job.params.max_tokens))
        return (
            *plan.endpoint.notes,
            *granted,
            *([self._limits_note] if self._limits_note is not None else []),
            *sentences(large, plan.prompts.places),
            *prepare.notes(plan, self._before, self._look.changed, self._taken, self._retrying),
            *elsewhere,
            *([unmarked] if unmarked is not None else []),
            *self._cost,
        )

    @property
    def _failed_before(self) -> int:
        """Return how many failed rows the session leaves as they are. Broken ones are read again, but by a retry."""
        if self._selection.counts_failed:
            return self._look.failed
        before, chosen = self._before, self._chosen
        return max(0, before.failed + before.broken - chosen.failed) if self._plan.options.retry_failed else before.failed

    @property
    def _retrying(self) -> list[str]:
        """Return what is said of the rows that a retry asks again."""
        plan, others = self._plan, self._others_pending
        said = asked_again.sentences(plan, self._chosen, self._look.again) if plan.options.retry_failed else []
        return [*said, *self._own, *(asked_again.left(plan, others) if others else [])]

    @property
    def _as_asked(self) -> str | None:
        """Return why rows are left to other sessions; None if none are."""
        if self._drawing is not None:
            return SAMPLED
        if self._plan.options.fetch is not None:
            return FETCHED
        return LIMITED if self._plan.options.limit is not None else CHOSEN if self._plan.narrowed else None

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

    @property
    def _has_others(self) -> bool:
        """Return True if the run has outcomes of rows beside those of the session, as far as these were looked at."""
        looked = self._look.seen > 0 and self._plan.options.limit is None
        return looked and self._before.done + self._before.failed > self._look.seen

    def _items(self) -> Items:
        if not self._many_reads:
            return self._read(self._selection, True) if self._once is None else self._once.items(self._selection, self._read)
        selection = self._later()
        items = self._read(selection, False) if self._once is None else self._once.items(selection, self._read)
        return self._new_ones(items, self._failed_now)

    def _read(self, selection: source.Selection, counted: bool) -> Items:
        """Return what is to be done of a selection of rows. counted: they count for the session."""
        plan, counts = self._plan, self._passed if counted and not self._many_reads else source.Counts()
        return source.items(plan.prompts, plan.scanned, plan.template, self._store, counts, selection, self._look)

    def _row_input(self) -> InputRows:
        return self._rows_again

    def _reopen(self, rows: int) -> None:
        """Count rows that have failed as open, since they are sent again; with less than none, as failed after all."""
        here = min(rows, self._stats.failed - self._stats.broken - self._stats.kept)
        self._stats.failed -= here
        # the others have failed in earlier sessions
        earlier = rows - here
        self._passed.settled -= earlier
        self._restored -= earlier
        self._restored_failed -= earlier
        self._meter.reopen(earlier)

    def _has_more(self) -> bool:
        return self._once is not None and self._once.waiting

    def _note_saved(self, outcomes: Sequence[Outcome]) -> None:
        if self._rows_again.again:
            self._rows_again.saved(outcomes)
        if self._once is not None:
            self._once.saved(outcomes)
        if self._many_reads and self._plan.options.accept_changes:
            # such a row has changed after this too
            self._failed_now.update(hash(one.key) for one in outcomes if one.kept)

    async def end(self) -> Summary:
        """Store the state of the run, and return the summary of the session."""
        plan, stats, passed = self._plan, self._stats, self._passed
        # rows that were to be sent again, which the end of the session has prevented
        stats.failed += len(self._rows_again.again)
        now = await self._store.counts()
        settled = passed.settled + stats.done + stats.failed
        # the run may be finished although a stop was requested: the last row may have been saved just before
        finished = settled == plan.wanted and (passed.complete or await self._rest_settled(now))
        waiting = await self._open_batches()
        stop_reason = self._again.kept(self._stop.reason) if self._stop.reason is not None and not finished else None
        stop_reason = stop_reason or (waits(waiting) if waiting and not finished else None)
        if passed.complete and not finished and stop_reason is None and not passed.left and plan.options.fetch is None:
            stop_reason = INPUT_CHANGED
        # whatever a retry has kept was not changed, unless it was
        changed = passed.changed + (min(stats.kept, self._look.again_changed) if plan.options.retry_failed else stats.kept)
        if finished:
            # rows beyond --limit may have moved or changed
            look_again = changed > 0 or not passed.complete
            head = None if look_again else reading.head_of(plan.given, plan.scanned, passed.last_line)
            if (look_again, head) != self._noted:
                await self._note_input(look_again, head)
        pending = await self._pending(settled=finished)
        finished = finished and (plan.run.finished or self._chosen.was_finished or not plan.narrowed)
        if self._drawing is not None:
            await self._note_drawn(self._drawing.drawn, self._left(now, stop_reason), now.paid)
        whole = finished and not pending
        reason = stop_reason or (None if whole else self._as_asked)
        await self._store.finish(complete=whole, stop_reason=reason, pace=self._meter.last_pace())
        summary = self._summary(now, finished=finished, changed=changed, stop_reason=stop_reason)
        return structs.replace(
            summary,
            finished=whole,
            retry_left=pending,
            **summed(waiting),
            ok_failed=nothing_left.allowed(plan.job, summary.failed + summary.kept, of=summary.wanted),
            dedupe=plan.job.dedupe,
            requests_left=await self._requests(summary.left),
            requests_failed=await self._requests(now.failed, again=True),
        )

    async def _pending(self, *, settled: bool) -> int:
        """Return how many rows a retry is still to ask again. settled: the session has read all of its rows to their outcomes."""
        read = self._passed.complete and (settled or not self._stop.requested)
        if self._chosen.count and read and not self._plan.options.narrowed:
            # what was not found is no longer in the input
            await self._store.forget_pending()
        # a session that is no retry may have asked for some: rows that have changed, or were broken
        return await self._store.pending() if self._chosen.count or self._others_pending else 0

    def _summary(self, now: RunCounts, *, finished: bool, changed: int, stop_reason: str | None) -> Summary:
        plan, stats, passed = self._plan, self._stats, self._passed
        before = self._before.done + self._before.failed
        missing = max(0, before - passed.seen) if finished and passed.complete and not plan.narrowed else 0
        options, error, settled = plan.options, self._stop.error, self._rows(now) * plan.answers
        return self._summed(
            now,
            finished=finished,
            rows=self._rows(now),
            # a session that stops early has not read all rows
            skipped=settled - stats.done - stats.failed if finished else max(self._restored, passed.settled),
            skipped_failed=max(0, now.failed + now.broken - stats.failed + stats.kept) if finished else self._restored_failed,
            # of the last row, some answers may be there
            missing=-(-missing // plan.answers),
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
        settled = now.done + now.failed + now.broken
        return max(run.rows or self._plan.scanned.rows, -(-settled // self._plan.answers))

    def _left(self, now: RunCounts, stop_reason: str | None) -> int:
        """Return how many rows of an unfinished run have no outcome, at the least: rows that have left the file may hide some."""
        plan, stats = self._plan, self._stats
        left = self._rows(now) * plan.answers - now.done - now.failed - now.broken
        if not (self._in_part or plan.narrowed or plan.options.accept_changes):
            # none is hidden where each row was looked at; a broken one that was not read again has its outcome from before
            settled = self._restored + stats.done + stats.failed - stats.broken + now.broken
            left = max(left, self._look.left if plan.options.retry_failed else plan.wanted - settled)
        return max(1 if self._in_part and stop_reason is None else 0, left)
