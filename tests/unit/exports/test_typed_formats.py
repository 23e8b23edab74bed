"""Parquet, sheets, SQLite, Markdown and chats: typed columns, limits, and texts of any kind, read back by other programs."""

import io
import json
import re
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import openpyxl
import pyarrow.parquet as pq
import pytest
from filling import OURS, done, failed, filled
from python_calamine import load_workbook

import runner
from runner.errors import StoreError, UsageError
from runner.exports.columns import columns
from runner.exports.formats import md, messages, parquet, xlsx
from runner.exports.formats import sqlite as sqlite_export
from runner.exports.kinds import OURS as KINDS
from runner.exports.kinds import Kinds, kind_of, typed
from runner.inputs import overwriting

NASTY = "=cmd|' /C calc'!A0\r\n<r>a & b</r>\0\x1b[31m\u202e😀 _x0041_ |pipe| \t`code`"
ROWS: list[dict[str, Any]] = [
    {"n": 1, "mixed": 5, "score": 1, "yes": True, "big": 2**70, "long": 10**17, "nested": {"a": [1, "é"]}},
    {"n": -3, "mixed": "5", "score": 0.5, "yes": None, "big": 1, "long": 7, "nested": None},
    {},
]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("store") / "runner.db"
    return filled(
        path, *(done(f"k{number}", number, text=NASTY, metadata=row) for number, row in enumerate(ROWS)), failed("b", 9)
    )


def read_sqlite(path: Path) -> list[dict[str, Any]]:
    with closing(sqlite3.connect(path)) as connection:
        connection.row_factory = sqlite3.Row
        return [dict(row) for row in connection.execute("SELECT * FROM answers")]


def read_parquet(path: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    return rows


def read_sheet(path: Path) -> list[dict[str, Any]]:
    names, *lines = load_workbook(path).get_sheet_by_index(0).to_python(skip_empty_area=False)
    return [dict(zip(names, (None if cell == "" else cell for cell in line), strict=True)) for line in lines]


EXPECTED = {
    "n": [1, -3, None, None],
    "mixed": ["5", "5", None, None],
    "score": [1.0, 0.5, None, None],
    "yes": [True, None, None, None],
    "big": [str(2**70), "1", None, None],
    "long": [10**17, 7, None, None],
    "nested": ['{"a":[1,"é"]}', None, None, None],
    "text": [NASTY, NASTY, NASTY, None],
    "attempts": [2, 2, 2, 5],
    "duration_s": [1.5, 1.5, 1.5, 0.5],
    "input_tokens": [None] * 4,
    "error": [None, None, None, "the connection broke"],
}


@pytest.mark.parametrize(("kind", "read"), [("parquet", read_parquet), ("sqlite", read_sqlite)])
def test_typed_columns_hold_what_the_store_holds(
    store: Path, tmp_path: Path, kind: str, read: Callable[[Path], list[dict[str, Any]]]
) -> None:
    assert runner.export(tmp_path / f"a.{kind}", db=store) == 4
    rows = read(tmp_path / f"a.{kind}")
    assert list(rows[0]) == ["id", *ROWS[0], *OURS]
    assert {name: [row[name] for row in rows] for name in EXPECTED} == EXPECTED


def test_a_sheet_holds_it_too_and_no_formula(store: Path, tmp_path: Path) -> None:
    assert runner.export(tmp_path / "a.xlsx", db=store) == 4
    rows = read_sheet(tmp_path / "a.xlsx")
    # a sheet has 15 digits
    expected = {
        **EXPECTED,
        "mixed": [5, "5", None, None],
        "big": [str(2**70), 1, None, None],
        "long": [str(10**17), 7, None, None],
    }
    assert {name: [row[name] for row in rows] for name in EXPECTED} == expected
    sheet = openpyxl.load_workbook(tmp_path / "a.xlsx").active
    assert {cell.data_type for line in sheet.iter_rows() for cell in line} <= {"s", "inlineStr", "n", "b"}


@pytest.mark.parametrize(
    "text", ["<r>a & b</r>", "<r><t>x</t></r>", "<r></r>", "=1+1", "http://x", "'=1", " \n", "_x000D_", "#REF!"]
)
def test_a_cell_of_a_sheet_is_its_text(tmp_path: Path, text: str) -> None:
    assert xlsx.write(["a"], [[text]], tmp_path / "a.xlsx") == 1
    ((cell,),) = load_workbook(tmp_path / "a.xlsx").get_sheet_by_index(0).to_python(skip_empty_area=False)[1:]
    assert cell == text


def test_whole_numbers_and_others_in_one_column_lose_no_digit() -> None:
    kinds = Kinds()
    for fields in (
        {"a": 2**53, "b": 2**53 + 1, "c": -(2**63)},
        {"a": 0.5, "b": 0.5, "c": None},
        {"c": 10**400, "d": False},
        {"d": 1},
    ):
        kinds.see(fields)
    assert [kinds.of(name) for name in "abcde"] == ["float", "other", "other", "other", "text"]
    assert [kind_of(values) for values in ([1, None], [2**63], [-(2**63)], [2**53 + 1, 0.5], [1, 0.5], [None])] == [
        *("int", "other", "int", "other", "float", None),
    ]


def test_the_types_are_those_of_the_columns(store: Path, tmp_path: Path) -> None:
    runner.export([tmp_path / "a.parquet", tmp_path / "a.sqlite"], db=store)
    found = {field.name: str(field.type) for field in pq.read_schema(tmp_path / "a.parquet")}
    names = ("id", "n", "mixed", "score", "yes", "big", "attempts", "cost", "prompt", "tool_calls")
    types = ["string", "int64", "string", "double", "bool", "string", "int64", "double", "string", "string"]
    assert [found[name] for name in names] == types
    with closing(sqlite3.connect(tmp_path / "a.sqlite")) as connection:
        declared = {row[1]: row[2] for row in connection.execute("PRAGMA table_info(answers)")}
    types = ["TEXT", "INTEGER", "TEXT", "REAL", "BOOLEAN", "TEXT", "INTEGER", "REAL", "TEXT", "TEXT"]
    assert [declared[name] for name in names] == types


def test_every_column_of_ours_has_a_kind() -> None:
    assert {"prompt", "tool_calls", "citations", "logprobs"} == {
        name for name, kind in KINDS.items() if kind == "other" and name not in ("id", "metadata")
    }


@pytest.mark.parametrize("kind", ["parquet", "sqlite", "xlsx", "md", "csv", "jsonl"])
def test_ids_that_are_numbers_and_no_rows(tmp_path: Path, kind: str) -> None:
    path = filled(tmp_path / "runner.db")
    assert runner.export(tmp_path / f"a.{kind}", db=path) == 0
    filled(path, done("1", 1, metadata={"id": 1}), done("2", 2, metadata={"id": 2}))
    assert runner.export(tmp_path / f"b.{kind}", db=path) == 2
    if kind == "parquet":
        assert (pq.read_table(tmp_path / "a.parquet").num_rows, read_parquet(tmp_path / "b.parquet")[1]["id"]) == (0, 2)


def test_rows_are_written_in_groups_and_long_texts_in_smaller_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "_ROWS", 3)
    monkeypatch.setattr(parquet, "_CHARACTERS", 100)
    out = io.BytesIO()
    texts = ["a"] * 4 + ["b" * 60] * 4
    assert parquet.write(["text"], ([text] for text in texts), out, kinds=["text"]) == 8
    found = pq.ParquetFile(io.BytesIO(out.getvalue()))
    assert [found.metadata.row_group(place).num_rows for place in range(found.num_row_groups)] == [3, 3, 2]
    assert found.read()["text"].to_pylist() == texts


def test_names_that_differ_in_capital_letters_only(tmp_path: Path) -> None:
    path = filled(tmp_path / "runner.db", done("a", 1, metadata={"Text": 1, "lang": 2, "LANG": 3, "a\0b": 4, 'q"': 5}))
    runner.export([tmp_path / "a.sqlite", tmp_path / "a.parquet"], db=path)
    (row,), (other,) = read_sqlite(tmp_path / "a.sqlite"), read_parquet(tmp_path / "a.parquet")
    own = {"input_Text": 1, "lang": 2, "input_LANG": 3, "ab": 4, 'q"': 5, "text": "yes"}
    assert {name: row[name] for name in own} == own
    assert {name: other[name] for name in ("Text", "lang", "LANG", "a\0b")} == {"Text": 1, "lang": 2, "LANG": 3, "a\0b": 4}


def test_half_characters_of_texts_and_names() -> None:
    assert columns(["\ud800", "\udfff", "a"])[1:4] == ["\ud800", "input_\udfff", "a"]
    (row,) = typed([["\ud800x", ["\ud800"], None]], ["text", "other", "float"])
    assert row == ["\ufffdx", '["\ufffd"]', None]


# -- limits


def test_a_text_that_is_too_long_for_a_sheet_is_cut_and_that_is_said(tmp_path: Path) -> None:
    whole, units, weird = "x" * 32_767, "😀" * 20_000, "<r>" + "&" * 40_000 + "</r>"
    path = filled(
        tmp_path / "runner.db", *(done(f"k{n}", n, text=text) for n, text in enumerate((whole, "y" * 10**6, units, weird)))
    )
    runner.export(tmp_path / "a.xlsx", db=path, notes=(notes := []))
    first, *cut = (row["text"] for row in read_sheet(tmp_path / "a.xlsx"))
    assert first == whole
    assert [text[-25:] for text in cut] == [
        *(f" [cut: {number} characters]"[-25:] for number in ("1,000,000", "20,000", "40,007")),
    ]
    assert [len(text.encode("utf-16-le")) // 2 for text in cut] == [32_767, 32_767, 32_767]
    (note,) = notes
    assert note == (
        "3 cells had more characters than the 32,767 of a sheet and are cut, as their ends say; "
        "CSV, JSONL, Parquet and SQLite have them whole"
    )


def test_more_rows_than_a_sheet_has_are_refused_before_it_is_written(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(xlsx, "MOST_ROWS", 3)
    with pytest.raises(UsageError, match="xlsx has room for 3 rows, and the export has 4; take another format, or fewer rows"):
        runner.export([tmp_path / "a.csv", tmp_path / "a.xlsx"], db=store)
    assert list(tmp_path.iterdir()) == []
    assert runner.export(tmp_path / "a.xlsx", db=store, only="done") == 3


@pytest.mark.parametrize(("kind", "most"), [("sqlite", 2_000), ("xlsx", 16_384)])
def test_more_columns_than_a_format_has(tmp_path: Path, kind: str, most: int) -> None:
    path = filled(tmp_path / "runner.db", done("a", 1, metadata={f"c{number}": number for number in range(most)}))
    with pytest.raises(
        UsageError, match=f"{kind} has room for {most:,} columns, and the export has {most + 24:,}; choose some with --columns"
    ):
        runner.export(tmp_path / f"a.{kind}", db=path)
    assert {one.name for one in tmp_path.iterdir()} <= {"runner.db", "runner.db-wal", "runner.db-shm", "runner.db-run1.lock"}
    assert runner.export(tmp_path / f"a.{kind}", db=path, columns="id,c5,text") == 1


# -- files


@pytest.mark.parametrize("kind", ["parquet", "sqlite", "xlsx", "md"])
def test_an_earlier_export_is_replaced_in_one_step(store: Path, tmp_path: Path, kind: str) -> None:
    output = tmp_path / f"a.{kind}"
    for _ in range(2):
        runner.export(output, db=store)
    assert [one.name for one in tmp_path.iterdir()] == [output.name]
    assert output.stat().st_mode & 0o777 == 0o600


def test_a_database_that_is_no_export_is_not_replaced(store: Path, tmp_path: Path) -> None:
    assert sqlite_export.APPLICATION_ID == overwriting.EXPORTED_DATABASE
    output = tmp_path / "a.sqlite"
    with closing(sqlite3.connect(output)) as connection:
        connection.execute("CREATE TABLE mine (x)")
    before = output.read_bytes()
    for name, kind in (("a.sqlite", None), ("a.sqlite", "sqlite")):
        with pytest.raises(UsageError, match=r"a\.sqlite holds a database that is no export, which the export would replace"):
            runner.export(tmp_path / name, db=store, format=kind)
    assert output.read_bytes() == before
    output.unlink()
    runner.export(output, db=store)
    # what another program has left is no part of the next export
    (tmp_path / "a.sqlite-journal").write_bytes(b"x")
    with pytest.raises(UsageError, match=r"changes of another program \(in a\.sqlite-journal\)"):
        runner.export(output, db=store)


@pytest.mark.parametrize("kind", ["parquet", "sqlite", "xlsx", "md"])
def test_a_full_disk_is_a_sentence(store: Path, kind: str) -> None:
    with pytest.raises(StoreError, match="/dev/full cannot be written: No space left"):
        runner.export("/dev/full", db=store, format=kind)


@pytest.mark.parametrize(
    ("name", "kind", "words"),
    [
        ("a.csv", "parquet", "a.csv would hold parquet, and not csv, as its ending says; name it .parquet"),
        ("a.xlsx", "sqlite", "name it .sqlite"),
        ("a.ods", "xlsx", "a.ods would hold xlsx, and not ods, as its ending says; name it .xlsx"),
        ("a.parquet.gz", "parquet", "a.parquet.gz would not be compressed, as its ending says; name it .parquet"),
        ("a.parquet", "messages", "name it .jsonl"),
        ("a.csv", "md", "name it .md"),
    ],
)
def test_a_name_that_says_something_else(store: Path, tmp_path: Path, name: str, kind: str, words: str) -> None:
    with pytest.raises(UsageError, match=re.escape(words)):
        runner.export(tmp_path / name, db=store, format=kind)
    assert list(tmp_path.iterdir()) == []


def test_other_endings_of_the_same_formats(store: Path, tmp_path: Path) -> None:
    names = ["a.sqlite3", "a.pq", "a.ndjson", "a.markdown"]
    assert runner.export([tmp_path / name for name in names], db=store) == [4] * 4
    assert len(read_sqlite(tmp_path / "a.sqlite3")) == len(read_parquet(tmp_path / "a.pq")) == 4
    assert runner.export(tmp_path / "b.sqlite3", db=store, format="sqlite") == 4


@pytest.mark.parametrize(("kind", "module"), [("parquet", "pyarrow.parquet"), ("xlsx", "xlsxwriter")])
def test_a_missing_package_is_named(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, module: str) -> None:
    monkeypatch.setitem(__import__("sys").modules, module, None)
    with pytest.raises(UsageError, match=rf"pip install 'prompt-runner\[{kind}\]'"):
        runner.export(tmp_path / f"a.{kind}", db=store)
    assert list(tmp_path.iterdir()) == []


# -- Markdown and chats


def test_markdown_is_for_a_glance(store: Path, tmp_path: Path) -> None:
    runner.export(tmp_path / "a.md", db=store)
    header, *lines = (tmp_path / "a.md").read_text(encoding="utf-8").split("\n")
    assert header == f"| id | {' | '.join(ROWS[0])} | prompt | text | status | error |"
    assert len(lines) == 1 + 4 + 1
    assert not set("".join(lines)) & set("\0\x1b\u202e\r")
    runner.export(tmp_path / "b.md", db=store, columns=["attempts", "id"])
    assert (tmp_path / "b.md").read_text().splitlines()[0::4] == ["| attempts | id |", "| 2 | k2 |"]


def test_markdown_obeys_nothing_and_shortens_what_is_long() -> None:
    out, notes = io.StringIO(), list[str]()
    md.write(["a_b"], [["<img src=x> ![x](http://x) &amp; $a$ ~~s~~ _e_ snake_case"], ["y" * 201], ["z" * 200]], out, notes=notes)
    _, _, first, second, third, _ = out.getvalue().split("\n")
    assert first == r"| \<img src=x> !\[x\](http://x) \&amp; \$a\$ \~~s\~~ \_e\_ snake_case |"
    assert (second, third) == (f"| {'y' * 199}… |", f"| {'z' * 200} |")
    assert notes == [
        "1 cell is longer than 200 characters and shortened, with … at the end; the other formats have the whole texts"
    ]


def chat(row: dict[str, Any]) -> tuple[list[dict[str, Any]], list[str]]:
    """Return the lines that chats make of rows that differ from a good one so, and what is said of them."""
    good = {
        "status": "done", "request": {"model": "m", "messages": [{"role": "user", "content": "Q"}], "seed": 1}, "text": "A",
        "finish_reason": "stop", "tool_calls": None, "refusal": None,
    }  # fmt: skip
    out, notes, whole = io.StringIO(), list[str](), {**good, **row}
    messages.write(list(whole), [list(whole.values())], out, notes=notes)
    return [json.loads(line) for line in out.getvalue().splitlines()], notes


def test_a_chat_is_what_was_sent_and_the_answer() -> None:
    user, calls = {"role": "user", "content": "Q"}, [{"id": "t", "name": "look", "arguments": "{}"}]
    assert chat({}) == ([{"messages": [user, {"role": "assistant", "content": "A"}]}], [])
    call = {"id": "t", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    tools = {"messages": [user], "tools": [{"type": "function"}], "parallel_tool_calls": False, "temperature": 0}
    (made,), _ = chat({"text": "", "tool_calls": calls, "finish_reason": "tool_use", "request": tools})
    assert made["messages"][1] == {"role": "assistant", "content": None, "tool_calls": [call]}
    assert made.keys() == {"messages", "tools", "parallel_tool_calls"}
    (made,), _ = chat({"text": "", "refusal": "No.", "finish_reason": "refusal"})
    assert made["messages"][1] == {"role": "assistant", "content": None, "refusal": "No."}
    (made,), _ = chat({"text": "\ud800"})
    assert made["messages"][1]["content"] == "\ufffd"


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"status": "failed"}, "1 row without an answer left out (failed)"),
        ({"request": None}, "1 row left out: the store does not have all that was asked (files, or keep_rows = false)"),
        ({"text": ""}, "1 row left out: the answer is empty"),
    ],
)
def test_what_is_no_chat_is_left_out_and_counted(row: dict[str, Any], words: str) -> None:
    assert chat(row) == ([], [words])


@pytest.mark.parametrize(("reason", "word"), [("max_tokens", "length"), ("refusal", "content_filter")])
def test_chats_that_may_be_cut_short_are_counted(reason: str, word: str) -> None:
    _, notes = chat({"finish_reason": reason})
    assert notes == [f"1 answer may be cut short (finish reason: {word} 1); --only whole leaves such answers out"]
