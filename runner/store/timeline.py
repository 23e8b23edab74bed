"""What the attempts of a run did from moment to moment, in equal stretches of time: added up by SQLite, in constant memory.

How many requests were open in a stretch, as a mean, is exact: the time for which they were open in it, by its length. A request
is open until its answer is complete; what a session notes of itself (``sessions``) has it in flight until it is saved.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from msgspec import Struct

from runner.store import database
from runner.store.cost import billed, cost
from runner.store.schema import attempts

_MINE = (
    "a.run_id + 0 = :run AND a.id BETWEEN (SELECT min(id) FROM attempts WHERE run_id = :run)"
    " AND (SELECT max(id) FROM attempts WHERE run_id = :run)"
)
"""The attempts of a run in the order of the table: the index, in the order of the keys, is several times slower."""
# what lies before the first stretch is in number -1, what lies behind the last one is not read
_NUMBER = "CASE WHEN {at} < :since THEN -1 ELSE CAST(({at} - :since) / :width AS INTEGER) END"
_BEGUN = f"""
    SELECT {_NUMBER.format(at="a.started_at")} AS number, count(*), sum(a.started_at - :since)
    FROM attempts a WHERE {_MINE} AND a.started_at < :until GROUP BY 1
"""  # noqa: S608 - constants
_ENDED = f"""
    SELECT {_NUMBER.format(at="a.started_at + a.duration_s")} AS number, count(*), sum(a.started_at + a.duration_s - :since),
           sum(a.error_code IS NULL), sum(coalesce(a.error_code, '') IN ('rate_limited', 'no_capacity', 'overloaded')),
           sum(a.error_code IS NOT NULL), sum(coalesce(a.input_tokens, 0)), sum(coalesce(a.output_tokens, 0)),
           sum(CASE WHEN {billed("a")} THEN {cost("a", "p")} ELSE 0 END) / 1e12
    FROM attempts a LEFT JOIN prices p ON p.id = a.price_id
    WHERE {_MINE} AND a.started_at + a.duration_s < :until GROUP BY 1
"""  # noqa: S608 - constants


class Traffic(Struct, frozen=True, kw_only=True):
    """One stretch of time. at: its beginning, in UTC seconds since the epoch. Attempts count where they begin, or where they end.

    in_flight: requests that were open, as a mean over the stretch. refused: of the failed ones, those that a limit of the server
    refused (429, 529, no capacity at the flex tier). cost: dollars of the attempts that ended; None: no price is known of any.
    """

    at: float
    begun: int = 0
    done: int = 0
    failed: int = 0
    refused: int = 0
    in_flight: float = 0.0
    input_tokens: int = 0
    output_tokens: int = 0
    cost: float | None = None


def traffic(store: Path, run_id: int, since: float, until: float, *, stretches: int = 300) -> list[Traffic]:
    """Return what the attempts of a run did between two times, in so many stretches of equal length, oldest first.

    since, until: UTC seconds since the epoch. A million attempts take about two seconds. Empty if the time is. Raises StoreError.
    """
    if until <= since or stretches < 1:
        return []
    width = (until - since) / stretches
    values = {"run": run_id, "since": since, "until": until, "width": width}
    with database.transaction(store, write=False) as connection:
        begun = _by_number(connection, _BEGUN, values)
        ended = _by_number(connection, _ENDED, values)
    opened, closed = _open_until(begun, width, stretches), _open_until(ended, width, stretches)
    found = []
    for number in range(stretches):
        count = begun.get(number, (0,))[0]
        ends = ended.get(number, (0, 0.0, 0, 0, 0, 0, 0, None))
        seconds = opened[number] - closed[number]
        found.append(
            Traffic(
                at=since + number * width,
                begun=count,
                done=ends[2],
                refused=ends[3],
                failed=ends[4],
                in_flight=max(0.0, seconds / width),
                input_tokens=ends[5],
                output_tokens=ends[6],
                cost=ends[7],
            )
        )
    return found


def span_of(store: Path, run_id: int) -> tuple[float, float] | None:
    """Return when the first attempt of a run began and when the last one ended; None if it has none. UTC seconds."""
    a = attempts.c
    edges = sa.select(sa.func.min(a.started_at), sa.func.max(a.started_at + a.duration_s)).where(a.run_id + 0 == run_id)
    with database.transaction(store, write=False) as connection:
        first, last = connection.execute(edges).one()
    return (first, last) if first is not None else None


def _by_number(connection: sa.Connection, query: str, values: dict[str, Any]) -> dict[int, Sequence[Any]]:
    return {number: sums for number, *sums in connection.execute(sa.text(query), values)}


def _open_until(edges: dict[int, Sequence[Any]], width: float, stretches: int) -> list[float]:
    """Return for each stretch the seconds in it that lie behind the edges, added up. edges: their number and sum by stretch."""
    behind = edges.get(-1, (0,))[0]
    seconds = []
    for number in range(stretches):
        count, total = (edges.get(number) or (0, 0.0))[:2]
        # those of this stretch count from where they lie in it
        seconds.append(behind * width + count * (number + 1) * width - total)
        behind += count
    return seconds
