"""A store that somebody has sent, or that is damaged: what its settings hold is checked like any other setting."""

import json
import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from desk import Asked, Desk
from processes import rows, run
from raw_server import RawServer, in_thread

from runner import api
from runner.config.settings import SETTINGS
from runner.errors import StoreError


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    asked = Asked()
    with in_thread(RawServer(asked)) as server:
        desk = Desk(tmp_path, server, asked)
        desk.write([{"id": f"row-{number}", "prompt": f"prompt {number}", "topic": "x"} for number in range(3)])
        desk.run("--limit", "1")
        yield desk


def change(desk: Desk, query: str, *values: Any) -> None:
    with closing(sqlite3.connect(desk.store)) as store, store:
        store.execute(query, values)


def settings(desk: Desk, **changed: Any) -> None:
    with closing(sqlite3.connect(desk.store)) as store:
        ((text,),) = store.execute("SELECT settings FROM runs")
    change(desk, "UPDATE runs SET settings = ?", json.dumps({**json.loads(text), **changed}))


def refused(desk: Desk, *command: str, code: int = 4) -> str:
    before = desk.server.connections
    ended = run(*command, cwd=desk.folder)
    assert (ended.code, ended.out, ended.err.count("\n")) == (code, "", 1), ended
    assert desk.server.connections == before
    return ended.err


@pytest.mark.parametrize("name", ["Host", "Content-Length", "X-A\r\nX-Evil", "", "a b"])
@pytest.mark.parametrize("value", ["evil.example", None])
def test_a_header_that_no_setting_may_have(desk: Desk, name: str, value: str | None) -> None:
    settings(desk, headers={name: value})
    for command in ("resume", "retry"):
        assert "a setting of the run is damaged: " in refused(desk, command, "1")


@pytest.mark.parametrize(
    "odd",
    [{"headers": [1]}, {"headers": {"X-A": "a\r\nb"}}, {"headers": {"X-A": 5}}, {"query": 5}, {"query": {"key": "literal"}}],
)
def test_fields_that_no_setting_may_have(desk: Desk, odd: dict[str, Any]) -> None:
    settings(desk, **odd)
    assert "a setting of the run is damaged: " in refused(desk, "resume")


def test_a_setting_of_another_type(desk: Desk) -> None:
    original = json.loads(rows(desk.store, "SELECT settings FROM runs")[0][0])
    for setting in SETTINGS:
        odd: Any = [5] if setting.kind in ("text", "texts", "choice", "bool", "headers", "query") else "x"
        settings(desk, **{**original, setting.name: odd})
        for continued in (api.resumed, api.retried):
            with pytest.raises(StoreError, match=f"a setting of the run is damaged: {re.escape(setting.key)} must be ") as caught:
                continued(desk.store, 1, {})
            if setting.kind not in ("headers", "query"):
                assert f"give it with {setting.option}, or start a new run" in str(caught.value)


def test_the_option_that_is_advised_helps(desk: Desk) -> None:
    settings(desk, concurrency="foo", attempt_s="x")
    assert "give it with --concurrency" in refused(desk, "resume")
    assert "give it with --attempt-s" in refused(desk, "resume", "--concurrency", "2")
    assert run("resume", "--concurrency", "2", "--attempt-s", "60", cwd=desk.folder).code == 0
    assert len(desk.answers()) == 3


@pytest.mark.parametrize("text", ["null", "{", "[]", "", "[" * 100_000, '{"a": ' * 100_000, b"\xff\xfe", 5])
def test_settings_that_are_none(desk: Desk, text: Any) -> None:
    change(desk, "UPDATE runs SET settings = ?", text)
    for command in ("list", "status", "errors"):
        assert run(command, cwd=desk.folder).code == 0
    for command in ("resume", "retry"):
        assert "the settings of the run are damaged" in refused(desk, command, "1")
    said = refused(desk, *desk.command)
    assert f"the settings of run 1 in the store {desk.store} are damaged; restore a copy, or export its results" in said
    # what it says works
    assert desk.exported() == ["echo prompt 0"]
    assert run("delete", "1", "--yes", "--db", str(desk.store), cwd=desk.folder).code == 0
    assert run(*desk.command, cwd=desk.folder).code == 0


@pytest.mark.parametrize("make", [lambda: "{", lambda: "[1]", lambda: '{"topic": ' + "[" * 100_000])
@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_fields_of_a_row_that_are_none(desk: Desk, make: Callable[[], str], ending: str) -> None:
    change(desk, "UPDATE items SET metadata = ?", make())
    said = refused(desk, "export", "-o", f"out.{ending}")
    assert f"the store {desk.store} cannot be read: it is damaged" in said
    assert not (desk.folder / f"out.{ending}").exists()


def test_a_pace_and_a_beginning_that_are_none(desk: Desk) -> None:
    for text in ("[" * 100_000, 5):
        change(desk, "UPDATE runs SET pace = ?, settled_head = ?", text, text)
        assert run("status", cwd=desk.folder).code == 0
    desk.run()
    assert len(desk.answers()) == 3


@pytest.mark.parametrize(
    ("column", "value"),
    [("created_at", "x"), ("rows", "x"), ("rows", b"5"), ("input", b"x"), ("input_relative", b"x"), ("input_digest", b"x"),
     ("input_bytes", "x"), ("stop_reason", b"x"), ("finished_at", "x")],
)  # fmt: skip
def test_a_column_of_another_type(desk: Desk, column: str, value: Any) -> None:
    change(desk, f"UPDATE runs SET {column} = ?", value)
    for command in (("list",), ("status",), ("resume",), ("export", "-o", "-"), desk.command):
        said = refused(desk, *command)
        assert f"the store {desk.store} cannot be read: it is damaged (run 1 has {value!r} as {column}); restore a copy" in said


def test_a_report_is_made_though_a_session_has_times_of_no_clock(desk: Desk) -> None:
    for began_at, at in (("'x'", "1"), ("began_at", "1e308"), ("1e308", "1e308")):
        change(desk, f"UPDATE sessions SET began_at = {began_at}, timeline = '[[{at}, 1, 1, null], [-5, 1, 1, null]]'")
        ended = run("report", "1", cwd=desk.folder)
        assert (ended.code, ended.err) == (0, "")
        # the next one has the true instant again
        change(desk, "UPDATE sessions SET began_at = (SELECT min(started_at) FROM attempts)")
