"""Answers with a schema beside what else takes part: typed formats, seeds of further answers, requests open at a kill."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import openpyxl
import pyarrow.parquet as pq
import pytest
from processes import runner
from raw_server import HANG, RawServer, Received, Reply, in_thread, whole
from test_policy import answer, bench

import runner as api
from runner.several import key_of, seed_of
from runner.store.reader import StoreReader

FIELDS = "mood: good|bad, score: int, share: float, big: float, cost: bool?"
ANSWERS = [
    '{"mood": "good", "score": 7, "share": 1, "big": 9007199254740993, "cost": true}',
    '{"mood": "great"}',
    '{"mood": "bad", "score": 2.0, "share": 0.5, "big": 1, "cost": null}',
]
PRICES = {"m": {"input": 1, "output": 4}}
PICO_OF_TOKEN = 10**6
"""Picodollars of a token of input."""


def test_fields_of_answers_are_columns_of_the_types_of_the_schema(tmp_path: Path) -> None:
    with bench(tmp_path, [answer("openai", "stream", text) for text in ANSWERS], 3) as desk:
        desk.run(fields=FIELDS, concurrency=1, repairs=0)
        files = [tmp_path / f"out.{ending}" for ending in ("parquet", "sqlite", "xlsx")]
        api.export(files, db=desk.store, columns=["answer_cost", "big", "score", "share", "id"], manifest=True)
        api.export(tmp_path / "few.csv", db=desk.store, only="shape", columns="error_code,answer_mood", prefix_fields=True)
    table = pq.read_table(files[0])
    # a number that would lose digits makes its column one of texts
    types = {"answer_cost": "bool", "big": "string", "score": "int64", "share": "double", "id": "string"}
    assert {name: str(table.schema.field(name).type) for name in table.schema.names} == types
    assert table.drop(["id"]).to_pylist() == [
        {"answer_cost": True, "big": "9007199254740993", "score": 7.0, "share": 1.0},
        dict.fromkeys(("answer_cost", "big", "score", "share")),
        {"answer_cost": None, "big": "1", "score": 2.0, "share": 0.5},
    ]
    with closing(sqlite3.connect(files[1])) as connection:
        found = connection.execute("SELECT answer_cost, big, score, share FROM answers").fetchall()
    assert found == [(1, "9007199254740993", 7.0, 1.0), (None, None, None, None), (None, "1", 2.0, 0.5)]
    sheet = openpyxl.load_workbook(files[2]).active
    assert sheet is not None
    assert [line[2:4] for line in sheet.iter_rows(values_only=True)] == [("score", "share"), (7, 1), (None, None), (2, 0.5)]
    assert (tmp_path / "few.csv").read_text().splitlines() == ['"error_code","answer_mood"', '"invalid_output",""']
    manifest = json.loads((tmp_path / "out.parquet.manifest.json").read_text())
    assert manifest["outcomes"]["failed_by_code"] == {"invalid_output": 1}
    assert "jsonschema-rs" in manifest["versions"]["packages"]


OPENAI_CALL = {"id": "t", "type": "function", "function": {"name": "answer", "arguments": '{"x":1}'}}
OPENAI_CHOICE = {"index": 0, "message": {"role": "assistant", "tool_calls": [OPENAI_CALL]}, "finish_reason": "tool_calls"}
ANTHROPIC_CALL = {"type": "tool_use", "id": "t", "name": "answer", "input": {"x": 1}}
CALLS = {
    "openai": {"choices": [OPENAI_CHOICE], "usage": {"prompt_tokens": 7, "completion_tokens": 3}},
    "anthropic": {
        "type": "message",
        "content": [ANTHROPIC_CALL],
        "stop_reason": "tool_use",
        "usage": {"input_tokens": 7, "output_tokens": 3},
    },
}


@pytest.mark.parametrize("dialect", CALLS)
def test_an_answer_that_came_as_a_call_of_a_tool_is_a_text_that_ended_by_itself(tmp_path: Path, dialect: str) -> None:
    with bench(tmp_path, whole("200 OK", {"id": "a", "model": "m", **CALLS[dialect]}), 1) as desk:
        assert desk.run(provider=dialect, fields="x: int", schema_mode="tool", stream=False).done == 1
        api.export(tmp_path / "batch.jsonl", db=desk.store, format="openai-batch")
    (choice,) = json.loads((tmp_path / "batch.jsonl").read_text())["response"]["body"]["choices"]
    assert choice["finish_reason"] == "stop"
    assert choice["message"] == {"role": "assistant", "content": '{"x":1}', "refusal": None}


def test_a_repair_of_a_further_answer_has_its_seed(tmp_path: Path) -> None:
    def reply(request: Received) -> Reply:
        return answer("openai", "stream", '{"x": 1}' if len(request.json["messages"]) > 1 else '{"x": "one"}')

    with bench(tmp_path, reply, 1) as desk:
        desk.prompts.write_text('{"id": "a", "prompt": "q"}\n')
        assert desk.run(fields="x: int", answers=2).done == 2
        seeds = [(len(request.json["messages"]), request.json.get("seed")) for request in desk.server.requests]
    second = seed_of(key_of("a", 2))
    assert sorted(seeds, key=str) == sorted([(1, None), (3, None), (1, second), (3, second)], key=str)


def test_a_repair_that_is_open_at_a_kill_is_on_the_books(tmp_path: Path) -> None:
    repairs = list[Received]()

    def reply(request: Received) -> Reply:
        if len(request.json["messages"]) == 1:
            return answer("openai", "stream", json.dumps({"x": "word " * 500}))
        repairs.append(request)
        return Reply((HANG,))

    (tmp_path / "p.jsonl").write_text('{"id": "a", "prompt": "q"}\n')
    with in_thread(RawServer(reply)) as server:
        words = ["run", "p.jsonl", "--model", "m", "--base-url", server.base_url, "--fields", "x: int", "--max-tokens", "50"]
        with runner(*words, "--prices", json.dumps(PRICES), cwd=tmp_path) as process:
            process.until(lambda: bool(repairs), "the repair")
            process.killed()
    with StoreReader(tmp_path / "runner.db") as reader:
        money = reader.money(reader.run().id)
    # the repair may go out before the answer that did not fit is saved
    assert money.open_requests in (1, 2)
    # the answer that did not fit is in the request, which is far larger than the first one
    assert (money.held or 0) >= len(repairs[0].body) * PICO_OF_TOKEN > 2_500 * PICO_OF_TOKEN
