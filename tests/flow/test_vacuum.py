"""``runner vacuum``: the space of deleted runs goes back to the disk, and no row is lost on the way, whatever ends it."""

import os
import shutil
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest
from desk import Desk, numbered
from processes import count, rows, run, runner
from raw_server import whole
from small_disks import small_disk

import runner as api
from runner.store import compaction

ROWS = 20_000


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with many rows, and as much space again that nothing uses any more."""
    folder = tmp_path_factory.mktemp("vacuum")
    (folder / "p.jsonl").write_text('{"prompt": 1}\n')
    api.run(folder / "p.jsonl", db=folder / "runner.db", provider="simulator")
    with closing(sqlite3.connect(folder / "runner.db", isolation_level=None)) as store:
        store.execute("PRAGMA synchronous = OFF")
        store.execute(f"""
            WITH RECURSIVE n(i) AS (SELECT 2 UNION ALL SELECT i + 1 FROM n WHERE i < {2 * ROWS})
            INSERT INTO items (run_id, key, position, status, fingerprint, attempts, text)
            SELECT 1, 'row' || i, i, 'done', i, 1, hex(randomblob(300)) FROM n""")
        store.execute(f"DELETE FROM items WHERE position > {ROWS}")
        store.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return folder


@pytest.fixture
def store(large: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(large / "runner.db", tmp_path / "runner.db"))


def whole_and_sound(store: Path) -> None:
    with closing(sqlite3.connect(store)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("SELECT count(*), sum(position) FROM items").fetchone() == (ROWS, ROWS * (ROWS + 1) // 2)


def test_it_gives_back_what_is_not_used_and_says_both_sizes(store: Path) -> None:
    before = store.stat().st_size
    said = run("vacuum", cwd=store.parent)
    after = store.stat().st_size
    assert (said.code, said.err) == (0, "")
    assert said.out == f"{store}: {before / 1e6:,.1f} MB before, {after / 1e6:,.1f} MB now\n"
    assert after < 0.6 * before
    whole_and_sound(store)
    # a second time there is nothing to give back
    done = api.vacuum(store)
    assert (done.store, done.bytes_before, done.bytes_after) == (str(store), after, after)
    assert run("vacuum", "--quiet", cwd=store.parent) == (0, "", "")


def _size(path: Path) -> int:
    """Return the size of a file that may come and go meanwhile."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def test_a_kill_leaves_the_store_as_it_was(store: Path) -> None:
    log = store.with_name("runner.db-wal")
    before = store.read_bytes()
    for _ in range(3):
        with runner("vacuum", cwd=store.parent) as process:
            # the copy is being brought over: the moment at which the store could be hurt
            process.until(lambda: _size(log) > 1_000_000, "the log")
            process.killed()
        assert store.read_bytes()[: 1 << 20] == before[: 1 << 20]
        whole_and_sound(store)
    done = api.vacuum(store)
    assert done.bytes_after < 0.6 * len(before)
    whole_and_sound(store)
    assert {path.name for path in store.parent.iterdir()} <= {"runner.db", "runner.db-wal", "runner.db-shm"}


def copied(pid: int) -> int:
    """Bytes of the copy that a process has made so far: a file without a name."""
    for file in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):
            if "etilqs_" in str(file.readlink()):
                return file.stat().st_size
    return 0


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="not run: there is no /proc")
@pytest.mark.parametrize(("kind", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_while_the_copy_is_made_ends_it_at_once(store: Path, kind: int, code: int) -> None:
    size = store.stat().st_size
    with runner("vacuum", cwd=store.parent) as process:
        process.until(lambda: copied(process.pid) > 500_000, "the copy")
        process.signal(kind)
        ended = process.ended()
    assert (ended.code, ended.out, ended.err.strip()) == (code, "", ""), ended
    # on a busy machine the copy may have been over in that moment, and in the place of the store
    assert store.stat().st_size <= size
    whole_and_sound(store)


def test_it_is_refused_while_a_run_goes_on_and_so_is_delete_with_it(desk: Desk) -> None:
    desk.run()
    desk.asked.refused = {"new": whole("500 Internal Server Error", {"error": {"message": "busy"}}, retry_after="600")}
    desk.write([*numbered(ids=True), {"prompt": "new"}])
    with runner(*desk.command, "--new", cwd=desk.folder) as process:
        process.until(lambda: count(desk.store, "attempts", where="error_code IS NOT NULL") == 1, "a failed attempt")
        refused = run("vacuum", cwd=desk.folder)
        kept = run("delete", "1", "--yes", "--vacuum", cwd=desk.folder)
        # without --vacuum, a run that nobody works on may go
        gone = run("delete", "1", "--yes", cwd=desk.folder)
        process.killed()
    assert (refused.code, kept.code, gone.code) == (4, 4, 0)
    why = f"runner: run 2 is being worked on by another process, which could not write while {desk.store} is written anew; "
    assert refused.err == f"{why}wait for its end, or stop it first. Nothing was changed\n"
    assert kept.err == f"{why}wait for its end, or stop it first. Nothing was deleted\n"
    # what was killed is in the way of nothing
    assert run("vacuum", cwd=desk.folder).code == 0
    assert rows(desk.store, "SELECT id FROM runs") == [(2,)]


def test_without_enough_room_it_says_how_much_is_missing_and_changes_nothing(store: Path, tmp_path: Path) -> None:
    size = store.stat().st_size
    with small_disk(tmp_path / "disk", f"{int(size * 1.2)}") as disk:
        shutil.move(store, disk / "runner.db")
        ended = run("vacuum", cwd=disk, env={"SQLITE_TMPDIR": str(disk)})
        assert ended.code == 4
        assert "is written anew, which needs " in ended.err
        assert "free some space, or set SQLITE_TMPDIR to a folder on another disk. Nothing was changed" in ended.err
        refused = run("delete", "1", "--yes", "--vacuum", cwd=disk, env={"SQLITE_TMPDIR": str(disk)})
        assert (refused.code, len(api.runs(db=disk / "runner.db"))) == (4, 1)
        whole_and_sound(disk / "runner.db")


def test_what_it_needs_is_what_it_takes(store: Path, tmp_path: Path) -> None:
    """With exactly that much room it works; with the copy elsewhere, half of it is enough."""
    size, before = store.stat().st_size, {one.folder: one.size for one in compaction.needs(store)}
    assert sum(before.values()) < size * 1.2
    with small_disk(tmp_path / "disk", f"{size + sum(before.values()) // 2 + (1 << 20)}") as disk:
        shutil.move(store, disk / "runner.db")
        with temporary(tmp_path):
            assert {one.folder for one in compaction.needs(disk / "runner.db")} == {tmp_path, disk}
        ended = run("vacuum", cwd=disk, env={"SQLITE_TMPDIR": str(tmp_path)})
        assert ended.code == 0, ended
        whole_and_sound(disk / "runner.db")


@contextmanager
def temporary(folder: Path) -> Iterator[None]:
    os.environ["SQLITE_TMPDIR"] = str(folder)
    try:
        yield
    finally:
        del os.environ["SQLITE_TMPDIR"]


def test_what_is_no_store_is_one_sentence(tmp_path: Path) -> None:
    ended = run("vacuum", cwd=tmp_path)
    assert (ended.code, ended.out) == (2, "")
    assert "there is no store at " in ended.err
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "runner.db").write_bytes(b"SQLite format 3\0" + b"x" * 5000)
    ended = run("vacuum", cwd=tmp_path)
    assert (ended.code, ended.err.count("\n")) == (4, 1), ended
