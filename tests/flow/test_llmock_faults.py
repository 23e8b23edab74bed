"""Faults as a server of other people's making plays them: every row ends done and whole, and that server blames nobody."""

import json
import re
from collections import Counter
from pathlib import Path

import pytest
from processes import LLMock, count, llmock, post, rows, run

DIALECTS = pytest.mark.parametrize("dialect", ["openai", "anthropic"])
CHANCE = (
    "--error-rate", "429=0.1", "--error-rate", "503=0.05",
    "--stream-fault", "truncate=0.05", "--stream-fault", "malformed=0.03", "--stream-fault", "disconnect=0.03",
)  # fmt: skip
ROWS = 150


def write(folder: Path, number: int) -> list[str]:
    """Write prompts, each of its own, as llmock tells calls apart by their bodies; give the answers that it echoes."""
    prompts = [f"What is to be said, in a few words, of the number {one}?" for one in range(number)]
    lines = (json.dumps({"id": f"n-{one}", "prompt": prompt}) for one, prompt in enumerate(prompts))
    (folder / "prompts.jsonl").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return [f"Hello! You said: {prompt}" for prompt in prompts]


def send(folder: Path, server: LLMock, dialect: str, *options: str) -> None:
    command = ("run", "prompts.jsonl", "--provider", dialect, "--model", "echo", "--base-url", server.base_url(dialect))
    # faults come by chance: with ten attempts no row meets one every time
    ended = run(*command, "--attempts", "10", *options, cwd=folder)
    assert ended.code == 0, ended


def assert_all_done(folder: Path, server: LLMock, answers: list[str]) -> None:
    store = folder / "runner.db"
    found = rows(store, "SELECT status, text FROM items ORDER BY position")
    assert found == [("done", answer) for answer in answers]
    requests = server.requests()
    assert count(store, "attempts", "sent") == len(requests)
    # every failed attempt is followed by another
    assert count(store, "attempts", "error_code IS NOT NULL") == len(requests) - len(answers)


def assert_not_blamed(server: LLMock) -> None:
    verdict = server.verdict()
    assert verdict["errors"] == 0, json.dumps(verdict["findings"], indent=2)
    assert verdict["passed"]


@DIALECTS
def test_faults_by_chance_cost_no_row(tmp_path: Path, dialect: str) -> None:
    answers = write(tmp_path, ROWS)
    with llmock("--response-style", "echo", *CHANCE) as server:
        send(tmp_path, server, dialect)
        assert_all_done(tmp_path, server, answers)
        assert_not_blamed(server)
        assert server.verdict()["faults_injected"] > 0


@DIALECTS
def test_every_fault_to_order_is_on_the_books(tmp_path: Path, dialect: str) -> None:
    answers = write(tmp_path, 16)
    faults = [{"type": "stream_fault", "kind": kind, "after_chunks": 3} for kind in ("truncate", "malformed", "disconnect")]
    faults.append({"type": "stream_fault", "kind": "stall", "after_chunks": 3, "stall_seconds": 600})
    faults += [{"type": "fail", "status": status, "retry_after": 0.2} for status in (429, 500, 503, 529)]
    with llmock("--response-style", "echo") as server:
        for fault in faults:
            assert post(f"{server.url}/_llmock/scenario", {"behaviors": [fault]})["queued"] == 1
        send(tmp_path, server, dialect, "--silence-s", "1")
        assert_all_done(tmp_path, server, answers)
        assert_not_blamed(server)
        played = Counter(re.sub("[^a-z0-9].*", "", (one["fault"] or "").partition(":")[2]) for one in server.requests())
    assert played == {"": len(answers), "truncate": 1, "malformed": 1, "disconnect": 1, "stall": 1} | {
        str(status): 1 for status in (429, 500, 503, 529)
    }
    books = dict(rows(tmp_path / "runner.db", "SELECT error_code, count(*) FROM attempts GROUP BY error_code"))
    assert books.pop(None) == len(answers)
    assert sum(books.values()) == len(faults), books
    assert {"truncated", "malformed_stream", "timeout_silence", "rate_limited", "server_error", "overloaded"} <= set(books), books


@DIALECTS
def test_what_no_retry_can_mend_is_sent_once(tmp_path: Path, dialect: str) -> None:
    answers = write(tmp_path, 6)
    overflow = {"type": "fail", "status": 400, "code": "context_length_exceeded", "message": "maximum context length", "times": 1}
    with llmock("--response-style", "echo") as server:
        post(f"{server.url}/_llmock/scenario", {"behaviors": [overflow]})
        command = ("run", "prompts.jsonl", "--provider", dialect, "--model", "echo", "--base-url", server.base_url(dialect))
        ended = run(*command, "--concurrency", "1", cwd=tmp_path)
        assert ended.code == 1, ended
        assert len(server.requests()) == len(answers)
        assert_not_blamed(server)
        found = rows(tmp_path / "runner.db", "SELECT status, text FROM items ORDER BY position")
        assert found == [("failed", None), *[("done", answer) for answer in answers[1:]]]
        assert run("retry", cwd=tmp_path).code == 0
        assert len(server.requests()) == len(answers) + 1
