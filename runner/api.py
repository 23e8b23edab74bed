"""The public Python API, which the command line also uses: run, resume, retry, check, export, results."""

from collections.abc import Awaitable, Iterator, Sequence
from contextlib import contextmanager
from operator import index
from pathlib import Path
from typing import Any, TypeVar, Unpack

from msgspec import structs

from runner.config.job import Job, load_job, restore_job
from runner.config.trust import allowed
from runner.engine.stop import Stop
from runner.errors import RunLockedError, UsageError
from runner.events import Summary
from runner.inputs import spool
from runner.inputs.prompts import asked
from runner.interfaces import Observer
from runner.model import Result, Run
from runner.session import arguments, exporting, session
from runner.session.checking import Check, Description, check, describe
from runner.session.dry_run import dry_run
from runner.session.exporting import ExportFlags
from runner.session.naming import store_option
from runner.session.opening import rooted, texts_in
from runner.session.options import SessionOptions
from runner.session.stopping import StopHandle, interruptible, stoppable
from runner.store import database, deletion
from runner.store.reader import ErrorGroup, StoreReader
from runner.store.runs import may_need
from runner.store.totals import Totals

__all__ = [
    "DEFAULT_STORE",
    "Check",
    "Description",
    "check",
    "deletable",
    "delete",
    "describe",
    "dry_run",
    "errors",
    "execute",
    "export",
    "results",
    "resume",
    "resumed",
    "retried",
    "retry",
    "run",
    "runs",
    "spooled",
    "status",
]  # fmt: skip

DEFAULT_STORE = "runner.db"

T = TypeVar("T")


def run(
    file: str | Path,
    *,
    db: str | Path = DEFAULT_STORE,
    limit: int | None = None,
    new: bool = False,
    accept_changes: bool = False,
    stop: StopHandle | str | Sequence[str] | None = None,
    observe: Observer | None = None,
    **settings: Any,
) -> Summary:
    """Run a prompt file, a job file, standard input (``-``) or a named pipe to its end; continue its run if there is one.

    settings: any setting of a job by its last name (``model=...``, ``concurrency=...``). limit: use only the first so many rows.
    new: start a new run in any case. accept_changes: send rows again whose prompt has changed since they were answered.
    Among them may also be ``strict=True``: refuse to start if a row is broken, and ``trust=True``: allow what only the job file
    asks for, secrets to a server and code.
    stop: a handle that stops the run from another thread; texts are the setting ``stop``, at which an answer ends. Ctrl-C in the
    main thread stops the run as it stops the command: open requests may finish for up to 30 s, a second one drops them; then
    KeyboardInterrupt is raised.
    Raises UsageError, StoreError, RunStoppedError. Calling it again is safe: no finished row is sent twice.
    """
    handle = arguments.handle(stop, settings)
    strict, trust = settings.pop("strict", False), settings.pop("trust", False)
    arguments.warn_of_variables()
    with interruptible():
        flags = {"new": new, "accept_changes": accept_changes, "strict": strict, "trust": trust}
        arguments.check(file=file, db=db, limit=limit, observe=observe, **flags)
        number = None if limit is None else index(limit)
        options = SessionOptions(limit=number, new=new, accept_changes=accept_changes, strict=strict)
        with spooled(allowed(load_job(file, settings), trust), db) as job:
            return stoppable(lambda wanted: execute(job, db, options, wanted, observe), handle)


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
        yield structs.replace(rooted(job), input=path)


def resume(
    run_id: int | None = None,
    *,
    db: str | Path = DEFAULT_STORE,
    accept_changes: bool = False,
    trust: bool = False,
    stop: StopHandle | str | Sequence[str] | None = None,
    observe: Observer | None = None,
    **settings: Any,
) -> Summary:
    """Continue a run, by default the newest unfinished one. The other arguments, Ctrl-C and the errors: as for ``run``.

    settings: ``base_url`` and ``api_key_env`` stay with the run. Those that change answers are taken while no row is answered.
    """
    handle = arguments.handle(stop, settings)
    arguments.warn_of_variables()
    with interruptible():
        arguments.check(run_id=run_id, db=db, accept_changes=accept_changes, trust=trust, observe=observe)
        job, options = resumed(db, run_id, settings, accept_changes=accept_changes)
        return stoppable(lambda wanted: execute(allowed(job, trust), db, options, wanted, observe), handle)


def retry(
    run_id: int | None = None,
    *,
    db: str | Path = DEFAULT_STORE,
    trust: bool = False,
    stop: StopHandle | str | Sequence[str] | None = None,
    observe: Observer | None = None,
    **settings: Any,
) -> Summary:
    """Send the failed rows of a run again, by default of the newest one, and no other rows. The other arguments: as for ``run``.

    settings: ``base_url`` and ``api_key_env`` stay with the run. Those that change answers hold for the rows that are sent.
    """
    handle = arguments.handle(stop, settings)
    arguments.warn_of_variables()
    with interruptible():
        arguments.check(run_id=run_id, db=db, trust=trust, observe=observe)
        job, options = retried(db, run_id, settings)
        return stoppable(lambda wanted: execute(allowed(job, trust), db, options, wanted, observe), handle)


def execute(job: Job, db: str | Path, options: SessionOptions, stop: Stop, observe: Observer | None) -> Awaitable[Summary]:
    """Do what ``run``, ``resume`` and ``retry`` do, inside a running event loop."""
    return session.execute(job, Path(db).resolve(), options, stop, arguments.observer(observe))


def resumed(
    db: str | Path, run_id: int | None, settings: dict[str, Any], *, accept_changes: bool = False
) -> tuple[Job, SessionOptions]:
    """Return the job and the options that continue a run."""
    with StoreReader(Path(db).resolve()) as reader:
        if run_id is None:
            unfinished = [run for run in reader.runs(counted=False) if run.finished_at is None]
            # if every unfinished run is active, take one all the same: its lock refuses it and names the other process
            unfinished = [run for run in unfinished if not run.active] or unfinished
            if not unfinished:
                raise UsageError(f"there is no unfinished run in {db}; `runner list{store_option(db)}` shows all runs")
            run = unfinished[-1]
        else:
            run = reader.run(run_id, counted=False)
    return _restored(run, settings), SessionOptions(run_id=run.id, accept_changes=accept_changes)


def retried(db: str | Path, run_id: int | None, settings: dict[str, Any]) -> tuple[Job, SessionOptions]:
    """Return the job and the options that send the failed rows of a run again."""
    with StoreReader(Path(db).resolve()) as reader:
        run = reader.run(run_id, counted=False)
    return _restored(run, settings), SessionOptions(run_id=run.id, retry_failed=True)


def runs(*, db: str | Path = DEFAULT_STORE) -> list[Run]:
    """Return all runs of a store, oldest first."""
    arguments.check(db=db)
    with StoreReader(Path(db).resolve()) as reader:
        return reader.runs()


def status(run_id: int | None = None, *, db: str | Path = DEFAULT_STORE) -> tuple[Run, Totals]:
    """Return a run, by default the newest, with the totals of everything that it sent."""
    arguments.check(run_id=run_id, db=db)
    with StoreReader(Path(db).resolve()) as reader:
        run = reader.run(run_id)
        return run, reader.totals(run.id)


def errors(run_id: int | None = None, *, db: str | Path = DEFAULT_STORE) -> tuple[Run, list[ErrorGroup]]:
    """Return a run, by default the newest, with its failed rows by cause."""
    arguments.check(run_id=run_id, db=db)
    with StoreReader(Path(db).resolve()) as reader:
        run = reader.run(run_id)
        return run, reader.errors(run.id)


def results(run_id: int | None = None, *, db: str | Path = DEFAULT_STORE) -> Iterator[Result]:
    """Iterate over the finished rows of a run, by default the newest, in input order and in constant memory.

    Raises UsageError and StoreError at the call, not when the first row is asked for.
    """
    arguments.check(run_id=run_id, db=db)
    store = Path(db).resolve()
    with StoreReader(store) as reader:
        found = reader.run(run_id, counted=False)
    return _results(store, found)


def _results(store: Path, run: Run) -> Iterator[Result]:
    texts = texts_in(run.settings)
    with StoreReader(store) as reader:
        yield from reader.results(run.id, lambda fields: asked(fields, texts))


def export(
    output: str | Path,
    *,
    run_id: int | None = None,
    db: str | Path = DEFAULT_STORE,
    format: str | None = None,  # noqa: A002 - the option's name
    notes: list[str] | None = None,
    **flags: Unpack[ExportFlags],
) -> int:
    """Write the finished rows of a run, done or failed, to a file and return their number; ``-`` is standard output.

    format: "csv", "jsonl" or the name of a plug-in; by default the file's ending. notes: receives a sentence for each kind of
    change that was made to CSV cells. flags: see ``ExportFlags``. A file appears under its final name only when it is complete.
    Raises UsageError, StoreError.
    """
    if unknown := flags.keys() - ExportFlags.__annotations__.keys():
        raise TypeError(f"export() got an unexpected keyword argument {min(unknown)!r}")
    arguments.check(output=output, run_id=run_id, db=db, format=format, notes=notes, **flags)
    return exporting.write(output, Path(db).resolve(), run_id, format, flags, notes)


def deletable(run_ids: Sequence[int], *, db: str | Path = DEFAULT_STORE) -> list[Run]:
    """Return the runs with these numbers. Raises UsageError if one does not exist, RunLockedError if one is being worked on."""
    arguments.check(run_ids=run_ids, db=db)
    with StoreReader(Path(db).resolve()) as reader:
        found = [reader.run(run_id) for run_id in sorted(set(run_ids))]
    for run in found:
        if run.active:
            raise RunLockedError(f"run {run.id} is being worked on by another process; stop it first. Nothing was deleted")
    return found


def delete(run_ids: Sequence[int], *, db: str | Path = DEFAULT_STORE, vacuum: bool = False) -> None:
    """Delete runs with all their rows and attempts, their lock files, and the copies of standard input that only they read.

    vacuum: give the space back to the disk, which rewrites the whole store. Raises UsageError if a run does not exist,
    RunLockedError if a process is working on one; then nothing is deleted. Prompt files are left alone.
    """
    arguments.check(run_ids=run_ids, db=db, vacuum=vacuum)
    store = Path(db).resolve()
    database.prepare(store, create=False)
    for name in deletion.delete(store, [index(number) for number in run_ids]):
        if (copy := spool.copy_of(store, name)) is not None:
            copy.unlink(missing_ok=True)
    if vacuum:
        deletion.vacuum(store)


def _restored(run: Run, settings: dict[str, Any]) -> Job:
    if not Path(run.input).is_file():
        ways = "put it back, run the file where it is now with the same settings, or export the results so far"
        raise UsageError(f"the prompt file of run {run.id}, {run.input}, is missing; {ways}")
    return restore_job({**run.settings, "input": run.input}, settings)
