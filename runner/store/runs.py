"""The table of runs: what is known of each, and which one a session continues or begins."""

import time
from collections.abc import Iterable, Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Any

import msgspec
import sqlalchemy as sa
from msgspec import Struct, structs

from runner import origin
from runner.errors import StoreError, UsageError
from runner.model import Json
from runner.settled import Head
from runner.several import answers_in
from runner.store import database
from runner.store.changes import Changes, entries, noted
from runner.store.places import place_of
from runner.store.schema import history, items, runs
from runner.text import shell_word


class KnownRun(Struct, frozen=True, kw_only=True):
    """A run as the store has it, with what its input held in its last session."""

    id: int
    finished: bool
    # the input as it was given, where a link in it led to (None: there was none), and its path from the folder of the store
    input: str
    target: str | None
    relative: str
    # where the input was before, as given
    former: frozenset[str] = frozenset()
    settings: Mapping[str, Json]
    fingerprint: str
    # hash and length of the content of the input; None before the first session
    input_digest: str | None
    input_bytes: int | None
    # rows of the input in its last session; None before the first
    rows: int | None = None
    # the next session is to look at each row even if the content is the same
    look_again: bool
    head: Head | None
    # its rows have been compared with the answers of earlier runs, or are not to be
    compared: bool = True
    # seconds since the epoch
    created_at: float | None = None

    @property
    def base_url(self) -> str | None:
        """The address to which its requests go; of several endpoints, all that are named."""
        return place_of(self.settings)


class Input(Struct, frozen=True, kw_only=True):
    """The input of a session: its path as given, and the hash and length of its content, once they are known."""

    path: Path
    digest: str | None = None
    size: int | None = None


class FoundRun(Struct, frozen=True, kw_only=True):
    """The run that a session works on."""

    id: int
    # False: the run was created just now
    existed: bool
    finished: bool = False
    input_digest: str | None
    look_again: bool = False
    head: Head | None = None
    # False: the answers of earlier runs to the same requests are still to be taken over
    compared: bool = True
    # for a new run: the newest run over the same input, whose settings differ
    differs_from: int | None = None
    # the settings that differ: name -> (then, now)
    differences: Mapping[str, tuple[Json, Json]] = {}
    # the same over standard input: the newest run over different standard input
    other_stdin: int | None = None
    # what the session changes about a run that existed, once it begins
    changes: Changes = Changes()
    # seconds since the epoch: a number may be that of another run later
    created_at: float | None = None


def answer_fingerprint(answer: Mapping[str, Json]) -> str:
    """Return a hash of the settings that change an answer. Those that are not set do not count, so that new ones may come."""
    given = {name: value for name, value in answer.items() if value is not None}
    return blake2b(msgspec.json.encode(given, order="sorted"), digest_size=12).hexdigest()


def known_runs(store: Path) -> list[KnownRun]:
    """Return all runs of a store, newest first."""
    moved = sa.select(history.c.run_id, history.c.old).where(history.c.what == "input")
    with database.transaction(store, write=False) as connection:
        former: dict[int, set[str]] = {}
        for run_id, old in connection.execute(moved):
            former.setdefault(run_id, set()).add(old)
        found = connection.execute(sa.select(runs).order_by(runs.c.id.desc()))
        return [_known(store, run, former.get(run.id, ())) for run in found]


def known_run(store: Path, run_id: int) -> KnownRun:
    """Return the run with a number. Raises UsageError if there is none."""
    with database.transaction(store, write=False) as connection:
        run = connection.execute(sa.select(runs).where(runs.c.id == run_id)).first()
    if run is None:
        raise UsageError(f"there is no run {run_id} in {store}; `runner list` shows the runs")
    return _known(store, run)


def get_run(store: Path, run_id: int) -> FoundRun:
    """Return the run with a number, to be continued. Raises UsageError if there is none."""
    return found(known_run(store, run_id))


def found(run: KnownRun) -> FoundRun:
    """Return a known run as one that is continued."""
    return FoundRun(
        id=run.id,
        existed=True,
        finished=run.finished,
        input_digest=run.input_digest,
        look_again=run.look_again,
        head=run.head,
        compared=run.compared,
        created_at=run.created_at,
    )


def has_answers(store: Path, run_id: int) -> bool:
    """Return True if a row of the run was answered."""
    answered = sa.select(items.c.id).where(items.c.run_id == run_id, items.c.status == "done").limit(1)
    with database.transaction(store, write=False) as connection:
        return connection.execute(answered).first() is not None


def may_need(store: Path, source: Path) -> bool:
    """Return True if a run reads exactly this file as its input, or if the store cannot be read now."""
    if not store.is_file() or not store.stat().st_size:
        return False
    try:
        with database.transaction(store, write=False) as connection:
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
    with database.transaction(store, write=False) as connection:
        rows: int | None = connection.execute(sa.select(runs.c.rows).where(*same).limit(1)).scalar()
        return rows


def open_run(
    store: Path,
    source: Path | Input,
    settings: Mapping[str, Json],
    answer: Mapping[str, Json],
    *,
    new: bool,
    continues: KnownRun | None = None,
    looked_at: int = 0,
    kept_mark: str | None = None,
) -> FoundRun:
    """Return the run that is continued, with what brings its input and settings up to date, or create one.

    Both happen in one transaction, so that two processes cannot create the same run twice: a run over the path from after the
    search, beyond number ``looked_at``, is taken.
    settings: the job, without secrets. answer: those that change an answer. new: create a run in any case. continues: the run
    that the search found. kept_mark: part of the name of each copy of standard input; None if the input is not such a file.
    """
    given, fingerprint = source if isinstance(source, Input) else Input(path=source), answer_fingerprint(answer)
    values = {**input_values(store, given.path), "settings": msgspec.json.encode(settings).decode()}
    with database.transaction(store, write=True) as connection:
        earlier = _runs_over(connection, store, given.path)
        since = (run for run in earlier if run.id > looked_at and run.fingerprint == fingerprint)
        run = None if new else continues or next(since, None)
        if run is not None:
            return structs.replace(found(run), changes=_continued(run, values, settings))
        differing = next((run for run in earlier if run.fingerprint != fingerprint), None) if not new else None
        other_stdin = _other_stdin(connection, kept_mark) if differing is None and not new else None
        values |= {"input_digest": given.digest, "input_bytes": given.size, "fingerprint": fingerprint, "created_at": time.time()}
        values["compared"] = not settings.get("reuse")
        return FoundRun(
            id=_create(connection, values),
            existed=False,
            created_at=values["created_at"],
            input_digest=given.digest,
            compared=values["compared"],
            differs_from=differing.id if differing is not None else None,
            differences=differences(differing.settings, answer) if differing is not None else {},
            other_stdin=other_stdin,
        )


def change(store: Path, run_id: int, changes: Changes) -> None:
    """Change a run that no session works on."""
    with database.transaction(store, write=True) as connection:
        connection.execute(sa.update(runs).where(runs.c.id == run_id).values(**changes.columns))
        for entry in entries(run_id, changes.noted):
            connection.execute(sa.insert(history).values(**entry))


def input_values(store: Path, source: Path) -> dict[str, Json]:
    """Return what the table of runs has of the path of an input."""
    target = source if origin.run_of(source) is not None or origin.is_several(source) else source.resolve()
    return {
        "input": str(source),
        # a name on the disk need not be UTF-8, which only the given name must be
        "input_relative": _text(origin.relative(source, store.parent)),
        "input_target": _text(str(target)) if target != source else None,
    }


def differences(then: Mapping[str, Json], answer: Mapping[str, Json]) -> dict[str, tuple[Json, Json]]:
    """Return the answer settings that differ from stored settings: name -> (then, now)."""
    return {name: (then.get(name), value) for name, value in answer.items() if then.get(name) != value}


def _continued(run: KnownRun, values: Mapping[str, Json], settings: Mapping[str, Json]) -> Changes:
    """Return what brings input and settings of a run up to date, and notes where it has moved."""
    now = {"base_url": settings.get("base_url"), "input": values["input"]}
    now |= {"answers": settings.get("answers")} if answers_in(settings) != answers_in(run.settings) else {}
    if answers_in(settings) > answers_in(run.settings):
        # not all of its rows are settled any more
        values = {**values, "settled_head": None}
    return Changes(columns=values, noted=noted({**run.settings, "input": run.input}, now))


def _create(connection: sa.Connection, values: Mapping[str, Json]) -> int:
    """Create a run and return its number. That of a deleted run is not used again: notes and scripts may still name it."""
    newest = (connection.execute(sa.select(sa.func.max(column))).scalar() or 0 for column in (runs.c.id, history.c.run_id))
    run_id = 1 + max(newest)
    connection.execute(sa.insert(runs).values(id=run_id, look_again=False, **values))
    return run_id


def _other_stdin(connection: sa.Connection, kept_mark: str | None) -> int | None:
    if kept_mark is None:
        return None
    newest = sa.select(sa.func.max(runs.c.id)).where(runs.c.input.contains(kept_mark, autoescape=True))
    number: int | None = connection.execute(newest).scalar()
    return number


def _runs_over(connection: sa.Connection, store: Path, source: Path) -> list[KnownRun]:
    """Return the runs over an input, newest first.

    The input is also recognised by its path relative to the store, since both may have been moved together.
    """
    same = sa.or_(runs.c.input == str(source), runs.c.input_relative == _text(origin.relative(source, store.parent)))
    return [_known(store, run) for run in connection.execute(sa.select(runs).where(same).order_by(runs.c.id.desc()))]


def _known(store: Path, run: sa.Row[Any], former: Iterable[str] = ()) -> KnownRun:
    database.refuse_damaged(store, run)
    settings = database.settings_of(run.settings)
    if settings is None:
        ways = f"restore a copy, or export its results and use `runner delete {run.id} --db {shell_word(str(store))}`"
        raise StoreError(f"the settings of run {run.id} in the store {store} are damaged; {ways}")
    return KnownRun(
        id=run.id,
        finished=run.finished_at is not None,
        input=run.input,
        target=run.input_target,
        relative=run.input_relative,
        former=frozenset(former),
        settings=settings,
        fingerprint=run.fingerprint,
        input_digest=run.input_digest,
        input_bytes=run.input_bytes,
        rows=run.rows,
        look_again=bool(run.look_again),
        head=_head(run.settled_head),
        compared=bool(run.compared),
        created_at=run.created_at,
    )


def _head(text: str | None) -> Head | None:
    try:
        return msgspec.json.decode(text, type=Head) if text is not None else None
    except (msgspec.MsgspecError, RecursionError, TypeError):
        return None


def _text(path: str) -> str:
    return path.encode(errors="backslashreplace").decode()
