"""What single rows of a run have cost, and which rows were drawn for an estimate of all. Synchronous."""

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import sqlalchemy as sa
from msgspec import Struct
from sqlalchemy.ext.asyncio import AsyncConnection

from runner.model import Status
from runner.money import Money
from runner.store import database
from runner.store.cost import at_an_end, billed, cost, perhaps, unknown
from runner.store.lock import held
from runner.store.retry_tables import IS_PENDING
from runner.store.schema import attempts, items, samples
from runner.store.spending import AtEnds, at_ends_of, money_of, rates_of, tokens_in, tokens_of

NEWEST = 1_000
"""Rows that tell what others will cost, at most: the newest."""
_BATCH = 500
_KEYS = 200_000
"""Keys in one statement that reads all attempts of a run."""
_ATTEMPTS = (
    "SELECT a.*, 1 AS last FROM items i JOIN attempts a ON a.id = i.attempt_id"
    " WHERE i.run_id = :run AND i.key IN :keys AND a.error_code IS NULL"
    " UNION ALL SELECT f.*, f.id IS i.attempt_id FROM attempts f LEFT JOIN items i ON i.run_id = f.run_id AND i.key = f.item_key"
    " WHERE f.run_id = :run AND f.item_key IN :keys AND f.error_code IS NOT NULL"
)
"""The attempts of rows: the one that led to an answer, and the failed ones, which an index finds. last: it led to the outcome."""
_EXPECTED = f"(NOT {at_an_end('a')})"
"""An attempt that tells of other rows."""
_OF_ROWS = f"""
    SELECT a.item_key AS key, a.last, sum({_EXPECTED}) AS attempts, sum({billed("a")} AND {_EXPECTED}) AS billed,
           sum(CASE WHEN {_EXPECTED} THEN a.duration_s ELSE 0 END) AS seconds,
           sum({billed("a")} AND {_EXPECTED} AND p.input IS NULL) AS unpriced,
           sum(CASE WHEN {billed("a")} THEN coalesce({cost("a", "p")}, 0) ELSE 0 END) AS cost,
           sum(CASE WHEN {billed("a")} AND {unknown("a")} AND {_EXPECTED} THEN {perhaps("a", "p")} ELSE 0 END) AS perhaps,
           sum(CASE WHEN {billed("a")} AND NOT {unknown("a")} THEN {perhaps("a", "p")} ELSE 0 END) AS unsure,
           sum({billed("a")} AND {unknown("a")} AND {_EXPECTED}) AS unknown,
           sum({billed("a")} AND {unknown("a")} AND {_EXPECTED} AND a.output_bound IS NULL) AS unlimited,
           coalesce(sum(a.input_tokens), 0) AS input_tokens, coalesce(sum(a.output_tokens), 0) AS output_tokens
    FROM ({_ATTEMPTS}) a LEFT JOIN prices p ON p.id = a.price_id GROUP BY a.item_key, a.last ORDER BY a.item_key, a.last
"""  # noqa: S608 - constants
_NEWEST = (
    "SELECT DISTINCT item_key FROM attempts WHERE run_id + 0 = :run"
    " AND id > (SELECT id FROM attempts WHERE run_id + 0 = :run ORDER BY id DESC LIMIT 1) - :most ORDER BY id DESC"
)


class Spent(NamedTuple):
    """What attempts took, as far as it is known. cost: picodollars."""

    input_tokens: int = 0
    output_tokens: int = 0
    cost: int = 0


class RowSpent(Struct, frozen=True, kw_only=True):
    """What all attempts of one settled row took, failed ones too. An answer that was taken over took nothing.

    Attempts that were open when their session ended are left out, beside their known cost: they tell nothing of other rows.
    """

    # False: it has failed
    done: bool = True
    # all of them, and those that were billed or may have been
    attempts: int = 0
    billed: int = 0
    # from sending to the end, over all attempts
    seconds: float = 0.0
    # the attempt that led to the outcome, and those that failed before it
    last: Spent = Spent()
    others: Spent = Spent()
    # False: the price of an attempt is not known
    priced: bool = True
    # attempts of unknown usage, and what they may cost beyond their known cost in picodollars; None: that has no limit
    unknown: int = 0
    perhaps: int | None = 0
    # what attempts of known usage may cost beyond their known cost, as some of their tokens are not told apart
    unsure: int = 0
    # True: the usage of the last attempt is known as a whole
    told: bool = False


class Stored(NamedTuple):
    """An outcome. has_text: also a failed row may have an answer. variant: the entry of the settings that made it.

    again: a retry has chosen the row, and has not asked it again yet.
    """

    key: str
    status: Status
    fingerprint: int
    error_code: str | None
    has_text: bool
    same_as: str | None
    variant: int | None
    again: bool


class RunSpent(Struct, frozen=True, kw_only=True):
    """What billed attempts of a run took: tokens, as far as they are known, and money.

    unknown: attempts of unknown usage, without those that were open when their session ended (``at_ends``).
    """

    input_tokens: int = 0
    output_tokens: int = 0
    unknown: int = 0
    money: Money = Money()
    at_ends: AtEnds = AtEnds()

    def plus(self, other: "RunSpent") -> "RunSpent":
        """Return both together."""
        return RunSpent(
            input_tokens=self.input_tokens + other.input_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
            unknown=self.unknown + other.unknown,
            money=self.money.plus(other.money),
            at_ends=self.at_ends.plus(other.at_ends),
        )


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
    columns: list[Any] = [*mine, attempts.c.variant_id, sa.literal_column(IS_PENDING, sa.Boolean)]
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
                found[row.key] = _with(found[row.key], row)
    return found


def newest(store: Path, run_id: int) -> dict[str, RowSpent]:
    """Return what the newest settled rows took for which something was sent."""
    with database.transaction(store, write=False) as connection:
        keys = connection.execute(sa.text(_NEWEST), {"run": run_id, "most": 2 * NEWEST}).scalars().all()
    found = spent_on(store, run_id, keys[:NEWEST])
    return {key: spent for key, spent in found.items() if spent.attempts}


def has_further(store: Path, run_id: int, answers: int) -> bool:
    """Return True if a run holds more answers of a row than so many."""
    further = sa.select(items.c.id).where(items.c.run_id == run_id, items.c.answer_number > max(1, answers)).limit(1)
    with database.transaction(store, write=False) as connection:
        return connection.execute(further).first() is not None


def so_far(store: Path, run_id: int, keys: Iterable[str] | None = None) -> RunSpent:
    """Add up what a run has taken. keys: those of the answers that count; None: all do, and what was open at kills."""
    ended = not held(store, run_id)
    with database.transaction(store, write=False) as connection:
        rates: list[Any] = list(connection.execute(rates_of(run_id)))
        found = RunSpent()
        for some in [None] if keys is None else _batches(keys, _KEYS):
            groups: list[Any] = list(connection.execute(tokens_of(run_id, some, ended=ended)))
            found = found.plus(_taken(rates, groups))
    return found


def _taken(rates: list[Any], groups: list[Any]) -> RunSpent:
    return RunSpent(
        input_tokens=sum(tokens_in(group).read for group in groups),
        output_tokens=sum(tokens_in(group).written for group in groups),
        unknown=sum(group.count for group in groups if group.bounded and not group.at_end),
        money=money_of(rates, groups),
        at_ends=at_ends_of(rates, groups),
    )


def _batches(keys: Iterable[str], size: int = _BATCH) -> Iterator[list[str]]:
    left = iter(keys)
    while batch := list(islice(left, size)):
        yield batch


def _with(spent: RowSpent, row: Any) -> RowSpent:
    """Return what a row took, with some of its attempts: the last one, or all others."""
    took = Spent(row.input_tokens, row.output_tokens, row.cost)
    limited = spent.perhaps is not None and not row.unlimited
    return RowSpent(
        done=spent.done,
        attempts=spent.attempts + row.attempts,
        billed=spent.billed + row.billed,
        seconds=spent.seconds + row.seconds,
        last=took if row.last else spent.last,
        others=spent.others if row.last else took,
        priced=spent.priced and not row.unpriced,
        unknown=spent.unknown + row.unknown,
        perhaps=(spent.perhaps or 0) + (row.perhaps or 0) if limited else None,
        unsure=spent.unsure + (row.unsure or 0),
        told=spent.told or bool(row.last and row.billed and not row.unknown),
    )


async def note_drawn(connection: AsyncConnection, run_id: int, drawn: str) -> None:
    """Store which rows of a run were drawn for an estimate, in place of those that were drawn before."""
    await connection.execute(sa.delete(samples).where(samples.c.run_id == run_id))
    await connection.execute(sa.insert(samples).values(run_id=run_id, drawn=drawn))
