"""A session that is expected to cost more than the user has said asks on a terminal, and sends nothing before the answer."""

import json
import signal
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest
from processes import run, until
from processes import runner as start
from raw_server import RawServer, Received, Reply, in_thread, openai_answer, whole
from test_signals import Terminal

import runner

QUESTION = "(--confirm-above). Start?"


class Desk:
    def __init__(self, folder: Path) -> None:
        self.folder, self.store, self.fails = folder, folder / "runner.db", False
        self.server = RawServer(self.answer)
        rows = [{"id": str(number), "prompt": f"Where is number {number}?"} for number in range(20)]
        (folder / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    def answer(self, _: Received) -> Reply:
        return (
            whole("400 Bad Request", {"error": {"message": "no", "type": "invalid_request_error"}})
            if self.fails
            else openai_answer()
        )

    def job(self, above: float = 0.001) -> None:
        text = f'model = "m"\nbase_url = "{self.server.base_url}"\nconfirm_above = {above}\nparams.max_tokens = 100\n'
        (self.folder / "p.toml").write_text(text + "[prices.m]\ninput = 1\noutput = 4\n")

    def asked(self, *words: str, answer: bytes | int) -> tuple[int, str]:
        """Run a command on a terminal, answer its question with keys or a signal, and return its exit code and what it said."""
        with (
            Terminal(300) as terminal,
            start(*words, cwd=self.folder, env={"TERM": "xterm"}, terminal=terminal.slave) as process,
        ):
            terminal.let_go()
            until(lambda: QUESTION in terminal.said() or not process.alive, "the question")
            said = partial(process.signal, answer) if isinstance(answer, int) else partial(terminal.press, answer)
            if answer:
                said()
            if isinstance(answer, int) or answer == b"\x03":
                # one that comes while readline prepares the terminal is heard with the next one only: a person presses again
                for _ in range(20):
                    with suppress(AssertionError):
                        until(lambda: terminal.said() and not process.alive, "the end", 5.0)
                        break
                    said()
            until(lambda: terminal.said() and not process.alive, "the end")
            return process.ended().code, terminal.said()


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path)
    with in_thread(desk.server):
        desk.job()
        yield desk


@pytest.mark.parametrize(
    ("answer", "code"), [(b"n\r", 2), (b"\r", 2), (b"\x04", 2), (b"\x03", 130), (signal.SIGTERM, 143)], ids=str
)
def test_whatever_is_no_yes_sends_nothing(desk: Desk, answer: bytes | int, code: int) -> None:
    ended, said = desk.asked("run", "p.jsonl", answer=answer)
    assert ended == code, said
    assert "expected cost of 20 rows: about $" in said
    assert desk.server.requests == []
    assert said.count("not started, and nothing was sent") == 1
    assert "Traceback" not in said
    # there is no run of it
    assert runner.runs(db=desk.store) == []
    assert "runner run" in run("status", cwd=desk.folder).err


def test_a_yes_starts_and_says_the_cost_once(desk: Desk) -> None:
    code, said = desk.asked("run", "p.jsonl", answer=b"y\r")
    assert (code, len(desk.server.requests)) == (0, 20), said
    assert said.count("expected cost") == 1


@pytest.mark.parametrize(("options", "above"), [(("--yes",), 0.001), ((), 5.0)], ids=["--yes", "below"])
def test_it_does_not_ask_where_that_was_said_or_the_cost_is_lower(desk: Desk, options: tuple[str, ...], above: float) -> None:
    desk.job(above)
    code, said = desk.asked("run", "p.jsonl", *options, answer=b"")
    assert (code, QUESTION in said, len(desk.server.requests)) == (0, False, 20), said
    assert said.count("expected cost") == 1


@pytest.mark.parametrize(("above", "asks"), [(0.001, False), (0.0004, True)], ids=["below", "above"])
def test_what_the_budget_does_not_leave_is_not_asked_about(desk: Desk, above: float, asks: bool) -> None:
    desk.job(above)
    code, said = desk.asked("run", "p.jsonl", "--max-cost", "0.0008", answer=b"n\r" if asks else b"")
    assert "expected cost of 20 rows: about $0.0083" in said
    assert ("The budget leaves $0.0008, which is above $0.0004 (--confirm-above). Start?" in said) == asks
    assert (code == 2) == asks == (not desk.server.requests)


def test_without_a_terminal_the_line_is_all(desk: Desk) -> None:
    ended = run("run", "p.jsonl", cwd=desk.folder)
    assert (ended.code, len(desk.server.requests)) == (0, 20)
    assert "expected cost of 20 rows: about $0.0083 ($" in ended.out
    # of a run in which nothing is left, nothing is said
    assert "expected cost" not in run("run", "p.jsonl", cwd=desk.folder).out


def test_resume_retry_and_a_sample_ask_too(desk: Desk) -> None:
    code, said = desk.asked("estimate", "p.jsonl", "--sample", "10", answer=b"n\r")
    assert (code, desk.server.requests, "expected cost of 10 rows" in said) == (2, [], True), said
    assert run("run", "p.jsonl", "--limit", "5", cwd=desk.folder).code == 0
    code, said = desk.asked("resume", answer=b"n\r")
    assert (code, len(desk.server.requests), "expected cost of 15 rows" in said) == (2, 5, True), said
    desk.fails = True
    assert run("resume", "--yes", cwd=desk.folder).code == 1
    assert len(desk.server.requests) >= 15
    before = len(desk.server.requests)
    (found,) = runner.runs(db=desk.store)
    code, said = desk.asked("retry", answer=b"n\r")
    assert (code, len(desk.server.requests)) == (2, before), said
    # a finished run stays one
    (after,) = runner.runs(db=desk.store)
    assert found.finished_at is not None
    assert (after.finished_at is not None, after.stop_reason) == (True, None)
