"""The cap of an agent's server under any order of grants, deaths, late bills, deleted runs and sessions of a person."""

import os
import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from filling import done, filled
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from runner.errors import UsageError
from runner.integrations.mcp_cap import Cap, Grant

CAP = 1_000
"""Picodollars; a token of output costs one."""


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    store = filled(tmp_path_factory.mktemp("cap") / "runner.db", done("a", 1))
    with closing(sqlite3.connect(store)) as books:
        books.execute("PRAGMA journal_mode = DELETE")
        books.execute("DELETE FROM attempts")
        rates = ("input", "output", "cached_input", "cache_write", "reasoning", "cache_write_1h")
        columns = ", ".join(("id", "run_id", "model", "tier", *rates))
        books.execute(f"INSERT INTO prices ({columns}) VALUES (1000, 1, 'm', 'standard', 0, 1, 0, 0, 1, 0)")
        books.commit()
    return store


class Desk:
    """Agents' sessions on one run, of two servers in turn, and what each has really cost."""

    def __init__(self, store: Path) -> None:
        self.caps = [Cap(store, CAP / 1e12), Cap(store, CAP / 1e12)]
        self.books = sqlite3.connect(store)
        self.open: dict[str, tuple[Grant, int]] = {}
        self.cost: dict[str, int] = {}
        # of that: what was lost, and is not billed in the end
        self.lost: dict[str, int] = {}
        self.working: str | None = None
        self.turn = 0
        # nobody else has spent on the run, and no bill has changed
        self.exact = True

    @property
    def cap(self) -> Cap:
        self.turn += 1
        return self.caps[self.turn % 2]

    def attempt(self, tokens: int, *, lost: bool = False) -> None:
        columns = "run_id, item_key, number, started_at, duration_s, sent, bytes_received, price_id"
        bill = "input_bound, output_bound, error_code" if lost else "input_tokens, output_tokens, error_code"
        code = "worker_lost" if lost else None
        self.books.execute(
            f"INSERT INTO attempts ({columns}, {bill}) VALUES (1, 'a', 1, 1.0, 1.0, 1, 0, 1000, 0, ?, ?)",
            (tokens, code),
        )
        self.books.commit()

    def session(self) -> None:
        self.books.execute(
            "INSERT INTO sessions (run_id, began_at, noted_at, time, timeline) VALUES (1, ?, 1.0, '{}', '[]')", (time.time(),)
        )
        self.books.commit()

    def do(self, what: str, amount: int) -> None:
        self.exact &= what not in ("person", "late")
        if what == "reserve":
            try:
                grant, lock = self.cap.reserve(amount / 1e12, free=False)
            except UsageError:
                # wrongly refused only if something is left
                assert self.cap.state().left == 0
                return
            self.open[grant.id], self.cost[grant.id] = (grant, lock), 0
        elif what == "person" and self.working is None:
            self.session()
            self.attempt(amount)
        elif what == "late":
            # what a worker lost is known later, whoever's session it was: it was not billed
            for own, tokens in self.lost.items():
                self.cost[own] -= tokens
            self.lost.clear()
            self.books.execute(
                "UPDATE attempts SET input_tokens = 0, output_tokens = 0, input_bound = NULL, output_bound = NULL "
                "WHERE error_code = 'worker_lost'"
            )
            self.books.commit()
        elif self.open and what in ("begin", "spend", "lose", "die", "end"):
            self._of_session(what, amount)

    def _of_session(self, what: str, amount: int) -> None:
        own = self.working or next(iter(self.open))
        grant, lock = self.open[own]
        if what == "begin" and self.working is None:
            self.cap.begun(own, 1)
            self.session()
            self.working = own
        elif what in ("spend", "lose") and self.working is not None:
            # as a budget has it: what a late bill gives back may be spent
            tokens = min(amount, (grant.share or 0) - self.cost[own])
            self.cost[own] += tokens
            if what == "lose":
                self.lost[own] = self.lost.get(own, 0) + tokens
            self.attempt(tokens, lost=what == "lose")
        elif what in ("die", "end"):
            if what == "end":
                self.cap.ended(own)
            os.close(lock)
            del self.open[own]
            self.working = None

    def check(self) -> None:
        state = self.cap.state()
        used, held = round(state.used * 1e12), round(state.held * 1e12)
        over = sum(cost for own, cost in self.cost.items() if own not in self.open)
        # no less than what was really spent, or a cap would be exceeded; what is running is held
        assert used == over if self.exact else used >= over
        assert used + held <= CAP
        assert held == sum(grant.share or 0 for grant, _ in self.open.values())

    def close(self) -> None:
        for _, lock in self.open.values():
            os.close(lock)
        self.books.close()


AMOUNTS = st.integers(1, CAP)
WITHIN = st.lists(st.tuples(st.sampled_from(["spend", "lose", "late", "reserve"]), AMOUNTS), min_size=1, max_size=4)
BETWEEN = st.lists(st.tuples(st.sampled_from(["person", "late", "reserve", "die"]), AMOUNTS), max_size=2)
SESSIONS = st.lists(st.tuples(AMOUNTS, WITHIN, st.sampled_from(["end", "die"]), BETWEEN), min_size=1, max_size=4)


def steps_of(sessions: list[tuple[int, list[tuple[str, int]], str, list[tuple[str, int]]]]) -> list[tuple[str, int]]:
    return [
        step
        for share, within, end, between in sessions
        for step in [("reserve", share), ("begin", 0), *within, (end, 0), *between]
    ]


@settings(
    max_examples=20,
    deadline=None,
    derandomize=True,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(sessions=SESSIONS)
def test_what_was_spent_is_never_forgotten_and_grants_never_exceed_the_cap(empty: Path, sessions: Any) -> None:
    with TemporaryDirectory() as folder:
        desk = Desk(Path(shutil.copy(empty, folder)))
        try:
            for step in steps_of(sessions):
                desk.do(*step)
            desk.check()
        finally:
            desk.close()


def in_turn(empty: Path, folder: Path, *steps: tuple[str, int]) -> tuple[int, Desk]:
    desk = Desk(Path(shutil.copy(empty, folder)))
    for step in steps:
        desk.do(*step)
    desk.check()
    desk.close()
    return round(desk.caps[0].state().used * 1e12), desk


def test_a_bill_that_becomes_smaller_in_a_later_session_gives_nothing_back_twice(empty: Path, tmp_path: Path) -> None:
    first = (("reserve", 500), ("begin", 0), ("lose", 400), ("die", 0))
    used, _ = in_turn(empty, tmp_path, *first, ("reserve", 500), ("begin", 0), ("late", 0), ("spend", 300), ("end", 0))
    assert used == 400 + 300


def test_what_a_person_spends_behind_a_session_that_died_is_not_more_than_its_share(empty: Path, tmp_path: Path) -> None:
    used, _ = in_turn(empty, tmp_path, ("reserve", 500), ("begin", 0), ("spend", 100), ("die", 0), ("person", 1000))
    assert used == 500


def test_another_run_with_the_number_of_a_deleted_one_is_not_that_run(empty: Path, tmp_path: Path) -> None:
    desk = Desk(Path(shutil.copy(empty, tmp_path)))
    desk.do("reserve", 500)
    desk.do("begin", 0)
    desk.do("spend", 100)
    desk.books.execute("DELETE FROM attempts")
    desk.books.execute("UPDATE runs SET created_at = created_at + 1")
    desk.books.commit()
    desk.do("die", 0)
    desk.exact = False
    desk.check()
    assert round(desk.caps[0].state().used * 1e12) == 500
    desk.close()
