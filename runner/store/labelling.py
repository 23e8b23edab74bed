"""The names and the tags of runs in a store: read, looked up and changed."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import sqlalchemy as sa

from runner.errors import UsageError
from runner.labels import spelt
from runner.store import database
from runner.store.changes import entries
from runner.store.schema import history, labels, runs
from runner.store.spending import Fetch


def labels_in(fetch: Fetch) -> dict[int, dict[str, Any]]:
    """Return ``name`` and ``tags`` of each run that has any."""
    found = fetch(sa.select(labels))
    # somebody may have changed the store; the runs can be read without their names
    return {row.run_id: {"name": row.name if isinstance(row.name, str) else None, "tags": _tags(row.tags)} for row in found}


def names_in(store: Path) -> dict[str, int]:
    """Return the names of the runs of a store, each with the number of its run; none without a store. Raises StoreError."""
    if not store.is_file() or not store.stat().st_size:
        return {}
    database.prepare(store, create=False)
    named = sa.select(labels.c.name, labels.c.run_id).where(labels.c.name.is_not(None)).order_by(labels.c.run_id)
    with database.transaction(store, write=False) as connection:
        return {str(row.name): row.run_id for row in connection.execute(named)}


def number_of(store: Path, name: str) -> int | None:
    """Return the number of the run that is called so; None if none is. Raises StoreError."""
    return names_in(store).get(spelt(name))


def refuse_taken(store: Path, name: str, run_id: int | None) -> None:
    """Raise UsageError if another run is called so. run_id: the run that may be; None: a new one."""
    holder = number_of(store, name)
    if holder not in (None, run_id):
        raise _taken(name, holder)


def change(
    store: Path, run_id: int, name: Callable[[str | None], str | None], tags: Callable[[tuple[str, ...]], tuple[str, ...]]
) -> None:
    """Change what a run is called, and its tags, and note both in the history.

    name, tags: return what there is to be, given what there is. Raises UsageError for a run that does not exist and for a name
    that another run has, StoreError, and what ``name`` and ``tags`` raise; then nothing is changed.
    """
    with database.transaction(store, write=True) as connection:
        if connection.execute(sa.select(runs.c.id).where(runs.c.id == run_id)).first() is None:
            raise UsageError(f"there is no run {run_id} in {store}; `runner list` shows the runs")
        found = connection.execute(sa.select(labels).where(labels.c.run_id == run_id)).first()
        before = (found.name, _tags(found.tags)) if found is not None else (None, ())
        after = name(before[0]), tags(before[1])
        noted = [
            (what, _text(old), _text(new)) for what, old, new in zip(("name", "tags"), before, after, strict=True) if old != new
        ]
        if not noted:
            return
        holder = connection.execute(sa.select(labels.c.run_id).where(labels.c.name == after[0])).scalar()
        if holder not in (None, run_id):
            raise _taken(str(after[0]), holder)
        connection.execute(sa.delete(labels).where(labels.c.run_id == run_id))
        connection.execute(sa.insert(labels).values(run_id=run_id, name=after[0], tags=_text(after[1]) or "[]"))
        for entry in entries(run_id, noted):
            connection.execute(sa.insert(history).values(**entry))


def _taken(name: str, holder: int | None) -> UsageError:
    return UsageError(
        f"run {holder} has the name {name} already; choose another name, or give that run another one: "
        f"`runner name {holder} NAME`"
    )


def _tags(text: object) -> tuple[str, ...]:
    """Return tags as they are stored; none of what somebody has changed to something else."""
    try:
        return msgspec.json.decode(str(text), type=tuple[str, ...])
    except (msgspec.MsgspecError, RecursionError):
        return ()


def _text(value: str | tuple[str, ...] | None) -> str | None:
    return msgspec.json.encode(value).decode() if isinstance(value, tuple) else value
