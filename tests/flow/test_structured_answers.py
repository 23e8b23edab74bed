"""Answers with a schema: sent, checked, asked for again with the reason, and on the books."""

import json
from itertools import count as counting
from pathlib import Path
from typing import Any

import pydantic
import pytest
from processes import assert_clean, rows, run, runner, simulator
from raw_server import HANG, RST, RawServer, Received, Reply, delta, in_thread, stream, whole
from test_policy import Bench, answer, bench

import runner as api
from runner.errors import UsageError

FIELDS = "mood: good|bad, score: int"
GOOD, BAD = '{"mood": "good", "score": 1}', '{"mood": "great", "score": 1}'
WHY = 'the answer does not fit the schema: at mood: "great" is not one of "good" or "bad"'
SCHEMA = {
    "type": "object",
    "properties": {"mood": {"type": "string", "enum": ["good", "bad"]}, "score": {"type": "integer"}},
    "required": ["mood", "score"],
    "additionalProperties": False,
}
TOOL = {"name": "answer", "description": "Gives the answer."}
DIALECTS = pytest.mark.parametrize("dialect", ["openai", "anthropic"])
FORMS = pytest.mark.parametrize("form", ["stream", "whole"])


def asked(request: Received) -> list[tuple[str, Any]]:
    return [(message["role"], message["content"]) for message in request.json["messages"]]


def exported(store: Path) -> list[dict[str, Any]]:
    api.export(store.with_name("out.jsonl"), db=store)
    return [json.loads(line) for line in store.with_name("out.jsonl").read_text().splitlines()]


@DIALECTS
@FORMS
def test_an_answer_that_does_not_fit_is_asked_for_again_with_the_reason(tmp_path: Path, dialect: str, form: str) -> None:
    with bench(tmp_path, [answer(dialect, form, BAD), answer(dialect, form, f"```json\n{GOOD}\n```")], 1) as desk:
        summary = desk.run(provider=dialect, fields=FIELDS, stream=form == "stream", system="Judge.", attempts=1)
        assert (summary.done, summary.failed, summary.attempts_now, summary.input_tokens) == (1, 0, 2, 14)
        first, second = desk.server.requests
    question = asked(first)[-1]
    words = f"Your answer cannot be used: {WHY}. Answer again with nothing but the corrected JSON."
    assert asked(second) == [*asked(first), ("assistant", BAD), ("user", words)]
    assert question[0] == "user"
    assert {**second.json, "messages": []} == {**first.json, "messages": []}
    assert rows(desk.store, "SELECT number, error_code, error FROM attempts ORDER BY number") == [
        (1, "invalid_output", WHY),
        (2, None, None),
    ]
    assert rows(desk.store, "SELECT status, attempts, text, notes FROM items") == [("done", 2, GOOD, "fenced")]


@DIALECTS
@pytest.mark.parametrize("repairs", [0, 1, 3])
def test_when_its_repairs_are_used_up_a_row_fails_and_keeps_the_text(tmp_path: Path, dialect: str, repairs: int) -> None:
    numbers = counting(1)

    def reply(_: Received) -> Reply:
        return answer(dialect, "stream", BAD.replace("1", str(next(numbers))))

    with bench(tmp_path, reply, 1) as desk:
        summary = desk.run(provider=dialect, fields=FIELDS, repairs=repairs, attempts=1)
        requests = desk.server.requests
    assert (summary.failed, summary.causes, len(requests)) == (1, {"invalid_output": 1}, repairs + 1)
    # one answer and one reason, those of the last time
    assert [len(asked(request)) for request in requests] == [1] + [3] * repairs
    (kept,) = exported(desk.store)
    assert (kept["status"], kept["error_code"], kept["error"], kept["attempts"]) == ("failed", "invalid_output", WHY, repairs + 1)
    assert json.loads(kept["text"])["score"] == repairs + 1


def test_what_would_come_again_is_not_asked_for_again(tmp_path: Path) -> None:
    replies = [answer("openai", "stream", GOOD[:12], "length"), answer("openai", "stream", "")]
    with bench(tmp_path, replies, 2) as desk:
        summary = desk.run(fields=FIELDS, concurrency=1, repairs=1)
        # an empty answer cannot be shown to the model
        assert [len(asked(request)) for request in desk.server.requests] == [1, 1, 2]
    assert summary.failed == 2
    errors = [error for (error,) in rows(desk.store, "SELECT error FROM items ORDER BY position")]
    assert errors[0].endswith("it ends at the limit of its length (finish reason 'length')")
    assert errors[1] == "the answer is empty"


def test_a_failure_of_the_network_within_a_repair_is_an_ordinary_one(tmp_path: Path) -> None:
    broken = whole("503 Service Unavailable", {"error": {"message": "busy"}})
    replies = [answer("openai", "stream", BAD), stream(delta("x"), end=(RST,)), broken, answer("openai", "stream", GOOD)]
    with bench(tmp_path, replies, 1) as desk:
        assert desk.run(fields=FIELDS, repairs=1).done == 1
        assert [len(asked(request)) for request in desk.server.requests] == [1, 3, 3, 3]
    codes = [code for (code,) in rows(desk.store, "SELECT error_code FROM attempts ORDER BY number")]
    assert (codes[0], codes[-1], len(codes)) == ("invalid_output", None, 4)


@pytest.mark.parametrize(
    ("dialect", "mode", "sent"),
    [
        ("openai", None, {
            "response_format": {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": "SCHEMA"}},
        }),
        ("openai", "guided", {"structured_outputs": {"json": "SCHEMA"}}),
        ("openai", "tool", {
            "tools": [{"type": "function", "function": {**TOOL, "strict": True, "parameters": "SCHEMA"}}],
            "tool_choice": {"type": "function", "function": {"name": "answer"}},
        }),
        ("openai", "none", {}),
        ("anthropic", None, {"output_config": {"format": {"type": "json_schema", "schema": "SCHEMA"}}}),
        ("anthropic", "tool", {
            "tools": [{**TOOL, "input_schema": "SCHEMA"}],
            "tool_choice": {"type": "tool", "name": "answer"},
        }),
    ],
)  # fmt: skip
def test_each_provider_gets_the_schema_in_its_own_way(
    tmp_path: Path, dialect: str, mode: str | None, sent: dict[str, Any]
) -> None:
    with bench(tmp_path, answer(dialect, "stream", GOOD), 1) as desk:
        assert desk.run(provider=dialect, fields=FIELDS, schema_mode=mode).done == 1
        (request,) = desk.server.requests
    usual = {"model", "messages", "stream", "stream_options", "max_tokens"}
    expected = json.loads(
        json.dumps(sent), object_hook=lambda one: {name: SCHEMA if part == "SCHEMA" else part for name, part in one.items()}
    )
    assert {name: value for name, value in request.json.items() if name not in usual} == expected


def test_a_schema_that_is_not_strict_is_sent_as_a_hint_and_that_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Review(pydantic.BaseModel):
        mood: str
        score: int = pydantic.Field(default=1, ge=0)

    noted: list[str] = []
    monkeypatch.setattr(Bench, "observe", lambda _, event: noted.extend(getattr(event, "notes", ())))
    with bench(tmp_path, answer("openai", "stream", '{"mood": "fine"}'), 1) as desk:
        assert desk.run(schema=Review).done == 1
        assert desk.server.requests[0].json["response_format"]["json_schema"]["strict"] is False
        (note,) = [note for note in noted if "schema" in note]
        assert note.startswith("the schema is sent without strict")
        assert 'at the root: set "additionalProperties": false; at /properties/score: leave out "default"' in note
    (tmp_path / "a").mkdir()
    with bench(tmp_path / "a", answer("anthropic", "stream", '{"mood": "fine", "score": -1}'), 1) as desk:
        assert desk.run(provider="anthropic", schema=Review, repairs=0).failed == 1
        assert "tools" in desk.server.requests[0].json
        assert "at score: -1 is less than the minimum of 0" in rows(desk.store, "SELECT error FROM items")[0][0]
        assert any(note.startswith("the schema is sent as a tool") for note in noted)
        with pytest.raises(UsageError, match="Anthropic does not take the schema as response_format: at the root"):
            desk.run(provider="anthropic", schema=Review, schema_mode="response_format")
        with pytest.raises(
            UsageError, match="cannot send a schema as guided; schema_mode may be auto, response_format, tool, none"
        ):
            desk.run(provider="anthropic", schema=Review, schema_mode="guided")


def test_a_plug_in_that_knows_no_schemas_sends_none_and_answers_are_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = "from runner.providers.dialects.openai import BASE_URL_ENV, DEFAULT_BASE_URL, KEY_ENV, make\n"
    (tmp_path / "unshaped.py").write_text(words)
    monkeypatch.syspath_prepend(tmp_path)
    noted: list[str] = []
    monkeypatch.setattr(Bench, "observe", lambda _, event: noted.extend(getattr(event, "notes", ())))
    with bench(tmp_path, [answer("openai", "stream", BAD), answer("openai", "stream", GOOD)], 1) as desk:
        assert desk.run(provider="unshaped", fields=FIELDS).done == 1
        assert "response_format" not in desk.server.requests[0].json
        assert len(desk.server.requests) == 2
        with pytest.raises(UsageError, match="provider unshaped cannot send a schema as tool; schema_mode may be auto, none"):
            desk.run(provider="unshaped", fields=FIELDS, schema_mode="tool")
    assert any("provider unshaped has no way to send a schema" in note for note in noted)


def test_another_part_of_output_config_stays_beside_the_schema(tmp_path: Path) -> None:
    with bench(tmp_path, answer("anthropic", "stream", GOOD), 1) as desk:
        desk.run(provider="anthropic", fields=FIELDS, extra_body={"output_config": {"effort": "low"}})
        assert set(desk.server.requests[0].json["output_config"]) == {"effort", "format"}


def test_a_broken_schema_or_one_that_is_elsewhere_sends_nothing(tmp_path: Path) -> None:
    file = tmp_path / "s.json"
    with bench(tmp_path, answer("openai", "stream", GOOD), 1) as desk:
        for text, words in (
            ('{"type": "strng"}', 'the schema cannot be used: at type: "strng" is not valid'),
            ('{"$ref": "https://example.org/s.json"}', "refers to another document"),
            ("[1]", "must be one JSON object"),
            ('{"type": "object",', "ends in the middle of its JSON"),
            ("{}", "all fit {}"),
        ):
            file.write_text(text)
            ended = run(
                "run", "prompts.jsonl", "--model", "m", "--base-url", desk.server.base_url, "--schema", "s.json", cwd=tmp_path
            )
            assert ended.code == 2
            assert words in ended.err
            assert "Traceback" not in ended.err
            assert not (tmp_path / "runner.db").exists()
        with pytest.raises(UsageError, match=r"the schema .*missing\.json cannot be read: No such file"):
            desk.run(schema=str(tmp_path / "missing.json"))
        assert desk.server.requests == []


def test_another_schema_is_another_run_and_answers_that_fit_are_taken_over(tmp_path: Path) -> None:
    good = answer("openai", "stream", GOOD)
    with bench(
        tmp_path, [good, answer("openai", "stream", f"It is {GOOD}"), answer("openai", "stream", BAD), good, good], 3
    ) as desk:
        assert desk.run(concurrency=1).done == 3
        # nothing is sent of the schema, so the requests are the same: what fits as it is is taken over
        second = desk.run(fields=FIELDS, schema_mode="none", concurrency=1)
        assert (second.run, second.reused, second.attempts_now, second.done) == (2, 1, 2, 3)
        assert [json.loads(line["text"]) for line in exported(desk.store)] == [json.loads(GOOD)] * 3


def test_a_run_without_a_schema_takes_nothing_from_one_whose_rows_may_have_been_asked_twice(tmp_path: Path) -> None:
    replies = [answer("openai", "stream", text) for text in (BAD, GOOD, "Hello")]
    with bench(tmp_path, replies, 1) as desk:
        assert desk.run(fields=FIELDS, schema_mode="none").attempts_now == 2
        plain = desk.run()
        assert (plain.run, plain.reused, plain.attempts_now) == (2, 0, 1)
        # another schema is another run; what fits it is taken over
        wider = desk.run(fields="mood: good|bad, score: float", schema_mode="none")
        assert (wider.run, wider.reused, wider.attempts_now, len(desk.server.requests)) == (3, 1, 0, 3)


def test_kill_between_answer_and_repair_loses_no_attempt(tmp_path: Path) -> None:
    replies = [answer("openai", "stream", BAD), Reply((HANG,)), answer("openai", "stream", GOOD)]
    with in_thread(RawServer(replies)) as server:
        (tmp_path / "p.jsonl").write_text('{"id": "a", "prompt": "x"}\n')
        command = ("run", "p.jsonl", "--model", "m", "--base-url", server.base_url, "--fields", FIELDS)
        with runner(*command, cwd=tmp_path) as process:
            saved = lambda: rows(tmp_path / "runner.db", "SELECT number, error_code FROM attempts") == [(1, "invalid_output")]  # noqa: E731
            process.until(lambda: len(server.requests) == 2 and saved(), "the repair has gone out")
            process.killed()
        ended = run("resume", cwd=tmp_path)
        assert_clean(ended)
        # what was said is not stored, so the row is asked as at first
        assert len(asked(server.requests[2])) == 1
    store = tmp_path / "runner.db"
    assert rows(store, "SELECT status, attempts, text FROM items") == [("done", 2, GOOD)]


@DIALECTS
@pytest.mark.parametrize("mode", ["response_format", "tool"])
def test_a_whole_run_with_the_simulator(tmp_path: Path, dialect: str, mode: str) -> None:
    lines = [{"id": f"r{number}", "prompt": f"{dialect} {mode} {number}"} for number in range(40)]
    (tmp_path / "p.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    with simulator("--first-token-s", "0", "--chunk-s", "0", "--fault", "invalid_json=0.4") as server:
        settings = {"provider": dialect, "base_url": server.base_url(dialect), "model": "m", "db": tmp_path / "r.db"}
        summary = api.run(
            tmp_path / "p.jsonl", fields=f"{FIELDS}, tags: list[str], maybe: bool?", schema_mode=mode, answers=2, **settings
        )
        invoice = server.invoice()
    assert (summary.done + summary.failed, summary.left) == (80, 0)
    assert summary.failed
    found = exported(tmp_path / "r.db")
    for line in found:
        assert line["attempts"] <= 2
        if line["status"] == "done":
            assert set(json.loads(line["text"])) == {"mood", "score", "tags", "maybe"}
            assert line["tool_calls"] is None
        else:
            assert line["text"] or mode == "tool"
    assert sum(line["attempts"] for line in found) == invoice["requests"] == summary.attempts_now
    books = api.status(db=tmp_path / "r.db")[1]
    assert books.attempts == invoice["requests"]


def test_dedupe_gives_the_repaired_answer_to_both_rows_and_budget_counts_the_repair(tmp_path: Path) -> None:
    prices = {"m": {"input": 1, "output": 1}}
    with bench(tmp_path, [answer("openai", "stream", BAD), answer("openai", "stream", GOOD)], 1) as desk:
        desk.prompts.write_text('{"id": "a", "prompt": "x"}\n{"id": "b", "prompt": "x"}\n')
        summary = desk.run(fields=FIELDS, dedupe=True, prices=prices, max_cost=1, max_tokens=100)
        assert (summary.done, summary.attempts_now, summary.shared) == (2, 2, 1)
        assert summary.cost == pytest.approx(2 * (7 + 3) / 1e6)
        assert rows(desk.store, "SELECT count(*) FROM reservations") == [(0,)]
    (tmp_path / "b").mkdir()
    with bench(tmp_path / "b", answer("openai", "stream", BAD), 1) as desk:
        # room for the first request and not for the larger one that asks again
        with pytest.raises(Exception, match="budget"):
            desk.run(fields=FIELDS, prices=prices, max_cost=0.00065, max_tokens=100)
        assert len(desk.server.requests) == 1
        assert rows(desk.store, "SELECT error_code FROM attempts") == [("invalid_output",)]


def test_fields_are_columns_of_exports_tables_and_of_a_view(tmp_path: Path) -> None:
    texts = [
        '{"mood": "good", "score": 7, "tags": ["a"], "text": "x", "more": null}',
        BAD,
        '{"mood": "=1", "score": 1, "tags": [], "text": "", "more": true}',
    ]
    with bench(tmp_path, [answer("openai", "stream", text) for text in texts], 3) as desk:
        desk.prompts.write_text("".join(f'{{"id": "r{n}", "prompt": "p", "mood": "mine"}}\n' for n in range(3)))
        fields = "mood: good|'=1', score: int, tags: list[str], text: str, more: bool?"
        assert desk.run(fields=fields, repairs=0, concurrency=1).done == 2
        store = desk.store
    found = exported(store)
    names = list(found[0])
    assert names[names.index("text") :][:7] == ["text", "answer_mood", "score", "tags", "answer_text", "more", "status"]
    assert [
        (line["mood"], line["answer_mood"], line["score"], line["tags"], line["answer_text"], line["more"]) for line in found
    ] == [
        ("mine", "good", 7, ["a"], "x", None),
        ("mine", None, None, None, None, None),
        ("mine", "=1", 1, [], "", True),
    ]
    api.export(tmp_path / "out.csv", db=store)
    lines = (tmp_path / "out.csv").read_text().splitlines()
    assert '"good","7","[""a""]","x",""' in lines[1]
    assert '"\'=1","1","[]","","true"' in lines[3]
    frame = api.results(db=store).to_arrow()
    assert str(frame.schema.field("score").type) == "int64"
    assert api.results(db=store).to_list()[0]["tags"] == ["a"]
    view = "SELECT key, mood, score, tags, text, more FROM answers_json ORDER BY position"
    assert rows(store, view) == [("r0", "good", 7, '["a"]', "x", None), ("r2", "=1", 1, "[]", "", 1)]
    with bench(tmp_path, answer("openai", "stream", '{"other": 1, "KEY": 2, "a\\"b": 3}'), 1) as desk:
        schema = {"type": "object", "properties": {"other": {}, "KEY": {}, 'a"b': {}, "it's": {}}}
        desk.prompts.write_text('{"id": "z", "prompt": "q"}\n')
        assert desk.run(schema=schema).run == 2
    # one view for the answers of all runs; no path of SQLite can spell a quotation mark
    assert rows(store, 'SELECT run_id, key, mood, other, "answer_KEY", "it\'s" FROM answers_json ORDER BY run_id, position') == [
        (1, "r0", "good", None, None, None), (1, "r2", "=1", None, None, None), (2, "z", None, 1, 2, None)
    ]  # fmt: skip


def test_fields_that_runs_spell_with_other_letters_share_a_column_of_the_view(tmp_path: Path) -> None:
    said = [answer("openai", "stream", text) for text in ('{"Mood": "good"}', '{"mood": "bad"}', '{"mood": "x", "MOOD": "y"}')]
    with bench(tmp_path, said, 1) as desk:
        for number, fields in enumerate(["Mood: good|bad", "mood: good|bad", "mood: str, MOOD: str"]):
            desk.prompts.write_text(f'{{"id": "r{number}", "prompt": "q{number}"}}\n')
            assert desk.run(fields=fields).done == 1
        view = "SELECT run_id, mood, answer_mood FROM answers_json ORDER BY run_id"
        assert rows(desk.store, view) == [(1, "good", None), (2, "bad", None), (3, "x", "y")]


def test_a_store_without_schemas_has_no_such_view(tmp_path: Path) -> None:
    with bench(tmp_path, answer("openai", "stream", GOOD), 1) as desk:
        desk.run()
        assert rows(desk.store, "SELECT count(*) FROM sqlite_master WHERE name = 'answers_json'") == [(0,)]
        assert "mood" not in exported(desk.store)[0]


def test_the_format_of_batches_has_the_schema_and_is_an_input_that_asks_the_same(tmp_path: Path) -> None:
    with bench(tmp_path, answer("openai", "stream", GOOD), 1) as desk:
        desk.run(fields=FIELDS)
        api.export(tmp_path / "batch.jsonl", db=desk.store, format="openai-batch")
        line = json.loads((tmp_path / "batch.jsonl").read_text())
        sent = desk.server.requests[0].json["response_format"]
        assert line["request"]["body"]["response_format"] == sent
        # the lines are an input, and ask the same
        again = api.run(tmp_path / "batch.jsonl", model="m", base_url=desk.server.base_url, db=tmp_path / "other.db")
        assert again.done == 1
        assert desk.server.requests[1].json["response_format"] == sent
