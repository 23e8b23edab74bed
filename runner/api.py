"""The public Python API, which the command line also uses: run, resume, retry, check, export, results."""

from collections.abc import Awaitable, Iterable, Sequence
from contextlib import AbstractContextManager
from operator import index
from pathlib import Path
from typing import Any, TypeVar, Unpack, cast, overload

from msgspec import structs

from runner.config.job import Job
from runner.config.keywords import EstimateSettings, ResumeSettings, RetrySettings, RunSettings
from runner.config.trust import allowed
from runner.engine.listening import Hear
from runner.engine.stop import Stop
from runner.event_types import Summary
from runner.interfaces import Observer
from runner.model import Run
from runner.progress.watching import watched
from runner.session import arguments, exporting, faster, session, spelling
from runner.session.called import name, number_of, numbers_of, tag
from runner.session.checking import Check, Description, check, check_job, describe
from runner.session.deleting import deletable, delete, dependent, erase
from runner.session.dry_run import dry_run
from runner.session.estimating import Estimate, estimate_job, refuse_stopped, unsent
from runner.session.expecting import Confirm
from runner.session.exporting import ExportFlags
from runner.session.mending import Found, found
from runner.session.naming import DEFAULT_STORE, store_path
from runner.session.options import SessionOptions
from runner.session.restoring import resumed, retried
from runner.session.results import Results, RunSummary, results_of, with_results
from runner.session.sources import Source, job_of, spooled
from runner.session.stopping import StopHandle, interruptible, stoppable
from runner.session.vacuuming import vacuum
from runner.store.reader import StoreReader
from runner.store.totals import Totals

__all__ = [
    "DEFAULT_STORE", "Check", "Description", "check", "check_job", "deletable", "delete", "dependent", "describe", "dry_run",
    "erase", "errors", "estimate", "estimate_job", "execute", "export", "name", "report", "results", "resume", "resumed",
    "retried", "retry", "run", "runs", "spooled", "status", "tag", "vacuum",
]  # fmt: skip

T = TypeVar("T")


def run(
    source: Source,
    *,
    db: str | Path = DEFAULT_STORE,
    limit: int | None = None,
    new: bool = False,
    accept_changes: bool = False,
    stop: StopHandle | str | Sequence[str] | None = None,
    observe: Observer | None = None,
    **settings: Unpack[RunSettings],
) -> RunSummary:
    """Run a source of prompts to its end, and continue its run if there is one.

    source: a prompt file, a job file, standard input (``-``) or a named pipe; a pattern (``"data/*.csv"``) or a list of paths, as
    one input; ``"run:12"``, the answered rows of run 12 of the same store; or rows in memory: a list or an iterator of texts
    and dicts, a DataFrame or another table (``session.sources``).
    settings: any setting of a job by its last name (``model=...``, ``concurrency=...``). limit: use only the first so many rows.
    new: start a new run in any case. accept_changes: send rows again whose prompt has changed since they were answered.
    Among them may also be ``strict=True``: refuse to start if a row is broken, ``trust=True``: allow what only the job file asks
    for, secrets to a server and code, and ``progress``: show it or not, by default in a terminal and in a notebook.
    stop: a handle that stops the run from another thread; texts are the setting ``stop``, at which an answer ends. Ctrl-C in the
    main thread stops the run as it stops the command: open requests may finish for up to 30 s, a second one drops them; then
    KeyboardInterrupt is raised.
    Raises UsageError, StoreError, RunStoppedError. Calling it again is safe: no finished row is sent twice.
    """
    given: dict[str, Any] = {**settings}
    handle = arguments.handle(stop, given)
    progress = given.pop("progress", None)
    arguments.warn_of_variables()
    with interruptible():
        options, trust = arguments.of_run(given, db, limit, new=new, accept_changes=accept_changes)
        arguments.check(observe=observe, progress=progress)
        with job_of(source, given, db, trust=trust, limit=options.limit) as job:
            return _watched(job, db, options, handle, observe, progress)


def resume(
    run_id: int | str | None = None,
    *,
    db: str | Path = DEFAULT_STORE,
    accept_changes: bool = False,
    trust: bool = False,
    stop: StopHandle | str | Sequence[str] | None = None,
    observe: Observer | None = None,
    progress: bool | None = None,
    **settings: Unpack[ResumeSettings],
) -> RunSummary:
    """Continue a run, by default the newest unfinished one. The other arguments, Ctrl-C and the errors: as for ``run``.

    settings: ``base_url`` and ``api_key_env`` stay with the run. Those that change answers are taken while no row is answered.
    """
    given: dict[str, Any] = {**settings}
    handle = arguments.handle(stop, given)
    arguments.warn_of_variables()
    with interruptible():
        arguments.check(run_id=run_id, db=db, accept_changes=accept_changes, trust=trust, observe=observe, progress=progress)
        detach = arguments.detached(given)
        job, options = detach(resumed(db, run_id, given, accept_changes=accept_changes))
        return _watched(allowed(job, trust), db, options, handle, observe, progress)


def retry(
    run_id: int | str | None = None,
    *,
    classes: str | Sequence[str] | None = None,
    ids: Iterable[str | int] | Path | None = None,
    db: str | Path = DEFAULT_STORE,
    stop: StopHandle | str | Sequence[str] | None = None,
    observe: Observer | None = None,
    **settings: Unpack[RetrySettings],
) -> RunSummary:
    """Send rows of a run again, by default the failed ones of the newest run, and no others. The other arguments: as for ``run``.

    classes: names for rows, as ``only`` of ``export`` takes them: error codes, "timeout", "length", ... ids: of rows, done or
    failed, or the path of a file of them. all_rows: done rows too. The setting ``where`` chooses among the rows that these name.
    A row keeps its old answer until it has a new one; the old one stays in the history (``runner show``).
    settings: ``base_url`` and ``api_key_env`` stay with the run. Those that change answers hold for the rows that are sent.
    """
    given: dict[str, Any] = {**settings}
    handle = arguments.handle(stop, given)
    progress, trust, all_rows = given.pop("progress", None), given.pop("trust", False), given.pop("all_rows", False)
    arguments.warn_of_variables()
    with interruptible():
        arguments.check(run_id=run_id, db=db, trust=trust, observe=observe, progress=progress)
        detach = arguments.detached(given)
        job, options = detach(retried(db, run_id, given, arguments.of_retry(classes, ids, all_rows=all_rows)))
        return _watched(allowed(job, trust), db, options, handle, observe, progress)


def estimate(
    source: Source,
    *,
    sample: int = 0,
    db: str | Path = DEFAULT_STORE,
    limit: int | None = None,
    new: bool = False,
    observe: Observer | None = None,
    **settings: Unpack[EstimateSettings],
) -> Estimate:
    """Return what a run of a source will take: tokens, cost and time, each as an interval. The arguments are those of ``run``.

    sample: so many rows, 10 or more, are really sent, and kept as rows of the run; with 0, nothing is sent and no key is needed.
    The setting ``sample`` of a run, a random part of its rows, is taken from the job file or the environment.
    Raises UsageError, StoreError, and RunStoppedError if the sample was stopped; the same call goes on with it.
    """
    given: dict[str, Any] = {**settings}
    progress = given.pop("progress", None)
    arguments.warn_of_variables()
    with interruptible():
        options, trust = arguments.of_run(given, db, limit, new=new, accept_changes=False, labelled=False)
        arguments.check(sample=sample, observe=observe, progress=progress)
        if not sample:
            with unsent(source, given, trust=trust) as job:
                return estimate_job(job, db, options)
        options = structs.replace(options, sample=index(sample))
        with job_of(source, given, db, trust=trust, limit=options.limit) as job:
            refuse_stopped(_watched(job, db, options, None, observe, progress))
            return estimate_job(job, db, structs.replace(options, new=False))


def _watched(
    job: Job, db: str | Path, options: SessionOptions, handle: StopHandle | None, observe: Observer | None, progress: bool | None
) -> RunSummary:
    """Run a session to its end from synchronous code, and show it to a person who looks."""
    # the program may change its folder meanwhile
    store = store_path(db)
    with watched(progress, observe) as observer:
        summary = stoppable(lambda wanted: execute(job, store, options, wanted, observer), handle)
    return with_results(summary, store)


def execute(
    job: Job,
    db: str | Path,
    options: SessionOptions,
    stop: Stop,
    observe: Observer | None,
    hear: Hear | None = None,
    confirm: Confirm | None = None,
) -> Awaitable[Summary]:
    """Do what ``run``, ``resume`` and ``retry`` do, inside a running event loop. hear: receives the pieces of answers.

    confirm: is told what the session will cost, as ``session.execute`` says.
    """
    return session.execute(job, store_path(db), options, stop, arguments.observer(observe), hear, confirm=confirm)


def runs(*, db: str | Path = DEFAULT_STORE) -> list[Run]:
    """Return all runs of a store, oldest first."""
    arguments.check(db=db)
    with StoreReader(store_path(db)) as reader:
        return [spelling.told(run, db) for run in reader.runs()]


def status(run_id: int | str | None = None, *, db: str | Path = DEFAULT_STORE) -> tuple[Run, Totals]:
    """Return a run, by default the newest, with the totals of everything that it sent."""
    number = number_of(run_id, db)
    with StoreReader(store_path(db)) as reader, reader.snapshot():
        run = reader.run(number)
        books = reader.totals(run.id)
        return spelling.told(run, db), structs.replace(books, time=faster.with_advice(books.time))


def errors(run_id: int | str | None = None, *, db: str | Path = DEFAULT_STORE) -> AbstractContextManager[Found]:
    """Return a context with what went wrong in a run, by default the newest, by cause. Raises UsageError, StoreError."""
    return found(number_of(run_id, db), str(db))


def results(run_id: int | str | None = None, *, db: str | Path = DEFAULT_STORE) -> Results:
    """Return the finished rows of a run, by default the newest: to iterate over, in constant memory, or as a table.

    Raises UsageError and StoreError at the call, not when the first row is asked for.
    """
    number = number_of(run_id, db)
    return results_of(store_path(db), number)


@overload
def export(
    output: str | Path,
    *,
    run_id: int | str | None = None,
    db: str | Path = DEFAULT_STORE,
    format: str | None = None,
    notes: list[str] | None = None,
    **flags: Unpack[ExportFlags],
) -> int: ...


@overload
def export(
    output: list[str] | list[Path] | tuple[str | Path, ...],
    *,
    run_id: int | str | None = None,
    db: str | Path = DEFAULT_STORE,
    format: Sequence[str | None] | None = None,
    notes: list[str] | None = None,
    **flags: Unpack[ExportFlags],
) -> list[int]: ...


def export(
    output: str | Path | list[str] | list[Path] | tuple[str | Path, ...],
    *,
    run_id: int | str | None = None,
    db: str | Path = DEFAULT_STORE,
    format: str | Sequence[str | None] | None = None,  # noqa: A002 - the option's name
    notes: list[str] | None = None,
    **flags: Unpack[ExportFlags],
) -> int | list[int]:
    """Write the finished rows of a run, done or failed, to a file and return their number; ``-`` is standard output.

    output: may also be a list of files, which all hold the same state of the run; the numbers are returned in a list then.
    format: "csv", "jsonl", "parquet", "xlsx", "sqlite", "md", "messages", "openai-batch" or the name of a plug-in, for a list of
    files a list; by default the file's ending. notes: receives a sentence for each kind of change that was made to texts, and
    for rows that a format leaves out. flags: see ``ExportFlags``. A file appears under its final name only when it is complete.
    Raises UsageError, StoreError.
    """
    if unknown := flags.keys() - ExportFlags.__annotations__.keys():
        raise TypeError(f"export() got an unexpected keyword argument {min(unknown)!r}")
    arguments.check(notes=notes, **flags)
    number = number_of(run_id, db)
    if not isinstance(output, list | tuple):
        arguments.check(output=output, format=format)
        return exporting.write([(output, cast("str | None", format))], store_path(db), number, flags, notes)[0]
    arguments.check_outputs(output, format)
    formats = [None] * len(output) if format is None else format
    return exporting.write(list(zip(output, formats, strict=True)), store_path(db), number, flags, notes)


def report(output: str | Path = "report.html", *, run_ids: Sequence[int | str] = (), db: str | Path = DEFAULT_STORE) -> list[int]:
    """Write one HTML page about a run, by default the newest, or about up to four side by side; return their numbers.

    run_ids: their numbers or their names. The page loads nothing, and holds no keys. ``-`` is standard output. Raises UsageError,
    StoreError.
    """
    # imported here: its modules are many, and no other command needs them
    from runner.session import reporting

    arguments.check(output=output)
    return reporting.write(output, store_path(db), numbers_of(run_ids, db))
