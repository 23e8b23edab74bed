"""Which rows a retry chooses: the words of ``--only`` and ``--class``, as conditions in SQL on real rows."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa

from runner.errors import UsageError
from runner.model import Run
from runner.session import only
from runner.session.options import Choice
from runner.store import database
from runner.store.reader import StoreReader
from runner.store.runs import open_run
from runner.store.schema import items

ROWS = {
    "cut": ("done", "length", None, None),
    "max": ("done", "max_tokens", None, None),
    "whole": ("done", "stop", None, None),
    "empty": ("done", "stop", "empty", None),
    "noted": ("done", "stop", "fenced,empty", None),
    "filtered": ("done", "content_filter", None, None),
    "slow": ("failed", None, None, "timeout_silence"),
    "busy": ("failed", None, None, "server_error"),
    "broken": ("failed", None, None, "bad_row"),
    "shape": ("failed", "stop", None, "invalid_output"),
}


@pytest.fixture
def read(tmp_path: Path) -> Iterator[tuple[StoreReader, Run]]:
    store = tmp_path / "r.db"
    database.prepare(store, create=True)
    open_run(store, tmp_path / "p.jsonl", {"model": "m"}, {}, new=False)
    with closing(sqlite3.connect(store)) as connection, connection:
        connection.executemany(
            "INSERT INTO items (run_id, key, position, status, fingerprint, attempts, finish_reason, notes, error_code)"
            " VALUES (1, ?, 1, ?, 0, 1, ?, ?, ?)",
            [(key, status, reason, notes, code) for key, (status, reason, notes, code) in ROWS.items()],
        )
    with StoreReader(store) as reader:
        yield reader, reader.run(1)


def chosen(read: tuple[StoreReader, Run], choice: Choice) -> set[str]:
    where = only.again(choice, *read).where
    with database.transaction(read[0].path, write=False) as connection:
        return set(connection.scalars(sa.select(items.c.key).where(where)))


@pytest.mark.parametrize(
    ("choice", "keys"),
    [
        (Choice(), "slow busy broken shape"),
        (Choice(classes=("length",)), "cut max"),
        (Choice(classes=("empty",)), "empty noted"),
        (Choice(classes=("content_filter",)), "filtered"),
        (Choice(classes=("whole",)), "whole"),
        (Choice(classes=("timeout",)), "slow"),
        (Choice(classes=("server", "shape")), "busy shape"),
        (Choice(classes=("bad-row", "LENGTH")), "broken cut max"),
        (Choice(classes=("network",)), ""),
        (Choice(classes=("failed",)), "slow busy broken shape"),
        (Choice(all_rows=True), " ".join(ROWS)),
        (Choice(ids=("whole",)), " ".join(ROWS)),
        (Choice(ids=("whole",), classes=("length",)), "cut max"),
    ],
)
def test_the_rows_that_words_choose(read: tuple[StoreReader, Run], choice: Choice, keys: str) -> None:
    assert chosen(read, choice) == set(keys.split())


def test_each_row_has_the_name_by_which_it_is_chosen(read: tuple[StoreReader, Run]) -> None:
    for key, (status, reason, notes, code) in ROWS.items():
        name = only.kind_of(status, code, reason, notes)
        assert key in chosen(read, Choice(classes=(name,))), (key, name)


def test_words_that_mean_nothing_or_contradict_each_other(read: tuple[StoreReader, Run]) -> None:
    with pytest.raises(UsageError, match=r"--class knows no 'timeouts' \(did you mean 'timeout'\?\)"):
        only.again(Choice(classes=("timeouts",)), *read)
    with pytest.raises(UsageError, match="--all sends every row again"):
        only.again(Choice(classes=("length",), all_rows=True), *read)
