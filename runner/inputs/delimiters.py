"""Finds out what separates the cells of a table in a text. Pure."""

import csv
import io
import re
from collections.abc import Sequence
from itertools import islice

CANDIDATES = (",", ";", "\t", "|")
_RECORDS = 100
_ROWS_WITH_NAMES = 2
_ESCAPED = re.compile(r'(?<!\\)\\"')
_SURE = 0.8
"""Share of the records that must have as many cells as the first."""


def find(text: str) -> str:
    """Return the delimiter of a table, by its first lines; a comma for a table of one column."""
    named = declared(text)
    if named is not None:
        return named
    fits = {delimiter: _fit(text, delimiter) for delimiter in CANDIDATES}
    best = max(CANDIDATES, key=fits.__getitem__)
    return best if fits[best][0] >= _SURE else ","


def declared(text: str) -> str | None:
    """Return the delimiter that a first line such as ``sep=;`` declares, as Excel reads it; None if there is no such line."""
    line = text[:7].splitlines()[0] if text[:4].lower() == "sep=" else ""
    return line[4] if len(line) == 5 else None


def is_table(text: str) -> bool:
    """Return True if a text is a table of two columns or more for certain: all of its records, three or more, are as long."""
    return max(_fit(text, delimiter) for delimiter in CANDIDATES)[0] == 1.0 and text.count("\n") > 1


def escapes(text: str, delimiter: str) -> bool:
    """Return True if quotation marks in quoted cells stand behind a backslash, as R writes them, and are not doubled."""
    apart = re.escape(delimiter)
    # in a cell in which they are doubled, no single one can be followed by more text
    return re.search(rf'(?:^|{apart})"[^"\r\n]*(?<!\\)\\"[^"{apart}\r\n]', text, re.MULTILINE) is not None


def unescaped(text: str) -> str:
    """Return a text with doubled quotation marks in place of those behind a backslash."""
    return _ESCAPED.sub('""', text)


def has_row_names(text: str, delimiter: str) -> bool:
    """Return True if the first column has no name and no place in the header, as R writes the names of its rows."""
    return _has_row_names(_records(text, delimiter))


def _has_row_names(records: Sequence[Sequence[str]]) -> bool:
    header, behind = records[:1], records[1:]
    if len(behind) < _ROWS_WITH_NAMES or any(len(record) != len(header[0]) + 1 for record in behind):
        return False
    # else it is a delimiter at the end of each line
    return any(record[-1] for record in behind)


def _records(text: str, delimiter: str) -> list[list[str]]:
    """Return the first records of a text, without one that may be cut off. Raises csv.Error."""
    if escapes(text, delimiter):
        text = unescaped(text)
    records = [record for record in islice(csv.reader(io.StringIO(text, ""), delimiter=delimiter), _RECORDS + 1) if record]
    whole = len(records) <= 1 or (len(records) <= _RECORDS and text.endswith(("\n", "\r")))
    return records if whole else records[:-1]


def _fit(text: str, delimiter: str) -> tuple[float, int]:
    """Return the share of records that are as long as the first, and the number of cells; (0, 1) for a table of one column."""
    try:
        records = _records(text, delimiter)
    except csv.Error:
        return 0.0, 1
    if _has_row_names(records):
        return 1.0, len(records[1])
    cells = len(records[0]) if records else 1
    if cells < 2:
        return 0.0, 1
    return sum(len(record) == cells for record in records) / len(records), cells
