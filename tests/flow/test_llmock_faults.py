"""Faults as a server of other people's making plays them: every row ends done and whole, and that server blames nobody."""

import json
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import pytest
from processes import LLMock, Started, assert_clean, count, llmock, post, rows, run, runner

DIALECTS = pytest.mark.parametrize("dialect", ["openai", "anthropic"])
CHANCE = (
    "--error-rate", "429=0.1", "--error-rate", "503=0.05",
    "--stream-fault", "truncate=0.05", "--stream-fault", "malformed=0.03", "--stream-fault", "disconnect=0.03",
)  # fmt: skip
ROWS = 150


class Begun(NamedTuple):
    """A run on its way."""

    folder: Path
    server: LLMock
    process: Started
    answers: list[str]


@pytest.fixture(scope="module", autouse=True)
def begun(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Begun]]:
    """Begin a run in either dialect; most of their time is waits that the server asks for, so other tests go on beside them."""
    with ExitStack() as stack:
        runs = {}
        for dialect in ("openai", "anthropic"):
            folder = tmp_path_factory.mktemp(dialect)
            answers = write(folder, ROWS)
            server = stack.enter_context(llmock("--response-style", "echo", *CHANCE))
            # faults come by chance: with ten attempts no row meets one every time
            process = stack.enter_context(runner(*command(server, dialect, "--attempts", "10"), cwd=folder))
            runs[dialect] = Begun(folder, server, process, answers)
        yield runs


def write(folder: Path, number: int) -> list[str]:
    """Write prompts, each of its own, as llmock tells calls apart by their bodies; give the answers that it echoes."""
    prompts = [f"What is to be said, in a few words, of the number {one}?" for one in range(number)]
    lines = (json.dumps({"id": f"n-{one}", "prompt": prompt}) for one, prompt in enumerate(prompts))
    (folder / "prompts.jsonl").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return [f"Hello! You said: {prompt}" for prompt in prompts]


def command(server: LLMock, dialect: str, *options: str) -> tuple[str, ...]:
    return ("run", "prompts.jsonl", "--provider", dialect, "--model", "echo", "--base-url", server.base_url(dialect), *options)


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
def test_every_fault_to_order_is_on_the_books(tmp_path: Path, dialect: str) -> None:
    answers = write(tmp_path, 16)
    faults = [{"type": "stream_fault", "kind": kind, "after_chunks": 3} for kind in ("truncate", "malformed", "disconnect")]
    faults.append({"type": "stream_fault", "kind": "stall", "after_chunks": 3, "stall_seconds": 600})
    faults += [{"type": "fail", "status": status, "retry_after": 0.2} for status in (429, 500, 503, 529)]
    with llmock("--response-style", "echo") as server:
        for fault in faults:
            assert post(f"{server.url}/_llmock/scenario", {"behaviors": [fault]})["queued"] == 1
        ended = run(*command(server, dialect, "--silence-s", "1"), cwd=tmp_path)
        assert ended.code == 0, ended
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
        ended = run(*command(server, dialect, "--concurrency", "1"), cwd=tmp_path)
        assert ended.code == 1, ended
        assert len(server.requests()) == len(answers)
        assert_not_blamed(server)
        found = rows(tmp_path / "runner.db", "SELECT status, text FROM items ORDER BY position")
        assert found == [("failed", None), *[("done", answer) for answer in answers[1:]]]
        assert run("retry", cwd=tmp_path).code == 0
        assert len(server.requests()) == len(answers) + 1


@DIALECTS
def test_faults_by_chance_cost_no_row(begun: dict[str, Begun], dialect: str) -> None:
    folder, server, process, answers = begun[dialect]
    ended = process.ended()
    assert_clean(ended)
    assert ended.code == 0, ended
    assert_all_done(folder, server, answers)
    assert_not_blamed(server)
    assert server.verdict()["faults_injected"] > 0
