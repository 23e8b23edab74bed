"""What a refusal means in the middle of a run: whole runs through the public API against a server that refuses.

Ten good answers come first; then the server refuses in the way of the case. Eight requests at a time, unless a test says more.
"""

import json
import signal
import sqlite3
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from processes import runner as started
from raw_server import DONE, RawServer, Received, Reply, anthropic_answer, in_thread, openai_answer, sse, stream, whole

import runner
from runner.engine.limits.streak import ALIKE, ALIKE_AT_FIRST
from runner.event_types import Summary

GOOD = 10
ANSWER: dict[str, Callable[..., Reply]] = {"openai": openai_answer, "anthropic": anthropic_answer}


class Case:
    """A prompt file of so many rows, a store, and the counts of the server."""

    def __init__(self, folder: Path, rows: int = 200, **fields: Any) -> None:
        self.folder, self.db, self.number = folder, folder / "runner.db", rows
        self.prompts = folder / "prompts.jsonl"
        lines = (json.dumps({"id": f"row-{one}", "prompt": f"{one}", **fields}) for one in range(rows))
        self.prompts.write_text("\n".join(lines) + "\n")
        self.asked: Counter[str] = Counter()

    def run(self, server: RawServer, dialect: str = "openai", **settings: Any) -> Summary:
        url = server.base_url if dialect == "openai" else server.origin
        given = {"model": "m", "provider": dialect, "base_url": url, "concurrency": 8}
        return runner.run(self.prompts, db=self.db, **{**given, **settings})

    def ask(self, question: str) -> list[tuple[Any, ...]]:
        connection = sqlite3.connect(self.db)
        try:
            return connection.execute(question).fetchall()
        finally:
            connection.close()

    @property
    def statuses(self) -> dict[str, int]:
        return dict(self.ask("SELECT status, count(*) FROM items GROUP BY 1"))

    def assert_books(self, server: RawServer) -> None:
        """Hold that each request is on the books once, and that each failed row names the attempt that decided it."""
        assert self.ask("SELECT count(*) FROM attempts") == [(len(server.requests),)]
        assert self.ask("SELECT count(*) FROM items WHERE attempt_id IS NULL") == [(0,)]


def prompt_of(request: Received) -> str:
    text = request.json["messages"][-1]["content"]
    return text if isinstance(text, str) else text[0]["text"]


class Trouble:
    """Answers ten requests, then refuses for some seconds, or for good; then answers again.

    However slow the machine is, it refuses as many rows as show an outage, and goes on until ``until`` is true.
    """

    def __init__(
        self, reply: Reply, seconds: float = float("inf"), answer: Callable[..., Reply] = openai_answer, good: int = GOOD
    ):
        self.reply, self.seconds, self.answer, self.good = reply, seconds, answer, good
        self.since: float | None = None
        self.until: Callable[[], object] = lambda: True
        self.enough = ALIKE if good else ALIKE_AT_FIRST
        self.refused = self.served = 0
        self.model: str | None = None

    def __call__(self, request: Received) -> Reply:
        if self.model is not None and request.json["model"] != self.model:
            return self.answer()
        if self.served >= self.good and self.since is None:
            self.since = time.monotonic()
        if self.since is not None and not self._is_over(self.since):
            self.refused += 1
            return self.reply
        self.served += 1
        return self.answer()

    def _is_over(self, since: float) -> bool:
        return self.refused >= self.enough and time.monotonic() - since >= self.seconds and bool(self.until())


def told(body: Any, status: str, **headers: str) -> Reply:
    return whole(status, json.dumps(body), kind="application/json", **headers)


PAGE = whole("403 Forbidden", "<!doctype html><html><title>Just a moment...</title></html>", kind="text/html")
FORBIDDEN = told({"error": {"type": "forbidden", "message": "Request not allowed"}}, "403 Forbidden")
GONE = whole("404 Not Found", "404 page not found", kind="text/plain")
HTML = whole("200 OK", "<!doctype html><html><title>Maintenance</title></html>", kind="text/html")
IN_STREAM = stream(sse({"error": {"type": "forbidden", "code": 403, "message": "Request not allowed"}}), DONE)
ODD = told(
    {"error": {"type": "invalid_request_error", "message": "Upstream request 8f3a1 refused at 12:01:07"}}, "400 Bad Request"
)
PASSING = {
    "challenge": (PAGE, "Just a moment"),
    "forbidden": (FORBIDDEN, "Request not allowed"),
    "404": (GONE, "404 page not found"),
    "html": (HTML, "Maintenance"),
    "in a stream": (IN_STREAM, "Request not allowed"),
    "400": (ODD, "Upstream request"),
}
PASSING_ONES = pytest.mark.parametrize("kind", sorted(PASSING))


# -- C: a refusal of everything


@pytest.mark.parametrize("dialect", ["openai", "anthropic"])
@PASSING_ONES
def test_a_refusal_of_everything_for_a_while_fails_no_row(tmp_path: Path, kind: str, dialect: str) -> None:
    case, server = Case(tmp_path, 200), RawServer(Trouble(PASSING[kind][0], 3.0, ANSWER[dialect]))
    with in_thread(server):
        summary = case.run(server, dialect)
    assert (summary.finished, summary.done, summary.failed) == (True, 200, 0)
    # the rows of the streak, those that were out with them, and a probe now and then
    assert len(server.requests) - 200 <= 30
    case.assert_books(server)


@PASSING_ONES
def test_a_refusal_of_everything_that_stays_stops_the_run_with_the_servers_words(tmp_path: Path, kind: str) -> None:
    reply, words = PASSING[kind]
    case, trouble = Case(tmp_path, 300), Trouble(reply)
    server = RawServer(trouble)
    with in_thread(server):
        with pytest.raises(runner.RunStoppedError, match=words) as caught:
            case.run(server, patience_s=2)
        assert (caught.value.exit_code, caught.value.code) == (3, "refused")
        assert "2 s" in str(caught.value)
        assert case.statuses == {"done": trouble.served}
        case.assert_books(server)
        trouble.seconds = 0
        assert case.run(server).done == 300


def test_a_refusal_of_everything_fails_no_row_of_a_resumed_run(tmp_path: Path) -> None:
    case = Case(tmp_path, 100)
    with in_thread(RawServer(openai_answer())) as server:
        assert case.run(server, limit=50).done == 50
        trouble = server.answers = Trouble(FORBIDDEN, 3.0, good=0)
        summary = case.run(server)
        assert (summary.done, summary.failed) == (100, 0)
        assert trouble.refused < 60
        case.assert_books(server)


def test_a_refusal_of_everything_fails_no_row_that_is_retried(tmp_path: Path) -> None:
    case = Case(tmp_path, 100)
    flagged = told({"error": {"code": "content_filter", "message": "no"}}, "400 Bad Request")
    with in_thread(RawServer(lambda request: openai_answer() if int(prompt_of(request)) < 40 else flagged)) as server:
        assert case.run(server).failed == 60
        # of 13 requests, with 8 at a time, five have been answered before the last one is sent
        trouble = server.answers = Trouble(GONE, 3.0, good=13)
        summary = runner.retry(1, db=case.db)
        assert (summary.finished, summary.done, summary.failed) == (True, 100, 0)
        assert trouble.refused < 40
        case.assert_books(server)


def test_rows_that_are_refused_again_by_a_retry_fail_again_at_once(tmp_path: Path) -> None:
    case = Case(tmp_path, 40)
    with in_thread(RawServer(lambda request: ODD if int(prompt_of(request)) % 4 == 1 else openai_answer())) as server:
        assert case.run(server).failed == 10
        before = len(server.requests)
        summary = runner.retry(1, db=case.db)
        assert (summary.finished, summary.failed, len(server.requests) - before) == (True, 10, 10)
        case.assert_books(server)


def test_a_kill_while_rows_are_held_loses_nothing(tmp_path: Path) -> None:
    case, trouble = Case(tmp_path, 100), Trouble(FORBIDDEN)
    with in_thread(RawServer(trouble)) as server:
        options = ("--db", str(case.db), "--model", "m", "--base-url", server.base_url, "--concurrency", "8")
        with started("run", str(case.prompts), *options, cwd=tmp_path) as process:
            process.until(lambda: trouble.refused > 12, "an outage of refusals")
            booked = "SELECT count(*) FROM attempts"
            process.until(lambda: case.ask(booked)[0][0] >= len(server.requests) - 1, "what was refused on the books")
            process.killed()
        assert case.statuses == {"done": trouble.served}
        (attempts,) = case.ask("SELECT count(*) FROM attempts")
        # what was in flight at that moment is on no book
        assert len(server.requests) - 8 <= attempts[0] <= len(server.requests)
        trouble.seconds = 0
        assert case.run(server).done == 100


def test_an_interrupt_while_rows_are_held_leaves_them_open(tmp_path: Path) -> None:
    case, trouble = Case(tmp_path, 100), Trouble(FORBIDDEN)
    with in_thread(RawServer(trouble)) as server:
        options = ("--db", str(case.db), "--model", "m", "--base-url", server.base_url, "--concurrency", "8")
        with started("run", str(case.prompts), *options, cwd=tmp_path) as process:
            process.until(lambda: trouble.refused > 12, "an outage of refusals")
            process.until(lambda: "Request not allowed" in process.err + process.out, "the server's words on the screen")
            process.signal(signal.SIGINT)
            assert process.ended().code == 130
        assert case.statuses == {"done": trouble.served}
        case.assert_books(server)
        trouble.seconds = 0
        assert case.run(server).done == 100


def test_one_model_that_is_refused_holds_no_other_up(tmp_path: Path) -> None:
    case = Case(tmp_path, 0)
    lines = ({"id": f"row-{one}", "prompt": f"{one}", "params": {"model": "ab"[one % 2]}} for one in range(200))
    case.prompts.write_text("".join(json.dumps(line) + "\n" for line in lines))
    trouble = Trouble(FORBIDDEN, 3.0)
    trouble.model = "b"
    with in_thread(RawServer(trouble)) as server:
        # it is over when each row of the other model has been asked; a run that held these up would never end
        trouble.until = lambda: sum(one.json["model"] == "a" for one in list(server.requests) if one.body) == 100
        summary = case.run(server)
    assert (summary.done, summary.failed) == (200, 0)
    assert trouble.refused >= ALIKE


@pytest.mark.parametrize("concurrency", [1, 8])
def test_it_is_found_whatever_the_concurrency(tmp_path: Path, concurrency: int) -> None:
    case, trouble = Case(tmp_path, 100), Trouble(FORBIDDEN, 2.0)
    with in_thread(RawServer(trouble)) as server:
        assert case.run(server, concurrency=concurrency).done == 100


BAD_KEYS = {
    "gemini": told(
        [
            {
                "error": {
                    "code": 400,
                    "message": "API key expired. Please renew the API key.",
                    "status": "INVALID_ARGUMENT",
                    "details": [{"reason": "API_KEY_INVALID"}],
                }
            }
        ],
        "400 Bad Request",
    ),
    "xai": told(
        {"code": "Client specified an invalid argument", "error": "Incorrect API key provided: xa***. "}, "400 Bad Request"
    ),
    "openrouter": told({"error": {"message": "No auth credentials found", "code": 401}}, "200 OK"),
    "one-api": told({"error": {"message": "Invalid token", "type": "one_api_error"}}, "403 Forbidden"),
    "stream": stream(sse({"error": {"message": "invalid x-api-key", "type": "authentication_error"}}), DONE),
}


@pytest.mark.parametrize("name", sorted(BAD_KEYS))
def test_a_key_that_is_refused_stops_the_run_within_a_handful_of_requests(tmp_path: Path, name: str) -> None:
    case, trouble = Case(tmp_path, 200), Trouble(BAD_KEYS[name])
    with in_thread(RawServer(trouble)) as server:
        with pytest.raises(runner.RunStoppedError) as caught:
            case.run(server)
        assert (caught.value.code, caught.value.exit_code) == ("auth", 3)
        assert trouble.refused <= 8 + 3
        assert case.statuses == {"done": GOOD}


MONEY = {
    "500": told(
        {"type": "error", "error": {"type": "api_error", "message": "insufficient balance (1008)"}}, "500 Internal Server Error"
    ),
    "200": told({"choices": None, "base_resp": {"status_code": 1008, "status_msg": "insufficient balance"}}, "200 OK"),
    "stream": stream(sse({"choices": None, "base_resp": {"status_code": 1008, "status_msg": "insufficient balance"}}), DONE),
    "401": told({"error": {"type": "CreditsError", "message": "Insufficient balance."}}, "401 Unauthorized"),
}


@pytest.mark.parametrize("dialect", ["openai", "anthropic"])
@pytest.mark.parametrize("name", sorted(MONEY))
def test_want_of_money_stops_the_run_whatever_the_status(tmp_path: Path, name: str, dialect: str) -> None:
    case, trouble = Case(tmp_path, 200), Trouble(MONEY[name], answer=ANSWER[dialect])
    with in_thread(RawServer(trouble)) as server:
        with pytest.raises(runner.RunStoppedError, match="nsufficient balance") as caught:
            case.run(server, dialect)
        assert (caught.value.code, trouble.refused <= 9, case.statuses) == ("billing", True, {"done": GOOD})


@pytest.mark.parametrize("status", [400, 403, 429, 500, 503])
def test_money_codes_of_the_job_work_at_every_status(tmp_path: Path, status: int) -> None:
    case, trouble = Case(tmp_path, 100), Trouble(told({"error": {"code": 9931, "message": "no more"}}, f"{status} Odd"))
    with in_thread(RawServer(trouble)) as server, pytest.raises(runner.RunStoppedError) as caught:
        case.run(server, money_codes=["9931"])
    assert caught.value.code == "billing"


@pytest.mark.parametrize(
    "body",
    [
        {"error": "Unexpected endpoint or method. (POST /chat/completions)"},
        {"detail": "Not Found"},
        {"error": "404 page not found"},
    ],
)
@pytest.mark.parametrize("dialect", ["openai", "anthropic"])
def test_an_answer_of_no_such_route_stops_the_run_at_once(tmp_path: Path, body: dict[str, str], dialect: str) -> None:
    case = Case(tmp_path, 8)
    with in_thread(RawServer(told(body, "200 OK"))) as server:
        with pytest.raises(runner.RunStoppedError) as caught:
            case.run(server, dialect)
        assert caught.value.code == "not_found"
        assert len(server.requests) <= 8
        assert case.statuses == {}


def test_with_no_patience_the_refused_rows_fail(tmp_path: Path) -> None:
    case = Case(tmp_path, 60)
    with in_thread(RawServer(Trouble(ODD))) as server:
        summary = case.run(server, patience_s=0)
        assert (summary.finished, len(server.requests), summary.done + summary.failed) == (True, 60, 60)
        assert summary.failed >= 60 - GOOD - 8


# -- the reverse: a refusal of one row


CONTENT = {
    "moderation": told({"error": {"type": "permission_error", "code": "moderation", "message": "no"}}, "403 Forbidden"),
    "blocked": told({"error": {"type": "invalid_api_key", "code": "content_blocked", "message": "no"}}, "403 Forbidden"),
    "money": told({"error": {"type": "insufficient_quota", "code": "moderation", "message": "no"}}, "403 Forbidden"),
    "account": told({"error": {"type": "account_deactivated", "code": "content_blocked", "message": "no"}}, "400 Bad Request"),
    "policy": told({"error": {"type": "policy", "message": "not this"}}, "400 Bad Request"),
    "flagged": told({"error": {"code": 403, "message": 'your input was flagged for "violence"'}}, "403 Forbidden"),
    "safety": told({"error": {"type": "authentication_error", "code": "SAFETY", "message": "no"}}, "401 Unauthorized"),
    "xai": told(
        {
            "code": "The caller does not have permission to execute the specified operation",
            "error": "Content violates usage guidelines.",
        },
        "403 Forbidden",
    ),
    "stream": stream(sse({"error": {"type": "permission_error", "code": "content_policy_violation", "message": "no"}}), DONE),
}


@pytest.mark.parametrize("name", sorted(CONTENT))
@pytest.mark.parametrize("share", [10, 2])
def test_a_refusal_of_what_a_row_says_fails_that_row_and_stops_nothing(tmp_path: Path, name: str, share: int) -> None:
    case = Case(tmp_path, 100)
    with in_thread(
        RawServer(lambda request: CONTENT[name] if int(prompt_of(request)) % share == 0 else openai_answer())
    ) as server:
        summary = case.run(server)
        assert (summary.finished, summary.failed) == (True, 100 // share)
        assert set(case.ask("SELECT error_code FROM items WHERE status = 'failed'")) == {("content_policy",)}
        assert len(server.requests) == 100
        case.assert_books(server)


@pytest.mark.parametrize("share", [0.05, 0.5, 0.9])
def test_rows_that_are_refused_for_themselves_fail_however_many_there_are(tmp_path: Path, share: float) -> None:
    case = Case(tmp_path, 200)

    def answers(request: Received) -> Reply:
        number = int(prompt_of(request))
        return ODD if number >= GOOD and (number * 7919) % 100 < 100 * share else openai_answer()

    bad = sum((number * 7919) % 100 < 100 * share for number in range(GOOD, 200))
    with in_thread(RawServer(answers)) as server:
        summary = case.run(server)
        assert (summary.finished, summary.failed, summary.done) == (True, bad, 200 - bad)
        assert set(case.ask("SELECT error_code FROM items WHERE status = 'failed'")) == {("bad_request",)}
        case.assert_books(server)
        if share < 0.1:
            assert len(server.requests) == 200


@pytest.mark.parametrize("number", [0, 5, 19])
def test_one_row_that_is_refused_costs_one_request(tmp_path: Path, number: int) -> None:
    case = Case(tmp_path, 20)
    with in_thread(RawServer(lambda request: ODD if prompt_of(request) == str(number) else openai_answer())) as server:
        summary = case.run(server)
        assert (summary.done, summary.failed, len(server.requests)) == (19, 1, 20)
        case.assert_books(server)


# -- D: passing refusals


ONCE = {
    "498": told({"error": {"type": "capacity_exceeded", "message": "over capacity"}}, "498 Capacity Exceeded"),
    "499": told({"error": {"code": 499, "message": "The operation was cancelled.", "status": "CANCELLED"}}, "499 Client Closed"),
    "424": told({"error": "Server error: upstream failed", "error_type": "generation"}, "424 Failed Dependency"),
    "403": told({"error": {"type": "forbidden", "message": "Request not allowed"}}, "403 Forbidden", retry_after="1"),
    "400": told({"error": {"type": "ThrottlingException", "message": "Rate exceeded"}}, "400 Bad Request"),
    "body": told(
        {
            "error": {
                "code": 429,
                "message": "Resource has been exhausted",
                "status": "RESOURCE_EXHAUSTED",
                "details": [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "1.2s"}],
            }
        },
        "429 Too Many Requests",
    ),
    "sentence": told({"error": {"message": "Rate limit reached. Please try again in 1.2s."}}, "429 Too Many Requests"),
    "field": told({"error": {"message": "busy", "retry_after": 1.2}}, "503 Service Unavailable"),
}


@pytest.mark.parametrize("name", sorted(ONCE))
def test_a_passing_refusal_is_tried_again_and_its_wait_is_kept(tmp_path: Path, name: str) -> None:
    case = Case(tmp_path, 20)
    refused: list[float] = []

    def answers(request: Received) -> Reply:
        if request.number > GOOD and not refused:
            refused.append(time.monotonic())
            return ONCE[name]
        return openai_answer()

    with in_thread(RawServer(answers)) as server:
        summary = case.run(server, concurrency=1)
        assert (summary.done, summary.failed) == (20, 0)
        assert len(server.requests) == 21
        if name not in ("498", "499", "424", "400"):
            assert min(one.at for one in server.requests if one.at > refused[0] + 1e-3) >= refused[0] + 1.0
