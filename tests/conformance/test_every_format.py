"""What every format of inputs and of exports must do: what goes in comes out, cell by cell. A new format is listed here."""

import bz2
import csv
import gzip
import io
import json
import lzma
import sqlite3
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias
from xml.sax.saxutils import escape

import openpyxl
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from desk import Asked
from markdown_it import MarkdownIt
from python_calamine import load_workbook
from raw_server import RawServer, in_thread

import runner
from runner.exports.formats import csv as csv_export
from runner.inputs.options import ReadOptions
from runner.session.opening import open_input

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

ROOT = Path(__file__).parents[2]
RECORDED = ROOT / "tests" / "recordings" / "exports"
Record: TypeAlias = dict[str, str]

TEXTS = (
    "plain",
    'quotes "a", \'b\' and "',
    "two\nlines, one end\n",
    "日本語 Größe 👩\u200d🚀 العربية",
    "007",
    "1e5",
    "",
    "  spaces  ",
    "a\ttab",
    "{{ review }} {% raw %}",
    "a;b|c,d",
    "NA",
    "null",
    "C:\\dir\\",
)
MANY = tuple(f"c{number}" for number in range(300))
ROWS: list[Record] = [
    {"id": f"r{place:03}", "review": text, "Größe": f"0{place}", "a 'b', c": text, **dict.fromkeys(MANY, str(place))}
    for place, text in enumerate(TEXTS)
]


def asked(row: Record) -> str:
    return f"Review: {row['review']}"


ON_ONE_LINE = [row for row in ROWS if row["review"].strip() and "\n" not in row["review"]]


def _table(rows: list[Record], delimiter: str) -> bytes:
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, list(rows[0]), delimiter=delimiter)
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue().encode()


def _batch(row: Record) -> str:
    body = {"model": "m", "messages": [{"role": "user", "content": asked(row)}]}
    return json.dumps({"custom_id": row["id"], "method": "POST", "url": "/v1/chat/completions", "body": body})


def _batch_result(row: Record) -> str:
    """Return a line as our export in that format has it."""
    body = {"model": "m", "messages": [{"role": "user", "content": asked(row)}]}
    answer = {"choices": [{"index": 0, "message": {"role": "assistant", "content": f"echo {asked(row)}"}}]}
    line = {
        "id": f"batch_req_{row['id']}",
        "custom_id": row["id"],
        "response": {"status_code": 200, "request_id": None, "body": answer},
        "error": None,
        "request": {"method": "POST", "url": "/v1/chat/completions", "body": body},
        "fields": {name: value for name, value in row.items() if name != "id"},
    }
    return json.dumps(line)


def _parquet(rows: list[Record]) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), out, row_group_size=4)
    return out.getvalue()


def _xlsx(rows: list[Record]) -> bytes:
    book, out = openpyxl.Workbook(), io.BytesIO()
    for number, cells in enumerate((list(rows[0]), *(list(row.values()) for row in rows)), 1):
        for place, cell in enumerate(cells, 1):
            # also what begins like a formula
            book.active.cell(number, place, cell or None).data_type = "s" if cell else "n"
    book.save(out)
    return out.getvalue()


_MANIFEST = 'xmlns:m="urn:oasis:names:tc:opendocument:xmlns:manifest:1.0"'


def _ods(rows: list[Record]) -> bytes:
    def cell(text: str) -> str:
        words = escape(text).replace("\t", "<text:tab/>").replace("  ", '<text:s text:c="2"/>')
        parts = "".join(f"<text:p>{line}</text:p>" for line in words.split("\n"))
        return f'<table:table-cell office:value-type="string">{parts}</table:table-cell>' if text else "<table:table-cell/>"

    names = " ".join(f'xmlns:{name}="urn:oasis:names:tc:opendocument:xmlns:{name}:1.0"' for name in ("office", "table", "text"))
    lines = (list(rows[0]), *(list(row.values()) for row in rows))
    table = "".join(f"<table:table-row>{''.join(map(cell, line))}</table:table-row>" for line in lines)
    content = (
        f"<office:body><office:spreadsheet><table:table table:name='A'>{table}</table:table></office:spreadsheet></office:body>"
    )
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as packed:
        packed.writestr("mimetype", "application/vnd.oasis.opendocument.spreadsheet")
        packed.writestr("META-INF/manifest.xml", f'<?xml version="1.0"?><m:manifest {_MANIFEST}/>')
        packed.writestr(
            "content.xml", f'<?xml version="1.0"?><office:document-content {names}>{content}</office:document-content>'
        )
    return out.getvalue()


class Case(NamedTuple):
    """An input format. module: its file. ending: of its files. made: the bytes of a file with rows. rows: that it can hold.

    kept: the fields of a row that it can hold. job: what the job says. packed: it may be compressed.
    """

    module: str
    ending: str
    made: Callable[[list[Record]], bytes]
    rows: list[Record] = ROWS
    kept: tuple[str, ...] = (*ROWS[0], "prompt")
    job: dict[str, str] = {"prompt": "Review: {{ review }}"}  # noqa: RUF012 - never changed
    packed: bool = True


INPUTS = {
    "csv": Case("csv", "csv", lambda rows: _table(rows, ",")),
    "tsv": Case("csv", "tsv", lambda rows: _table(rows, "\t")),
    "jsonl": Case("jsonl", "jsonl", lambda rows: "".join(f"{json.dumps(row)}\n" for row in rows).encode()),
    "json": Case("json", "json", lambda rows: json.dumps(rows, ensure_ascii=False).encode()),
    "txt": Case("txt", "txt", lambda rows: "".join(f"{asked(row)}\n" for row in rows).encode(), ON_ONE_LINE, ("prompt",), {}),
    "openai-batch": Case(
        "openai_batch", "jsonl", lambda rows: "".join(f"{_batch(row)}\n" for row in rows).encode(), ROWS, ("id",), {}
    ),
    "openai-batch results": Case(
        "openai_batch", "jsonl", lambda rows: "".join(f"{_batch_result(row)}\n" for row in rows).encode()
    ),
    "parquet": Case("parquet", "parquet", _parquet, packed=False),
    "xlsx": Case("xlsx", "xlsx", _xlsx, packed=False),
    # calamine leaves tabs out
    "ods": Case("xlsx", "ods", _ods, [row for row in ROWS if "\t" not in row["review"]], packed=False),
}
PACKINGS: dict[str, Callable[[bytes], bytes]] = {
    "gz": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zst": zstd.compress,
}


def _by_csv(path: Path) -> list[Record]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _by_json(path: Path) -> list[Record]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


def _by_a_script(path: Path) -> list[Record]:
    """Read results as those do who have downloaded a batch of OpenAI."""
    return [
        {
            **line["fields"],
            "id": line["custom_id"],
            "prompt": line["request"]["body"]["messages"][-1]["content"],
            "text": line["response"]["body"]["choices"][0]["message"]["content"],
        }
        for line in map(json.loads, path.read_bytes().splitlines())
    ]


def _by_openpyxl(path: Path) -> list[dict[Any, Any]]:
    names, *lines = openpyxl.load_workbook(path)["answers"].iter_rows(values_only=True)
    return [dict(zip(names, [cell or "" for cell in line], strict=True)) for line in lines]


def _by_calamine(path: Path) -> list[dict[Any, Any]]:
    names, *lines = load_workbook(path).get_sheet_by_name("answers").to_python(skip_empty_area=False)
    return [dict(zip(names, line, strict=True)) for line in lines]


def _by_sqlite(path: Path) -> list[dict[Any, Any]]:
    with closing(sqlite3.connect(path)) as connection:
        connection.row_factory = sqlite3.Row
        return [dict(row) for row in connection.execute("SELECT * FROM answers")]


def _by_pandas_of_sqlite(path: Path) -> list[dict[Any, Any]]:
    with closing(sqlite3.connect(path)) as connection:
        return pd.read_sql("SELECT * FROM answers", connection).to_dict("records")


def _by_markdown(path: Path) -> list[dict[Any, Any]]:
    """Read a table as a program shows it that knows Markdown as GitHub does."""
    tokens = MarkdownIt("commonmark", {"html": True}).enable("table").parse(path.read_text(encoding="utf-8"))
    lines: list[list[str]] = []
    for token in tokens:
        if token.type == "tr_open":
            lines.append([])
        if token.type == "inline":
            shown = (SHOWN.get(part.type, part.content) for part in token.children or ())
            lines[-1].append("".join("\n" if text == "<br>" else text for text in shown))
    return [dict(zip(lines[0], line, strict=True)) for line in lines[1:]]


SHOWN = {"softbreak": "\n", "hardbreak": "\n"}


def _by_a_trainer(path: Path) -> list[dict[Any, Any]]:
    """Read chats as programs do that train a model."""
    chats = [json.loads(line)["messages"] for line in path.read_bytes().splitlines()]
    assert {tuple(message["role"] for message in chat) for chat in chats} == {("user", "assistant")}
    return [{"prompt": asking["content"], "text": answer["content"]} for asking, answer in chats]


Read: TypeAlias = Callable[[Path], list[dict[Any, Any]]]
EXPORTS: dict[str, dict[str, Read]] = {
    "csv": {
        "Python": _by_csv,
        "pandas": lambda path: pd.read_csv(path, dtype=str, keep_default_na=False).to_dict("records"),
        "polars": lambda path: pl.read_csv(path, infer_schema=False).fill_null("").to_dicts(),
    },
    "jsonl": {
        "Python": _by_json,
        "pandas": lambda path: pd.read_json(path, lines=True, dtype=False).to_dict("records"),
        "polars": lambda path: pl.read_ndjson(path, infer_schema_length=None).to_dicts(),
    },
    "openai_batch": {"a script": _by_a_script},
    "parquet": {
        "pyarrow": lambda path: pq.read_table(path).to_pylist(),
        "pandas": lambda path: pd.read_parquet(path).to_dict("records"),
        "polars": lambda path: pl.read_parquet(path).to_dicts(),
    },
    "xlsx": {"openpyxl": _by_openpyxl, "calamine": _by_calamine},
    "sqlite": {"Python": _by_sqlite, "pandas": _by_pandas_of_sqlite},
    "md": {"markdown-it": _by_markdown},
    "messages": {"a trainer": _by_a_trainer},
}
"""By format: other programs that read it, each into a mapping for each row."""
HOLDS = {"messages": ("prompt", "text")}
"""What a format holds of a row, if that is not all."""
TABLES = ("csv", "jsonl", "parquet", "xlsx", "sqlite")
"""Formats with a column for each thing that is told of a row."""


def _modules(room: str) -> set[str]:
    return {path.stem for path in (ROOT / "runner" / room / "formats").glob("*.py")} - {"__init__"}


def test_every_format_is_listed() -> None:
    assert {case.module for case in INPUTS.values()} == _modules("inputs")
    assert EXPORTS.keys() == _modules("exports")


@pytest.fixture(scope="module")
def server() -> Iterator[RawServer]:
    with in_thread(RawServer(Asked())) as found:
        yield found


@pytest.mark.parametrize("name", INPUTS)
def test_what_goes_in_comes_out(tmp_path: Path, server: RawServer, name: str) -> None:
    case, store = INPUTS[name], tmp_path / "runner.db"
    path = tmp_path / f"rows.{case.ending}"
    path.write_bytes(case.made(case.rows))
    summary = runner.run(path, db=store, model="m", base_url=server.base_url, **case.job)
    assert (summary.done, summary.failed) == (len(case.rows), 0)
    known = [{**row, "prompt": asked(row)} for row in case.rows]
    expected = [{**{field: row[field] for field in case.kept}, "text": f"echo {row['prompt']}"} for row in known]
    for kind, readers in EXPORTS.items():
        output = tmp_path / f"answers.{kind}"
        assert runner.export(output, db=store, raw=True, format=kind) == len(case.rows)
        for program, read in readers.items():
            fields = [field for field in expected[0] if field in HOLDS.get(kind, expected[0])]
            found = [{field: row[field] for field in fields} for row in read(output)]
            assert found == [{field: row[field] for field in fields} for row in expected], f"{kind}, read by {program}"


def test_every_table_tells_the_answers_of_a_row_and_who_bought_them(tmp_path: Path, server: RawServer) -> None:
    path, store = tmp_path / "rows.jsonl", tmp_path / "runner.db"
    path.write_text('{"id": "a", "prompt": "same", "answer_number": "own"}\n{"id": "b", "prompt": "same"}\n')
    runner.run(path, db=store, model="m", base_url=server.base_url, answers=2, dedupe=True)
    expected = [(id_, str(number), same) for id_, same in (("a", ""), ("b", "a")) for number in (1, 2)]
    for kind in TABLES:
        output = tmp_path / f"answers.{kind}"
        runner.export(output, db=store)
        for program, read in EXPORTS[kind].items():
            rows = read(output)
            names = list(rows[0])
            assert names[names.index("text") + 1] == "answer_number", f"{kind}, read by {program}"
            assert names[1] == "input_answer_number"
            found = [(row["id"], str(int(float(row["answer_number"]))), _text(row["same_as"])) for row in rows]
            assert found == expected, f"{kind}, read by {program}"
    frame = runner.results(db=store).to_pandas()
    assert frame["answer_number"].tolist() == [1, 2, 1, 2]
    assert frame["same_as"].isna().tolist() == [True, True, False, False]


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


@pytest.mark.parametrize("name", INPUTS)
def test_each_row_has_a_place_of_its_own_and_they_ascend(tmp_path: Path, name: str) -> None:
    """The place orders the export, and by it a session finds what is settled."""
    case, path = INPUTS[name], tmp_path / f"rows.{INPUTS[name].ending}"
    path.write_bytes(case.made(case.rows))
    places = [row.line for row in open_input(path, ReadOptions(asked=frozenset({"review"}))).read()]
    assert places == sorted(set(places))
    assert len(places) == len(case.rows)


@pytest.mark.parametrize("packing", PACKINGS)
@pytest.mark.parametrize("name", [name for name, case in INPUTS.items() if case.packed])
def test_a_compressed_file_has_the_same_rows(tmp_path: Path, name: str, packing: str) -> None:
    case, options = INPUTS[name], ReadOptions(asked=frozenset({"review"}))
    plain, packed = tmp_path / f"rows.{case.ending}", tmp_path / f"rows.{case.ending}.{packing}"
    plain.write_bytes(case.made(case.rows))
    packed.write_bytes(PACKINGS[packing](plain.read_bytes()))
    found, packed_too = (list(open_input(path, options).read()) for path in (plain, packed))
    assert len(found) == len(case.rows)
    assert found == packed_too


@pytest.mark.parametrize("damage", ["half", "zeros", "image", "empty"])
@pytest.mark.parametrize("name", INPUTS)
def test_a_damaged_file_is_one_sentence_or_broken_rows(tmp_path: Path, name: str, damage: str) -> None:
    case = INPUTS[name]
    whole = case.made(case.rows)
    half = whole[: len(whole) // 2]
    image = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 4
    path = tmp_path / f"rows.{case.ending}"
    path.write_bytes({"half": half, "zeros": half + bytes(64), "image": image, "empty": b""}[damage])
    said, found = "", []
    try:
        found = list(
            open_input(path, ReadOptions(asked=frozenset({"review"}), format=None if name == "ods" else name.split()[0])).read()
        )
    except runner.UsageError as error:
        said = str(error)
    assert bool(said) == (path.name in said)
    assert "\n" not in said
    assert len(found) <= len(case.rows)


COLUMNS = ["id", "review", "text"]
ANSWERS = [[row["id"], row["review"], f"echo {row['review']}"] for row in ROWS]


def test_libreoffice_reads_what_we_export() -> None:
    """``answers.xlsx`` is ``answers.csv`` as LibreOffice 7.4.7.2 has opened and saved it, with quoted cells as texts."""
    out = io.StringIO(newline="")
    csv_export.write(COLUMNS, ANSWERS, out)
    # what it has opened is what we write
    assert out.getvalue().encode() == (RECORDED / "answers.csv").read_bytes()
    sheet = openpyxl.load_workbook(RECORDED / "answers.xlsx").active
    assert [[cell or "" for cell in line] for line in sheet.iter_rows(values_only=True)] == [COLUMNS, *ANSWERS]
