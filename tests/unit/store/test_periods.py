"""The stretches of time in which a run was at work: which pauses between them are left out, and what finding them takes."""

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from counted import Counted
from reported import BEGIN, stored

from runner.figures import Course
from runner.model import Attempt
from runner.store.course import _shown, _stretches, course_of
from runner.store.reader import StoreReader

HOUR_S = 3600.0


def course(path: Path, begins: Sequence[float], lasts_s: float, sessions: Sequence[float] = ()) -> Course:
    """Return the course of a run with attempts that begin at these seconds and take the same time.

    sessions: seconds at which its sessions began.
    """
    every = [Attempt(key=f"{at}", number=1, started_at=BEGIN + at, duration_s=lasts_s, status=200) for at in begins]
    return course_in(began(stored(path, [*every]), *sessions))


def course_in(path: Path) -> Course:
    with StoreReader(path) as reader, reader.snapshot():
        found, _ = course_of(reader.fetch, 1)
    assert found is not None
    return found


def test_a_pause_that_is_short_beside_all_work_is_left_in(tmp_path: Path) -> None:
    # two hours of work: 100 seconds are less than a fiftieth of them, and 300 are more
    begins = [0.0, HOUR_S + 100.0, 2 * HOUR_S + 100.0 + 300.0]
    periods = course(tmp_path / "runner.db", begins, HOUR_S).periods
    assert [round(one.end - BEGIN) for one in periods] == [round(at + HOUR_S) for at in begins[1:]]


def test_of_many_pauses_the_longest_are_left_out(tmp_path: Path) -> None:
    pauses = [120.0 + 60.0 * (place * 7 % 40) for place in range(40)]
    begins = list(accumulate(pauses, lambda at, pause: at + 1.0 + pause, initial=0.0))
    found = course(tmp_path / "runner.db", begins, 1.0)
    longest = sorted(pauses)[-11:]
    behind = [begins[place + 1] for place, pause in enumerate(pauses) if pause in longest]
    assert len(found.periods) == 12
    assert all(0 <= BEGIN + at - one.begin < found.width for one, at in zip(found.periods[1:], behind, strict=True))


def began(path: Path, *seconds: float) -> Path:
    """Note that sessions of the run began at these seconds."""
    with closing(sqlite3.connect(path)) as connection, connection:
        for at in seconds:
            values = (BEGIN + at, BEGIN + at, "{}", "[]")
            connection.execute("INSERT INTO sessions (run_id, began_at, noted_at, time, timeline) VALUES (1, ?, ?, ?, ?)", values)
    return path


def test_what_lies_between_two_sessions_is_left_out_however_short_it_is(tmp_path: Path) -> None:
    # two sessions of 12 seconds each, 20 seconds apart; in each a pause of 8 seconds
    begins = [0.0, 10.0, 32.0, 42.0]
    joined = course(tmp_path / "one.db", begins, 2.0)
    assert (len(joined.periods), joined.worked_s) == (1, pytest.approx(44.0))
    found = course(tmp_path / "two.db", begins, 2.0, sessions=(-0.5, 31.0))
    assert [round(one.end - BEGIN) for one in found.periods] == [12, 44]
    assert found.worked_s == pytest.approx(24.0)
    assert all(after.begin - before.begin >= found.width for before, after in pairwise(found.slices))


def test_sessions_that_follow_each_other_at_once_are_one_period_and_no_more_time(tmp_path: Path) -> None:
    found = course(tmp_path / "runner.db", [0.0, 30.0, 30.3], 30.0, sessions=(0.0, 30.0, 30.2))
    assert len(found.periods) == 1
    # the last two were at work at the same time
    assert found.worked_s == pytest.approx(60.3)


def test_a_session_that_began_at_no_instant_is_not_looked_for(tmp_path: Path) -> None:
    path = tmp_path / "runner.db"
    before = course(path, [0.0, 10.0, 90.0, 100.0], 2.0, sessions=(0.0, 50.0))
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("INSERT INTO sessions (run_id, began_at, noted_at, time, timeline) VALUES (1, 'x', 0, '{}', '[]')")
    assert course_in(path) == before


def test_many_sessions_count_without_what_lies_between_them(tmp_path: Path) -> None:
    begins = [float(at) for at in range(0, 600, 20)]
    found = course(tmp_path / "runner.db", begins, 5.0, sessions=begins)
    assert len(found.periods) <= 12
    assert found.worked_s == pytest.approx(5.0 * len(begins))


def test_what_finding_the_periods_takes_grows_with_the_pauses_and_no_faster() -> None:
    number, Counted.subtracted = 1000, 0
    # each pause is a second longer than the one before
    edges = [(Counted(at), Counted(at + 1)) for at in accumulate(range(number), lambda at, more: at + 120.0 + more, initial=0.0)]

    def fetch(query: sa.Select[Any]) -> list[Any]:
        # of sessions, nothing is known
        return edges if "min(" in str(query) else []

    _, shown = _shown(_stretches(fetch, 1))
    assert len(shown) == 12
    assert 0 < Counted.subtracted < 10 * number
