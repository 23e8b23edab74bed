"""The stretches of time in which a run was at work: which pauses between them are left out, and what finding them takes."""

from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from reported import BEGIN, stored

from runner.figures import Course
from runner.model import Attempt
from runner.store.course import _busy, course_of
from runner.store.reader import StoreReader

HOUR_S = 3600.0


def course(path: Path, begins: Sequence[float], lasts_s: float) -> Course:
    """Return the course of a run with attempts that begin at these seconds and take the same time."""
    every = [Attempt(key=f"{at}", number=1, started_at=BEGIN + at, duration_s=lasts_s, status=200) for at in begins]
    with StoreReader(stored(path, [*every])) as reader, reader.snapshot():
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


class Instant(float):
    """An instant that counts how often one is subtracted from another."""

    subtracted = 0

    def __sub__(self, other: float) -> float:
        Instant.subtracted += 1
        return float(self) - float(other)


def test_what_finding_the_periods_takes_grows_with_the_pauses_and_no_faster() -> None:
    number = 1000
    # each pause is a second longer than the one before
    edges = [(Instant(at), Instant(at + 1)) for at in accumulate(range(number), lambda at, more: at + 120.0 + more, initial=0.0)]

    def fetch(_: sa.Select[Any]) -> list[Any]:
        return edges

    assert len(_busy(fetch, 1)) == 12
    assert 0 < Instant.subtracted < 10 * number
