"""What ``export`` writes of real runs: the manifest, chats, several files at once, bytes to standard output."""

import base64
import hashlib
import json
import os
import pty
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import jsonschema
import openpyxl
import pyarrow.parquet as pq
import pytest
from desk import Desk
from processes import run
from raw_server import Received, Reply, anthropic_answer, openai_answer, whole

import runner as package
from runner.errors import UsageError
from runner.session.starting import candidates

SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "reference" / "manifest.schema.json").read_text())
PRICES = {"m": {"input": 1.0, "output": 2.0}}


def ask(desk: Desk, source: str | Path | None = None, **more: Any) -> package.RunSummary:
    given = {"model": "m", "base_url": desk.server.base_url, **more}
    return package.run(source or desk.prompts, db=desk.store, **given)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def manifest_of(desk: Desk, name: str = "a.csv", **flags: Any) -> dict[str, Any]:
    package.export(desk.folder / name, db=desk.store, manifest=True, **flags)
    found: dict[str, Any] = json.loads((desk.folder / f"{name}.manifest.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.validate(found, SCHEMA, format_checker=jsonschema.FormatChecker())
    return found


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_an_export_is_written_again_where_its_path_is_longer_than_a_database_may_have(desk: Desk) -> None:
    ask(desk)
    folder = desk.folder.joinpath(*["x" * 100] * 6)
    folder.mkdir(parents=True)
    written = [package.export(folder / "a.csv", db=desk.store) and sha256(folder / "a.csv") for _ in range(2)]
    assert written[0] == written[1]
    # what begins like a database stays
    sqlite3.connect(desk.folder / "other.db").execute("CREATE TABLE mine (a)").connection.close()
    shutil.copy(desk.folder / "other.db", folder / "b.csv")
    with pytest.raises(UsageError, match="holds a database"):
        package.export(folder / "b.csv", db=desk.store)


def test_a_manifest_has_what_the_store_has(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "sk-very-secret-1")
    desk.asked.refused["prompt 3"] = whole("422 Unprocessable Entity", {"error": {"message": "no"}})
    ask(desk, prices=PRICES, headers={"x-key": "${SECRET}"}, extra_body={"user": ["sk-abcdefgh12345678"]}, temperature=0.5)
    found = manifest_of(desk, only="done", columns="id,text")
    output = desk.folder / "a.csv"
    assert found["export"] == {
        "file": "a.csv", "format": "csv", "bytes": output.stat().st_size, "sha256": sha256(output), "rows": 11,
        "columns": ["id", "text"], "options": {"only": "done", "columns": "id,text"},
    }  # fmt: skip
    assert found["input"] == {
        "of_run": None, "rows": 12, "unchanged": True,
        "files": [{"file": "prompts.jsonl", "bytes": desk.prompts.stat().st_size, "sha256": sha256(desk.prompts)}],
    }  # fmt: skip
    run_, totals = package.status(db=desk.store)
    counts = [found["outcomes"][name] for name in ("rows", "done", "failed", "left", "failed_by_code", "finish_reasons")]
    assert counts == [12, 11, 1, 0, {"bad_request": 1}, {"stop": 11}]
    assert (found["attempts"], found["run"]["number"]) == ({"all": 12, "failed": {"bad_request": 1}}, run_.id)
    assert [found["cost"][name] for name in ("cost", "cost_perhaps", "currency")] == [totals.cost, totals.cost_perhaps, "USD"]
    assert totals.cost
    assert found["tokens"]["output_tokens"] == totals.output_tokens
    assert (found["settings"]["temperature"], found["settings"]["model"]) == (0.5, "m")
    text = (desk.folder / "a.csv.manifest.json").read_text()
    assert not [secret for secret in ("sk-very-secret-1", "sk-abcdefgh", str(desk.folder)) if secret in text]


def test_a_manifest_tells_what_has_changed_since(desk: Desk) -> None:
    desk.asked.refused["prompt 3"] = whole("422 Unprocessable Entity", {"error": {"message": "no"}})
    ask(desk)
    desk.asked.refused.clear()
    package.retry(db=desk.store, temperature=0.25)
    kept = desk.prompts.read_bytes()
    assert manifest_of(desk)["other_settings"] == [{"temperature": 0.25}]
    for content, unchanged in ((kept + b'{"id": "new", "prompt": "x"}\n', True), (kept[:-3] + b'x"}\n', False), (b"", False)):
        desk.prompts.write_bytes(content)
        assert manifest_of(desk)["input"]["unchanged"] is unchanged
    desk.prompts.unlink()
    gone = manifest_of(desk, "b.xlsx")["input"]
    assert (gone["unchanged"], gone["files"]) == (None, [{"file": "prompts.jsonl", "bytes": None, "sha256": None}])


def test_a_manifest_of_other_inputs(desk: Desk) -> None:
    desk.write([{"id": "a", "text": "x"}])
    (desk.folder / "more").mkdir()
    (desk.folder / "more" / "b.jsonl").write_text('{"id": "b", "text": "y"}\n')
    ask(desk, [desk.prompts, desk.folder / "more" / "b.jsonl"], prompt="Say {{ text }}", answers=2)
    found = manifest_of(desk)
    assert [one["file"] for one in found["input"]["files"]] == ["prompts.jsonl", "more/b.jsonl"]
    assert (found["input"]["unchanged"], found["outcomes"]["answers_of_a_row"], found["outcomes"]["left"]) == (True, 2, 0)
    texts = {"messages": None, "prompt": "Say {{ text }}", "system": None}
    assert found["template_sha256"] == hashlib.sha256(json.dumps(texts, separators=(",", ":")).encode()).hexdigest()
    ask(desk, "run:1", prompt="Right? {{ answer }}")
    assert manifest_of(desk)["input"] == {"of_run": 1, "rows": 4, "unchanged": None, "files": []}
    ask(desk, [{"prompt": "a"}, {"prompt": "b"}])
    assert manifest_of(desk, "m.jsonl", format="messages")["export"]["columns"] is None


# -- chats


PNG = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==")
PART = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{base64.b64encode(PNG).decode()}"}}
CHATS: list[dict[str, Any]] = [
    {"id": "a", "prompt": "p", "system": "Mine."},
    {"id": "b", "messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]},
    {"id": "c", "prompt": "refused"},
    {"id": "d", "messages": [{"role": "user", "content": [{"type": "text", "text": "z"}, PART]}]},
    {"id": "e", "prompt": "look", "images": "pic.png"},
    {"id": "f", "messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "pic.png"}}]}]},
]


@pytest.mark.parametrize("dialect", ["openai", "anthropic"])
def test_chats_have_the_messages_that_were_sent(desk: Desk, dialect: str) -> None:
    (desk.folder / "pic.png").write_bytes(PNG)
    desk.write(CHATS)

    def answer(request: Received) -> Reply:
        if request.json["messages"][-1]["content"] == "refused":
            return whole("422 Unprocessable Entity", {"error": {"type": "invalid_request_error", "message": "no"}})
        return openai_answer("A") if dialect == "openai" else anthropic_answer("A")

    desk.server.answers = answer
    ask(desk, provider=dialect, system="Ours.", max_tokens=5, answers=2)
    counts = package.export(desk.folder / "chats.jsonl", db=desk.store, format="messages", notes=(notes := []))
    made, said = lines(desk.folder / "chats.jsonl"), {"role": "assistant", "content": "A"}
    system = [{"role": "system", "content": "Ours."}]
    asked = [
        [{"role": "system", "content": "Mine."}, {"role": "user", "content": "p"}],
        *([*system, *CHATS[place]["messages"]] for place in (1, 3)),
    ]
    assert [line["messages"] for line in made] == [[*messages, said] for messages in asked for _ in range(2)]
    assert counts == 6
    if dialect == "openai":
        sent = [request.json["messages"] for request in desk.server.requests]
        assert [sent.count(messages) for messages in asked] == [2] * 3
    assert notes == [
        "2 rows without an answer left out (failed)",
        "4 rows left out: the store does not have all that was asked (files, or keep_rows = false)",
    ]


def test_rows_that_were_not_kept_are_no_chats(desk: Desk) -> None:
    ask(desk, keep_rows=False)
    assert package.export(desk.folder / "chats.jsonl", db=desk.store, format="messages", notes=(notes := [])) == 0
    assert notes[0].startswith("12 rows left out: the store does not have all that was asked")


# -- the command


def test_one_command_writes_several_files(desk: Desk) -> None:
    said = desk.run("-o", "a.parquet", "-o", "b.xlsx", "--limit", "5")
    assert said.endswith("run 1: 5 of 12 rows written to a.parquet\nrun 1: 5 of 12 rows written to b.xlsx\n")
    assert pq.read_table(desk.folder / "a.parquet")["text"].to_pylist() == [f"echo prompt {one}" for one in range(5)]
    desk.run("-o", "c.sqlite", "-q")
    ended = run("export", "-o", "d.jsonl", "--as", "messages", "-o", "-", "--format", "md", "--columns", "id", cwd=desk.folder)
    assert (ended.code, ended.out) == (2, "")
    assert "--columns means nothing for messages" in ended.err
    command = ("export", "-o", "d.jsonl", "--as", "messages", "-o", "-", "--format", "md", "--only", "done", "--manifest")
    assert "--manifest writes a file beside the export" in run(*command, cwd=desk.folder).err
    ended = run(*command[:-1], cwd=desk.folder)
    assert ended.out.splitlines()[:3] == [
        "| id | prompt | text | status | error |",
        *ended.out.splitlines()[1:2],
        "| row-0 | prompt 0 | echo prompt 0 | done |  |",
    ]
    assert ended.err == "run 1: 12 of 12 rows written to d.jsonl\nrun 1: 12 of 12 rows written to standard output\n"
    for options, words in (
        (("-o", "x.csv", "-o", "x.csv"), "x.csv is named twice"),
        (("-o", "x.xls"), "name it .csv, .jsonl, .md"),
    ):
        ended = run(*desk.command, *options, cwd=desk.folder)
        assert (ended.code, words in ended.err) == (2, True), ended
    assert not list(desk.folder.glob("x.*"))


def test_bytes_go_to_standard_output_and_not_to_a_terminal(desk: Desk) -> None:
    ask(desk)
    for kind, name in (("parquet", "a.parquet"), ("sqlite", "a.sqlite"), ("xlsx", "a.xlsx")):
        script = f'"$0" -m runner export -o - --format {kind} | cat > {name}'
        done = subprocess.run(["sh", "-c", script, sys.executable], cwd=desk.folder, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "run 1: 12 of 12 rows written to standard output\n")
    assert pq.read_table(desk.folder / "a.parquet").num_rows == 12
    assert openpyxl.load_workbook(desk.folder / "a.xlsx").active.max_row == 13
    with closing(sqlite3.connect(desk.folder / "a.sqlite")) as connection:
        assert connection.execute("SELECT count(*) FROM answers WHERE status = 'done'").fetchone() == (12,)
    ours, theirs = pty.openpty()
    try:
        command = [sys.executable, "-m", "runner", "export", "-o", "-", "--format", "parquet"]
        shown = subprocess.run(command, cwd=desk.folder, stdout=theirs, stderr=subprocess.PIPE, text=True, check=False)
    finally:
        os.close(ours)
        os.close(theirs)
    assert (shown.returncode, "this format is not for a terminal" in shown.stderr) == (2, True)


def test_what_an_export_writes_is_no_input_of_a_pattern(desk: Desk) -> None:
    desk.prompts.rename(desk.folder / "rows.jsonl")
    names = ["a.parquet", "a.xlsx", "a.sqlite", "a.csv"]
    ask(desk, desk.folder / "rows.jsonl")
    package.export([desk.folder / name for name in names], db=desk.store, manifest=True)
    ended = run("check", "[ar]*", "--model", "m", "--base-url", desk.server.base_url, cwd=desk.folder)
    assert "12 rows, 0 broken" in ended.out
    assert "a.csv.manifest.json (of an export)" in ended.out
    # nor one for which a job file would be written
    assert [path.name for path in candidates(desk.folder)] == ["rows.jsonl"]
