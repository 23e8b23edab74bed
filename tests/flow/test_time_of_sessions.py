"""Where the time of a run went: after the end, after Ctrl-C, and what is stored of a session that was killed."""

import json
import signal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from processes import Simulated, assert_clean, at, count, rows, run, write_prompts
from processes import runner as started

import runner
from runner.store.reader import StoreReader
from runner.store.sessions import Session, sessions_of
from runner.time_ledger import PARTS

SLOW = ("--rpm", "600", "--concurrency", "16")


def status(folder: Path) -> dict[str, Any]:
    ended = run("status", "--json", cwd=folder)
    assert_clean(ended)
    found: dict[str, Any] = json.loads(ended.out)
    return found


def adds_up(time: dict[str, Any]) -> None:
    assert sum(time[part] for part in PARTS) == pytest.approx(time["total_s"], rel=0.01)
    assert sum(time["causes"].values()) == pytest.approx(time["total_s"], rel=0.01)


def the_sessions(folder: Path) -> list[Session]:
    with StoreReader(folder / "runner.db") as reader:
        return list(sessions_of(reader.fetch, 1))


def test_a_killed_session_keeps_what_it_noted_and_later_ones_are_added(server: Simulated, folder: Path) -> None:
    write_prompts(folder / "prompts.jsonl", range(70))
    words = at(server, *SLOW)
    with started(*words, cwd=folder) as session:
        store = folder / "runner.db"
        noted = "SELECT count(*) FROM sessions WHERE json_extract(time, '$.requests') > 5"
        session.until(lambda: store.exists() and count(store, "sessions") and rows(store, noted) == [(1,)], "a note")
        session.killed()
    (killed,) = the_sessions(folder)
    assert killed.ended_at is None
    assert killed.noted_at > killed.began_at
    assert killed.time.limits_s > killed.time.total_s / 2
    assert killed.timeline[-1].at <= killed.noted_at - killed.began_at + 0.1
    assert {one.why for one in killed.timeline} >= {"rpm"}
    adds_up(status(folder)["time"])

    with started(*words, cwd=folder) as session:
        session.until(lambda: count(store, "sessions") == 2, "the second session")
        session.signal(signal.SIGINT)
        assert session.ended().code != 0
    stopped = the_sessions(folder)[1]
    assert stopped.ended_at is not None

    ended = run(*words, "--json", cwd=folder)
    assert ended.code == 0
    last = json.loads(ended.out.splitlines()[-1])
    adds_up(last["time"])
    found = the_sessions(folder)
    assert [one.number for one in found] == [1, 2, 3]
    # the summary and the store tell the same
    assert json.loads(msgspec.json.encode(found[2].time)) == {**last["time"], "advice": found[2].time.advice}
    total = status(folder)["time"]
    adds_up(total)
    assert total["total_s"] == pytest.approx(sum(one.time.total_s for one in found))
    assert total["limits"] == {"rpm": 600.0}
    assert total["own_limits"] == ["rpm"]


def test_a_program_has_it_too(server: Simulated, folder: Path) -> None:
    summary = runner.run(
        [{"id": number, "prompt": f"hello {number}"} for number in range(30)],
        base_url=server.openai,
        model="m",
        db=folder / "runner.db",
        concurrency=8,
    )
    assert summary.time is not None
    assert (summary.time.requests, summary.time.streamed, summary.time.ceiling) == (30, 30, 8)
    adds_up(msgspec.to_builtins(summary.time))
    # so short a session says nothing
    assert summary.time.advice is None
    run_, books = runner.status(db=folder / "runner.db")
    assert run_.done == 30
    assert books.time is not None
    assert (books.time.total_s, books.time.busy_s) == (summary.time.total_s, summary.time.busy_s)


def test_a_session_with_nothing_to_send_has_no_ledger(server: Simulated, folder: Path) -> None:
    words = at(server, "--json")
    assert run(*words, cwd=folder).code == 0
    again = json.loads(run(*words, cwd=folder).out.splitlines()[-1])
    assert again["time"] is None
    assert len(the_sessions(folder)) == 1
