"""The rows that wait in batches, in SQL: how they are found, taken out of their batch, and given up. Synchronous."""

import sqlite3
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from runner.batches import BatchRow, Reask
from runner.errors import StoreError
from runner.model import Entry, Outcome

_FIELDS = (
    *("key", "custom_id", "position", "fingerprint", "metadata", "number", "repairs", "failures", "answered", "made_seed"),
    *("input_bound", "output_bound", "cache_1h_bound", "released"),
)
COLUMNS = ", ".join(_FIELDS)
ADD = f"INSERT INTO batch_rows (batch_id, run_id, {COLUMNS}) VALUES ({', '.join('?' * (len(_FIELDS) + 2))})"  # noqa: S608
LEFT = f"""
SELECT {COLUMNS} FROM batch_rows WHERE batch_id = ? AND id BETWEEN (SELECT first_row FROM batches WHERE id = ?)
    AND (SELECT last_row FROM batches WHERE id = ?) ORDER BY id LIMIT ?
"""  # noqa: S608
_TAKE_OUT = "DELETE FROM batch_rows WHERE id = ?"
_FOUND = "id, key, coalesce(custom_id, key), released, fingerprint, input_bound, output_bound, cache_1h_bound"
_COUNT_OUT = """
UPDATE batches SET waiting = waiting - ?, released = released - ?, left_input = left_input - ?, left_output = left_output - ?,
    left_1h = left_1h - ?, left_unlimited = left_unlimited - ? WHERE id = ?
"""
_COUNT_IN = """
UPDATE batches SET rows = rows + ?, waiting = waiting + ?, left_input = left_input + ?, left_output = left_output + ?,
    left_1h = left_1h + ?, left_unlimited = left_unlimited + ?, input_bound = input_bound + ?,
    output_bound = CASE WHEN ? THEN NULL ELSE output_bound + ? END, first_row = coalesce(first_row, ?), last_row = ? WHERE id = ?
"""
_OTHERS = "SELECT key FROM batch_rows WHERE run_id = ? AND key IN ({}) AND released = 0 LIMIT 1"
_REASK = """
INSERT OR REPLACE INTO reasks (run_id, key, messages, repairs, failures, fingerprint) VALUES (?, ?, ?, ?, ?, ?)
"""
REASKS = "SELECT key, messages, repairs, failures, fingerprint FROM reasks WHERE run_id = ? AND key IN ({})"


class Waiting(NamedTuple):
    """An entry of ``batch_rows``: what taking it out of its batch needs. number: of its attempt."""

    id: int
    key: str
    custom_id: str
    released: bool
    fingerprint: int
    input_bound: int | None
    output_bound: int | None
    cache_1h_bound: int | None


def add(driver: sqlite3.Connection, run_id: int, batch_id: int, rows: Sequence[BatchRow]) -> None:
    """Write rows of a batch. Raises StoreError for one that waits in another batch."""
    values = [
        (
            batch_id,
            run_id,
            row.key,
            row.custom_id if row.custom_id != row.key else None,
            row.position,
            row.fingerprint,
            msgspec.json.encode(row.metadata).decode() if row.metadata else None,
            row.number,
            row.repairs,
            row.failures,
            int(row.answered),
            row.made_seed,
            row.input_bound,
            row.output_bound,
            row.cache_1h_bound,
            0,
        )
        for row in rows
    ]
    try:
        driver.executemany(ADD, values)
    except sqlite3.IntegrityError as error:
        raise StoreError(_why_not(driver, run_id, [row.key for row in rows])) from error
    ((last,),) = driver.execute("SELECT max(id) FROM batch_rows")
    sums = _bounds(rows)
    count = len(rows)
    changed = (count, count, *sums, sums[0], sums[3], sums[1], last - count + 1, last, batch_id)
    driver.execute(_COUNT_IN, changed)


def _why_not(driver: sqlite3.Connection, run_id: int, keys: Sequence[str]) -> str:
    found = driver.execute(_OTHERS.format(_places(keys)), (run_id, *keys)).fetchone()
    twice = next((key for key, count in Counter(keys).items() if count > 1), None)
    key = twice or (found[0] if found else keys[0])
    return f"the row {key!r} of run {run_id} waits in a batch already, so it is put into no other; nothing was written"


def _bounds(rows: Sequence[BatchRow] | Sequence[Waiting]) -> tuple[int, int, int, int]:
    """Add up the most tokens of rows: input, output, in a cache of an hour; and how many have no limit."""
    return (
        sum(row.input_bound or 0 for row in rows),
        sum(row.output_bound or 0 for row in rows),
        sum(row.cache_1h_bound or 0 for row in rows),
        sum(row.output_bound is None for row in rows),
    )


def take_out(driver: sqlite3.Connection, batch_id: int, rows: Sequence[Waiting]) -> None:
    """Take rows out of their batch."""
    driver.executemany(_TAKE_OUT, [(row.id,) for row in rows])
    released = sum(row.released for row in rows)
    driver.execute(_COUNT_OUT, (len(rows) - released, released, *_bounds(rows), batch_id))


def find(driver: sqlite3.Connection, run_id: int, batch_id: int, custom_ids: Sequence[str]) -> dict[str, Waiting]:
    """Return those of these rows that have no result yet, by the id of the request."""
    found = {}
    for query, values in queries(_FOUND, run_id, batch_id, custom_ids):
        for one in map(Waiting._make, driver.execute(query, values)):
            found[one.custom_id] = one
    return found


def queries(columns: str, run_id: int, batch_id: int, custom_ids: Sequence[str]) -> list[tuple[str, tuple[Any, ...]]]:
    """Return the queries, with their values, that find rows by the ids of their requests: most are called as their rows."""
    places = _places(custom_ids)
    select = f"SELECT {columns} FROM batch_rows WHERE batch_id = ? AND "  # noqa: S608
    return [
        (select + f"run_id = ? AND key IN ({places}) AND released = 0 AND custom_id IS NULL", (batch_id, run_id, *custom_ids)),
        (select + f"custom_id IN ({places}) AND custom_id IS NOT NULL", (batch_id, *custom_ids)),
    ]


def row_of(values: Sequence[Any]) -> BatchRow:
    """Return the row of values in the order of ``COLUMNS``."""
    key, custom_id, position, fingerprint, metadata, number, repairs, failures, answered, *rest, released = values
    made_seed, input_bound, output_bound, cache_1h_bound = rest
    return BatchRow(
        custom_id=custom_id or key,
        key=key,
        position=position,
        fingerprint=fingerprint,
        metadata=msgspec.json.decode(metadata) if metadata else {},
        number=number,
        repairs=repairs,
        failures=failures,
        answered=bool(answered),
        made_seed=made_seed,
        input_bound=input_bound,
        output_bound=output_bound,
        cache_1h_bound=cache_1h_bound,
        released=bool(released),
    )


def add_reasks(driver: sqlite3.Connection, run_id: int, reasks: Sequence[Reask], fingerprints: Mapping[str, int]) -> None:
    """Write what rows are to be asked again with. fingerprints: of the rows as they were sent."""
    values = []
    for one in reasks:
        messages, fingerprint = msgspec.json.encode(one.messages).decode(), fingerprints.get(one.key, one.fingerprint)
        values.append((run_id, one.key, messages, one.repairs, one.failures, fingerprint))
    driver.executemany(_REASK, values)


def forget_reasks(driver: sqlite3.Connection, run_id: int, entries: Sequence[Entry]) -> None:
    """Delete what rows were to be asked again with that have an outcome now."""
    over = [(run_id, one.key) for one in entries if isinstance(one, Outcome)]
    driver.executemany("DELETE FROM reasks WHERE run_id = ? AND key = ?", over)


def _places(values: Sequence[object]) -> str:
    return ",".join("?" * len(values))
