"""Deletes runs with all that is theirs: rows, attempts, lock files, copies of their input."""

import warnings
from collections.abc import Sequence
from operator import index
from pathlib import Path

from runner import origin
from runner.errors import RunLockedError
from runner.inputs import spool
from runner.model import Run
from runner.session import arguments, vacuuming
from runner.session.called import numbers_of
from runner.session.naming import DEFAULT_STORE, store_option
from runner.session.vacuuming import Vacuumed
from runner.store import database, deletion
from runner.store.reader import StoreReader


def deletable(run_ids: Sequence[int | str], *, db: str | Path = DEFAULT_STORE) -> list[Run]:
    """Return the runs with these numbers and names.

    Raises UsageError if one does not exist or has rows that wait at a provider, RunLockedError if one is being worked on.
    """
    numbers = sorted(set(map(index, numbers_of(run_ids, db))))
    with StoreReader(Path(db).resolve()) as reader:
        found = [reader.run(number) for number in numbers]
    for run in found:
        if run.active:
            raise RunLockedError(f"run {run.id} is being worked on by another process; stop it first. Nothing was deleted")
        deletion.refuse_open_batches(Path(db).resolve(), run.id, store_option(db))
    return found


def dependent(run_ids: Sequence[int], *, db: str | Path = DEFAULT_STORE) -> list[str]:
    """Say which runs read the answers of those that are to be deleted, one sentence each."""
    numbers = set(map(index, run_ids))
    with StoreReader(Path(db).resolve()) as reader:
        reading = [(run.id, origin.run_of(run.input)) for run in reader.runs() if run.id not in numbers]
    return [
        f"run {run_id} reads the answers of run {number}: without them it cannot be continued; its results stay"
        for run_id, number in reading
        if number in numbers
    ]


def delete(run_ids: Sequence[int | str], *, db: str | Path = DEFAULT_STORE, vacuum: bool = False) -> None:
    """Delete runs with all their rows and attempts, their lock files, and the copies of inputs that only they read.

    run_ids: their numbers, or their names. vacuum: give the space back to the disk, which writes the whole store anew. Raises
    UsageError if a run does not exist, RunLockedError if a process is working on one (with ``vacuum``: on any of the store);
    then nothing is deleted. Prompt files are left alone. Warns (UserWarning) of each run that reads the answers of a deleted one;
    where warnings are errors, it raises that and deletes nothing.
    """
    numbers = [run.id for run in deletable(run_ids, db=db)]
    for sentence in dependent(numbers, db=db):
        warnings.warn(sentence, stacklevel=2)
    erase(numbers, db=db, vacuum=vacuum)


def erase(run_ids: Sequence[int], *, db: str | Path = DEFAULT_STORE, vacuum: bool = False) -> Vacuumed | None:
    """Do what ``delete`` does, and say nothing of other runs. Return what ``vacuum`` gave back."""
    arguments.check(run_ids=run_ids, db=db, vacuum=vacuum)
    store = Path(db).resolve()
    database.prepare(store, create=False)
    if vacuum:
        # before anything is deleted
        vacuuming.refuse(store, besides=run_ids, kept="Nothing was deleted")
    for name in deletion.delete(store, [index(number) for number in run_ids]):
        if (copy := spool.copy_of(store, name)) is not None:
            copy.unlink(missing_ok=True)
    return vacuuming.given_back(store, done="the runs are deleted, but ") if vacuum else None
