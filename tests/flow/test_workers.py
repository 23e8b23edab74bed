"""Runs whose requests are sent by local workers: the same results, and what the loss of a process costs."""

import json
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from desk import ROWS, Desk
from following import followed, holds
from processes import QUICK, Simulated, Started, assert_clean, at, count, environment, rows, run, runner, simulator, until

import runner as api
from runner.control.place import socket_of
from runner.event_types import Noted
from runner.workers.states import LOST_S

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the processes are found in /proc")

SLOW = ("--first-token-s", "0.3", "--chunk-s", "0.02", "--tokens", "10")
KEY = "sk-canary-of-the-workers-0123456789"


def workers_of(process: Started) -> list[int]:
    """Return the processes that a run has started."""
    found = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    return [int(pid) for pid in found.read_text().split()] if found.exists() else []


def alive(pid: int) -> bool:
    """Tell whether a process runs; one that has ended and that nobody has waited for does not."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    return False


@pytest.fixture(scope="module")
def slow() -> Iterator[Simulated]:
    with simulator(*SLOW) as started:
        yield started


def test_the_results_are_those_of_one_process(desk: Desk) -> None:
    desk.run("--workers", "2")
    assert desk.answers() == {f"row-{number}": f"echo prompt {number}" for number in range(ROWS)}
    assert set(desk.asked.values()) == {1}


def test_a_key_and_a_refusal_get_through_and_the_key_is_in_no_command_line(folder: Path) -> None:
    with simulator(*SLOW, "--key-env", "THE_KEY", env={"THE_KEY": KEY}) as server:
        wrong = run(*at(server, "--workers", "1"), cwd=folder, env={"OPENAI_API_KEY": "sk-another-key-0123456789abcdef"})
        assert (wrong.code, "401" in wrong.err, "OPENAI_API_KEY" in wrong.err) == (3, True, True), wrong
        with runner(*at(server, "--workers", "1"), cwd=folder, env={"OPENAI_API_KEY": KEY}) as process:
            process.until(lambda: workers_of(process), "a worker")
            lines = [Path(f"/proc/{pid}/cmdline").read_text() for pid in workers_of(process)]
            ended = process.ended()
    assert_clean(ended)
    assert (ended.code, count(folder / "runner.db", where="status = 'done'")) == (0, 10)
    assert lines
    assert not [line for line in lines if KEY in line]


def test_a_worker_that_is_killed_costs_what_was_out_and_no_row(tmp_path: Path, slow: Simulated) -> None:
    (tmp_path / "prompts.jsonl").write_text("".join(f'{{"prompt": "row {number}"}}\n' for number in range(120)))
    command = at(slow, "--workers", "2", "--concurrency", "12", "--json")
    with followed(tmp_path / "runner.db") as watcher, runner(*command, cwd=tmp_path) as process:
        process.until(lambda: '"live":2' in process.out and any(said[0] for said in watcher.open.values()), "two workers")
        # no worker has the socket of the session
        held = [holds(pid, socket_of(tmp_path / "runner.db", 1)) for pid in (process.pid, *workers_of(process))]
        assert held == [True, False, False]
        os.kill(workers_of(process)[0], signal.SIGKILL)
        ended = process.ended()
    assert_clean(ended)
    events = [json.loads(line) for line in ended.out.splitlines()]
    lost = count(tmp_path / "runner.db", "attempts", "error_code = 'worker_lost'")
    assert (ended.code, count(tmp_path / "runner.db", where="status = 'done'")) == (0, 120), ended
    assert 0 < lost <= 12
    # they are on the books, perhaps billed, and each was sent once more
    assert count(tmp_path / "runner.db", "attempts") == 120 + lost
    notes = [event["note"] for event in events if event["event"] == "noted"]
    assert len([note for note in notes if "was lost" in note and "go out again" in note]) == 1, notes
    # whoever watches was told that these have ended, and of each answer all of it
    told = {(row, attempt, said[0]) for (row, attempt, _), said in watcher.ended.items() if not watcher.codes[row, attempt, 1]}
    assert told <= {(one.id, one.attempts, one.text) for one in api.results(db=tmp_path / "runner.db")}
    again = {row for (row, attempt, _), code in watcher.codes.items() if code is None and attempt == 2}
    assert (watcher.open, [*watcher.codes.values()].count("worker_lost"), len(again)) == ({}, lost, lost)
    # nothing of it looks like an outage
    paces = [event["pace"] for event in events if event["event"] == "progress"]
    assert not [pace for pace in paces for lane in pace["lanes"] if lane["outage_s"]]
    assert paces[-1]["workers"]["lost"] == 1


def test_a_worker_that_stands_still_is_given_up_and_ends_when_it_wakes(tmp_path: Path, slow: Simulated) -> None:
    (tmp_path / "prompts.jsonl").write_text("".join(f'{{"prompt": "row {number}"}}\n' for number in range(2_000)))
    loss = "error_code = 'worker_lost'"
    with runner(*at(slow, "--workers", "2", "--concurrency", "8", "--json"), cwd=tmp_path) as process:
        process.until(lambda: len(workers_of(process)) == 2 and count(tmp_path / "runner.db") > 4, "answers of two workers")
        frozen = workers_of(process)[0]
        os.kill(frozen, signal.SIGSTOP)
        try:
            store = tmp_path / "runner.db"
            process.until(
                lambda: (lost := count(store, "attempts", loss)) and count(store, where="attempts > 1") == lost, "answers"
            )
        finally:
            os.kill(frozen, signal.SIGCONT)
        until(lambda: not alive(frozen), "the end of the worker that stood still")
        # too late for the rows, but not for the books: what it had sent, and what it had not
        process.until(lambda: count(store, "attempts", f"{loss} AND sent AND input_tokens IS NULL") == 0, "late usage")
        # it has more rows than it needs, so that it does not end before all this has happened
        process.signal(signal.SIGINT)
        ended = process.ended()
    assert_clean(ended)
    assert f"nothing was heard of it for {LOST_S:g} s" in ended.out
    # the summary has what the books have
    summary = json.loads(ended.out.splitlines()[-1])
    ((tokens,),) = rows(store, "SELECT sum(output_tokens) FROM attempts")
    assert summary["output_tokens"] == tokens
    assert (ended.code, count(store, where="status = 'failed'")) == (130, 0), ended
    assert count(store, "attempts") == count(store, where="status = 'done'") + count(store, "attempts", loss)


def test_no_worker_outlives_a_driver_that_is_killed(tmp_path: Path, slow: Simulated) -> None:
    (tmp_path / "prompts.jsonl").write_text("".join(f'{{"prompt": "row {number}"}}\n' for number in range(40)))
    begun = slow.sent()
    with runner(*at(slow, "--workers", "2", "--concurrency", "8"), cwd=tmp_path) as process:
        process.until(lambda: slow.sent() - begun >= 8, "requests")
        workers = workers_of(process)
        process.killed()
    until(lambda: not any(alive(pid) for pid in workers), "the end of the workers")
    assert len(workers) == 2
    ended = run("resume", cwd=tmp_path)
    assert (ended.code, count(tmp_path / "runner.db", where="status = 'done'")) == (0, 40), ended
    # what was out is sent again, and no more than that
    assert slow.sent() - begun <= 40 + 8


def test_ctrl_c_lets_open_requests_finish(tmp_path: Path, slow: Simulated) -> None:
    (tmp_path / "prompts.jsonl").write_text("".join(f'{{"prompt": "row {number}"}}\n' for number in range(60)))
    begun = slow.sent()
    with runner(*at(slow, "--workers", "2", "--concurrency", "6"), cwd=tmp_path) as process:
        process.until(lambda: slow.sent() - begun >= 6, "requests")
        # as a terminal does: to the whole group
        os.killpg(process.pid, signal.SIGINT)
        ended = process.ended()
    assert_clean(ended)
    assert ended.code == 130, ended
    done, attempts = count(tmp_path / "runner.db", where="status = 'done'"), count(tmp_path / "runner.db", "attempts")
    assert done == attempts >= 6


def test_workers_that_cannot_start_are_one_sentence(folder: Path, server: Simulated) -> None:
    # it works here, and in no other process
    (folder / "mine.py").write_text(
        "import sys\nif sys.argv[0] == '-c': raise RuntimeError('not here')\nfrom runner.providers.dialects.openai import *\n"
    )
    ended = run(*at(server, "--provider", "mine", "--workers", "2"), cwd=folder)
    assert ended.code == 2
    assert "no worker could start" in ended.err
    assert "not here" in ended.err
    assert count(folder / "runner.db", "attempts") == 0
    many = run(*at(server, "--workers", "100000"), cwd=folder)
    assert (many.code, "512 or fewer" in many.err) == (2, True), many


@pytest.mark.parametrize("dialect", ["openai", "anthropic"])
def test_the_python_api_has_workers_and_a_secret_that_is_in_no_variable(folder: Path, dialect: str) -> None:
    notes: list[str] = []
    with simulator(*QUICK, "--key-env", "THE_KEY", env={"THE_KEY": KEY}) as server:
        name, value = ("Authorization", f"Bearer {KEY}") if dialect == "openai" else ("x-api-key", KEY)
        summary = api.run(
            folder / "prompts.jsonl",
            db=folder / "runner.db",
            provider=dialect,
            model="m",
            base_url=server.base_url(dialect),
            headers={name: value},
            workers=1,
            observe=lambda event: notes.append(event.note) if isinstance(event, Noted) else None,
        )
    assert (summary.done, summary.failed, notes) == (10, 0, [])


def test_a_session_hears_the_pieces_of_answers_that_a_worker_brings(tmp_path: Path, slow: Simulated) -> None:
    with api.Session(db=tmp_path / "runner.db", model="m", base_url=slow.openai, workers=1) as session:
        answer = session.stream("Tell me a story")
        pieces = list(answer)
        assert "".join(piece.text for piece in pieces) == answer.result.text
    assert len(pieces) > 1


def test_a_job_without_workers_imports_nothing_of_them(folder: Path, server: Simulated) -> None:
    code = (
        "import sys, runner; runner.run('prompts.jsonl', model='m', base_url=sys.argv[1]); "
        "print([name for name in sys.modules if name.startswith('runner.workers')])"
    )
    with Started([sys.executable, "-c", code, server.openai], cwd=folder, env=environment()) as process:
        ended = process.ended()
    assert (ended.code, ended.out.splitlines()[-1]) == (0, "[]"), ended
