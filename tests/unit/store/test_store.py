"""The store on real SQLite files: created with a private mode, refused with a reason, written once, readable at any time."""

import concurrent.futures
import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest
from sqlalchemy.dialects.sqlite import dialect
from sqlalchemy.ext.asyncio import AsyncConnection

import runner
from runner.errors import RunLockedError, StoreError, UsageError
from runner.model import Attempt, Completion, Entry, Outcome, Usage
from runner.pace import LaneState, Pace
from runner.session import continuing
from runner.store import compaction, connection, database, deletion, looking_up
from runner.store.causes import CauseReader, failed_rows
from runner.store.changes import Changes
from runner.store.checkpoint import RunCounts, RunStore
from runner.store.lock import held
from runner.store.reader import StoreReader
from runner.store.retry_tables import IS_PENDING
from runner.store.runs import FoundRun, answer_fingerprint, get_run, open_run
from runner.store.schema import APPLICATION_ID, VERSION
from runner.store.selection import Cut
from runner.store.totals import _sums

pytestmark = pytest.mark.anyio

SETTINGS = {"model": "m", "provider": "openai", "temperature": 0.5, "concurrency": 8}
ANSWER = {"model": "m", "provider": "openai", "temperature": 0.5}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A store with run 1 in it."""
    found = tmp_path / "runner.db"
    database.prepare(found, create=True)
    assert begin(found).id == 1
    return found


def begin(path: Path, answer: dict[str, Any] = ANSWER, *, name: str = "p.jsonl", new: bool = False) -> FoundRun:
    return open_run(path, path.parent / name, {**SETTINGS, **answer}, answer, new=new)


def an_attempt(key: str, number: int = 1, *, error: str | None = None, usage: Usage | None = None, **more: Any) -> Attempt:
    fields = {"started_at": 1e9, "duration_s": 2.0, "status": 500 if error else 200, **more}
    return Attempt(key=key, number=number, error_code=error, error=error and f"{error}!", usage=usage, **fields)


def done(key: str, position: int = 1, *, text: str = "yes", number: int = 1, metadata: dict[str, Any] | None = None) -> Outcome:
    return Outcome(
        key=key,
        position=position,
        status="done",
        metadata=metadata or {},
        fingerprint=-(2**63) + position,
        completion=Completion(text=text, finish_reason="stop", notes=("empty", "tail_lost")),
        attempt=an_attempt(key, number, usage=Usage(input_tokens=3, output_tokens=5), served_model="m-1"),
        attempts=number,
    )


def failed(key: str, position: int = 1, *, code: str = "server_error", number: int = 1, **more: Any) -> Outcome:
    fields = {"metadata": {}, "fingerprint": -(2**63) + position, "attempts": number, **more}
    fields.setdefault("attempt", an_attempt(key, number, error=code))
    return Outcome(key=key, position=position, status="failed", error_code=code, error=f"{code}!", **fields)


def broken(key: str, position: int) -> Outcome:
    return failed(key, position, code="bad_row", attempt=None, attempts=0)


@contextmanager
def sqlite(path: Path) -> Iterator[sqlite3.Connection]:
    """A second connection, of another program."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        yield connection


def rows(path: Path, statement: str) -> list[Any]:
    with sqlite(path) as connection:
        return connection.execute(statement).fetchall()


# --- the file ---------------------------------------------------------------------------------------------------------


def umask(mask: int, call: Callable[[], None]) -> None:
    before = os.umask(mask)
    try:
        call()
    finally:
        os.umask(before)


@pytest.mark.parametrize("mask", [0, 0o022, 0o077])
def test_a_new_store_is_private_whatever_the_umask(tmp_path: Path, mask: int) -> None:
    path = tmp_path / "runner.db"
    umask(mask, lambda: database.prepare(path, create=True))
    assert path.stat().st_mode & 0o777 == 0o600
    assert rows(path, "PRAGMA application_id") == [(APPLICATION_ID,)]
    assert rows(path, "PRAGMA user_version") == [(VERSION,)]


def modes(folder: Path) -> dict[str, int]:
    return {one.name: one.stat().st_mode & 0o777 for one in folder.iterdir()}


async def test_everything_beside_the_store_is_private_too(tmp_path: Path) -> None:
    path, before = tmp_path / "runner.db", os.umask(0)
    try:
        database.prepare(path, create=True)
        begin(path)
        async with RunStore.own(path, 1) as store:
            await store.save([done("a")])
            names = modes(tmp_path)
    finally:
        os.umask(before)
    assert set(names) == {"runner.db", "runner.db-wal", "runner.db-shm", "runner.db-run1.lock"}
    assert set(names.values()) == {0o600}


def test_preparing_again_changes_nothing(path: Path) -> None:
    before = rows(path, "SELECT * FROM runs")
    database.prepare(path, create=True)
    database.prepare(path, create=False)
    assert rows(path, "SELECT * FROM runs") == before


@pytest.mark.parametrize("create", [True, False])
def test_a_folder_is_refused(tmp_path: Path, create: bool) -> None:
    with pytest.raises(UsageError, match=r"folder|no store"):
        database.prepare(tmp_path, create=create)


def test_a_missing_folder_is_refused_and_not_made(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        database.prepare(tmp_path / "no" / "runner.db", create=True)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_store_is_not_made_for_a_reader(tmp_path: Path) -> None:
    for call in (lambda path: database.prepare(path, create=False), StoreReader):
        with pytest.raises(UsageError, match="there is no store at"):
            call(tmp_path / "runner.db")
    assert list(tmp_path.iterdir()) == []


def test_an_empty_file_is_no_store_for_a_reader(tmp_path: Path) -> None:
    """Reading writes nothing: the file may belong to another program, or be the rest of a store."""
    path = tmp_path / "empty.db"
    path.touch()
    with pytest.raises((UsageError, StoreError)):
        database.prepare(path, create=False)
    assert path.read_bytes() == b""


@pytest.mark.parametrize("create", [True, False])
@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"just some words\n", "not a runner store"),
        (b"\0", "not a runner store"),
        (b"SQLite format 3\0" + b"\xff" * 5000, "cannot be used"),
        (b"SQLite format 3\0", "cannot be used"),
    ],
    ids=["text", "nul", "garbage", "cut off"],
)
def test_a_file_that_is_no_database_is_refused_and_left_alone(tmp_path: Path, content: bytes, why: str, create: bool) -> None:
    path = tmp_path / "file.db"
    path.write_bytes(content)
    with pytest.raises(StoreError, match=why):
        database.prepare(path, create=create)
    assert path.read_bytes() == content


@pytest.mark.parametrize("create", [True, False])
def test_the_database_of_another_program_is_refused_and_left_alone(tmp_path: Path, create: bool) -> None:
    path = tmp_path / "other.db"
    with sqlite(path) as connection:
        connection.execute("CREATE TABLE runs (id)")
    before = path.read_bytes()
    with pytest.raises(StoreError, match="another program's database"):
        database.prepare(path, create=create)
    assert path.read_bytes() == before


@pytest.mark.parametrize("create", [True, False])
def test_a_newer_store_is_refused_and_left_alone(path: Path, create: bool) -> None:
    with sqlite(path) as connection:
        connection.execute(f"PRAGMA user_version = {VERSION + 1}")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    before = path.read_bytes()
    with pytest.raises(StoreError, match="newer runner"):
        database.prepare(path, create=create)
    assert path.read_bytes() == before


def test_a_run_refuses_such_files_with_the_same_words(tmp_path: Path) -> None:
    prompts = tmp_path / "p.jsonl"
    prompts.write_text('{"prompt": "x"}\n')
    other, text = tmp_path / "other.db", tmp_path / "text.db"
    text.write_text("words")
    with sqlite(other) as connection:
        connection.execute("CREATE TABLE t (id)")
    for path, why in ((other, "another program's database"), (text, "not a runner store")):
        with pytest.raises(StoreError, match=why):
            runner.run(prompts, db=path, provider="simulator")
    with pytest.raises(UsageError, match="is a folder"):
        runner.run(prompts, db=tmp_path, provider="simulator")


AS_NOBODY = """
import os, sys
from pathlib import Path
from runner.store import database
os.chdir(sys.argv[1])
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
try:
    database.prepare(Path(sys.argv[2]), create=sys.argv[3] == "create")
except Exception as error:
    print(type(error).__name__, error)
"""


def prepared_by_nobody(folder: Path, name: str, how: str) -> str:
    """Prepare a store as a user without rights, since root may write anywhere."""
    done = subprocess.run([sys.executable, "-c", AS_NOBODY, folder, name, how], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_read_only_folder_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "read-only"
    folder.mkdir()
    (folder / "there.db").touch()
    (folder / "there.db").chmod(0o666)
    folder.chmod(0o555)
    try:
        new, old = prepared_by_nobody(folder, "new.db", "create"), prepared_by_nobody(folder, "there.db", "create")
    finally:
        folder.chmod(0o755)
    assert new.startswith("UsageError the store new.db cannot be written: Permission denied")
    assert old.startswith("UsageError the folder . cannot be written")
    assert [one.name for one in folder.iterdir()] == ["there.db"]


@pytest.mark.parametrize("how", ["create", "read"])
def test_a_store_of_somebody_else_is_refused_in_a_sentence(path: Path, how: str) -> None:
    path.chmod(0o000)
    path.parent.chmod(0o777)
    words = prepared_by_nobody(path.parent, path.name, how)
    assert words.startswith(("UsageError", "StoreError"))
    assert "runner.db" in words


# --- which run --------------------------------------------------------------------------------------------------------


def test_the_same_settings_are_the_same_run(path: Path) -> None:
    again = begin(path)
    assert (again.id, again.existed, again.finished, again.differs_from) == (1, True, False, None)


async def test_settings_of_pace_stay_in_the_run_and_are_brought_up_to_date(path: Path) -> None:
    opened = open_run(path, path.parent / "p.jsonl", {**SETTINGS, "concurrency": 2}, ANSWER, new=False)
    assert (opened.id, opened.existed) == (1, True)
    async with RunStore.own(path, 1, changes=opened.changes, waits=True) as store:
        with StoreReader(path) as reader:
            # not before the session begins
            assert reader.run(1).settings == SETTINGS
            await store.take_up()
            assert reader.run(1).settings == {**SETTINGS, "concurrency": 2}


def test_other_settings_are_another_run_which_says_what_differs(path: Path) -> None:
    other = begin(path, {**ANSWER, "temperature": 0.9, "model": "n"})
    assert (other.id, other.existed, other.differs_from) == (2, False, 1)
    assert other.differences == {"model": ("m", "n"), "temperature": (0.5, 0.9)}
    assert begin(path).id == 1
    assert begin(path, {**ANSWER, "temperature": 0.9, "model": "n"}).id == 2


def test_another_input_is_another_run_without_a_word(path: Path) -> None:
    other = begin(path, name="q.jsonl")
    assert (other.id, other.existed, other.differs_from, other.differences) == (2, False, None, {})


def test_a_new_run_can_be_demanded_and_is_then_the_one_to_go_on_with(path: Path) -> None:
    second = begin(path, new=True)
    assert (second.id, second.existed, second.differs_from) == (2, False, None)
    assert begin(path).id == 2


def test_store_and_input_that_moved_together_are_found(path: Path, tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").touch()
    moved = tmp_path.with_name(tmp_path.name + "-moved")
    tmp_path.rename(moved)
    try:
        found = begin(moved / "runner.db")
        assert (found.id, found.existed) == (1, True)
        with StoreReader(moved / "runner.db") as reader:
            assert reader.run(1).input == str(moved / "p.jsonl")
    finally:
        moved.rename(tmp_path)


def test_a_moved_input_is_found_by_the_reader_before_any_run(path: Path, tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").touch()
    moved = tmp_path.with_name(tmp_path.name + "-moved")
    tmp_path.rename(moved)
    try:
        with StoreReader(moved / "runner.db") as reader:
            assert reader.run(1).input == str(moved / "p.jsonl")
    finally:
        moved.rename(tmp_path)


def test_nothing_is_found_without_a_store_and_none_is_made(tmp_path: Path) -> None:
    assert continuing.known_runs(tmp_path / "runner.db") == []
    assert list(tmp_path.iterdir()) == []


def test_a_run_by_number(path: Path) -> None:
    assert get_run(path, 1).id == 1
    with pytest.raises(UsageError, match="there is no run 9"):
        get_run(path, 9)


def test_the_fingerprint_does_not_depend_on_the_order_of_settings() -> None:
    assert answer_fingerprint(dict(reversed(ANSWER.items()))) == answer_fingerprint(ANSWER)


# --- saving -----------------------------------------------------------------------------------------------------------


async def test_what_was_saved_is_read_back(path: Path) -> None:
    async with RunStore.own(path, 1) as store:
        await store.save([an_attempt("a", error="cut", sent=False), done("a", 4, number=2), failed("b", 5)])
        assert await store.counts() == RunCounts(done=1, failed=1, broken=0, attempted=True, causes={"server_error": 1})
        found = await store.settled(["a", "b", "c"])
    assert set(found) == {"a", "b"}
    a, b = found["a"], found["b"]
    assert (a.status, a.position, a.fingerprint, a.attempts) == ("done", 4, -(2**63) + 4, 2)
    assert (b.status, b.position, b.fingerprint, b.attempts) == ("failed", 5, -(2**63) + 5, 1)
    assert rows(path, "SELECT key, finish_reason, notes FROM items ORDER BY id") == [
        ("a", "stop", "empty,tail_lost"),
        ("b", None, None),
    ]


async def test_texts_of_every_kind_are_stored_whole(path: Path) -> None:
    texts = ["", "\0 and on", "\x1b[31m\x85\u2028\u202e", "é😀", "x" * 2_000_000]
    async with RunStore.own(path, 1) as store:
        await store.save([done(f"k{n}", n, text=text) for n, text in enumerate(texts)])
    with StoreReader(path) as reader:
        assert [result.text for result in reader.results(1)] == texts


async def test_a_success_is_never_overwritten(path: Path) -> None:
    async with RunStore.own(path, 1) as store:
        await store.save([done("a")])
        await store.save([failed("a", number=2)])
        await store.save([done("a", text="other", number=3)])
        await store.save([failed("b"), done("b", text="second", number=2), failed("b", number=3)])
    with StoreReader(path) as reader:
        results = list(reader.results(1))
        assert [(one.id, one.status, one.text, one.error_code) for one in results] == [
            ("a", "done", "yes", None),
            ("b", "done", "second", None),
        ]
        # the totals still count what was sent
        assert reader.totals(1).attempts == 6


async def test_the_answer_to_another_question_is_overwritten(path: Path) -> None:
    """As with --accept-changes; here the position serves as the fingerprint."""
    async with RunStore.own(path, 1) as store:
        await store.save([done("a", 1)])
        await store.save([done("a", 2, text="new", number=2)])
    with StoreReader(path) as reader:
        assert [(one.id, one.text, one.attempts) for one in reader.results(1)] == [("a", "new", 2)]
        assert reader.totals(1).attempts == 2


@pytest.mark.parametrize("kept", [True, False], ids=["told", "not told"])
async def test_a_failure_overwrites_no_answer_also_to_another_question(path: Path, kept: bool) -> None:
    """kept: the caller knows that there is an answer. The store keeps the answer in any case."""
    async with RunStore.own(path, 1) as store:
        await store.save([done("a", 1)])
        await store.save([an_attempt("a", 2, error="cut"), failed("a", 2, number=3, kept=kept)])
        found = (await store.settled(["a"]))["a"]
        assert await store.counts() == RunCounts(done=1, failed=0, broken=0, attempted=True)
    assert (found.status, found.fingerprint, found.attempts) == ("done", -(2**63) + 1, 3 if kept else 1)
    with StoreReader(path) as reader:
        (one,), totals = reader.results(1), reader.totals(1)
    assert (one.status, one.text, one.output_tokens, one.error) == ("done", "yes", 5, None)
    # the last failure neither decided the row nor was retried
    assert (totals.attempts, totals.retries, totals.deciding) == (3, {"cut": 1}, {})
    assert totals.failed_attempts == {"cut": 1, "server_error": 1}


async def test_a_kept_answer_survives_a_commit_in_doubt(path: Path) -> None:
    async with RunStore.own(path, 1) as store:
        await store.save([done("a", 1)])
        known, batch = store._last_attempt, [failed("a", 2, number=2, kept=True)]
        await store.save(batch)
        store._unsure, store._last_attempt = True, known
        await store.save(batch)
    with StoreReader(path) as reader:
        assert [(one.text, one.attempts) for one in reader.results(1)] == [("yes", 2)]
        assert reader.totals(1).attempts == 2


async def test_a_failure_is_overwritten_by_a_success_and_by_a_later_failure(path: Path) -> None:
    async with RunStore.own(path, 1) as store:
        await store.save([failed("a"), failed("b")])
        await store.save([done("a", number=2), failed("b", code="cut", number=2)])
    with StoreReader(path) as reader:
        a, b = reader.results(1)
    assert (a.status, a.text, a.error_code, a.error, a.attempts, a.input_tokens) == ("done", "yes", None, None, 2, 3)
    assert (b.status, b.error_code, b.error, b.attempts) == ("failed", "cut", "cut!", 2)


async def test_a_success_alone_leaves_nothing_of_the_failure_that_it_overwrites(path: Path) -> None:
    # the columns of an error are none of the batch of the success
    async with RunStore.own(path, 1) as store:
        await store.save([failed("a", metadata={"of": "then"}, made_seed=7)])
        await store.save([done("a", number=2)])
    with StoreReader(path) as reader:
        (a,) = reader.results(1)
    assert (a.status, a.error_code, a.error, a.metadata) == ("done", None, None, {})
    assert rows(path, "SELECT error_code, error, metadata, made_seed, attempt_id FROM items") == [(None, None, None, None, 2)]
    assert rows(path, "SELECT error, sent, typeof(sent), input_tokens FROM attempts ORDER BY id") == [
        ("server_error!", 1, "integer", None),
        (None, 1, "integer", 3),
    ]


async def test_attempts_are_numbered_on_over_runs_and_sessions(path: Path) -> None:
    begin(path, new=True)
    for run, keys in ((1, "ab"), (2, "a"), (1, "c")):
        async with RunStore.own(path, run) as store:
            await store.save([done(key) for key in keys])
    assert rows(path, "SELECT id, run_id, item_key FROM attempts ORDER BY id") == [
        (1, 1, "a"),
        (2, 1, "b"),
        (3, 2, "a"),
        (4, 1, "c"),
    ]
    assert rows(path, "SELECT run_id, key, attempt_id FROM items ORDER BY id") == [
        (1, "a", 1),
        (1, "b", 2),
        (2, "a", 3),
        (1, "c", 4),
    ]


async def test_two_runs_of_one_store_are_written_at_the_same_time(path: Path) -> None:
    begin(path, new=True)
    async with RunStore.own(path, 1) as one, RunStore.own(path, 2) as other:

        async def write(store: RunStore) -> None:
            for number in range(20):
                await store.save([done(f"k{number}", number)])

        async with anyio.create_task_group() as group:
            group.start_soon(write, one)
            group.start_soon(write, other)
    assert rows(path, "SELECT run_id, count(*) FROM items GROUP BY run_id") == [(1, 20), (2, 20)]
    joined = "SELECT count(*) FROM items JOIN attempts a ON a.id = attempt_id AND a.run_id = items.run_id AND item_key = key"
    assert rows(path, joined) == [(40,)]


async def test_settled_counts_attempts_that_have_no_outcome_yet(path: Path) -> None:
    async with RunStore.own(path, 1) as store:
        await store.save([an_attempt("a", 1, error="cut"), an_attempt("a", 2, error="cut"), failed("b", number=2)])
        await store.save([an_attempt("b", 3, error="cut")])
        found = await store.settled(["a", "b"])
    assert (found["a"].status, found["a"].attempts, found["a"].position) == (None, 2, None)
    assert (found["b"].status, found["b"].attempts) == ("failed", 3)


async def test_runs_do_not_see_each_other(path: Path) -> None:
    begin(path, new=True)
    async with RunStore.own(path, 1) as store:
        await store.save([done("a"), an_attempt("b", error="cut")])
    async with RunStore.own(path, 2) as store:
        assert await store.settled(["a", "b"]) == {}
        assert await store.counts() == RunCounts(done=0, failed=0, broken=0, attempted=False)
        await store.reposition([("a", 99)])
    assert rows(path, "SELECT position FROM items") == [(1,)]


async def test_reposition(path: Path) -> None:
    async with RunStore.own(path, 1) as store:
        await store.save([done("a", 1), done("b", 2), done("c", 3)])
        await store.reposition([("a", 3), ("c", 1), ("unknown", 5)])
    with StoreReader(path) as reader:
        assert [one.id for one in reader.results(1)] == ["c", "b", "a"]


async def test_broken_rows_that_are_gone_are_forgotten_in_this_run_only(path: Path) -> None:
    begin(path, new=True)
    for run in (1, 2):
        async with RunStore.own(path, run) as store:
            await store.save([broken("x", 1), failed("b", 2), done("c", 3), broken("y", 4), broken("z", 900)])
    async with RunStore.own(path, 1) as store:
        known = await store.settled(["x", "b"])
        assert (known["x"].broken, known["b"].broken) == (True, False)
        assert await store.counts() == RunCounts(
            done=1, failed=1, broken=3, attempted=True, causes={"bad_row": 3, "server_error": 1}
        )
        await store.forget_broken((1, 256), ["y", "b", "c"])
        assert set(await store.settled(["x", "b", "c", "y", "z"])) == {"b", "c", "y", "z"}
        await store.forget_broken([2, 3, 5, 900, 901], ["z"])
        assert set(await store.settled(["x", "b", "c", "y", "z"])) == {"b", "c", "y", "z"}
        await store.forget_broken((257, None), [])
        assert set(await store.settled(["x", "b", "c", "y", "z"])) == {"b", "c", "y"}
    assert rows(path, "SELECT run_id, count(*) FROM items GROUP BY run_id") == [(1, 3), (2, 5)]


async def test_finish_notes_the_input(path: Path) -> None:
    async with RunStore.own(path, 1) as store:
        await store.begin(rows=9, digest="d1")
        await store.finish(complete=False, stop_reason="no more money")
    assert rows(path, "SELECT rows, input_digest, finished_at, stop_reason FROM runs") == [(9, "d1", None, "no more money")]
    before = time.time()
    async with RunStore.own(path, 1) as store:
        await store.begin(rows=10, digest="d2")
        await store.finish(complete=True, stop_reason=None)
    after = time.time()
    ((count, digest, at),) = rows(path, "SELECT rows, input_digest, finished_at FROM runs")
    assert (count, digest) == (10, "d2")
    assert before <= at <= after
    found = begin(path)
    assert (found.finished, found.input_digest) == (True, "d2")


# --- durability -------------------------------------------------------------------------------------------------------


PRAGMAS = ("journal_mode", "synchronous", "foreign_keys", "query_only", "busy_timeout")


async def pragmas(connection: AsyncConnection) -> list[Any]:
    return [(await connection.exec_driver_sql(f"PRAGMA {name}")).scalar() for name in PRAGMAS]


async def test_the_connections_are_set_up_for_durability(path: Path) -> None:
    async with RunStore.own(path, 1) as store:
        *writing, write_busy_ms = await store._writer.transaction(pragmas)
        *reading, read_busy_ms = await store._reader.transaction(pragmas)
    # synchronous 2 is FULL
    assert writing == ["wal", 2, 1, 0]
    assert (reading[0], reading[3]) == ("wal", 1)
    assert min(write_busy_ms, read_busy_ms) >= 5_000


async def test_normal_durability_syncs_less(path: Path) -> None:
    async with RunStore.own(path, 1, durability="normal") as store:
        mode, synchronous, *_ = await store._writer.transaction(pragmas)
    assert (mode, synchronous) == ("wal", 1)


def test_the_file_itself_says_that_it_is_in_wal_mode(path: Path) -> None:
    assert path.read_bytes()[18:20] == b"\x02\x02"
    assert rows(path, "PRAGMA journal_mode") == [("wal",)]


async def test_foreign_keys_are_held_to(path: Path) -> None:
    async with RunStore.own(path, 1) as store:
        store.run_id = 77
        with pytest.raises(StoreError, match="FOREIGN KEY"):
            await store.save([done("a")])


BATCH = [an_attempt("a", error="cut"), done("a", 1, number=2), failed("b", 2)]


@pytest.mark.parametrize("saved_before", [True, False])
@pytest.mark.parametrize(
    ("spoil", "mend"),
    [
        ("CREATE TRIGGER t BEFORE INSERT ON items BEGIN SELECT RAISE(ABORT, 'on fire'); END", "DROP TRIGGER t"),
        ("CREATE TRIGGER t BEFORE INSERT ON attempts BEGIN SELECT RAISE(ROLLBACK, 'on fire'); END", "DROP TRIGGER t"),
        ("ALTER TABLE items RENAME TO hidden", "ALTER TABLE hidden RENAME TO items"),
        ("ALTER TABLE attempts RENAME TO hidden", "ALTER TABLE hidden RENAME TO attempts"),
    ],
    ids=["items", "rollback", "no items", "no attempts"],
)
async def test_a_failed_save_leaves_nothing_and_the_next_one_works(path: Path, spoil: str, mend: str, saved_before: bool) -> None:
    async with RunStore.own(path, 1) as store:
        if saved_before:
            await store.save([done("before", 9)])
        with sqlite(path) as other:
            other.execute(spoil)
            for _ in range(2):
                with pytest.raises(StoreError, match=f"{path} cannot be written: "):
                    await store.save(BATCH)
            other.execute(mend)
        assert await store.settled(["a", "b"]) == {}
        await store.save(BATCH)
        await store.save([done("after", 10)])
    with StoreReader(path) as reader:
        assert reader.totals(1).attempts == 4 + saved_before
        assert [one.id for one in reader.results(1)] == ["a", "b", *["before"] * saved_before, "after"]
        assert all(one.duration_s == 2.0 for one in reader.results(1))


async def test_a_full_disk_is_a_store_error_and_the_next_save_works(path: Path) -> None:
    async def fill_the_disk(connection: AsyncConnection) -> None:
        await connection.exec_driver_sql("PRAGMA max_page_count = 1")

    async with RunStore.own(path, 1) as store:
        await store.save([done("before", 9)])
        await store._writer.transaction(fill_the_disk)
        with pytest.raises(StoreError, match="database or disk is full"):
            await store.save([done("a", text="x" * 1_000_000)])
        await store.save([done("a", text="x" * 1_000_000)])
    assert rows(path, "SELECT count(*) FROM attempts") == [(2,)]
    assert rows(path, "PRAGMA integrity_check") == [("ok",)]


@pytest.mark.parametrize("another_run", [False, True])
async def test_a_batch_whose_commit_was_in_doubt_is_on_the_books_once(path: Path, another_run: bool) -> None:
    """The state after a save that was cancelled during its commit; another run may have written to the store since."""
    async with RunStore.own(path, 1) as store:
        await store.save([done("before", 9)])
        known = store._last_attempt
        await store.save(BATCH)
        store._unsure, store._last_attempt = True, known
        if another_run:
            begin(path, new=True)
            await fill(path, done("a"), run=2)
        await store.save(BATCH)
    with StoreReader(path) as reader:
        assert reader.totals(1).attempts == 4
        found = {one.id: one for one in reader.results(1)}
    assert (found["b"].status, found["b"].duration_s) == ("failed", 2.0)
    # the success was not overwritten, and its usage is still known
    assert (found["a"].status, found["a"].input_tokens, found["a"].duration_s, found["a"].served_model) == ("done", 3, 2.0, "m-1")


async def test_a_commit_in_doubt_stays_in_doubt_when_the_next_save_fails_too(path: Path) -> None:
    """What counts is the last attempt before the doubt, and not before the last save: another run may have written between."""
    async with RunStore.own(path, 1) as store:
        await store.save([done("before", 9)])
        known = store._last_attempt
        await store.save(BATCH)
        store._unsure, store._last_attempt = True, known
        begin(path, new=True)
        await fill(path, done("a"), run=2)
        with sqlite(path) as other:
            other.execute("CREATE TRIGGER t BEFORE INSERT ON items BEGIN SELECT RAISE(ABORT, 'on fire'); END")
            with pytest.raises(StoreError):
                await store.save(BATCH)
            other.execute("DROP TRIGGER t")
        await store.save(BATCH)
    with StoreReader(path) as reader:
        assert reader.totals(1).attempts == 4


async def test_a_row_for_which_nothing_was_sent_has_no_attempt(path: Path) -> None:
    await fill(path, done("a", 1), broken("b", 2), failed("c", 3))
    assert rows(path, "SELECT key, attempt_id FROM items ORDER BY key") == [("a", 1), ("b", None), ("c", 2)]


@pytest.mark.parametrize("slow", ["to begin", "to write", "to commit"])
async def test_a_save_that_was_given_up_comes_to_nothing_when_the_disk_is_back(
    path: Path, monkeypatch: pytest.MonkeyPatch, slow: str
) -> None:
    """Its thread continues where it hung; the next batch contains its rows again."""
    released = threading.Event()
    write = RunStore._write

    def stalled(self: RunStore, driver: sqlite3.Connection, entries: list[Entry], reserved: Any, begun: list[int]) -> int:
        if slow == "to write":
            released.wait(10)
        last = write(self, driver, entries, reserved, begun)
        if slow == "to commit":
            released.wait(10)
        return last

    async with RunStore.own(path, 1) as store:
        await store.save([done("before", 9)])
        thread = store._writer._driver._thread
        with sqlite(path) as other, monkeypatch.context() as patch:
            patch.setattr(connection, "LIMIT_S", 0.1)
            patch.setattr(RunStore, "_write", stalled)
            if slow == "to begin":
                other.execute("BEGIN IMMEDIATE")
            with pytest.raises(StoreError, match="does not respond"):
                await store.save(BATCH)
            if slow == "to begin":
                other.execute("ROLLBACK")
            released.set()
        await store.save(BATCH)
        await store.save([done("after", 10)])
        # the thread has closed its connection and ended
        await anyio.to_thread.run_sync(thread.join)
    assert rows(path, "SELECT count(*), max(id) FROM attempts") == [(5, 5)]
    assert rows(path, "SELECT key FROM items ORDER BY key") == [("a",), ("after",), ("b",), ("before",)]


async def test_a_cancelled_save_is_whole_or_absent_and_can_be_done_again(path: Path) -> None:
    """Cancelled at any point, it must not leave a connection that holds the write lock of the store."""
    async with RunStore.own(path, 1) as store:
        batch = [done(f"k{number}", number) for number in range(200)]
        for step in range(40):
            with anyio.move_on_after(step / 5000):
                await store.save(batch)
            await store.save(batch)
    assert rows(path, "SELECT count(*) FROM items") == [(200,)]


async def test_a_busy_store_is_waited_for_without_blocking_the_loop(path: Path) -> None:
    ticks: list[int] = []
    saved = anyio.Event()

    async def tick() -> None:
        while True:
            ticks.append(1)
            await anyio.sleep(0.01)

    async def save(store: RunStore) -> None:
        await store.save([done("a")])
        saved.set()

    async with RunStore.own(path, 1) as store:
        await store.save([done("before")])
        with sqlite(path) as other:
            other.execute("BEGIN IMMEDIATE")
            async with anyio.create_task_group() as group:
                group.start_soon(tick)
                group.start_soon(save, store)
                await anyio.sleep(0.3)
                assert rows(path, "SELECT count(*) FROM items") == [(1,)]
                other.execute("COMMIT")
                await saved.wait()
                group.cancel_scope.cancel()
    assert rows(path, "SELECT count(*) FROM items") == [(2,)]
    # a blocked event loop would have ticked once
    assert len(ticks) > 3


async def test_a_store_that_was_deleted_during_the_run_is_an_error(path: Path) -> None:
    """SQLite would continue to write to a file that can no longer be opened."""
    async with RunStore.own(path, 1) as store:
        await store.save([done("a")])
        await anyio.Path(path).unlink()
        with pytest.raises(StoreError, match=r"runner\.db"):
            await store.save([done("b")])


# --- the pace ---------------------------------------------------------------------------------------------------------

PACE = Pace(
    at=1e9,
    lanes=(
        LaneState(
            model="m", slots=48, ceiling=256, in_flight=41, limits={"rpm": 500, "tpm": 2e5}, waiting="paused until 12:03:10 (429)"
        ),
        LaneState(model="ü \x1b[31m\u2028", slots=8, ceiling=8, in_flight=0),
    ),
    retrying="3 rows on attempt 4 of 5",
)


def shown(path: Path, run: int = 1) -> Pace | None:
    with StoreReader(path) as reader:
        return reader.run(run).pace


async def test_the_pace_of_a_session_is_shown_while_it_goes_on(path: Path) -> None:
    async with RunStore.own(path, 1) as store:
        assert shown(path) is None
        await store.note_pace(PACE)
        assert shown(path) == PACE
        later = Pace(at=1e9 + 1, lanes=())
        await store.note_pace(later)
        assert shown(path) == later
        await store.finish(complete=True, stop_reason=None)
        assert shown(path) is None
    assert shown(path) is None


async def test_the_pace_that_a_killed_session_left_is_not_shown(path: Path) -> None:
    async with RunStore.own(path, 1) as store:
        await store.note_pace(PACE)
    assert rows(path, "SELECT pace IS NULL FROM runs") == [(0,)]
    assert shown(path) is None
    # nor by the next session, which has not stored a pace yet
    async with RunStore.own(path, 1):
        assert shown(path) is None


async def test_a_run_shows_its_own_pace(path: Path) -> None:
    begin(path, new=True)
    async with RunStore.own(path, 1) as one, RunStore.own(path, 2) as two:
        await one.note_pace(PACE)
        assert (shown(path, 1), shown(path, 2)) == (PACE, None)
        await two.finish(complete=False, stop_reason="x")
        assert shown(path, 1) == PACE


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", "7", '{"at": "x", "lanes": []}', '{"at": 1.0}', '{"at": 1, "lanes": [{"model": "m"}]}', "\0", "ü"],
)
async def test_a_pace_that_cannot_be_read_is_none(path: Path, text: str) -> None:
    async with RunStore.own(path, 1):
        with sqlite(path) as other:
            other.execute("UPDATE runs SET pace = ?", (text,))
        assert shown(path) is None


async def test_a_pace_with_fields_of_a_newer_version_is_read(path: Path) -> None:
    async with RunStore.own(path, 1):
        with sqlite(path) as other:
            other.execute("""UPDATE runs SET pace = '{"at": 5, "lanes": [], "mood": "good"}'""")
        assert shown(path) == Pace(at=5.0, lanes=())


async def test_notes_between_saves_lose_and_reorder_none_of_them(path: Path) -> None:
    async with RunStore.own(path, 1) as store, anyio.create_task_group() as group:

        async def note() -> None:
            for number in range(50):
                await store.note_pace(Pace(at=float(number), lanes=()))

        group.start_soon(note)
        for number in range(50):
            await store.save([an_attempt(f"k{number}", 1, error="cut"), done(f"k{number}", number, number=2)])
    assert rows(path, "SELECT count(*), max(id) FROM attempts") == [(100, 100)]
    assert rows(path, "SELECT item_key, number FROM attempts ORDER BY id") == [(f"k{n // 2}", 1 + n % 2) for n in range(100)]
    assert rows(path, "SELECT count(*) FROM items i JOIN attempts a ON a.id = i.attempt_id AND a.number = 2") == [(50,)]


async def test_a_note_does_not_settle_the_doubt_about_a_commit(path: Path) -> None:
    async with RunStore.own(path, 1) as store:
        await store.save([done("before", 9)])
        known = store._last_attempt
        await store.save(BATCH)
        store._unsure, store._last_attempt = True, known
        await store.note_pace(PACE)
        await store.save(BATCH)
    assert rows(path, "SELECT count(*) FROM attempts") == [(4,)]


async def test_a_note_that_fails_says_so_and_harms_no_save(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "BUSY_S", 0.1)
    async with RunStore.own(path, 1) as store:
        await store.save([an_attempt("a", 1, error="cut")])
        with sqlite(path) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(StoreError, match="locked"):
                await store.note_pace(PACE)
            other.execute("ROLLBACK")
        await store.save([done("a", number=2)])
        await store.note_pace(PACE)
        assert shown(path) == PACE
    assert rows(path, "SELECT id, number FROM attempts ORDER BY id") == [(1, 1), (2, 2)]


# --- one process per run ----------------------------------------------------------------------------------------------

BEGINNER = """
import sys
from pathlib import Path
from runner.store import database
from runner.store.runs import open_run

path = Path(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
database.prepare(path, create=True)
print(open_run(path, path.parent / "p.jsonl", {}, {}, new=False).id)
"""


def test_processes_that_begin_at_once_make_one_store_and_one_run(tmp_path: Path) -> None:
    command = [sys.executable, "-c", BEGINNER, tmp_path / "runner.db"]
    pipes: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    processes = [subprocess.Popen(command, text=True, **pipes) for _ in range(4)]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    assert [process.communicate() for process in processes] == [("1\n", "")] * 4


def test_a_store_being_made_by_another_process_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "new.db"
    path.touch()
    with sqlite(path) as other:
        # the state in which SQLite refuses the switch to WAL at once, whatever the busy timeout
        other.execute("BEGIN IMMEDIATE")
        with concurrent.futures.ThreadPoolExecutor(1) as threads:
            made = threads.submit(database.prepare, path, create=True)
            with pytest.raises(TimeoutError):
                made.result(timeout=0.3)
            other.execute("ROLLBACK")
            made.result()
    assert rows(path, "PRAGMA journal_mode") == [("wal",)]


def test_a_store_that_another_program_never_lets_go_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "BUSY_S", 0.1)
    path = tmp_path / "new.db"
    path.touch()
    with sqlite(path) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(
            StoreError, match=r"locked \(another program has locked it, such as `runner vacuum`; wait for that program"
        ):
            database.prepare(path, create=True)
        other.execute("ROLLBACK")


OWNER = """
import sys, anyio
from pathlib import Path
from runner.store.checkpoint import RunStore
from runner.store.counts import RunCounts

async def main():
    async with RunStore.own(Path(sys.argv[1]), int(sys.argv[2])):
        print("owned", flush=True)
        await anyio.sleep_forever()

anyio.run(main)
"""


@contextmanager
def another_process(path: Path, run_id: int = 1) -> Iterator["subprocess.Popen[str]"]:
    with subprocess.Popen([sys.executable, "-c", OWNER, path, str(run_id)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "owned\n"
        try:
            yield process
        finally:
            process.kill()


async def test_a_second_process_is_refused_and_told_whom_to_wait_for(path: Path) -> None:
    with another_process(path) as process:
        with pytest.raises(RunLockedError, match=f"in use by process {process.pid} on ") as caught:
            RunStore.own(path, 1)
        assert caught.value.exit_code == 4
        assert held(path, 1)
        with StoreReader(path) as reader:
            assert reader.run(1).active
        process.kill()
        process.wait()
        assert not held(path, 1)
        async with RunStore.own(path, 1) as store:
            await store.save([done("a")])
    assert rows(path, "SELECT pid FROM runs") == [(os.getpid(),)]


async def test_another_run_of_the_same_store_is_free(path: Path) -> None:
    begin(path, new=True)
    with another_process(path, 1):
        async with RunStore.own(path, 2) as store:
            await store.save([done("a")])
        with StoreReader(path) as reader:
            assert [run.active for run in reader.runs()] == [True, False]


async def test_the_lock_holds_within_a_process_too(path: Path) -> None:
    async with RunStore.own(path, 1):
        with pytest.raises(RunLockedError, match=f"process {os.getpid()}"):
            RunStore.own(path, 1)
        with StoreReader(path) as reader:
            assert reader.run(1).active
    async with RunStore.own(path, 1):
        pass
    with StoreReader(path) as reader:
        assert not reader.run(1).active


async def test_looking_does_not_take_the_run_away(path: Path) -> None:
    """`runner status`, called again and again, holds the lock for short moments; a run that begins waits for their end."""
    end = threading.Event()

    def look() -> None:
        while not end.is_set():
            held(path, 1)

    (path.parent / "runner.db-run1.lock").touch()
    thread = threading.Thread(target=look)
    thread.start()
    try:
        for _ in range(5):
            store = await anyio.to_thread.run_sync(RunStore.own, path, 1)
            async with store:
                pass
    finally:
        end.set()
        thread.join()


async def test_a_store_that_cannot_be_entered_gives_the_lock_back(path: Path) -> None:
    with sqlite(path) as other:
        other.execute("ALTER TABLE runs RENAME TO hidden")
    with pytest.raises(StoreError):
        async with RunStore.own(path, 1):
            pass
    assert not held(path, 1)


# --- reading ----------------------------------------------------------------------------------------------------------


async def fill(path: Path, *entries: Outcome | Attempt, run: int = 1) -> None:
    async with RunStore.own(path, run) as store:
        await store.save(entries)


async def test_runs_and_their_counts(path: Path) -> None:
    begin(path, {**ANSWER, "model": "n"})
    await fill(path, done("a"), done("b"), failed("c"), broken("d", 4))
    with StoreReader(path) as reader:
        one, two = reader.runs()
        assert (one.id, one.done, one.failed, one.rows, one.finished_at, one.active) == (1, 2, 2, None, None, False)
        assert (two.id, two.done, two.failed) == (2, 0, 0)
        assert two.settings == {**SETTINGS, "model": "n"}
        assert reader.run() == two
        assert reader.run(1) == one
        with pytest.raises(UsageError, match="there is no run 3"):
            reader.run(3)


def test_a_store_without_runs(tmp_path: Path) -> None:
    path = tmp_path / "runner.db"
    database.prepare(path, create=True)
    with StoreReader(path) as reader:
        assert reader.runs() == []
        with pytest.raises(UsageError, match="there is no run in"):
            reader.run()


async def test_errors_by_cause(path: Path) -> None:
    await fill(
        path, failed("c", 3, code="cut"), failed("b", 2), failed("a", 1, code="cut"), done("d", 4), failed("e", 5, code="cut")
    )
    with StoreReader(path) as reader, reader.snapshot() as connection:
        first, second = CauseReader(connection, 1, 1, Cut()).failed()
    assert (first.code, first.count, first.example_id, first.example) == ("cut", 3, "a", "cut!")
    assert (second.code, second.count, second.example_id) == ("server_error", 1, "b")


async def test_books_add_up_what_was_sent(path: Path) -> None:
    wasted = Usage(input_tokens=10, output_tokens=20, cached_tokens=1, reasoning_tokens=2)
    await fill(
        path,
        an_attempt("a", 1, error="cut", usage=wasted, status=200, bytes_received=7),
        an_attempt("a", 2, error="cut", status=None),
        an_attempt("a", 3, error="cut", status=None, sent=False),
        an_attempt("a", 4, error="rate_limited", status=429, bytes_received=30),
        done("a", number=5),
        done("b"),
        broken("c", 3),
    )
    with StoreReader(path) as reader:
        totals = reader.totals(1)
    assert totals.attempts == 6
    assert dict(totals.failed_attempts) == {"cut": 3, "rate_limited": 1}
    assert list(totals.failed_attempts) == ["cut", "rate_limited"]
    assert (totals.retries, totals.deciding) == ({"cut": 3, "rate_limited": 1}, {})
    assert (totals.unsent, totals.refused, totals.perhaps_billed) == (1, 1, 1)
    assert (totals.input_tokens, totals.output_tokens, totals.cached_tokens, totals.reasoning_tokens) == (16, 30, 1, 2)
    assert (totals.wasted_input_tokens, totals.wasted_output_tokens, totals.wasted_bytes) == (10, 20, 37)
    assert (totals.duration.p50, totals.duration.p95) == (2.0, 2.0)
    assert totals.time_to_first_token.p50 is None
    assert totals.finish_reasons == {"stop": 2}


async def test_books_tell_retries_from_what_decided_a_row_and_from_what_is_open(path: Path) -> None:
    await fill(
        path,
        # failed at the third attempt
        an_attempt("a", 1, error="cut"),
        an_attempt("b", 1, error="overloaded"),
        an_attempt("a", 2, error="overloaded"),
        failed("a", 1, code="server_error", number=3),
        # without an outcome: one waits for its third attempt, one for its second
        an_attempt("b", 2, error="cut"),
        an_attempt("c", 1, error="cut"),
        # one refused at once, and one answered at once
        failed("d", 4, code="context_length"),
        done("e", 5),
    )
    with StoreReader(path) as reader:
        totals = reader.totals(1)
    assert totals.failed_attempts == {"cut": 3, "overloaded": 2, "server_error": 1, "context_length": 1}
    assert totals.retries == {"overloaded": 2, "cut": 1}
    assert totals.deciding == {"context_length": 1, "server_error": 1}
    # every attempt that was not the first of its item
    assert rows(path, "SELECT count(*) FROM attempts WHERE number > 1") == [(sum(totals.retries.values()),)]


async def test_a_failed_row_that_is_sent_again_keeps_what_decided_it_until_it_has_another_outcome(path: Path) -> None:
    await fill(path, failed("a", 1, number=1), failed("b", 2, number=1))
    await fill(path, an_attempt("a", 2, error="cut"))
    with StoreReader(path) as reader:
        totals = reader.totals(1)
    # the newest attempt of a has decided nothing yet
    assert (totals.retries, totals.deciding) == ({}, {"server_error": 2})
    await fill(path, done("a", number=3))
    with StoreReader(path) as reader:
        totals = reader.totals(1)
    assert (totals.retries, totals.deciding) == ({"cut": 1, "server_error": 1}, {"server_error": 1})


@pytest.mark.parametrize(
    ("status", "sent", "usage", "kind"),
    [
        (None, False, None, "unsent"),
        (None, True, None, "perhaps_billed"),
        (200, True, None, "perhaps_billed"),
        (200, True, Usage(input_tokens=9), "perhaps_billed"),
        (201, True, None, "perhaps_billed"),
        (301, True, None, "refused"),
        (429, True, None, "refused"),
        (500, True, None, "refused"),
        (200, True, Usage(input_tokens=9, output_tokens=0), None),
        (500, True, Usage(output_tokens=4), None),
    ],
)
async def test_a_failed_attempt_is_of_one_kind(
    path: Path, status: int | None, sent: bool, usage: Usage | None, kind: str | None
) -> None:
    await fill(path, an_attempt("a", 1, error="cut", status=status, sent=sent, usage=usage))
    with StoreReader(path) as reader:
        totals = reader.totals(1)
    kinds = {"unsent": totals.unsent, "refused": totals.refused, "perhaps_billed": totals.perhaps_billed}
    assert kinds == {**dict.fromkeys(kinds, 0), **({kind: 1} if kind else {})}


async def test_the_books_of_a_run_hold_nothing_of_another(path: Path) -> None:
    """Their attempts alternate in the table, and their items have the same keys."""
    begin(path, new=True)
    async with RunStore.own(path, 1) as one, RunStore.own(path, 2) as two:
        for number in range(1, 4):
            await two.save([an_attempt("a", number, error="overloaded", duration_s=9.0)])
            await one.save([an_attempt("a", number, error="cut", duration_s=5.0)])
        await two.save([done("a", number=4)])
        await one.save([failed("a", number=4, code="cut")])
    with StoreReader(path) as reader:
        first, second = reader.totals(1), reader.totals(2)
    assert (first.attempts, first.failed_attempts, first.retries, first.deciding) == (4, {"cut": 4}, {"cut": 3}, {"cut": 1})
    assert (second.attempts, second.failed_attempts, second.deciding) == (4, {"overloaded": 3}, {})
    assert (first.duration.p50, second.duration.p50) == (None, 2.0)


async def test_quantiles_are_those_of_the_answers(path: Path) -> None:
    def answer(number: int, **more: Any) -> Outcome:
        attempt = an_attempt(f"k{number}", duration_s=float(number), **more)
        return msgspec.structs.replace(done(f"k{number}", number), attempt=attempt)

    await fill(
        path,
        *(answer(number, time_to_first_token_s=number / 10) for number in range(20, 0, -1)),
        answer(21),
        an_attempt("x", error="cut", duration_s=1000.0, time_to_first_token_s=500.0),
    )
    with StoreReader(path) as reader:
        totals = reader.totals(1)
    assert (totals.duration.p50, totals.duration.p95) == (11.0, 20.0)
    # by nearest rank, as in the summary of a session and in a report
    assert (totals.time_to_first_token.p50, totals.time_to_first_token.p95) == (1.0, 1.9)


async def test_the_books_read_the_attempts_in_their_order_and_look_the_retries_up(path: Path) -> None:
    """With the index of the keys, a million attempts took four times as long."""
    statement = str(_sums(1).compile(dialect=dialect(), compile_kwargs={"literal_binds": True}))
    plan = [row[3] for row in rows(path, f"EXPLAIN QUERY PLAN {statement}")]
    assert "SEARCH attempts USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)" in plan
    assert "SEARCH later USING INDEX ix_attempts_run_id_item_key (run_id=? AND item_key=? AND rowid>?)" in plan
    assert not [line for line in plan if line.startswith("SCAN")]


async def test_rows_that_stand_on_some_lines_come_in_their_order(path: Path) -> None:
    begin(path, new=True)
    async with RunStore.own(path, 2) as other:
        await other.save([done("a", 2)])
    async with RunStore.own(path, 1) as store:
        await store.save([done("c", 3), done("a", 1), failed("b", 2), broken("x", 2), done("d", 9), an_attempt("e", error="cut")])
        of = -(2**63)
        assert await store.settled_between(1, 3) == [(1, "a", of + 1), (2, "b", of + 2), (3, "c", of + 3)]
        assert await store.settled_between(4, 8) == []


async def test_settled_keys_are_found_by_indexes_whatever_the_size(path: Path) -> None:
    """A resumed session may look up a million keys before its first new request."""
    pending = f", {IS_PENDING}"
    looked = [looking_up.SETTLED.format(more, "'a', 'b'") for more in ("", pending)]
    looked += [looking_up.TRIED.format("'a', 'b'"), *(looking_up.BETWEEN.format(more) for more in ("", looking_up.NOT_PENDING))]
    asked = [query.replace("?", "1") for query in looked]
    plan = [row[3] for query in asked for row in rows(path, f"EXPLAIN QUERY PLAN {query}")]
    by_key = "SEARCH items USING INDEX sqlite_autoindex_items_1 (run_id=? AND key=?)"
    on_lines = "SEARCH items USING INDEX ix_items_run_id_position (run_id=? AND position>? AND position<?)"
    of_retry = [
        "CORRELATED SCALAR SUBQUERY 2",
        "SEARCH g USING INDEX ix_retried_run_id_item_key (run_id=? AND item_key=?)",
        "CORRELATED SCALAR SUBQUERY 1",
        "SEARCH t USING COVERING INDEX ix_retries_run_id (run_id=?)",
    ]
    tried = "SEARCH attempts USING INDEX ix_attempts_run_id_item_key (run_id=? AND item_key=?)"
    assert plan == [by_key, by_key, *of_retry, tried, on_lines, on_lines, *of_retry]


async def test_an_export_asks_for_no_sorting_of_all_its_rows(path: Path) -> None:
    await fill(path, done("a", 1))
    with StoreReader(path) as reader, reader.snapshot():
        seen: list[str] = []
        assert reader._snapshot is not None
        driver = reader._snapshot.connection.driver_connection
        assert driver is not None
        driver.set_trace_callback(seen.append)
        list(reader.results(1))
        reader.metadata_names(1)
        driver.set_trace_callback(None)
    for query in (one for one in seen if one.startswith("SELECT")):
        plan = [row[3] for row in rows(path, f"EXPLAIN QUERY PLAN {query}")]
        assert any("ix_items_run_id_position" in line for line in plan)
        assert not [line for line in plan if "TEMP B-TREE" in line]


async def test_a_lookup_that_fails_is_a_store_error_and_the_next_one_works(path: Path) -> None:
    async with RunStore.own(path, 1) as store:
        await store.save([done("a", 1)])
        with pytest.raises(StoreError, match="cannot be read"):
            await store._reader.rows("SELECT nothing FROM nowhere", ())
        assert (await store.settled(["a", "b"])).keys() == {"a"}


def test_the_books_of_nothing_are_unknown_and_not_zero(path: Path) -> None:
    with StoreReader(path) as reader:
        totals = reader.totals(1)
    assert (totals.attempts, totals.perhaps_billed) == (0, 0)
    assert totals.input_tokens is totals.output_tokens is totals.cached_tokens is totals.wasted_input_tokens is None
    assert totals.duration.p50 is None
    assert totals.failed_attempts == totals.retries == totals.deciding == {}
    assert (totals.unsent, totals.refused, totals.wasted_bytes) == (0, 0, 0)


async def test_results_come_in_input_order(path: Path) -> None:
    await fill(path, done("c", 30), done("a", 10), failed("b", 20), broken("d", 5))
    with StoreReader(path) as reader:
        assert [one.id for one in reader.results(1)] == ["d", "a", "b", "c"]
        assert list(reader.results(2)) == []


async def test_an_id_that_was_no_text_is_given_back_as_it_was(path: Path) -> None:
    await fill(path, done("17", 1, metadata={"id": 17, "lang": "en"}), done("18", 2))
    with StoreReader(path) as reader:
        one, two = reader.results(1)
        assert (one.id, one.metadata) == (17, {"lang": "en"})
        assert (two.id, two.metadata) == ("18", {})
        assert reader.metadata_names(1) == ["lang"]


@pytest.mark.parametrize(
    ("metadata", "names"),
    [
        ([{"z": 1, "m": 2, "a": 3}], ["z", "m", "a"]),
        ([{"b": 1}, {"a": 1, "b": 2, "c": 3}], ["b", "a", "c"]),
        ([{"z": 1, "a": 2}, {"a": 1, "z": 2}], ["z", "a"]),
        ([{"q": 1, "z": 1, "a": 2}, {"a": {"x": [1, 2]}, "z": 2}, {"z": 3}], ["q", "z", "a"]),
        ([{}, {"a": None}, {"id": 5, "b": 1}], ["a", "b"]),
        ([{"": 1, 'quo"ted': 1, "ü 😀": 1, "a.b": 1, "$": 1}], ["", 'quo"ted', "ü 😀", "a.b", "$"]),
        ([{"a\0b": 1}], ["a\0b"]),
    ],
    ids=["one row", "later rows", "turned round", "nested", "empty and id", "odd names", "nul"],
)
async def test_metadata_names_come_in_the_order_of_their_first_appearance(
    path: Path, metadata: list[dict[str, Any]], names: list[str]
) -> None:
    # saved in the reverse order: the order in the input counts
    await fill(path, *reversed([done(f"k{n}", n, metadata=one) for n, one in enumerate(metadata)]))
    with StoreReader(path) as reader:
        assert reader.metadata_names(1) == names


async def test_reading_goes_on_while_a_writer_is_in_a_transaction(path: Path) -> None:
    await fill(path, done("a"), failed("b", 2))
    with sqlite(path) as writer, StoreReader(path) as reader:
        writer.execute("BEGIN IMMEDIATE")
        writer.execute("DELETE FROM items WHERE key = 'a'")
        assert [one.id for one in reader.results(1)] == ["a", "b"]
        assert reader.run().done == 1
        assert reader.totals(1).attempts == 2
        assert len(failed_rows(reader.fetch, 1, 1, Cut())) == 1
        writer.execute("COMMIT")
        assert [one.id for one in reader.results(1)] == ["b"]


async def test_results_are_one_snapshot(path: Path) -> None:
    await fill(path, *(done(f"k{n}", n) for n in range(5_000)))
    with StoreReader(path) as reader:
        results = reader.results(1)
        first = next(results)
        await fill(path, *(done(f"n{n}", n) for n in range(5_000)))
        assert len([first, *results]) == 5_000


async def test_results_that_are_not_read_to_the_end_leave_nothing_open(path: Path) -> None:
    await fill(path, *(done(f"k{n}", n) for n in range(3_000)))
    with StoreReader(path) as reader:
        results = reader.results(1)
        next(results)
        results.close()  # type: ignore[attr-defined]
    with sqlite(path) as other:
        assert other.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0


def test_a_reader_never_writes(path: Path) -> None:
    before = path.read_bytes()
    with StoreReader(path) as reader:
        reader.runs()
        with reader._engine.connect() as connection, pytest.raises(Exception, match="readonly"):
            connection.exec_driver_sql("DELETE FROM runs")
    assert path.read_bytes() == before


def damage(path: Path) -> None:
    with sqlite(path) as other:
        other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    content = bytearray(path.read_bytes())
    content[8192:-4096] = b"\xa5" * (len(content) - 8192 - 4096)
    path.write_bytes(content)


async def test_a_damaged_page_is_a_store_error(path: Path) -> None:
    await fill(path, *(done(f"k{n}", n, text="x" * 500) for n in range(200)))
    damage(path)
    with pytest.raises(StoreError, match="cannot be"), StoreReader(path) as reader:
        list(reader.results(1))


def test_rows_nested_almost_too_deeply_do_not_end_the_run(tmp_path: Path) -> None:
    """At a depth that the reader just manages, the writer may fail, because its stack is deeper."""
    prompts = tmp_path / "p.jsonl"
    depths = range(800, 1010, 10)
    prompts.write_text("".join('{"prompt": "x", "deep": ' + "[" * depth + "]" * depth + "}\n" for depth in depths))
    summary = runner.run(prompts, db=tmp_path / "runner.db", provider="simulator")
    assert summary.finished
    assert summary.done + summary.failed == len(depths)


# --- what a run leaves to others --------------------------------------------------------------------------------------


async def test_attempts_of_another_run_are_not_forgotten_with_those_of_a_commit_that_failed(path: Path) -> None:
    """After a commit of unknown fate its rows are deleted and written again: those of this run, and no others."""
    begin(path, {**ANSWER, "model": "n"})
    async with RunStore.own(path, 1) as one, RunStore.own(path, 2) as two:
        await one.save([an_attempt("a", error="cut")])
        with sqlite(path) as connection:
            connection.execute("CREATE TRIGGER t BEFORE INSERT ON items BEGIN SELECT RAISE(ABORT, 'on fire'); END")
        with pytest.raises(StoreError):
            await one.save([done("b", 2)])
        with sqlite(path) as connection:
            connection.execute("DROP TRIGGER t")
        # these get the numbers that the failed commit would have had
        await two.save([an_attempt("a", error="cut"), done("a", 1, number=2)])
        await one.save([done("b", 2)])
    booked = rows(path, "SELECT run_id, item_key, number FROM attempts ORDER BY run_id, id")
    assert booked == [(1, "a", 1), (1, "b", 1), (2, "a", 1), (2, "a", 2)]
    assert rows(path, "SELECT run_id, key FROM items ORDER BY run_id") == [(1, "b"), (2, "a")]


@pytest.mark.parametrize(("durability", "full"), [("full", 1), ("normal", 0)])
async def test_the_cache_of_the_drive_is_flushed_where_the_platform_has_a_way(path: Path, durability: str, full: int) -> None:
    """SQLite keeps the pragma on every platform, and heeds it on macOS."""
    async with RunStore.own(path, 1, durability=durability) as store:
        assert await store._writer.rows("PRAGMA fullfsync", ()) == [(full,)]
    with database.transaction(path, write=True) as opened:
        assert opened.exec_driver_sql("PRAGMA fullfsync").scalar() == 1


async def test_a_run_that_was_deleted_meanwhile_is_not_worked_on(path: Path) -> None:
    waiting = RunStore.own(path, 1)
    with sqlite(path) as connection:
        connection.execute("DELETE FROM runs")
    with pytest.raises(UsageError, match=r"run 1 of .*runner\.db was deleted"):
        async with waiting:
            pass
    # and its lock is free
    assert not held(path, 1)


async def test_runs_are_deleted_with_all_that_is_theirs(path: Path) -> None:
    begin(path, {**ANSWER, "model": "n"})
    variant = Changes(variant={"model": "larger"}, noted=[("base_url", "a", "b")])
    for run_id in (1, 2):
        async with RunStore.own(path, run_id, changes=variant) as store:
            await store.save([an_attempt("a", error="cut"), done("a", 1, number=2)])
    (path.parent / "p.jsonl").touch()
    assert deletion.delete(path, [1, 1]) == []
    for table in ("items", "attempts", "variants"):
        assert {run_id for (run_id,) in rows(path, f"SELECT run_id FROM {table}")} == {2}
    assert rows(path, "SELECT id FROM runs") == [(2,)]
    assert rows(path, "SELECT run_id, what FROM history ORDER BY id") == [(1, "base_url"), (2, "base_url"), (1, "deleted")]
    assert [one.name for one in path.parent.glob("*.lock")] == ["runner.db-run2.lock"]
    # the last one that reads a file names it, and no number is used twice
    assert deletion.delete(path, [2]) == ["p.jsonl"]
    assert begin(path).id == 3
    compaction.vacuum(path)
    assert rows(path, "PRAGMA integrity_check") == [("ok",)]


async def test_a_run_that_is_worked_on_is_not_deleted_and_nor_are_the_others(path: Path) -> None:
    begin(path, {**ANSWER, "model": "n"})
    async with RunStore.own(path, 2):
        with pytest.raises(RunLockedError, match=r"run 2 .* is in use by another process; stop it first. Nothing was deleted"):
            deletion.delete(path, [1, 2])
        with pytest.raises(UsageError, match=r"there is no run 7 .* Nothing was deleted"):
            deletion.delete(path, [1, 7])
    assert rows(path, "SELECT id FROM runs") == [(1,), (2,)]
    assert not held(path, 1)
    deletion.delete(path, [1, 2])
    assert list(path.parent.glob("*.lock")) == []


async def test_a_variant_is_entered_once_and_noted_with_each_attempt(path: Path) -> None:
    for settings in ({"model": "x", "seed": 1}, {"seed": 1, "model": "x"}, {"model": "y"}, None):
        async with RunStore.own(path, 1, changes=Changes(variant=settings)) as store:
            await store.save([an_attempt("a", error="cut")])
    assert rows(path, "SELECT variant_id FROM attempts ORDER BY id") == [(1,), (1,), (2,), (None,)]
