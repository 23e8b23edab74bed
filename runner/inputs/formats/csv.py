"""Reads a table of texts: CSV and TSV as spreadsheets and programs write them, one row for each record behind the header.

The file is read lazily, in bounded memory, up to the size it had at the start. Every cell is a text. A record that does not fit
its header becomes a Row with a fault.
"""

import csv
from collections.abc import Callable, Generator, Iterator
from functools import partial
from pathlib import Path
from typing import IO

from msgspec import structs

from runner.errors import UsageError
from runner.inputs import delimiters, encoding, recognition
from runner.inputs.cells import Settings, column_names
from runner.inputs.compression import unpacked
from runner.inputs.encoding import Encoding, open_text
from runner.inputs.files import HEAD_BYTES, explained, size_and_head
from runner.inputs.json_rows import RAW_BYTES, ROW_BYTES, TOO_LONG
from runner.inputs.options import ReadOptions
from runner.model import Row

IS_TABLE = True
OPTIONS = ("encoding", "delimiter")
_NAMES = {"tab": "\t", "\\t": "\t", "comma": ",", "semicolon": ";", "pipe": "|", "space": " "}


def read(path: Path, *, limit_bytes: int | None = None, options: ReadOptions | None = None) -> Generator[Row, None, None]:
    """Read the rows of a file. A row's line is the one on which its record begins; blank lines yield no row.

    Raises UsageError immediately if the file cannot be read or is no table of texts, and during iteration if compressed data is
    cut off or damaged.
    """
    size, head = size_and_head(path)
    wrong = recognition.other_than_text(head)
    if wrong is not None:
        raise UsageError(f"{path} is no table of texts (CSV): it {wrong}")
    if recognition.is_json(head):
        raise UsageError(f"{path} is no table of texts (CSV), but looks like JSON: name it so, or use --input-format json")
    return _rows(path, size if limit_bytes is None else min(size, limit_bytes), settled(path, options or ReadOptions())[0])


def settled(path: Path, options: ReadOptions, *, most_bytes: int | None = None) -> tuple[ReadOptions, list[str]]:
    """Return the options with the encoding and the delimiter of the file, and what a person should know of how it is read.

    most_bytes: look at the beginning of the file alone.
    """
    with explained(path):
        end = path.stat().st_size if most_bytes is None else most_bytes
        found = encoding.named(options.encoding) if options.encoding else encoding.find(path, end)
        with open_text(path, end, found) as (text, _):
            head = text.read(HEAD_BYTES)
    if options.delimiter is not None:
        delimiter = _named(options.delimiter)
    else:
        delimiter = "\t" if unpacked(path).suffix.lower() == ".tsv" and "\t" in head else delimiters.find(head)
    try:
        names = delimiters.has_row_names(head, delimiter)
    except csv.Error:
        names = False
    escaped = delimiters.escapes(head, delimiter)
    options = structs.replace(options, encoding=found.name, delimiter=delimiter, escaped=escaped, row_names=names)
    return options, encoding.remarks(found)


def _named(delimiter: str) -> str:
    """Return the delimiter that a user has named. Raises UsageError for what cannot be one."""
    given = _NAMES.get(delimiter.strip().lower(), delimiter)
    if len(given) != 1 or given in '"\r\n':
        raise UsageError(f"delimiter must be one character, or tab, not {delimiter!r}")
    return given


def _rows(path: Path, end: int, options: ReadOptions) -> Generator[Row, None, None]:
    csv.field_size_limit(max(csv.field_size_limit(), ROW_BYTES))
    assert options.encoding is not None
    with explained(path), open_text(path, end, Encoding(options.encoding)) as (text, compressed):
        try:
            yield from _Records(text, options, lambda: not compressed and path.stat().st_size > end).rows()
        except _UnreadableError as error:
            raise UsageError(f"{path}: {error}") from None


class _TooLongError(Exception):
    """A record is longer than a row may be."""


class _UnreadableError(Exception):
    """Nobody can tell any more what is a row of a text, or what its columns are called; ``str()`` says why."""


class _Records:
    """The records of a text, with the lines on which they begin.

    grows: returns True if the file has grown since, so that what it ends with may be the half of a record.
    """

    def __init__(self, text: IO[str], options: ReadOptions, grows: Callable[[], bool]) -> None:
        self._text, self._options, self._grows = text, options, grows
        # lines that have been read, and of the present record: characters, quotation marks
        self._line = self._chars = self._quotes = 0
        # the line on which the last cell begins that goes on behind it
        self._opened = 0
        # the last line has its end
        self._whole = True

    def rows(self) -> Generator[Row, None, None]:
        """Yield the rows behind the header."""
        names: list[str] = []
        settings = Settings((), as_data=True)
        for line, record, fault in self._records():
            if names:
                yield self._row(line, record, fault, names, settings)
            elif fault is not None:
                raise _UnreadableError(f"its header, on line {line:,}, cannot be read: {fault}")
            else:
                names = column_names(["", *record] if self._options.row_names else record)
                settings = Settings(names, as_data=not self._options.row_settings)

    def _records(self) -> Iterator[tuple[int, list[str], str | None]]:
        """Yield each record with the line on which it begins, and with its fault; blank ones are left out."""
        assert self._options.delimiter is not None
        new_reader = partial(csv.reader, delimiter=self._options.delimiter)
        reader = new_reader(self._lines())
        while True:
            line = self._line + 1
            self._chars = self._quotes = 0
            fault: str | None = None
            try:
                record = next(reader)
            except StopIteration:
                return
            except _TooLongError:
                if self._quotes % 2 and self._line > line:
                    raise _UnreadableError(
                        f"the quotation mark on line {self._opened:,} is not closed within {ROW_BYTES >> 20} MiB, so nothing "
                        'behind it can be read; close it, or write it twice ("") if it is part of the text'
                    ) from None
                reader = new_reader(self._lines())
                record, fault = [], TOO_LONG
            except csv.Error as error:
                record, fault = [], f"not CSV: {error}"
            if not self._whole and self._grows():
                # another process is still writing its last record
                return
            if self._quotes % 2 and not self._whole:
                where = f" (it is on line {self._opened:,})" if self._opened > line else ""
                fault = f"a quotation mark is never closed{where}"
            if fault is not None or any(record):
                yield line, record, fault

    def _lines(self) -> Iterator[str]:
        readline, escaped = self._text.readline, self._options.escaped
        while line := readline(ROW_BYTES):
            self._line += 1
            if self._line == 1 and delimiters.declared(line) is not None:
                continue
            if escaped and '\\"' in line:
                line = delimiters.unescaped(line)
            self._chars += len(line)
            if '"' in line:
                before = self._quotes
                self._quotes += line.count('"')
                # one cell may end and another begin; two marks in a row stand for one in the text
                if self._quotes % 2 and (not before % 2 or '"' in line.replace('""', "")):
                    self._opened = self._line
            self._whole = line[-1] in "\r\n"
            if self._chars > ROW_BYTES or (not self._whole and len(line) >= ROW_BYTES):
                # else the rest of the line would be taken for the next record
                while line and line[-1] not in "\r\n":
                    line = readline(ROW_BYTES)
                raise _TooLongError
            yield line
        self._whole = self._whole and not self._quotes % 2

    def _row(self, line: int, record: list[str], fault: str | None, names: list[str], settings: Settings) -> Row:
        size = self._chars
        if len(record) > len(names) and not any(record[len(names) :]):
            # spreadsheets write empty cells behind the last column
            record = record[: len(names)]
        if fault is None and len(record) > len(names):
            fault = f"{len(record)} cells, but the header has {len(names)}; is one of them missing its quotation marks?"
        fault = fault or encoding.fault("".join(record))
        if fault is not None:
            own = dict(zip(names, record, strict=False)).get("id")
            raw = "\t".join(cell[:RAW_BYTES] for cell in record).encode(errors="surrogateescape")[:RAW_BYTES]
            return Row(line=line, fields={"id": own} if own else None, fault=fault, raw=raw, size=size)
        fields: dict[str, object] = dict(zip(names, record, strict=False))
        settings.read(fields)
        return Row(line=line, fields=fields, size=size)
