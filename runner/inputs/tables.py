"""Reads the tables of other libraries row by row. Knows them by the names of their classes, so that none has to be installed.

A DataFrame of pandas or polars, a Series of them, a table, a batch, a reader or a column of Arrow, and whatever gives out an
Arrow stream (``__arrow_c_stream__``: DuckDB, Ibis, cuDF, narwhals, ...) or the older ``__dataframe__``. An index of pandas that
has a name is a column; of those without one, whole numbers are left out, and others are the column ``index``.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from runner.errors import UsageError
from runner.inputs.cells import column_names

_BATCH = 1_000


class Table(NamedTuple):
    """A table in memory. kind: what it is called. names: its columns. rows: their cells, made one by one."""

    kind: str
    names: Sequence[str]
    rows: Iterable[Sequence[Any]]


def table_of(source: Any, prompt: str) -> Table | None:
    """Return the table that a value is; None if it is none. prompt: what a single column is called, unless the job names it.

    Raises UsageError for a table that holds no rows yet, or that cannot be read.
    """
    if _is(source, "pandas", "DataFrame"):
        return _of_pandas(source, "DataFrame")
    if _is(source, "pandas", "Series"):
        return _of_pandas(source.to_frame(prompt), "column")
    if _is(source, "polars", "DataFrame"):
        return Table("DataFrame", _names(source.columns), source.iter_rows())
    if _is_column(source):
        return Table("column", [prompt], ((value,) for value in source))
    if _is_of_arrow(source) or hasattr(source, "__dataframe__"):
        return _of_arrow(source)
    if hasattr(source, "columns"):
        # such an object gives out the names of its columns, which are no prompts
        raise UsageError(f"a table of type {_type(source)} cannot be read; turn it into one of pandas, polars or Arrow")
    return None


def may_be_table(source: object) -> bool:
    """Return True for what ``table_of`` takes although nothing can go over it with ``for``."""
    return _is_of_arrow(source) or hasattr(source, "__dataframe__")


def plain(source: Any) -> Any:
    """Return a Hugging Face data set whose rows are dicts of Python values. Anything else is returned as it is.

    With a format (``with_format("pandas")``, ...) its rows would be small tables or arrays. What the program makes of the rows by
    ``with_transform`` stays.
    """
    form: Any = getattr(source, "format", None)
    if _is(source, "datasets", "IterableDataset"):
        return source.with_format(None)
    if not _is(source, "datasets", "Dataset") or form["type"] in (None, "custom"):
        return source
    return source.with_format(None, columns=form["columns"], output_all_columns=form["output_all_columns"])


def name_of_column(source: Any) -> str | None:
    """Return the name of a single column; None if it has none, or the value is something else."""
    name = getattr(source, "name", None) if _is_column(source) else None
    return name if isinstance(name, str) else None


def _is_column(source: object) -> bool:
    of_arrow = any(_is(source, "pyarrow", name) for name in ("Array", "ChunkedArray"))
    return of_arrow or any(_is(source, home, "Series") for home in ("pandas", "polars"))


def _is_of_arrow(source: object) -> bool:
    return any(hasattr(source, name) for name in ("__arrow_c_stream__", "__arrow_c_array__", "to_reader", "scanner"))


def _is(source: object, home: str, name: str) -> bool:
    """Return True if a value is of a class of a library, or of one made from it."""
    return any(kind.__name__ == name and kind.__module__.partition(".")[0] == home for kind in type(source).__mro__)


def _type(source: object) -> str:
    return f"{type(source).__module__.partition('.')[0]}.{type(source).__name__}"


def _names(columns: Iterable[object]) -> list[str]:
    header = ["_".join(map(str, name)) if isinstance(name, tuple) else name for name in columns]
    return column_names(header)


def _of_pandas(frame: Any, kind: str) -> Table:
    index = frame.index
    levels = [index.get_level_values(level) for level in range(index.nlevels)]
    is_counter = len(levels) == 1 and index.name is None and index.inferred_type in ("integer", "empty")
    if is_counter:
        levels = []
    names = [_level(level.name, place, len(levels)) for place, level in enumerate(levels)]
    cells = [*levels, *(frame.iloc[:, place] for place in range(frame.shape[1]))]
    # a table without columns still has rows
    rows: Iterable[Sequence[Any]] = zip(*cells, strict=True) if cells else (() for _ in range(len(frame)))
    return Table(kind, _names([*names, *frame.columns]), rows)


def _level(name: object, place: int, levels: int) -> object:
    if name is not None:
        return name
    return "index" if levels == 1 else f"level_{place}"


def _of_arrow(source: Any) -> Table:
    try:
        import pyarrow as pa
    except ImportError:
        raise UsageError(
            f"a table of type {_type(source)} needs one package more: pip install 'prompt-runner[parquet]'"
        ) from None
    try:
        if isinstance(source, pa.RecordBatch):
            source = pa.Table.from_batches([source])
        if not _is_of_arrow(source):
            from pyarrow.interchange import from_dataframe

            source = from_dataframe(source)
        if hasattr(source, "to_reader"):
            reader = source.to_reader()
        elif hasattr(source, "scanner"):
            reader = source.scanner(batch_size=_BATCH).to_reader()
        else:
            reader = source if isinstance(source, pa.RecordBatchReader) else pa.RecordBatchReader.from_stream(source)
    except (pa.ArrowException, TypeError, ValueError, AttributeError, NotImplementedError) as error:
        raise _unreadable(source, error) from error
    return Table("Table", _names(reader.schema.names), _of_batches(source, reader))


def _of_batches(source: Any, reader: Any) -> Iterator[Sequence[Any]]:
    import pyarrow as pa

    try:
        for batch in reader:
            for begin in range(0, batch.num_rows, _BATCH):
                part = batch.slice(begin, _BATCH)
                if not part.num_columns:
                    yield from ((),) * part.num_rows
                # of two columns with one name, the rows of ``to_pylist`` would lose one
                yield from zip(*(column.to_pylist() for column in part.columns), strict=True)
    except (pa.ArrowException, ValueError) as error:
        raise _unreadable(source, error) from error


def _unreadable(source: object, error: Exception) -> UsageError:
    return UsageError(f"the table of type {_type(source)} cannot be read: {' '.join(str(error).split())[:200]}")
