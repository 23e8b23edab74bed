r"""CSV for spreadsheets: every cell quoted, lines end with \n, UTF-8.

Text that a spreadsheet would read as a formula is prefixed with an apostrophe, unless ``raw``. JSONL is the lossless format.
"""

import csv
import math
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import IO

import msgspec

from runner.text import encodable, encodable_tree, plural


def write(
    columns: Sequence[str],
    records: Iterable[Sequence[object]],
    out: IO[str],
    *,
    raw: bool = False,
    kept: Collection[str] = (),
    excel: bool = False,
    notes: list[str] | None = None,
) -> int:
    r"""Write a header and all records; return the number of records.

    None, NaN and infinities become empty cells; lists and objects become compact JSON. ``out`` must be opened with
    ``newline=""``, so that line ends inside a text are preserved. raw: leave formulas as they are; NUL and lone surrogates are
    removed or replaced in any case. kept: columns in which formulas stay as they are, such as the ids, by which files are joined.
    excel: begin with a byte order mark, by which Excel knows UTF-8. notes: receives a sentence for each kind of change that was
    made to cells.
    """
    changes = _Changes()
    if excel:
        out.write("\ufeff")
    writer = csv.writer(out, quoting=csv.QUOTE_ALL, lineterminator="\n")
    texts = [changes.kept if raw or name in kept else changes.escaped for name in columns]
    writer.writerow([text(name) for name, text in zip(columns, texts, strict=True)])
    count = 0

    def rows() -> Iterator[list[object]]:
        nonlocal count
        for count, record in enumerate(records, 1):  # noqa: B007 - the last count is the result
            # csv.writer handles None and int itself; passing them straight through saves a call per cell.
            yield [
                text(value) if type(value) is str else value if value is None or type(value) is int else _cell(value, text)
                for value, text in zip(record, texts, strict=True)
            ]

    writer.writerows(rows())
    if notes is not None:
        notes += changes.sentences()
    return count


class _Changes:
    """Makes texts into cells, and counts the cells that are not the text that they were."""

    def __init__(self) -> None:
        self._formulas = self._unwritable = 0

    def escaped(self, value: str) -> str:
        """Return a cell that no spreadsheet takes for a formula."""
        # The common case, ASCII text that starts with a letter or digit, takes three tests: this runs for millions of cells.
        if value[:1].isalnum() and value.isascii() and "\0" not in value:
            return value
        if _is_formula(value):
            self._formulas += 1
            value = f"'{value}"
        return self.kept(value)

    def kept(self, value: str) -> str:
        """Return a cell with the text as it is."""
        text = csv_text(value)
        if text is not value and text != value:
            self._unwritable += 1
        return text

    def sentences(self) -> list[str]:
        """Return what was changed, one sentence for each kind."""
        found = []
        if self._formulas:
            begin = "begins" if self._formulas == 1 else "begin"
            cells = plural(self._formulas, "cell")
            found.append(f"{cells} {begin} with =, +, - or @ and got a leading apostrophe; --csv-raw writes them as they are")
        if self._unwritable:
            cells = plural(self._unwritable, "cell")
            found.append(f"{cells} held a NUL or half a character, which CSV cannot hold; JSONL keeps the NUL")
        return found


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


def _is_formula(value: str) -> bool:
    return not value[:1].isalnum() and _FORMULA.match(value) is not None


def csv_cell(value: str) -> str:
    """Return a text made safe for a spreadsheet: an apostrophe before a would-be formula, no NUL, no lone surrogates."""
    return csv_text(f"'{value}" if _is_formula(value) else value)


def csv_text(value: str) -> str:
    """Return a text without NUL and with lone surrogates replaced, as every CSV file needs it."""
    return encodable(value.replace("\0", ""))
