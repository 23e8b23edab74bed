"""What comes with an answer beside its text: in exports, results and ``show``."""

import csv
import io
import json
from pathlib import Path

import pytest
from processes import assert_clean, run
from raw_server import DONE, USAGE, RawServer, Received, Reply, delta, finish, in_thread, sse, stream, whole

import runner

CITED = {"type": "url_citation", "url_citation": {"url": "https://h/a", "title": "A"}}
LOGPROBS = {"content": [{"token": "Rome", "logprob": -0.01}, {"token": "\u202e!", "logprob": -2.0}]}
CALL = {"index": 0, "id": "c1", "function": {"name": "look", "arguments": '{"a": 1}'}}
KEPT = {
    "reasoning": "hm",
    "refusal": None,
    "tool_calls": [{"id": "c1", "name": "look", "arguments": '{"a": 1}'}],
    "citations": [CITED],
    "logprobs": LOGPROBS,
}


def answer(request: Received) -> Reply:
    if request.json["messages"][-1]["content"] == "plain":
        return stream(delta("Rome"), finish(), USAGE, DONE)
    assert request.json["logprobs"] is True
    assert request.json["tools"] == [{"type": "function", "function": {"name": "look"}}]
    said = {"content": "Rome!", "reasoning_content": "hm", "annotations": [CITED], "tool_calls": [CALL]}
    if request.json["stream"]:
        first = sse({"id": "c", "model": "m", "choices": [{"index": 0, "delta": said, "logprobs": LOGPROBS}]})
        return stream(first, finish("tool_calls"), USAGE, DONE)
    choice = {"index": 0, "message": said, "finish_reason": "tool_calls", "logprobs": LOGPROBS}
    return whole("200 OK", {"id": "c", "model": "m", "choices": [choice]})


@pytest.mark.parametrize("way", ["--stream", "--no-stream"])
def test_it_is_exported_shown_and_in_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    asked = {"logprobs": True, "tools": [{"type": "function", "function": {"name": "look"}}]}
    lines = [{"id": "a", "prompt": "ask", "extra_body": asked, "reasoning": "mine"}, {"id": "b", "prompt": "plain"}]
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    with in_thread(RawServer(answer)) as server:
        ended = run("run", "p.jsonl", "--model", "m", "--base-url", server.base_url, way, "-q", cwd=tmp_path)
    assert_clean(ended)
    first, second = map(json.loads, run("export", "-o", "-", "--format", "jsonl", cwd=tmp_path).out.splitlines())
    assert {name: first[name] for name in KEPT} == KEPT
    assert (first["text"], first["input_reasoning"]) == ("Rome!", "mine")
    assert [second[name] for name in KEPT] == [None] * len(KEPT)
    table = list(csv.DictReader(io.StringIO(run("export", "-o", "-", cwd=tmp_path).out)))
    assert json.loads(table[0]["logprobs"]) == LOGPROBS
    assert json.loads(table[0]["tool_calls"]) == KEPT["tool_calls"]
    assert [table[1][name] for name in KEPT] == [""] * len(KEPT)
    monkeypatch.chdir(tmp_path)
    result = next(runner.results())
    assert (result.reasoning, result.citations, result.logprobs) == ("hm", [CITED], LOGPROBS)
    shown = run("show", "a", cwd=tmp_path).out
    assert "2 tokens, all with --json; the least likely: '\\u202e!' 13.5 %, 'Rome' 99.0 %" in shown
    assert '{"type":"url_citation"' in shown
    assert json.loads(run("show", "a", "--json", cwd=tmp_path).out)["extra"]["logprobs"] == LOGPROBS
