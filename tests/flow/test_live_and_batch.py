"""The same job live and in batches: the exports are the same but for times, tier and cost. Real HTTP, in this process."""

import csv
import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import anyio
import pyarrow.parquet as parquet
import pytest
from simulating import served

import runner
from runner.batches import BatchRow, StoredBatch
from runner.engine.batch import polling, sending
from runner.errors import RunStoppedError
from runner.simulator import Simulator
from runner.simulator.batch_work import Work
from runner.store.checkpoint import RunStore

DIALECTS = pytest.mark.parametrize("dialect", ["openai", "anthropic"])
ROWS = 24
SCHEMA = "mood: good|bad, score: int"
FAULTS = {"invalid_json": 0.3, "length": 0.05, "empty": 0.05, "500": 0.1}
DIFFERS = (
    "cost",
    "cost_perhaps",
    "started_at",
    "duration_s",
    "time_to_first_token_s",
    "tier",
    "response_id",
    "created",
    "request_id",
)
"""Columns of times, tier and cost, and ids that a provider gives to each answer."""
ODD = {"batch_delay_s": 0.02, "batch_shuffle": True, "batch_twice": 0.2, "batch_unasked": 0.2}


def asked(folder: Path) -> Path:
    """Rows with all that a request may have, one of them broken, and two that ask the same."""
    lines: list[dict[str, Any]] = [{"id": f"r {number}", "prompt": f"p {number}", "topic": number} for number in range(ROWS)]
    lines[1] |= {"messages": [{"role": "user", "content": "é\u2028\n"}], "temperature": 0.5}
    del lines[1]["prompt"]
    lines[2] |= {"system": "Be brief.", "max_tokens": 33}
    lines[3]["prompt"] = lines[4]["prompt"]
    lines[5]["prompt"] = ""
    path = folder / "in.jsonl"
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return path


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY"):
        monkeypatch.setenv(name, "sk-test-0000000000000001")
    # batches are looked at soon
    monkeypatch.setattr(sending, "FIRST_LOOK_S", 0.1)


def job(dialect: str, server: Simulator, store: Path, **more: Any) -> dict[str, Any]:
    base = f"{server.url}/v1" if dialect == "openai" else server.url
    return {"provider": dialect, "model": "m", "base_url": base, "db": store, "max_tokens": 60, **more}


def of_csv(path: Path) -> list[dict[str, Any]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def of_jsonl(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def of_parquet(path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = parquet.read_table(path).to_pylist()
    return found


READERS: dict[str, tuple[str | None, Callable[[Path], list[dict[str, Any]]]]] = {
    "out.csv": (None, of_csv),
    "out.jsonl": (None, of_jsonl),
    "out.parquet": (None, of_parquet),
    "out.results": ("openai-batch", of_jsonl),
}


def exported(store: Path) -> dict[str, list[Any]]:
    """All exports of the last run of a store, without what differs."""
    found = {}
    for name, (kind, read) in READERS.items():
        runner.export(store.with_name(name), db=store, **({"format": kind} if kind is not None else {}))
        found[name] = [same(row) for row in read(store.with_name(name))]
    return found


def same(value: Any) -> Any:
    """A value without what differs between the two ways, on any level."""
    if isinstance(value, dict):
        return {name: same(one) for name, one in value.items() if name not in DIFFERS}
    return [same(one) for one in value] if isinstance(value, list) else value


@DIALECTS
def test_all_exports_are_those_of_a_live_run(dialect: str, tmp_path: Path) -> None:
    path, found = asked(tmp_path), []
    for mode in ("live", "batch"):
        store = tmp_path / mode / "runner.db"
        store.parent.mkdir()
        # one request at a time: the second answer to a prompt is the one that was drawn second
        more = {"fields": SCHEMA, "repairs": 1, "attempts": 1, "answers": 2, "dedupe": True, "system": "Judge.", "concurrency": 1}
        with served(faults=FAULTS, tokens=30, **ODD) as server:
            summary = runner.run(path, mode=mode, **job(dialect, server, store, **more))
        assert (summary.rows, summary.done + summary.failed) == (ROWS, 2 * ROWS)
        found.append(exported(store))
    live, batch = found
    for name in READERS:
        assert batch[name] == live[name], name
    rows = live["out.jsonl"]
    assert {(row["status"], row["error_code"]) for row in rows} == {
        ("done", None), ("failed", "bad_row"), ("failed", "server_error"), ("failed", "invalid_output"),
    }  # fmt: skip
    # copies of equal rows have none; some were asked again with the reason
    assert {row["attempts"] for row in rows if row["status"] == "done"} == {0, 1, 2}


@DIALECTS
def test_a_better_answer_is_asked_for_no_more_often_where_a_row_goes_live_after_its_batch(dialect: str, tmp_path: Path) -> None:
    path, store = tmp_path / "in.jsonl", tmp_path / "runner.db"
    path.write_text("".join(f'{{"prompt": "p {number}"}}\n' for number in range(4)))
    with served(faults={"invalid_json": 1.0}, tokens=30, batch_delay_s=0.02) as server:
        runner.run(path, mode="mixed", **job(dialect, server, store, fields=SCHEMA, repairs=2))
    with closing(sqlite3.connect(store)) as connection:
        found = connection.execute("SELECT item_key, number, coalesce(tier, 'live'), error_code FROM attempts ORDER BY 1, 2")
        sent = [(number, "batch" if tier == "batch" else "live", code) for _, number, tier, code in found]
    # a batch asked once, and the two repairs went live
    bad = "invalid_output"
    assert sent == [(1, "batch", bad), (2, "live", bad), (3, "live", bad)] * 4


@DIALECTS
def test_attempts_are_those_of_both_ways(dialect: str, tmp_path: Path) -> None:
    path, store = tmp_path / "in.jsonl", tmp_path / "runner.db"
    path.write_text("".join(f'{{"prompt": "p {number}"}}\n' for number in range(12)))
    with served(faults={"500": 0.6}, tokens=30, batch_delay_s=0.02) as server:
        runner.run(path, mode="mixed", limit=10, **job(dialect, server, store, attempts=2))
    with closing(sqlite3.connect(store)) as connection:
        found = connection.execute("SELECT item_key, coalesce(tier, 'live'), error_code FROM attempts ORDER BY item_key, number")
        sent: dict[str, list[tuple[bool, str | None]]] = {}
        for key, tier, code in found:
            sent.setdefault(key, []).append((tier == "batch", code))
    # first the batch, then one live request
    bad = "server_error"
    assert len(sent) == 10
    assert {tuple(one) for one in sent.values()} == {
        ((True, None),), ((True, bad), (False, None)), ((True, bad), (False, bad)),
    }  # fmt: skip


def lines_of_others(folder: Path) -> Path:
    """The input of a batch as another tool writes it: with names of settings of its own, and a picture."""
    picture = {"type": "image_url", "image_url": {"url": "https://example.com/p.png", "detail": "low"}}
    bodies: list[dict[str, Any]] = [
        {"model": "m", "messages": [{"role": "user", "content": f"p {number}"}], "max_completion_tokens": 50}
        for number in range(9)
    ]
    bodies[1] |= {"temperature": 0, "seed": 7, "top_p": 0.5, "stop": ["END"], "user": "u", "metadata": {"a": "b"}}
    bodies[2]["messages"] = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "é\u2028\n"}, picture]},
        {"role": "assistant", "content": "ok"},
        {"role": "user", "name": "n", "content": "go on"},
    ]
    schema = {"name": "x", "strict": True, "schema": {"type": "object", "properties": {}, "additionalProperties": False}}
    bodies[3]["response_format"] = {"type": "json_schema", "json_schema": schema}
    lines = [
        {"custom_id": f"request-{number}", "method": "POST", "url": "/v1/chat/completions", "body": body}
        for number, body in enumerate(bodies)
    ]
    path = folder / "batch.jsonl"
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return path


def test_a_batch_file_made_elsewhere_runs_both_ways_and_comes_out_as_results(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, found, sent = lines_of_others(tmp_path), [], []
    answer = Work.answer

    def noted(self: Work, line: bytes, results: Any) -> None:
        sent.append(json.loads(line))
        answer(self, line, results)

    monkeypatch.setattr(Work, "answer", noted)
    for mode in ("live", "batch"):
        store = tmp_path / mode / "runner.db"
        store.parent.mkdir()
        with served(faults={"500": 0.2}, tokens=30, batch_delay_s=0.02, batch_shuffle=True) as server:
            summary = runner.run(path, mode=mode, attempts=1, **job("openai", server, store, max_tokens=None))
        assert summary.done + summary.failed == 9
        runner.export(store.with_name("out.jsonl"), db=store, format="openai-batch")
        found.append([same(line) for line in of_jsonl(store.with_name("out.jsonl"))])
    live, batch = found
    assert live == batch
    given = of_jsonl(path)
    assert [line["custom_id"] for line in live] == [line["custom_id"] for line in given]
    # the requests are those of the file, but for the stream that is not wanted
    assert [line["request"] for line in live] == [{name: line[name] for name in ("method", "url", "body")} for line in given]
    assert sent == [{**line, "body": {**line["body"], "stream": False}} for line in given]
    assert {line["error"] and line["error"]["code"] for line in live} == {None, "server_error"}
    answered = [line["response"]["body"]["choices"][0] for line in live if line["error"] is None]
    assert {(one["message"]["role"], one["finish_reason"]) for one in answered} >= {("assistant", "stop")}


@DIALECTS
def test_no_service_tier_goes_into_a_batch(dialect: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answer, sent = Work.answer, []

    def noted(self: Work, line: bytes, results: Any) -> None:
        asked = json.loads(line)
        sent.append(asked.get("body") or asked["params"])
        answer(self, line, results)

    monkeypatch.setattr(Work, "answer", noted)
    lines = [{"id": "a", "prompt": "x"}, {"id": "b", "prompt": "y", "extra_body": {"service_tier": "auto", "top_k": 4}}]
    path = tmp_path / "in.jsonl"
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    more: dict[str, Any] = {"extra_body": {"service_tier": "auto", "top_k": 3}}
    with served(batch_delay_s=0.02) as server:
        for mode, tier in (("batch", None), ("mixed", "flex" if dialect == "openai" else None)):
            runner.run(path, mode=mode, new=True, reuse=False, **job(dialect, server, tmp_path / "r.db", tier=tier, **more))
    assert [one["top_k"] for one in sent] == [3, 4] * 2
    assert [one for one in sent if "service_tier" in one] == []


def test_another_key_in_the_next_session_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, store = asked(tmp_path), tmp_path / "runner.db"
    monkeypatch.setattr(polling, "START_GRACE_S", 0.0)
    monkeypatch.setattr(polling, "GRACE_S", 0.0)
    with served(batch_delay_s=5.0) as server:
        given = job("openai", server, store, mode="batch", detach=True)
        assert runner.run(path, limit=5, **given).waiting > 0
        monkeypatch.setenv("OPENAI_API_KEY", "sk-test-0000000000000002")
        with pytest.raises(RunStoppedError) as refused:
            runner.run(path, **given)
        assert refused.value.code == "batch_not_found"
        said = str(refused.value)
        assert "is not known at" in said
        assert "0000000000000002" not in said
        assert (server.stats()["batches"], server.stats()["requests"]) == (1, 0)


async def left_at(store: Path, *keys: str) -> None:
    """Leave rows of the first run in a batch at a server, as a killed session does."""
    batch = StoredBatch(
        id=0, run_id=0, token="t", state="writing", vendor="the server", model="m", base_url="http://127.0.0.1:9/v1",
        account="f00", rows=0, waiting=0, bytes=9, path="x", created_at=1e9,
    )  # fmt: skip
    rows = [BatchRow(custom_id=key, key=key, position=2, fingerprint=7, metadata={}, number=1) for key in keys]
    async with RunStore.own(store, 1) as owned:
        number = await owned.batches.begin_batch(batch)
        await owned.batches.add_rows(number, rows)
        for state in ("written", "uploading", "uploaded", "creating", "submitted"):
            await owned.batches.change(number, state=state, remote_id="batch_9")


@pytest.mark.parametrize("mode", ["batch", "live"])
def test_batches_of_a_server_that_has_ended_with_its_session_are_given_up(mode: str, tmp_path: Path) -> None:
    path, store = tmp_path / "in.jsonl", tmp_path / "r.db"
    path.write_text("".join(f"{json.dumps({'id': name, 'prompt': name})}\n" for name in "abc"))
    given = {"provider": "simulator", "model": "m", "db": store}
    assert runner.run(path, limit=1, **given).done == 1
    anyio.run(left_at, store, "b", "c")
    summary = runner.run(path, mode=mode, **given)
    assert (summary.done, summary.failed, summary.waiting) == (3, 0, 0)
    books = runner.status(1, db=store)[1]
    assert (books.failed_attempts, books.perhaps_billed, books.waiting) == ({"batch_gone": 2}, 2, 0)
