"""Sheets and Parquet files: which sheet is read, what values become, and what is said of a damaged file."""

import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from openpyxl import Workbook

from runner.errors import UsageError
from runner.inputs import sheet_look
from runner.inputs.options import ReadOptions
from runner.session.opening import open_input

WITHOUT_PANDAS = """
import sys
from pathlib import Path

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name == "pandas":
            raise ImportError(name)

sys.meta_path.insert(0, Absent())
from runner.inputs.formats import parquet

print([row.fields for row in parquet.read(Path(sys.argv[1]))])
"""
ASKED = frozenset({"text"})


def book(path: Path, *sheets: tuple[str, str, list[Any]]) -> Path:
    """Write sheets, each with its name, its state and its rows."""
    made = Workbook()
    made.remove(made.active)
    for name, state, rows in sheets:
        sheet = made.create_sheet(name)
        sheet.sheet_state = state
        for row in rows:
            sheet.append(row)
    made.save(path)
    return path


def texts(path: Path, **options: Any) -> list[Any]:
    return [(row.fields or {}).get("text") for row in open_input(path, ReadOptions(asked=ASKED, **options)).read()]


def test_a_hidden_sheet_is_read_only_by_name_and_the_others_are_named(tmp_path: Path) -> None:
    path = book(
        tmp_path / "a.xlsx",
        ("Old", "hidden", [["text"], ["old"]]),
        ("Now", "visible", [["text"], ["now"]]),
        ("More", "visible", [["text"], ["more"]]),
    )
    assert texts(path) == ["now"]
    assert texts(path, sheet="Old") == texts(path, sheet="1") == ["old"]
    words = "a.xlsx has several sheets, and 'Now' is read; --sheet names another one: 'Old', 'More'"
    assert open_input(path, ReadOptions(asked=ASKED)).about == (words,)
    assert open_input(path, ReadOptions(asked=ASKED, sheet="Now")).about == ()
    # the same bytes, read in the same way
    assert open_input(path, ReadOptions(asked=ASKED)).reading == open_input(path, ReadOptions(asked=ASKED, sheet="Now")).reading


@pytest.mark.parametrize("sheet", ["0", "4", "-1", "now"])
def test_a_sheet_that_is_not_there_is_refused(tmp_path: Path, sheet: str) -> None:
    path = book(tmp_path / "a.xlsx", ("Now", "visible", [["text"], ["now"]]), ("2", "visible", [["text"], ["two"]]))
    # a name goes before a number
    assert texts(path, sheet="2") == ["two"]
    with pytest.raises(UsageError, match=f"has no sheet '{sheet}'; its sheets: 'Now', '2'"):
        texts(path, sheet=sheet)


def test_a_file_that_unpacks_to_more_than_a_sheet_may_have_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sheet_look, "MOST_BYTES", 1 << 20)
    path = tmp_path / "a.xlsx"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("[Content_Types].xml", "x")
        packed.writestr("xl/a.bin", bytes(2 << 20))
    with pytest.raises(UsageError, match=r"a.xlsx unpacks to more than \d GiB, more than a sheet may have here; save it as CSV"):
        texts(path)


def test_of_one_sheet_nothing_is_said(tmp_path: Path) -> None:
    path = book(tmp_path / "a.xlsx", ("Sheet", "visible", [["text"], ["a"]]))
    assert open_input(path, ReadOptions(asked=ASKED)).about == ()


def test_the_cells_of_a_sheet(tmp_path: Path) -> None:
    rows = [[], [None, "id", "text", None], [], [None, 1.0, "a", None], [None, 2.5, None, None], [None, "x", "b", "beyond"]]
    read = list(open_input(book(tmp_path / "a.xlsx", ("S", "visible", rows)), ReadOptions(asked=ASKED)).read())
    assert [row.line for row in read] == [4, 5, 6]
    assert [row.fields for row in read[:2]] == [{"id": 1, "text": "a"}, {"id": 2.5, "text": ""}]
    assert read[2].fault == "a cell beyond the last column of the header, text"


def test_a_damaged_page_of_a_parquet_file_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": [f"text {n}" for n in range(500)]}), path)
    content = path.read_bytes()
    path.write_bytes(content[:4] + b"\xff" * 300 + content[304:])
    with pytest.raises(UsageError) as refused:
        texts(path)
    assert f"{path} is cut off or damaged (Parquet: " in str(refused.value)
    assert str(refused.value).endswith("); make the file again, or copy it again")


def test_nanoseconds_need_no_pandas_and_are_the_same_with_it(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    times = {
        "stamp": pa.array([1_700_000_000_123_456_789], pa.timestamp("ns", "UTC")),
        "took": pa.array([1_500_000_001], pa.duration("ns")),
        "at": pa.array([3_723_000_000_001], pa.time64("ns")),
    }
    pq.write_table(pa.table({"text": ["a"], **times}), path, store_schema=True)
    expected = {"text": "a", "stamp": "2023-11-14T22:13:20.123456+00:00", "took": 1.5, "at": "01:02:03"}
    (row,) = open_input(path, ReadOptions(asked=ASKED)).read()
    assert row.fields == expected
    assert subprocess.run([sys.executable, "-c", WITHOUT_PANDAS, path], capture_output=True, text=True, check=True).stdout == (
        f"[{expected}]\n"
    )
