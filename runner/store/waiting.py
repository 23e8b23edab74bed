"""The rows that wait in batches, in SQL: how they are found, taken out of their batch, and given up. Synchronous."""

import sqlite3
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import msgspec

from runner.batches import BatchRow, Reask
from runner.errors import StoreError
from runner.model import Entry, Json, Outcome
from runner.store.stored_fields import StoredFields

_FIELDS = (
    *("key", "custom_id", "position", "fingerprint", "metadata", "number", "repairs", "failures", "answered", "made_seed"),
    *("input_bound", "output_bound", "cache_1h_bound", "released"),
)
COLUMNS = ", ".join(_FIELDS)
_FIND = f"SELECT {COLUMNS}, id FROM batch_rows WHERE batch_id = ? AND "  # noqa: S608 - constants, here and below
ADD = f"INSERT INTO batch_rows (batch_id, run_id, {COLUMNS}) VALUES ({', '.join('?' * (len(_FIELDS) + 2))})"  # noqa: S608
LEFT = f"""
{_FIND} id > ? AND id BETWEEN (SELECT first_row FROM batches WHERE id = ?) AND (SELECT last_row FROM batches WHERE id = ?)
ORDER BY id LIMIT ?
"""  # noqa: S608
_SPACIOUS = "PRAGMA cache_size = -32768"
"""Kibibytes of pages that are kept while rows of batches are written: keys without an order touch all pages of an index."""
_TAKE_OUT = "DELETE FROM batch_rows WHERE batch_id = ? AND id BETWEEN ? AND ?"
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
_NO_FIELDS: Mapping[str, Json] = MappingProxyType({})
REASKS = "SELECT key, messages, repairs, failures, fingerprint FROM reasks WHERE run_id = ? AND key IN ({})"


class Found(NamedTuple):
    """An entry of ``batch_rows``."""

    id: int
    row: BatchRow


def add(driver: sqlite3.Connection, run_id: int, batch_id: int, rows: Sequence[BatchRow]) -> None:
    """Write rows of a batch. Raises StoreError for one that waits in another batch."""
    driver.execute(_SPACIOUS)
    values = [
        (
            batch_id,
            run_id,
            row.key,
            row.custom_id if row.custom_id != row.key else None,
            row.position,
            row.fingerprint,
            row.metadata.text
            if isinstance(row.metadata, StoredFields)
            else (msgspec.json.encode(row.metadata).decode() if row.metadata else None),
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


def _bounds(rows: Iterable[BatchRow]) -> tuple[int, int, int, int]:
    """Add up the most tokens of rows: input, output, in a cache of an hour; and how many have no limit."""
    read = written = hour = unlimited = 0
    for row in rows:
        read += row.input_bound or 0
        hour += row.cache_1h_bound or 0
        if row.output_bound is None:
            unlimited += 1
        else:
            written += row.output_bound
    return read, written, hour, unlimited


def take_out(driver: sqlite3.Connection, batch_id: int, found: Collection[Found]) -> int:
    """Take rows out of their batch; return how many were still there."""
    driver.execute(_SPACIOUS)
    # most results come in the order of the requests: stretches of entries go for half of the price of single ones
    stretches: list[list[int]] = []
    for number in sorted(one.id for one in found):
        if stretches and stretches[-1][1] == number - 1:
            stretches[-1][1] = number
        else:
            stretches.append([number, number])
    gone = driver.executemany(_TAKE_OUT, [(batch_id, *one) for one in stretches]).rowcount if stretches else 0
    released = sum(one.row.released for one in found)
    driver.execute(_COUNT_OUT, (len(found) - released, released, *_bounds(one.row for one in found), batch_id))
    return gone


def queries(run_id: int, batch_id: int, custom_ids: Sequence[str]) -> list[tuple[str, tuple[Any, ...]]]:
    """Return the queries, with their values, that find rows by the ids of their requests: most are called as their rows."""
    places = _places(custom_ids)
    return [
        (_FIND + f"run_id = ? AND key IN ({places}) AND released = 0 AND custom_id IS NULL", (batch_id, run_id, *custom_ids)),
        (_FIND + f"custom_id IN ({places}) AND custom_id IS NOT NULL", (batch_id, *custom_ids)),
    ]


def find(driver: sqlite3.Connection, run_id: int, batch_id: int, custom_ids: Sequence[str]) -> dict[str, Found]:
    """Return those of these rows that have no result yet, by the id of the request."""
    found: dict[str, Found] = {}
    for query, values in queries(run_id, batch_id, custom_ids):
        found.update((one.row.custom_id, one) for one in map(found_of, driver.execute(query, values)))
    return found


def found_of(values: tuple[Any, ...]) -> Found:
    """Return the entry of values in the order of ``COLUMNS``, with its number behind them."""
    return Found(values[-1], row_of(values[:-1]))


def row_of(values: tuple[Any, ...]) -> BatchRow:
    """Return the row of values in the order of ``COLUMNS``."""
    key, custom_id, position, asked, fields, number, repairs, failures, answered, seed, read, written, hour, released = values
    return BatchRow(
        custom_id=custom_id or key,
        key=key,
        position=position,
        fingerprint=asked,
        metadata=StoredFields(fields) if fields else _NO_FIELDS,
        number=number,
        repairs=repairs,
        failures=failures,
        answered=answered == 1,
        made_seed=seed,
        input_bound=read,
        output_bound=written,
        cache_1h_bound=hour,
        released=released == 1,
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
