"""Restores the job of a stored run, to continue it or to send its failed rows again."""

from pathlib import Path
from typing import Any

from runner import origin
from runner.config.job import Job, restore_job
from runner.errors import UsageError
from runner.inputs import spool
from runner.model import Run
from runner.session.called import number_of
from runner.session.naming import command, store_option
from runner.session.options import SessionOptions
from runner.store.reader import StoreReader


def resumed(
    db: str | Path, run_id: int | str | None, settings: dict[str, Any], *, accept_changes: bool = False
) -> tuple[Job, SessionOptions]:
    """Return the job and the options that continue a run, named by its number or its name."""
    number = number_of(run_id, db)
    with StoreReader(Path(db).resolve()) as reader:
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
    return _restored(run, settings), SessionOptions(run_id=run.id, accept_changes=accept_changes)


def retried(db: str | Path, run_id: int | str | None, settings: dict[str, Any]) -> tuple[Job, SessionOptions]:
    """Return the job and the options that send the failed rows of a run again, named as in ``resumed``."""
    number = number_of(run_id, db)
    with StoreReader(Path(db).resolve()) as reader:
        run = reader.run(number, counted=False)
        _refuse_missing(run, reader)
    return _restored(run, settings), SessionOptions(run_id=run.id, retry_failed=True)


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
