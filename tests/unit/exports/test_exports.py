import csv
import io
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.exports import whole
from runner.exports.columns import Parts, columns
from runner.exports.formats import csv as csv_export
from runner.exports.formats import jsonl as jsonl_export
from runner.exports.formats.csv import csv_cell, csv_text
from runner.text import encodable_tree

ANY_TEXT = st.text(st.characters())  # lone surrogates included
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | ANY_TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


def as_csv(columns: list[str], records: list[list[object]], *, raw: bool = False) -> str:
    out = io.StringIO(newline="")
    assert csv_export.write(columns, records, out, raw=raw) == len(records)
    return out.getvalue()


def as_jsonl(columns: list[str], records: list[list[object]]) -> str:
    out = io.StringIO(newline="")
    assert jsonl_export.write(columns, records, out) == len(records)
    return out.getvalue()


def test_every_cell_is_quoted_and_every_kind_has_its_form() -> None:
    record: list[object] = [
        None,
        True,
        False,
        -3,
        0.1,
        float("nan"),
        float("-inf"),
        ["é", 1],
        {"a": None},
        'say "hi"',
        "",
    ]
    text = as_csv([f"c{n}" for n in range(len(record))], [record])
    assert text.splitlines()[1] == ('"","true","false","-3","0.1","","","[""é"",1]","{""a"":null}","say ""hi""",""')
    assert text.endswith("\n")
    assert "\r" not in text


def test_text_cells_are_made_safe_and_numbers_stay_numbers() -> None:
    text = as_csv(["=id", "n"], [["=1+1", -1], ["- item", -0.5], ["ok", 10**30]])
    assert list(csv.reader(io.StringIO(text))) == [
        ["'=id", "n"],
        ["'=1+1", "-1"],
        ["'- item", "-0.5"],
        ["ok", "1" + "0" * 30],
    ]
    assert as_csv(["=id"], [["=1+1"]], raw=True) == '"=id"\n"=1+1"\n'


def test_no_records_still_give_a_header() -> None:
    assert as_csv(["a", "b"], []) == '"a","b"\n'
    assert as_jsonl(["a", "b"], []) == ""


@given(st.lists(st.lists(ANY_TEXT, min_size=3, max_size=3), max_size=5), st.booleans())
def test_csv_texts_are_read_back(records: list[list[object]], raw: bool) -> None:
    text = as_csv(["a", "b", "c"], records, raw=raw)
    text.encode()
    back = list(csv.reader(io.StringIO(text, newline="")))
    cell = csv_text if raw else csv_cell
    assert back == [["a", "b", "c"], *([cell(str(value)) for value in record] for record in records)]


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])))
def test_raw_csv_texts_are_equal_but_for_nul_and_surrogates(text: str) -> None:
    back = list(csv.reader(io.StringIO(as_csv(["a"], [[text]], raw=True), newline="")))
    assert back[1] == [text]


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_csv_floats_keep_every_digit(number: float) -> None:
    ((_,), (cell,)) = csv.reader(io.StringIO(as_csv(["x"], [[number]])))
    assert float(cell) == number


@given(st.lists(st.lists(VALUES, min_size=2, max_size=2), max_size=5))
def test_jsonl_is_read_back(records: list[list[object]]) -> None:
    text = as_jsonl(["a", "b"], records)
    text.encode()
    lines = text.split("\n")
    assert lines.pop() == ""
    assert [json.loads(line) for line in lines] == [encodable_tree({"a": first, "b": second}) for first, second in records]


def test_jsonl_keeps_order_and_characters_and_writes_no_nan() -> None:
    record = ["é\u2028😀", float("nan"), [float("inf")], "\ud800"]
    assert as_jsonl(["z", "a", "m", "s"], [record]) == '{"z":"é\u2028😀","a":null,"m":[null],"s":"\ufffd"}\n'


def test_jsonl_refuses_a_record_of_another_length() -> None:
    with pytest.raises(ValueError, match="zip"):
        as_jsonl(["a", "b"], [["only one"]])


def test_a_huge_cell_and_a_real_file(tmp_path: Path) -> None:
    path = tmp_path / "answers.csv"
    huge = "line\r\n" * 1_000_000
    with path.open("w", encoding="utf-8", newline="") as out:
        assert csv_export.write(["text"], iter([[huge], ["ü"]]), out) == 2
    content = path.read_bytes()
    assert content.startswith(b'"text"\n"line\r\nline\r\n')
    assert content.endswith('"\n"ü"\n'.encode())


def test_whole_rows_have_their_fields_and_their_request_in_place_of_columns() -> None:
    ours = [name for name in columns([], prompt=False) if name != "id"]
    told = ["run", "ended_at", "http_status", "response_id", "made_seed"]
    assert whole.columns(Parts()) == ["id", "fields", "request", *ours, *told]
    several = whole.columns(Parts(files=True, answers=True, copies=True))
    assert set(several) - set(whole.columns(Parts())) == {"file", "answer_number", "same_as"}
