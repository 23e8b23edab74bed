"""Runs by what they are called: finds them by number or name, gives them names and tags."""

from collections.abc import Sequence
from operator import index
from pathlib import Path

from runner.errors import UsageError
from runner.labels import checked_name, checked_tags, merged
from runner.model import Run
from runner.session import arguments
from runner.session.naming import DEFAULT_STORE
from runner.session.options import SessionOptions
from runner.store import database, labelling
from runner.store.reader import StoreReader
from runner.text import nearest


def number_of(run: int | str | None, db: str | Path) -> int | None:
    """Return the number of a run that is named by its number or its name; None stands for the default.

    Raises UsageError if no run of the store has the name.
    """
    arguments.check(run_id=run, db=db)
    if not isinstance(run, str):
        return run
    names = labelling.names_in(Path(db).resolve())
    number = labelling.number_of(Path(db).resolve(), run) if names else None
    if number is None:
        # without a store, that is what is to be said
        database.prepare(Path(db).resolve(), create=False)
        close = nearest(run, names)
        meant = f"; did you mean {close!r}?" if close else ""
        raise UsageError(f"no run of {db} has the name {run!r}{meant or '; `runner list` shows the runs'}")
    return number


def numbers_of(runs: Sequence[int | str], db: str | Path) -> list[int]:
    """Return the numbers of runs that are named by their numbers or their names. Raises UsageError as ``number_of``."""
    arguments.check(run_ids=runs, db=db)
    return [number for run in runs if (number := number_of(run, db)) is not None]


def name(run: int | str | None, name: str | None, *, db: str | Path = DEFAULT_STORE) -> Run:
    """Give a run a name, by which every command finds it then, and return the run. None takes its name away.

    run: its number or its name; None: the newest. Raises UsageError for what is no name and for one that another run has.
    """
    number = _existing(run, db)
    arguments.check(called=name)
    wanted = checked_name(name) if name is not None else None
    labelling.change(Path(db).resolve(), number, lambda _: wanted, lambda tags: tags)
    return _shown(number, db)


def tag(
    run: int | str | None,
    add: Sequence[str] = (),
    *,
    remove: Sequence[str] = (),
    db: str | Path = DEFAULT_STORE,
) -> Run:
    """Add tags to a run and take others away, and return the run. A tag is a word, or a word and a value: ``team=a``.

    A run has one value of a word, the newest. run: as for ``name``. remove: a word alone takes any value of it away. Raises
    UsageError for what is no tag, and for one to be removed that is not there; then nothing is changed.
    """
    number = _existing(run, db)
    arguments.check(tags=add)
    arguments.check(tags=remove)
    new = checked_tags(add)
    labelling.change(Path(db).resolve(), number, lambda called: called, lambda tags: merged(tags, new, remove))
    return _shown(number, db)


def refuse_name(options: SessionOptions, store: Path, run_id: int | None) -> None:
    """Raise UsageError for a name that a session is to give its run, and that another run has. run_id: None for a new run."""
    if options.name is not None:
        labelling.refuse_taken(store, options.name, run_id)


def label(options: SessionOptions, store: Path, run_id: int) -> None:
    """Give the run of a session the name and the tags that were asked for. Raises UsageError, StoreError."""
    if options.name is not None or options.tags:
        wanted = options.name
        labelling.change(store, run_id, lambda now: wanted or now, lambda tags: merged(tags, options.tags))


def _existing(run: int | str | None, db: str | Path) -> int:
    number = number_of(run, db)
    with StoreReader(Path(db).resolve()) as reader:
        return reader.run(None if number is None else index(number), counted=False).id


def _shown(number: int, db: str | Path) -> Run:
    with StoreReader(Path(db).resolve()) as reader:
        return reader.run(number)
