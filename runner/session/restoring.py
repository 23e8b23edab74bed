"""Restores the job of a stored run, to continue it or to send its failed rows again."""

from pathlib import Path
from typing import Any

from msgspec import structs

from runner import origin
from runner.config.job import Job, restore_job
from runner.config.settings import BY_NAME
from runner.errors import UsageError
from runner.inputs import spool
from runner.model import Run
from runner.session import continuing, only, refusing
from runner.session import ids as found_ids
from runner.session.again import KEPT
from runner.session.called import number_of
from runner.session.naming import command, store_option
from runner.session.options import FAILED, Asked, Choice, SessionOptions
from runner.store.reader import StoreReader
from runner.store.retrying import open_retry
from runner.text import plural


def resumed(
    db: str | Path, run_id: int | str | None, settings: dict[str, Any], *, accept_changes: bool = False
) -> tuple[Job, SessionOptions]:
    """Return the job and the options that continue a run, named by its number or its name."""
    number = number_of(run_id, db)
    with StoreReader(Path(db).resolve()) as reader, reader.snapshot():
        if number is None:
            unfinished = [run for run in reader.runs(counted=False) if run.finished_at is None and not spool.is_asked(run.input)]
            # if every unfinished run is active, take one all the same: its lock refuses it and names the other process
            unfinished = [run for run in unfinished if not run.active] or unfinished
            if not unfinished:
                raise UsageError(f"there is no unfinished run in {db}; `runner list{store_option(db)}` shows all runs")
            run = unfinished[-1]
        else:
            run = reader.run(number, counted=False)
        _refuse_missing(run, reader)
        retry = open_retry(reader.fetch, run.id)
    if retry is None:
        return _restored(run, settings), SessionOptions(run_id=run.id, accept_changes=accept_changes)
    if accept_changes:
        first = f"`{command('resume', run.id, db)}`"
        left = f"run {run.id} has {plural(retry.pending, 'row')} that a retry is still to ask again"
        raise UsageError(f"{left}: {first} does that first, and the same command again then sends the changed rows")
    # what belongs to the run may have changed since
    own = {name: value for name, value in retry.settings.items() if name in BY_NAME and name not in KEPT}
    run = structs.replace(run, settings={**run.settings, **own})
    job = _restored(run, settings)
    refusing.other_retry(job, db, run, retry.pending)
    narrowed = continuing.chooses_otherwise(job, run.settings)
    return job, SessionOptions(run_id=run.id, retry_failed=True, narrowed=narrowed)


def retried(
    db: str | Path, run_id: int | str | None, settings: dict[str, Any], asked: Asked = FAILED
) -> tuple[Job, SessionOptions]:
    """Return the job and the options that send rows of a run again that have an outcome. asked: which of them.

    Raises UsageError, also for a name or an id that means nothing.
    """
    number = number_of(run_id, db)
    file, given = (asked.ids, found_ids.read(str(asked.ids))) if isinstance(asked.ids, Path) else (None, asked.ids)
    with StoreReader(Path(db).resolve()) as reader:
        run = reader.run(number, counted=False)
        _refuse_missing(run, reader)
        keys = None if given is None else found_ids.found(given, reader.path, run, file)
        choice = Choice(classes=asked.classes, ids=keys, all_rows=asked.all_rows)
        only.again(choice, reader, run)
    return _restored(run, settings), SessionOptions(run_id=run.id, retry_failed=True, choice=choice)


def _refuse_missing(run: Run, reader: StoreReader) -> None:
    """Raise UsageError if the input of a run is gone."""
    if spool.is_asked(run.input):
        again = "the program asks again what has no answer, when it runs again"
        raise UsageError(f"run {run.id} is {spool.full_name(run.input)}, and there is no file of its prompts; {again}")
    number = origin.run_of(run.input)
    if number is not None and all(other.id != number for other in reader.runs(counted=False)):
        export = command("export", run.id, reader.path, "-o", "answers.csv")
        raise UsageError(
            f"run {run.id} reads the answers of run {number}, which was deleted; `{export}` writes its results so far"
        )
    if not origin.is_several(run.input) and not origin.exists(run.input):
        ways = "put it back, run the file where it is now with the same settings, or export the results so far"
        raise UsageError(f"the prompt file of run {run.id}, {run.input}, is missing; {ways}")


def _restored(run: Run, settings: dict[str, Any]) -> Job:
    return restore_job({**run.settings, "input": run.input}, settings)
