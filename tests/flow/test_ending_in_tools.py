"""Answers that are a call of the tool of the schema are ended early too, and what an early end saved is told as an estimate."""

import json
from pathlib import Path
from typing import Any

import pytest
from calling import call, ended
from processes import rows, run
from raw_server import DONE, EVENTS, HANG, Reply, at_once, chunk, delta, finish, head, stream
from test_policy import answer, bench

import runner
from runner.cli.money import amount

FIELDS = "mood: good|bad, why: str, score: int"
GOOD = '{"mood": "good", "why": "it is", "score": 1}'
BAD = '{"mood": "great", "why": "because'
DIALECTS = pytest.mark.parametrize("dialect", ["openai", "anthropic"])
PRICES = {"m": {"input": 1, "output": 4}}


def begun(dialect: str, *pieces: str, **more: Any) -> Reply:
    """Return such a call that never ends."""
    return Reply((head(headers=EVENTS), *map(chunk, call(dialect, *pieces, **more)), HANG))


@DIALECTS
def test_arguments_that_can_no_longer_fit_are_ended_and_asked_for_again(tmp_path: Path, dialect: str) -> None:
    with bench(tmp_path, [begun(dialect, BAD[:12], BAD[12:], said="I {answer}:"), ended(dialect, GOOD)], 1) as desk:
        summary = desk.run(provider=dialect, fields=FIELDS, fail_fast=True, schema_mode="tool", attempts=1)
        assert (summary.done, summary.failed, summary.attempts_now) == (1, 0, 2)
        messages = desk.server.requests[1].json["messages"]
    assert messages[1] == {"role": "assistant", "content": BAD}
    words = 'the answer can no longer fit the schema: at mood: "great" is not one of "good" or "bad"'
    assert words in messages[2]["content"]
    assert rows(desk.store, "SELECT error FROM attempts WHERE number = 1") == [(words,)]
    assert rows(desk.store, "SELECT text FROM items") == [(GOOD,)]


@DIALECTS
@pytest.mark.parametrize("whole", [True, False])
def test_unwanted_arguments_end_an_answer_and_the_row_keeps_them(tmp_path: Path, dialect: str, whole: bool) -> None:
    pieces = ('{"mood": "good", "why": "As an AI lang', "uage model")
    reply = at_once(ended(dialect, *pieces, '"}')) if whole else begun(dialect, *pieces)
    with bench(tmp_path, reply, 1) as desk:
        summary = desk.run(provider=dialect, stop_when="AI language model", fields=FIELDS, schema_mode="tool", repairs=3)
        assert (summary.failed, summary.attempts_now, summary.causes) == (1, 1, {"stopped_by_rule": 1})
    text = "".join(pieces) + ('"}' if whole else "")
    assert rows(desk.store, "SELECT status, error_code, text FROM items") == [("failed", "stopped_by_rule", text)]


def test_without_a_schema_calls_are_not_looked_at(tmp_path: Path) -> None:
    with bench(tmp_path, ended("openai", '{"q": "AI"}', name="search"), 1) as desk:
        assert desk.run(stop_when="AI").done == 1


def test_what_an_early_end_saved_is_an_estimate_by_the_whole_answers(tmp_path: Path) -> None:
    """One answer is ended at its first piece; one that is whole has saved nothing."""
    early = Reply((head(headers=EVENTS), chunk(delta("stop it")), HANG))
    replies = [*[answer("openai", "stream", "whole " * 40)] * 2, early, answer("openai", "whole", "stop it")]
    with bench(tmp_path, replies, 4) as desk:
        summary = desk.run(stop_when="stop", concurrency=1, prices=PRICES, max_tokens=100)
    assert (summary.done, summary.failed, summary.ended_early) == (2, 2, 1)
    (_, one), (_, other), (code, ended_at) = rows(desk.store, "SELECT error_code, bytes_received FROM attempts ORDER BY id")[:3]
    assert code == "stopped_by_rule"
    tokens = 3 - ended_at * 6 / (one + other)
    assert 1 < tokens < 3
    assert summary.estimated_saved_tokens == round(tokens)
    assert summary.estimated_saved_cost == pytest.approx(tokens * 4 / 1e6)
    _, books = runner.status(db=desk.store)
    told = (books.ended_early, books.estimated_saved_tokens, books.estimated_saved_cost)
    assert told == (1, summary.estimated_saved_tokens, summary.estimated_saved_cost)
    cost = amount(summary.estimated_saved_cost or 0.0)
    words = f"ended early   1 answer; saved about {round(tokens)} tokens ({cost}), estimated by the whole answers"
    assert words in run("status", "--db", str(desk.store), cwd=tmp_path).out
    (key,) = (key for (key,) in rows(desk.store, "SELECT key FROM items WHERE error_code IS NOT NULL ORDER BY position LIMIT 1"))
    shown = run("show", key, "--db", str(desk.store), cwd=tmp_path).out
    assert f"ended early, saved about {round(tokens)} tokens" in shown
    told_json = json.loads(run("show", key, "--json", "--db", str(desk.store), cwd=tmp_path).out)
    assert told_json["attempts"][0]["estimated_saved_tokens"] == round(tokens)


def test_without_a_whole_answer_nothing_tells_what_was_saved(tmp_path: Path) -> None:
    with bench(tmp_path, Reply((head(headers=EVENTS), chunk(delta("stop it")), HANG)), 1) as desk:
        summary = desk.run(stop_when="stop")
    assert (summary.ended_early, summary.estimated_saved_tokens, summary.estimated_saved_cost) == (1, None, None)


@pytest.mark.parametrize(
    "settings",
    [{"fields": FIELDS}, {"fields": FIELDS, "fail_fast": True}, {"stop_when": "no JSON"}],
    ids=["a schema", "fail_fast", "stop_when"],
)
def test_a_whole_answer_of_unknown_usage_has_saved_nothing(tmp_path: Path, settings: dict[str, Any]) -> None:
    """A server that tells no usage. One answer fits, and one is refused as a whole: none of it is seen before its end is."""
    whole = at_once(stream(delta("no JSON"), finish("stop"), DONE))
    with bench(tmp_path, [answer("openai", "stream", GOOD), whole], 2) as desk:
        summary = desk.run(**settings, repairs=0, concurrency=1)
    assert rows(desk.store, "SELECT count(*) FROM attempts WHERE error_code IS NOT NULL AND input_bound IS NOT NULL") == [(1,)]
    assert (summary.done, summary.failed, summary.ended_early) == (1, 1, 0)
    assert runner.status(db=desk.store)[1].ended_early == 0
    (key,) = (key for (key,) in rows(desk.store, "SELECT key FROM items WHERE status = 'failed'"))
    assert "ended early" not in run("show", key, "--db", str(desk.store), cwd=tmp_path).out


def test_an_answer_that_was_longer_than_others_has_saved_nothing(tmp_path: Path) -> None:
    """Of two that were ended, one was longer than the whole ones: it takes nothing from what the other one has saved."""
    short, long = (Reply((head(headers=EVENTS), chunk(delta(text)), HANG)) for text in ("stop", "long " * 2_000 + "stop"))
    with bench(tmp_path, [answer("openai", "stream", "whole " * 40), short, long], 3) as desk:
        summary = desk.run(stop_when="stop", concurrency=1)
    one, (ended_at, _), (longer, _) = rows(desk.store, "SELECT bytes_received, output_tokens FROM attempts ORDER BY id")
    whole, tokens = one
    assert longer > 2 * whole
    assert (summary.ended_early, summary.estimated_saved_tokens) == (2, round(tokens - ended_at * tokens / whole))
    assert runner.status(db=desk.store)[1].estimated_saved_tokens == summary.estimated_saved_tokens


def test_what_was_saved_is_told_by_a_session_that_ends_nothing_early(tmp_path: Path) -> None:
    """The summary is that of the whole run, as the status is."""
    early = Reply((head(headers=EVENTS), chunk(delta('{"mood": "great", "why": "because it is')), HANG))
    with bench(tmp_path, [answer("openai", "stream", GOOD), early, answer("openai", "stream", GOOD)], 2) as desk:
        desk.run(fields=FIELDS, fail_fast=True, repairs=0, concurrency=1)
        summary = runner.retry(db=desk.store, fail_fast=False)
    assert (summary.done, summary.ended_early, runner.status(db=desk.store)[1].ended_early) == (2, 1, 1)
