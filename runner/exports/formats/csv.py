r"""CSV for spreadsheets: every cell quoted, lines end with \n, UTF-8 without a byte order mark.

Text that a spreadsheet would read as a formula is prefixed with an apostrophe, unless ``raw``. JSONL is the lossless format.
"""

import csv
import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import IO

import msgspec

from runner.text import encodable, encodable_tree


def write(columns: Sequence[str], records: Iterable[Sequence[object]], out: IO[str], *, raw: bool = False) -> int:
    r"""Write a header and all records; return the number of records.

    None, NaN and infinities become empty cells; lists and objects become compact JSON. ``out`` must be opened with
    ``newline=""``, so that line ends inside a text are preserved. ``raw`` leaves formulas as they are; NUL and lone surrogates
    are removed or replaced in any case.
    """
    text = csv_text if raw else csv_cell
    writer = csv.writer(out, quoting=csv.QUOTE_ALL, lineterminator="\n")
    writer.writerow([text(column) for column in columns])
    count = 0

    def rows() -> Iterator[list[object]]:
        nonlocal count
        for count, record in enumerate(records, 1):  # noqa: B007 - the last count is the result
            # csv.writer handles None and int itself; passing them straight through saves a call per cell.
            yield [
                text(value) if type(value) is str else value if value is None or type(value) is int else _cell(value, text)
                for value in record
            ]

    writer.writerows(rows())
    return count


def _cell(value: object, text: Callable[[str], str]) -> str:
    if isinstance(value, float):
        return repr(value) if math.isfinite(value) else ""
    if value is True or value is False:
        return "true" if value else "false"
    if isinstance(value, int):
        return repr(value)
    return text(value if isinstance(value, str) else _json(value))


def _json(value: object) -> str:
    try:
        return msgspec.json.encode(value).decode()
    except UnicodeEncodeError:
        return msgspec.json.encode(encodable_tree(value)).decode()


# Spaces and quotes, any number of which a spreadsheet may strip, then a character that starts a formula: = + - @ and their
# full-width forms, or TAB CR LF NUL. Zero-width characters count as spaces.
_FORMULA = re.compile(
    "(?:[^\\S\\t\\r\\n]|[\"'\\uff02\\uff07\\u200b-\\u200f\\u2060\\ufeff])*[=+\\-@\\t\\r\\n\\x00\\uff1d\\uff0b\\uff0d\\uff20]"
)


def csv_cell(value: str) -> str:
    """Return a text made safe for a spreadsheet: an apostrophe before a would-be formula, no NUL, no lone surrogates."""
    # The common case, ASCII text that starts with a letter or digit, returns after three tests: this runs for millions of cells.
    first = value[:1]
    if first.isalnum() and value.isascii() and "\0" not in value:
        return value
    if not first.isalnum() and _FORMULA.match(value):
        value = f"'{value}"
    return csv_text(value)


def csv_text(value: str) -> str:
    """Return a text without NUL and with lone surrogates replaced, as every CSV file needs it."""
    return encodable(value.replace("\0", ""))
