"""What was open when a session ended counts once: in the limit that a reached budget advises, and in estimates."""

import json
import re
import shlex
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bought import PRICES, Desk
from processes import count, run
from processes import runner as started
from raw_server import HANG, STREAM, RawServer, Received, Reply, chunk, delta, in_thread

from runner.cli.money import amount

LIMIT = 100
"""Tokens of an answer, at most; each has a fifth of it."""
ROWS, ANSWERED, AT_ONCE = 150, 80, 4


class Hanging(Desk):
    """Answers so many requests, and lets the others hang."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.hanging = self.answers = 0

    def __call__(self, request: Received) -> Reply:
        if self.asked.total() < self.answers:
            return super().__call__(request)
        self.hanging += 1
        return Reply((STREAM, chunk(delta("word")), HANG))


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Hanging]:
    desk = Hanging(tmp_path)
    with in_thread(RawServer(desk)) as server:
        desk.url = server.base_url
        desk.write([f"{number} " + "x" * (number % 30) for number in range(ROWS)])
        yield desk


def words(desk: Hanging) -> list[str]:
    settings = ["--model", "m", "--base-url", desk.url, "--prices", json.dumps(PRICES), "--max-tokens", str(LIMIT)]
    return ["p.jsonl", *settings, "--concurrency", str(AT_ONCE)]


def said(desk: Hanging, *words: str, code: int = 0) -> tuple[str, str]:
    ended = run(*words, cwd=desk.folder)
    assert ended.code == code, ended
    return ended.out, ended.err


def books(desk: Hanging) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(said(desk, "status", "--json")[0])["books"]
    return found


def ended_by(desk: Hanging, how: str, *options: str, answers: int) -> None:
    """Start a session that gets so many answers, and end it while all its slots are taken. how: a kill, or two signals."""
    desk.answers, wanted = desk.asked.total() + answers, desk.hanging + AT_ONCE
    with started("run", *words(desk), *options, cwd=desk.folder) as process:
        process.until(lambda: desk.hanging == wanted, "all slots")
        if how == "kill":
            process.killed()
            return
        process.signal(signal.SIGINT)
        process.until(lambda: "Ctrl-C to drop them" in process.out, "the first signal")
        process.signal(signal.SIGINT)
        process.ended()


WAYS = [("kill", 2, ()), ("kill", 1, ("--max-cost", "1")), ("stop", 1, ())]


@pytest.mark.parametrize(("how", "ends", "options"), WAYS, ids=["kill", "kill under a budget", "stop"])
def test_what_was_open_is_used_once_and_not_expected_of_the_rows_that_are_left(
    desk: Hanging, how: str, ends: int, options: tuple[str, ...]
) -> None:
    for _ in range(ends):
        ended_by(desk, how, *options, answers=ANSWERED // ends)
    found, desk.answers = books(desk), 1000
    estimated = json.loads(said(desk, "estimate", *words(desk), "--json")[0])
    assert (estimated["open_at_ends"], estimated["perhaps_billed"]) == (ends * AT_ONCE, 0)
    assert estimated["cost"]["high"] == pytest.approx(estimated["cost_high_without"] + found["cost_perhaps"])
    # with a bound for each, it is a third more than without
    assert found["cost_perhaps"] > 0.0008 * ends
    limit = found["cost"] + found["cost_perhaps"] + 0.001
    out, why = said(desk, "run", *words(desk), "--max-cost", f"{limit:.6f}", code=5)
    assert f"expected cost of {ROWS - ANSWERED} rows" in out
    assert "ended without" not in out
    ((advised, most),) = re.findall(r"to finish: `runner (resume 1 --max-cost ([\d.]+))`", why)
    said(desk, *shlex.split(advised))
    assert count(desk.store, where="status = 'done'") == ROWS
    found = books(desk)
    assert 1 < float(most) / (found["cost"] + found["cost_perhaps"]) < 1.25


def test_what_was_open_is_told_with_an_estimate_and_what_a_budget_has_left_with_the_next_command(desk: Hanging) -> None:
    ended_by(desk, "kill", "--max-cost", "0.0068", answers=40)
    found, desk.answers = books(desk), 1000
    told = "up to 4 requests were open when a session ended, perhaps billed: without them the highest cost is $"
    assert told in said(desk, "estimate", *words(desk))[0]
    left = 0.0068 - found["cost"] - found["cost_perhaps"]
    advised = "next: runner resume 1\n      (sends the other 110 rows, as far as the budget goes: it has {} left)"
    assert advised.format(amount(left)) in said(desk, "status")[0]
    said(desk, "resume", "1", code=5)
    assert 0 < books(desk)["cost"] - found["cost"] <= left
