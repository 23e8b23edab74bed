"""What each of several endpoints of a run has done: its attempts, added up by where they went."""

import math
from collections import defaultdict
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from runner.figures import EndpointFigures
from runner.money import dollars
from runner.store import database
from runner.store.cost import billed, cost
from runner.store.schema import attempts, prices
from runner.store.spending import Fetch, of_run

_A, _P = "attempts", "prices"
_CANCELLED = "cancelled"


def by_endpoint(fetch: Fetch, run_id: int) -> list[EndpointFigures]:
    """Return what each endpoint of a run has done, the one with most answers first; nothing where there is one endpoint.

    fetch: must read the same state of the store in all calls.
    """
    a, count = attempts.c, sa.func.count()
    mine = (of_run(run_id), a.endpoint.is_not(None))
    if not fetch(sa.select(a.id).where(*mine).limit(1)):
        return []
    columns: tuple[Any, ...] = (
        a.endpoint,
        count,
        count.filter(a.error_code.is_(None)),
        count.filter(a.error_code != _CANCELLED),
        sa.func.sum(a.input_tokens),
        sa.func.sum(a.output_tokens),
        sa.literal_column(f"sum(CASE WHEN {billed(_A)} THEN {cost(_A, _P)} END)"),
    )
    priced = attempts.outerjoin(prices, prices.c.id == a.price_id)
    sums = fetch(sa.select(*columns).select_from(priced).where(*mine).group_by(a.endpoint))
    medians = _medians(fetch, run_id, {row[0]: row[2] for row in sums})
    found = [
        EndpointFigures(
            endpoint=name,
            attempts=number,
            answers=answers,
            failed_attempts=failed,
            input_tokens=read,
            output_tokens=written,
            cost=float(dollars(spent)) if spent is not None else None,
            p50_s=medians.get(name),
        )
        for name, number, answers, failed, read, written, spent in sums
    ]
    return sorted(found, key=lambda one: (-one.answers, one.endpoint))


def _medians(fetch: Fetch, run_id: int, answers: dict[str, int]) -> dict[str, float]:
    """Return the median seconds of the answers of each endpoint, by nearest rank. answers: their numbers."""
    a = attempts.c
    place = sa.func.row_number().over(partition_by=a.endpoint, order_by=a.duration_s).label("place")
    mine = (of_run(run_id), a.endpoint.is_not(None), a.error_code.is_(None))
    ranked = sa.select(a.endpoint, a.duration_s, place).where(*mine).subquery()
    named: defaultdict[int, set[str]] = defaultdict(set)
    for name, number in answers.items():
        named[math.ceil(number / 2)].add(name)
    rows = fetch(sa.select(ranked).where(ranked.c.place.in_(sorted(named))))
    return {name: seconds for name, seconds, rank in rows if name in named[rank]}


def read(store: Path, run_id: int) -> list[EndpointFigures]:
    """Return the same for a run of a store, at the end of a session. Blocks. Raises StoreError."""
    with database.transaction(store, write=False) as connection:
        return by_endpoint(lambda statement: list(connection.execute(statement)), run_id)
