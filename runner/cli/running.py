"""The run that a command about a running session is about."""

from pathlib import Path

from runner.cli import chosen
from runner.errors import UsageError
from runner.store.reader import StoreReader


def running(named: int | str | None, db: str) -> int:
    """Return the number of the run that was named; by default the one that runs, and if none does, the newest.

    Raises UsageError if several run, or if there is no such run.
    """
    number = chosen.run_number(named, db)
    with StoreReader(Path(db).resolve()) as reader:
        if number is not None:
            return reader.run(number, counted=False).id
        active = [run.id for run in reader.runs(counted=False) if run.active]
        if len(active) > 1:
            raise UsageError(f"several runs are running: {', '.join(map(str, active))}; name one by its number")
        return active[0] if active else reader.run(counted=False).id
