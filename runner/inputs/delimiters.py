"""Finds out what separates the cells of a table in a text. Pure."""

import csv
import io
from itertools import islice

CANDIDATES = (",", ";", "\t", "|")
_RECORDS = 100
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


def _fit(text: str, delimiter: str) -> tuple[float, int]:
    """Return the share of records that are as long as the first, and the number of cells; (0, 1) for a table of one column."""
    try:
        records = [record for record in islice(csv.reader(io.StringIO(text, ""), delimiter=delimiter), _RECORDS + 1) if record]
    except csv.Error:
        return 0.0, 1
    # the last one may be cut off
    records = records[:-1] if len(records) > 1 else records
    cells = len(records[0]) if records else 1
    if cells < 2:
        return 0.0, 1
    return sum(len(record) == cells for record in records) / len(records), cells
