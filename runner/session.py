"""One session of a run: joins the parts, keeps count, tells the observer. The only place where concrete parts meet."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import TypeVar

import anyio
from anyio import to_thread
from msgspec import Struct, field

from runner import database, engine, ledger, plugins, source, wiring
from runner.attempt import Attempts
from runner.client import HttpExchange
from runner.config import Job
from runner.errors import UsageError
from runner.interfaces import Observer
from runner.judge import Judge
from runner.latency import Histogram
from runner.limits import FixedLane, RequestRate
from runner.model import (
    Attempt,
    Entry,
    Finished,
    Outcome,
    Progress,
    Quantiles,
    Run,
    Saved,
    Started,
    Stopping,
    Summary,
    Usage,
)
from runner.prompts import Template, item
from runner.reader import StoreReader
from runner.retry import RetryPolicy
from runner.stop import Stop
from runner.store import RunStore
from runner.text import redact
from runner.version import __version__

TICK_S = 0.5
"""How often progress is told, in seconds."""
_SHOWN = 5

T = TypeVar("T")


class Wish(Struct, frozen=True, kw_only=True):
    """How a session is to go.

    run_id: go on with this run; None finds the run by input and settings. new: begin one in any case. retry_failed: give failed
    items another chance. limit: only the first so many rows. strict: refuse to start over a broken row.
    """

    run_id: int | None = None
    new: bool = False
    retry_failed: bool = False
    limit: int | None = None
    strict: bool = False


class _Count(Struct):
    """What this session has put on the disk."""

    done: int = 0
    failed: int = 0
    attempts: int = 0
    input_tokens: int | None = None
    output_tokens: int | None = None
    first_token: Histogram = field(default_factory=Histogram)
    duration: Histogram = field(default_factory=Histogram)

    def add(self, entry: Entry) -> None:
        attempt = entry if isinstance(entry, Attempt) else entry.attempt
        if isinstance(entry, Outcome):
            self.done += entry.status == "done"
            self.failed += entry.status == "failed"
        if attempt is None:
            return
        self.attempts += 1
        self._add_usage(attempt.usage)
        if attempt.error_code is None:
            self.duration.add(attempt.duration_s)
            if attempt.time_to_first_token_s is not None:
                self.first_token.add(attempt.time_to_first_token_s)

    def _add_usage(self, usage: Usage | None) -> None:
        if usage is not None and usage.input_tokens is not None:
            self.input_tokens = (self.input_tokens or 0) + usage.input_tokens
        if usage is not None and usage.output_tokens is not None:
            self.output_tokens = (self.output_tokens or 0) + usage.output_tokens


def reader(path: Path) -> source.Read:
    """Find how a prompt file is read, by its ending; an unknown ending is read as JSONL."""
    ending = path.suffix.lower().lstrip(".")
    module: ModuleType = plugins.load("inputs", ending if ending in plugins.names("inputs") else "jsonl")
    return lambda: module.read(path)


def broken_rows(read: source.Read, template: Template) -> list[tuple[int, str]]:
    """Find every row from which no request can be made: (line, why)."""
    made = (item(row, "", template) for row in read())
    return [(one.position, one.error or "") for one in made if isinstance(one, Outcome)]


def template_of(job: Job) -> Template:
    """Give what a job adds to every row."""
    return Template(model=job.model, system=job.system, params=job.params)


async def execute(job: Job, store_path: Path, wish: Wish, stop: Stop, observe: Observer) -> Summary:
    """Work through a job until its rows are settled or ``stop`` is asked.

    Raises UsageError before anything is sent, StoreError, and RunStoppedError when going on would be pointless.
    """
    job = wiring.settled_endpoint(job, os.environ)
    digest = await _in_thread(lambda: source.digest(job.input))
    finished = await _in_thread(lambda: _finished(job, store_path, wish, digest))
    if finished is not None:
        return await _nothing_to_do(job, store_path, finished, observe)
    where = wiring.endpoint(job, os.environ)
    read = reader(job.input)
    found = await _in_thread(lambda: source.scan(read))
    source.refuse_duplicates(found, job.input)
    if wish.strict:
        await _in_thread(lambda: _refuse_broken(job, read))
    await _in_thread(lambda: database.prepare(store_path, create=True))
    opened = await _in_thread(lambda: _opened(job, store_path, wish))
    own = await _in_thread(lambda: RunStore.own(store_path, opened.id))
    async with own as store:
        session = _Session(job, wish, store, found, stop, observe)
        await session.begin(opened, where)
        async with wiring.opened(job, where, __version__) as (provider, client):
            attempts = Attempts(
                provider,
                client,
                session.lane,
                RetryPolicy(attempts=job.attempts),
                Judge(),
                stop,
                redact=_redactor(where),
            )
            await session.run(attempts, read)
        summary = await session.end(digest)
    observe(Finished(summary=summary))
    if stop.error is not None:
        raise stop.error
    return summary


class _Session:
    """The moving parts of one session and its counts."""

    def __init__(self, job: Job, wish: Wish, store: RunStore, found: source.Scan, stop: Stop, observe: Observer) -> None:
        self._job, self._wish, self._store, self._found = job, wish, store, found
        self._stop, self._observe = stop, observe
        self._count = _Count()
        self._source = source.Counts()
        self._known: dict[str, int] = {}
        self._start = time.monotonic()
        self.lane = FixedLane(job.concurrency, RequestRate(job.rpm) if job.rpm is not None else None)

    @property
    def _rows(self) -> int:
        """Rows to be settled by the end of this session."""
        return self._found.rows if self._wish.limit is None else min(self._wish.limit, self._found.rows)

    @property
    def _restored(self) -> int:
        settled = self._known["done"] + (0 if self._wish.retry_failed else self._known["failed"])
        return min(settled, self._rows)

    async def begin(self, opened: ledger.Opened, where: wiring.Endpoint) -> None:
        """Look at what the run holds, and tell the observer."""
        self._known = await self._store.known()
        notes = [*where.notes, *_notes(opened, self._known, self._found)]
        self._observe(
            Started(
                run=self._store.run_id,
                input=str(self._job.input),
                rows=self._rows,
                restored=self._restored,
                notes=tuple(notes),
            )
        )

    async def run(self, attempts: Attempts[HttpExchange], read: source.Read) -> None:
        """Drive the engine; progress and the news of a stop go beside it."""
        items = source.items(
            read,
            self._found,
            template_of(self._job),
            self._store,
            self._source,
            fresh=not any(self._known.values()),
            retry_failed=self._wish.retry_failed,
            limit=self._wish.limit,
        )
        # an item that waits for its retry holds a worker, not a slot: twice as many keep the slots busy
        workers = self._job.concurrency + max(16, self._job.concurrency)
        failure: Exception | None = None
        async with anyio.create_task_group() as beside:
            beside.start_soon(self._tick)
            beside.start_soon(self._tell_stop)
            try:
                await engine.run(items, attempts.handle, self._save, workers=workers, stop=self._stop)
            except Exception as error:  # noqa: BLE001 - raised below, outside the group that would wrap it
                failure = error
            beside.cancel_scope.cancel()
        if failure is not None:
            raise failure

    async def end(self, digest: str) -> Summary:
        """Note how far the run has come, and sum the session up."""
        known = await self._store.known()
        settled = self._source.settled + self._count.done + self._count.failed
        # a stop may come when nothing is left to stop
        finished = self._source.complete and settled == self._found.rows
        await self._store.finish(rows=self._found.rows, digest=digest, complete=finished)
        before = self._known["done"] + self._known["failed"]
        return Summary(
            run=self._store.run_id,
            finished=finished,
            rows=self._found.rows,
            done=known["done"],
            failed=known["failed"],
            skipped=self._source.settled,
            done_now=self._count.done,
            failed_now=self._count.failed,
            attempts_now=self._count.attempts,
            input_tokens=self._count.input_tokens,
            output_tokens=self._count.output_tokens,
            time_to_first_token=_quantiles(self._count.first_token),
            duration=_quantiles(self._count.duration),
            elapsed_s=time.monotonic() - self._start,
            missing=max(0, before - self._source.seen) if finished else 0,
            changed=self._source.changed,
            stop_reason=self._stop.reason if not finished else None,
        )

    async def _save(self, entries: list[Entry]) -> None:
        await self._store.save(entries)
        for entry in entries:
            self._count.add(entry)
        self._observe(Saved(outcomes=tuple(entry for entry in entries if isinstance(entry, Outcome))))

    async def _tick(self) -> None:
        while True:
            self._observe(self._progress())
            await anyio.sleep(TICK_S)

    async def _tell_stop(self) -> None:
        await self._stop.wait()
        told = Stopping(reason=self._stop.reason or "", in_flight=self.lane.in_flight, grace_s=self._stop.grace_s)
        self._observe(told)

    def _progress(self) -> Progress:
        paused = self.lane.paused
        return Progress(
            rows=self._rows,
            restored=self._restored,
            done=self._count.done,
            failed=self._count.failed,
            in_flight=self.lane.in_flight,
            output_tokens=self._count.output_tokens or 0,
            elapsed_s=time.monotonic() - self._start,
            waiting=f"paused for {paused[0]:.0f} s ({paused[1]})" if paused is not None else None,
        )


def _quantiles(histogram: Histogram) -> Quantiles:
    return Quantiles(p50=histogram.quantile(0.5), p95=histogram.quantile(0.95))


async def _in_thread(call: Callable[[], T]) -> T:
    """Run a blocking call beside the loop; a cancelled session does not wait for it."""
    return await to_thread.run_sync(call, abandon_on_cancel=True)


def _finished(job: Job, store_path: Path, wish: Wish, digest: str) -> ledger.Opened | None:
    """Find the run when there is nothing to do for it: it is finished and the input is the same to the byte."""
    if wish.new or wish.retry_failed:
        return None
    if wish.run_id is not None:
        opened = ledger.get_run(store_path, wish.run_id)
    else:
        found = ledger.find_run(store_path, job.input, job.answer())
        if found is None:
            return None
        opened = found
    return opened if opened.finished and opened.input_digest == digest else None


def _opened(job: Job, store_path: Path, wish: Wish) -> ledger.Opened:
    if wish.run_id is not None:
        return ledger.get_run(store_path, wish.run_id)
    return ledger.open_run(store_path, job.input, job.settings(), job.answer(), new=wish.new)


async def _nothing_to_do(job: Job, store_path: Path, opened: ledger.Opened, observe: Observer) -> Summary:
    run = await _in_thread(lambda: _read_run(store_path, opened.id))
    settled = run.done + run.failed
    note = f"run {run.id} is finished and {job.input.name} has not changed: nothing is sent"
    observe(Started(run=run.id, input=str(job.input), rows=run.rows or settled, restored=settled, notes=(note,)))
    nothing = Quantiles(p50=None, p95=None)
    summary = Summary(
        run=run.id,
        finished=True,
        rows=run.rows or settled,
        done=run.done,
        failed=run.failed,
        skipped=settled,
        done_now=0,
        failed_now=0,
        attempts_now=0,
        input_tokens=None,
        output_tokens=None,
        time_to_first_token=nothing,
        duration=nothing,
        elapsed_s=0.0,
        missing=0,
        changed=0,
        stop_reason=None,
    )
    observe(Finished(summary=summary))
    return summary


def _read_run(store_path: Path, run_id: int) -> Run:
    with StoreReader(store_path) as reading:
        return reading.run(run_id)


def _refuse_broken(job: Job, read: source.Read) -> None:
    broken = broken_rows(read, template_of(job))
    if broken:
        first = "; ".join(why for _, why in broken[:_SHOWN])
        more = f"; and {len(broken) - _SHOWN} more" if len(broken) > _SHOWN else ""
        raise UsageError(f"{job.input}: {len(broken)} broken rows, and --strict was given: {first}{more}")


def _redactor(where: wiring.Endpoint) -> Callable[[str], str]:
    secrets = (where.key.reveal(),) if where.key is not None else ()
    return lambda words: redact(words, secrets)


def _notes(opened: ledger.Opened, known: dict[str, int], found: source.Scan) -> list[str]:
    """Say what a person should know about the run before it begins."""
    notes = []
    settled = known["done"] + known["failed"]
    if opened.differs_from is not None:
        changes = "; ".join(f"{name}: {_brief(then)} -> {_brief(now)}" for name, (then, now) in opened.differences.items())
        notes.append(
            f"settings that change the answers differ from run {opened.differs_from} ({changes}), so this is a run of its own"
        )
    if opened.finished:
        notes.append(f"run {opened.id} was finished; the input has changed, so its new rows are sent")
    elif opened.existed and settled:
        notes.append(f"going on with run {opened.id}: {settled} rows are settled already")
    if found.identical:
        notes.append(
            f"{found.identical} rows are identical to an earlier one and have no id; each is sent and answered on its own"
        )
    if found.rows == 0:
        notes.append("the prompt file has no rows")
    return notes


def _brief(value: object) -> str:
    words = "unset" if value is None else str(value)
    return words if len(words) <= 40 else words[:39] + "\N{HORIZONTAL ELLIPSIS}"
