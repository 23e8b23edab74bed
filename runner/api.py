"""The public Python API, which the command line also uses: run, resume, retry, check, export, results."""

import os
from collections.abc import Awaitable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any, TypeVar, cast

from msgspec import Struct, structs

from runner.config import plugins
from runner.config.endpoint import find_endpoint, key_source, with_base_url
from runner.config.job import Job, load_job, restore_job, shown_settings
from runner.config.trust import allowed
from runner.engine.stop import Stop
from runner.errors import UsageError
from runner.events import Event, Summary
from runner.exports.columns import columns, records
from runner.exports.file import open_output
from runner.inputs import scan, spool
from runner.interfaces import Exporter, Observer
from runner.model import Result, Run
from runner.session import prepare, session
from runner.session.options import SessionOptions
from runner.session.stopping import StopHandle, stoppable
from runner.store.reader import ErrorGroup, StoreReader
from runner.store.runs import may_need
from runner.store.totals import Totals

DEFAULT_STORE = "runner.db"

T = TypeVar("T")


class Check(Struct, frozen=True, kw_only=True):
    """What ``check`` found in an input, without sending anything."""

    job: Job
    # where the API key comes from; None: no key is sent
    key_source: str | None
    # why `runner run` would refuse to start; None if it would start
    refusal: str | None
    rows: int
    # (line, reason) of the first 1,000 broken rows
    broken: list[tuple[int, str]]
    # number of all broken rows
    broken_rows: int
    # the first 100 duplicate ids, each with the first 100 lines that have it
    duplicates: dict[str, list[int]]
    # number of all duplicate ids
    duplicate_ids: int
    # rows without an id that repeat an earlier row
    identical: int


class Description(Struct, frozen=True, kw_only=True):
    """A job's settings with their sources, and where its API key comes from."""

    job: Job
    key_source: str | None

    def shown(self) -> list[tuple[str, str, str]]:
        """Return every setting as (key, value as JSON, source)."""
        return shown_settings(self.job)


def run(
    file: str | Path,
    *,
    db: str | Path = DEFAULT_STORE,
    limit: int | None = None,
    new: bool = False,
    accept_changes: bool = False,
    stop: StopHandle | None = None,
    observe: Observer | None = None,
    **settings: Any,
) -> Summary:
    """Run a prompt file, a job file, standard input (``-``) or a named pipe to its end; continue its run if there is one.

    settings: any setting of a job by its last name (``model=...``, ``concurrency=...``). limit: use only the first so many rows.
    new: start a new run in any case. accept_changes: send rows again whose prompt has changed since they were answered.
    Among them may also be ``strict=True``: refuse to start if a row is broken, and ``trust=True``: allow what only the job file
    asks for, secrets to a server and code.
    stop: stops the run from another thread. Ctrl-C in the main thread stops it as it stops the command: open requests may finish
    for up to 30 s, a second one drops them; then KeyboardInterrupt is raised.
    Raises UsageError, StoreError, RunStoppedError. Calling it again is safe: no finished row is sent twice.
    """
    strict, trust = settings.pop("strict", False), settings.pop("trust", False)
    job = allowed(load_job(file, settings), trust)
    if limit is not None and limit < 1:
        raise UsageError(f"limit must be 1 or more, not {limit}")
    options = SessionOptions(limit=limit, new=new, accept_changes=accept_changes, strict=strict)
    with spooled(job, db) as kept:
        return stoppable(lambda wanted: execute(kept, db, options, wanted, observe), stop)


@contextmanager
def spooled(job: Job, db: str | Path) -> Iterator[Job]:
    """Copy standard input or a pipe to a file next to the store, and keep the copy if a run uses it.

    Call this outside the event loop, so that Ctrl-C interrupts the read.
    """
    if not spool.is_stream(job.input):
        yield job
        return
    store = Path(db).resolve()
    with spool.stored_copy(job.input, store, lambda path: may_need(store, path)) as path:
        yield structs.replace(job, input=path)


def resume(
    run_id: int | None = None,
    *,
    db: str | Path = DEFAULT_STORE,
    accept_changes: bool = False,
    trust: bool = False,
    stop: StopHandle | None = None,
    observe: Observer | None = None,
    **settings: Any,
) -> Summary:
    """Continue a run, by default the newest unfinished one. The other arguments, Ctrl-C and the errors: as for ``run``."""
    job, options = resumed(db, run_id, settings, accept_changes=accept_changes)
    job = allowed(job, trust)
    return stoppable(lambda wanted: execute(job, db, options, wanted, observe), stop)


def retry(
    run_id: int | None = None,
    *,
    db: str | Path = DEFAULT_STORE,
    trust: bool = False,
    stop: StopHandle | None = None,
    observe: Observer | None = None,
    **settings: Any,
) -> Summary:
    """Send the failed rows of a run again, by default of the newest one. The other arguments: as for ``run``."""
    job, options = retried(db, run_id, settings)
    job = allowed(job, trust)
    return stoppable(lambda wanted: execute(job, db, options, wanted, observe), stop)


def execute(job: Job, db: str | Path, options: SessionOptions, stop: Stop, observe: Observer | None) -> Awaitable[Summary]:
    """Do what ``run``, ``resume`` and ``retry`` do, inside a running event loop."""
    return session.execute(job, Path(db).resolve(), options, stop, observe or _ignore)


def resumed(
    db: str | Path, run_id: int | None, settings: dict[str, Any], *, accept_changes: bool = False
) -> tuple[Job, SessionOptions]:
    """Return the job and the options that continue a run."""
    with StoreReader(Path(db).resolve()) as reader:
        if run_id is None:
            unfinished = [run for run in reader.runs() if run.finished_at is None]
            # if every unfinished run is active, take one all the same: its lock refuses it and names the other process
            unfinished = [run for run in unfinished if not run.active] or unfinished
            if not unfinished:
                raise UsageError(f"there is no unfinished run in {db}; `runner list` shows all runs")
            run = unfinished[-1]
        else:
            run = reader.run(run_id)
    return _restored(run, settings), SessionOptions(run_id=run.id, accept_changes=accept_changes)


def retried(db: str | Path, run_id: int | None, settings: dict[str, Any]) -> tuple[Job, SessionOptions]:
    """Return the job and the options that send the failed rows of a run again."""
    with StoreReader(Path(db).resolve()) as reader:
        run = reader.run(run_id)
    return _restored(run, settings), SessionOptions(run_id=run.id, retry_failed=True)


def describe(job: Job, *, trust: bool = False) -> Description:
    """Return a job's settings and their sources. No API key is needed. trust: as for ``check``."""
    job = with_base_url(allowed(job, trust), os.environ)
    return Description(job=job, key_source=key_source(job, os.environ))


def check(file: str | Path, *, trust: bool = False, **settings: Any) -> Check:
    """Read a whole input and send nothing. trust: allow that code runs which only the job file names."""
    job = with_base_url(allowed(load_job(file, settings), trust), os.environ)
    refusal = None
    try:
        find_endpoint(job, os.environ)
    except UsageError as error:
        refusal = str(error)
    with spool.temporary_copy(job.input) if spool.is_stream(job.input) else nullcontext(job.input) as path:
        prompts = prepare.open_input(path)
        scanned = scan.scan(prompts)
        broken = prepare.broken_rows(prompts, prepare.template_of(job))
    return Check(
        job=job,
        key_source=key_source(job, os.environ),
        refusal=refusal,
        rows=scanned.rows,
        broken=broken.first,
        broken_rows=broken.number,
        duplicates=scanned.duplicates,
        duplicate_ids=scanned.duplicate_ids,
        identical=scanned.identical,
    )


def runs(*, db: str | Path = DEFAULT_STORE) -> list[Run]:
    """Return all runs of a store, oldest first."""
    with StoreReader(Path(db).resolve()) as reader:
        return reader.runs()


def status(run_id: int | None = None, *, db: str | Path = DEFAULT_STORE) -> tuple[Run, Totals]:
    """Return a run, by default the newest, with the totals of everything that it sent."""
    with StoreReader(Path(db).resolve()) as reader:
        run = reader.run(run_id)
        return run, reader.totals(run.id)


def errors(run_id: int | None = None, *, db: str | Path = DEFAULT_STORE) -> tuple[Run, list[ErrorGroup]]:
    """Return a run, by default the newest, with its failed rows by cause."""
    with StoreReader(Path(db).resolve()) as reader:
        run = reader.run(run_id)
        return run, reader.errors(run.id)


def results(run_id: int | None = None, *, db: str | Path = DEFAULT_STORE) -> Iterator[Result]:
    """Iterate over the finished rows of a run, by default the newest, in input order and in constant memory.

    Raises UsageError and StoreError at the call, not when the first row is asked for.
    """
    store = Path(db).resolve()
    with StoreReader(store) as reader:
        found = reader.run(run_id).id
    return _results(store, found)


def _results(store: Path, run_id: int) -> Iterator[Result]:
    with StoreReader(store) as reader:
        yield from reader.results(run_id)


def export(
    output: str | Path,
    *,
    run_id: int | None = None,
    db: str | Path = DEFAULT_STORE,
    format: str | None = None,  # noqa: A002 - the option's name
    raw: bool = False,
) -> int:
    """Write the finished rows of a run, done or failed, to a file and return their number; ``-`` is standard output.

    format: "csv", "jsonl" or the name of a plug-in; by default the file's ending. raw: do not escape CSV cells that a spreadsheet
    would run as formulas. A file appears under its final name only when it is complete. Raises UsageError, StoreError.
    """
    kind = format or Path(output).suffix.lstrip(".").lower() or ("csv" if str(output) == "-" else "")
    module = plugins.load("exports", format) if format else plugins.registered("exports", kind)
    if module is None:
        known = " or ".join(plugins.known("exports"))
        raise UsageError(f"cannot tell the format of {output} from its ending; choose {known} with --format")
    options = {"raw": True} if raw and kind == "csv" else {}
    write = cast("Exporter", module.write)
    with StoreReader(Path(db).resolve()) as reader, ExitStack() as stack:
        _refuse_own(output, reader)
        run = reader.run(run_id).id
        stack.enter_context(reader.snapshot())
        metadata = reader.metadata_names(run)
        with open_output(output) as out:
            return write(columns(metadata), records(reader.results(run), metadata), out, **options)


def _refuse_own(output: str | Path, reader: StoreReader) -> None:
    """Raise UsageError if the output would overwrite the store, one of its files, or a prompt file."""
    target = Path(output).resolve()
    name = reader.path.name
    if target == reader.path or (target.parent == reader.path.parent and target.name.startswith(f"{name}-")):
        raise UsageError(f"{output} belongs to the store {reader.path}; name another file")
    for run in reader.runs():
        if target == Path(run.input) or (target.exists() and Path(run.input).exists() and target.samefile(run.input)):
            raise UsageError(f"{output} is the prompt file of run {run.id}; name another file")


def _restored(run: Run, settings: dict[str, Any]) -> Job:
    if not Path(run.input).is_file():
        raise UsageError(f"the prompt file of run {run.id}, {run.input}, is missing; put it back, or export the results so far")
    return restore_job({**run.settings, "input": run.input}, settings)


def _ignore(event: Event) -> None:
    """Ignore an event."""
