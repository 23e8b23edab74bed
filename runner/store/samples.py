"""What single rows of a run have cost, and which rows were drawn for an estimate of all. Synchronous."""

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import sqlalchemy as sa
from msgspec import Struct
from sqlalchemy.ext.asyncio import AsyncConnection

from runner.model import Status
from runner.store import database
from runner.store.cost import billed, cost, perhaps
from runner.store.schema import attempts, items, samples
from runner.store.spending import tokens_in, tokens_of

NEWEST = 1_000
"""Rows that tell what others will cost, at most: the newest."""
_BATCH = 500
_ATTEMPTS = (
    "SELECT a.* FROM items i JOIN attempts a ON a.id = i.attempt_id"
    " WHERE i.run_id = :run AND i.key IN :keys AND a.error_code IS NULL"
    " UNION ALL SELECT f.* FROM attempts f WHERE f.run_id = :run AND f.item_key IN :keys AND f.error_code IS NOT NULL"
)
"""The attempts of rows: the one that led to an answer, and the failed ones, which an index finds."""
_OF_ROWS = f"""
    SELECT a.item_key AS key, count(*) AS attempts, sum(a.duration_s) AS seconds,
           sum({billed("a")} AND p.input IS NULL) AS unpriced,
           sum(CASE WHEN {billed("a")} THEN coalesce({cost("a", "p")}, 0) ELSE 0 END) AS cost,
           sum(CASE WHEN {billed("a")} THEN {perhaps("a", "p")} ELSE 0 END) AS perhaps,
           sum({billed("a")} AND a.input_bound IS NOT NULL AND a.output_bound IS NULL) AS unlimited,
           coalesce(sum(a.input_tokens), 0) AS input_tokens, coalesce(sum(a.output_tokens), 0) AS output_tokens
    FROM ({_ATTEMPTS}) a LEFT JOIN prices p ON p.id = a.price_id GROUP BY a.item_key
"""  # noqa: S608 - constants
_NEWEST = (
    "SELECT DISTINCT item_key FROM attempts WHERE run_id + 0 = :run"
    " AND id > (SELECT id FROM attempts WHERE run_id + 0 = :run ORDER BY id DESC LIMIT 1) - :most ORDER BY id DESC"
)


class RowSpent(Struct, frozen=True, kw_only=True):
    """What all attempts of one settled row took, failed ones too. An answer that was taken over took nothing."""

    # False: it has failed
    done: bool = True
    attempts: int = 0
    # from sending to the end, over all attempts
    seconds: float = 0.0
    input_tokens: int = 0
    output_tokens: int = 0
    # picodollars; None: the price of an attempt is not known
    cost: int | None = 0
    # what it may have cost in addition; None: that has no limit
    perhaps: int | None = 0


class Stored(NamedTuple):
    """An outcome. has_text: also a failed row may have an answer. variant: the entry of the settings that made it."""

    key: str
    status: Status
    fingerprint: int
    error_code: str | None
    has_text: bool
    same_as: str | None
    variant: int | None


class RunSpent(Struct, frozen=True, kw_only=True):
    """The tokens of the billed attempts of a run, as far as they are known."""

    input_tokens: int
    output_tokens: int


def drawn_for(store: Path, run_id: int) -> str | None:
    """Return the rows that were drawn for an estimate of a run, as they are stored; None if none were."""
    with database.transaction(store, write=False) as connection:
        found: str | None = connection.execute(sa.select(samples.c.drawn).where(samples.c.run_id == run_id)).scalar()
        return found


def settled_keys(store: Path, run_id: int, keys: Iterable[str]) -> dict[str, bool]:
    """Return which of the keys have an outcome, and True for those that are done."""
    with database.transaction(store, write=False) as connection:
        found: dict[str, bool] = {}
        for batch in _batches(keys):
            mine = sa.select(items.c.key, items.c.status == "done").where(items.c.run_id == run_id, items.c.key.in_(batch))
            found.update(map(tuple, connection.execute(mine)))
        return found


def stored(store: Path, run_id: int, keys: Iterable[str]) -> dict[str, Stored]:
    """Return the outcomes that these keys have."""
    mine = (items.c.key, items.c.status, items.c.fingerprint, items.c.error_code, items.c.text.is_not(None), items.c.same_as)
    columns: list[Any] = [*mine, attempts.c.variant_id]
    joined = items.outerjoin(attempts, attempts.c.id == items.c.attempt_id)
    with database.transaction(store, write=False) as connection:
        found: dict[str, Stored] = {}
        for batch in _batches(keys):
            those = sa.select(*columns).select_from(joined).where(items.c.run_id == run_id, items.c.key.in_(batch))
            found.update((row[0], Stored(*row)) for row in connection.execute(those))
        return found


def spent_on(store: Path, run_id: int, keys: Iterable[str]) -> dict[str, RowSpent]:
    """Return what the rows with these keys took, those of them that have an outcome."""
    statement = sa.text(_OF_ROWS).bindparams(sa.bindparam("keys", expanding=True))
    found = {key: RowSpent(done=done) for key, done in settled_keys(store, run_id, keys).items()}
    with database.transaction(store, write=False) as connection:
        for batch in _batches(list(found)):
            for row in connection.execute(statement, {"run": run_id, "keys": batch}):
                found[row.key] = _spent(row, done=found[row.key].done)
    return found


def newest(store: Path, run_id: int) -> dict[str, RowSpent]:
    """Return what the newest settled rows took for which something was sent."""
    with database.transaction(store, write=False) as connection:
        keys = connection.execute(sa.text(_NEWEST), {"run": run_id, "most": 2 * NEWEST}).scalars().all()
    found = spent_on(store, run_id, keys[:NEWEST])
    return {key: spent for key, spent in found.items() if spent.attempts}


def is_attempted(store: Path, run_id: int) -> bool:
    """Return True if a run has made an attempt."""
    with database.transaction(store, write=False) as connection:
        return connection.execute(sa.select(attempts.c.id).where(attempts.c.run_id == run_id).limit(1)).first() is not None


def tokens_so_far(store: Path, run_id: int) -> RunSpent:
    """Add up the tokens of a run."""
    with database.transaction(store, write=False) as connection:
        groups = connection.execute(tokens_of(run_id)).all()
    return RunSpent(
        input_tokens=sum(tokens_in(group).read for group in groups),
        output_tokens=sum(tokens_in(group).written for group in groups),
    )


def _batches(keys: Iterable[str]) -> Iterator[list[str]]:
    left = iter(keys)
    while batch := list(islice(left, _BATCH)):
        yield batch


def _spent(row: Any, *, done: bool) -> RowSpent:
    return RowSpent(
        done=done,
        attempts=row.attempts,
        seconds=row.seconds,
        input_tokens=row.input_tokens,
        output_tokens=row.output_tokens,
        cost=None if row.unpriced else row.cost,
        perhaps=None if row.unlimited else row.perhaps or 0,
    )


async def note_drawn(connection: AsyncConnection, run_id: int, drawn: str) -> None:
    """Store which rows of a run were drawn for an estimate, in place of those that were drawn before."""
    await connection.execute(sa.delete(samples).where(samples.c.run_id == run_id))
    await connection.execute(sa.insert(samples).values(run_id=run_id, drawn=drawn))
