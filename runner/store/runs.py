"""The table of runs: finds the run that a job continues, or creates one."""

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
    # False: the run was created just now
    existed: bool
    finished: bool
    input_digest: str | None
    # for a new run: the newest run over the same input, whose settings differ
    differs_from: int | None
    # the settings that differ: name -> (then, now)
    differences: Mapping[str, tuple[Json, Json]]
    # for a new run over standard input: the newest run over different standard input
    other_stdin: int | None = None


def answer_fingerprint(answer: Mapping[str, Json]) -> str:
    """Return a hash of the settings that change an answer."""
    return blake2b(msgspec.json.encode(answer, order="sorted"), digest_size=12).hexdigest()


def find_run(store: Path, source: Path, answer: Mapping[str, Json]) -> FoundRun | None:
    """Return the newest run over the input with the same answer settings; None if there is none."""
    with _transaction(store, write=False) as connection:
        earlier = _runs_over(connection, store, source)
        return next((_found_run(run) for run in earlier if run.fingerprint == answer_fingerprint(answer)), None)


def get_run(store: Path, run_id: int) -> FoundRun:
    """Return the run with a number. Raises UsageError if there is none."""
    with _transaction(store, write=False) as connection:
        run = connection.execute(sa.select(runs).where(runs.c.id == run_id)).first()
    if run is None:
        raise UsageError(f"there is no run {run_id} in {store}; `runner list` shows the runs")
    return _found_run(run)


def may_need(store: Path, source: Path) -> bool:
    """Return True if a run reads exactly this file as its input, or if the store cannot be read now."""
    if not store.is_file() or not store.stat().st_size:
        return False
    try:
        with _transaction(store, write=False) as connection:
            return connection.execute(sa.select(runs.c.id).where(runs.c.input == str(source)).limit(1)).first() is not None
    except StoreError as error:
        # these errors show that the file is not a store: no database at all, or a database without this table
        name = getattr(getattr(error.__cause__, "orig", None), "sqlite_errorname", None)
        return name not in ("SQLITE_NOTADB", "SQLITE_ERROR")


def rows_of(store: Path, source: Path, digest: str) -> int | None:
    """Return how many rows an input has, if an earlier session has scanned it; None if it must be scanned.

    An input with identical rows without an id must be scanned again, since only a scan can number these rows.
    """
    same = (runs.c.input == str(source), runs.c.input_digest == digest, runs.c.identical == 0)
    with _transaction(store, write=False) as connection:
        rows: int | None = connection.execute(sa.select(runs.c.rows).where(*same).limit(1)).scalar()
        return rows


def open_run(
    store: Path,
    source: Path,
    settings: Mapping[str, Json],
    answer: Mapping[str, Json],
    *,
    new: bool,
    kept_mark: str | None = None,
) -> FoundRun:
    """Find the run as ``find_run`` does, or create one.

    Both happen in one transaction, so that two processes cannot create the same run twice.
    settings: the job, without secrets. answer: those of its settings that change an answer. new: create a run in any case.
    kept_mark: part of the name of every file to which standard input was copied; None if the input is not such a file.
    """
    fingerprint = answer_fingerprint(answer)
    values = {"input": str(source), "input_relative": _relative(source, store), "settings": _json(settings)}
    with _transaction(store, write=True) as connection:
        earlier = _runs_over(connection, store, source)
        for run in () if new else earlier:
            if run.fingerprint == fingerprint:
                connection.execute(sa.update(runs).where(runs.c.id == run.id).values(**values))
                return _found_run(run)
        other_stdin: int | None = None
        if kept_mark is not None:
            newest = sa.select(sa.func.max(runs.c.id)).where(runs.c.input.contains(kept_mark, autoescape=True))
            other_stdin = connection.execute(newest).scalar()
        created = connection.execute(sa.insert(runs).values(created_at=time.time(), fingerprint=fingerprint, **values))
        differing = next((run for run in earlier if run.fingerprint != fingerprint), None)
        key = created.inserted_primary_key
        return FoundRun(
            id=int(key[0]) if key else 0,
            existed=False,
            finished=False,
            input_digest=None,
            differs_from=differing.id if differing is not None and not new else None,
            differences=_differences(differing.settings, answer) if differing is not None and not new else {},
            other_stdin=other_stdin if differing is None and not new else None,
        )


def _runs_over(connection: sa.Connection, store: Path, source: Path) -> Sequence[sa.Row[Any]]:
    """Return the runs over an input, newest first.

    The input is also recognised by its path relative to the store, since both may have been moved together.
    """
    same = sa.or_(runs.c.input == str(source), runs.c.input_relative == _relative(source, store))
    return connection.execute(sa.select(runs).where(same).order_by(runs.c.id.desc())).all()


def _found_run(run: sa.Row[Any]) -> FoundRun:
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
    # the address for reading works even in a folder that cannot be written
    file, query = (str(store), {}) if write else (database.address(store), {"uri": "true"})
    engine = sa.create_engine(sa.URL.create("sqlite", database=file, query=query))
    database.on_connect(engine, synchronous="FULL", write=write)
    try:
        with engine.begin() as connection:
            yield connection
    except sa.exc.DBAPIError as error:
        raise database.store_error(store, "used", error) from error
    finally:
        engine.dispose()
