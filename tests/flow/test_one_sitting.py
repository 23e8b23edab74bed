"""The tour runs as it stands, from a table of reviews to what is handed on: nothing is paid twice, and nothing is missing.

Its commands go to the simulator and to a server that others wrote, in both dialects; Ctrl-C and ``kill -9`` take turns.
"""

import csv
import re
import shlex
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow.parquet as pq
import pytest
from processes import Ended, LLMock, Simulated, assert_clean, count, llmock, post, rows, run, runner, simulator
from shown_commands import ROOT, Shown, commands

from runner.money import PICO

PAGE = "docs/tour.md"
(MADE,) = re.findall(r"^```sh\n(.*?)^```$", (ROOT / PAGE).read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
TABLE = 200
TINY = 1e-9
"""Dollars: sums of floats are compared."""
STOPPED_AFTER = 35
"""Rows that are done when the run is stopped; 20 of them are the sample."""


class Case(NamedTuple):
    """Who answers, in which dialect, and how the run is stopped."""

    server: str
    dialect: str
    stop: int


CASES = (
    Case("simulator", "openai", signal.SIGINT),
    Case("simulator", "anthropic", signal.SIGKILL),
    Case("llmock", "openai", signal.SIGKILL),
    Case("llmock", "anthropic", signal.SIGINT),
)
ELSEWHERE = {"RUNNER_PROVIDER": "anthropic", "RUNNER_MODEL": "claude-haiku-4-5", "ANTHROPIC_API_KEY": "none"}
"""What makes the same commands speak the other dialect."""


class Sitting:
    """The commands of the page, one after the other, in a folder."""

    def __init__(self, folder: Path, case: Case, env: Mapping[str, str], said: Callable[[], int]) -> None:
        """said: counts the requests that the server has received."""
        self.folder, self.store, self._case, self._env, self._said = folder, folder / "runner.db", case, dict(env), said
        self.codes: list[tuple[str, int]] = []
        self.received = Counter[str]()
        """Requests of each command."""

    def do(self, shown: Shown) -> None:
        program, *words = shown.words
        before = self._said()
        if program == "export":
            self._env = {**dict(word.split("=", 1) for word in words), **self._env}
            return
        if program == "runner" and words[0] != "simulate":
            ended = self._stopped(words) if shown.stopped else run(*words, cwd=self.folder, env=self._env)
            self.codes.append((words[0], ended.code))
            self.received[words[0]] += self._said() - before
            if self._case == CASES[0]:
                # of the simulator and its model, each line is as it is shown
                assert shown.missing_in(f"{ended.err}\n{ended.out}") == [], f"{shown.text}\n{ended.out}\n{ended.err}"

    def _stopped(self, words: list[str]) -> Ended:
        with runner(*words, cwd=self.folder, env=self._env) as process:
            done = "status = 'done'"
            process.until(lambda: count(self.store, where=done) >= STOPPED_AFTER, "answers before the stop")
            process.signal(self._case.stop)
            ended = process.ended()
        assert_clean(ended)
        return ended


@contextmanager
def served(case: Case, folder: Path) -> Iterator[tuple[Simulated | LLMock, dict[str, str]]]:
    """Start the server of a case, and return it with the variables that lead to it."""
    simulate = next(shown for shown in commands(PAGE) if shown.words[:2] == ["runner", "simulate"])
    options = [word for word in simulate.words[2:] if word not in ("--port", "8399")]
    more = {}
    if case.dialect == "anthropic":
        more = ELSEWHERE | ({"RUNNER_SCHEMA_MODE": "tool"} if case.server == "llmock" else {})
        options = [
            word.replace("gpt-5-mini", "claude-haiku-4-5").replace('0.25, "output": 2', '1, "output": 5') for word in options
        ]
    name = f"{case.dialect.upper()}_BASE_URL"
    if case.server == "simulator":
        with simulator(*options) as server:
            yield server, {**more, name: server.base_url(case.dialect)}
        return
    # it tells requests apart by their bodies; a pause between pieces leaves time for the stop
    with llmock("--response-style", "echo", "--latency-ms", "250", "--error-rate", "500=0.03") as mock:
        yield mock, {**more, name: mock.base_url(case.dialect)}


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.server}-{case.dialect}-{signal.Signals(case.stop).name}")
def test_one_sitting(case: Case, tmp_path: Path) -> None:
    subprocess.run(["sh", "-c", MADE.replace("python3 -", f"{shlex.quote(sys.executable)} -")], cwd=tmp_path, check=True)
    with served(case, tmp_path) as (server, env):
        said = server.sent if isinstance(server, Simulated) else lambda: len(server.requests())
        sitting = Sitting(tmp_path, case, env, said)
        for shown in commands(PAGE):
            if isinstance(server, LLMock) and shown.words[:2] == ["runner", "run"] and not shown.stopped:
                # its answers are short: these are cut on demand
                cut = {"type": "reply", "text": '{"mood": "go', "finish_reason": "length", "times": 10}
                post(f"{server.url}/_llmock/scenario", {"behaviors": [cut]})
            sitting.do(shown)
        stopped = -signal.SIGKILL if case.stop == signal.SIGKILL else 130
        ends = [code for name, code in sitting.codes if name in ("run", "retry")]
        assert ends == [stopped, 1, 0]
        assert {code for name, code in sitting.codes if name not in ("run", "retry")} == {0}
        assert_nothing_paid_twice(sitting, case, server)
    assert_all_exported(tmp_path)


def assert_nothing_paid_twice(sitting: Sitting, case: Case, server: Simulated | LLMock) -> None:
    store = sitting.store
    assert rows(store, "SELECT status, count(*) FROM items GROUP BY 1") == [("done", TABLE)]
    cut = count(store, "attempts", "error_code = 'invalid_output'")
    # an answer for each row, and one more for those that were cut
    assert count(store, "attempts", "error_code IS NULL") == TABLE
    assert 0 < cut < TABLE
    tried = sitting.received["try"]
    # llmock may refuse a request at random, which is then sent again
    assert tried == 1 if isinstance(server, Simulated) else tried >= 1
    assert all(sitting.received[name] == 0 for name in ("init", "errors", "export", "report", "status", "show"))
    received, killed = sum(sitting.received.values()) - tried, count(store, "attempts", "error_code = 'killed'")
    assert (killed > 0) == (case.stop == signal.SIGKILL)
    # what a budget allows is written down before it goes out, so that no kill can hide it
    assert received <= count(store, "attempts", "sent") <= received + killed
    if isinstance(server, Simulated):
        # the row of `try` was bought once more, and perhaps what was open at a kill
        assert server.invoice()["reported_twice"] - 1 <= killed
        # Anthropic tells the input of an answer before the rest, so that the cost of a broken one is known in part
        exact = case.dialect == "openai" and case.stop != signal.SIGKILL
        assert_books_hold_the_bill(sitting, server.invoice(lines=True), exact=exact)


def assert_books_hold_the_bill(sitting: Sitting, bill: Mapping[str, Any], *, exact: bool) -> None:
    tried = Decimal(bill["lines"][0]["amount_picodollars"]) / PICO
    ((known, perhaps),) = rows(sitting.store, "SELECT sum(cost), sum(cost_perhaps) FROM spend")
    billed, reported = (float(Decimal(bill[name]) - tried) for name in ("amount", "amount_reported"))
    assert known <= billed + TINY
    assert billed <= known + perhaps + TINY
    assert reported == pytest.approx(known, abs=TINY) or not exact


def assert_all_exported(folder: Path) -> None:
    assert "reviews.csv" in (folder / "report.html").read_text(encoding="utf-8")
    with (folder / "answers.csv").open(newline="", encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    with (folder / "reviews.csv").open(newline="", encoding="utf-8") as file:
        given = list(csv.DictReader(file))
    assert [{name: row[name] for name in given[0]} for row in table] == given
    typed = pq.read_table(folder / "answers.parquet")
    records = typed.to_pylist()
    assert [row["id"] for row in records] == [row["id"] for row in given]
    kinds = {name: str(typed.schema.field(name).type) for name in ("mood", "reason", "cost", "output_tokens", "attempts")}
    assert kinds == {"mood": "string", "reason": "string", "cost": "double", "output_tokens": "int64", "attempts": "int64"}
    for row, same in zip(records, table, strict=True):
        assert (row["status"], row["error_code"]) == ("done", None)
        assert row["mood"] in ("good", "bad", "mixed")
        assert row["reason"]
        assert (same["mood"], same["reason"], same["text"]) == (row["mood"], row["reason"], row["text"])
        assert same["prompt"] == f"What does this review say of the product? {same['review']}"
