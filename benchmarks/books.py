"""What the store of a run holds when its process has ended."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

STORE = "runner.db"
"""Its name, where the command does not say otherwise."""


class Tried(NamedTuple):
    """One attempt."""

    key: str
    number: int
    started_at: float
    duration_s: float
    tokens: int
    error_code: str | None


def statuses(folder: Path) -> dict[str, int]:
    """Count the items by status."""
    return dict(_rows(folder, "SELECT status, count(*) FROM items GROUP BY status"))


def texts(folder: Path, store: str = STORE) -> dict[str, str]:
    """Text of every item that is done, by key."""
    return dict(_rows(folder, "SELECT key, text FROM items WHERE status = 'done'", store))


def attempts(folder: Path) -> list[Tried]:
    """Every attempt, by the time it began."""
    query = (
        "SELECT item_key, number, started_at, duration_s, coalesce(input_tokens, 0) + coalesce(output_tokens, 0), error_code"
        " FROM attempts ORDER BY started_at"
    )
    return [Tried(*row) for row in _rows(folder, query)]


def errors(folder: Path) -> dict[str, int]:
    """Count the failed attempts by error code."""
    return dict(_rows(folder, "SELECT error_code, count(*) FROM attempts WHERE error_code IS NOT NULL GROUP BY error_code"))


def _rows(folder: Path, query: str, store: str = STORE) -> list[tuple]:  # type: ignore[type-arg]
    with closing(sqlite3.connect(f"{(folder / store).resolve().as_uri()}?mode=ro", uri=True)) as connection:
        return connection.execute(query).fetchall()
