"""Answers that a run takes over from earlier runs: which rows ask the same, and how their answers are copied. Synchronous.

The rows are compared in a temporary database that SQLite keeps on the disk, so memory does not grow with them.
"""

import sqlite3
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple

import sqlalchemy as sa

from runner.several import number_of
from runner.store import database, schema
from runner.store.schema import BOUGHT, history, items, reused
from runner.store.spending import Fetch

_TABLES = """
CREATE TABLE wanted (
    number INTEGER PRIMARY KEY, key TEXT NOT NULL, digest BLOB NOT NULL, fingerprint INTEGER NOT NULL, loose INTEGER NOT NULL,
    item INTEGER, item_fingerprint INTEGER, run INTEGER
);
CREATE TABLE offers (
    item INTEGER PRIMARY KEY, key TEXT NOT NULL, digest BLOB NOT NULL, fingerprint INTEGER NOT NULL,
    from_run INTEGER NOT NULL, from_key TEXT NOT NULL
);
CREATE TABLE spent (from_run INTEGER, from_key TEXT, PRIMARY KEY (from_run, from_key)) WITHOUT ROWID;
"""
_INDEXES = """
CREATE INDEX wanted_digest ON wanted (digest, key);
CREATE INDEX wanted_fingerprint ON wanted (fingerprint);
CREATE INDEX wanted_loose ON wanted (loose);
"""
# the answer with the attempt that bought it, whichever run that was
_ORIGIN = """
    items i LEFT JOIN attempts a ON a.id = i.attempt_id
    LEFT JOIN reused u ON i.attempt_id IS NULL AND i.same_as IS NULL AND u.run_id = i.run_id AND u.item_key = i.key
"""
_EARLIER = f"""
SELECT i.id, i.key, i.fingerprint, i.metadata, i.finish_reason, i.notes, a.variant_id, coalesce(a.started_at, u.started_at),
       coalesce(u.from_run, i.run_id), coalesce(u.from_key, i.key)
FROM {_ORIGIN} WHERE i.run_id = ? AND i.status = 'done' AND i.same_as IS NULL
"""  # noqa: S608 - constants
_SAME_FIELDS = " AND i.fingerprint IN (SELECT fingerprint FROM wanted WHERE item IS NULL)"
_ALIKE = " AND loose(i.key, i.metadata) IN (SELECT loose FROM wanted WHERE item IS NULL)"
_SAME_KEY = " AND i.key IN (SELECT key FROM wanted WHERE item IS NULL)"
# one answer for one row: an answer that a row has is not offered again, also not by a run that had taken it over
_OFFER = """
INSERT INTO offers SELECT ?, ?, ?, ?, ?, ? WHERE NOT EXISTS (SELECT 1 FROM spent WHERE from_run = ? AND from_key = ?)
"""
_MATCH_KEYS = """
UPDATE wanted SET item = o.item, item_fingerprint = o.fingerprint, run = o.from_run FROM offers o
WHERE wanted.item IS NULL AND o.digest = wanted.digest AND o.key = wanted.key
"""
_MATCH_OTHERS = """
UPDATE wanted SET item = o.item, item_fingerprint = o.fingerprint, run = o.from_run
FROM (SELECT number, digest, row_number() OVER (PARTITION BY digest ORDER BY number) AS place FROM wanted WHERE item IS NULL) w
JOIN (
    SELECT item, digest, fingerprint, from_run, row_number() OVER (PARTITION BY digest ORDER BY item) AS place FROM offers
    WHERE item NOT IN (SELECT item FROM wanted WHERE item IS NOT NULL)
) o ON o.digest = w.digest AND o.place = w.place
WHERE wanted.number = w.number
"""
_SPEND = "INSERT OR IGNORE INTO spent SELECT from_run, from_key FROM offers WHERE item IN (SELECT item FROM wanted)"

_COPIED = ", ".join(BOUGHT)
_SOURCE = f"""
FROM {_ORIGIN} WHERE i.id = ? AND i.status = 'done' AND i.fingerprint = ? AND coalesce(u.from_run, i.run_id) = ?
    AND NOT EXISTS (SELECT 1 FROM items mine WHERE mine.run_id = ? AND mine.key = ?)
"""  # noqa: S608 - as above
_TAKE_ATTEMPT = f"""
INSERT OR IGNORE INTO reused (run_id, item_key, from_run, from_key, {_COPIED})
SELECT ?, ?, coalesce(u.from_run, i.run_id), coalesce(u.from_key, i.key), {", ".join(f"coalesce(a.{n}, u.{n})" for n in BOUGHT)}
{_SOURCE}
"""
_TAKE_ITEM = f"""
INSERT INTO items
    (run_id, key, position, status, fingerprint, attempts, finish_reason, notes, metadata, extra, text, made_seed, answer_number)
SELECT ?, ?, ?, 'done', ?, 0, i.finish_reason, i.notes, ?, i.extra, i.text, i.made_seed, ?
{_SOURCE}
"""


# a row that was sent again since, because it had changed, has an attempt of its own
IS_TAKEN_OVER = sa.and_(
    items.c.attempt_id.is_(None), items.c.same_as.is_(None), reused.c.run_id == items.c.run_id, reused.c.item_key == items.c.key
)
"""Joins the entries of ``items`` to those of ``reused``."""


def number_taken_over(run_id: int) -> sa.Select[Any]:
    """Count the answers of a run that were taken over."""
    return sa.select(sa.func.count()).select_from(reused.join(items, IS_TAKEN_OVER)).where(reused.c.run_id == run_id)


def numbers_taken_over() -> sa.Select[Any]:
    """Count the answers that were taken over: (run, number of the answer, count) for each run that has any."""
    groups = (reused.c.run_id, items.c.answer_number)
    return sa.select(*groups, sa.func.count()).select_from(reused.join(items, IS_TAKEN_OVER)).group_by(*groups)


def seeds_taken_over(store: Path, run_id: int) -> Sequence[int]:
    """Return the made-up seeds of answers that a run has taken over under other keys, in rising order. Raises StoreError.

    The entry with the key for which a seed was made up may still be sent, and would ask for that very answer again.
    """
    seeds = sa.select(items.c.made_seed).select_from(reused.join(items, IS_TAKEN_OVER))
    moved = (reused.c.run_id == run_id, reused.c.item_key != reused.c.from_key, items.c.made_seed.is_not(None))
    with database.transaction(store, write=False) as connection:
        return array("I", connection.scalars(seeds.where(*moved).distinct().order_by(items.c.made_seed)))


class Wanted(NamedTuple):
    """A row that is to be answered. number: its place in the reading. digest: of its request. loose: ``keys.loose``."""

    number: int
    key: str
    digest: bytes
    fingerprint: int
    loose: int


class Earlier(NamedTuple):
    """An answered row of an earlier run. from_run, from_key: the run that bought the answer, and the key there."""

    item: int
    key: str
    fingerprint: int
    metadata: str | None
    finish_reason: str | None
    notes: str | None
    variant: int | None
    started_at: float | None
    from_run: int
    from_key: str


class Matched(NamedTuple):
    """A row with the entry of ``items`` that answers its request. item_fingerprint: of that entry, when it was compared."""

    number: int
    key: str
    fingerprint: int
    item: int
    item_fingerprint: int
    # the run that bought the answer
    run: int


class TakenOver(NamedTuple):
    """A row as it is stored with an answer that it takes over. item, item_fingerprint, run: as in ``Matched``."""

    key: str
    position: int
    fingerprint: int
    metadata: str | None
    item: int
    item_fingerprint: int
    run: int


Narrow = Literal["fingerprint", "key", "all"] | Callable[[str, str | None], int | None]
"""Which rows of an earlier run are looked at: those with the fingerprint of a row that is wanted, or with its key; or with its
``keys.loose``, by a function that returns that of a stored row, from key and metadata; None if nothing can be read."""
_NARROWED = {"fingerprint": _SAME_FIELDS, "key": _SAME_KEY, "all": ""}


class Comparison:
    """The rows of a run beside the answers of earlier ones. Made by ``comparison``, for one thread at a time."""

    def __init__(self, connection: sqlite3.Connection, run_id: int) -> None:
        self._connection, self._run_id = connection, run_id

    def want(self, rows: Iterable[Wanted]) -> None:
        """Add rows that may take over an answer."""
        self._write("INSERT INTO wanted (number, key, digest, fingerprint, loose) VALUES (?, ?, ?, ?, ?)", rows)

    def all_wanted(self) -> int:
        """Leave out the rows that have an outcome already; return the number of the others."""
        self._connection.execute(
            "DELETE FROM wanted WHERE key IN (SELECT key FROM store.items WHERE run_id = ?)", (self._run_id,)
        )
        self._connection.executescript(_INDEXES)
        taken = "INSERT INTO spent SELECT DISTINCT from_run, from_key FROM store.reused WHERE run_id = ?"
        self._connection.execute(taken, (self._run_id,))
        return self.unmatched()

    def unmatched(self) -> int:
        """Return the number of rows for which no answer has been found."""
        ((number,),) = self._connection.execute("SELECT count(*) FROM wanted WHERE item IS NULL")
        return int(number)

    def answered(self, run_id: int) -> int:
        """Return how many rows of an earlier run have an answer."""
        ((number,),) = self._connection.execute(
            "SELECT count(*) FROM store.items WHERE run_id = ? AND status = 'done'", (run_id,)
        )
        return int(number)

    def first(self, run_id: int, number: int) -> list[Earlier]:
        """Return so many answered rows of an earlier run, those that come first in its input."""
        return [Earlier(*row) for row in self._connection.execute(f"{_EARLIER} ORDER BY i.position LIMIT ?", (run_id, number))]

    def text(self, item: int) -> str:
        """Return the text of an answer."""
        found = self._connection.execute("SELECT text FROM store.items WHERE id = ?", (item,)).fetchone()
        return found[0] or "" if found is not None else ""

    def earlier(self, run_id: int, narrow: Narrow) -> Iterator[list[Earlier]]:
        """Yield the answered rows of an earlier run in batches."""
        if callable(narrow):
            self._connection.create_function("loose", 2, narrow)
        query = _EARLIER + (_ALIKE if callable(narrow) else _NARROWED[narrow])
        cursor = self._connection.execute(query, (run_id,))
        while rows := cursor.fetchmany(_BATCH):
            yield [Earlier(*row) for row in rows]

    def offer(self, rows: Iterable[tuple[Earlier, bytes]]) -> None:
        """Offer answers of an earlier run, each with the digest of its request."""
        offers = ((row.item, row.key, digest, row.fingerprint, *row[-2:], *row[-2:]) for row, digest in rows)
        self._write(_OFFER, offers)

    def match(self) -> None:
        """Give each row that asks the same as an offer one of these, rather one with its own key, and forget the others."""
        for statement in (_MATCH_KEYS, _MATCH_OTHERS, _SPEND, "DELETE FROM offers"):
            self._connection.execute(statement)

    def matched(self) -> Iterator[Matched]:
        """Yield the rows with an answer, in the order of the reading."""
        columns = "number, key, fingerprint, item, item_fingerprint, run"
        query = f"SELECT {columns} FROM wanted WHERE item IS NOT NULL ORDER BY number"  # noqa: S608 - a constant
        return (Matched(*row) for row in self._connection.execute(query))

    def _write(self, statement: str, rows: Iterable[Sequence[object]]) -> None:
        self._connection.execute("BEGIN")
        self._connection.executemany(statement, rows)
        self._connection.execute("COMMIT")


_BATCH = 1_000


@contextmanager
def comparison(store: Path, run_id: int) -> Iterator[Comparison]:
    """Yield the comparison of a run with earlier ones. Raises StoreError."""
    try:
        # a database without a name is a temporary file; what may be lost with it costs nothing
        with closing(
            sqlite3.connect("", timeout=database.BUSY_S, isolation_level=None, uri=True, check_same_thread=False)
        ) as here:
            here.execute("PRAGMA journal_mode = OFF")
            here.execute("PRAGMA synchronous = OFF")
            here.executescript(_TABLES)
            here.execute("ATTACH ? AS store", (f"{database.address(store)}?mode=ro",))
            yield Comparison(here, run_id)
    except sqlite3.Error as error:
        raise database.store_error(store, "read", error) from error


def addresses(fetch: Fetch) -> dict[int, list[tuple[float, str | None]]]:
    """Return where each run that has moved was before: (when it left, its address), oldest first."""
    moved: dict[int, list[tuple[float, str | None]]] = {}
    columns = (history.c.run_id, history.c.at, history.c.old)
    for run_id, at, old in fetch(sa.select(*columns).where(history.c.what == "base_url").order_by(history.c.id)):
        moved.setdefault(run_id, []).append((at, old))
    return moved


def variants(fetch: Fetch) -> dict[int, dict[int, str]]:
    """Return the settings, as JSON, with which retries have sent failed rows: run -> number of the variant -> settings."""
    found: dict[int, dict[int, str]] = {}
    of = schema.variants.c
    for run_id, number, settings in fetch(sa.select(of.run_id, of.id, of.settings)):
        found.setdefault(run_id, {})[number] = settings
    return found


def take_over(driver: sqlite3.Connection, run_id: int, rows: Sequence[TakenOver]) -> list[bool]:
    """Copy answers to rows of a run, in the transaction of a connection; tell for each row whether it has one now.

    A row that has an outcome keeps it, so this may be done again after a kill. An answer that was deleted or replaced in the
    meantime is not taken over, and neither is one that has got the number of a deleted entry since.
    """
    taken = []
    for row in rows:
        source = (row.item, row.item_fingerprint, row.run, run_id, row.key)
        driver.execute(_TAKE_ATTEMPT, (run_id, row.key, *source))
        values = (run_id, row.key, row.position, row.fingerprint, row.metadata)
        added = driver.execute(_TAKE_ITEM, (*values, number_of(row.key), *source))
        taken.append(added.rowcount > 0)
    return taken
