"""The table of runs: finds the run that a job goes on with, or begins one."""

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import Any

import msgspec
import sqlalchemy as sa
from msgspec import Struct

from runner.errors import StoreError, UsageError
from runner.model import Json
from runner.store import database
from runner.store.schema import runs


class FoundRun(Struct, frozen=True, kw_only=True):
    """The run that a job belongs to."""

    id: int
    # False: it was begun just now
    existed: bool
    finished: bool
    input_digest: str | None
    # the newest run over the same input whose settings differ, and the settings that do: name -> (then, now)
    differs_from: int | None
    differences: Mapping[str, tuple[Json, Json]]
    # begun just now over standard input: the newest run over other standard input
    other_stdin: int | None = None


def answer_fingerprint(answer: Mapping[str, Json]) -> str:
    """Hash the settings that change an answer."""
    return blake2b(msgspec.json.encode(answer, order="sorted"), digest_size=12).hexdigest()


def find_run(store: Path, source: Path, answer: Mapping[str, Json]) -> FoundRun | None:
    """Find the newest run over the input with the same answer settings."""
    with _transaction(store, write=False) as connection:
        earlier = _over(connection, store, source)
        return next((_found(run) for run in earlier if run.fingerprint == answer_fingerprint(answer)), None)


def get_run(store: Path, run_id: int) -> FoundRun:
    """Give a run by its number. Raises UsageError when there is none."""
    with _transaction(store, write=False) as connection:
        run = connection.execute(sa.select(runs).where(runs.c.id == run_id)).first()
    if run is None:
        raise UsageError(f"there is no run {run_id} in {store}; `runner list` shows them")
    return _found(run)


def may_need(store: Path, source: Path) -> bool:
    """Tell whether a run is over this very file; True where that cannot be asked now."""
    if not store.is_file() or not store.stat().st_size:
        return False
    try:
        with _transaction(store, write=False) as connection:
            return connection.execute(sa.select(runs.c.id).where(runs.c.input == str(source)).limit(1)).first() is not None
    except StoreError as error:
        # these say that it is no store of ours: no database at all, or one without such a table
        name = getattr(getattr(error.__cause__, "orig", None), "sqlite_errorname", None)
        return name not in ("SQLITE_NOTADB", "SQLITE_ERROR")


def rows_of(store: Path, source: Path, digest: str) -> int | None:
    """Count the rows of an input that an earlier session has looked through already.

    None: there was none, or the input has rows without an id that are alike, which only a look can tell apart.
    """
    same = (runs.c.input == str(source), runs.c.input_digest == digest, runs.c.identical == 0)
    with _transaction(store, write=False) as connection:
        found: int | None = connection.execute(sa.select(runs.c.rows).where(*same).limit(1)).scalar()
        return found


def open_run(
    store: Path,
    source: Path,
    settings: Mapping[str, Json],
    answer: Mapping[str, Json],
    *,
    new: bool,
    kept_mark: str | None = None,
) -> FoundRun:
    """Find the run as ``find_run`` does, or begin one, in one transaction, so that two processes cannot begin the same twice.

    settings: the job, without secrets. answer: those of its settings that change an answer. new: begin one in any case.
    kept_mark: what stands in the name of a file in which standard input is kept; None where the input is no such file.
    """
    fingerprint = answer_fingerprint(answer)
    values = {"input": str(source), "input_relative": _relative(source, store), "settings": _json(settings)}
    with _transaction(store, write=True) as connection:
        earlier = _over(connection, store, source)
        for run in () if new else earlier:
            if run.fingerprint == fingerprint:
                connection.execute(sa.update(runs).where(runs.c.id == run.id).values(**values))
                return _found(run)
        other: int | None = None
        if kept_mark is not None:
            others = sa.select(sa.func.max(runs.c.id)).where(runs.c.input.contains(kept_mark, autoescape=True))
            other = connection.execute(others).scalar()
        made = connection.execute(sa.insert(runs).values(created_at=time.time(), fingerprint=fingerprint, **values))
        differing = next((run for run in earlier if run.fingerprint != fingerprint), None)
        key = made.inserted_primary_key
        return FoundRun(
            id=int(key[0]) if key else 0,
            existed=False,
            finished=False,
            input_digest=None,
            differs_from=differing.id if differing is not None and not new else None,
            differences=_differences(differing.settings, answer) if differing is not None and not new else {},
            other_stdin=other if differing is None and not new else None,
        )


def _over(connection: sa.Connection, store: Path, source: Path) -> Sequence[sa.Row[Any]]:
    """Give the runs over an input, newest first; it is found by its place beside the store too, as both may move together."""
    same = sa.or_(runs.c.input == str(source), runs.c.input_relative == _relative(source, store))
    return connection.execute(sa.select(runs).where(same).order_by(runs.c.id.desc())).all()


def _found(run: sa.Row[Any]) -> FoundRun:
    return FoundRun(
        id=run.id,
        existed=True,
        finished=run.finished_at is not None,
        input_digest=run.input_digest,
        differs_from=None,
        differences={},
    )


def _differences(then: str, answer: Mapping[str, Json]) -> dict[str, tuple[Json, Json]]:
    old: dict[str, Json] = msgspec.json.decode(then)
    return {name: (old.get(name), value) for name, value in answer.items() if old.get(name) != value}


def _relative(source: Path, store: Path) -> str:
    try:
        return os.path.relpath(source, store.parent)
    except ValueError:
        # another drive on Windows
        return str(source)


def _json(settings: Mapping[str, Json]) -> str:
    return msgspec.json.encode(settings).decode()


@contextmanager
def _transaction(store: Path, *, write: bool) -> Iterator[sa.Connection]:
    # a store at rest in a folder that cannot be written may still be looked at
    named = (str(store), {}) if write else (database.address(store), {"uri": "true"})
    engine = sa.create_engine(sa.URL.create("sqlite", database=named[0], query=named[1]))
    database.on_connect(engine, synchronous="FULL", write=write)
    try:
        with engine.begin() as connection:
            yield connection
    except sa.exc.DBAPIError as error:
        raise database.trouble(store, "used", error) from error
    finally:
        engine.dispose()
