"""The answers that rows had before: a retry, or the answer to a changed prompt, has replaced them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import sqlalchemy as sa
from msgspec import Struct

from runner.model import Json, Status
from runner.several import number_of, row_of
from runner.store import database
from runner.store.cost import billed, cost
from runner.store.schema import attempts, items, prices, replaced
from runner.store.spending import Fetch

_READ = 100


class FormerAnswer(Struct, frozen=True, kw_only=True):
    """An answer that a newer one has replaced. id: of its row. replaced_at: when, in seconds since the epoch.

    status: "failed" for the text of a row that had failed, such as an answer that did not fit its schema.
    """

    id: str
    answer_number: int = 1
    replaced_at: float
    status: Status
    text: str | None
    finish_reason: str | None
    error_code: str | None
    error: str | None
    notes: str | None
    # reasoning, refusal, tool calls, citations, logprobs
    extra: dict[str, Json]


def of_run(store: Path, run_id: int) -> Iterator[FormerAnswer]:
    """Yield the former answers of a run, oldest first, in constant memory. Raises StoreError."""
    with database.transaction(store, write=False) as connection:
        yield from answers(connection, store, replaced.c.run_id == run_id)


def answers(connection: sa.Connection, store: Path, *where: sa.ColumnElement[bool]) -> Iterator[FormerAnswer]:
    """Yield the former answers for which conditions hold, oldest first. Raises StoreError."""
    found = connection.execution_options(yield_per=_READ).execute(sa.select(replaced).where(*where).order_by(replaced.c.id))
    for row in found:
        yield _answer(store, row)


def spent_on_newer(store: Path, run_id: int) -> int:
    """Return what a run has cost for answers of rows that had one already, in picodollars, as far as it is known. Blocks."""
    with database.transaction(store, write=False) as connection:
        return on_newer(lambda statement: list(connection.execute(statement)), run_id)


def on_newer(fetch: Fetch, run_id: int) -> int:
    """Do what ``spent_on_newer`` does, in the state of the store that ``fetch`` reads."""
    old = sa.select(replaced.c.item_key.label("key"), replaced.c.attempt_id.label("id")).where(replaced.c.run_id == run_id)
    rows = sa.select(replaced.c.item_key).where(replaced.c.run_id == run_id)
    now = sa.select(items.c.key, items.c.attempt_id).where(items.c.run_id == run_id, items.c.key.in_(rows))
    every = sa.union(old, now).subquery()
    first = sa.func.min(every.c.id).over(partition_by=every.c.key).label("first")
    each = sa.select(every.c.id, first).subquery()
    joined = each.join(attempts, attempts.c.id == each.c.id).join(prices, prices.c.id == attempts.c.price_id)
    of = sa.literal_column(cost("attempts", "prices"), sa.Integer)
    newer = (each.c.id > each.c.first, sa.text(billed("attempts")))
    return sum(amount or 0 for (amount,) in fetch(sa.select(of).select_from(joined).where(*newer)))


def _answer(store: Path, row: Any) -> FormerAnswer:
    try:
        extra = msgspec.json.decode(row.extra, type=dict[str, Any]) if row.extra is not None else {}
    except database.DAMAGE as error:
        raise database.store_error(store, "read", error) from error
    return FormerAnswer(
        id=row_of(row.item_key),
        answer_number=number_of(row.item_key),
        replaced_at=row.replaced_at,
        status=row.status,
        text=row.text,
        finish_reason=row.finish_reason,
        error_code=row.error_code,
        error=row.error,
        notes=row.notes,
        extra=extra,
    )
