"""Refusals whose words mislead: whole runs against a server that refuses. The wordings themselves are in tests/unit/providers."""

import json
from pathlib import Path
from typing import Any

import pytest
from raw_server import DONE, RawServer, Received, Reply, anthropic_answer, in_thread, openai_answer, sse, stream, whole
from test_verdicts import ANSWER, GOOD, Case, Trouble, prompt_of

import runner


def told(body: Any, status: str) -> Reply:
    return whole(status, json.dumps(body), kind="application/json")


def bad(message: str, **more: Any) -> dict[str, Any]:
    return {"error": {"type": "invalid_request_error", "message": message, **more}}


THROTTLES = {
    "400": told(
        {"__type": "ThrottlingException", "message": "Too many tokens, please wait before trying again."}, "400 Bad Request"
    ),
    "413": told(
        {
            "error": {
                "message": "Rate limit reached for model on tokens per minute (TPM): Limit 6000, Used 5900, Requested 900. "
                "Please try again in 0.7s",
                "type": "tokens",
                "code": "rate_limit_exceeded",
            }
        },
        "413 Payload Too Large",
    ),
    "stream": stream(
        sse({"__type": "ThrottlingException", "message": "Too many tokens, please wait before trying again."}), DONE
    ),
}


@pytest.mark.parametrize("dialect", ["openai", "anthropic"])
@pytest.mark.parametrize("name", sorted(THROTTLES))
def test_a_throttle_that_passes_fails_no_row(tmp_path: Path, name: str, dialect: str) -> None:
    case, trouble = Case(tmp_path, 60), Trouble(THROTTLES[name], 1.0, ANSWER[dialect])
    # they are no outage, and come ever more rarely
    trouble.enough = 0
    with in_thread(RawServer(trouble)) as server:
        summary = case.run(server, dialect)
        assert (summary.finished, summary.done, summary.failed) == (True, 60, 0)
        assert set(case.ask("SELECT error_code FROM attempts WHERE error_code IS NOT NULL")) == {("rate_limited",)}
        case.assert_books(server)


QUOTED = {
    "quoted": "Invalid value for 'messages[0].content': 'customer: your app said insufficient balance' contains odd characters",
    "bare": "Rejected, for it has a complaint: I am out of credits",
}


@pytest.mark.parametrize("number", [5, 19, 29])
@pytest.mark.parametrize("name", sorted(QUOTED))
def test_one_row_that_speaks_of_money_fails_alone(tmp_path: Path, name: str, number: int) -> None:
    case, refusal = Case(tmp_path, 30), told(bad(QUOTED[name], code="invalid_value"), "400 Bad Request")
    if name == "quoted" and number == 5:
        # before the first answer too
        number = 0

    def answers(request: Received) -> Reply:
        return refusal if prompt_of(request) == str(number) else openai_answer()

    with in_thread(RawServer(answers)) as server:
        # from the second session on, one earlier answer speaks for the endpoint
        assert case.run(server, limit=3, concurrency=1).finished is False
        summary = case.run(server, concurrency=1)
        assert (summary.finished, summary.done, summary.failed, len(server.requests)) == (True, 29, 1, 30)
        assert (runner.retry(1, db=case.db).failed, len(server.requests)) == (1, 31)
        case.assert_books(server)


def test_a_first_row_that_is_quoted_by_the_server_stops_nothing(tmp_path: Path) -> None:
    case, refusal = Case(tmp_path, 5), told(bad("Rejected, for it has a complaint: I am out of Credits!"), "400 Bad Request")
    case.prompts.write_text('{"id": "x", "prompt": "Hello, I am out of credits."}\n' + case.prompts.read_text())
    with in_thread(RawServer(lambda request: refusal if "Hello" in prompt_of(request) else openai_answer())) as server:
        summary = case.run(server, concurrency=1)
        assert (summary.finished, summary.done, summary.failed, len(server.requests)) == (True, 5, 1, 6)
        assert case.ask("SELECT error_code FROM items WHERE status = 'failed'") == [("bad_request",)]


def test_want_of_money_that_only_words_in_mid_sentence_tell_stops_the_run_soon(tmp_path: Path) -> None:
    case, trouble = Case(tmp_path, 100), Trouble(told(bad("Rejected by the gateway: out of credits"), "400 Bad Request"))
    with in_thread(RawServer(trouble)) as server:
        with pytest.raises(runner.RunStoppedError, match="out of credits") as caught:
            case.run(server)
        assert (caught.value.code, trouble.refused <= 3 + 8, case.statuses) == ("billing", True, {"done": GOOD})


@pytest.mark.parametrize("status", ["400 Bad Request", "413 Payload Too Large", "429 Too Many Requests"])
def test_a_row_above_the_limit_of_a_minute_fails_alone(tmp_path: Path, status: str) -> None:
    words = "Request too large for gpt-4o on tokens per min (TPM): Limit 30000, Requested 45000."
    case, refusal = Case(tmp_path, 20), told(bad(words, code="rate_limit_exceeded"), status)
    with in_thread(RawServer(lambda request: refusal if prompt_of(request) == "7" else anthropic_answer())) as server:
        summary = case.run(server, "anthropic")
        assert (summary.done, summary.failed, len(server.requests)) == (19, 1, 20)
        assert case.ask("SELECT error_code FROM items WHERE status = 'failed'") == [("too_large",)]


@pytest.mark.parametrize("body", ["too large", "This model's maximum context length is 10 tokens"])
def test_a_refusal_for_size_of_rows_no_larger_than_others_is_the_endpoints(tmp_path: Path, body: str) -> None:
    case = Case(tmp_path, 80)
    # the first rows are the largest
    case.prompts.write_text("".join(f'{{"id": "r{n}", "prompt": "{n}{" " * (n < 5) * 9}"}}\n' for n in range(80)))
    trouble = Trouble(told(bad(body), "413 Payload Too Large" if body == "too large" else "400 Bad Request"), 2.0)
    with in_thread(RawServer(trouble)) as server:
        summary = case.run(server)
        assert (summary.finished, summary.done, summary.failed) == (True, 80, 0)
        case.assert_books(server)


@pytest.mark.parametrize("good", [0, GOOD])
@pytest.mark.parametrize("status", ["500 Internal Server Error", "503 Service Unavailable"])
def test_a_key_error_of_a_broken_server_stops_the_run_within_a_handful_of_requests(
    tmp_path: Path, status: str, good: int
) -> None:
    reply = told({"error": {"type": "invalid_api_key", "message": "Incorrect API key provided: sk-x"}}, status)
    case, trouble = Case(tmp_path, 100), Trouble(reply, good=good)
    with in_thread(RawServer(trouble)) as server:
        with pytest.raises(runner.RunStoppedError, match="Incorrect API key") as caught:
            case.run(server)
        assert (caught.value.code, trouble.refused <= 8 + 3) == ("auth", True)
