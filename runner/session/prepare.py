"""Before a session: which run a job belongs to, whether anything is to be done, and what a person should know first."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TypeVar

from anyio import to_thread
from msgspec import Struct

from runner.config import plugins
from runner.config.endpoint import Endpoint, find_endpoint, settled_endpoint
from runner.config.job import Job
from runner.errors import UsageError
from runner.events import Quantiles, Summary
from runner.inputs import scan, spool
from runner.inputs.compression import bare
from runner.inputs.duplicates import RepeatedHashes
from runner.inputs.prompts import Template, item
from runner.inputs.scan import Input, Scan
from runner.model import Outcome, Run
from runner.session.options import SessionOptions
from runner.store import database, runs
from runner.store.checkpoint import RunCounts
from runner.store.reader import StoreReader
from runner.store.runs import FoundRun

_SHOWN = 5
# broken rows that are kept to be shown
_KEPT = 1_000
_OTHER_FORMATS = ("csv", "tsv", "parquet", "arrow", "xls", "xlsx")

T = TypeVar("T")


class Broken(NamedTuple):
    """The rows from which no request can be made: how many, and (line, why) of the first of them."""

    number: int
    first: list[tuple[int, str]]


class Plan(Struct, frozen=True, kw_only=True):
    """All that is settled before a session begins."""

    job: Job
    options: SessionOptions
    store_path: Path
    prompts: Input
    # hash of the bytes of the input
    digest: str
    scanned: Scan
    endpoint: Endpoint
    run: FoundRun

    @property
    def template(self) -> Template:
        """What the job adds to every row."""
        return template_of(self.job)

    @property
    def rows(self) -> int:
        """Rows that are to have an outcome by the end of the session."""
        limit = self.options.limit
        return self.scanned.rows if limit is None else min(limit, self.scanned.rows)

    @property
    def unchanged(self) -> bool:
        """The input is the same to the byte as at the end of the run's last session."""
        return self.run.input_digest == self.digest


async def prepare(job: Job, store_path: Path, options: SessionOptions) -> Plan | Run:
    """Return the plan of a session, or the run itself when it is finished and nothing is to be done.

    Nothing is sent. The run is begun only when nothing else can be refused. Raises UsageError, StoreError.
    """
    job = settled_endpoint(job, os.environ)
    prompts = await in_thread(lambda: open_input(job.input))
    digest = await in_thread(lambda: scan.digest(prompts))
    finished = await in_thread(lambda: finished_run(job, store_path, options, digest))
    if finished is not None:
        return finished
    endpoint = find_endpoint(job, os.environ)
    scanned = await in_thread(lambda: scan_once(prompts, store_path, digest))
    scan.refuse_duplicates(scanned, job.input)
    if options.strict:
        await in_thread(lambda: _refuse_broken(job, prompts))
    await in_thread(lambda: database.prepare(store_path, create=True))
    run = await in_thread(lambda: open_run(job, store_path, options))
    return Plan(
        job=job,
        options=options,
        store_path=store_path,
        prompts=prompts,
        digest=digest,
        scanned=scanned,
        endpoint=endpoint,
        run=run,
    )


async def in_thread(call: Callable[[], T]) -> T:
    """Run a blocking call beside the event loop; a cancelled session does not wait for it."""
    return await to_thread.run_sync(call, abandon_on_cancel=True)


def open_input(path: Path) -> Input:
    """Find how a prompt file is read, by its ending, that before ``.gz`` if it has one; an unknown ending is read as JSONL."""
    ending = bare(path).suffix.lower().lstrip(".")
    module = plugins.registered("inputs", ending or "jsonl")
    if module is None and ending in _OTHER_FORMATS:
        known = ", ".join(plugins.known("inputs"))
        raise UsageError(
            f"{path}: .{ending} files cannot be read yet (known: {known}); make it JSON lines, one object with a prompt a line"
        )
    module = module or plugins.load("inputs", "jsonl")
    try:
        # what is appended from here on belongs to the next session
        size = path.stat().st_size
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error
    return Input(path, size, lambda: module.read(path, limit_bytes=size))


def scan_once(prompts: Input, store_path: Path, digest: str) -> Scan:
    """Scan an input, unless an earlier session has scanned the very same bytes."""
    if store_path.is_file() and store_path.stat().st_size:
        database.prepare(store_path, create=False)
        rows = runs.rows_of(store_path, prompts.path, digest)
        if rows is not None:
            return Scan(rows=rows, repeated=RepeatedHashes())
    return scan.scan(prompts)


def template_of(job: Job) -> Template:
    """Return what a job adds to every row."""
    return Template(model=job.model or "", system=job.system, params=job.params)


def broken_rows(prompts: Input, template: Template) -> Broken:
    """Find every row from which no request can be made."""
    count = 0
    first: list[tuple[int, str]] = []
    for row in prompts.read():
        made = item(row, "", template)
        if isinstance(made, Outcome):
            count += 1
            if count <= _KEPT:
                first.append((made.position, made.error or ""))
    return Broken(count, first)


def _refuse_broken(job: Job, prompts: Input) -> None:
    """Raise UsageError when a row is broken."""
    broken = broken_rows(prompts, template_of(job))
    if broken.number:
        first = "; ".join(why for _, why in broken.first[:_SHOWN])
        more = f"; and {broken.number - _SHOWN:,} more" if broken.number > _SHOWN else ""
        raise UsageError(f"{job.input}: {broken.number:,} broken rows, and --strict was given: {first}{more}")


def finished_run(job: Job, store_path: Path, options: SessionOptions, digest: str) -> Run | None:
    """Find the job's run when nothing is to be done for it: it is finished, and the input is the same to the byte."""
    if options.new or options.retry_failed or options.accept_changes:
        return None
    if not store_path.is_file() or not store_path.stat().st_size:
        return None
    database.prepare(store_path, create=False)
    if options.run_id is not None:
        found: FoundRun | None = runs.get_run(store_path, options.run_id)
    else:
        found = runs.find_run(store_path, job.input, job.answer())
    if found is None or not found.finished or found.input_digest != digest:
        return None
    with StoreReader(store_path) as reader:
        return reader.run(found.id)


def open_run(job: Job, store_path: Path, options: SessionOptions) -> FoundRun:
    """Find the job's run, or begin one."""
    if options.run_id is not None:
        return runs.get_run(store_path, options.run_id)
    mark = spool.MARK if spool.MARK in job.input.name else None
    return runs.open_run(store_path, job.input, job.settings(), job.answer(), new=options.new, kept_mark=mark)


def notes(plan: Plan, counts: RunCounts, changed: int) -> list[str]:
    """Say what a person should know before a session begins, one sentence each.

    counts: what the run holds. changed: rows that have an outcome and ask something else now.
    """
    options, run, scanned = plan.options, plan.run, plan.scanned
    said = [*_new_run_notes(run)]
    if options.retry_failed:
        said.append(f"run {run.id}: retrying {_rows(counts.failed, 'failed row')}")
    elif run.finished:
        said.append(f"run {run.id} was finished; its input has changed since")
    elif run.existed and counts.done + counts.failed:
        failed = f", {counts.failed:,} failed" if counts.failed else ""
        said.append(f"continuing run {run.id}: {counts.done:,} already done{failed}")
    if changed:
        have = "has" if changed == 1 else "have"
        its, it, results = ("its", "it", "result is") if changed == 1 else ("their", "them", "results are")
        kept = "" if options.accept_changes else f"{its} old {results} kept, and "
        said.append(f"{_rows(changed, 'finished row')} {have} changed since; {kept}--accept-changes sends {it} again")
    if scanned.identical:
        are = "is" if scanned.identical == 1 else "are"
        said.append(f"{_rows(scanned.identical, 'row')} without an id {are} identical to an earlier one; each is sent")
    if scanned.rows == 0:
        said.append("the prompt file has no rows")
    return said


def _new_run_notes(run: FoundRun) -> list[str]:
    """Say why a new run begins although the store has one that is nearly the same."""
    said = []
    if run.differs_from is not None:
        changes = ", ".join(f"{name} ({_brief(then)} -> {_brief(now)})" for name, (then, now) in run.differences.items())
        said.append(f"{changes} changed since run {run.differs_from}, so this starts a new run; all rows are sent again")
    if run.other_stdin is not None:
        said.append(
            f"standard input differs from that of run {run.other_stdin}, so this starts a new run and all rows are sent; "
            "prompts that you edit belong in a file"
        )
    return said


def _rows(number: int, words: str) -> str:
    return f"{number:,} {words}{'' if number == 1 else 's'}"


def _brief(value: object) -> str:
    words = "unset" if value is None else str(value)
    return words if len(words) <= 40 else words[:39] + "\N{HORIZONTAL ELLIPSIS}"


def summary(run: Run) -> Summary:
    """Sum up a session that found everything settled."""
    settled = run.done + run.failed
    rows = run.rows if run.rows is not None else settled
    nothing = Quantiles(p50=None, p95=None)
    return Summary(
        run=run.id,
        finished=True,
        rows=rows,
        done=run.done,
        failed=run.failed,
        broken=run.broken,
        skipped=min(settled, rows),
        done_now=0,
        failed_now=0,
        kept=0,
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
