"""The table of runs: finds the run that a job goes on with, or begins one."""

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path

import msgspec
import sqlalchemy as sa
from msgspec import Struct

from runner import database
from runner.errors import StoreError
from runner.model import Json
from runner.schema import runs


class Opened(Struct, frozen=True, kw_only=True):
    """The run that a job belongs to."""

    id: int
    # False: it was begun just now
    existed: bool
    finished: bool
    input_digest: str | None
    # the newest run over the same input whose settings differ, and the settings that do: name -> (then, now)
    differs_from: int | None
    differences: Mapping[str, tuple[Json, Json]]


def answer_fingerprint(answer: Mapping[str, Json]) -> str:
    """Hash the settings that change an answer."""
    return blake2b(msgspec.json.encode(answer, order="sorted"), digest_size=12).hexdigest()


def open_run(store: Path, source: Path, settings: Mapping[str, Json], answer: Mapping[str, Json], *, new: bool) -> Opened:
    """Find the newest run over the input with the same answer settings, or begin one.

    settings: the job, without secrets. answer: those of its settings that change an answer. new: begin one in any case.
    """
    fingerprint = answer_fingerprint(answer)
    relative = _relative(source, store)
    same_input = sa.or_(runs.c.input == str(source), runs.c.input_relative == relative)
    with _transaction(store) as connection:
        earlier = connection.execute(sa.select(runs).where(same_input).order_by(runs.c.id.desc())).all()
        if not new:
            for run in earlier:
                if run.fingerprint == fingerprint:
                    changed = {"input": str(source), "input_relative": relative, "settings": _json(settings)}
                    connection.execute(sa.update(runs).where(runs.c.id == run.id).values(**changed))
                    return Opened(
                        id=run.id,
                        existed=True,
                        finished=run.finished_at is not None,
                        input_digest=run.input_digest,
                        differs_from=None,
                        differences={},
                    )
        values = {
            "created_at": time.time(),
            "input": str(source),
            "input_relative": relative,
            "settings": _json(settings),
            "fingerprint": fingerprint,
        }
        made = connection.execute(sa.insert(runs).values(**values)).inserted_primary_key
        differing = next((run for run in earlier if run.fingerprint != fingerprint), None)
        return Opened(
            id=int(made[0]) if made else 0,
            existed=False,
            finished=False,
            input_digest=None,
            differs_from=differing.id if differing is not None else None,
            differences=_differences(differing.settings, answer) if differing is not None else {},
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
def _transaction(store: Path) -> Iterator[sa.Connection]:
    engine = sa.create_engine(sa.URL.create("sqlite", database=str(store)))
    database.on_connect(engine, synchronous="FULL", write=True)
    try:
        with engine.begin() as connection:
            yield connection
    except sa.exc.DBAPIError as error:
        raise StoreError(f"the store {store} cannot be written: {database.reason(error)}") from error
    finally:
        engine.dispose()
