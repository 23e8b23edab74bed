"""``runner.export`` and ``runner.results``: the columns, the rows, and a file that is complete or absent."""

import csv
import io
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from filling import OURS, broken, done, failed, filled, read_csv, read_jsonl
from msgspec import structs
from syncing import Named, named

import runner
from runner.errors import StoreError, UsageError
from runner.exports.file import open_output
from runner.model import Usage


@pytest.fixture
def store(tmp_path: Path) -> Path:
    full = Usage(input_tokens=3, output_tokens=5, cached_tokens=0, reasoning_tokens=1)
    return filled(
        tmp_path / "runner.db",
        done("a", 1, usage=full, metadata={"lang": "en", "n": 7}),
        failed("b", 2),
        broken("row-c", 3),
        done("4", 4, metadata={"id": 4, "tags": ["x"]}),
    )


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """An empty folder for exports, so that left-over files are seen."""
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


def test_the_columns_of_a_csv(store: Path, out: Path) -> None:
    assert runner.export(out / "a.csv", db=store) == 4
    assert list(read_csv(out / "a.csv")[0]) == ["id", "lang", "n", "tags", *OURS]


def test_the_fields_of_a_jsonl(store: Path, out: Path) -> None:
    assert runner.export(out / "a.jsonl", db=store) == 4
    for row in read_jsonl(out / "a.jsonl"):
        assert list(row) == ["id", "lang", "n", "tags", *OURS]


def test_a_finished_row(store: Path, out: Path) -> None:
    runner.export(out / "a.jsonl", db=store)
    assert read_jsonl(out / "a.jsonl")[0] == {
        "id": "a", "lang": "en", "n": 7, "tags": None, "prompt": None, "text": "yes", "status": "done", "finish_reason": "stop",
        "error_code": None, "error": None, "served_model": "m-1", "input_tokens": 3, "output_tokens": 5, "cached_tokens": 0,
        "reasoning_tokens": 1, "attempts": 2, "time_to_first_token_s": 0.25, "duration_s": 1.5,
        "reasoning": "hidden", "refusal": None, "tool_calls": None, "citations": None, "logprobs": None, "line": 1,
        "reused_from": None, "cost": None, "cost_perhaps": None,
    }  # fmt: skip


def test_a_failed_row_and_a_broken_line_are_there_and_say_why(store: Path, out: Path) -> None:
    runner.export(out / "a.jsonl", db=store)
    _, b, c, _ = read_jsonl(out / "a.jsonl")
    assert (b["id"], b["status"], b["text"], b["error_code"], b["error"]) == ("b", "failed", None, "cut", "the connection broke")
    assert (b["attempts"], b["duration_s"]) == (5, 0.5)
    assert (c["id"], c["status"], c["error_code"], c["error"]) == ("row-c", "failed", "bad_row", "line 3: not JSON")
    assert c["attempts"] == 0


UNKNOWN = ["input_tokens", "output_tokens", "cached_tokens", "reasoning_tokens"]


def test_unknown_is_empty_or_null_and_never_zero(store: Path, out: Path) -> None:
    runner.export(out / "a.jsonl", db=store)
    runner.export(out / "a.csv", db=store)
    for name in [*UNKNOWN, "time_to_first_token_s"]:
        assert [row[name] for row in read_jsonl(out / "a.jsonl")][1:3] == [None, None]
        assert [row[name] for row in read_csv(out / "a.csv")][1:3] == ["", ""]
    # a reported zero stays one
    assert read_csv(out / "a.csv")[0]["cached_tokens"] == "0"
    assert [read_jsonl(out / "a.jsonl")[3][name] for name in UNKNOWN] == [None] * 4


def test_an_id_that_was_a_number_stays_one(store: Path, out: Path) -> None:
    runner.export(out / "a.jsonl", db=store)
    last = read_jsonl(out / "a.jsonl")[3]
    assert (last["id"], last["tags"]) == (4, ["x"])


def test_results_give_the_same_rows_as_values(store: Path) -> None:
    results = list(runner.results(db=store))
    assert [(one.id, one.status) for one in results] == [("a", "done"), ("b", "failed"), ("row-c", "failed"), (4, "done")]
    assert all(isinstance(one, runner.Result) for one in results)
    assert (results[0].metadata, results[0].input_tokens, results[3].input_tokens) == ({"lang": "en", "n": 7}, 3, None)


def test_results_that_are_not_read_to_the_end(store: Path) -> None:
    assert next(runner.results(db=store)).id == "a"


def test_the_newest_run_by_default_and_any_by_number(store: Path, out: Path) -> None:
    filled(store, done("second", 1))
    assert [one.id for one in runner.results(db=store)] == ["second"]
    assert next(runner.results(1, db=store)).id == "a"
    assert runner.export(out / "a.csv", db=store) == 1
    assert runner.export(out / "a.csv", run_id=1, db=store) == 4
    for call in (lambda: runner.export(out / "b.csv", run_id=9, db=store), lambda: list(runner.results(9, db=store))):
        with pytest.raises(UsageError, match="there is no run 9"):
            call()
    assert not (out / "b.csv").exists()


def test_a_missing_store(tmp_path: Path, out: Path) -> None:
    for call in (
        lambda: runner.export(out / "a.csv", db=tmp_path / "no.db"),
        lambda: list(runner.results(db=tmp_path / "no.db")),
    ):
        with pytest.raises(UsageError, match="there is no store"):
            call()
    assert list(out.iterdir()) == []


def test_a_run_without_outcomes_exports_a_header(tmp_path: Path, out: Path) -> None:
    path = filled(tmp_path / "runner.db")
    assert runner.export(out / "a.csv", db=path) == 0
    assert (out / "a.csv").read_text() == ",".join(f'"{name}"' for name in ["id", *OURS]) + "\n"
    assert runner.export(out / "a.jsonl", db=path) == 0
    assert (out / "a.jsonl").read_bytes() == b""


def names_of(tmp_path: Path, *metadata: dict[str, Any]) -> list[dict[str, Any]]:
    path = filled(tmp_path / "names.db", *(done(f"k{n}", n, metadata=one) for n, one in enumerate(metadata)))
    runner.export(tmp_path / "names.jsonl", db=path)
    runner.export(tmp_path / "names.csv", db=path)
    header = (tmp_path / "names.csv").read_text().partition("\n")[0]
    rows = read_jsonl(tmp_path / "names.jsonl")
    assert next(csv.reader([header])) == list(rows[0])
    return rows


@pytest.mark.parametrize("name", OURS[1:])
def test_a_field_that_bears_the_name_of_one_of_ours_gets_a_prefix(tmp_path: Path, name: str) -> None:
    (row,) = names_of(tmp_path, {name: "mine"})
    assert list(row) == ["id", f"input_{name}", *OURS]
    assert row[f"input_{name}"] == "mine"
    assert row[name] != "mine"


def test_a_prefixed_name_that_is_taken_too(tmp_path: Path) -> None:
    (row,) = names_of(tmp_path, {"text": 1, "input_text": 2, "input_input_text": 3, "tokens": 4, "input_tokens": 5})
    assert len(row) == 1 + 5 + len(OURS)
    assert {1, 2, 3, 4, 5} <= {value for value in row.values() if isinstance(value, int)}
    assert (row["input_text"], row["tokens"], row["text"]) == (2, 4, "yes")


def test_a_field_that_bears_the_name_of_no_column_keeps_it(tmp_path: Path) -> None:
    (row,) = names_of(tmp_path, {"metadata": 1, "key": 2, "position": 3, "Text": 4})
    assert list(row) == ["id", "metadata", "key", "position", "Text", *OURS]


def test_own_fields_stand_in_the_order_of_their_first_appearance(tmp_path: Path) -> None:
    rows = names_of(tmp_path, {"z": 1, "b": 2}, {"b": 3, "a": 4, "z": 5})
    assert list(rows[0])[:4] == ["id", "z", "b", "a"]
    assert [[row[name] for name in ("z", "b", "a")] for row in rows] == [[1, 2, None], [5, 3, 4]]


def test_no_field_is_lost_whatever_its_name(tmp_path: Path) -> None:
    fields = {"": 1, "a.b": 2, 'quo"ted': 3, "new\nline": 4, "nul\0inside": 5, "ü😀": 6}
    (row,) = names_of_jsonl(tmp_path, fields)
    assert {name: row.get(name) for name in fields} == fields


def names_of_jsonl(tmp_path: Path, fields: dict[str, Any]) -> list[dict[str, Any]]:
    path = filled(tmp_path / "names.db", done("k", 1, metadata=fields))
    runner.export(tmp_path / "names.jsonl", db=path)
    return read_jsonl(tmp_path / "names.jsonl")


def test_texts_survive_a_csv_and_formulas_are_made_harmless(tmp_path: Path, out: Path) -> None:
    text = 'a,"b"\r\n=1+1\n\u2028é😀'
    path = filled(tmp_path / "runner.db", done("=id", 1, text=text), done("b", 2, text="=cmd|' /C calc'!A0"))
    runner.export(out / "safe.csv", db=path)
    runner.export(out / "raw.csv", db=path, raw=True)
    runner.export(out / "a.jsonl", db=path, raw=True)
    safe, raw = read_csv(out / "safe.csv"), read_csv(out / "raw.csv")
    assert [row["text"] for row in safe] == [text, "'=cmd|' /C calc'!A0"]
    assert safe[0]["id"] == "=id"
    assert [row["text"] for row in raw] == [text, "=cmd|' /C calc'!A0"]
    assert [row["text"] for row in read_jsonl(out / "a.jsonl")] == [text, "=cmd|' /C calc'!A0"]


def test_ids_and_own_fields_of_a_csv_are_never_changed_unless_asked(tmp_path: Path, out: Path) -> None:
    own = {"=field": "=1+1", "plus": "+49 30", "list": ["=x"]}
    path = filled(
        tmp_path / "runner.db",
        done("=1+1", 1, text="=2+3", metadata=own),
        done("-abc", 2, text="- item", metadata={**own, "plus": "@home"}),
        done("c", 3, text="plain"),
    )
    notes: list[str] = []
    runner.export(out / "a.csv", db=path, notes=notes)
    rows = read_csv(out / "a.csv")
    assert [(row["id"], row.get("=field"), row["plus"], row["text"]) for row in rows] == [
        ("=1+1", "=1+1", "+49 30", "'=2+3"),
        ("-abc", "=1+1", "@home", "'- item"),
        ("c", "", "", "plain"),
    ]
    assert notes == ["2 cells begin with =, +, - or @ and got a leading apostrophe; --csv-raw writes them as they are"]
    runner.export(out / "escaped.csv", db=path, csv_escape=True, notes=(asked := []))
    first = read_csv(out / "escaped.csv")[0]
    assert (first["id"], first["'=field"], first["plus"], first["text"]) == ("'=1+1", "'=1+1", "'+49 30", "'=2+3")
    assert asked[0].startswith("9 cells begin with ")
    runner.export(out / "raw.csv", db=path, raw=True, notes=(raw := []))
    assert raw == []
    with pytest.raises(UsageError, match="--csv-raw and --csv-escape exclude each other"):
        runner.export(out / "b.csv", db=path, raw=True, csv_escape=True)
    assert not (out / "b.csv").exists()


@pytest.mark.parametrize("answer", ["text", "error", "finish_reason", "served_model"])
def test_what_others_wrote_is_escaped_in_every_column(tmp_path: Path, out: Path, answer: str) -> None:
    outcome = done("a", 1)
    attempt, completion = outcome.attempt, outcome.completion
    assert attempt is not None
    assert completion is not None
    evil = "=HYPERLINK(1)"
    changed = {
        "text": {"completion": structs.replace(completion, text=evil)},
        "finish_reason": {"completion": structs.replace(completion, finish_reason=evil)},
        "served_model": {"attempt": structs.replace(attempt, served_model=evil)},
        "error": {"status": "failed", "completion": None, "error_code": "cut", "error": evil},
    }[answer]
    path = filled(tmp_path / "runner.db", structs.replace(outcome, **changed))
    runner.export(out / "a.csv", db=path)
    assert read_csv(out / "a.csv")[0][answer] == f"'{evil}"


def test_a_csv_for_excel_has_a_mark_and_the_same_ids(tmp_path: Path, out: Path) -> None:
    path = filled(tmp_path / "runner.db", done("=1", 1, text="é", metadata={"q": "-x"}))
    runner.export(out / "a.csv", db=path)
    runner.export(out / "excel.csv", db=path, csv_excel=True)
    assert (out / "excel.csv").read_bytes() == b"\xef\xbb\xbf" + (out / "a.csv").read_bytes()
    (row,) = csv.DictReader(io.StringIO((out / "excel.csv").read_bytes().decode("utf-8-sig"), newline=""))
    assert (row["id"], row["q"], row["text"]) == ("=1", "-x", "é")


def test_a_nul_that_csv_cannot_hold_is_said(tmp_path: Path, out: Path) -> None:
    path = filled(tmp_path / "runner.db", done("a", 1, text="x\0y"))
    runner.export(out / "a.csv", db=path, notes=(notes := []))
    assert notes == ["1 cell held a NUL or half a character, which CSV cannot hold; JSONL keeps the NUL"]
    assert read_csv(out / "a.csv")[0]["text"] == "xy"


OBEYED = "\x7f\x85\x9b31m\u061c\u200e\u200f\u202e\u2066\u2069"


def test_jsonl_holds_nothing_that_a_terminal_obeys_and_the_same_values(tmp_path: Path, out: Path) -> None:
    path = filled(tmp_path / "runner.db", done("a", 1, text=OBEYED + "é😀\u200d", metadata={OBEYED: OBEYED}))
    runner.export(out / "a.jsonl", db=path)
    written = (out / "a.jsonl").read_text(encoding="utf-8")
    assert not set(written) & set(OBEYED.replace("31m", ""))
    assert "é😀\u200d" in written
    (row,) = read_jsonl(out / "a.jsonl")
    assert (row["text"], row[OBEYED]) == (OBEYED + "é😀\u200d", OBEYED)


@pytest.mark.parametrize("mask", [0, 0o022])
def test_an_export_is_private_whatever_the_umask(store: Path, out: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        for name in ("a.csv", "a.jsonl", "a.csv"):
            runner.export(out / name, db=store)
    finally:
        os.umask(before)
    assert {one.name: one.stat().st_mode & 0o777 for one in out.iterdir()} == {"a.csv": 0o600, "a.jsonl": 0o600}


def test_an_export_replaces_the_old_file_in_one_step(store: Path, out: Path) -> None:
    path = out / "a.csv"
    path.write_text("old")
    with path.open() as still_open:
        runner.export(path, db=store)
        assert still_open.read() == "old"
    assert path.read_text().startswith('"id"')


def break_in_the_middle(path: Path) -> None:
    with open_output(path) as file:
        file.write("half a file")
        file.flush()
        raise ZeroDivisionError


@pytest.mark.parametrize("old", [None, "old"])
def test_an_export_that_breaks_leaves_the_old_file_and_no_other(out: Path, old: str | None) -> None:
    if old is not None:
        (out / "a.csv").write_text(old)
    with pytest.raises(ZeroDivisionError):
        break_in_the_middle(out / "a.csv")
    assert {one.name: one.read_text() for one in out.iterdir()} == ({} if old is None else {"a.csv": old})


def test_a_file_appears_only_when_it_is_whole(out: Path) -> None:
    with open_output(out / "a.csv") as file:
        file.write("half")
        file.flush()
        assert not (out / "a.csv").exists()
        file.write(" and half")
    assert {one.name: one.read_text() for one in out.iterdir()} == {"a.csv": "half and half"}


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_an_export_is_on_the_disk_before_it_has_its_name(
    store: Path, out: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise a power cut could leave an empty file under the name of a complete one."""
    with named(monkeypatch) as files:
        runner.export(out / f"a.{kind}", db=store)
    size = (out / f"a.{kind}").stat().st_size
    assert files == [Named(f"a.{kind}", size, size)]


def test_a_store_that_breaks_during_an_export_leaves_no_file(store: Path, out: Path) -> None:
    subprocess.run(
        [sys.executable, "-c", "import sqlite3,sys; c=sqlite3.connect(sys.argv[1]); c.execute('DROP TABLE attempts')", store],
        check=True,
    )
    with pytest.raises(StoreError, match="no such table"):
        runner.export(out / "a.csv", db=store)
    assert list(out.iterdir()) == []


def test_a_link_is_followed_and_stays_one(store: Path, out: Path, tmp_path: Path) -> None:
    target, link = tmp_path / "real.csv", out / "a.csv"
    link.symlink_to(target)
    for _ in range(2):
        runner.export(link, db=store)
        assert link.is_symlink()
        assert len(read_csv(target)) == 4
    assert [one.name for one in out.iterdir()] == ["a.csv"]


def test_a_full_device_is_a_store_error(store: Path) -> None:
    with pytest.raises(StoreError, match="/dev/full cannot be written: No space left"):
        runner.export("/dev/full", db=store, format="csv")


def test_another_device_is_written_to_and_stays_one(store: Path) -> None:
    assert runner.export("/dev/null", db=store, format="jsonl") == 4
    assert Path("/dev/null").is_char_device()


@pytest.mark.parametrize("name", ["folder.csv", "folder.jsonl"])
def test_a_folder_is_refused(store: Path, out: Path, name: str) -> None:
    (out / name).mkdir()
    with pytest.raises(UsageError, match="it is a folder"):
        runner.export(out / name, db=store)
    assert list((out / name).iterdir()) == []


def test_a_missing_folder_is_refused_and_not_made(store: Path, out: Path) -> None:
    with pytest.raises(UsageError, match="folder does not exist"):
        runner.export(out / "no" / "a.csv", db=store)
    assert list(out.iterdir()) == []


def test_the_format_is_told_by_the_ending_or_by_name(store: Path, out: Path) -> None:
    runner.export(out / "A.CSV", db=store)
    runner.export(out / "a.txt", db=store, format="jsonl")
    assert len(read_csv(out / "A.CSV")) == len(read_jsonl(out / "a.txt")) == 4
    for name in ("a.xls", "a", "a.csv.gz"):
        with pytest.raises(UsageError, match=r"cannot tell the format of .*choose csv, jsonl, .* or xlsx with --format"):
            runner.export(out / name, db=store)
    with pytest.raises(UsageError, match="xml"):
        runner.export(out / "a.csv", db=store, format="xml")
    assert sorted(one.name for one in out.iterdir()) == ["A.CSV", "a.txt"]


def command(*arguments: str | Path, stdout: Any = subprocess.PIPE) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run([sys.executable, "-m", "runner", *arguments], stdout=stdout, stderr=subprocess.PIPE, check=False)


def test_a_dash_is_standard_output_as_csv_or_by_name(store: Path, out: Path) -> None:
    for kind, options in (("csv", []), ("csv", ["--format", "csv"]), ("jsonl", ["--format", "jsonl"])):
        runner.export(out / f"a.{kind}", db=store)
        found = command("export", "-o", "-", "--db", store, *options)
        assert (found.returncode, found.stderr) == (0, b"run 1: 4 of 4 rows written to standard output\n")
        assert found.stdout == (out / f"a.{kind}").read_bytes()


@pytest.mark.parametrize("name", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"])
@pytest.mark.parametrize("to_file", [False, True], ids=["pipe", "file"])
def test_standard_output_by_the_name_that_the_system_gives_it(store: Path, out: Path, name: str, to_file: bool) -> None:
    runner.export(out / "a.csv", db=store)
    with (out / "found").open("wb") as file:
        found = command("export", "-o", name, "--db", store, stdout=file if to_file else subprocess.PIPE)
    assert (found.returncode, found.stderr) == (0, b"run 1: 4 of 4 rows written to standard output\n")
    got = (out / "found").read_bytes() if to_file else found.stdout
    assert got == (out / "a.csv").read_bytes()
    assert sorted(one.name for one in out.iterdir()) == ["a.csv", "found"]


def test_another_open_file_by_its_number(store: Path, out: Path) -> None:
    runner.export(out / "a.jsonl", db=store)
    script = f'exec "$0" -m runner export -o /dev/fd/3 --format jsonl --db "$1" 3> "{out}/found"'
    done = subprocess.run(["sh", "-c", script, sys.executable, store], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert (out / "found").read_bytes() == (out / "a.jsonl").read_bytes()


def test_a_full_standard_output_is_a_sentence_and_the_code_of_storage(store: Path) -> None:
    with Path("/dev/full").open("wb") as full:
        found = command("export", "-o", "-", "--db", store, stdout=full)
    assert b"bug" not in found.stderr
    assert b"No space left" in found.stderr
    assert found.returncode == 4


def test_a_reader_of_standard_output_that_goes_away_is_no_error_of_ours(tmp_path: Path) -> None:
    path = filled(tmp_path / "runner.db", *(done(f"k{n}", n, text="x" * 1000) for n in range(500)))
    with subprocess.Popen(
        [sys.executable, "-m", "runner", "export", "-o", "-", "--db", path], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
