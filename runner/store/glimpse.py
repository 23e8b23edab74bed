"""A glimpse of a store for what a shell completes: names, numbers, tags, models and error codes of its runs.

It is quick, changes nothing and waits for nobody. A store that is locked, damaged or of another version shows what can be read of
it, and no more. So this module imports nothing that takes time.
"""

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from time import monotonic
from typing import Any
from urllib.parse import quote

_WAIT_S, _LONGEST_S = 0.1, 0.3
"""Seconds for which a lock is waited for, and after which a query is given up: a person waits for the answer."""
_NAMES = "SELECT name, run_id FROM labels WHERE name IS NOT NULL ORDER BY run_id DESC"
_INPUTS = "SELECT id, input FROM runs ORDER BY id DESC LIMIT 200"
_TAGS = "SELECT DISTINCT value FROM labels, json_each(labels.tags) WHERE json_valid(labels.tags)"
_MODELS = "SELECT DISTINCT json_extract(settings, '$.model') FROM runs WHERE json_valid(settings) ORDER BY id DESC"
_CODES = "SELECT DISTINCT error_code FROM items WHERE status = 'failed' AND error_code IS NOT NULL"


def names(store: Path) -> list[tuple[str, int]]:
    """Return the names of runs with their numbers, the newest run first."""
    return [(str(name), number) for name, number in _read(store, _NAMES)]


def inputs(store: Path) -> list[tuple[int, str]]:
    """Return the numbers of the newest runs with what their inputs are called, the newest run first."""
    return [(number, str(name)) for number, name in _read(store, _INPUTS)]


def tags(store: Path) -> list[str]:
    """Return the tags of all runs."""
    return [str(tag) for (tag,) in _read(store, _TAGS)]


def models(store: Path) -> list[str]:
    """Return the models of the runs, that of the newest first."""
    return [str(model) for (model,) in _read(store, _MODELS) if model is not None]


def codes(store: Path) -> list[str]:
    """Return the error codes of failed rows."""
    return [str(code) for (code,) in _read(store, _CODES)]


def _read(store: Path, query: str) -> list[tuple[Any, ...]]:
    """Return what a query finds; nothing if the store cannot be read now."""
    if not store.is_file():
        return []
    address = f"file:{quote(os.fsencode(store.resolve()))}?mode=ro"
    try:
        with closing(sqlite3.connect(address, uri=True, timeout=_WAIT_S)) as connection:
            until = monotonic() + _LONGEST_S
            connection.set_progress_handler(lambda: monotonic() > until, 10_000)
            return connection.execute(query).fetchall()
    except sqlite3.Error:
        return []
