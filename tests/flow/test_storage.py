"""Stores that cannot be used, or not any more: one clear sentence, the exit code, nothing bought in vain, nothing lost."""

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from kills.store import take_back
from processes import (
    Ended,
    Simulated,
    Started,
    assert_clean,
    at,
    count,
    environment,
    rows,
    run,
    runner,
    said,
    simulator,
    write_prompts,
)

from runner.store.schema import VERSION

SLOW = ("--first-token-s", "0.05", "--chunk-s", "0.001", "--tokens", "10")
CONCURRENCY = 4


@pytest.fixture(scope="module")
def slow() -> Iterator[Simulated]:
    with simulator(*SLOW) as started:
        yield started


@pytest.fixture
def half(folder: Path, server: Simulated) -> Path:
    """A store in which four of ten rows are done."""
    assert run(*at(server, "--limit", "4"), cwd=folder).code == 0
    return folder / "runner.db"


def sentence(ended: Ended, code: int, *words: str) -> None:
    """Hold that a command said one clear sentence, with these words in it, and nothing else on standard error."""
    assert_clean(ended)
    assert ended.code == code, ended
    assert len(said(ended.err).splitlines()) == 1, ended.err
    assert said(ended.err).startswith("runner: ")
    for word in words:
        assert word in ended.err, ended.err


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Let nobody write in a folder; root writes wherever the file system allows it."""
    if os.getuid() != 0:
        folder.chmod(0o500)
        try:
            yield
        finally:
            folder.chmod(0o700)
        return
    for options in (["--bind", str(folder), str(folder)], ["-o", "remount,ro,bind", str(folder)]):
        tried = subprocess.run(["mount", *options], capture_output=True, text=True, check=False)
        if tried.returncode:
            pytest.skip(f"not run: root may not mount here ({tried.stderr.splitlines()[0]})")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


# X7


def test_x7_a_read_only_folder_without_a_store(folder: Path, server: Simulated) -> None:
    sent = server.sent()
    with read_only(folder):
        sentence(run(*at(server), cwd=folder), 2, str(folder), "cannot be written", "--db")
    assert server.sent() == sent
    assert [path.name for path in folder.iterdir()] == ["prompts.jsonl"]


def test_x7_a_store_in_a_read_only_folder_can_be_looked_at(half: Path, server: Simulated) -> None:
    before, sent = half.read_bytes(), server.sent()
    with read_only(half.parent):
        for command in (at(server), ("resume",)):
            sentence(run(*command, cwd=half.parent), 2, str(half), "cannot be written", "--db")
        for command in (("status",), ("export", "-o", "-")):
            assert run(*command, cwd=half.parent).code == 0
    assert (half.read_bytes(), server.sent()) == (before, sent)


def test_x7_a_missing_folder_and_a_folder_for_a_store(folder: Path, server: Simulated) -> None:
    sent = server.sent()
    sentence(run(*at(server, "--db", "nope/x.db"), cwd=folder), 2, "nope does not exist")
    sentence(run(*at(server, "--db", "."), cwd=folder), 2, "is a folder")
    assert server.sent() == sent
    assert not (folder / "nope").exists()


def test_x7_an_older_store_that_cannot_be_brought_up_to_date(half: Path, server: Simulated) -> None:
    take_back(half)
    before = half.read_bytes()
    with read_only(half.parent):
        for command in (("status",), at(server)):
            sentence(run(*command, cwd=half.parent), 2, str(half), "older runner (schema 1", "copy it")
    assert half.read_bytes() == before
    # and where it may be written it is brought up to date
    assert run("status", cwd=half.parent).code == 0
    assert rows(half, "PRAGMA user_version") == [(VERSION,)]


# X8


@contextmanager
def locked(store: Path) -> Iterator[None]:
    """Hold the store's write lock, as another program would."""
    with closing(sqlite3.connect(store, isolation_level=None, timeout=30)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield


def ticks(process: Started) -> int:
    return process.out.count('"event":"progress"')


def test_x8_a_lock_that_goes_away_is_waited_for_and_the_loop_goes_on(tmp_path: Path, slow: Simulated) -> None:
    write_prompts(tmp_path / "prompts.jsonl", range(40))
    store, sent = tmp_path / "runner.db", slow.sent()
    with runner(*at(slow, "--json", "--concurrency", str(CONCURRENCY)), cwd=tmp_path) as process:
        process.until(lambda: count(store) >= 5, "the first rows")
        with locked(store):
            kept, before = count(store), ticks(process)
            # progress is told all the while, and no more is bought than may be unsaved
            process.until(lambda: slow.sent() - sent == kept + CONCURRENCY and ticks(process) >= before + 4, "four ticks")
            assert count(store) == kept
            assert slow.sent() - sent == kept + CONCURRENCY
        ended = process.ended()
    assert_clean(ended)
    assert (ended.code, ended.err) == (0, "")
    assert slow.sent() - sent == count(store) == 40


IMPATIENT = """
import sys
from runner.cli.main import main
from runner.store import database
# for a lock, instead of 15 s
database.BUSY_S = 2.0
sys.argv = ["runner", *sys.argv[1:]]
main()
"""


def test_x8_a_lock_that_stays_ends_the_run_and_it_goes_on_later(tmp_path: Path, slow: Simulated) -> None:
    write_prompts(tmp_path / "prompts.jsonl", range(20))
    store, sent = tmp_path / "runner.db", slow.sent()
    command = [sys.executable, "-c", IMPATIENT, *at(slow, "--json", "--concurrency", str(CONCURRENCY))]
    with Started(command, cwd=tmp_path, env=environment()) as process:
        process.until(lambda: count(store) >= 5, "the first rows")
        with locked(store):
            kept = count(store)
            sentence(process.ended(), 4, str(store), "database is locked", "another program", "continues from there")
    assert count(store) == kept
    again = run(*at(slow), cwd=tmp_path)
    assert again.code == 0
    assert count(store, where="status = 'done'") == 20
    assert slow.sent() - sent <= 20 + CONCURRENCY


# X10


def newer(store: Path) -> None:
    with closing(sqlite3.connect(store, isolation_level=None)) as connection:
        connection.execute("PRAGMA user_version = 99")


def page(number: int) -> Callable[[Path], None]:
    def damage(store: Path) -> None:
        with store.open("r+b") as file:
            file.seek((number - 1) * 4096)
            file.write(b"\xa5" * 4096)

    return damage


def root_page(table: str) -> Callable[[Path], None]:
    def damage(store: Path) -> None:
        ((number,),) = rows(store, "SELECT rootpage FROM sqlite_master WHERE name = ?", table)
        page(number)(store)

    return damage


def another_program(store: Path) -> None:
    store.unlink()
    with closing(sqlite3.connect(store, isolation_level=None)) as connection:
        connection.execute("CREATE TABLE theirs (x)")


REFUSED: dict[str, tuple[Callable[[Path], object], tuple[str, ...]]] = {
    "newer": (newer, ("newer runner", "schema 99", "update runner")),
    "text": (lambda store: store.write_text("key,answer\n" * 500), ("not a runner store", "not a SQLite file")),
    "another program's": (another_program, ("another program's database",)),
    "header only": (lambda store: store.write_bytes(b"SQLite format 3\0" + b"\xff" * 5000), ("damaged", ".recover")),
    "cut off": (lambda store: os.truncate(store, 9000), ("damaged", ".recover")),
    "first page": (page(1), ("not a runner store",)),
    "the runs": (root_page("runs"), ("damaged", "malformed", ".recover")),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_x10_a_file_that_is_no_good_store_is_refused_and_left_alone(half: Path, server: Simulated, kind: str) -> None:
    spoil, words = REFUSED[kind]
    spoil(half)
    before, sent = half.read_bytes(), server.sent()
    for command in (at(server), ("export", "-o", "a.csv")):
        sentence(run(*command, cwd=half.parent), 4, str(half), *words)
    assert (half.read_bytes(), server.sent()) == (before, sent)
    assert not (half.parent / "a.csv").exists()


@pytest.mark.parametrize("table", ["items", "attempts"])
def test_x10_a_damaged_table_of_rows_stops_the_run_and_promises_nothing(half: Path, server: Simulated, table: str) -> None:
    root_page(table)(half)
    sent = server.sent()
    ended = run(*at(server, "--concurrency", str(CONCURRENCY)), cwd=half.parent)
    sentence(ended, 4, str(half), "damaged", ".recover")
    assert "continues from there" not in ended.err
    assert server.sent() - sent <= CONCURRENCY


@pytest.mark.parametrize(
    "gone", ["", "-wal", "-shm", "-run1.lock"], ids=["the store", "its log", "its index of the log", "the lock"]
)
@pytest.mark.parametrize("replaced", [False, True], ids=["deleted", "replaced"])
def test_x10_a_file_that_goes_away_during_a_run_stops_it(tmp_path: Path, slow: Simulated, gone: str, replaced: bool) -> None:
    write_prompts(tmp_path / "prompts.jsonl", range(200))
    store, sent = tmp_path / "runner.db", slow.sent()
    with runner(*at(slow, "--json", "--concurrency", str(CONCURRENCY)), cwd=tmp_path) as process:
        process.until(lambda: count(store) >= 10, "the first rows")
        path = tmp_path / f"runner.db{gone}"
        if replaced:
            shutil.copy(path, tmp_path / "copy")
            (tmp_path / "copy").replace(path)
        else:
            path.unlink()
        ended = process.ended()
    sentence(ended, 4, str(path), "deleted or replaced")
    told = ended.out.count('"event":"item"')
    # what is committed when the file goes away is told no more
    assert told >= 10 - CONCURRENCY
    assert slow.sent() - sent <= told + 2 * CONCURRENCY
    if not gone:
        # nothing is promised, for the results are in a file that nobody can open
        assert "continues from there" not in ended.err
        return
    # what was told is in the store itself now, and is not bought again
    assert count(store, where="status = 'done'") >= told
    assert rows(store, "PRAGMA integrity_check") == [("ok",)]
    sent, kept = slow.sent(), count(store)
    assert run(*at(slow), cwd=tmp_path).code == 0
    assert slow.sent() - sent == 200 - kept


# a network file system


def test_x7_a_store_on_a_network_file_system_is_refused(folder: Path, server: Simulated) -> None:
    """Told by the kernel's list of mounts, which this process sees with one line changed."""
    list_ = folder.parent / "mountinfo"
    here = f"36 25 0:42 / {folder} rw,relatime shared:7 - nfs4 server:/export rw,vers=4.2"
    list_.write_text(f"25 1 8:1 / / rw - ext4 /dev/sda1 rw\n{here}\n")
    script = f'mount --bind {list_} /proc/$$/mountinfo || exit 99; exec "$@"'
    command = ["unshare", "--mount", "sh", "-c", script, "sh", *command_of(server, "--db", str(folder / "runner.db"))]
    if shutil.which("unshare") is None or subprocess.run(["unshare", "--mount", "true"], capture_output=True).returncode:
        pytest.skip("not run: a list of mounts may not be put in the kernel's place here")
    sent = server.sent()
    with Started(command, cwd=folder, env=environment()) as process:
        ended = process.ended()
    if ended.code == 99:
        pytest.skip(f"not run: root may not mount here ({ended.err.strip()})")
    sentence(ended, 2, str(folder / "runner.db"), "network file system (nfs4)", "--db")
    assert server.sent() == sent
    assert not (folder / "runner.db").exists()


def command_of(server: Simulated, *options: str) -> list[str]:

    return [sys.executable, "-m", "runner", *at(server, *options)]


HANGS = """
import sys, time
from runner.cli.main import main
from runner.store import checkpoint
from runner.store import connection
connection.LIMIT_S = 1.0
write = checkpoint.RunStore._write
def stalled(self, driver, entries, reserved, begun):
    last = write(self, driver, entries, reserved, begun)
    # what a disk that has gone away does to the thread that writes
    time.sleep(3600)
    return last
checkpoint.RunStore._write = stalled
sys.argv = ["runner", *sys.argv[1:]]
main()
"""


def test_x6_a_disk_that_never_answers_ends_the_run_with_one_sentence(folder: Path, server: Simulated) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", HANGS, *at(server)], cwd=folder, env=environment(), capture_output=True, text=True, timeout=60
    )
    assert ended.returncode == 4, ended
    assert "does not respond: no transaction ended within 1 s" in ended.stderr
    assert "Traceback" not in ended.stderr
    # and when it is back the same command goes on
    assert run(*at(server), cwd=folder).code == 0
