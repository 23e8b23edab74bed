"""Disks that fail and disks that are full: the sweeps (``support/sweeping.py``) in short, a disk that is gone, a small tmpfs.

What needs strace or a tmpfs is skipped where there is none, with a reason that says "not run".
"""

import functools
import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from processes import HANG_S, Ended, Started, assert_clean, count, rows, until
from small_disks import fill, small_disk
from sweeping import CALLS, CONCURRENCY, SCENES, Bench, Fault, Stage, Verdict, go_on, hit, items_of, judge, not_here, stage

missing = functools.cache(not_here)

SHORT = [
    # a store is made: its tables, the run, the first rows
    Fault("start", "write", "EIO", "once", 3),
    Fault("start", "write", "ENOSPC", "on", 30),
    Fault("start", "sync", "EIO", "once", 2),
    Fault("start", "sync", "ENOSPC", "on", 7),
    # a run goes on: its first write, its rows, its end
    Fault("resume", "write", "EIO", "once", 1),
    Fault("resume", "write", "ENOSPC", "on", 9),
    Fault("resume", "write", "EIO", "once", 24),
    Fault("resume", "write", "ENOSPC", "once", 31),
    Fault("resume", "sync", "EIO", "once", 1),
    Fault("resume", "sync", "EIO", "on", 3),
    Fault("resume", "sync", "ENOSPC", "once", 4),
    # the log is brought into the store
    Fault("checkpoint", "write", "ENOSPC", "on", 2),
    Fault("checkpoint", "sync", "EIO", "once", 1),
]


@pytest.fixture(scope="module")
def opened() -> Iterator[Stage]:
    with stage(*SCENES) as begun:
        yield begun


@pytest.fixture
def _strace() -> None:
    if why := missing():
        pytest.skip(why)


@pytest.mark.usefixtures("_strace")
@pytest.mark.parametrize("fault", SHORT, ids=lambda fault: "-".join(map(str, fault)))
def test_x6_the_nth_write_or_sync_fails(fault: Fault, opened: Stage) -> None:
    verdict = hit(fault, opened)
    assert verdict.broken == []
    # else the number is beyond the end of the run, and nothing was tried
    assert verdict.hits > 0
    if fault.scene == "checkpoint":
        # what is synced in the log stays there when it cannot be brought over: nothing is lost, and nobody need know
        assert (verdict.code, verdict.told) == (0, 5)
    else:
        assert verdict.code == 4


@pytest.mark.usefixtures("_strace")
@pytest.mark.parametrize("calls", ["write", "sync", "write,sync"])
def test_x6_a_disk_that_is_gone_for_good(tmp_path: Path, calls: str) -> None:
    """From some moment on every write, sync, or both fail, for all connections."""
    with stage(slow_s=0.05) as opened:
        bench = Bench(opened, tmp_path, "start", 40)
        ended = gone(bench, calls)
        verdict = Verdict(hits=1, code=ended.code)
        judge(bench, ended, verdict)
        assert verdict.told >= 6
        go_on(bench, ended, verdict)
    assert verdict.broken == []
    assert verdict.code == 4


def gone(bench: Bench, calls: str) -> Ended:
    """Run until some rows are there, and take the disk away."""
    names = ",".join(CALLS[call] for call in calls.split(","))
    files = [word for ending in ("", "-wal", "-shm") for word in ("-P", f"{bench.store}{ending}")]
    with Started(bench.command(), cwd=bench.folder, env=bench.environment) as process:
        process.until(lambda: count(bench.store) >= 6, "the first rows")
        attach = ["strace", "-f", "-qq", "-o", os.devnull, "-p", str(process.pid), *files]
        attach += ["-e", f"trace={names}", "-e", f"inject={names}:error=EIO"]
        with Started(attach, cwd=bench.folder, env=bench.environment) as strace:
            until(lambda: not (process.alive and strace.alive), "the end")
            if process.alive and "Operation not permitted" in strace.err:
                pytest.skip(f"not run: strace may not attach here ({strace.err.strip()[-200:]})")
            return process.ended()


# a disk that is full


def full(ended: Ended) -> None:
    assert_clean(ended)
    assert ended.code == 4, ended
    assert len(ended.err.splitlines()) == 1, ended.err
    assert "full" in ended.err or "No space left" in ended.err


def test_x5_a_disk_that_is_full_from_the_start(tmp_path: Path, opened: Stage) -> None:
    with small_disk(tmp_path / "disk", "512k") as disk:
        bench = Bench(opened, disk, "start", 4)
        fill(disk / "filling")
        full(bench.run(bench.command()))
        assert not bench.asked
        (disk / "filling").unlink()
        assert bench.run(bench.command()).code == 0
        assert count(bench.store, where="status = 'done'") == 4


@pytest.mark.parametrize("size", ["1m", "6m"], ids=["in the log", "when the log is brought over"])
def test_x5_a_disk_that_fills_while_a_run_goes_on(tmp_path: Path, opened: Stage, size: str) -> None:
    """SQLite's log grows to 4 MB before it is brought into the store, which then needs as much again."""
    with small_disk(tmp_path / "disk", size) as disk:
        bench = Bench(opened, disk, "start", 150)
        # elsewhere, so that only the store needs room
        prompts = tmp_path / "prompts.jsonl"
        prompts.write_text("".join(json.dumps({"id": one, "prompt": one, "own": "x" * 60_000}) + "\n" for one in names(150)))
        (disk / "prompts.jsonl").unlink()
        (disk / "prompts.jsonl").symlink_to(prompts)
        ended = bench.run(bench.command())
        full(ended)
        assert len(items_of(ended)) > 5
        # still no room: the same sentence, and no more is bought than is saved and in flight; the log was begun anew
        asked = bench.asked.total()
        again = bench.run(bench.command())
        full(again)
        assert bench.asked.total() - asked <= CONCURRENCY + len(items_of(again))
        subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
        both = Ended(4, ended.out + again.out, ended.err)
        verdict = Verdict(hits=1, code=4)
        judge(bench, both, verdict)
        go_on(bench, both, verdict)
    # twice as much was in flight as with one stop
    assert [words for words in verdict.broken if "in flight" not in words] == []
    assert verdict.twice <= 2 * CONCURRENCY


def names(number: int) -> list[str]:
    return [f"row-{one}" for one in range(number)]


def test_x5_a_disk_that_is_full_under_an_export(tmp_path: Path, opened: Stage) -> None:
    bench = Bench(opened, tmp_path, "checkpoint", 3)
    assert bench.run(bench.command()).code == 0
    with small_disk(tmp_path / "disk", "64k") as disk:
        for kind in ("csv", "jsonl"):
            full(bench.run([sys.executable, "-m", "runner", "export", "1", "-o", str(disk / f"answers.{kind}")]))
            # neither half a file nor a trace of one
            assert list(disk.iterdir()) == []
    assert rows(bench.store, "PRAGMA integrity_check") == [("ok",)]


# what the harness itself is worth


def test_a_run_that_hangs_is_seen(tmp_path: Path, opened: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sweeping.HANG_S", 1.0)
    with pytest.raises(AssertionError, match="still running"):
        Bench(opened, tmp_path, "start").run(["sleep", str(HANG_S)])


def test_a_row_that_was_told_and_is_not_there_is_seen(tmp_path: Path, opened: Stage) -> None:
    bench = Bench(opened, tmp_path, "start", 3)
    ended = bench.run(bench.command())
    assert len(items_of(ended)) == 3
    with closing(sqlite3.connect(bench.store, isolation_level=None)) as connection:
        connection.execute("DELETE FROM items WHERE key = 'row-1'")
        connection.execute("UPDATE runs SET finished_at = NULL")
    verdict = Verdict()
    judge(bench, ended, verdict)
    assert any("told to be done, but not in the store: ['row-1']" in words for words in verdict.broken)
    go_on(bench, ended, verdict)
    assert any("bought again although finished: ['row-1']" in words for words in verdict.broken)
