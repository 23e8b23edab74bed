"""The judge of the kill harness finds what it is there to find: each rule is broken once, in what a session has left."""

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from kills import judge
from kills.endpoint import GOOD, Entry, text_of
from kills.judge import Bill, Session
from kills.shown import Shown, shown
from kills.store import Held, Kept, Tried, commits, look
from raw_server import Received

from runner.store.schema import VERSION

Change = Callable[[Session], Session]


def entry(row: int, play: str = GOOD, *, over: float = 1.0, played: bool = True) -> Entry:
    request = Received(number=1, connection=1, turn=1, method="POST", path="/", headers={}, at=0.0, over=over, played=played)
    return Entry(row, play, request)


def held(*rows: int, extra: dict[int, Tried] | None = None) -> Held:
    """A store in which these rows are done at their first attempt."""
    return Held(
        version=VERSION,
        columns=frozenset({"id", "pace"}),
        runs=1,
        items=tuple((f"row-{row}", Kept("done", text_of(row), 1, row + 1)) for row in rows),
        attempts={row + 1: Tried(f"row-{row}", 1, True, None) for row in rows} | (extra or {}),
    )


FAILED = Tried("row-3", 1, True, "server_error")


@pytest.fixture
def session() -> Session:
    """Row 0 was done before; 1 and 2 are done now, 3 has failed once, 4 and 5 were lost with the kill."""
    return Session(
        aim="work",
        command="run",
        slots=2,
        rows=9,
        begin=1,
        before=held(0),
        after=held(0, 1, 2, extra={9: FAILED}),
        struck=5.0,
        entries=[entry(1), entry(2), entry(3, "500"), entry(4, played=False), entry(5, "stall", over=6.0)],
        shown=Shown(frozenset({"row-1"}), 3, 1),
    )


def test_a_session_that_is_as_it_should_be(session: Session) -> None:
    assert list(judge.after_session(session)) == []
    assert (session.lost, session.retries, len(session.booked)) == (2, 1, 3)
    assert judge.landed(session) == "at work"


def after(**changes: Any) -> Change:
    return lambda session: replace(session, after=session.after._replace(**changes))


def with_row(key: str, kept: Kept) -> Change:
    return lambda session: after(items=(*session.after.items[:-1], (key, kept)))(session)


def without_answer(session: Session) -> Session:
    return replace(session, entries=[entry(1), entry(2, played=False), *session.entries[2:]])


def one_more_lost(session: Session) -> Session:
    return replace(session, entries=[*session.entries, entry(6)])


def one_fewer_seen(session: Session) -> Session:
    return replace(session, entries=session.entries[1:])


BOUGHT_AGAIN = ("row-0", Kept("done", text_of(0), 2, 1))
BROKEN: dict[str, Change] = {
    "damaged": after(integrity=("row 3 missing from index",)),
    "half done": after(version=1),
    "2 runs": after(runs=2),
    "row-2 has 2 rows": lambda session: after(items=(*session.after.items, session.after.items[-1]))(session),
    "row-0 was done and is gone": lambda session: after(items=session.after.items[1:])(session),
    "row-0 was done and is another one": lambda session: after(items=(BOUGHT_AGAIN, *session.after.items[1:]))(session),
    "attempt 1 of row-0 was on the books and is gone": lambda session: after(
        attempts={id_: tried for id_, tried in session.after.attempts.items() if id_ != 1}
    )(session),
    "row-2 has failed": with_row("row-2", Kept("failed", None, 1, 3)),
    "a text that the server never gave": with_row("row-2", Kept("done", text_of(2)[:-1], 1, 3)),
    "no whole answer": without_answer,
    "2 good attempts": lambda session: after(attempts={**session.after.attempts, 10: Tried("row-2", 2, True, None)})(session),
    "shown as done, and not in the store: row-4": lambda session: replace(session, shown=Shown(frozenset({"row-4"}), 0, 0)),
    "4 rows were shown as settled": lambda session: replace(session, shown=Shown(frozenset(), 4, 1)),
    "3 requests that are on nobody's books": one_more_lost,
    "1 attempts on the books, and the server has seen 0": one_fewer_seen,
    "2 requests that are on nobody's books; 0 at most": lambda session: replace(session, code=0),
    "no whole export": lambda session: replace(session, export="12 bytes"),
    "exit code 4": lambda session: replace(session, code=4),
}


@pytest.mark.parametrize("rule", BROKEN)
def test_every_rule_can_be_broken(session: Session, rule: str) -> None:
    assert rule in "\n".join(judge.after_session(BROKEN[rule](session)))


BILL = Bill(items=3, requests=7, attempts=5, retries=2, unsure=0, kills=1, slots=2, duplicates=0)
END = held(0, 1, 2, extra={9: FAILED, 10: FAILED})._replace(finished=True)


def test_an_end_that_is_as_it_should_be() -> None:
    assert BILL.bound == 3 + 2 + 1 * 2
    assert BILL._replace(unsure=4).bound == BILL.bound + 4
    assert list(judge.at_the_end(BILL, END, frozenset({"row-2"}))) == []


@pytest.mark.parametrize(
    ("bill", "end", "rule"),
    [
        (BILL, END._replace(items=END.items[1:]), "missing or unknown: row-0"),
        (BILL, END._replace(items=(*END.items, END.items[0])), "4 rows, 3 of them done"),
        (BILL, END._replace(finished=False), "not finished"),
        (BILL._replace(requests=8, attempts=6), END, "8 requests, and 7 at most"),
        (BILL._replace(requests=4), END, "4 requests, 5 attempts"),
        (BILL._replace(attempts=4), END, "4 attempts were put on the books"),
    ],
)
def test_every_rule_of_the_end_can_be_broken(bill: Bill, end: Held, rule: str) -> None:
    assert rule in "\n".join(judge.at_the_end(bill, end, frozenset()))


def test_a_row_that_was_shown_in_any_session_is_missed() -> None:
    assert "shown as done in some session" in "\n".join(judge.at_the_end(BILL, END, frozenset({"row-7"})))


def test_exports_are_read_row_by_row(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    lines = [json.dumps({"id": f"row-{row}", "status": "done", "text": text_of(row)}) for row in range(3)]
    path.write_text("\n".join(lines))
    assert list(judge.exported(path, 3)) == []
    for wrong in (lines[:2], [*lines, lines[0]], [lines[1], lines[0], lines[2]], [*lines[:2], lines[2].replace("Gr", "gr")]):
        path.write_text("\n".join(wrong))
        assert len(list(judge.exported(path, 3))) == 1


def test_what_was_shown_is_read_up_to_the_last_whole_line() -> None:
    item = {"event": "item", "id": "row-7", "status": "done"}
    progress = {"event": "progress", "restored": 5, "done": 2, "failed": 1}
    told = "\n".join(map(json.dumps, [{"event": "started", "restored": 5}, item, progress]))
    assert shown(told + '\n{"event": "it', "") == Shown(frozenset({"row-7"}), 8, 2)
    assert shown(told, "") == Shown(frozenset({"row-7"}), 5, 1)
    lines = "2026-01-01 10:00:00 UTC  1,204 done, 0 failed, 796 left of 2,000 rows\n2026-01-01 10:00:05 UTC  1,300 done, 3 f"
    assert shown("run 1: /a/p.jsonl, 2,000 rows, 1,000 already done\n", lines).settled == 1204
    assert shown("run 1: /a/p.jsonl, 2,000 rows, 1,000 already done, 7 already failed\n", "").settled == 1007
    assert shown("run 1 finished: 2,000 done, 1 failed of 2,001 rows in 0:03\n", "").settled == 2001


def test_every_commit_in_a_log_is_looked_at(tmp_path: Path) -> None:
    store = tmp_path / "runner.db"
    with closing(sqlite3.connect(store, isolation_level=None)) as writer:
        writer.execute("PRAGMA journal_mode = WAL")
        for version in (1, 2, 3):
            writer.execute("BEGIN")
            writer.execute(f"CREATE TABLE t{version} (n)")
            writer.execute(f"PRAGMA user_version = {version}")
            writer.execute("COMMIT")
        found = [one.version for one in commits(store, tmp_path / "scratch")]
        assert found == [1, 2, 3]
        assert look(store, tmp_path / "scratch") == Held(version=3)
