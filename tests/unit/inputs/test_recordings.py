"""Files that other programs made are read as those programs would read them, oddities and all."""

import pytest
import recorded

from runner.inputs.options import ReadOptions
from runner.model import Row
from runner.session.opening import open_input


def rows(name: str) -> list[Row]:
    options = dict(zip(*[iter(recorded.FILES[name][0])] * 2, strict=True))
    given = {option.lstrip("-").replace("-", "_"): value for option, value in options.items()}
    return list(open_input(recorded.FOLDER / name, ReadOptions(asked=frozenset({"text"}), **given)).read())  # type: ignore[arg-type]


def test_every_recording_is_tried() -> None:
    assert {path.name for path in recorded.FOLDER.iterdir()} == recorded.FILES.keys()


@pytest.mark.parametrize("name", recorded.FILES)
def test_ids_and_texts(name: str) -> None:
    found, texts = rows(name), recorded.FILES[name][1]
    assert [row.fault for row in found] == [None] * len(texts)
    assert [(row.fields or {})["text"] for row in found] == texts
    assert [str((row.fields or {})["id"]) for row in found] == ["1", "2", "3"][: len(texts)]


@pytest.mark.parametrize("name", ["libreoffice.xlsx", "libreoffice.ods", "libreoffice.xls"])
def test_the_cells_of_a_sheet(name: str) -> None:
    first, second = rows(name)
    assert (first.line, second.line) == (2, 4)
    assert first.fields == {
        "id": 1, "text": 'Great; "really",\ntwo lines', "text_2": "second text", "column_4": "",
        "day": "2024-02-29", "at": "13:05:00", "share": 0.25, "sum": 6, "code": "007",
    }  # fmt: skip
    assert second.fields == {
        "id": 2, "text": "Größe: 5 €", "text_2": "", "column_4": "extra",
        "day": "2024-12-31T23:59:58", "at": "", "share": 1, "sum": 6, "code": "=not a formula",
    }  # fmt: skip


@pytest.mark.parametrize("name", ["libreoffice.csv", "libreoffice.tsv", "libreoffice_cp1252.csv"])
def test_the_cells_of_a_table_that_was_a_sheet(name: str) -> None:
    first, second = rows(name)
    assert (first.line, second.line) == (2, 5)
    assert list((first.fields or {}).values())[3:] == ["", "29.02.2024", "13:05", "25%", "6", "007"]
    assert list((second.fields or {}).values())[2:] == ["", "extra", "31.12.2024", "", "100%", "6", "=not a formula"]


@pytest.mark.parametrize("name", ["libreoffice_wide.xlsx", "libreoffice_wide.ods"])
def test_three_hundred_columns(name: str) -> None:
    (row,) = rows(name)
    assert list(row.fields or {}) == ["id", "text", *(f"c{number}" for number in range(300))]


@pytest.mark.parametrize("name", ["r_write_csv_row_names.csv", "r_write_table.tsv"])
def test_the_names_that_r_gives_to_rows_are_a_column(name: str) -> None:
    assert [row.fields for row in rows(name)][2] == {
        "column_1": "3", "id": "3", "text": "Größe: 5 €", "price": "1e+06", "day": "2024-03-02", "code": "NA",
    }  # fmt: skip
