"""Over a thousand real texts against llmock in both dialects: killed again and again, every row is there once, and whole."""

import csv
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from processes import LLMock, Started, count, llmock, post, rows, run, runner

JOB = Path(__file__).parents[2] / "jobs" / "stdlib_docstrings.py"
ROWS = os.environ.get("RUNNER_TEST_ROWS", "1200")
"""So many rows of the file, 1,000 at least, of over 5,000; the number proves no more than that, and takes time."""
CONCURRENCY = 32
DIALECTS = pytest.mark.parametrize("dialect", ["openai", "anthropic"])
ECHO = ("--response-style", "echo")
CUTS = ("--stream-fault", "truncate=0.02", "--stream-fault", "disconnect=0.01", "--stream-fault", "malformed=0.01")
"""One answer in 25 is cut off or broken by the server, so that there are retries, and cut answers to be taken for whole ones."""
SHARES = (0.01, 0.1, 0.25, 0.45, 0.65, 0.85, 0.95)
"""Where the run is killed: parts of its rows that are saved."""


@pytest.fixture(scope="module")
def docstrings(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Generate the prompts, and return their lines."""
    path = tmp_path_factory.mktemp("generated") / "docstrings.jsonl"
    subprocess.run([sys.executable, str(JOB), "-o", str(path), "--limit", ROWS], check=True, capture_output=True)
    return path.read_text(encoding="utf-8").splitlines(keepends=True)


def read(path: Path) -> list[dict[str, Any]]:
    with path.open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def answer(prompt: str) -> str:
    """What llmock answers in its echo style, computed here."""
    return f"Hello! You said: {' '.join(prompt.split())[:120]}"


def plain_answer(server: LLMock, dialect: str, prompt: str) -> str:
    """Ask llmock directly, without a stream and without runner."""
    body = {"model": "echo", "max_tokens": 100, "messages": [{"role": "user", "content": prompt}]}
    path = {"openai": "/chat/completions", "anthropic": "/v1/messages"}[dialect]
    answered = post(server.base_url(dialect) + path, body)
    text = answered["choices"][0]["message"]["content"] if dialect == "openai" else answered["content"][0]["text"]
    assert isinstance(text, str)
    return text


def prompt_of(request: dict[str, Any]) -> str:
    content = request["body"]["messages"][-1]["content"]
    return content if isinstance(content, str) else "".join(block["text"] for block in content)


class Line:
    """One run of these prompts in a folder of its own."""

    def __init__(self, folder: Path, server: LLMock, dialect: str, prompts: Sequence[str]) -> None:
        self.folder, self.server, self.dialect = folder, server, dialect
        (folder / "docstrings.jsonl").write_text("".join(prompts), encoding="utf-8")
        self.asked = [json.loads(line) for line in prompts]
        self.store = folder / "runner.db"
        self.command = [
            "run", "docstrings.jsonl", "--provider", dialect, "--model", "echo",
            "--base-url", server.base_url(dialect), "--concurrency", str(CONCURRENCY),
            # faults come by chance: with five attempts a row in ten million would fail, with ten none
            "--attempts", "10",
        ]  # fmt: skip
        # for every kill: the requests that were lost at it
        self.lost: list[int] = []

    def start(self, *arguments: str) -> Started:
        return runner(*(arguments or self.command), cwd=self.folder)

    def kill_when(self, condition: Callable[[Started], Any], what: str, *arguments: str) -> None:
        with self.start(*arguments) as process:
            process.until(lambda: condition(process), what)
            process.killed()
        self.lost.append(self.sent() - count(self.store, "attempts") - sum(self.lost))

    def kill_early(self) -> None:
        """Kill it as soon as its store is there, as soon as it owns the run, and as soon as it has saved something."""
        self.kill_when(lambda _: self.store.exists(), "the store")
        self.kill_when(self.is_owner, "the run")
        self.kill_when(lambda _: count(self.store), "the first row")

    def kill_on_the_way(self) -> None:
        """Kill it again and again, resumed now by the same command, now by ``resume``; once just as it has taken over."""
        for number, share in enumerate(SHARES):
            goal = int(share * len(self.asked))
            self.kill_when(lambda _, goal=goal: count(self.store) >= goal, f"{goal} rows", *(["resume"] if number % 2 else []))
            if number == len(SHARES) // 2:
                self.kill_when(self.is_owner, "the run", "resume")

    def is_owner(self, process: Started) -> bool:
        return bool(rows(self.store, "SELECT 1 FROM runs WHERE pid = ?", process.pid))

    def sent(self) -> int:
        return len(self.server.requests())

    def assert_whole(self) -> None:
        """Every row once, done, with all of its answer: in the store, the JSONL and the CSV."""
        ids = [row["id"] for row in self.asked]
        texts = [answer(row["prompt"]) for row in self.asked]
        stored = rows(self.store, "SELECT key, status, text FROM items ORDER BY position")
        assert [key for key, *_ in stored] == ids
        assert {status for _, status, _ in stored} == {"done"}
        assert [text for *_, text in stored] == texts
        for name in ("answers.jsonl", "answers.csv"):
            ended = run("export", "-o", name, cwd=self.folder)
            assert (ended.code, ended.err) == (0, "")
        whole = [*zip(ids, ["done"] * len(ids), texts, strict=True)]
        exported = read(self.folder / "answers.jsonl")
        assert [(row["id"], row["status"], row["text"]) for row in exported] == whole
        assert [(row["kind"], row["words"]) for row in exported] == [(row["kind"], row["words"]) for row in self.asked]
        with (self.folder / "answers.csv").open(encoding="utf-8", newline="") as file:
            table = list(csv.DictReader(file))
        assert [(row["id"], row["status"], row["text"]) for row in table] == whole
        assert rows(self.store, "PRAGMA integrity_check") == [("ok",)]

    def assert_accounted(self) -> None:
        """Every request at the server is an attempt in the store, or was lost at a kill: there at most what was in flight."""
        requests = self.server.requests()
        assert all(one["stream"] and one["method"] == "POST" for one in requests)
        key_of = {row["prompt"]: row["id"] for row in self.asked}
        at_server = Counter(key_of[prompt_of(one)] for one in requests)
        on_books = Counter(dict(rows(self.store, "SELECT item_key, count(*) FROM attempts WHERE sent GROUP BY item_key")))
        retries = count(self.store, "attempts", "error_code IS NOT NULL")
        # no attempt is on the books that the server does not know of
        assert not on_books - at_server
        lost = (at_server - on_books).total()
        figures = f"{len(self.asked)} rows, {len(requests)} requests, {retries} retries, lost at the kills: {self.lost}"
        print(self.dialect, figures)
        assert on_books.total() == len(self.asked) + retries, figures
        assert lost == sum(self.lost), figures
        assert len(requests) <= len(self.asked) + retries + len(self.lost) * CONCURRENCY, figures
        # the same for every single kill: with the sum alone, kills while little is in flight would make up for others
        assert max(self.lost, default=0) <= CONCURRENCY, figures

    def assert_settled(self) -> None:
        """The same command once more sends nothing."""
        before = self.sent()
        again = run(*self.command, cwd=self.folder)
        assert again.code == 0
        assert "nothing is sent" in again.out
        assert self.sent() == before


@pytest.mark.parametrize(("dialect", "half"), [("openai", 0), ("anthropic", 1)], ids=["openai-even rows", "anthropic-odd rows"])
def test_killed_again_and_again_every_row_is_there_once(tmp_path: Path, docstrings: list[str], dialect: str, half: int) -> None:
    with llmock(*ECHO, *CUTS) as server:
        line = Line(tmp_path, server, dialect, docstrings[half::2])
        line.kill_early()
        line.kill_on_the_way()
        assert count(line.store) < len(line.asked)
        ended = run("resume", cwd=tmp_path)
        assert ended.code == 0, ended
        assert "finished" in ended.out
        line.assert_whole()
        line.assert_settled()
        line.assert_accounted()


@DIALECTS
def test_undisturbed_every_row_is_sent_once(tmp_path: Path, docstrings: list[str], dialect: str) -> None:
    with llmock(*ECHO) as server:
        line = Line(tmp_path, server, dialect, docstrings[:300])
        for row in line.asked[::20]:
            assert plain_answer(server, dialect, row["prompt"]) == answer(row["prompt"])
        server.reset()
        ended = run(*line.command, cwd=tmp_path)
        assert ended.code == 0, ended
        line.assert_whole()
        assert Counter(map(prompt_of, server.requests())) == Counter(row["prompt"] for row in line.asked)
        assert count(line.store, "attempts") == len(line.asked)
        line.assert_settled()
        line.assert_accounted()
