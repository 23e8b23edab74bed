"""One session of a run: prepare it, wire the parts together, run them, sum up."""

import os
import time
from pathlib import Path

import anyio

from runner.config import trust
from runner.config.job import Job
from runner.engine import pipeline
from runner.engine.attempt import Attempts
from runner.engine.judge import Judge
from runner.engine.limits import Lanes
from runner.engine.retry import RetryPolicy
from runner.engine.stop import Stop
from runner.errors import StoreError
from runner.events import INPUT_CHANGED, Finished, Progress, Saved, Started, Summary
from runner.inputs import source, spool
from runner.interfaces import Observer, Provider
from runner.model import Entry, Outcome, Pace, Run
from runner.providers.http import HttpClient, HttpExchange
from runner.session import prepare, wiring
from runner.session.audience import Audience
from runner.session.background import keep_deadline, note_pace, tell_progress, tell_stop
from runner.session.options import SessionOptions
from runner.session.prepare import Plan, in_thread
from runner.session.stats import SessionStats
from runner.store.checkpoint import RunCounts, RunStore

STUCK = 2_000
"""Workers that may be added, at most, for items that wait in blocked lanes."""


async def execute(job: Job, store_path: Path, options: SessionOptions, stop: Stop, observe: Observer) -> Summary:
    """Run a job until all its rows have outcomes or a stop is requested.

    Raises UsageError before anything is sent, StoreError, and RunStoppedError when further requests would be pointless.
    """
    audience = Audience(observe)
    plan = await prepare.prepare(job, store_path, options)
    if isinstance(plan, Run):
        return _nothing_to_do(job, plan, audience)
    async with await in_thread(lambda: RunStore.own(store_path, plan.run.id, durability=job.durability)) as store:
        session = _Session(plan, store, stop, audience)
        await session.begin()
        async with wiring.open_provider(plan.job, plan.endpoint) as (provider, client):
            await session.run(provider, client)
        summary = await session.end()
    audience.tell(Finished(summary=summary))
    if stop.error is not None and not summary.finished:
        raise stop.error
    return summary


class _Session:
    """The state of one session: its parts and its counts."""

    def __init__(self, plan: Plan, store: RunStore, stop: Stop, audience: Audience) -> None:
        self._plan, self._store, self._stop, self._tell = plan, store, stop, audience.tell
        self._stats = SessionStats()
        self._passed = source.Counts()
        # what the run held when the session began
        self._before = RunCounts(done=0, failed=0, broken=0, attempted=False)
        # rows with an outcome from earlier sessions, among those that this session reads
        self._restored = 0
        self._look = source.SettledRows()
        # the digest of the input as it was stored; empty: the next session scans the input
        self._stored_digest = ""
        self._start = time.monotonic()
        self._limits, self._limits_note = wiring.limits(plan.job)
        self._lanes = Lanes(self._limits)
        self._attempts: Attempts[HttpExchange] | None = None

    async def begin(self) -> None:
        """Read what the run holds, and send the event Started."""
        plan = self._plan
        self._before = await self._store.counts()
        self._restored = await self._count_restored()
        # If rows have changed, or lie beyond --limit, no digest is stored: the next session then scans the input and reports
        # them again.
        unseen = plan.options.limit is not None and not (plan.unchanged or self._fresh)
        self._stored_digest = "" if self._look.changed or unseen else plan.digest
        await self._store.begin(rows=plan.scanned.rows, digest=self._stored_digest, identical=plan.scanned.identical)
        forgotten = await in_thread(lambda: trust.remember(plan.job, plan.endpoint.grants, os.environ))
        more = [note for note in (forgotten, self._limits_note) if note is not None]
        notes = (*plan.endpoint.notes, *more, *prepare.notes(plan, self._before, self._look.changed))
        self._tell(Started(run=plan.run.id, input=str(plan.job.input), rows=plan.rows, restored=self._restored, notes=notes))

    async def _count_restored(self) -> int:
        options = self._plan.options
        if self._plan.unchanged and options.limit is None and not options.accept_changes:
            return self._before.done + (0 if options.retry_failed else self._before.failed)
        if self._fresh:
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
            limit=options.limit,
            retry_failed=options.retry_failed,
            accept_changes=options.accept_changes,
            fresh=self._fresh,
            may_hold_broken=self._before.broken > 0,
        )

    async def run(self, provider: Provider, client: HttpClient) -> None:
        """Run the engine, and the background tasks next to it."""
        plan = self._plan
        items = source.items(plan.prompts, plan.scanned, plan.template, self._store, self._passed, self._selection, self._look)
        attempts = self._attempts = Attempts(
            provider,
            client,
            self._lanes,
            RetryPolicy(attempts=plan.job.attempts),
            Judge(succeeded=self._before.done > 0),
            self._stop,
            redactor=plan.endpoint.redactor,
        )
        failure: Exception | None = None
        async with anyio.create_task_group() as background:
            background.start_soon(tell_progress, self._tell, self._progress)
            background.start_soon(note_pace, self._store.note_pace, self._pace)
            background.start_soon(tell_stop, self._tell, self._stop, self._lanes)
            if plan.job.deadline is not None:
                background.start_soon(keep_deadline, plan.job.deadline, self._start, self._stop, self._lanes)
            try:
                workers = self._workers()
                await pipeline.run(items, attempts.handle, self._save, workers=workers, stop=self._stop, wanted=self._workers)
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
        if passed.complete and not finished and stop_reason is None:
            stop_reason = INPUT_CHANGED
        changed = passed.changed + stats.kept
        # rows beyond --limit may have moved or changed: without a digest the next session scans the input
        digest = "" if changed or not passed.complete else plan.digest
        if finished and digest != self._stored_digest:
            await self._store.begin(rows=plan.scanned.rows, digest=digest)
        await self._store.finish(complete=finished, stop_reason=stop_reason)
        return self._summary(now, finished=finished, changed=changed, stop_reason=stop_reason)

    def _summary(self, now: RunCounts, *, finished: bool, changed: int, stop_reason: str | None) -> Summary:
        plan, stats, passed = self._plan, self._stats, self._passed
        first_token, duration = stats.quantiles()
        before = self._before.done + self._before.failed
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
            time_to_first_token=first_token,
            duration=duration,
            elapsed_s=time.monotonic() - self._start,
            missing=max(0, before - passed.seen) if finished and passed.complete else 0,
            changed=changed,
            stop_reason=stop_reason,
            same_command=not plan.options.new and plan.options.limit is None,
        )

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

    def _progress(self) -> Progress:
        return Progress(
            rows=self._plan.rows,
            restored=self._restored,
            done=self._stats.done,
            failed=self._stats.failed,
            in_flight=self._lanes.in_flight,
            output_tokens=self._stats.output_tokens or 0,
            elapsed_s=time.monotonic() - self._start,
            pace=self._pace(),
        )

    def _pace(self) -> Pace:
        retrying = self._attempts.retrying() if self._attempts is not None else None
        return Pace(at=time.time(), lanes=self._lanes.states(), retrying=retrying)


def _nothing_to_do(job: Job, run: Run, audience: Audience) -> Summary:
    """Report that the run is finished, and return its summary."""
    summary = prepare.summary(run)
    note = f"run {run.id} is finished and {spool.display_name(job.input)} has not changed: nothing is sent"
    restored = min(summary.skipped, summary.rows)
    audience.tell(Started(run=run.id, input=str(job.input), rows=summary.rows, restored=restored, notes=(note,)))
    audience.tell(Finished(summary=summary))
    return summary
