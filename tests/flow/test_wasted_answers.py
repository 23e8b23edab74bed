"""Whole runs against servers that refuse one row's value, or none of whose answers can count: what is paid and said."""

import json
from pathlib import Path
from typing import Any

import pytest
from processes import rows
from raw_server import DONE, RST, Received, Reply, delta, events, openai_answer, stream, whole
from test_policy import bench

from runner.providers.reasonless import OTHER_DIALECT


def refuse(request: Received) -> Reply:
    if request.json.get("temperature", 0) > 2:
        words = "Invalid 'temperature': decimal above maximum value. Expected a value <= 2, but got 3 instead."
        return whole("400 Bad Request", {"error": {"message": words, "param": "temperature", "code": "decimal_above_max_value"}})
    return openai_answer()


@pytest.mark.parametrize("strict", [True, False])
def test_one_bad_value_takes_nothing_from_other_rows(tmp_path: Path, strict: bool) -> None:
    with bench(tmp_path, refuse) as desk:
        lines = [{"id": str(row), "prompt": f"p{row}", "temperature": 3 if row == 1 else 0.5} for row in range(6)]
        desk.prompts.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
        summary = desk.run(concurrency=1, strict_params=strict)
        assert (summary.done, summary.failed, desk.notes) == (5, 1, [])
        assert all(request.json["temperature"] in (0.5, 3) for request in desk.server.requests)
        assert rows(desk.store, "SELECT error_code FROM items WHERE key = '1'") == [("bad_request",)]


@pytest.mark.parametrize(("speaks", "asked"), [("anthropic", "openai"), ("openai", "anthropic")])
def test_a_wrong_dialect_stops_the_run_with_the_right_name(tmp_path: Path, speaks: str, asked: str) -> None:
    with bench(tmp_path, stream(*events(speaks, "Hello")), 9) as desk:
        assert f"use --provider {speaks}" in desk.stopped(provider=asked, concurrency=1)
        assert len(desk.server.requests) == OTHER_DIALECT


def test_a_server_without_finish_reasons_stops_the_run(tmp_path: Path) -> None:
    with bench(tmp_path, stream(delta("Hello"), DONE), 30) as desk:
        assert "sends no finish reason" in desk.stopped(concurrency=2)
        assert len(desk.server.requests) <= 8


def test_one_such_answer_is_tried_again(tmp_path: Path) -> None:
    replies: list[Any] = [stream(delta("Hel"), DONE), stream(*events("anthropic", "Hel")), openai_answer()]
    with bench(tmp_path, replies, 3) as desk:
        assert desk.run(concurrency=1).done == 3
    (tmp_path / "cut").mkdir()
    with bench(tmp_path / "cut", [stream(delta("Hel"), end=(RST,))] * 4 + [openai_answer()], 4) as desk:
        assert desk.run(concurrency=1).done == 4
