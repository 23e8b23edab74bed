"""The sessions of a run in the store: with the pace, at the end, and what a killed one leaves."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from runner.pace import Pace
from runner.store import database, deletion
from runner.store.checkpoint import RunStore
from runner.store.reader import StoreReader
from runner.store.runs import open_run
from runner.store.sessions import _READ, Course, Session, sessions_of
from runner.time_ledger import PARTS, Moment, TimeLedger, ledger_of, together

pytestmark = pytest.mark.anyio
PACE = Pace(at=1.0, lanes=())
FIRST = ledger_of({"rpm": 90.0, "answering": 10.0}, 100.0, elapsed_s=10.0, limits={"rpm": 500.0}, slots=10)


def a_store(tmp_path: Path) -> Path:
    path = tmp_path / "s.db"
    database.prepare(path, create=True)
    open_run(path, tmp_path / "p.jsonl", {"model": "m"}, {"model": "m"}, new=True)
    return path


def the_sessions(path: Path, run_id: int = 1) -> list[Session]:
    with StoreReader(path) as reader:
        return list(sessions_of(reader.fetch, run_id))


def course(began_at: float, **more: object) -> Callable[[bool], Course]:
    def found(ended: bool) -> Course:
        return Course(**{"began_at": began_at, "at": began_at + 10, "time": FIRST, "ended": ended, **more})  # type: ignore[arg-type]

    return found


async def test_a_session_is_stored_with_its_pace_and_ends_with_the_run(tmp_path: Path) -> None:
    path, moments = a_store(tmp_path), [Moment(2.0, 3.5, 8.0, "rpm"), Moment(4.0, 8.0, 8.0)]
    async with RunStore.own(path, 1) as store:
        store.course = course(100.0, timeline=moments)
        await store.note_pace(PACE)
        assert [(one.ended_at, one.noted_at, one.timeline) for one in the_sessions(path)] == [(None, 110.0, moments)]
        # no new moments: those that are stored stay
        store.course = course(100.0, at=115.0)
        await store.note_pace(PACE)
        await store.finish(complete=False, stop_reason="enough")
    (session,) = the_sessions(path)
    assert (session.number, session.began_at, session.noted_at, session.ended_at) == (1, 100.0, 115.0, 115.0)
    assert session.time == FIRST
    assert list(session.timeline) == moments


async def test_sessions_of_a_run_are_numbered_and_a_killed_one_has_no_end(tmp_path: Path) -> None:
    path = a_store(tmp_path)
    for began_at in (100.0, 200.0):
        async with RunStore.own(path, 1) as store:
            store.course = course(began_at)
            await store.note_pace(PACE)
            if began_at == 200.0:
                await store.finish(complete=True, stop_reason=None)
    assert [(one.number, one.began_at, one.ended_at) for one in the_sessions(path)] == [(1, 100.0, None), (2, 200.0, 210.0)]
    assert the_sessions(path, 2) == []
    deletion.delete(path, [1])
    assert the_sessions(path) == []


async def test_a_run_without_a_course_has_no_session(tmp_path: Path) -> None:
    path = a_store(tmp_path)
    async with RunStore.own(path, 1) as store:
        await store.note_pace(PACE)
        await store.finish(complete=True, stop_reason=None)
    assert the_sessions(path) == []


async def test_sessions_are_read_a_few_at_a_time(tmp_path: Path) -> None:
    path, number = a_store(tmp_path), 2 * _READ + 1
    with closing(sqlite3.connect(path)) as connection, connection:
        values = [(1, 100.0 + place, 100.0 + place) for place in range(number)]
        connection.executemany(
            "INSERT INTO sessions (run_id, began_at, noted_at, time, timeline) VALUES (?, ?, ?, '{}', '[]')", values
        )
    read = list[int]()
    with StoreReader(path) as reader:

        def fetch(statement: sa.Select[Any]) -> list[Any]:
            found = reader.fetch(statement)
            read.append(len(found))
            return found

        every = sessions_of(fetch, 1)
        assert next(every).number == 1
        assert read == [_READ]
        assert [one.began_at for one in every] == [100.0 + place for place in range(1, number)]
    assert max(read) == _READ
    assert sum(read) == number


@pytest.mark.parametrize("text", ["{", "[1]", '{"total_s": "x"}', 5, b"\xff"])
async def test_what_cannot_be_decoded_is_left_out(tmp_path: Path, text: object) -> None:
    path = a_store(tmp_path)
    async with RunStore.own(path, 1) as store:
        store.course = course(100.0, timeline=[Moment(1.0, 1.0, 1.0)])
        await store.note_pace(PACE)
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE sessions SET time = ?, timeline = ?", (text, text))
    connection.close()
    (session,) = the_sessions(path)
    assert session.time == TimeLedger()
    assert list(session.timeline) == []


def test_ledgers_add_up() -> None:
    second = ledger_of({"rpm": 10.0, "first_token": 5.0}, 15.0, elapsed_s=5.0, streamed=10, first_token_s=2.0)
    both = together([FIRST, second])
    assert both is not None
    assert (both.limits_s, both.server_queue_s, both.answering_s, both.total_s) == (100.0, 5.0, 10.0, 115.0)
    assert sum(getattr(both, part) for part in PARTS) == both.total_s
    assert both.first_token_s == 2.0
    assert both.share("rpm") == pytest.approx(100 / 115)
    assert together([]) is None
