"""Deletes runs from a store, with everything that belongs to them."""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import sqlalchemy as sa

from runner import origin
from runner.batches import SENT_STATES
from runner.errors import RunLockedError, UsageError
from runner.store import database
from runner.store.batch_reading import read_batches
from runner.store.changes import entries
from runner.store.lock import RunLock
from runner.store.schema import (
    attempts,
    batch_rows,
    batches,
    history,
    items,
    labels,
    prices,
    reasks,
    replaced,
    reservations,
    retried,
    retries,
    reused,
    runs,
    samples,
    sessions,
    steered,
    variants,
)
from runner.text import plural, shell_word

_OF_RUNS = (
    items,
    attempts,
    variants,
    reused,
    prices,
    reservations,
    samples,
    retried,
    retries,
    replaced,
    sessions,
    steered,
    labels,
    batch_rows,
    batches,
    reasks,
)
"""The tables whose rows go with their run."""


def delete(store: Path, run_ids: Sequence[int]) -> list[str]:
    """Delete runs in one transaction, and then their lock files. Return the names of their inputs that no other run has.

    Names and not paths: the store may be a copy, and a path in it leads to what belongs to the original.
    Raises UsageError if a run does not exist or has open batches at a provider, RunLockedError if a process is working on one.
    Then all of them are kept.
    """
    numbers = sorted(set(run_ids))
    with ExitStack() as held:
        locks = []
        for run_id in numbers:
            _refuse_missing(store, run_id)
            locks.append(_locked(store, run_id))
            held.callback(locks[-1].release)
            refuse_open_batches(store, run_id)
        with database.transaction(store, write=True) as connection:
            of_these = runs.c.id.in_(numbers)
            # also those that a run had before: standard input that was saved to a file later
            before = sa.select(history.c.old).where(history.c.run_id.in_(numbers), history.c.what == "input")
            queries = (sa.select(runs.c.input).where(of_these), before)
            inputs = {name for query in queries for path in connection.execute(query).scalars() for name in _file_names(path)}
            for table in _OF_RUNS:
                connection.execute(sa.delete(table).where(table.c.run_id.in_(numbers)))
            connection.execute(sa.delete(runs).where(of_these))
            # the numbers are not used again
            for run_id in numbers:
                connection.execute(sa.insert(history).values(**entries(run_id, [("deleted", None, None)])[0]))
            needed = {name for path in connection.execute(sa.select(runs.c.input)).scalars() for name in _file_names(path)}
        for lock in locks:
            lock.remove()
    return sorted(inputs - needed)


def _file_names(source: str | None) -> list[str]:
    return [Path(name).name for name in origin.names_of(source)] if source is not None else []


def _refuse_missing(store: Path, run_id: int) -> None:
    with database.transaction(store, write=False) as connection:
        # compared here: SQLite refuses a number of more than 64 bits
        if run_id not in connection.execute(sa.select(runs.c.id)).scalars().all():
            raise UsageError(f"there is no run {run_id} in {store}; `runner list` shows the runs. Nothing was deleted")


def refuse_open_batches(store: Path, run_id: int, db: str | None = None) -> None:
    """Raise UsageError if rows of a run wait at a provider: they are perhaps paid for, and only the store knows of which rows.

    db: the option that names the store in the commands that are advised, with a space before it; None: with its path.
    """
    with database.transaction(store, write=False) as connection:
        found = read_batches(lambda statement: list(connection.execute(statement)), run_id)
    if sent := [batch for batch in found if batch.state in SENT_STATES and batch.waiting + batch.released]:
        rows = sum(batch.waiting + batch.released for batch in sent)
        at = f" --db {shell_word(str(store))}" if db is None else db
        its, names = "a batch" if len(sent) == 1 else f"{len(sent)} batches", " ".join(f"b{batch.id}" for batch in sent)
        raise UsageError(
            f"{plural(rows, 'row')} of run {run_id} wait{'s' * (rows == 1)} in {its} at the provider, and may be billed: "
            f"`runner resume {run_id}{at}` fetches them, `runner batches cancel {names}{at}` and then a resume cancels them, and "
            f"`runner batches forget {names} --yes{at}` gives them up. Nothing was deleted"
        )


def _locked(store: Path, run_id: int) -> RunLock:
    lock = RunLock(store, run_id)
    # `runner status` takes the lock for an instant to see whether it is held
    if not lock.acquire(timeout_s=1.0):
        raise RunLockedError(f"run {run_id} of {store} is in use by another process; stop it first. Nothing was deleted")
    return lock
