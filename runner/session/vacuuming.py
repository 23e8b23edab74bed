"""Gives the space of deleted runs back to the disk, while nobody works on a run of the store."""

from collections.abc import Collection
from pathlib import Path

from msgspec import Struct

from runner.errors import RunLockedError
from runner.session import arguments
from runner.session.naming import DEFAULT_STORE
from runner.store import compaction
from runner.store.reader import StoreReader


class Vacuumed(Struct, frozen=True, kw_only=True):
    """What was given back: the store, an absolute path, and the bytes that it took before and takes now."""

    store: str
    bytes_before: int
    bytes_after: int


def vacuum(db: str | Path = DEFAULT_STORE) -> Vacuumed:
    """Give the space of deleted runs back to the disk, which writes the whole store anew. Return its sizes before and after.

    Until it ends, the disk needs room for two more copies of what is left. A kill meanwhile leaves the store as it was. Raises
    UsageError without a store, RunLockedError if a process is working on a run of it, StoreError if there is not enough room.
    """
    arguments.check(db=db)
    store = Path(db).resolve()
    refuse(store)
    return given_back(store)


def refuse(store: Path, *, besides: Collection[int] = (), kept: str = "Nothing was changed") -> None:
    """Raise RunLockedError if somebody works on a run, and StoreError if there is no room. besides: runs that do not count.

    kept: what is said of the store then.
    """
    with StoreReader(store) as reader:
        active = [run.id for run in reader.runs(counted=False) if run.active and run.id not in besides]
    if active:
        raise RunLockedError(
            f"run {active[0]} is being worked on by another process, which could not write while {store} is written anew; "
            f"wait for its end, or stop it first. {kept}"
        )
    compaction.refuse_full(store)


def given_back(store: Path, *, done: str = "") -> Vacuumed:
    """Do what ``vacuum`` does, without a look at what is in the way. done: as for ``compaction.vacuum``."""
    before = compaction.size_of(store)
    compaction.vacuum(store, done=done)
    return Vacuumed(store=str(store), bytes_before=before, bytes_after=compaction.size_of(store))
