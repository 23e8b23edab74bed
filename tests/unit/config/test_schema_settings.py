"""The settings ``schema`` and ``fields``: where they come from, and which of them counts."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from runner.config.job import Job, load_job, restore_job
from runner.config.job_file import read_toml
from runner.errors import StoreError, UsageError
from runner.session import again
from runner.session.options import SessionOptions

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"a": {"type": "string"}},
    "required": ["a"],
    "additionalProperties": False,
}


def loaded(folder: Path, text: str = "", environment: dict[str, str] | None = None, **options: Any) -> Job:
    (folder / "p.jsonl").touch()
    (folder / "p.toml").write_text(text)
    return load_job(folder / "p.jsonl", {"model": "m", **options}, environment or {})


def test_every_way_is_the_same_schema(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class A(msgspec.Struct, forbid_unknown_fields=True):
        a: str

    monkeypatch.chdir(tmp_path)
    written = json.dumps(SCHEMA)
    (tmp_path / "s.json").write_text(written)
    ways = [
        loaded(tmp_path, 'fields = "a: str"'),
        loaded(tmp_path, 'schema = "s.json"'),
        loaded(
            tmp_path, '[schema]\ntype = "object"\nrequired = ["a"]\nadditionalProperties = false\nproperties.a.type = "string"'
        ),
        loaded(tmp_path, "", {"RUNNER_FIELDS": "a: str"}),
        loaded(tmp_path, "", {"RUNNER_SCHEMA": "s.json"}),
        loaded(tmp_path, schema="s.json"),
        loaded(tmp_path, schema=written),
        loaded(tmp_path, schema=SCHEMA),
        loaded(tmp_path, fields="a:str"),
        # what is given last counts
        loaded(tmp_path, 'fields = "b: int"', schema="s.json"),
        loaded(tmp_path, 'schema = "s.json"\n', {"RUNNER_FIELDS": "b: int"}, fields=" a : str "),
    ]
    assert [job.schema for job in ways] == [SCHEMA] * len(ways)
    assert {job.fields for job in ways} == {None}
    assert len({json.dumps(job.answer_settings(), sort_keys=True) for job in ways}) == 1
    made = loaded(tmp_path, schema=A).schema
    assert made is not None
    assert {name: made[name] for name in SCHEMA} == SCHEMA
    (tmp_path / "sub").mkdir()
    assert ways[0].sources["schema"] == f"a: str ({tmp_path / 'p.toml'})"
    restored = restore_job(ways[0].stored(), {}, {"RUNNER_FIELDS": "b: int", "RUNNER_REPAIRS": "3"})
    assert (restored.schema, restored.fields, restored.repairs) == (SCHEMA, None, 3)


@pytest.mark.parametrize(
    ("text", "options", "words"),
    [
        ('fields = "a: str"\nschema = "s.json"', {}, "schema and fields exclude each other"),
        (
            "",
            {"fields": "a: str", "schema": SCHEMA},
            "schema and fields exclude each other; choose one of them (option --schema)",
        ),
        ('schema = "../s.json"', {}, "schema must be in the folder of its job file"),
        ('schema = "none.json"', {}, "none.json cannot be read: No such file"),
        ("schema = 3", {}, "schema must be a JSON Schema: a file, a JSON object"),
        ("schema = []", {}, "schema must be a JSON Schema"),
        ("", {"schema": ""}, "schema must be a text that is not empty"),
        ("", {"schema": {}}, "all fit {}"),
        ("", {"schema": '{"a": 1'}, "must be one JSON object; it ends in the middle of its JSON (option --schema)"),
        ("", {"schema": int}, "is"),
        ("", {"schema": {"type": float("nan")}}, "contains nan"),
        ("", {"fields": "a"}, "'a' has no type"),
        ("", {"schema_mode": "strict"}, "schema_mode must be auto or response_format or tool or guided or none"),
        ("", {"repairs": -1}, "repairs must be a whole number of 0 or more"),
        ("repairs = true", {}, "repairs must be a whole number"),
    ],
)
def test_a_mistake_is_one_sentence(tmp_path: Path, text: str, options: dict[str, Any], words: str) -> None:
    if options.get("schema") is int:
        assert loaded(tmp_path, **options).schema == {"type": "integer"}
        return
    with pytest.raises(UsageError) as caught:
        loaded(tmp_path, text, **options)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_way_in_which_it_is_sent_comes_from_every_source(tmp_path: Path) -> None:
    text = 'schema_mode = "tool"'
    assert loaded(tmp_path).schema_mode is None
    assert loaded(tmp_path, text).schema_mode == "tool"
    assert loaded(tmp_path, text, {"RUNNER_SCHEMA_MODE": "none"}).schema_mode == "none"
    assert loaded(tmp_path, text, {"RUNNER_SCHEMA_MODE": "none"}, schema_mode="guided").schema_mode == "guided"


def test_a_damaged_schema_in_a_store_is_an_error_of_the_store(tmp_path: Path) -> None:
    stored = loaded(tmp_path, fields="a: str").stored()
    with pytest.raises(StoreError, match="a setting of the run is damaged: schema must be"):
        restore_job({**stored, "schema": 3}, {}, {})


def test_the_command_that_does_it_again_has_what_was_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "s.json").write_text(json.dumps(SCHEMA))
    for option, value, word in (("fields", "a: str", "--fields 'a: str'"), ("schema", "s.json", "--schema s.json")):
        job = loaded(tmp_path, **{option: value})
        limited = SessionOptions(limit=3)
        assert word in again.Again(job, limited, tmp_path / "r.db", 1).raising("--max-cost 3")
    assert read_toml(tmp_path / "p.toml") == {}
