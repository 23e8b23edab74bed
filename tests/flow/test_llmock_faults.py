"""Faults as a server of other people's making plays them: every row ends done and whole, and that server blames nobody."""

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from processes import LLMock, Started, assert_clean, begins_ahead, count, llmock, post, rows, runner

from runner import api
from runner.errors import RunStoppedError
from runner.event_types import Summary

DIALECTS = pytest.mark.parametrize("dialect", ["openai", "anthropic"])
CHUNKS_S = ("--stream-chunk-delay-ms", "25")
"""So that a broken chunk is seen before the rest has been sent: else llmock takes it for one that was passed over."""
CHANCE = (
    "--error-rate", "429=0.02", "--error-rate", "500=0.04", "--error-rate", "503=0.01", "--error-rate", "529=0.01",
    "--stream-fault", "truncate=0.05", "--stream-fault", "malformed=0.04", "--stream-fault", "disconnect=0.04",
    "--stream-fault", "stall=0.03", "--stream-stall-seconds", "600", *CHUNKS_S,
)  # fmt: skip


class Begun(NamedTuple):
    """A run on its way."""

    folder: Path
    server: LLMock
    process: Started
    answers: list[str]


LONG: dict[str, tuple[Sequence[str], int, str, Sequence[str]]] = {
    # what the server does; how many prompts, what they end with, and how they are run: with ten attempts no row meets a fault
    # every time
    "chance": (CHANCE, 90, "", ("--attempts", "10", "--first-byte-s", "3", "--silence-s", "1")),
    # 10 requests a second; so few are open that most follow the first answer, however busy the machine is
    "rpm": (("--rpm", "600"), 60, "", ("--concurrency", "12")),
    # 1,500 tokens a second, of which each request takes some 150
    "tpm": (("--tpm", "90000"), 60, " " + "x" * 500, ("--max-tokens", "30", "--concurrency", "12")),
}


class Long(dict[str, dict[str, Begun]]):
    """The long runs by kind and dialect; those of a kind begin when one is asked for, at the latest.

    Either dialect of a kind has the same server, which takes them for two clients.
    """

    def __init__(self, stack: ExitStack, folders: pytest.TempPathFactory) -> None:
        super().__init__()
        self._stack, self._folders = stack, folders

    def __missing__(self, kind: str) -> dict[str, Begun]:
        does, number, more, options = LONG[kind]
        server = self._stack.enter_context(llmock("--response-style", "echo", *does))
        runs = {}
        for dialect in ("openai", "anthropic"):
            folder = self._folders.mktemp("llmock")
            answers = write(folder, number, more=more)
            process = self._stack.enter_context(runner(*command(server, dialect, *options), cwd=folder))
            runs[dialect] = Begun(folder, server, process, answers)
        self[kind] = runs
        return runs


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Long]:
    """Run the long ones until the tests are over."""
    with ExitStack() as stack:
        yield Long(stack, tmp_path_factory)


@pytest.fixture(scope="module", autouse=True)
def _ahead(request: pytest.FixtureRequest) -> None:
    """Let the long ones begin before the first test where one process runs all: most of their time is waits for the server."""
    if begins_ahead(request):
        begun = request.getfixturevalue("begun")
        for kind in LONG:
            assert begun[kind]


@pytest.fixture(scope="module")
def _plain() -> Iterator[LLMock]:
    with llmock("--response-style", "echo", "--context-window", "500") as server:
        yield server


@pytest.fixture(scope="module")
def _slow() -> Iterator[LLMock]:
    with llmock("--response-style", "echo", *CHUNKS_S) as server:
        yield server


@pytest.fixture
def server(_plain: LLMock) -> LLMock:
    """One that has nothing queued and remembers nothing."""
    _plain.reset()
    return _plain


@pytest.fixture
def slow(_slow: LLMock) -> LLMock:
    """The same, but it takes its time between two chunks."""
    _slow.reset()
    return _slow


def write(folder: Path, number: int, rows: Mapping[int, Mapping[str, Any]] | None = None, *, more: str = "") -> list[str]:
    """Write prompts, each of its own, as llmock tells calls apart by their bodies; give the answers that it echoes.

    rows: further fields of some. more: what all prompts end with.
    """
    prompts = [f"What is to be said, in a few words, of the number {one}?{more}" for one in range(number)]
    lines = (
        json.dumps({"id": f"n-{one}", "prompt": prompt, **((rows or {}).get(one) or {})}) for one, prompt in enumerate(prompts)
    )
    (folder / "prompts.jsonl").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return [f"Hello! You said: {prompt[:120]}" for prompt in prompts]


def command(server: LLMock, dialect: str, *options: str) -> tuple[str, ...]:
    return ("run", "prompts.jsonl", "--provider", dialect, "--model", "echo", "--base-url", server.base_url(dialect), *options)


def go(folder: Path, server: LLMock, dialect: str, **settings: Any) -> Summary:
    """Run the prompts in this process, which is quicker: through the same API as the command."""
    where = {"provider": dialect, "model": "echo", "base_url": server.base_url(dialect)}
    return api.run(folder / "prompts.jsonl", db=folder / "runner.db", **where, **settings)


def queue(server: LLMock, *behaviors: Mapping[str, Any]) -> None:
    """Order faults, one by one: of a list with a mistake in it llmock would take nothing."""
    for behavior in behaviors:
        assert post(f"{server.url}/_llmock/scenario", {"behaviors": [behavior]})["queued"] == 1


def assert_all_done(folder: Path, server: LLMock, answers: list[str], dialect: str) -> None:
    store = folder / "runner.db"
    found = rows(store, "SELECT status, text FROM items ORDER BY position")
    assert found == [("done", answer) for answer in answers]
    requests = requests_of(server, dialect)
    assert count(store, "attempts", "sent") == len(requests)
    # every failed attempt is followed by another
    assert count(store, "attempts", "error_code IS NOT NULL") == len(requests) - len(answers)


def requests_of(server: LLMock, dialect: str) -> list[dict[str, Any]]:
    return [one for one in server.requests() if one["provider"] == dialect]


def assert_not_blamed(server: LLMock) -> None:
    """Hold that its verdict shows no FAIL and no WARN."""
    verdict = server.verdict()
    assert (verdict["errors"], verdict["warnings"]) == (0, 0), json.dumps(verdict["findings"], indent=2)
    assert verdict["passed"]


def played(server: LLMock) -> Counter[str]:
    """Count what it did, by fault; the empty name is a good answer."""
    return Counter(re.sub("[^a-z0-9].*", "", (one["fault"] or "").partition(":")[2]) for one in server.requests())


HINTED = (429, 503, 504, 529)
"""Statuses with which llmock asks for a wait, of a second where the order says nothing else."""
UNHINTED = (408, 409, 500, 502)


@DIALECTS
def test_every_fault_to_order_is_on_the_books(tmp_path: Path, slow: LLMock, dialect: str) -> None:
    answers = write(tmp_path, 24)
    kinds = ("truncate", "malformed", "disconnect")
    faults: list[dict[str, Any]] = [
        {"type": "stream_fault", "kind": kind, "after_chunks": after} for kind in kinds for after in (0, 3)
    ]
    # behind the first chunk there is no piece of the answer yet, so the timeout of the first byte ends that one
    faults += [{"type": "stream_fault", "kind": "stall", "after_chunks": after, "stall_seconds": 600} for after in (1, 4)]
    faults += [{"type": "fail", "status": status, "retry_after": 0.2} for status in HINTED]
    faults += [{"type": "fail", "status": status} for status in UNHINTED]
    faults += [{"type": "delay", "seconds": 0.2, "times": 2}, {"type": "slow_first_token", "seconds": 0.3, "times": 2}]
    queue(slow, *faults)
    assert go(tmp_path, slow, dialect, first_byte_s=3, silence_s=1).failed == 0
    assert_all_done(tmp_path, slow, answers, dialect)
    assert_not_blamed(slow)
    expected = {"": len(answers), **dict.fromkeys(kinds, 2), "stall": 2, **dict.fromkeys(map(str, HINTED + UNHINTED), 1)}
    assert played(slow) == expected
    books = dict(rows(tmp_path / "runner.db", "SELECT error_code, count(*) FROM attempts GROUP BY error_code"))
    assert books.pop(None) == len(answers)
    assert sum(books.values()) == 8 + len(HINTED + UNHINTED), books
    assert {"truncated", "malformed_stream", "timeout_silence", "rate_limited", "server_error", "overloaded"} <= set(books), books


@DIALECTS
def test_what_no_retry_can_mend_is_sent_once(tmp_path: Path, server: LLMock, dialect: str) -> None:
    answers = write(tmp_path, 9)
    refusals: list[dict[str, Any]] = [
        {"type": "fail", "status": 400, "code": "context_length_exceeded", "message": "maximum context length"},
        {"type": "fail", "status": 422},
        {"type": "fail", "status": 413},
    ]
    queue(server, *refusals)
    summary = go(tmp_path, server, dialect, concurrency=1)
    assert (summary.finished, summary.failed, len(server.requests())) == (True, 3, len(answers))
    assert_not_blamed(server)
    found = rows(tmp_path / "runner.db", "SELECT status, text FROM items ORDER BY position")
    assert found == [*[("failed", None)] * 3, *[("done", answer) for answer in answers[3:]]]
    codes = rows(tmp_path / "runner.db", "SELECT error_code FROM items ORDER BY position LIMIT 3")
    assert codes == [("context_length",), ("bad_request",), ("too_large",)]
    assert api.retry(db=tmp_path / "runner.db").failed == 0
    assert len(server.requests()) == len(answers) + 3


@DIALECTS
@pytest.mark.parametrize("status", [401, 402, 404])
def test_what_stops_a_run_is_sent_once(tmp_path: Path, server: LLMock, dialect: str, status: int) -> None:
    write(tmp_path, 9)
    queue(server, {"type": "fail", "status": status, "times": None})
    with pytest.raises(RunStoppedError):
        go(tmp_path, server, dialect, concurrency=1)
    assert len(server.requests()) == 1
    assert_not_blamed(server)


@DIALECTS
def test_prompts_beyond_the_context_window_fail_alone(tmp_path: Path, server: LLMock, dialect: str) -> None:
    answers = write(tmp_path, 9, {4: {"prompt": "A long story. " * 400}})
    summary = go(tmp_path, server, dialect)
    assert (summary.finished, summary.failed, len(server.requests())) == (True, 1, len(answers))
    assert_not_blamed(server)
    found = rows(tmp_path / "runner.db", "SELECT status, error_code, text FROM items ORDER BY position")
    assert found.pop(4) == ("failed", "context_length", None)
    answers.pop(4)
    assert found == [("done", None, answer) for answer in answers]


@DIALECTS
def test_scripted_answers_and_tools_are_kept_as_they_come(tmp_path: Path, server: LLMock, dialect: str) -> None:
    """What llmock calls a reply, a tool call and a broken tool call: none of them is an error."""
    reasons = {"openai": ("length", "content_filter", "stop"), "anthropic": ("max_tokens", "refusal", "end_turn")}[dialect]
    tool = {"name": "get_weather", "description": "Tell the weather.", "parameters": {"type": "object", "properties": {}}}
    tools = [{"type": "function", "function": tool}] if dialect == "openai" else [{**tool, "input_schema": tool["parameters"]}]
    asks = {"params": {"model": "tools", "extra_body": {"tools": tools}}}
    write(tmp_path, 6, {3: asks, 4: asks, 5: asks})
    queue(
        server,
        {"type": "reply", "text": "Cut", "finish_reason": "length", "match": {"tools": False}},
        {"type": "reply", "text": "No", "finish_reason": "content_filter", "match": {"tools": False}},
        {"type": "reply", "text": "Grüße 🙂\u2028", "match": {"tools": False}},
        {"type": "tool_fault", "kind": "malformed_arguments"},
        {"type": "tool_fault", "kind": "unknown_tool"},
    )
    summary = go(tmp_path, server, dialect, concurrency=1)
    assert (summary.done, summary.failed, len(server.requests())) == (6, 0, 6)
    assert_not_blamed(server)
    found = rows(tmp_path / "runner.db", "SELECT text, finish_reason, extra FROM items ORDER BY position")
    assert found[:3] == [("Cut", reasons[0], None), ("No", reasons[1], None), ("Grüße 🙂\u2028", reasons[2], None)]
    calls = [json.loads(extra)["tool_calls"] for _, _, extra in found[3:]]
    assert [[call["name"] for call in one] for one in calls][0::2] == [["get_weather"]] * 2
    assert calls[1][0]["name"] != "get_weather"
    # its arguments are no JSON, and kept all the same
    with pytest.raises(json.JSONDecodeError):
        json.loads(calls[0][0]["arguments"])


@DIALECTS
def test_waits_grow_from_one_failure_to_the_next(tmp_path: Path, server: LLMock, dialect: str) -> None:
    """Where no wait is asked for. There is a place for each row, so that nothing but the wait itself lies between two tries."""
    answers = write(tmp_path, 30, {one: {"params": {"model": f"m-{one}"}} for one in range(10)})
    for one in range(10):
        status = UNHINTED[one % len(UNHINTED)]
        queue(server, {"type": "fail", "status": status, "times": 2 + one % 2, "match": {"model": f"m-{one}"}})
    assert go(tmp_path, server, dialect, concurrency=40).failed == 0
    assert_all_done(tmp_path, server, answers, dialect)
    assert_not_blamed(server)


def ended(begun: Long, kind: str, dialect: str) -> Begun:
    """Wait until both runs of a kind are over, as a verdict in the middle of a run would be unjust; give one of them."""
    for each in begun[kind].values():
        end = each.process.ended()
        assert_clean(end)
        assert end.code == 0, end
    return begun[kind][dialect]


@DIALECTS
def test_faults_by_chance_cost_no_row(begun: Long, dialect: str) -> None:
    folder, server, _, answers = ended(begun, "chance", dialect)
    assert_all_done(folder, server, answers, dialect)
    assert server.verdict()["faults_injected"] > 0
    assert_not_blamed(server)


@DIALECTS
@pytest.mark.parametrize("limit", ["rpm", "tpm"])
def test_a_limit_that_its_headers_tell_is_kept(begun: Long, limit: str, dialect: str) -> None:
    """It would answer all of them at once, for its bucket is full; but who reads its headers goes at the pace that they name."""
    folder, server, _, answers = ended(begun, limit, dialect)
    assert_all_done(folder, server, answers, dialect)
    assert_not_blamed(server)
    requests = requests_of(server, dialect)
    assert {one["status"] for one in requests} == {200}
    # behind the first answers, which taught it: no second holds more than its own ten and those of the second before
    began = sorted(one["started_at"] for one in requests)
    taught = min(one["ended_at"] for one in requests) + 0.5
    late = [at for at in began if at > taught]
    assert len(late) > len(began) / 3
    assert max(sum(1 for at in late if start <= at < start + 1) for start in late) <= 21
