"""Reads the store of a run after its process has ended."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

STORE = "runner.db"
"""The name of the store, unless the command sets another."""


class StoredAttempt(NamedTuple):
    """One attempt, as stored."""

    key: str
    number: int
    started_at: float
    duration_s: float
    tokens: int
    error_code: str | None


def statuses(folder: Path) -> dict[str, int]:
    """Return the number of items by status."""
    return dict(_rows(folder, "SELECT status, count(*) FROM items GROUP BY status"))


def texts(folder: Path, store: str = STORE) -> dict[str, str]:
    """Return the text of every item that is done, by key."""
    return dict(_rows(folder, "SELECT key, text FROM items WHERE status = 'done'", store))


def attempts(folder: Path) -> list[StoredAttempt]:
    """Return every attempt, ordered by start."""
    query = (
        "SELECT item_key, number, started_at, duration_s, coalesce(input_tokens, 0) + coalesce(output_tokens, 0), error_code"
        " FROM attempts ORDER BY started_at"
    )
    return [StoredAttempt(*row) for row in _rows(folder, query)]


def errors(folder: Path) -> dict[str, int]:
    """Return the number of failed attempts by error code."""
    return dict(_rows(folder, "SELECT error_code, count(*) FROM attempts WHERE error_code IS NOT NULL GROUP BY error_code"))


def _rows(folder: Path, query: str, store: str = STORE) -> list[tuple]:  # type: ignore[type-arg]
    with closing(sqlite3.connect(f"{(folder / store).resolve().as_uri()}?mode=ro", uri=True)) as connection:
        return connection.execute(query).fetchall()
