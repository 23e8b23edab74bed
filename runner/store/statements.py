"""The statements that write entries, and the conversion of entries to rows of values for these statements.

The statements are compiled once for each set of columns, and passed directly to the driver. Compiling them for each batch, with a
switch of threads for each cursor, would cost more than the work of SQLite itself.
"""

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec
import sqlalchemy as sa
from msgspec.structs import astuple
from sqlalchemy.dialects import sqlite
from sqlalchemy.dialects.sqlite import insert

from runner.entries import price_of
from runner.model import Attempt, Completion, Entry, Outcome, Usage
from runner.money import Price, Rates
from runner.several import MARK, number_of
from runner.store.cost import most_of
from runner.store.retry_tables import IS_PENDING
from runner.store.schema import attempts, items
from runner.store.stored_fields import StoredFields

_ITEM = insert(items)
_UPSERT = _ITEM.on_conflict_do_update(
    index_elements=["run_id", "key"],
    set_={column.name: _ITEM.excluded[column.name] for column in items.columns if column.name not in ("id", "run_id", "key")},
    # an answer is never overwritten, except by the answer to a changed prompt under the same key (--accept-changes), or by that
    # of a retry that has chosen the row
    where=sa.or_(
        items.c.status != sa.literal_column("'done'"),
        sa.and_(
            _ITEM.excluded.status == sa.literal_column("'done'"),
            sa.or_(items.c.fingerprint != _ITEM.excluded.fingerprint, sa.literal_column(IS_PENDING)),
        ),
    ),
)


@lru_cache(maxsize=1_000)
def _compiled(statement: sa.Insert, names: tuple[str, ...]) -> str:
    insert_all = statement.values({name: sa.bindparam(name) for name in names})
    compiled = insert_all.compile(dialect=sqlite.dialect(paramstyle="qmark"))
    # the placeholders are exactly the columns, in this order
    assert getattr(compiled, "positiontup", None) == list(names)
    return str(compiled)


_ATTEMPT_NAMES = tuple(column.name for column in attempts.columns)
_ITEM_NAMES = tuple(column.name for column in items.columns if column.name != "id")

_SAVE_ATTEMPT = sa.insert(attempts)
# for a failure of a row that keeps its earlier answer: only the number of attempts changes
_KEEP_ITEM = "UPDATE items SET attempts = ? WHERE run_id = ? AND key = ?"
# for an outcome whose attempt was saved before it
_LINK_ITEM = """
UPDATE items SET attempt_id = (
    SELECT max(a.id) FROM attempts a WHERE a.run_id = items.run_id AND a.item_key = items.key AND a.error_code IS NOT NULL
) WHERE run_id = ? AND key = ? AND status = 'failed'
"""
_RATES = Rates.__struct_fields__
_NO_RATES = (None,) * len(_RATES)
_PRICE = ("model", "tier", *_RATES, *(most_of(name) for name in _RATES))
_FIND_PRICE = f"SELECT id FROM prices WHERE run_id = ? AND {' AND '.join(f'{name} IS ?' for name in _PRICE)}"  # noqa: S608
_ADD_PRICE = f"INSERT INTO prices (run_id, {', '.join(_PRICE)}) VALUES (?{', ?' * len(_PRICE)})"  # noqa: S608
_NO_USAGE, _NO_ANSWER = Usage(), Completion(text="", finish_reason="")
LAST_ATTEMPT = "SELECT coalesce(max(id), 0) FROM attempts"
FORGET_ATTEMPTS = "DELETE FROM attempts WHERE run_id = ? AND id > ?"
FORGET_ITEMS = "DELETE FROM items WHERE run_id = ? AND attempt_id > ?"


class Rows(NamedTuple):
    """The values of a batch.

    settled: outcomes. kept: failures of rows that keep their answer. linked: outcomes whose attempt was saved before.
    """

    sent: list[tuple[Any, ...]]
    settled: list[tuple[Any, ...]]
    kept: list[tuple[Any, ...]]
    linked: list[tuple[Any, ...]]


def batch_rows(
    run_id: int, entries: Sequence[Entry], last: int, variant: int | None = None, priced: Mapping[Price, int] | None = None
) -> Rows:
    """Return the rows of attempts and items.

    The attempts are numbered from ``last`` + 1. variant: the entry of the settings that made them. priced: the entries of their
    prices.
    """
    sent, settled, kept, linked = batch = Rows([], [], [], [])
    # a price is looked up once for a row of attempts that have the same one: to hash it takes as long as to make all their values
    of, number = None, None
    for entry in entries:
        attempt = entry if isinstance(entry, Attempt) else entry.attempt
        if attempt is not None:
            last += 1
            if priced and (attempt.price is not of or of is None):
                of, number = attempt.price, priced.get(price_of(attempt))
            sent.append(_attempt(run_id, last, attempt, variant, number))
        if isinstance(entry, Outcome):
            if entry.kept:
                kept.append((entry.attempts, run_id, entry.key))
                continue
            settled.append(_item(run_id, entry, last if attempt is not None else None))
            if entry.booked:
                linked.append((run_id, entry.key))
    return batch


def write(driver: sqlite3.Connection, batch: Rows) -> None:
    """Write a batch."""
    _insert(driver, _SAVE_ATTEMPT, _ATTEMPT_NAMES, batch.sent)
    _insert(driver, _UPSERT, _ITEM_NAMES, batch.settled)
    driver.executemany(_KEEP_ITEM, batch.kept)
    driver.executemany(_LINK_ITEM, batch.linked)


def _insert(driver: sqlite3.Connection, statement: sa.Insert, names: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> None:
    """Insert rows, without the columns that are NULL in all of them: so most are.

    For each NULL, sqlite3 looks for an adapter of ``None``, which takes as long as to bind five texts.
    """
    if rows:
        columns = zip(names, zip(*rows, strict=True), strict=True)
        filled = {name: of for name, of in columns if of[0] is not None or of.count(None) < len(of)}
        driver.executemany(_compiled(statement, tuple(filled)), zip(*filled.values(), strict=True))


def _attempt(run_id: int, id_: int, attempt: Attempt, variant: int | None, price: int | None) -> tuple[Any, ...]:
    usage = attempt.usage or _NO_USAGE
    return (
        id_,
        run_id,
        attempt.key,
        attempt.number,
        attempt.started_at,
        attempt.duration_s,
        attempt.time_to_first_token_s,
        attempt.status,
        # also of a bool it would look for an adapter
        int(attempt.sent),
        attempt.bytes_received,
        usage.input_tokens,
        usage.output_tokens,
        usage.cached_tokens,
        usage.reasoning_tokens,
        attempt.served_model,
        attempt.response_id,
        attempt.error_code,
        attempt.error,
        variant,
        usage.cache_write_tokens,
        attempt.tier,
        attempt.input_bound,
        attempt.output_bound,
        price,
        usage.cache_write_1h_tokens,
        attempt.cache_1h_bound,
        attempt.endpoint,
    )


def number_prices(driver: sqlite3.Connection, run_id: int, wanted: Iterable[Price]) -> dict[Price, int]:
    """Return the entries of prices; those that the run does not have yet are added."""
    numbers = {}
    for price in wanted:
        rates, top = (astuple(one) if one is not None else _NO_RATES for one in (price.rates, price.most))
        values = (run_id, price.model, price.tier, *rates, *top)
        found = driver.execute(_FIND_PRICE, values).fetchone()
        numbers[price] = found[0] if found else driver.execute(_ADD_PRICE, values).lastrowid or 0
    return numbers


def _item(run_id: int, outcome: Outcome, attempt_id: int | None) -> tuple[Any, ...]:
    answer, key = outcome.completion or _NO_ANSWER, outcome.key
    return (
        run_id,
        key,
        outcome.position,
        outcome.status,
        outcome.fingerprint,
        outcome.attempts,
        attempt_id,
        None if answer is _NO_ANSWER else answer.finish_reason,
        outcome.error_code,
        outcome.error,
        ",".join(answer.notes) or None,
        _json(outcome.metadata) if outcome.metadata else None,
        _json(answer.extra) if answer.extra else None,
        None if answer is _NO_ANSWER else answer.text,
        number_of(key) if MARK in key else 1,
        outcome.same_as,
        outcome.made_seed,
    )


def _json(value: Mapping[str, Any]) -> str:
    return value.text if isinstance(value, StoredFields) else msgspec.json.encode(value).decode()
