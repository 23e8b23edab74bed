"""One session of a run: joins the parts, tells the observer. With ``opening`` and ``wiring`` the place where parts meet."""

import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import anyio
from anyio import to_thread

from runner.config import endpoint
from runner.config.job import Job
from runner.engine import pipeline as engine
from runner.engine.attempt import Attempts
from runner.engine.judge import Judge
from runner.engine.limits import Lanes
from runner.engine.retry import RetryPolicy
from runner.engine.stop import Stop
from runner.errors import StoreError
from runner.events import INPUT_CHANGED, Event, Finished, Progress, Saved, Started, Summary
from runner.inputs import scan, source, spool
from runner.interfaces import Observer
from runner.model import Entry, Outcome, Pace, Run
from runner.providers.http import HttpExchange
from runner.session import prepare as opening
from runner.session import wiring
from runner.session.background import keep_deadline, note_pace, tell_progress, tell_stop
from runner.session.options import Wish
from runner.session.stats import Tally
from runner.store import database
from runner.store import runs as ledger
from runner.store.checkpoint import Known, RunStore
from runner.version import __version__

STUCK = 2_000
"""Items that wait in blocked lanes and for which others are taken in, at most."""

T = TypeVar("T")

logger = logging.getLogger(__name__)


async def execute(job: Job, store_path: Path, wish: Wish, stop: Stop, observe: Observer) -> Summary:
    """Work through a job until its rows are settled or ``stop`` is asked.

    Raises UsageError before anything is sent, StoreError, and RunStoppedError when going on would be pointless.
    """
    job = endpoint.settled_endpoint(job, os.environ)
    given = await _in_thread(lambda: opening.reader(job.input))
    digest = await _in_thread(lambda: scan.digest(given))
    finished = await _in_thread(lambda: opening.finished_run(job, store_path, wish, digest))
    if finished is not None:
        return _nothing_to_do(job, finished, observe)
    where = endpoint.endpoint(job, os.environ)
    found = await _in_thread(lambda: opening.scanned(given, store_path, digest))
    scan.refuse_duplicates(found, job.input)
    if wish.strict:
        await _in_thread(lambda: opening.refuse_broken(job, given))
    await _in_thread(lambda: database.prepare(store_path, create=True))
    opened = await _in_thread(lambda: opening.open_run(job, store_path, wish))
    own = await _in_thread(lambda: RunStore.own(store_path, opened.id, durability=job.durability))
    async with own as store:
        session = _Session(job, wish, store, found, stop, observe)
        await session.begin(opened, where, given, digest)
        async with wiring.opened(job, where, __version__) as (provider, client):
            attempts = Attempts(
                provider,
                client,
                session.lanes,
                RetryPolicy(attempts=job.attempts),
                Judge(succeeded=session.succeeded),
                stop,
                redact=where.redact,
                secrets=where.secrets,
            )
            await session.run(attempts, given)
        summary = await session.end(given)
    observe(Finished(summary=summary))
    if stop.error is not None and not summary.finished:
        raise stop.error
    return summary


class _Session:
    """The moving parts of one session and its counts."""

    def __init__(self, job: Job, wish: Wish, store: RunStore, found: scan.Scan, stop: Stop, observe: Observer) -> None:
        self._job, self._wish, self._store, self._found = job, wish, store, found
        self._stop, self._observe = stop, observe
        self._count = Tally()
        self._source = source.Counts()
        self._known = Known(done=0, failed=0, broken=0, attempted=False)
        # rows settled in earlier sessions, among those that this one looks at
        self._restored = 0
        # ... where the file was looked through for them
        self._look = source.Look()
        # of the input: what it has, and what the store was told
        self._digest = self._noted = ""
        self._start = time.monotonic()
        self._limits, self._limits_note = wiring.limits(job)
        self.lanes = Lanes(self._limits)
        self._attempts: Attempts[HttpExchange] | None = None

    @property
    def succeeded(self) -> bool:
        """Rows were answered in earlier sessions."""
        return self._known.done > 0

    @property
    def _rows(self) -> int:
        """Rows to be settled by the end of this session."""
        return self._found.rows if self._wish.limit is None else min(self._wish.limit, self._found.rows)

    async def begin(self, opened: ledger.Opened, where: endpoint.Endpoint, given: scan.Input, digest: str) -> None:
        """Look at what the run holds, and tell the observer."""
        self._known = await self._store.known()
        unchanged = opened.input_digest == digest
        self._restored = await self._count_restored(given, unchanged=unchanged)
        # with changed rows in it, or some behind a limit, the next session is to look through the input and to say so (again)
        unseen = self._wish.limit is not None and not (unchanged or self._fresh)
        self._digest, self._noted = digest, "" if self._look.changed or unseen else digest
        await self._store.begin(rows=self._found.rows, digest=self._noted, identical=self._found.identical)
        scarce = [self._limits_note] if self._limits_note is not None else []
        notes = [*where.notes, *scarce, *opening.notes(opened, self._wish, self._known, self._found, self._look.changed)]
        self._tell(
            Started(
                run=self._store.run_id,
                input=str(self._job.input),
                rows=self._rows,
                restored=self._restored,
                notes=tuple(notes),
            )
        )

    async def _count_restored(self, given: scan.Input, *, unchanged: bool) -> int:
        again = self._wish.retry_failed
        if unchanged and self._wish.limit is None and not self._wish.accept_changes:
            return self._known.done + (0 if again else self._known.failed)
        if self._fresh:
            return 0
        # rows may have come, gone or moved: only the file can tell which of them are settled
        self._look = await source.look(
            given,
            self._found,
            self._store,
            limit=self._wish.limit,
            failed_too=not again,
            accept_changes=self._wish.accept_changes,
        )
        return self._look.settled

    @property
    def _fresh(self) -> bool:
        return not (self._known.attempted or self._known.done or self._known.failed or self._known.broken)

    async def run(self, attempts: Attempts[HttpExchange], given: scan.Input) -> None:
        """Drive the engine; progress and the news of a stop go beside it."""
        items = source.items(
            given,
            self._found,
            opening.template_of(self._job),
            self._store,
            self._source,
            fresh=self._fresh,
            retry_failed=self._wish.retry_failed,
            limit=self._wish.limit,
            broken=self._known.broken > 0,
            accept_changes=self._wish.accept_changes,
            untouched=self._look.untouched,
        )
        self._attempts = attempts
        failure: Exception | None = None
        async with anyio.create_task_group() as beside:
            beside.start_soon(tell_progress, self._tell, self._progress)
            beside.start_soon(note_pace, self._store.note_pace, self._pace)
            beside.start_soon(tell_stop, self._tell, self._stop, self.lanes)
            if self._job.deadline is not None:
                beside.start_soon(keep_deadline, self._job.deadline, self._start, self._stop, self.lanes)
            try:
                workers = self._workers()
                await engine.run(items, attempts.handle, self._save, workers=workers, stop=self._stop, wanted=self._workers)
            except Exception as error:  # noqa: BLE001 - raised below, outside the group that would wrap it
                failure = error
            beside.cancel_scope.cancel()
        if isinstance(failure, StoreError):
            kept = "; what was saved before is kept, and the same command goes on from there" if failure.kept else ""
            raise StoreError(f"{failure}{kept}", kept=failure.kept, stuck=failure.stuck) from failure
        if failure is not None:
            raise failure

    def _workers(self) -> int:
        """Count the items to be held: twice the slots, as one that waits for its retry holds a worker and no slot."""
        slots = self.lanes.slots
        return slots + max(16, slots) + min(self.lanes.stuck(), STUCK)

    async def end(self, given: scan.Input) -> Summary:
        """Note how far the run has come, and sum the session up."""
        known = await self._store.known()
        settled = self._source.settled + self._count.done + self._count.failed
        # a stop may come when nothing is left to stop
        finished = settled == self._rows and (self._source.complete or await self._rest_settled(known, given))
        stop_reason = self._stop.reason if not finished else None
        if self._source.complete and not finished and stop_reason is None:
            stop_reason = INPUT_CHANGED
        changed = self._source.changed + self._count.kept
        # behind a limit rows may have moved or changed: the next session is to look
        digest = "" if changed or not self._source.complete else self._digest
        if finished and digest != self._noted:
            await self._store.begin(rows=self._found.rows, digest=digest)
        await self._store.finish(complete=finished, stop_reason=stop_reason)
        first_token, duration = self._count.quantiles()
        before = self._known.done + self._known.failed
        return Summary(
            run=self._store.run_id,
            finished=finished,
            rows=self._found.rows,
            done=known.done,
            failed=known.failed + known.broken,
            broken=known.broken,
            skipped=self._found.rows - self._count.done - self._count.failed if finished else self._source.settled,
            done_now=self._count.done,
            failed_now=self._count.failed,
            kept=self._count.kept,
            attempts_now=self._count.attempts,
            input_tokens=self._count.input_tokens,
            output_tokens=self._count.output_tokens,
            time_to_first_token=first_token,
            duration=duration,
            elapsed_s=time.monotonic() - self._start,
            missing=max(0, before - self._source.seen) if finished and self._source.complete else 0,
            changed=changed,
            stop_reason=stop_reason,
            same_command=not self._wish.new and self._wish.limit is None,
        )

    async def _rest_settled(self, known: Known, given: scan.Input) -> bool:
        """Tell whether the rows behind a limit are all settled, as in a run that was finished before."""
        enough = known.done + known.failed + known.broken >= self._found.rows
        if self._wish.limit is None or self._stop.requested or not enough:
            return False
        return await source.all_settled(given, self._found, opening.template_of(self._job), self._store)

    async def _save(self, entries: list[Entry]) -> None:
        await self._store.save(entries)
        assert self._attempts is not None
        for entry in entries:
            self._count.add(entry)
            # only now: what a kill can cost is what holds a slot
            self._attempts.saved(entry)
        self._tell(Saved(outcomes=tuple(entry for entry in entries if isinstance(entry, Outcome))))

    def _tell(self, event: Event) -> None:
        """Tell the observer; one that fails is told nothing more, for it must not cost an answer."""
        try:
            self._observe(event)
        except Exception:
            logger.exception("the observer failed and is told nothing more")
            self._observe = _tell_nobody

    def _progress(self) -> Progress:
        return Progress(
            rows=self._rows,
            restored=self._restored,
            done=self._count.done,
            failed=self._count.failed,
            in_flight=self.lanes.in_flight,
            output_tokens=self._count.output_tokens or 0,
            elapsed_s=time.monotonic() - self._start,
            pace=self._pace(),
        )

    def _pace(self) -> Pace:
        retrying = self._attempts.retrying() if self._attempts is not None else None
        return Pace(at=time.time(), lanes=self.lanes.states(), retrying=retrying)


async def _in_thread(call: Callable[[], T]) -> T:
    """Run a blocking call beside the loop; a cancelled session does not wait for it."""
    return await to_thread.run_sync(call, abandon_on_cancel=True)


def _tell_nobody(event: Event) -> None:
    """Observe nothing."""


def _nothing_to_do(job: Job, run: Run, observe: Observer) -> Summary:
    """Say so, and sum up what there is."""
    summary = opening.summary(run)
    note = f"run {run.id} is finished and {spool.called(job.input)} has not changed: nothing is sent"
    restored = min(summary.skipped, summary.rows)
    observe(Started(run=run.id, input=str(job.input), rows=summary.rows, restored=restored, notes=(note,)))
    observe(Finished(summary=summary))
    return summary
