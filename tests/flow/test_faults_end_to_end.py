"""Whole runs through the public API against a server that commits faults in turn: nothing lost, doubled or leaked."""

import csv
import io
import json
import sqlite3
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from processes import run
from raw_server import (
    BLOCK_START,
    DONE,
    FIN,
    HANG,
    LAST,
    MESSAGE_START,
    RST,
    Answers,
    RawServer,
    Received,
    Reply,
    anthropic_answer,
    block_delta,
    chunk,
    delta,
    finish,
    head,
    in_thread,
    named,
    openai_answer,
    sse,
    stream,
    whole,
)

import runner
from runner.event_types import Summary

CONCURRENCY = 6
CANARY = "sk-canary-0123456789abcdefghijKLMNOP"
LIMITED = whole("429 Too Many Requests", {"error": {"type": "rate_limit_error", "message": "slow"}}, retry_after="0")
BAD = whole("400 Bad Request", {"error": {"type": "invalid_request_error", "message": "no such row"}})


class Case:
    """A prompt file, a store, and a server to run them against."""

    def __init__(self, folder: Path, rows: int = 20) -> None:
        self.folder, self.db = folder, folder / "runner.db"
        self.prompts = folder / "prompts.jsonl"
        lines = (json.dumps({"id": f"row-{number}", "prompt": f"<{number}>"}) for number in range(rows))
        self.prompts.write_text("\n".join(lines) + "\n")

    def run(self, server: RawServer, **settings: Any) -> Summary:
        given = {"model": "m", "base_url": server.base_url, "concurrency": CONCURRENCY}
        return runner.run(self.prompts, db=self.db, **{**given, **settings})

    def ask(self, question: str) -> list[tuple[Any, ...]]:
        with sqlite3.connect(self.db) as connection:
            rows = connection.execute(question).fetchall()
        connection.close()
        return rows

    def texts(self) -> dict[str, str]:
        return dict(self.ask("SELECT key, text FROM items WHERE status = 'done'"))

    def codes(self) -> dict[str, str]:
        return dict(self.ask("SELECT key, error_code FROM items WHERE status = 'failed'"))

    def sent(self) -> list[tuple[Any, ...]]:
        return self.ask("SELECT item_key, number, error_code FROM attempts ORDER BY item_key, number")

    def holds(self, words: bytes) -> list[str]:
        """Name the files in which the words stand."""
        return [path.name for path in self.folder.rglob("*") if path.is_file() and words in path.read_bytes()]


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return Case(tmp_path)


def prompt_of(request: Received) -> str:
    text: str = request.json["messages"][0]["content"]
    return text


class Flaky:
    """Commits one fault at the first request of each prompt that has one, and answers every later one."""

    def __init__(self, faults: dict[int, Reply], answer: Callable[[str], Reply] = openai_answer) -> None:
        self.faults = {f"<{number}>": fault for number, fault in faults.items()}
        self.answer = answer
        self.asked: Counter[str] = Counter()

    def __call__(self, request: Received) -> Reply:
        prompt = prompt_of(request)
        self.asked[prompt] += 1
        fault = self.faults.get(prompt)
        return fault if fault is not None and self.asked[prompt] == 1 else self.answer(f"echo {prompt}")


# a fault and the code under which it must be on the books
FAULTS: dict[int, tuple[Reply, str]] = {
    1: (stream(delta("PARTIAL"), end=(0.05, RST)), "cut"),
    3: (stream(delta("PARTIAL"), end=(FIN,)), "cut"),
    4: (stream(delta("PARTIAL")), "truncated"),
    5: (whole("500 Internal Server Error", "<html><title>oops</title></html>"), "server_error"),
    6: (LIMITED, "rate_limited"),
    8: (stream(delta("PARTIAL"), sse(b"{oops"), delta("x"), finish(), DONE), "malformed_stream"),
    9: (stream(delta("PARTIAL"), sse({"error": {"type": "overloaded_error", "message": "busy"}})), "overloaded"),
    10: (stream(delta("PARTIAL"), 5.0), "timeout_silence"),
    12: (Reply((5.0,)), "timeout_first_byte"),
    13: (whole("503 Service Unavailable", b"", retry_after="0"), "server_error"),
    14: (whole("204 No Content"), "truncated"),
    16: (Reply((head(headers={"content-type": "text/event-stream", "x-giant": "x" * 300_000}),)), "bad_http"),
    18: (stream(delta("PARTIAL"), DONE), "truncated"),
}


def test_faults_in_turn_and_every_row_is_done(case: Case) -> None:
    flaky = Flaky({number: fault for number, (fault, _) in FAULTS.items()})
    with in_thread(RawServer(flaky)) as server:
        summary = case.run(server, first_byte_s=1, silence_s=1)
    assert (summary.finished, summary.done, summary.failed) == (True, 20, 0)
    assert case.texts() == {f"row-{number}": f"echo <{number}>" for number in range(20)}
    expected = []
    for number in range(20):
        codes = [FAULTS[number][1], None] if number in FAULTS else [None]
        expected += [(f"row-{number}", at, code) for at, code in enumerate(codes, 1)]
    assert case.sent() == sorted(expected)
    # one row in the books for each request that the server saw
    assert len(server.requests) == len(expected) == summary.attempts_now
    assert not case.holds(b"PARTIAL")


def test_the_other_dialect_too(case: Case) -> None:
    begun = (MESSAGE_START, BLOCK_START, block_delta("PARTIAL"))
    overloaded = named("error", error={"type": "overloaded_error", "message": "busy"})
    faults = {1: stream(*begun, end=(0.05, RST)), 2: stream(*begun), 3: stream(*begun, overloaded), 4: stream(overloaded)}
    flaky = Flaky(faults, anthropic_answer)
    with in_thread(RawServer(flaky)) as server:
        summary = case.run(server, provider="anthropic", base_url=server.origin)
    assert (summary.done, summary.failed, summary.attempts_now) == (20, 0, 24)
    assert case.texts() == {f"row-{number}": f"echo <{number}>" for number in range(20)}
    codes = Counter(code for *_, code in case.sent())
    assert codes == {None: 20, "cut": 1, "truncated": 1, "overloaded": 2}
    assert len(server.requests) == 24


def test_a_lost_tail_is_an_answer_with_a_note(case: Case) -> None:
    with in_thread(RawServer(stream(delta("Hello"), finish(), end=(0.05, RST)))) as server:
        summary = case.run(server)
    assert (summary.done, len(server.requests)) == (20, 20)
    assert set(case.ask("SELECT text, notes FROM items")) == {("Hello", "tail_lost")}


def test_connections_that_go_stale_fail_nothing_and_are_on_the_books(case: Case) -> None:
    """Every second request on a connection is taken, and meets a closed door."""

    def answers(request: Received) -> Reply:
        return openai_answer(f"echo {prompt_of(request)}") if request.turn == 1 else Reply((RST,))

    with in_thread(RawServer(answers)) as server:
        summary = case.run(server, attempts=1)
    assert (summary.done, summary.failed) == (20, 0)
    assert len(server.requests) == summary.attempts_now > 20
    codes = Counter(code for *_, code in case.sent())
    assert codes == {None: 20, "closed": len(server.requests) - 20}


def test_attempts_used_up_fail_their_rows_alone(case: Case) -> None:
    def answers(request: Received) -> Reply:
        prompt = prompt_of(request)
        return whole("500 Oops", "sorry") if prompt in ("<3>", "<11>") else openai_answer(f"echo {prompt}")

    with in_thread(RawServer(answers)) as server:
        summary = case.run(server, attempts=2)
    assert (summary.done, summary.failed) == (18, 2)
    assert case.codes() == {"row-3": "server_error", "row-11": "server_error"}
    assert len(server.requests) == len(case.sent()) == 22


STOPS = [
    ("wrong key", whole("401 Unauthorized", {"error": {"message": "Incorrect API key provided"}}), "auth"),
    ("no money 402", whole("402 Payment Required", {"error": {"message": "pay"}}), "billing"),
    ("no money 429", whole("429 Slow", {"error": {"code": "insufficient_quota", "message": "pay"}}), "billing"),
    ("no model", whole("404 Not Found", {"error": {"code": "model_not_found", "message": "no model m"}}), "not_found"),
    ("page", whole("200 OK", "<html>Log in</html>", kind="text/html"), "not_an_api"),
]


@pytest.mark.parametrize(("reply", "code"), [line[1:] for line in STOPS], ids=[line[0] for line in STOPS])
def test_a_run_that_cannot_work_stops_at_once_and_can_go_on(case: Case, reply: Reply, code: str) -> None:
    with in_thread(RawServer(reply)) as server:
        with pytest.raises(runner.RunStoppedError) as caught:
            case.run(server)
        assert caught.value.code == code
        assert 1 <= len(server.requests) <= CONCURRENCY
        # every request is on the books, and no row is settled by it
        assert {row[2] for row in case.sent()} <= {code, "cancelled"}
        assert len(case.sent()) == len(server.requests)
        assert case.ask("SELECT count(*) FROM items") == [(0,)]
        server.answers = openai_answer()
        assert case.run(server).done == 20


def test_a_redirect_stops_the_run_and_the_other_server_hears_nothing(case: Case) -> None:
    with in_thread(RawServer(openai_answer())) as other:
        redirect = whole("307 Temporary Redirect", location=f"{other.base_url}/chat/completions")
        with in_thread(RawServer(redirect)) as server, pytest.raises(runner.RunStoppedError, match=other.base_url) as caught:
            case.run(server)
        assert caught.value.code == "redirect"
        assert 1 <= len(server.requests) <= CONCURRENCY
        assert (other.connections, other.requests) == (0, [])


def test_a_key_that_turns_wrong_in_the_middle_stops_the_run_and_keeps_what_is_done(tmp_path: Path) -> None:
    case = Case(tmp_path, rows=200)

    def answers(request: Received) -> Reply:
        return openai_answer(f"echo {prompt_of(request)}") if request.number <= 50 else STOPS[0][1]

    with in_thread(RawServer(answers)) as server:
        with pytest.raises(runner.RunStoppedError):
            case.run(server)
        assert len(case.texts()) == 50
        assert len(server.requests) <= 50 + 3 * CONCURRENCY
        assert len(case.sent()) == len(server.requests)


def test_one_wrong_row_fails_alone(case: Case) -> None:
    """Also when its refusal is the very first answer of the run."""

    def answers(request: Received) -> Reply:
        prompt = prompt_of(request)
        return BAD if prompt == "<0>" else stream(0.05, delta(f"echo {prompt}"), finish(), DONE)

    with in_thread(RawServer(answers)) as server:
        summary = case.run(server)
    assert (summary.finished, summary.done, summary.failed) == (True, 19, 1)
    assert case.codes() == {"row-0": "bad_request"}
    assert len(server.requests) == 20


def test_a_redirect_after_success_fails_its_row_alone(case: Case) -> None:
    odd = whole("302 Found", location="http://127.0.0.1:9/login")

    def answers(request: Received) -> Reply:
        return odd if prompt_of(request) == "<19>" else openai_answer()

    with in_thread(RawServer(answers)) as server:
        summary = case.run(server, concurrency=1)
    assert (summary.done, case.codes()) == (19, {"row-19": "redirect"})


def test_a_common_rate_limit_loses_no_row(case: Case) -> None:
    """Everybody is refused at first; the hint is tiny, so that the test is quick."""
    refused: set[str] = set()

    def answers(request: Received) -> Reply:
        prompt = prompt_of(request)
        if prompt in refused:
            return openai_answer(f"echo {prompt}")
        refused.add(prompt)
        return whole("429 Slow", {"error": {"type": "rate_limit_error"}}, retry_after_ms="50")

    with in_thread(RawServer(answers)) as server:
        summary = case.run(server, attempts=1)
    assert (summary.done, summary.failed, summary.attempts_now) == (20, 0, 40)
    assert len(server.requests) == 40


def echoing(status: str, header: str) -> Callable[[Received], Reply]:
    def answers(request: Received) -> Reply:
        key = request.headers[header].removeprefix("Bearer ")
        assert key == CANARY
        return whole(status, {"error": {"message": f"Incorrect API key provided: {key}. Bearer {key}", "code": key}})

    return answers


def in_a_page(request: Received) -> Reply:
    return whole("200 OK", f"<html>{request.headers['authorization']}</html>", kind="text/html")


def in_a_stream(request: Received) -> Reply:
    return stream(sse({"error": {"type": "invalid_request_error", "message": f"key {request.headers['authorization']}"}}))


def in_a_location(request: Received) -> Reply:
    key = request.headers["authorization"].removeprefix("Bearer ")
    return whole("302 Found", location=f"http://127.0.0.1:9/{key}?api_key={key}")


def in_broken_http(request: Received) -> Reply:
    return Reply((f"HTTP/1.1 {CANARY}\r\n{CANARY}\r\n\r\n".encode(), FIN))


@pytest.mark.parametrize(
    "answers",
    [
        echoing("400 Bad Request", "authorization"),
        echoing("401 Unauthorized", "authorization"),
        echoing("500 Oops", "authorization"),
        in_a_page,
        in_a_stream,
        in_a_location,
        in_broken_http,
    ],
    ids=["400", "401", "500", "page", "stream", "location", "broken HTTP"],
)
def test_a_key_that_the_server_echoes_is_in_no_file(
    tmp_path: Path, answers: Answers, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", CANARY)
    case = Case(tmp_path, rows=4)
    said = ""
    with in_thread(RawServer(answers)) as server:
        try:
            case.run(server, attempts=2)
            assert set(case.codes()) == {f"row-{number}" for number in range(4)}
            runner.export(tmp_path / "out.csv", db=case.db)
            runner.export(tmp_path / "out.jsonl", db=case.db)
        except runner.RunStoppedError as error:
            said = f"{error}{error!r}{error.__cause__!r}{error.__context__!r}"
    assert case.sent()
    assert case.holds(CANARY.encode()) == []
    # nor in halves
    assert case.holds(CANARY[3:20].encode()) == []
    assert CANARY not in said
    assert CANARY not in "".join(capfd.readouterr())


SHAPELESS = "quiet canary word".replace(" ", "-")
"""A key that looks like no key: only who knows it can find it."""


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (openai_answer(f"the key is {SHAPELESS}"), "the key is [redacted]"),
        (whole("200 OK", f"<html>{SHAPELESS}</html>", kind="text/html"), None),
        (Reply((f"HTTP/1.1 {SHAPELESS}\r\n\r\n".encode(), FIN)), None),
    ],
    ids=["answer", "page", "broken HTTP"],
)
def test_a_key_that_looks_like_none_is_in_no_file(
    tmp_path: Path, answer: Reply, text: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", SHAPELESS)
    case = Case(tmp_path, rows=2)
    with in_thread(RawServer(lambda _: answer)) as server:
        if text is not None:
            assert case.run(server).done == 2
            assert set(case.texts().values()) == {text}
        else:
            with suppress(runner.RunStoppedError):
                assert case.run(server, attempts=1).failed == 2
        assert server.requests
    assert case.ask("SELECT count(*) FROM attempts") != [(0,)]
    assert all(SHAPELESS.encode() not in path.read_bytes() for path in case.folder.iterdir())


def test_a_key_in_the_other_dialects_header_is_in_no_file(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", CANARY)
    with in_thread(RawServer(echoing("400 Bad Request", "x-api-key"))) as server, pytest.raises(runner.RunStoppedError):
        case.run(server, provider="anthropic", base_url=server.origin)
    # the words are about the key, whatever the status is
    assert len(server.requests) <= CONCURRENCY
    assert case.holds(CANARY.encode()) == []


# -- what the store and the exports hold of odd answers (2.3 of the catalogue)

CONTROLS = "".join(map(chr, [*range(0x20), *range(0x7F, 0xA0)]))
REASONS = ["length", "content_filter", "refusal", "pause_turn", "brand_new_reason"]


def bare(text: bytes) -> bytes:
    """Make the event of a text as it is, in bytes that need not be JSON."""
    return sse(b'{"choices": [{"index": 0, "delta": {"content": "%b"}}]}' % text)


def no_constant(name: str) -> None:
    raise AssertionError(f"{name} is no JSON")


def exported(case: Case, ending: str) -> list[dict[str, Any]]:
    path = case.folder / f"out.{ending}"
    runner.export(path, db=case.db)
    # read_text would make one line end of another
    text = path.read_bytes().decode()
    if ending == "csv":
        assert "\0" not in text
        return list(csv.DictReader(io.StringIO(text, newline="")))
    # no other character than a line feed ends a line
    return [json.loads(line, parse_constant=no_constant) for line in text.split("\n") if line]


def test_s25_s26_reasons_and_empty_answers_reach_the_export(case: Case) -> None:
    def answers(request: Received) -> Reply:
        number = int(prompt_of(request).strip("<>"))
        return stream(finish(), DONE) if number == 5 else stream(delta("Hello"), finish(REASONS[number % 5]), DONE)

    with in_thread(RawServer(answers)) as server:
        summary = case.run(server)
    assert (summary.done, summary.failed, len(server.requests)) == (20, 0, 20)
    for ending in ("csv", "jsonl"):
        found = exported(case, ending)
        assert [row["finish_reason"] for row in found] == ["stop" if n == 5 else REASONS[n % 5] for n in range(20)]
        assert [row["text"] for row in found] == ["" if n == 5 else "Hello" for n in range(20)]
    noted = dict(case.ask("SELECT key, notes FROM items WHERE notes IS NOT NULL"))
    assert noted == {"row-5": "empty", **{f"row-{n}": "unknown_finish" for n in (4, 9, 14, 19)}}
    assert summary.unknown_finish == {"brand_new_reason": 4}


def test_s4_s5_s27_s28_odd_characters_reach_the_export(case: Case) -> None:
    """As they are where they can be; else U+FFFD, with a note. A CSV cell holds no NUL."""
    odd: dict[int, tuple[Reply, str, str | None]] = {
        0: (stream(delta(CONTROLS), finish(), DONE), CONTROLS, None),
        1: (stream(bare(b"a\xffb"), finish(), DONE), "a\ufffdb", "invalid_utf8"),
        2: (stream(bare(b"a\\ud800b"), finish(), DONE), "a\ufffdb", "lone_surrogate"),
        3: (stream(bare("a\u2028b\u0085c\x1cd".encode()), finish(), DONE), "a\u2028b\u0085c\x1cd", None),
        4: (stream(delta("=1+1"), finish(), DONE), "=1+1", None),
        5: (stream(delta("\r\n\"',;\n"), finish(), DONE), "\r\n\"',;\n", None),
    }

    def answers(request: Received) -> Reply:
        number = int(prompt_of(request).strip("<>"))
        return odd[number][0] if number in odd else openai_answer()

    with in_thread(RawServer(answers)) as server:
        summary = case.run(server)
    assert (summary.done, summary.failed, len(server.requests)) == (20, 0, 20)
    stored = dict(case.ask("SELECT key, text FROM items"))
    notes = dict(case.ask("SELECT key, notes FROM items"))
    in_jsonl = {row["id"]: row["text"] for row in exported(case, "jsonl")}
    in_csv = {row["id"]: row["text"] for row in exported(case, "csv")}
    for number, (_, text, note) in odd.items():
        key = f"row-{number}"
        assert (stored[key], notes[key], in_jsonl[key]) == (text, note, text)
        assert in_csv[key].lstrip("'") == text.replace("\0", "")
    assert in_csv["row-4"] == "'=1+1"


def test_s15_numbers_that_are_none_are_unknown_in_store_and_export(case: Case) -> None:
    usage = sse(b'{"choices": [], "usage": {"prompt_tokens": NaN, "completion_tokens": Infinity}}')
    call = sse(
        b'{"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, "id": "t", "function": {"name": "f", "arguments":'
        b' {"x": NaN}}}]}}]}'
    )
    with in_thread(RawServer(stream(delta("Hello"), call, finish(), usage, DONE))) as server:
        assert case.run(server).done == 20
    assert set(case.ask("SELECT input_tokens, output_tokens FROM attempts")) == {(None, None)}
    (extra,) = set(case.ask("SELECT extra FROM items"))
    json.loads(extra[0], parse_constant=no_constant)
    assert "NaN" not in extra[0]
    assert {(row["input_tokens"], row["output_tokens"]) for row in exported(case, "jsonl")} == {(None, None)}
    assert {(row["input_tokens"], row["output_tokens"]) for row in exported(case, "csv")} == {("", "")}


def test_s19_usage_that_nobody_told_is_unknown_and_not_nothing(case: Case) -> None:
    with in_thread(RawServer(stream(delta("Hello"), finish(), DONE))) as server:
        summary = case.run(server)
    assert (summary.done, summary.input_tokens, summary.output_tokens) == (20, None, None)
    assert set(case.ask("SELECT input_tokens, output_tokens FROM attempts")) == {(None, None)}


def test_s20_reasoning_stays_out_of_the_text_in_store_and_export(case: Case) -> None:
    thinking = sse({"choices": [{"index": 0, "delta": {"reasoning_content": "HIDDEN"}}]})
    refusal = sse({"choices": [{"index": 0, "delta": {"refusal": "I will not"}}]})
    with in_thread(RawServer(stream(thinking, delta("Hello"), refusal, finish(), DONE))) as server:
        assert case.run(server).done == 20
    ((text, extra),) = set(case.ask("SELECT text, extra FROM items"))
    assert text == "Hello"
    assert json.loads(extra) == {"reasoning": "HIDDEN", "refusal": "I will not"}
    assert {row["text"] for row in exported(case, "jsonl")} == {"Hello"}


def test_s28_foreign_controls_reach_no_terminal(case: Case) -> None:
    """Where click writes to no terminal it takes some sequences out by itself, so there are some that it leaves."""
    dirt = "\x1b[31m\x07\x9b0m\u202e\x00"
    refusal = whole("400 Bad Request", {"error": {"code": f"a{dirt}", "message": f"no {dirt} red"}})

    def answers(request: Received) -> Reply:
        return refusal if prompt_of(request) == "<7>" else stream(delta(dirt), finish(f"stop{dirt}"), DONE)

    model = f"m{dirt[:-1]}"
    with in_thread(RawServer(answers)) as server:
        ended = run("run", "prompts.jsonl", "--model", model, "--base-url", server.base_url, cwd=case.folder)
    assert ended.code == 1, ended
    told = [ended, *(run(command, cwd=case.folder) for command in ("errors", "status", "list"))]
    said = "".join(one.out + one.err for one in told)
    assert "bad_request" in said
    assert "finish" in said
    assert not set(said) & (set(CONTROLS) - {"\n", "\t"} | {"\u202e"})


# -- limits on what an attempt may cost


def test_n14_waiting_for_a_place_is_no_failure_and_no_clock_runs(case: Case) -> None:
    """One place for twenty rows: the last one waits longer than any timeout of an attempt."""
    slow = stream(0.08, delta("Hello"), finish(), DONE)
    with in_thread(RawServer(slow)) as server:
        summary = case.run(server, concurrency=1, connect_s=1, first_byte_s=1, silence_s=1, attempt_s=1)
    assert (summary.done, summary.failed, summary.attempts_now) == (20, 0, 20)
    assert len(server.requests) == 20


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        (Reply((head(headers={"content-type": "text/event-stream", "x-giant": "x" * 300_000}),)), "bad_http"),
        (stream(delta("PARTIAL"), sse(b"{oops")), "malformed_stream"),
    ],
    ids=["giant header", "malformed data"],
)
def test_h9_s13_the_same_fault_of_the_same_size_three_times_is_final(case: Case, reply: Reply, code: str) -> None:
    """No more attempts are bought for a row whose answer breaks in the same place each time, unless the user asks for more."""

    def answers(request: Received) -> Reply:
        return reply if prompt_of(request) == "<3>" else openai_answer(f"echo {prompt_of(request)}")

    with in_thread(RawServer(answers)) as server:
        summary = case.run(server)
    assert (summary.done, case.codes()) == (19, {"row-3": code})
    assert [one for one in case.sent() if one[0] == "row-3"] == [("row-3", number, code) for number in (1, 2, 3)]
    assert not case.holds(b"PARTIAL")


def test_s17_an_answer_without_end_fails_its_row_and_is_not_tried_again(case: Case) -> None:
    endless = stream(*[delta("x" * 500_000)] * 40, end=(HANG,))

    def answers(request: Received) -> Reply:
        return endless if prompt_of(request) == "<3>" else openai_answer()

    with in_thread(RawServer(answers)) as server:
        summary = case.run(server)
    assert (summary.done, case.codes()) == (19, {"row-3": "size_cap"})
    assert len(server.requests) == len(case.sent()) == 20


def test_files_are_for_their_owner_only(case: Case) -> None:
    with in_thread(RawServer(openai_answer())) as server:
        case.run(server)
    for path in case.folder.glob("runner.db*"):
        assert path.stat().st_mode & 0o077 == 0, path.name


def test_a_chunk_cut_anywhere_gives_the_same_answers(case: Case) -> None:
    """The run's end does not depend on how the bytes come."""
    body = b"".join((delta("Grü"), delta("ezi 🙂"), finish(), DONE))

    def answers(request: Received) -> Reply:
        at = int(prompt_of(request).strip("<>")) * 7 + 1
        return Reply((openai_answer().steps[0], chunk(body[:at]), 0.01, chunk(body[at:]), LAST))

    with in_thread(RawServer(answers)) as server:
        assert case.run(server).done == 20
    assert set(case.texts().values()) == {"Grüezi 🙂"}
