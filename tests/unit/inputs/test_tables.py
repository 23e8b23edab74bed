"""Tables of pandas, polars and Arrow give the same rows as a file with them does."""

import io
from datetime import date
from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from pyarrow import dataset

from runner.errors import UsageError
from runner.inputs.tables import table_of

ROWS = {"id": [1, 2], "text": ["a", None]}


def read(source: Any) -> tuple[str, list[dict[str, Any]]]:
    table = table_of(source, "prompt")
    assert table is not None
    return table.kind, [dict(zip(table.names, row, strict=True)) for row in table.rows]


class Stream:
    """What another library has: a table that gives out an Arrow stream, and no more."""

    def __init__(self, table: Any) -> None:
        self._table = table

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self._table.__arrow_c_stream__(requested_schema)


class Older:
    """What a library had before it had Arrow streams."""

    def __init__(self, table: Any) -> None:
        self._table = table

    def __dataframe__(self, nan_as_null: bool = False, allow_copy: bool = True) -> object:
        return self._table.__dataframe__(nan_as_null, allow_copy)


def in_memory(table: Any) -> Any:
    return dataset.dataset(table)


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (pl.DataFrame, "DataFrame"), (pa.table, "Table"), (lambda rows: pa.table(rows).to_reader(), "Table"),
        (lambda rows: pa.RecordBatch.from_pydict(rows), "Table"), (lambda rows: in_memory(pa.table(rows)), "Table"),
        (lambda rows: Stream(pa.table(rows)), "Table"), (lambda rows: Older(pa.table(rows)), "Table"),
        (lambda rows: pd.DataFrame(rows, dtype=object), "DataFrame"),
    ],
    ids=["polars", "arrow", "reader", "batch", "dataset", "stream", "older", "pandas"],
)  # fmt: skip
def test_the_same_rows(make: Any, kind: str) -> None:
    assert read(make(ROWS)) == (kind, [{"id": 1, "text": "a"}, {"id": 2, "text": None}])


def test_a_column_is_prompts() -> None:
    for source in (
        pd.Series(["a", "b"], name="x"),
        pl.Series("x", ["a", "b"]),
        pa.array(["a", "b"]),
        pa.chunked_array([["a"], ["b"]]),
    ):
        assert [str(row["prompt"]) for row in read(source)[1]] == ["a", "b"]
        assert read(source)[0] == "column"


@pytest.mark.parametrize(
    ("index", "names"),
    [
        (None, ["text"]), (pd.Index([7, 3]), ["text"]), (pd.Index([7, 3], name="id"), ["id", "text"]),
        (pd.Index(["k", "l"]), ["index", "text"]), (pd.Index([7, 3], name="text"), ["text", "text_2"]),
        (pd.MultiIndex.from_tuples([(1, 2), (3, 4)], names=["a", None]), ["a", "level_1", "text"]),
    ],
)  # fmt: skip
def test_an_index_of_pandas(index: Any, names: list[str]) -> None:
    rows = read(pd.DataFrame({"text": ["a", "b"]}, index=index))[1]
    assert [list(row) for row in rows] == [names] * 2
    assert rows[1][names[-1]] == "b"


def test_names_of_columns_are_texts_and_each_is_another() -> None:
    frame = pd.DataFrame([["a", "b", "c", "d"]], columns=["x", "x", 5, ""])
    assert read(frame)[1] == [{"x": "a", "x_2": "b", "5": "c", "column_4": "d"}]
    frame = pd.DataFrame([["a"]], columns=pd.MultiIndex.from_tuples([("x", 1)]))
    assert read(frame)[1] == [{"x_1": "a"}]
    assert read(pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["x", "x"]))[1] == [{"x": 1, "x_2": 2}]


def test_a_table_without_columns_still_has_its_rows() -> None:
    assert read(pd.DataFrame(index=range(2)))[1] == [{}, {}]


def test_rows_are_made_one_by_one_and_a_long_batch_in_parts() -> None:
    table = table_of(pa.table({"n": range(2_500)}), "prompt")
    assert table is not None
    assert next(iter(table.rows)) == (0,)
    assert [row["n"] for row in read(pa.table({"n": range(2_500)}))[1]] == list(range(2_500))


def test_types_of_arrow_and_polars() -> None:
    frame = pl.DataFrame({"d": [date(2026, 1, 2)], "s": [{"a": [1]}], "c": pl.Series(["k"], dtype=pl.Categorical)})
    assert read(frame)[1] == [{"d": date(2026, 1, 2), "s": {"a": [1]}, "c": "k"}]


class Odd:
    columns = ("prompt", "text")

    def __iter__(self) -> Any:
        return iter(self.columns)


class Removed:
    def __dataframe__(self) -> object:
        raise NotImplementedError("not\nany more")


def test_a_table_that_gives_nothing_out_is_refused() -> None:
    with pytest.raises(UsageError, match=r"the table of type test_tables\.Removed cannot be read: .*"):
        table_of(Removed(), "prompt")


def test_a_table_that_would_give_the_names_of_its_columns_is_refused() -> None:
    with pytest.raises(UsageError, match="turn it into one of pandas, polars or Arrow"):
        table_of(Odd(), "prompt")


@pytest.mark.parametrize("source", [["a"], ("a",), iter(["a"]), {"a": 1}.values(), io.StringIO("a"), (row for row in "ab")])
def test_what_is_no_table(source: Any) -> None:
    assert table_of(source, "prompt") is None
