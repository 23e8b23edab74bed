"""Files that others made are read as they stand, asked by a template, and continued like JSON lines; the export has it all."""

import csv
import gzip
import io
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import recorded
from desk import Asked, Desk
from openpyxl import Workbook
from processes import piped, run
from raw_server import RawServer, in_thread, whole

ASK = ("--prompt", "Classify: {{ text }}")


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    asked = Asked()
    with in_thread(RawServer(asked)) as server:
        yield Desk(tmp_path, server, asked)


def start(desk: Desk, name: str, *options: str) -> str:
    return desk.run(*options, command=("run", name, "--model", "m", "--base-url", desk.server.base_url))


def exported(desk: Desk, *options: str) -> list[dict[str, Any]]:
    ended = run("export", "-o", "-", "--format", "jsonl", *options, cwd=desk.folder)
    assert ended.code == 0, ended
    return [json.loads(line) for line in ended.out.splitlines()]


@pytest.mark.parametrize("name", [name for name in recorded.FILES if not name.startswith(recorded.READ_ONLY)])
def test_a_file_that_another_program_made(desk: Desk, name: str) -> None:
    options, texts = recorded.FILES[name]
    shutil.copy(recorded.FOLDER / name, desk.folder / name)
    start(desk, name, *ASK, *options)
    assert desk.asked == dict.fromkeys([f"Classify: {text}" for text in texts], 1)
    results = exported(desk)
    assert [one["input_text"] for one in results] == texts
    assert [one["prompt"] for one in results] == [f"Classify: {text}" for text in texts]
    assert [one["text"] for one in results] == [f"echo Classify: {text}" for text in texts]
    assert [str(one["id"]) for one in results] == ["1", "2", "3"][: len(texts)]
    # the same command again sends nothing, and resume finds the reader by itself
    start(desk, name, *ASK, *options)
    desk.run(command=("resume", "1"))
    assert desk.asked.total() == len(texts)


# -- a file that changes, in each format that can


def as_csv(folder: Path, records: list[dict[str, str]]) -> str:
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, list(records[0]))
    writer.writeheader()
    writer.writerows(records)
    (folder / "a.csv").write_text(out.getvalue())
    return "a.csv"


def as_csv_gz(folder: Path, records: list[dict[str, str]]) -> str:
    (folder / "a.csv.gz").write_bytes(gzip.compress((folder / as_csv(folder, records)).read_bytes()))
    return "a.csv.gz"


def as_json(folder: Path, records: list[dict[str, str]]) -> str:
    (folder / "a.json").write_text(json.dumps(records, indent=2))
    return "a.json"


def as_parquet(folder: Path, records: list[dict[str, str]]) -> str:
    pq.write_table(pa.Table.from_pylist(records), folder / "a.parquet", row_group_size=3)
    return "a.parquet"


def as_xlsx(folder: Path, records: list[dict[str, str]]) -> str:
    book = Workbook()
    for cells in (list(records[0]), *(list(record.values()) for record in records)):
        book.active.append(cells)
    book.save(folder / "a.xlsx")
    return "a.xlsx"


def as_txt(folder: Path, records: list[dict[str, str]]) -> str:
    (folder / "a.txt").write_text("".join(f"{record['text']}\n" for record in records))
    return "a.txt"


Write = Callable[[Path, list[dict[str, str]]], str]
WRITERS: list[Write] = [as_csv, as_csv_gz, as_json, as_parquet, as_xlsx, as_txt]


def records(first: int, last: int) -> list[dict[str, str]]:
    return [{"id": f"r{number}", "text": f"text {number}", "more": str(number)} for number in range(first, last)]


@pytest.mark.parametrize("write", WRITERS)
def test_a_file_that_grows_shrinks_and_is_sorted_buys_nothing_again(desk: Desk, write: Write) -> None:
    ask = ("--prompt", "Classify: {{ prompt }}") if write is as_txt else ASK
    name = write(desk.folder, records(0, 8))
    start(desk, name, *ask, "--limit", "5")
    assert desk.asked.total() == 5
    write(desk.folder, [*records(0, 8)[::-1], *records(8, 10)])
    start(desk, name, *ask)
    assert desk.asked == {f"Classify: text {number}": 1 for number in range(10)}
    write(desk.folder, records(3, 10))
    said = start(desk, name, *ask)
    assert "3 rows are no longer in the file" in said
    assert desk.asked.total() == 10


@pytest.mark.parametrize("write", [as_csv, as_json, as_parquet, as_xlsx])
def test_a_field_that_the_template_does_not_name_changes_no_row(desk: Desk, write: Write) -> None:
    name = write(desk.folder, records(0, 4))
    start(desk, name, *ASK)
    changed = records(0, 4)
    changed[1]["more"] = "other"
    write(desk.folder, changed)
    assert "changed since;" not in start(desk, name, *ASK).replace("input has changed since", "")
    changed[2]["text"] = "new text"
    write(desk.folder, changed)
    assert "1 finished row has changed since" in start(desk, name, *ASK)
    start(desk, name, *ASK, "--accept-changes")
    assert desk.asked == {**{f"Classify: text {number}": 1 for number in range(4)}, "Classify: new text": 1}


# -- a part of the rows


def test_another_part_of_the_rows_continues_the_run(desk: Desk) -> None:
    name = as_csv(desk.folder, records(0, 12))
    said = start(desk, name, *ASK, "--where", "more | int < 4")
    assert "run 1 finished: 4 done, 0 failed of 4 rows" in said
    assert "nothing is sent" in start(desk, name, *ASK, "--where", "more | int < 4")
    desk.run(command=("resume", "1"))
    assert desk.asked.total() == 4
    # more rows are more rows of the same file
    start(desk, name, *ASK, "--where", "more | int < 6")
    start(desk, name, *ASK)
    assert desk.asked == {f"Classify: text {number}": 1 for number in range(12)}
    assert "8 rows are not among the chosen rows" in start(desk, name, *ASK, "--where", "more | int < 4")
    assert desk.asked.total() == 12


def test_a_sample_is_continued_as_a_sample(desk: Desk) -> None:
    name = as_csv(desk.folder, records(0, 40))
    start(desk, name, *ASK, "--sample", "10", "--limit", "4")
    desk.run(command=("resume", "1"))
    assert desk.asked.total() == 10
    start(desk, name, *ASK, "--sample", "15")
    assert desk.asked.total() == 15
    assert set(desk.asked.values()) == {1}


@pytest.mark.parametrize("ids", [True, False], ids=["ids", "no ids"])
def test_only_the_columns_that_are_kept_come_out_and_nothing_is_bought_again(desk: Desk, *, ids: bool) -> None:
    rows = [{name: value for name, value in record.items() if ids or name != "id"} for record in records(0, 3)]
    name = as_csv(desk.folder, rows)
    ask = ("--prompt", "{{ text }} {{ more }}", "--where", "more != '2'")
    start(desk, name, *ask, "--columns", "id,text")
    for one, number in zip(exported(desk), range(2), strict=True):
        # the prompt needs a field that is not kept for itself
        assert (one["input_text"], one["prompt"], "more" in one) == (f"text {number}", f"text {number} {number}", False)
    # the rows are the same whatever is kept of them
    start(desk, name, *ask)
    start(desk, name, *ask, "--columns", "more")
    assert desk.asked.total() == 2


def test_a_condition_that_no_row_meets(desk: Desk) -> None:
    name = as_csv(desk.folder, records(0, 2))
    assert "a.csv has no row for which --where" in refused(desk, name, *ASK, "--where", "more == 'x'")
    assert "where is no expression" in refused(desk, name, *ASK, "--where", "more ==")


# -- templates


def test_another_template_is_another_run(desk: Desk) -> None:
    name = as_csv(desk.folder, records(0, 3))
    start(desk, name, *ASK)
    said = start(desk, name, "--prompt", "Sum up: {{ text }}")
    assert "prompt (Classify: {{ text }} -> Sum up: {{ text }}) changed since run 1, so this starts a new run" in said
    # and the first one is found again
    start(desk, name, *ASK)
    assert desk.asked.total() == 6


def test_a_retry_keeps_the_template(desk: Desk) -> None:
    name = as_csv(desk.folder, records(0, 3))
    desk.asked.refused["Classify: text 1"] = whole("422 Unprocessable Entity", {"error": {"message": "no"}})
    desk.run(*ASK, command=("run", name, "--model", "m", "--base-url", desk.server.base_url), code=1)
    messages = '[{"role": "user", "content": "x"}]'
    for command in ("retry", "resume"):
        for options in (("--prompt", "Sum up: {{ text }}"), ("--system", "Be brief."), ("--messages", messages)):
            ended = run(command, "1", *options, cwd=desk.folder)
            assert (ended.code, ended.out) == (2, "")
            assert "run 1 keeps its template; to ask in other words, start a new run: `runner run" in ended.err
    desk.asked.refused.clear()
    desk.run("--temperature", "0", command=("retry", "1"))
    assert desk.asked.total() == 4
    assert [one["prompt"] for one in exported(desk)] == [f"Classify: text {number}" for number in range(3)]


def test_a_template_in_a_file_and_in_the_job_file(desk: Desk) -> None:
    as_csv(desk.folder, records(0, 2))
    (desk.folder / "ask.txt").write_text("From a file: {{ text }}\n")
    start(desk, "a.csv", "--prompt-file", "ask.txt")
    (desk.folder / "a.toml").write_text('prompt_file = "ask.txt"\n')
    # the same words are the same template
    start(desk, "a.csv")
    assert desk.asked == {"From a file: text 0": 1, "From a file: text 1": 1}
    (desk.folder / "a.toml").write_text(
        'system = "in {{ more }}"\n[[messages]]\nrole = "user"\ncontent = "One: {{ text }}"\n'
        '[[messages]]\nrole = "assistant"\ncontent = "Yes"\n[[messages]]\nrole = "user"\ncontent = "Two"\n'
    )
    start(desk, "a.csv", "--limit", "1")
    assert desk.server.requests[-1].json["messages"] == [
        {"role": "system", "content": "in 0"},
        {"role": "user", "content": "One: text 0"},
        {"role": "assistant", "content": "Yes"},
        {"role": "user", "content": "Two"},
    ]
    assert exported(desk)[0]["prompt"] == desk.server.requests[-1].json["messages"][1:]


def refused(desk: Desk, name: str, *options: str) -> str:
    ended = run("run", name, "--model", "m", "--base-url", desk.server.base_url, *options, cwd=desk.folder)
    assert (ended.code, ended.out, desk.asked.total()) == (2, "", 0), ended
    (line,) = ended.err.splitlines()
    return line


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ((), "a.csv has no column prompt; its columns: id, text, more. A template says what to ask"),
        ((), "e.g. --prompt 'Summarize: {{ text }}'"),
        (
            ("--prompt", "Ask: {{ id }}", "--columns", "id,txt"),
            "--columns names the field 'txt', which no row of a.csv has; its fields: id, ",
        ),
        (("--prompt", "Ask: {id}"), "the template names no field: {{ id }} stands for the field, {id} for itself"),
        (
            ("--prompt", "Ask: {{ id }}", "--where", "id == 1"),
            "--where 'id == 1' holds, so there is nothing to send; the cells of a CSV are texts: score | float makes",
        ),
        (("--prompt", "{{ txt }} {{ more }}"), "the template names the field 'txt', which no row of a.csv has; its fields: id"),
        (("--prompt", "{{ text"), "prompt is no template: unexpected end of template"),
        (("--prompt", "{{ text }}", "--prompt-file", "a.csv"), "prompt and prompt_file exclude each other; choose one of them"),
        (("--prompt-file", "/dev/null"), "the template /dev/null is empty"),
        (("--prompt-file", "absent.txt"), "absent.txt cannot be read: No such file or directory"),
        (("--messages", '[{"role": "user"}]'), "messages must be a JSON list of objects with role and content"),
        (("--prompt", "{{ text }}", "--input-format", "cvs"), "there is no input format 'cvs'; did you mean 'csv'?"),
    ],
)
def test_what_cannot_be_asked_is_refused_before_anything_is_sent(desk: Desk, options: tuple[str, ...], words: str) -> None:
    assert words in refused(desk, as_csv(desk.folder, records(0, 3)), *options)


def test_check_says_why_run_would_refuse_and_what_asks_the_same(tmp_path: Path) -> None:
    name = as_csv(tmp_path, records(0, 3))
    checked = run("check", name, "--model", "m", "--prompt", "{{ txt }}", cwd=tmp_path)
    assert checked.code == 2
    assert "`runner run` would refuse to start: the template names the field 'txt', which no row of a.csv has" in checked.out
    checked = run("check", name, "--model", "m", "--prompt", "Ask", cwd=tmp_path)
    assert checked.code == 0
    assert "the template names no field of a row, so each row asks the same" in checked.out


@pytest.mark.parametrize("prompt", ["{{ id }} {{ text }}", "{{ row | tojson }}"])
def test_a_template_that_names_the_id_is_shown_as_it_was_sent(desk: Desk, prompt: str) -> None:
    rows = [{"lang": "de", "id": "r1", "text": "a", "params": {"seed": 1}}, {"text": "b", "id": 2}]
    (desk.folder / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    start(desk, "a.jsonl", "--prompt", prompt, "--columns", "lang")
    results = exported(desk)
    assert [one["id"] for one in results] == ["r1", 2]
    assert dict.fromkeys([one["prompt"] for one in results], 1) == desk.asked
    assert all(one["prompt"] in run("show", str(one["id"]), cwd=desk.folder).out for one in results)


def test_an_id_that_another_column_replaces_is_not_asked_by_its_name(desk: Desk) -> None:
    (desk.folder / "a.csv").write_text("id,sku,text\n1,A,x\n")
    words = "the template names id, but 'sku' is the id here (--id-column); the field id of the rows is called id_2"
    assert words in refused(desk, "a.csv", "--prompt", "{{ id }}", "--id-column", "sku")
    start(desk, "a.csv", "--prompt", "{{ id_2 }} {{ sku }}", "--id-column", "sku")
    assert desk.asked == {"1 A": 1}


def test_a_job_file_sends_no_file_from_elsewhere(desk: Desk) -> None:
    inner = desk.folder / "sent"
    inner.mkdir()
    as_csv(inner, records(0, 2))
    (desk.folder / "secret.txt").write_text("secret {{ text }}")
    for name in ("../secret.txt", str(desk.folder / "secret.txt")):
        (inner / "a.toml").write_text(f"prompt_file = {json.dumps(name)}\n")
        assert "prompt_file must be in the folder of its job file" in refused(desk, "sent/a.csv")
    (inner / "link.txt").symlink_to(desk.folder / "secret.txt")
    (inner / "a.toml").write_text('prompt_file = "link.txt"\n')
    assert "prompt_file must be in the folder of its job file" in refused(desk, "sent/a.csv")


def test_a_job_file_names_no_module_as_its_format(desk: Desk) -> None:
    as_csv(desk.folder, records(0, 2))
    (desk.folder / "reads.py").write_text("raise SystemExit('it ran')\n")
    (desk.folder / "a.toml").write_text('prompt = "{{ text }}"\ninput_format = "reads"\n')
    assert "names the input format 'reads', which would run a module of that name" in refused(desk, "a.csv")


def test_a_row_without_a_field_is_a_broken_one_and_the_others_are_asked(desk: Desk) -> None:
    (desk.folder / "a.jsonl").write_text('{"id": "a", "text": "x"}\n{"id": "b"}\n{"id": "c", "text": null}\n')
    desk.run(*ASK, command=("run", "a.jsonl", "--model", "m", "--base-url", desk.server.base_url), code=1)
    assert desk.asked == {"Classify: x": 1}
    by_id = {one["id"]: one for one in exported(desk)}
    assert by_id["b"]["error"] == "line 2: no field 'text', which the template names"
    assert by_id["c"]["error"] == "line 3: text is null"
    # mended, they are the same rows
    (desk.folder / "a.jsonl").write_text('{"id": "a", "text": "x"}\n{"id": "b", "text": "y"}\n{"id": "c", "text": "z"}\n')
    start(desk, "a.jsonl", *ASK)
    assert desk.asked == {"Classify: x": 1, "Classify: y": 1, "Classify: z": 1}


def test_standard_input_of_any_format(desk: Desk) -> None:
    as_csv(desk.folder, records(0, 2))
    text = (desk.folder / "a.csv").read_text()
    command = ("run", "-", "--model", "m", "--base-url", desk.server.base_url, *ASK)
    for options in ((), ("--input-format", "csv")):
        ended = piped(*command, *options, given=text.encode(), cwd=desk.folder)
        assert ended.code == 0, ended
    assert desk.asked == {"Classify: text 0": 1, "Classify: text 1": 1}


def test_without_the_rows_the_store_holds_no_prompt(desk: Desk) -> None:
    (desk.folder / "a.jsonl").write_text('{"id": "a", "prompt": "a secret question", "topic": "x"}\n')
    start(desk, "a.jsonl", "--no-keep-rows")
    assert exported(desk)[0] | {"prompt": None, "topic": "x"} == exported(desk)[0]
    assert b"a secret question" not in desk.store.read_bytes().replace(b"echo a secret question", b"")
    start(desk, "a.jsonl", "--new")
    assert exported(desk)[0]["prompt"] == "a secret question"
    assert "prompt" not in exported(desk, "--no-prompt")[0]


def test_check_shows_the_requests_as_they_would_be_sent(desk: Desk) -> None:
    (desk.folder / "a.csv").write_text('id,text\na,middle one\nb,"the longest\none of all"\nc,x\nd,\n')
    ended = run("check", "a.csv", "--prompt", "Say {{ text }}", "--provider", "simulator", cwd=desk.folder)
    assert ended.code == 0, ended
    assert "first request (line 2, 14 characters): Say middle one\n" in ended.out
    assert "longest request (line 3, 26 characters): Say the longest" in ended.out
    assert "shortest request (line 6, 4 characters): Say" in ended.out
    (desk.folder / "b.csv").write_text("id,text\na,only\n")
    ended = run("check", "b.csv", "--prompt", "{{ text }}", "--provider", "simulator", cwd=desk.folder)
    assert ended.out.count(" request (line ") == 1
    (desk.folder / "c.jsonl").write_text('{"prompt": "own"}\n{"prompt": "a longer one"}\n')
    ended = run("check", "c.jsonl", "--provider", "simulator", cwd=desk.folder)
    assert "first request (line 1, 3 characters): own\nlongest request (line 2, 12 characters): a longer one\n" in ended.out
    assert desk.asked.total() == 0
