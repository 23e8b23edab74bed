"""What rows say themselves, what programs write into prompt files, and broken rows: from the file to the export."""

import csv
import gzip
import io
import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from processes import Ended, assert_clean, piped, run
from raw_server import RawServer, anthropic_answer, in_thread, openai_answer

from runner.store.reader import StoreReader


class Bench:
    """A prompt file, a store, and a server that answers everything and remembers what it was asked."""

    def __init__(self, folder: Path, server: RawServer, dialect: str) -> None:
        self.folder, self.server, self.dialect = folder, server, dialect
        self.db = folder / "runner.db"

    def write(self, *rows: Any, name: str = "p.jsonl") -> None:
        lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
        (self.folder / name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")

    @property
    def job(self) -> tuple[str, ...]:
        return ("--provider", self.dialect, "--model", "m", "--base-url", self.server.base_url)

    def run(self, *options: str, file: str = "p.jsonl", command: str = "run") -> Ended:
        return run(command, *([file, *self.job] if command in ("run", "check") else ()), *options, cwd=self.folder)

    def bodies(self) -> list[dict[str, Any]]:
        """Return the requests since the last call."""
        found = [request.json for request in self.server.requests]
        self.server.requests.clear()
        return found

    def exported(self, *options: str) -> list[dict[str, Any]]:
        ended = run("export", "-o", "-", "--format", "jsonl", *options, cwd=self.folder)
        assert ended.code == 0, ended
        return [json.loads(line) for line in ended.out.splitlines()]

    def ask(self, question: str) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self.db)) as connection, connection:
            return connection.execute(question).fetchall()


@pytest.fixture(params=["openai", "anthropic"])
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    answer = openai_answer if request.param == "openai" else anthropic_answer
    with in_thread(RawServer(lambda _: answer("yes"))) as server:
        yield Bench(tmp_path, server, request.param)


def system_of(body: dict[str, Any]) -> Any:
    if "system" in body:
        return body["system"]
    return next((message["content"] for message in body["messages"] if message["role"] == "system"), None)


ROWS = [
    {"id": "plain", "prompt": "a"},
    {"id": "own", "prompt": "b", "model": "other", "system": "Be brief.", "temperature": 0.5, "max_tokens": 7.0, "topic": "t"},
    {"id": "both", "prompt": "c", "params": {"temperature": 1}, "temperature": 1.0},
]


def test_settings_beside_the_prompt_reach_the_server_and_the_export(bench: Bench) -> None:
    bench.write(*ROWS)
    checked = bench.run(command="check")
    note = "the rows set system, model, max_tokens and temperature themselves (row_settings = false makes such fields plain data)"
    assert note in checked.out
    ended = bench.run()
    assert ended.code == 0, ended
    assert note in ended.out
    plain, own, both = sorted(bench.bodies(), key=lambda body: body["messages"][-1]["content"])
    assert (plain["model"], system_of(plain), "temperature" in plain) == ("m", None, False)
    limit = own.get("max_tokens", own.get("max_completion_tokens"))
    assert (own["model"], system_of(own), own["temperature"], limit, type(limit)) == ("other", "Be brief.", 0.5, 7, int)
    assert both["temperature"] == 1
    exported = {row["id"]: row for row in bench.exported()}
    assert {name: exported["own"][name] for name in ROWS[1] if name != "prompt"} == {
        name: value for name, value in ROWS[1].items() if name != "prompt"
    }


def test_a_setting_that_is_edited_is_a_changed_row(bench: Bench) -> None:
    bench.write(*ROWS)
    assert bench.run().code == 0
    bench.bodies()
    bench.write(ROWS[0], {**ROWS[1], "temperature": 0.75}, ROWS[2])
    ended = bench.run()
    assert (ended.code, bench.bodies()) == (0, [])
    assert "1 finished row has changed since" in ended.out
    assert bench.run("--accept-changes").code == 0
    (body,) = bench.bodies()
    assert body["temperature"] == 0.75


def test_fields_of_a_request_that_are_not_sent_are_named(bench: Bench) -> None:
    tools = [{"type": "function", "function": {"name": "f"}}]
    bench.write(
        {"prompt": "a", "tools": tools, "tool_choice": "auto", "top_k": None}, {"prompt": "b", "extra_body": {"tools": tools}}
    )
    note = "tool_choice and tools of the rows are kept as data and not sent; in extra_body a row sends them"
    assert note in bench.run(command="check").out
    assert note in bench.run().out
    assert [body.get("tools") for body in sorted(bench.bodies(), key=lambda body: body["messages"][-1]["content"])] == [
        None,
        tools,
    ]
    # a template that names them sends them in its own way, and what a job calls data needs no word
    for options in (("--prompt", "Say {{ tools }}{{ tool_choice }}", "--limit", "1"), ("--no-row-settings",)):
        assert "kept as data" not in bench.run(*options, command="run" if "--limit" in options else "check").out


def test_columns_that_are_plain_data(bench: Bench) -> None:
    bench.write({"id": "a", "prompt": "x", "model": "Golf", "temperature": "hot"}, {"id": "b", "prompt": "y", "model": "Polo"})
    assert 'temperature must be a number, not "hot"; row_settings = false makes it plain data' in bench.run(command="check").out
    (bench.folder / "p.toml").write_text("row_settings = false\n")
    for options in ((), ("--no-row-settings",)):
        checked = bench.run(*options, command="check")
        assert (checked.code, "the rows set" in checked.out) == (0, False)
    assert bench.run().code == 0
    assert {body["model"] for body in bench.bodies()} == {"m"}
    assert [(row["model"], row["temperature"]) for row in bench.exported()] == [("Golf", "hot"), ("Polo", None)]
    # and the other way round: nothing is bought again
    ended = bench.run("--row-settings")
    assert (ended.code, bench.bodies()) == (0, [])
    assert "2 finished rows have changed since" in ended.out


def test_a_run_of_an_earlier_version_reports_its_rows_and_buys_none_again(bench: Bench) -> None:
    bench.write(*ROWS)
    assert bench.run("--no-row-settings").code == 0
    bench.bodies()
    # as they were stored then: the hash of the bytes alone, and no such setting
    bench.ask("UPDATE runs SET input_digest = substr(input_digest, 1, 32), settings = json_remove(settings, '$.row_settings')")
    for ended in (bench.run(), bench.run("1", command="resume")):
        assert (ended.code, bench.bodies()) == (0, []), ended
        assert "2 finished rows have changed since" in ended.out
        assert "its input has changed" not in ended.out
    assert bench.run("--accept-changes").code == 0
    assert {body["model"] for body in bench.bodies()} == {"m", "other"}
    assert "nothing is sent" in bench.run().out


# -- broken rows

BROKEN = [
    '{"id": "comma", "prompt": "x",}',
    '{"id": "half", "prompt": "\\ud800"}',
    '{"id": 7.0, "prompt": "cut',
    '{"id": "clash", "prompt": "x", "seed": 1, "params": {"seed": 2}}',
    '{"id": "hot", "prompt": "x", "temperature": "hot"}',
    '{"id": "none", "prompt": NaN}',
]
KEYS = ["comma", "half", 7, "clash", "hot", "none"]


def test_broken_rows_keep_their_ids_and_their_repair_replaces_them(bench: Bench) -> None:
    bench.write({"id": "good", "prompt": "g"}, *BROKEN)
    ended = bench.run()
    assert ended.code == 1, ended
    assert len(bench.bodies()) == 1
    rows = bench.exported()
    assert [row["id"] for row in rows] == ["good", *KEYS]
    assert [row["error_code"] for row in rows] == [None, *["bad_row"] * 6]
    assert "half a character" in rows[2]["error"]
    assert json.loads(run("errors", "--json", cwd=bench.folder).out)[0]["example_id"] == "comma"
    bench.write({"id": "good", "prompt": "g"}, *({"id": key, "prompt": f"mended {key}"} for key in KEYS))
    assert bench.run().code == 0
    assert sorted(body["messages"][-1]["content"] for body in bench.bodies()) == sorted(f"mended {key}" for key in KEYS)
    assert [(row["id"], row["status"], row["error"]) for row in bench.exported()] == [
        (key, "done", None) for key in ["good", *KEYS]
    ]
    assert bench.ask("SELECT count(*) FROM items") == [(7,)]


def test_an_answer_outlives_a_line_that_is_broken_later(bench: Bench) -> None:
    bench.write({"id": "a", "prompt": "x"}, {"id": "b", "prompt": "y"})
    assert bench.run().code == 0
    bench.write('{"id": "a", "prompt": "x",}', {"id": "b", "prompt": "y"})
    for options in ((), ("--accept-changes",)):
        assert "changed" in bench.run(*options).out
        assert [(row["id"], row["status"]) for row in bench.exported()] == [("a", "done"), ("b", "done")]
    assert len(bench.bodies()) == 2


def test_the_id_of_a_broken_row_counts_for_duplicates(bench: Bench) -> None:
    bench.write(
        '{"id": "a", "prompt": "x",}',
        {"id": "b", "prompt": "y"},
        {"id": "a", "prompt": "x"},
        {"id": 1, "prompt": "z"},
        '{"id": 1.0}',
    )
    ended = bench.run()
    assert (ended.code, bench.bodies()) == (2, [])
    assert "2 duplicate ids: 'a' on lines 1 and 3; '1' on lines 4 and 5" in ended.err


def test_nan_is_null_and_said(bench: Bench) -> None:
    bench.write(
        '{"id": "a", "prompt": "x", "score": NaN, "temperature": NaN}', '{"id": NaN, "prompt": "y"}', {"id": "c", "prompt": "z"}
    )
    checked = bench.run(command="check")
    assert (checked.code, "2 rows hold NaN or Infinity, which is read as null" in checked.out) == (0, True)
    assert json.loads(bench.run("--json", command="check").out)["nulls"] == 2
    ended = bench.run()
    assert (ended.code, "2 rows hold NaN or Infinity, which is read as null" in ended.out) == (0, True)
    assert all("temperature" not in body for body in bench.bodies())
    assert [row["score"] for row in bench.exported()] == [None, None, None]
    assert "nothing is sent" in bench.run().out


def test_ids_that_pandas_wrote_as_floats_are_the_same_rows(bench: Bench) -> None:
    bench.write(*({"id": number, "prompt": f"{number}"} for number in range(3)))
    assert bench.run().code == 0
    bench.bodies()
    bench.write(*({"id": float(number), "prompt": f"{number}"} for number in range(4)))
    assert bench.run().code == 0
    assert [body["messages"][-1]["content"] for body in bench.bodies()] == ["3"]
    assert [row["id"] for row in bench.exported()] == [0, 1, 2, 3]


# -- other shapes

READ = {
    "array": '[\n{"id": 1, "prompt": "x"},\n{"id": 2, "prompt": "y"}\n]\n',
    "pretty": json.dumps({"id": 1, "prompt": "x"}, indent=2) + "\n" + json.dumps({"id": 2, "prompt": "y"}, indent=2),
    "inside of an array": '{"id": 1, "prompt": "x"},\n{"id": 2, "prompt": "y"}\n',
    "CR": '{"id": 1, "prompt": "x"}\r{"id": 2, "prompt": "y"}\r',
    "UTF-16": '{"id": 1, "prompt": "x"}\n{"id": 2, "prompt": "y"}\n',
    "batch": "".join(
        json.dumps({"custom_id": key, "body": {"messages": [{"role": "user", "content": text}]}}) + "\n"
        for key, text in (("1", "x"), ("2", "y"))
    ),
    "csv": "id,prompt\n1,x\n2,y\n",
}
REFUSED = {
    "text": "Why is the sky blue?\n",
    "page": "<!doctype html>\n<p>",
    "Python": "{'prompt': 'x'}\n{'prompt': 'y'}\n",
    "batch results": '{"custom_id": "a", "response": {}}\n',
}


@pytest.mark.parametrize("name", READ)
def test_another_shape_is_read_whatever_its_name(bench: Bench, name: str) -> None:
    content = READ[name].encode("utf-16" if name == "UTF-16" else "utf-8")
    (bench.folder / "p.data").write_bytes(content)
    (bench.folder / "p.data.gz").write_bytes(gzip.compress(content))
    for file in ("p.data", "p.data.gz", "-"):
        words = ("run", file, "--new", *bench.job)
        ended = piped(*words, given=content, cwd=bench.folder) if file == "-" else run(*words, cwd=bench.folder)
        assert ended.code == 0, ended
        assert sorted(body["messages"][-1]["content"] for body in bench.bodies()) == ["x", "y"]
    assert bench.ask("SELECT DISTINCT key FROM items ORDER BY 1") == [("1",), ("2",)]


@pytest.mark.parametrize("name", REFUSED)
def test_another_file_is_refused_before_anything_is_sent(bench: Bench, name: str) -> None:
    content = REFUSED[name].encode()
    (bench.folder / "p.data").write_bytes(content)
    (bench.folder / "p.jsonl.gz").write_bytes(gzip.compress(content))
    job = ("--provider", "simulator")
    for command in ("run", "check"):
        ways = [run(command, file, *job, cwd=bench.folder) for file in ("p.data", "p.jsonl.gz")]
        for ended in [*ways, piped(command, "-", *job, given=content, cwd=bench.folder)]:
            assert (ended.code, ended.out) == (2, ""), ended
            assert ended.err.startswith("runner: ")
            assert ended.err.count("\n") == 1
    assert not bench.db.exists()
    assert list(bench.folder.glob("*-stdin-*")) == []


def test_rows_in_a_txt_file_are_read(bench: Bench) -> None:
    bench.write({"id": "a", "prompt": "x"}, name="p.txt")
    assert bench.run(file="p.txt").code == 0
    assert len(bench.bodies()) == 1


# -- the output of machines

NASTY = "é\x7f\x9b31m\u202e\u2066\u200f"
LOCALES: dict[str, dict[str, str]] = {
    "C": {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
    "latin-1": {"PYTHONIOENCODING": "latin-1"},
}
EVENTS = ("run", "job.toml", "--json")
COMMANDS = [
    ("check", "job.toml", "--json"),
    ("run", "job.toml", "--show-config", "--json"),
    EVENTS,
    ("status", "--json"),
    ("list", "--json"),
    ("errors", "--json"),
    ("export", "-o", "-", "--format", "jsonl"),
]


def texts(value: Any) -> Iterator[str]:
    """Yield every text inside of a value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | dict):
        for part in [*value, *value.values()] if isinstance(value, dict) else value:
            yield from texts(part)


@pytest.mark.parametrize("name", LOCALES)
def test_machine_output_is_utf8_and_harmless_in_any_locale(tmp_path: Path, name: str) -> None:
    rows = ({"id": NASTY, "prompt": "x", NASTY: NASTY}, {"id": f"{NASTY}2", "prompt": ""})
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    system = json.dumps(NASTY, ensure_ascii=True).replace("\x7f", "\\u007f")
    (tmp_path / "job.toml").write_text(f'input = "p.jsonl"\nprovider = "simulator"\nsystem = {system}\n')
    for command in COMMANDS:
        ended = run(*command, cwd=tmp_path, env=LOCALES[name])
        assert ended.code in (0, 1), ended
        assert not set(ended.out) & set(NASTY[1:].replace("31m", "")), command
        lines = ended.out.split("\n")[:-1] if command in (EVENTS, COMMANDS[-1]) else [ended.out]
        found = [text for line in lines for text in texts(json.loads(line))]
        assert any(NASTY in text for text in found), command


def test_an_export_for_excel_says_what_it_changed(tmp_path: Path) -> None:
    rows = [{"id": "=1+1", "prompt": "x", "note": "-abc"}, {"id": "@b", "prompt": "", "note": "+1"}]
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert run("run", "p.jsonl", "--provider", "simulator", cwd=tmp_path).code == 1
    ended = run("export", "-o", "a.csv", "--csv-excel", cwd=tmp_path)
    assert_clean(ended)
    assert ended.out == "run 1: 2 of 2 rows written to a.csv\n"
    content = (tmp_path / "a.csv").read_bytes()
    assert content.startswith(b"\xef\xbb\xbf")
    table = list(csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline="")))
    assert [(row["id"], row["note"]) for row in table] == [("=1+1", "-abc"), ("@b", "+1")]
    escaped = run("export", "-o", "-", "--csv-escape", cwd=tmp_path)
    assert "'=1+1" in escaped.out
    written, note = escaped.err.splitlines()
    assert written == "run 1: 2 of 2 rows written to standard output"
    assert note == "4 cells begin with =, +, - or @ and got a leading apostrophe; --csv-raw writes them as they are"
    assert run("export", "-o", "-", "--csv-escape", "--quiet", cwd=tmp_path).err == ""
    assert run("export", "-o", "-", "--csv-escape", "--csv-raw", cwd=tmp_path).code == 2
    with StoreReader(tmp_path / "runner.db") as reader:
        assert [result.id for result in reader.results(1)] == ["=1+1", "@b"]
