"""``runner delete``: a run goes with all that is its own, only when that was said, and nothing else goes."""

import os
import pty
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from desk import Desk, numbered
from processes import count, piped, rows, run, runner
from raw_server import whole

import runner as api
from runner.store import database


@pytest.fixture
def desk(desk: Desk) -> Desk:
    """Three finished runs."""
    for _ in range(3):
        desk.run("--new")
    return desk


def names(desk: Desk) -> set[str]:
    # reading may leave the two files of SQLite behind
    return {path.name for path in desk.folder.iterdir()} - {"runner.db-wal", "runner.db-shm"}


def test_runs_go_with_their_rows_and_their_locks(desk: Desk) -> None:
    assert desk.run("--yes", command=("delete", "3", "1")) == "deleted: run 1, run 3\n"
    assert [one.id for one in api.runs(db=desk.store)] == [2]
    for table in ("items", "attempts"):
        assert {run_id for (run_id,) in rows(desk.store, f"SELECT run_id FROM {table}")} == {2}
    assert names(desk) == {"prompts.jsonl", "runner.db", "runner.db-run2.lock"}
    # the newest is the newest of those that are left, and the same command continues it
    assert "run 2:" in desk.run(command=("status",))
    assert "run 2 is finished" in desk.run()
    # no later run gets the number of one that was deleted
    desk.run("--new")
    assert [one.id for one in api.runs(db=desk.store)] == [2, 4]
    assert rows(desk.store, "SELECT run_id, what FROM history") == [(1, "deleted"), (3, "deleted")]


def test_when_all_are_deleted_it_begins_anew(desk: Desk) -> None:
    desk.run("-y", "-q", command=("delete", "1", "2", "3", "2"))
    assert desk.run(command=("list",)) == "no runs yet; start one with `runner run FILE`\n"
    assert "run 4 finished: 12 done" in desk.run()


def test_the_space_is_given_back(desk: Desk) -> None:
    with closing(sqlite3.connect(desk.store)) as connection, connection:
        connection.execute("UPDATE items SET text = ? WHERE run_id = 1", ("x" * 100_000,))
    large = desk.store.stat().st_size
    assert large > 1_000_000
    desk.run("--yes", "--vacuum", command=("delete", "1"))
    assert desk.store.stat().st_size < large / 2
    assert (count(desk.store), len(desk.answers())) == (24, 12)


def test_where_nobody_can_be_asked_nothing_is_deleted(desk: Desk) -> None:
    ended = run("delete", "1", cwd=desk.folder)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err == "runner: nobody can be asked here, so nothing was deleted; add --yes\n"
    assert len(api.runs(db=desk.store)) == 3


@pytest.mark.parametrize(("answer", "left", "code"), [("y\n", 2, 0), ("n\n", 3, 1), ("\n", 3, 1), ("\x04", 3, 1)])
def test_on_a_terminal_it_asks(desk: Desk, answer: str, left: int, code: int) -> None:
    ours, theirs = pty.openpty()
    try:
        with runner("delete", "1", cwd=desk.folder, stdin=theirs) as process:
            os.write(ours, answer.encode())
            ended = process.ended()
    finally:
        os.close(ours)
        os.close(theirs)
    assert ended.code == code, ended
    assert "Delete this run with all results?" in ended.err
    assert "prompts.jsonl" in ended.err
    assert ("nothing was deleted" in ended.err) == (left == 3)
    assert len(api.runs(db=desk.store)) == left


@pytest.mark.parametrize("options", [(), ("--yes",)])
def test_a_run_that_does_not_exist_keeps_the_others(desk: Desk, options: tuple[str, ...]) -> None:
    ended = run("delete", "1", "9", *options, cwd=desk.folder)
    assert ended.code == 2
    assert "there is no run 9" in ended.err
    assert len(api.runs(db=desk.store)) == 3


def test_a_run_that_is_worked_on_is_refused(desk: Desk) -> None:
    desk.asked.refused = {"new": whole("500 Internal Server Error", {"error": {"message": "busy"}}, retry_after="600")}
    desk.write([*numbered(ids=True), {"prompt": "new"}])
    with runner(*desk.command, cwd=desk.folder) as process:
        process.until(lambda: count(desk.store, "attempts", where="error_code IS NOT NULL") == 1, "a failed attempt")
        ended = run("delete", "1", "3", "--yes", cwd=desk.folder)
        process.killed()
    assert ended.code == 4
    assert "run 3 is being worked on by another process; stop it first. Nothing was deleted" in ended.err
    assert len(api.runs(db=desk.store)) == 3


def test_the_copy_of_standard_input_goes_with_the_last_run_that_has_it(desk: Desk) -> None:
    given = b'{"id": "a", "prompt": "from a pipe"}\n'
    command = ("run", "-", "--model", "m", "--base-url", desk.server.base_url, "--new")
    for _ in range(2):
        assert piped(*command, given=given, cwd=desk.folder).code == 0
    (copy,) = desk.folder.glob("runner.db-stdin-*")
    desk.run("--yes", command=("delete", "4"))
    assert copy.exists()
    desk.run("--yes", command=("delete", "5"))
    assert not copy.exists()
    # a prompt file is left alone
    desk.run("--yes", command=("delete", "1", "2", "3"))
    assert desk.prompts.exists()


def test_python_deletes_too(desk: Desk) -> None:
    api.delete([1, 2], db=desk.store, vacuum=True)
    assert [one.id for one in api.runs(db=desk.store)] == [3]
    with pytest.raises(api.UsageError, match="there is no run 1"):
        api.delete([1], db=desk.store)


def test_a_store_that_does_not_exist_is_not_made(tmp_path: Path) -> None:
    ended = run("delete", "1", "--yes", cwd=tmp_path)
    assert ended.code == 2
    assert list(tmp_path.iterdir()) == []


def waiting_run_from_a_pipe(folder: Path) -> Path:
    """Begin a run over standard input in a new folder, and leave rows for later. Return the copy of standard input."""
    folder.mkdir()
    given = b"".join(b'{"prompt": "%d"}\n' % row for row in range(3))
    assert piped("run", "-", "--provider", "simulator", "--limit", "1", given=given, cwd=folder).code == 0
    (copy,) = folder.glob("runner.db-stdin-*")
    return copy


def test_a_copy_of_the_folder_gives_up_only_its_own_standard_input(tmp_path: Path) -> None:
    original = waiting_run_from_a_pipe(tmp_path / "original")
    shutil.copytree(original.parent, tmp_path / "copy")
    assert run("delete", "1", "--yes", cwd=tmp_path / "copy").code == 0
    assert not (tmp_path / "copy" / original.name).exists()
    ended = run("resume", cwd=original.parent)
    assert ended.code == 0, ended


def test_a_copy_of_the_store_beside_it_leaves_the_standard_input_of_the_original(tmp_path: Path) -> None:
    original = waiting_run_from_a_pipe(tmp_path / "original")
    shutil.copy(original.parent / "runner.db", original.parent / "backup.db")
    api.delete([1], db=original.parent / "backup.db")
    assert api.runs(db=original.parent / "backup.db") == []
    ended = run("resume", cwd=original.parent)
    assert ended.code == 0, ended


def test_a_foreign_store_names_no_file_that_goes(tmp_path: Path) -> None:
    copy = waiting_run_from_a_pipe(tmp_path / "original")
    victims = [tmp_path / copy.name, copy.parent / "runner.db-stdin-list.jsonl", copy.parent / "prompts.jsonl"]
    for victim in victims:
        victim.touch()
        with closing(sqlite3.connect(copy.parent / "runner.db")) as store, store:
            entry = (1, 0.0, "input", str(victim), "x")
            store.execute("INSERT INTO history (run_id, at, what, old, new) VALUES (?, ?, ?, ?, ?)", entry)
    api.delete([1], db=copy.parent / "runner.db")
    assert not copy.exists()
    assert all(victim.exists() for victim in victims)


def test_space_that_a_reader_holds_is_not_called_given_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prompts, store = tmp_path / "p.jsonl", tmp_path / "r.db"
    prompts.write_text('{"prompt": "a"}\n')
    for _ in range(2):
        api.run(prompts, db=store, provider="simulator", new=True)
    with closing(sqlite3.connect(store)) as connection, connection:
        # more than a reader fetches at once
        connection.execute(f"""
            WITH RECURSIVE n(i) AS (SELECT 2 UNION SELECT i + 1 FROM n WHERE i < 2000)
            INSERT INTO items (run_id, key, position, status, fingerprint, attempts, text)
            SELECT run_id, 'row' || i, i, status, fingerprint, attempts, '{"x" * 1_000}' FROM items, n""")
    assert store.stat().st_size > 4_000_000
    before = store.stat().st_size
    reading = iter(api.results(db=store))
    next(reading)
    monkeypatch.setattr(database, "BUSY_S", 0.1)
    with pytest.raises(api.StoreError, match=r"^the runs are deleted, but something still reads "):
        api.delete([1], db=store, vacuum=True)
    assert [one.id for one in api.runs(db=store)] == [2]
    # the reader is left alone, and when it has ended the space comes back
    assert len(list(reading)) == 1_999
    api.run(prompts, db=store, provider="simulator")
    assert store.stat().st_size < before * 0.7
