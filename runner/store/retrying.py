"""What a retry keeps in the store: the rows that it has chosen, what became of each, and the answers that newer ones replace.

A retry counts once it has begun. A row that it has chosen is still to be asked again as long as it has no outcome there, which is
written with the outcome of the row in one transaction. So a killed retry goes on with exactly the rows that are left.
"""

import sqlite3
import time
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import sqlalchemy as sa
from msgspec import Struct
from sqlalchemy.ext.asyncio import AsyncConnection

from runner.errors import BAD_ROW
from runner.model import Entry, Json, Outcome
from runner.store import database
from runner.store.retry_tables import IS_PENDING, REPLACED
from runner.store.schema import items, retried, retries, runs
from runner.store.spending import Fetch

_COLUMNS = ", ".join(REPLACED)
# the answer, perhaps that of a failed row, that ``statements.write`` is about to replace
_KEEP = f"""
INSERT INTO replaced (run_id, item_key, replaced_at, {_COLUMNS}) SELECT run_id, key, ?, {_COLUMNS} FROM items
WHERE run_id = ? AND key = ? AND text IS NOT NULL
    AND (status <> 'done' OR (? = 'done' AND (fingerprint <> ? OR {IS_PENDING})))
"""  # noqa: S608 - constants
_MARK = "UPDATE retried SET outcome = ? WHERE run_id = ? AND item_key = ? AND outcome IS NULL"
_SHOWN = 5


class Kind(Struct, frozen=True, kw_only=True):
    """Rows of one kind among those that a retry has chosen. notes: on their answers, joined by commas."""

    status: str
    error_code: str | None
    finish_reason: str | None
    notes: str | None
    count: int


class Chosen(Struct, frozen=True, kw_only=True):
    """The rows that a retry has chosen and has not asked again. first: keys of the first of them, in the order of the input.

    instead_of: how many rows an earlier retry has left, which are not asked again by this one. was_finished: the run was, before.
    """

    kinds: Sequence[Kind] = ()
    first: Sequence[str] = ()
    instead_of: int = 0
    was_finished: bool = False

    @property
    def count(self) -> int:
        """How many they are."""
        return sum(kind.count for kind in self.kinds)

    @property
    def failed(self) -> int:
        """How many of them have failed, broken ones too."""
        return sum(kind.count for kind in self.kinds if kind.status == "failed")

    @property
    def broken(self) -> int:
        """How many of them are broken: no request could be made from them."""
        return sum(kind.count for kind in self.kinds if kind.error_code == BAD_ROW)


class OpenRetry(Struct, frozen=True, kw_only=True):
    """A retry that was interrupted. settings: those of its job. pending: the rows that it has not asked again."""

    settings: Mapping[str, Json]
    pending: int


def open_retry(fetch: Fetch, run_id: int) -> OpenRetry | None:
    """Return the retry of a run that has begun and has rows left; None if there is none."""
    pending: int = fetch(number_pending(run_id))[0][0]
    if not pending:
        return None
    begun = (retries.c.run_id == run_id, retries.c.begun_at.is_not(None))
    found = fetch(sa.select(retries.c.settings).where(*begun).order_by(retries.c.id.desc()).limit(1))
    return OpenRetry(settings=database.settings_of(found[0][0] or "") or {} if found else {}, pending=pending)


def number_pending(run_id: int) -> sa.Select[Any]:
    """Return the statement that counts the rows that the retry of a run has still to ask again."""
    begun = sa.select(retries.c.id).where(retries.c.run_id == run_id, retries.c.begun_at.is_not(None))
    left = (retried.c.run_id == run_id, retried.c.outcome.is_(None), retried.c.retry_id.in_(begun))
    return sa.select(sa.func.count()).select_from(retried).where(*left)


async def add(connection: AsyncConnection, run_id: int, settings: Mapping[str, Json]) -> int:
    """Add a retry that has not begun, and return its number. settings: those of its job, without secrets."""
    finished = (await connection.execute(sa.select(runs.c.finished_at).where(runs.c.id == run_id))).scalar()
    before = sa.select(retries.c.was_finished).where(retries.c.run_id == run_id, retries.c.begun_at.is_not(None))
    # the last one may have been interrupted
    interrupted = bool((await connection.execute(number_pending(run_id))).scalar())
    was = finished is not None or (interrupted and bool((await connection.execute(before)).scalar()))
    values = {"was_finished": was, "settings": msgspec.json.encode(settings).decode()}
    added = await connection.execute(sa.insert(retries).values(run_id=run_id, **values))
    return int((added.inserted_primary_key or (0,))[0])


async def choose(
    connection: AsyncConnection,
    run_id: int,
    retry: int,
    wanted: sa.ColumnElement[bool],
    answers: int,
    keys: Sequence[str] | None = None,
) -> None:
    """Choose the rows of a run for a retry. answers: how many of each row are wanted. keys: only these; None: all of them."""
    where = [items.c.run_id == run_id, items.c.answer_number <= answers, wanted]
    where += [items.c.key.in_(keys)] if keys is not None else []
    rows = sa.select(sa.literal(retry), items.c.run_id, items.c.key).where(*where)
    await connection.execute(sa.insert(retried).from_select(["retry_id", "run_id", "item_key"], rows))


async def looked_at(connection: AsyncConnection, run_id: int, retry: int | None) -> Chosen:
    """Return what a retry has chosen. retry: one that has not begun; None: the one that has, as far as rows are left."""
    begun = sa.select(retries.c.id).where(retries.c.run_id == run_id, retries.c.begun_at.is_not(None))
    number = retry if retry is not None else (await connection.execute(begun.order_by(retries.c.id.desc()))).scalar()
    joined = retried.join(items, sa.and_(items.c.run_id == retried.c.run_id, items.c.key == retried.c.item_key))
    mine = (retried.c.run_id == run_id, retried.c.retry_id == number, retried.c.outcome.is_(None))
    columns = (items.c.status, items.c.error_code, items.c.finish_reason, items.c.notes)
    kinds = sa.select(*columns, sa.func.count()).select_from(joined).where(*mine).group_by(*columns)
    first = sa.select(items.c.key).select_from(joined).where(*mine).order_by(items.c.position, items.c.id).limit(_SHOWN)
    was = (await connection.execute(sa.select(retries.c.was_finished).where(retries.c.id == number))).scalar()
    return Chosen(
        kinds=[
            Kind(status=status, error_code=code, finish_reason=reason, notes=notes, count=count)
            for status, code, reason, notes, count in await connection.execute(kinds)
        ],
        first=list((await connection.execute(first)).scalars()),
        instead_of=(await connection.execute(number_pending(run_id))).scalar_one() if retry is not None else 0,
        was_finished=bool(was),
    )


async def begin(connection: AsyncConnection, run_id: int, retry: int) -> None:
    """Begin a retry, in place of the one before it."""
    await connection.execute(sa.delete(retried).where(retried.c.run_id == run_id, retried.c.retry_id != retry))
    await connection.execute(sa.delete(retries).where(retries.c.run_id == run_id, retries.c.id != retry))
    await connection.execute(sa.update(retries).where(retries.c.id == retry).values(begun_at=time.time()))


async def forget_unbegun(connection: AsyncConnection, run_id: int) -> None:
    """Delete a retry that has not begun: nothing was sent for it."""
    unbegun = (retries.c.run_id == run_id, retries.c.begun_at.is_(None))
    numbers = sa.select(retries.c.id).where(*unbegun)
    await connection.execute(sa.delete(retried).where(retried.c.run_id == run_id, retried.c.retry_id.in_(numbers)))
    await connection.execute(sa.delete(retries).where(*unbegun))


def forget_pending(run_id: int) -> sa.Delete:
    """Return the statement that gives up the rows that are left: they are no longer in the input."""
    return sa.delete(retried).where(retried.c.run_id == run_id, retried.c.outcome.is_(None))


def keep_replaced(driver: sqlite3.Connection, run_id: int, entries: Sequence[Entry]) -> None:
    """Keep the answers that outcomes are about to replace."""
    now = time.time()
    new = [(now, run_id, one.key, one.status, one.fingerprint) for one in entries if isinstance(one, Outcome) and not one.kept]
    driver.executemany(_KEEP, new)


def mark(driver: sqlite3.Connection, run_id: int, entries: Sequence[Entry]) -> None:
    """Write what became of rows that a retry has chosen, behind their outcomes."""
    outcomes = [one for one in entries if isinstance(one, Outcome)]
    driver.executemany(_MARK, [("kept" if one.kept else one.status, run_id, one.key) for one in outcomes])
