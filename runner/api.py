"""The public Python API, which the command line uses too: run, resume, retry, check, export, results."""

import os
from collections.abc import Coroutine, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any, TypeVar, cast

from msgspec import Struct, structs

from runner.config import plugins
from runner.config.endpoint import find_endpoint, key_source, settled_endpoint
from runner.config.job import Job, load_job, restore_job, shown_settings
from runner.engine.stop import Stop
from runner.errors import UsageError
from runner.events import Event, Summary
from runner.exports.columns import columns, records
from runner.exports.file import open_output
from runner.inputs import scan, spool
from runner.interfaces import Exporter, Observer
from runner.model import Result, Run
from runner.session import prepare, session
from runner.session.blocking import blocking
from runner.session.options import SessionOptions
from runner.store.reader import ErrorGroup, StoreReader
from runner.store.runs import may_need
from runner.store.totals import Totals

DEFAULT_STORE = "runner.db"

T = TypeVar("T")


class Check(Struct, frozen=True, kw_only=True):
    """What reading an input without sending anything showed."""

    job: Job
    # where the key will come from; None: no key is sent
    key_source: str | None
    # why it would be refused now; None: it would not
    refusal: str | None
    rows: int
    # (line, why) of the first 1,000 of them
    broken: list[tuple[int, str]]
    # how many there are
    broken_rows: int
    # the first 100 ids that stand more than once -> the first 100 of their lines
    duplicates: dict[str, list[int]]
    # how many there are
    duplicate_ids: int
    # identical rows without an id, beyond the first
    identical: int


class Description(Struct, frozen=True, kw_only=True):
    """A job's settings with their sources, and where its key comes from."""

    job: Job
    key_source: str | None

    def shown(self) -> list[tuple[str, str, str]]:
        """Give every setting: key, value as JSON, where it came from."""
        return shown_settings(self.job)


def run(
    file: str | Path,
    *,
    db: str | Path = DEFAULT_STORE,
    limit: int | None = None,
    new: bool = False,
    accept_changes: bool = False,
    strict: bool = False,
    observe: Observer | None = None,
    **settings: Any,
) -> Summary:
    """Run a prompt file, a job file, standard input (``-``) or a pipe by name to its end, or go on with it.

    settings: any setting of a job by its last name (``model=...``, ``concurrency=...``). limit: only the first so many rows.
    accept_changes: send rows again whose prompt has changed since it was answered.
    Raises UsageError, StoreError, RunStoppedError. Safe to call again: nothing finished is sent twice.
    """
    job = load_job(file, settings)
    if limit is not None and limit < 1:
        raise UsageError(f"limit must be 1 or more, not {limit}")
    options = SessionOptions(limit=limit, new=new, accept_changes=accept_changes, strict=strict)
    with spooled(job, db) as kept:
        return blocking(lambda: execute(kept, db, options, Stop(), observe))


@contextmanager
def spooled(job: Job, db: str | Path) -> Iterator[Job]:
    """Keep an input that flows beside the store, if a run comes of it; outside the event loop, so that Ctrl-C ends the wait."""
    if not spool.flows(job.input):
        yield job
        return
    store = Path(db).resolve()
    with spool.kept(job.input, store, lambda path: may_need(store, path)) as path:
        yield structs.replace(job, input=path)


def resume(
    run_id: int | None = None, *, db: str | Path = DEFAULT_STORE, accept_changes: bool = False, **settings: Any
) -> Summary:
    """Go on with a run, by default the newest unfinished one. accept_changes: as for ``run``."""
    job, options = resumed(db, run_id, settings, accept_changes=accept_changes)
    return blocking(lambda: execute(job, db, options, Stop(), None))


def retry(run_id: int | None = None, *, db: str | Path = DEFAULT_STORE, **settings: Any) -> Summary:
    """Give the failed items of a run, by default the newest, another chance."""
    job, options = retried(db, run_id, settings)
    return blocking(lambda: execute(job, db, options, Stop(), None))


def execute(
    job: Job, db: str | Path, options: SessionOptions, stop: Stop, observe: Observer | None
) -> Coroutine[Any, Any, Summary]:
    """Do what ``run``, ``resume`` and ``retry`` do, inside a running event loop."""
    return session.execute(job, Path(db).resolve(), options, stop, observe or _ignore)


def resumed(
    db: str | Path, run_id: int | None, settings: dict[str, Any], *, accept_changes: bool = False
) -> tuple[Job, SessionOptions]:
    """Prepare to go on with a run from what the store knows."""
    with StoreReader(Path(db).resolve()) as reading:
        if run_id is None:
            unfinished = [one for one in reading.runs() if one.finished_at is None]
            # one that another process works on is refused by its lock, which names that process
            unfinished = [one for one in unfinished if not one.active] or unfinished
            if not unfinished:
                raise UsageError(f"there is no unfinished run in {db}; `runner list` shows all")
            found = unfinished[-1]
        else:
            found = reading.run(run_id)
    return _restored(found, settings), SessionOptions(run_id=found.id, accept_changes=accept_changes)


def retried(db: str | Path, run_id: int | None, settings: dict[str, Any]) -> tuple[Job, SessionOptions]:
    """Prepare to give the failed items of a run another chance."""
    with StoreReader(Path(db).resolve()) as reading:
        found = reading.run(run_id)
    return _restored(found, settings), SessionOptions(run_id=found.id, retry_failed=True)


def describe(job: Job) -> Description:
    """Say what a job would do and where its settings came from, without needing a key."""
    job = settled_endpoint(job, os.environ)
    return Description(job=job, key_source=key_source(job, os.environ))


def check(file: str | Path, **settings: Any) -> Check:
    """Read everything, send nothing."""
    job = settled_endpoint(load_job(file, settings), os.environ)
    refusal = None
    try:
        find_endpoint(job, os.environ)
    except UsageError as error:
        refusal = str(error)
    with spool.for_a_while(job.input) if spool.flows(job.input) else nullcontext(job.input) as path:
        given = prepare.open_input(path)
        found = scan.scan(given)
        broken = prepare.broken_rows(given, prepare.template_of(job))
    return Check(
        job=job,
        key_source=key_source(job, os.environ),
        refusal=refusal,
        rows=found.rows,
        broken=broken.first,
        broken_rows=broken.number,
        duplicates=found.duplicates,
        duplicate_ids=found.doubled,
        identical=found.identical,
    )


def runs(*, db: str | Path = DEFAULT_STORE) -> list[Run]:
    """Give all runs of a store, oldest first."""
    with StoreReader(Path(db).resolve()) as reading:
        return reading.runs()


def status(run_id: int | None = None, *, db: str | Path = DEFAULT_STORE) -> tuple[Run, Totals]:
    """Give one run, by default the newest, with everything it sent."""
    with StoreReader(Path(db).resolve()) as reading:
        found = reading.run(run_id)
        return found, reading.books(found.id)


def errors(run_id: int | None = None, *, db: str | Path = DEFAULT_STORE) -> tuple[Run, list[ErrorGroup]]:
    """Give the failed items of a run by cause."""
    with StoreReader(Path(db).resolve()) as reading:
        found = reading.run(run_id)
        return found, reading.errors(found.id)


def results(run_id: int | None = None, *, db: str | Path = DEFAULT_STORE) -> Iterator[Result]:
    """Iterate over the settled rows of a run, by default the newest, in input order and in constant memory."""
    with StoreReader(Path(db).resolve()) as reading:
        yield from reading.results(reading.run(run_id).id)


def export(
    output: str | Path,
    *,
    run_id: int | None = None,
    db: str | Path = DEFAULT_STORE,
    format: str | None = None,  # noqa: A002 - the option's name
    raw: bool = False,
) -> int:
    """Write the settled rows of a run to a file and return how many; ``-`` is standard output.

    format: "csv", "jsonl" or the name of a plug-in, by default the file's ending. raw: leave CSV cells alone that a spreadsheet
    takes for formulas. Under its final name the file is complete or absent. Raises UsageError, StoreError.
    """
    kind = format or Path(output).suffix.lstrip(".").lower() or ("csv" if str(output) == "-" else "")
    module = plugins.load("exports", format) if format else plugins.registered("exports", kind)
    if module is None:
        known = " or ".join(plugins.known("exports"))
        raise UsageError(f"cannot tell the format of {output} by its ending; known are {known} (--format)")
    options = {"raw": True} if raw and kind == "csv" else {}
    write = cast("Exporter", module.write)
    with StoreReader(Path(db).resolve()) as reading, ExitStack() as stack:
        _refuse_own(output, reading)
        found = reading.run(run_id).id
        stack.enter_context(reading.snapshot())
        own = reading.metadata_names(found)
        with open_output(output) as out:
            return write(columns(own), records(reading.results(found), own), out, **options)


def _refuse_own(output: str | Path, reading: StoreReader) -> None:
    """Raise UsageError for an output that is the store, a file of it, or a prompt file: it would be lost."""
    target = Path(output).resolve()
    name = reading.path.name
    if target == reading.path or (target.parent == reading.path.parent and target.name.startswith(f"{name}-")):
        raise UsageError(f"{output} belongs to the store {reading.path}; name another file")
    for run in reading.runs():
        if target == Path(run.input) or (target.exists() and Path(run.input).exists() and target.samefile(run.input)):
            raise UsageError(f"{output} is the prompt file of run {run.id}; name another file")


def _restored(found: Run, settings: dict[str, Any]) -> Job:
    if not Path(found.input).is_file():
        raise UsageError(f"the prompt file of run {found.id}, {found.input}, is gone; put it back, or export what there is")
    return restore_job({**found.settings, "input": found.input}, settings)


def _ignore(event: Event) -> None:
    """Observe nothing."""
