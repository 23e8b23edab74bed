"""Answers that are ended before their end: ``--fail-fast`` and ``--stop-when``."""

import json
from pathlib import Path
from typing import Any

import pytest
from processes import rows
from raw_server import BLOCK_START, DONE, HANG, MESSAGE_START, USAGE, Reply, block_delta, chunk, delta, finish, head, stream
from test_policy import answer, bench

from runner.errors import UsageError

FIELDS = "mood: good|bad, why: str, score: int"
GOOD = '{"mood": "good", "why": "it is", "score": 1}'
BEGUN = 'Sure: {"mood": "great", "why": "because'
NO_COMMA = '{"mood": "good" "why": "because'
DIALECTS = pytest.mark.parametrize("dialect", ["openai", "anthropic"])


def begun(dialect: str, *texts: str) -> Reply:
    """Return an answer that never ends."""
    opening = [MESSAGE_START, BLOCK_START] if dialect == "anthropic" else []
    pieces = [*opening, *(block_delta(text) if dialect == "anthropic" else delta(text) for text in texts)]
    headers = {"Content-Type": "text/event-stream", "Transfer-Encoding": "chunked"}
    return Reply((head("200 OK", headers), *map(chunk, pieces), HANG))


@DIALECTS
def test_an_answer_that_can_no_longer_fit_is_ended_and_asked_for_again(tmp_path: Path, dialect: str) -> None:
    with bench(tmp_path, [begun(dialect, BEGUN), answer(dialect, "stream", GOOD)], 1) as desk:
        summary = desk.run(provider=dialect, fields=FIELDS, fail_fast=True, attempts=1)
        assert (summary.done, summary.failed, summary.attempts_now) == (1, 0, 2)
        messages = desk.server.requests[1].json["messages"]
    assert messages[1] == {"role": "assistant", "content": BEGUN}
    words = 'the answer can no longer fit the schema: at mood: "great" is not one of "good" or "bad"'
    assert words in messages[2]["content"]
    # what it cost is not known, but it is on the books with a bound
    found = rows(
        desk.store,
        "SELECT error_code, error, output_tokens IS NULL OR output_bound IS NOT NULL, sent FROM attempts WHERE number = 1",
    )
    assert found == [("invalid_output", words, 1, 1)]


@DIALECTS
def test_an_answer_without_a_comma_is_ended_there(tmp_path: Path, dialect: str) -> None:
    with bench(tmp_path, [begun(dialect, NO_COMMA[:17], NO_COMMA[17:20]), answer(dialect, "stream", GOOD)], 1) as desk:
        summary = desk.run(provider=dialect, fields=FIELDS, fail_fast=True, attempts=1)
        assert (summary.done, summary.failed, summary.attempts_now) == (1, 0, 2)
        assert "is not JSON: ',' or '}' is missing at character 17" in desk.server.requests[1].json["messages"][2]["content"]


@DIALECTS
def test_without_it_such_an_answer_is_read_to_its_end(tmp_path: Path, dialect: str) -> None:
    whole = f'{BEGUN}", "score": 1}}'
    with bench(tmp_path, answer(dialect, "stream", whole), 1) as desk:
        assert desk.run(provider=dialect, fields=FIELDS, repairs=0).failed == 1
        assert rows(desk.store, "SELECT text FROM items") == [(whole,)]


@DIALECTS
def test_unwanted_text_ends_an_answer_and_the_row_keeps_what_came(tmp_path: Path, dialect: str) -> None:
    with bench(tmp_path, begun(dialect, "As an AI lang", "uage model I can"), 1) as desk:
        summary = desk.run(provider=dialect, stop_when="(?i)as an ai language model")
        assert (summary.failed, summary.attempts_now, summary.causes) == (1, 1, {"stopped_by_rule": 1})
    text = "As an AI language model I can"
    error = "the answer has 'As an AI language model', which stop_when finds"
    assert rows(desk.store, "SELECT status, error_code, error, text FROM items") == [("failed", "stopped_by_rule", error, text)]


@pytest.mark.parametrize("rule", [r"\bcan\b", "can$", "can(?!not)"])
def test_what_the_next_piece_undoes_ends_no_answer(tmp_path: Path, rule: str) -> None:
    with bench(tmp_path, stream(delta("I think they can"), 0.05, delta("not do it"), finish("stop"), USAGE, DONE), 1) as desk:
        assert desk.run(stop_when=rule).done == 1
    # and what nothing undoes is found, also where it is the end of the answer
    other = tmp_path / "other"
    other.mkdir()
    with bench(other, stream(delta("I think they"), 0.05, delta(" can"), finish("stop"), USAGE, DONE), 1) as desk:
        assert desk.run(stop_when=rule).causes == {"stopped_by_rule": 1}
        assert rows(desk.store, "SELECT text FROM items") == [("I think they can",)]


@DIALECTS
@pytest.mark.parametrize("form", ["stream", "whole"])
def test_a_complete_answer_is_searched_too(tmp_path: Path, dialect: str, form: str) -> None:
    with bench(tmp_path, answer(dialect, form, "I cannot help"), 1) as desk:
        assert desk.run(provider=dialect, stop_when="cannot", stream=form == "stream").causes == {"stopped_by_rule": 1}
        assert rows(desk.store, "SELECT text FROM items") == [("I cannot help",)]
        assert rows(desk.store, "SELECT input_tokens FROM attempts") == [(7,)] or form == "stream"


def test_what_fits_is_not_touched_and_secrets_are_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret-1234567890")
    texts = [GOOD, '{"mood": "sk-secret-1234567890", "why": "x", "score": 1}']
    with bench(tmp_path, [answer("openai", "stream", GOOD), begun("openai", texts[1])], 2) as desk:
        summary = desk.run(fields=FIELDS, fail_fast=True, stop_when="never", repairs=0, concurrency=1)
        assert (summary.done, summary.failed) == (1, 1)
    assert rows(desk.store, "SELECT text FROM items WHERE status = 'done'") == [(GOOD,)]
    kept = json.dumps(rows(desk.store, "SELECT text, error FROM items")) + json.dumps(
        rows(desk.store, "SELECT error FROM attempts")
    )
    assert "sk-secret" not in kept


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"fail_fast": True}, "fail_fast ends answers that can no longer fit a schema, and there is none"),
        ({"stop_when": "("}, "stop_when must be a regular expression, not '('"),
        ({"stop_when": "a*"}, "a regular expression that not every text fits"),
    ],
)
def test_what_cannot_end_anything_is_refused(tmp_path: Path, settings: dict[str, Any], words: str) -> None:
    with bench(tmp_path, answer("openai", "stream", GOOD), 1) as desk:
        with pytest.raises(UsageError) as caught:
            desk.run(**settings)
        assert words in str(caught.value)
        assert desk.server.requests == []


def test_a_rule_looks_far_into_a_long_answer_and_knows_where_it_begins(tmp_path: Path) -> None:
    """Its end comes in two pieces. What is found at the beginning only is not found where a piece begins."""
    pieces = ["word ", *["again "] * 3_000, "un", "wanted"]
    with bench(tmp_path, begun("openai", *pieces), 1) as desk:
        summary = desk.run(stop_when=r"^again|\Aagain|(?<=again )unwanted")
        assert (summary.failed, summary.causes) == (1, {"stopped_by_rule": 1})
    assert rows(desk.store, "SELECT text, error FROM items") == [
        ("".join(pieces), "the answer has 'unwanted', which stop_when finds")
    ]
