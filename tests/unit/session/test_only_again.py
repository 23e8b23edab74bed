"""Which rows a retry chooses: the words of ``--only`` and ``--class``, as conditions in SQL on real rows."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from msgspec import structs

from runner.errors import UsageError
from runner.model import Run
from runner.session import only
from runner.session.options import Choice
from runner.store import database
from runner.store.causes import CauseReader
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
        (Choice(classes=("-shape",)), "slow busy broken"),
        (Choice(classes=("done", "-length", " -Content-Filter")), "whole empty noted"),
        (Choice(classes=("failed", "-bad-row", "-server", "-done")), "slow shape"),
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


def test_what_has_no_value_is_not_left_out(read: tuple[StoreReader, Run]) -> None:
    with closing(sqlite3.connect(read[0].path)) as connection, connection:
        connection.execute("UPDATE items SET finish_reason = NULL, error_code = NULL WHERE key IN ('cut', 'shape')")
    assert chosen(read, Choice(classes=("done", "failed", "-length", "-invalid_output"))) == {*ROWS} - {"max"}


@pytest.mark.parametrize("settings", [{"row_settings": True}, {"row_settings": False}, {}])
@pytest.mark.parametrize(
    ("fields", "own", "always"),
    [
        ({"max_tokens": 5}, True, False),
        ({"max_tokens": 5.0}, True, False),
        ({"params": {"max_tokens": 5}}, True, True),
        # rows of a batch file
        ({"extra_body": {"max_completion_tokens": 5}}, True, False),
        ({"params": {"extra_body": {"max_tokens": 5}}}, True, True),
        ({"max_tokens": None}, False, False),
        ({"max_tokens": ""}, False, False),
        ({"max_tokens": "5"}, False, False),
        ({"meta": {"max_tokens": 5}, "note": '"max_tokens": 5'}, False, False),
        ({"params": None, "extra_body": [5]}, False, False),
        (None, False, False),
    ],
)
def test_rows_that_set_the_limit_of_their_answer(
    read: tuple[StoreReader, Run], settings: dict[str, bool], fields: dict[str, Any] | None, own: bool, always: bool
) -> None:
    reader, run = read[0], structs.replace(read[1], settings=settings)
    metadata = json.dumps(fields) if fields is not None else None
    with closing(sqlite3.connect(reader.path)) as connection, connection:
        connection.execute("UPDATE items SET metadata = ?", (metadata,))
        connection.execute("UPDATE items SET finish_reason = 'length' WHERE key = 'shape'")
    expected = {"cut", "max", "shape"} if (own if settings.get("row_settings", True) else always) else set()
    assert chosen((reader, run), Choice(classes=("own_limit",))) == expected
    cut, _ = only.doubtful(reader, run)
    with reader.snapshot() as connection:
        causes = CauseReader(connection, 1, 1, cut)
        found = [one for one in (*causes.failed(), *causes.answered(cut.reasons, "empty")) if one.own_limit]
        assert {key for one in found for key in causes.ids(one)} == expected
        assert {key for one in found for key in one.ids} == expected
