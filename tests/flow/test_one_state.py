"""Commands that read a store while a run goes on: all that one of them tells is of one state of it."""

import json
import re
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from changing import changed_after_each_read
from msgspec import to_builtins
from reported import BEGIN, SETTINGS, entries, stored

from runner import api
from runner.session import mending

ROWS = 20
CHANGES = (
    "DELETE FROM items WHERE id = (SELECT max(id) FROM items WHERE run_id = 1 AND status = 'failed')",
    "DELETE FROM items WHERE id = (SELECT max(id) FROM items WHERE run_id = 1 AND status = 'done')",
    "UPDATE attempts SET duration_s = duration_s + 1",
    "UPDATE sessions SET time = '{}', timeline = '[]'",
    "UPDATE variants SET settings = '{}'",
)
"""Each is one that a session, a retry or a deletion may make."""


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with two runs over the same rows, of which the first has failures, a session and a retry with other settings."""
    path = tmp_path_factory.mktemp("store") / "runner.db"
    stored(path, entries(ROWS))
    stored(path, entries(ROWS, seed=1), {**SETTINGS, "model": "other"})
    with closing(sqlite3.connect(path)) as connection, connection:
        moments = f"[[{ROWS}, 2, 8, null]]"
        session = "INSERT INTO sessions (run_id, began_at, noted_at, time, timeline) VALUES (1, ?, ?, ?, ?)"
        connection.execute(session, (BEGIN, BEGIN + ROWS, '{"total_s": 100.0, "answering_s": 100.0}', moments))
        connection.execute("""INSERT INTO variants (run_id, settings) VALUES (1, '{"max_tokens": 500}')""")
        connection.execute(
            "UPDATE items SET error_code = 'invalid_output', finish_reason = 'length' WHERE run_id = 1 AND status = 'failed'"
        )
    return path


@pytest.fixture
def store(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(original, tmp_path))


def page(store: Path) -> str:
    file = store.parent / "report.html"
    api.report(file, run_ids=[1, 2], db=store)
    text = file.read_text()
    file.unlink()
    # when it was made
    return re.sub(r"Made .{0,200}? UTC", "", text, flags=re.DOTALL)


def causes(store: Path) -> Any:
    with api.errors(1, db=store) as found:
        every = [*found.failed, *found.answered]
        told = [(dict(mending.told(one, found, str(store))), list(found.reader.ids(one))) for one in every]
        return to_builtins((found.run, told, found.ways.all()))


def books(store: Path) -> Any:
    return to_builtins(api.status(1, db=store))


def manifest(store: Path) -> Any:
    file = store.parent / "answers.csv"
    api.export(file, run_id=1, db=store, manifest=True)
    told = json.loads(file.with_name("answers.csv.manifest.json").read_text())
    told.pop("created_at")
    return told


@pytest.mark.parametrize("told", [page, causes, books, manifest])
def test_what_is_told_is_of_one_state_of_the_store(store: Path, told: Callable[[Path], Any]) -> None:
    before = told(store)
    with changed_after_each_read(store, CHANGES, "FROM items") as seen:
        found = told(store)
    assert len(seen) > 5
    assert found == before
    assert told(store) != before
