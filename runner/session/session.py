"""One session of a run: prepare it, wire the parts together, run them, sum up."""

import os
import sys
from contextlib import suppress
from functools import partial
from pathlib import Path

import anyio

from runner.config import trust
from runner.config.endpoint import is_users
from runner.config.job import Job
from runner.config.settings import unknown_variables
from runner.engine import pipeline
from runner.engine.attempt import Attempts
from runner.engine.judge import Judge
from runner.engine.limits import Lanes
from runner.engine.stop import Stop
from runner.errors import RunStoppedError, StoreError
from runner.event_types import INPUT_CHANGED, LIMITED, Finished, Noted, Saved, Started, Summary
from runner.inputs import source, spool
from runner.interfaces import Observer, Provider
from runner.model import Entry, Head, Outcome
from runner.providers.http import HttpClient, HttpExchange
from runner.session import naming, prepare, reading, wiring
from runner.session.audience import Audience
from runner.session.background import find_tls, keep_deadline, note_pace, tell_progress, tell_stop
from runner.session.continuing import Idle
from runner.session.meter import Meter
from runner.session.options import SessionOptions
from runner.session.oversized import oversized, sentences
from runner.session.prepare import Plan, in_thread
from runner.session.stats import SessionStats
from runner.session.stopping import BY_PROGRAM, GRACE_S
from runner.store.checkpoint import RunCounts, RunStore

STUCK = 2_000
"""Workers that may be added, at most, for items that wait in blocked lanes."""


async def execute(job: Job, store_path: Path, options: SessionOptions, stop: Stop, observe: Observer) -> Summary:
    """Run a job until all its rows have outcomes or a stop is requested.

    Raises UsageError before anything is sent, StoreError, and RunStoppedError when further requests would be pointless.
    """

    def interrupted(error: BaseException) -> None:
        stop.raised = error
        stop.request(BY_PROGRAM, grace_s=GRACE_S)

    audience = Audience(observe, interrupted)
    plan = await prepare.prepare(job, store_path, options)
    if isinstance(plan, Idle):
        return _nothing_to_do(job, plan, audience)
    run_id, changes = plan.run.id, plan.chosen.changes
    async with await in_thread(lambda: RunStore.own(store_path, run_id, durability=job.durability, changes=changes)) as store:
        session = _Session(plan, store, stop, audience)
        try:
            await session.begin()
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


class _Session:
    """The state of one session: its parts and its counts."""

    def __init__(self, plan: Plan, store: RunStore, stop: Stop, audience: Audience) -> None:
        self._plan, self._store, self._stop, self._tell = plan, store, stop, audience.tell
        self._stats = SessionStats()
        before = plan.scanned.before
        self._passed = source.Counts(settled=before.rows, seen=before.rows - before.broken)
        # what the run held when the session began
        self._before = RunCounts(done=0, failed=0, broken=0, attempted=False)
        self._look = source.SettledRows()
        # what was stored last of the input: whether the next session is to look at each row, and the settled beginning
        self._noted: tuple[bool, Head | None] = (False, None)
        self._limits, self._limits_note = wiring.limits(plan.job)
        self._lanes = Lanes(self._limits)
        self._meter = Meter(self._stats, self._lanes)
        self._attempts: Attempts[HttpExchange] | None = None

    async def begin(self) -> None:
        """Read what the run holds, and send the event Started."""
        plan = self._plan
        self._before = await self._store.counts()
        restored = await self._count_restored()
        # If rows have changed, or lie beyond --limit, the next session looks at each row and reports them again.
        unseen = plan.options.limit is not None and not (plan.unchanged or self._fresh)
        look_again = self._look.changed > 0 or unseen
        # what was settled in another state of the file may be in another place now
        head = plan.run.head if plan.unchanged or plan.scanned.before.rows else None
        await self._note_input(look_again, head)
        more = await in_thread(lambda: trust.remember(plan.job, plan.endpoint.grants, os.environ))
        more += [self._limits_note] if self._limits_note is not None else []
        large = await in_thread(lambda: oversized(plan.prompts, self._limits.per_minute, plan.job.params.max_tokens))
        notes = (
            *plan.endpoint.notes,
            *more,
            *sentences(large, plan.prompts.place),
            *prepare.notes(plan, self._before, self._look.changed),
        )
        failed = 0 if plan.options.retry_failed else min(self._before.failed, restored)
        self._tell(self._meter.begin(plan.run.id, str(plan.job.input), plan.rows - self._look.left, restored, failed, notes))

    async def _note_input(self, look_again: bool, head: Head | None) -> None:
        plan, given = self._plan, self._plan.given
        self._noted = look_again, head
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
            may_hold_broken=self._before.broken > 0,
        )

    async def run(self, provider: Provider, client: HttpClient) -> None:
        """Run the engine, and the background tasks next to it."""
        plan = self._plan
        items = source.items(plan.prompts, plan.scanned, plan.template, self._store, self._passed, self._selection, self._look)
        doubt = anyio.Event()
        attempts = self._attempts = self._meter.attempts = Attempts(
            wiring.informed(plan.job, plan.endpoint, provider, self._note, doubt.set, answered=self._before.done > 0),
            client,
            self._lanes,
            wiring.policy(plan.job),
            Judge(succeeded=self._before.done > 0, model=plan.job.model),
            self._stop,
            redactor=plan.endpoint.redactor,
        )
        failure: Exception | None = None
        async with anyio.create_task_group() as background:
            background.start_soon(tell_progress, self._tell, self._meter.progress)
            background.start_soon(note_pace, self._store.note_pace, self._meter.pace)
            background.start_soon(tell_stop, self._tell, self._stop, self._lanes)
            if plan.endpoint.base_url is not None and plan.endpoint.proxy is None:
                named = is_users(plan.job, os.environ)
                background.start_soon(partial(find_tls, doubt, plan.endpoint.base_url, self._stop, named=named))
            if plan.job.deadline is not None:
                background.start_soon(keep_deadline, plan.job.deadline, self._meter.start, self._stop, self._lanes)
            try:
                workers = self._workers()
                save, last = self._save, self._lanes.last
                await pipeline.run(
                    items, attempts.handle, save, workers=workers, stop=self._stop, wanted=self._workers, last=last
                )
            except Exception as error:  # noqa: BLE001 - raised below, outside the group that would wrap it
                failure = error
            background.cancel_scope.cancel()
        if isinstance(failure, StoreError):
            kept = "; what was saved before is kept, and the same command continues from there" if failure.kept else ""
            raise StoreError(f"{failure}{kept}", kept=failure.kept, stuck=failure.stuck) from failure
        if failure is not None:
            raise failure

    def _workers(self) -> int:
        """Return the number of workers: twice the slots or more, as an item that waits for a retry holds a worker and no slot."""
        slots = self._lanes.slots
        return slots + max(16, slots) + min(self._lanes.stuck(), STUCK)

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
        limited = LIMITED if plan.options.limit is not None and not finished else None
        await self._store.finish(complete=finished, stop_reason=stop_reason or limited)
        return self._summary(now, finished=finished, changed=changed, stop_reason=stop_reason)

    async def cancelled(self) -> None:
        """Store why the session was cancelled: a third signal, or a signal handler of the program."""
        with anyio.CancelScope(shield=True), suppress(StoreError):
            await self._store.finish(complete=False, stop_reason=self._stop.reason or BY_PROGRAM)

    def _summary(self, now: RunCounts, *, finished: bool, changed: int, stop_reason: str | None) -> Summary:
        plan, stats, passed = self._plan, self._stats, self._passed
        first_token, duration = stats.quantiles()
        before = self._before.done + self._before.failed
        missing = max(0, before - passed.seen) if finished and passed.complete else 0
        options, error = plan.options, self._stop.error
        return Summary(
            run=plan.run.id,
            finished=finished,
            rows=plan.scanned.rows,
            done=now.done,
            failed=now.failed + now.broken,
            broken=now.broken,
            skipped=plan.scanned.rows - stats.done - stats.failed if finished else passed.settled,
            done_now=stats.done,
            failed_now=stats.failed,
            kept=stats.kept,
            attempts_now=stats.attempts,
            input_tokens=stats.input_tokens,
            output_tokens=stats.output_tokens,
            unknown_finish=stats.unknown_finish,
            time_to_first_token=first_token,
            duration=duration,
            elapsed_s=self._meter.elapsed_s,
            missing=missing,
            changed=changed,
            stop_reason=stop_reason,
            same_command=not options.new and options.limit is None and not passed.left,
            left=0 if finished else self._left(now, stop_reason),
            limit=options.limit,
            chosen=self._plan.job.where is not None or self._plan.job.sample is not None,
            stop_code=error.code if error is not None and not finished else None,
            causes=now.causes,
        )

    def _left(self, now: RunCounts, stop_reason: str | None) -> int:
        """Return how many rows of an unfinished run have no outcome, at the least: rows that have left the file may hide some."""
        left = self._plan.scanned.rows - now.done - now.failed - now.broken
        return max(1 if self._plan.options.limit is not None and stop_reason is None else 0, left)

    async def _rest_settled(self, now: RunCounts) -> bool:
        """Return True if the rows beyond --limit all have an outcome, as in a run that was finished before."""
        plan = self._plan
        enough = now.done + now.failed + now.broken >= plan.scanned.rows
        if plan.options.limit is None or self._stop.requested or not enough:
            return False
        return await source.all_settled(plan.prompts, plan.scanned, plan.template, self._store)

    async def _save(self, entries: list[Entry]) -> None:
        await self._store.save(entries)
        assert self._attempts is not None
        for entry in entries:
            self._stats.add(entry)
            # Only now is the slot free for another request, so that a kill loses at most one answer for each slot.
            self._attempts.saved(entry)
        self._tell(Saved(outcomes=tuple(entry for entry in entries if isinstance(entry, Outcome))))

    def _note(self, sentence: str) -> None:
        """Tell the user what was learned."""
        self._tell(Noted(note=sentence))


def _nothing_to_do(job: Job, idle: Idle, audience: Audience) -> Summary:
    """Report that the run is finished, and return its summary."""
    run = idle.run
    summary = prepare.summary(run)
    note = f"run {run.id} is finished and {spool.display_name(job.input)} has not changed: nothing is sent"
    restored = min(summary.skipped, summary.rows)
    failed = min(summary.failed, restored)
    notes = (*unknown_variables(os.environ), *idle.about, note)
    started = Started(run=run.id, input=str(job.input), rows=summary.rows, restored=restored, restored_failed=failed, notes=notes)
    audience.tell(started)
    audience.tell(Finished(summary=summary))
    return summary
