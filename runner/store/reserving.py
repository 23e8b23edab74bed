"""Reservations: what requests may use of a budget at most, written before they go out; what a killed session leaves of them."""

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from runner.admission import TOGETHER, Reservation
from runner.model import Attempt
from runner.money import Price
from runner.store.schema import attempts, items, reservations

_RESERVE = (
    "INSERT OR REPLACE INTO reservations"
    " (run_id, item_key, number, started_at, input_bound, output_bound, price_id, variant_id, cache_1h_bound, requests)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_RELEASE = "DELETE FROM reservations WHERE run_id = ? AND item_key = ? AND number = ?"
_KEPT = ("run_id", "item_key", "number", "started_at", "input_bound", "output_bound", "price_id", "variant_id", "cache_1h_bound")


def reserve(
    driver: sqlite3.Connection,
    run_id: int,
    reserved: Sequence[Reservation],
    saved: Iterable[Attempt],
    priced: Mapping[Price, int],
    variant: int | None,
) -> None:
    """Write reservations, and delete those of attempts that are saved, in the same transaction, or for which nothing goes out.

    priced: the entries of their prices. variant: that of the session.
    """
    values = [
        (
            run_id,
            one.key,
            one.number,
            one.started_at,
            one.input_bound,
            one.output_bound,
            priced.get(one.price),
            variant,
            one.cache_1h_bound,
            one.requests,
        )
        for one in reserved
        if not one.void
    ]
    driver.executemany(_RESERVE, values)
    over = [(attempt.key, attempt.number) for attempt in saved] + [(one.key, one.number) for one in reserved if one.void]
    driver.executemany(_RELEASE, [(run_id, *one) for one in over])


async def book_killed(connection: AsyncConnection, run_id: int) -> None:
    """Turn what a killed session has left into attempts: they may have been billed, with all tokens that they could have.

    What it has left for all its requests together stays as it is: nobody knows of which rows they were.
    """
    left, words = reservations.c, "the process ended while this request was open"
    fixed: dict[str, Any] = dict(duration_s=0.0, sent=True, bytes_received=0, error_code="killed", error=words)  # noqa: C408
    found = sa.select(*(left[name] for name in _KEPT), *(sa.literal(value) for value in fixed.values()))
    single, together = left.item_key != TOGETHER, left.item_key == TOGETHER
    killed = found.where(left.run_id == run_id, single).order_by(left.id)
    await connection.execute(sa.insert(attempts).from_select([*_KEPT, *fixed], killed))
    # a row that was sent again has an outcome already, and its number of attempts tells whether there are others
    mine = (left.run_id == items.c.run_id, left.item_key == items.c.key, left.number > items.c.attempts)
    newest = sa.select(sa.func.max(left.number)).where(*mine).scalar_subquery()
    again = (
        items.c.run_id == run_id,
        items.c.key.in_(sa.select(left.item_key).where(left.run_id == run_id, single)),
        sa.exists().where(*mine),
    )
    await connection.execute(sa.update(items).where(*again).values(attempts=newest))
    await connection.execute(sa.delete(reservations).where(left.run_id == run_id, single))
    # the numbers below are those of this session
    mine = (left.run_id == run_id, together, left.number <= 0)
    await connection.execute(sa.update(reservations).where(*mine).values(number=left.id))


def release_together(run_id: int) -> sa.Delete:
    """Return the statement that deletes what a session has reserved for all its requests together."""
    left = reservations.c
    return sa.delete(reservations).where(left.run_id == run_id, left.item_key == TOGETHER, left.number <= 0)
