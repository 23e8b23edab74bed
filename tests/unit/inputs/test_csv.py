"""Tables of texts, as spreadsheets and programs write them."""

import csv
import io
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.errors import UsageError
from runner.inputs.formats.csv import read
from runner.inputs.json_rows import ROW_BYTES
from runner.inputs.options import ReadOptions
from runner.model import Row

ASKED = "is one of them missing its quotation marks?"


def rows(folder: Path, content: bytes | str, **options: Any) -> list[Row]:
    path = folder / "a.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return list(read(path, options=ReadOptions(**options)))


def told(found: list[Row]) -> list[tuple[int, Any, str | None]]:
    return [(row.line, row.fields, row.fault) for row in found]


def test_a_row_has_the_line_on_which_its_record_begins(tmp_path: Path) -> None:
    found = rows(tmp_path, 'id,text\n1,"a, ""b""\nc"\n2,x\n\n3,\n')
    assert told(found) == [
        (2, {"id": "1", "text": 'a, "b"\nc'}, None),
        (4, {"id": "2", "text": "x"}, None),
        (6, {"id": "3", "text": ""}, None),
    ]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (
            "id,text\n1,x,y\n2,z\n",
            [({"id": "1"}, f"3 cells, but the header has 2; {ASKED}"), ({"id": "2", "text": "z"}, None)],
        ),
        # what spreadsheets leave behind the last column and the last row
        ("id,text\n1,x,,\n,,\n;;\n", [({"id": "1", "text": "x"}, None), ({"id": ";;"}, None)]),
        ("id,text,more\n1,x\n", [({"id": "1", "text": "x"}, None)]),
        ('id,text\n1,"never closed\n2,y\n', [({"id": "1"}, "a quotation mark is never closed")]),
        (b"id,text\n1,\xe4\n2,y\n", [({"id": "1", "text": "ä"}, None), ({"id": "2", "text": "y"}, None)]),
        ("id,text", []),
        ("", []),
    ],
)
def test_records_that_do_not_fit_their_header(tmp_path: Path, content: Any, expected: Any) -> None:
    assert [(row.fields, row.fault) for row in rows(tmp_path, content)] == expected


@pytest.mark.parametrize(
    ("header", "names"),
    [
        ("text,text,text", ["text", "text_2", "text_3"]),
        (",text,", ["column_1", "text", "column_3"]),
        ("text,text_2,text", ["text", "text_2", "text_3"]),
        ("column_2,", ["column_2", "column_2_2"]),
        (" id , text ", ["id", "text"]),
    ],
)
def test_every_column_has_a_name_of_its_own(tmp_path: Path, header: str, names: list[str]) -> None:
    (row,) = rows(tmp_path, f"{header}\n{','.join('x' * len(names))}\n")
    assert list(row.fields or {}) == names


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "cp1252"])
def test_delimiter_line_ends_and_encoding_are_found_out(tmp_path: Path, delimiter: str, end: str, encoding: str) -> None:
    text = (
        end.join(delimiter.join(record) for record in (["id", "text", "preis"], ["1", "Käse", "1"], ["2", "über Öl", "2"])) + end
    )
    found = rows(tmp_path, text.encode(encoding))
    assert [row.fields for row in found] == [
        {"id": "1", "text": "Käse", "preis": "1"},
        {"id": "2", "text": "über Öl", "preis": "2"},
    ]


def test_what_a_user_names_is_not_found_out(tmp_path: Path) -> None:
    assert rows(tmp_path, "a|b\n1|2\n", delimiter="tab")[0].fields == {"a|b": "1|2"}
    assert rows(tmp_path, "a;b\n1;ж\n".encode("cp1251"), encoding="cp1251")[0].fields == {"a": "1", "b": "ж"}
    assert rows(tmp_path, b"sep=;\r\nid;text\r\n1;a,b\r\n")[0].fields == {"id": "1", "text": "a,b"}
    # a byte that is none of that encoding makes its own row a broken one
    bad, good = rows(tmp_path, b"a,b\n1,\xe4\n2,ok\n", encoding="utf-8")
    assert (bad.fault, good.fields) == (
        "the byte 0xe4 is no character in this encoding; --encoding names another",
        {"a": "2", "b": "ok"},
    )


def test_cells_of_settings_are_read_as_what_they_say(tmp_path: Path) -> None:
    content = (
        'id,prompt,temperature,max_tokens,model,params,stop\n1,007,0.5,,m,"{""seed"": 7}",END\n2,8,hot,10,,,"[""a"",""b""]"\n'
    )
    one, two = rows(tmp_path, content)
    assert one.fields == {
        "id": "1", "prompt": "007", "temperature": 0.5, "max_tokens": None, "model": "m", "params": {"seed": 7}, "stop": "END",
    }  # fmt: skip
    assert two.fields == {
        "id": "2", "prompt": "8", "temperature": "hot", "max_tokens": 10, "model": None, "params": None, "stop": ["a", "b"],
    }  # fmt: skip
    (plain,) = rows(tmp_path, "id,prompt,temperature\n1,x,0.5\n", row_settings=False)
    assert plain.fields == {"id": "1", "prompt": "x", "temperature": "0.5"}


def test_what_is_appended_later_is_not_read_and_half_a_record_is_none(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("id,text\n1,a\n2,b")
    reading = read(path)
    assert next(reading).fields == {"id": "1", "text": "a"}
    with path.open("a") as file:
        file.write("cde\n3,c\n")
    assert list(reading) == []
    path.write_text("id,text\n1,a\n2,b")
    # nobody writes any more: the last record is one
    assert [row.fields for row in read(path)][-1] == {"id": "2", "text": "b"}


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        # the header of R has no place for the names of its rows
        ("a,b\n1,x,p\n2,y,q\n", [{"column_1": "1", "a": "x", "b": "p"}, {"column_1": "2", "a": "y", "b": "q"}]),
        # a delimiter at the end of each line, a row that is too long, and one row alone show nothing of the kind
        ("a,b\n1,x,\n2,y,\n", [{"a": "1", "b": "x"}, {"a": "2", "b": "y"}]),
        ("a,b\n1,x,p\n2,y\n", [None, {"a": "2", "b": "y"}]),
        ("a,b\n1,x,p\n", [None]),
        # quotation marks behind a backslash, in quoted cells
        ('a,b\n1,"say \\"x, y\\" now"\n2,"\\"z\\""\n', [{"a": "1", "b": 'say "x, y" now'}, {"a": "2", "b": '"z"'}]),
        ('a,b\n1,"C:\\dir\\"\n2,y\n', [{"a": "1", "b": "C:\\dir\\"}, {"a": "2", "b": "y"}]),
        ('a\tb\n1\t{"x": "say \\"y\\" now"}\n', [{"a": "1", "b": '{"x": "say \\"y\\" now"}'}]),
        ('a,b\n1,"{""x"": ""say \\""y\\"" now""}"\n', [{"a": "1", "b": '{"x": "say \\"y\\" now"}'}]),
    ],
)
def test_tables_as_r_writes_them_and_tables_that_look_so(tmp_path: Path, content: str, expected: Any) -> None:
    assert [row.fields if row.fault is None else None for row in rows(tmp_path, content)] == expected


def test_the_ending_tsv_says_what_the_delimiter_is(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    path.write_text("text\tn\na, b\t1\nc\n\td, e\tf\n")
    assert [row.fields for row in read(path)][:2] == [{"text": "a, b", "n": "1"}, {"text": "c"}]


def test_an_empty_cell_is_no_id(tmp_path: Path) -> None:
    assert [row.fields for row in rows(tmp_path, "id,prompt\n,x\n7,y\n")] == [
        {"id": None, "prompt": "x"},
        {"id": "7", "prompt": "y"},
    ]


def test_a_quotation_mark_without_end_is_named_and_takes_little_memory(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    with path.open("w") as file:
        file.write('id,text\n0,a\n1,"first\nb"",\n",c"\n2,"')
        for _ in range(ROW_BYTES // 1_000_000 + 2):
            file.write("x" * 999_999 + "\n")
        file.write("\n2,b\n")
    tracemalloc.start()
    # nobody can tell whether what follows are rows, so none is sent
    with pytest.raises(UsageError) as refused:
        list(read(path))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert "the quotation mark on line 6 is not closed within 64 MiB, so nothing behind it can be read" in str(refused.value)
    assert peak < 8 * ROW_BYTES


@pytest.mark.parametrize("end", ["", "\n"])
def test_a_quotation_mark_without_end_before_the_end_of_the_file(tmp_path: Path, end: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text(f'id,text\n0,"a\nb","c\nd{end}')
    assert [(row.line, row.fault) for row in read(path)] == [(2, "a quotation mark is never closed (it is on line 3)")]
    path.write_text(f'id,"text\n0,a\n1,b{end}')
    with pytest.raises(UsageError, match=r"a\.csv: its header, on line 1, cannot be read: a quotation mark is never closed$"):
        list(read(path))


def test_a_record_that_is_too_long_and_closed_is_one_broken_row(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    with path.open("w") as file:
        file.write('id,text\n1,"')
        for _ in range(ROW_BYTES // 1_000_000):
            file.write("x" * 999_999 + "\n")
        file.write("x" * 1_000_000 + '"\n2,b\n')
    assert [(row.line, row.fault is None) for row in read(path)] == [(2, False), (70, True)]


def test_a_line_that_is_too_long_is_one_broken_row(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    with path.open("w") as file:
        file.write("id,text\n1,")
        for _ in range(ROW_BYTES // 1_000_000 + 2):
            file.write("x" * 1_000_000)
        file.write("\n2,b\n")
    assert [(row.line, row.fault) for row in read(path)] == [(2, "longer than 64 MiB"), (3, None)]


def test_a_cell_of_ten_million_characters(tmp_path: Path) -> None:
    (row,) = rows(tmp_path, f'id,text\n1,"{"x" * 10_000_000}"\n')
    assert len((row.fields or {})["text"]) == 10_000_000


def test_a_table_of_three_hundred_columns(tmp_path: Path) -> None:
    names = [f"c{number}" for number in range(300)]
    (row,) = rows(tmp_path, ",".join(names) + "\n" + ",".join("x" * 300) + "\n")
    assert list(row.fields or {}) == names


CELL = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r"), max_size=12)


@settings(max_examples=150)
@given(st.lists(st.tuples(CELL, CELL, CELL), min_size=1, max_size=6), st.sampled_from(",;\t|"), st.booleans())
def test_what_csv_writes_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, records: list[tuple[str, str, str]], delimiter: str, quoted: bool
) -> None:
    out = io.StringIO(newline="")
    writer = csv.writer(out, delimiter=delimiter, quoting=csv.QUOTE_ALL if quoted else csv.QUOTE_MINIMAL, lineterminator="\n")
    writer.writerow(["a", "b", "c"])
    writer.writerows(records)
    path = tmp_path_factory.mktemp("csv") / "a.csv"
    path.write_bytes(out.getvalue().encode())
    found = [tuple((row.fields or {}).values()) for row in read(path, options=ReadOptions(encoding="utf-8", delimiter=delimiter))]
    # a record of empty cells is as blank as a blank line
    assert found == [record for record in records if any(record)]


def test_other_files_are_refused(tmp_path: Path) -> None:
    for content in (b"PK\x03\x04" + bytes(30), b"<html>", b"\x00\x01\x02"):
        with pytest.raises(UsageError, match="is no table of texts"):
            rows(tmp_path, content)


@pytest.mark.parametrize("delimiter", ["\n", "\r", '"', ",,"])
def test_what_cannot_be_a_delimiter_is_refused(tmp_path: Path, delimiter: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text("id,text\n1,a\n")
    with pytest.raises(UsageError, match="delimiter must be one character, or tab"):
        read(path, options=ReadOptions(delimiter=delimiter))
