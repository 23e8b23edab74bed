import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from runner.inputs.formats.jsonl import read

JOBS = Path(__file__).parents[2] / "jobs"
TOP = {"input", "provider", "model", "base_url", "api_key_env", "concurrency", "rpm", "attempts", "system"}
TABLES = {
    "params": {"max_tokens", "temperature", "top_p", "stop", "seed", "extra_body"},
    "timeouts": {"connect_s", "first_byte_s", "silence_s", "attempt_s"},
}


def fields(name: str) -> list[dict[str, object]]:
    rows = list(read(JOBS / name))
    assert [row.fault for row in rows if row.fault] == []
    return [dict(row.fields or {}) for row in rows]


def test_the_prompts_are_many_and_all_different() -> None:
    tickets = fields("prompts.jsonl")
    assert 180 <= len(tickets) <= 220
    assert len({ticket["id"] for ticket in tickets}) == len(tickets)
    prompts = [str(ticket["prompt"]) for ticket in tickets]
    # different at the start as well, not only in a number somewhere
    assert len({prompt[:25].casefold() for prompt in prompts}) == len(prompts)
    assert all(set(ticket) == {"id", "prompt", "language", "channel"} for ticket in tickets)
    assert len({ticket["language"] for ticket in tickets}) >= 10
    assert sum("\n" in prompt for prompt in prompts) >= 5
    assert max(map(len, prompts)) > 800
    assert any(ord(max(prompt)) > 0x1F000 for prompt in prompts)


def test_the_conversations_are_well_formed() -> None:
    conversations = fields("messages.jsonl")
    assert len({row["id"] for row in conversations}) == len(conversations) >= 15
    for row in conversations:
        messages = row["messages"]
        assert isinstance(messages, list)
        assert messages[-1]["role"] == "user"
        assert {message["role"] for message in messages} <= {"system", "user", "assistant"}
        assert set(row.get("params", {})) <= {"model", *TABLES["params"]}  # type: ignore[call-overload]
    assert 5 <= sum("params" in row for row in conversations) < len(conversations)


@pytest.mark.parametrize("job", sorted(JOBS.glob("*.toml")), ids=lambda path: path.name)
def test_a_job_uses_known_settings_and_an_input_that_exists(job: Path) -> None:
    settings = tomllib.loads(job.read_text(encoding="utf-8"))
    assert settings["provider"] == "simulator"
    assert (job.parent / settings["input"]).is_file()
    for name, value in settings.items():
        if isinstance(value, dict):
            assert set(value) <= TABLES[name]
        else:
            assert name in TOP


def docstrings(path: Path, *options: str) -> str:
    command = [sys.executable, str(JOBS / "stdlib_docstrings.py"), "-o", str(path), *options]
    return subprocess.run(command, check=True, capture_output=True, text=True, encoding="utf-8").stdout


def test_the_docstrings_are_written_whole_and_always_the_same(tmp_path: Path) -> None:
    one, two = tmp_path / "one.jsonl", tmp_path / "two.jsonl"
    said = docstrings(one)
    docstrings(two)
    assert one.read_bytes() == two.read_bytes()
    rows = [json.loads(line) for line in one.read_text(encoding="utf-8").split("\n")[:-1]]
    assert f"{len(rows)} rows" in said
    assert f"{one.stat().st_size} bytes" in said
    assert len(rows) >= (5000 if sys.version_info < (3, 12) else 4000)
    assert len({row["id"] for row in rows}) == len(rows)
    assert {row["kind"] for row in rows} == {"module", "class", "function", "method"}
    decode = next(row for row in rows if row["id"] == "json.decoder.JSONDecoder.decode")
    assert "\n\njson.decoder.JSONDecoder.decode\n\nReturn the Python representation" in decode["prompt"]
    assert decode["kind"] == "method"
    assert set(tmp_path.iterdir()) == {one, two}


def test_a_limit_takes_the_first_rows(tmp_path: Path) -> None:
    docstrings(tmp_path / "few.jsonl", "--limit", "7")
    assert len(list(read(tmp_path / "few.jsonl"))) == 7
