"""Parquet, by pyarrow: typed columns, written in groups of rows, so that memory does not grow with the rows.

Lists, objects and columns of several kinds are texts in JSON, as in ``results().to_arrow()``.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import IO, Any

from runner.errors import UsageError
from runner.exports.kinds import Kind, typed

OUTPUT = "bytes"
"""Wants a file of bytes."""
_TYPES: dict[Kind, str] = {"int": "int64", "float": "float64", "bool": "bool_", "text": "string", "other": "string"}
_ROWS = 10_000
"""Rows of a group, at most."""
_CHARACTERS = 8_000_000
"""Characters of their texts: with long texts, a group has fewer rows."""


def ready() -> None:
    """Raise UsageError if pyarrow is not installed."""
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError:
        raise UsageError("Parquet needs one package more: pip install 'prompt-runner[parquet]'") from None


def write(columns: Sequence[str], records: Iterable[Sequence[object]], out: IO[bytes], *, kinds: Sequence[Kind]) -> int:
    """Write all records; return their number. kinds: what each column holds."""
    import pyarrow as pa
    from pyarrow.parquet import ParquetWriter

    schema = pa.schema([(name, getattr(pa, _TYPES[kind])()) for name, kind in zip(columns, kinds, strict=True)])
    count = 0
    with ParquetWriter(out, schema) as writer:
        for rows in _groups(typed(records, kinds)):
            made = [pa.array(values, field.type) for values, field in zip(zip(*rows, strict=True), schema, strict=True)]
            writer.write_table(pa.table(made, schema=schema))
            count += len(rows)
    return count


def _groups(records: Iterable[list[Any]]) -> Iterator[list[list[Any]]]:
    rows: list[list[Any]] = []
    characters = 0
    for record in records:
        rows.append(record)
        characters += sum(len(value) for value in record if type(value) is str)
        if len(rows) >= _ROWS or characters >= _CHARACTERS:
            yield rows
            rows, characters = [], 0
    if rows:
        yield rows
