"""Reads Parquet files, a part of a row group at a time. Needs the extra ``parquet`` (pyarrow)."""

from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from runner.errors import UsageError
from runner.inputs import parquet_pages, recognition
from runner.inputs.cells import Plain, Settings
from runner.inputs.files import explained, refuse_packed, size_and_head
from runner.inputs.json_rows import ROW_BYTES, TOO_LONG
from runner.inputs.options import ReadOptions
from runner.model import Row

PLACE = "row"
IS_TABLE = True
_READ_BYTES = 1 << 20


def read(path: Path, *, limit_bytes: int | None = None, options: ReadOptions | None = None) -> Generator[Row, None, None]:  # noqa: ARG001 - a part of such a file cannot be read
    """Read the rows of a file; a row's line is its number, from 1 on. Raises UsageError if the file cannot be read."""
    _, head = size_and_head(path)
    refuse_packed(path, "parquet")
    wrong = recognition.other_than(("parquet",), head)
    if wrong is not None:
        raise UsageError(f"{path} is not a Parquet file: {wrong}")
    return _rows(path, _opened(path), options or ReadOptions())


def _opened(path: Path) -> Any:
    try:
        from pyarrow.parquet import ParquetFile
    except ImportError:
        raise UsageError("Parquet files need one package more: pip install 'prompt-runner[parquet]'") from None
    with explained(path), _undamaged(path):
        # else all that is packed of a row group would be in memory
        return ParquetFile(path, pre_buffer=False, buffer_size=_READ_BYTES)


def _rows(path: Path, file: Any, options: ReadOptions) -> Generator[Row, None, None]:
    settings = Settings(file.schema_arrow.names, as_data=not options.row_settings)
    number = 0
    with file, explained(path), _undamaged(path):
        for batch in _batches(path, file):
            # else the texts of all of them would be in memory twice
            at_once = 1 if batch.nbytes > ROW_BYTES else batch.num_rows
            size = batch.nbytes // max(1, batch.num_rows)
            for begin in range(0, batch.num_rows, max(1, at_once)):
                part = batch.slice(begin, at_once)
                if at_once == 1 and part.nbytes > 2 * ROW_BYTES:
                    number += 1
                    yield Row(line=number, fields=None, fault=TOO_LONG, size=ROW_BYTES, place=PLACE)
                    continue
                for record in _to_microseconds(part).to_pylist():
                    number += 1
                    yield _row(number, record, settings, size)


def _batches(path: Path, file: Any) -> Generator[Any, None, None]:
    """Yield the rows, so many at once as fit into the memory. Raises UsageError for a cell that does not."""
    with path.open("rb") as plain:
        for group in range(file.num_row_groups):
            try:
                rows = parquet_pages.rows_at_once(plain, file.metadata.row_group(group))
            except parquet_pages.TooLargeError:
                words = f"has a cell of more than {ROW_BYTES >> 20} MiB in row group {group + 1}"
                raise UsageError(f"{path} {words}, more than a row may have; make the file without it") from None
            yield from file.iter_batches(batch_size=rows, row_groups=[group])


def _row(number: int, record: Mapping[str, object], settings: Settings, size: int) -> Row:
    plain = Plain()
    fields = {name: plain.value(value) for name, value in record.items()}
    settings.read(fields)
    if (
        size * parquet_pages.MOST_ROWS > ROW_BYTES
        and sum(len(cell) for cell in fields.values() if isinstance(cell, str)) > ROW_BYTES
    ):
        return Row(line=number, fields=None, fault=TOO_LONG, size=ROW_BYTES, place=PLACE)
    return Row(line=number, fields=fields, nulls=plain.nulls, size=size, place=PLACE)


def _to_microseconds(batch: Any) -> Any:
    """Return a batch without nanoseconds: Python's times have none, and pandas, which has, may be installed or not."""
    import pyarrow as pa

    for place, field in enumerate(batch.schema):
        kind, finer = field.type, None
        if pa.types.is_timestamp(kind) and kind.unit == "ns":
            finer = pa.timestamp("us", kind.tz)
        elif pa.types.is_duration(kind) and kind.unit == "ns":
            finer = pa.duration("us")
        elif pa.types.is_time64(kind) and kind.unit == "ns":
            finer = pa.time64("us")
        if finer is not None:
            batch = batch.set_column(place, field.name, batch.column(place).cast(finer, safe=False))
    return batch


@contextmanager
def _undamaged(path: Path) -> Iterator[None]:
    """Turn what the library says about a file that it cannot read into a sentence, a UsageError."""
    import pyarrow as pa

    try:
        yield
    except MemoryError:
        # one of the library's own errors, too
        raise
    except (pa.ArrowException, OSError) as error:
        # the library's own ones have no number
        if isinstance(error, OSError) and error.errno is not None:
            raise
        why = " ".join(str(error).split()).rstrip(".")[:200]
        raise UsageError(f"{path} is cut off or damaged (Parquet: {why}); make the file again, or copy it again") from error
