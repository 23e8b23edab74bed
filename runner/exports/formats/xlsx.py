"""Sheets for Excel and the like, by XlsxWriter, which keeps one row in memory. Each text is a text, whatever it begins with.

A sheet has limits that answers may exceed. More rows are refused; a longer text is cut, which its cell and a note say.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from runner.errors import UsageError
from runner.exports import remains
from runner.exports.kinds import text_of
from runner.text import plural

OUTPUT = "path"
"""Opens the file itself."""
MOST_ROWS = 1_048_575
"""Rows of a sheet, without the one with the names of the columns."""
MOST_COLUMNS = 16_384
_MOST_UNITS = 32_767
"""Units of UTF-16 in a cell."""
_EXACT = 10**15
"""Sheets have 15 digits: whole numbers from here on are written as texts."""


def ready() -> None:
    """Raise UsageError if XlsxWriter is not installed."""
    try:
        import xlsxwriter  # noqa: F401
    except ImportError:
        raise UsageError("writing .xlsx needs one package more: pip install 'prompt-runner[xlsx]'") from None


def write(columns: Sequence[str], records: Iterable[Sequence[object]], out: Path, *, notes: list[str] | None = None) -> int:
    """Write a sheet with a header and all records; return the number of records. notes: receives a sentence about cut texts."""
    import xlsxwriter

    # what the library keeps on the disk is beside the export, where there has to be room for it anyway
    with TemporaryDirectory(prefix=remains.beside(out), dir=out.parent) as folder:
        book = xlsxwriter.Workbook(str(out), {"constant_memory": True, "tmpdir": folder})
        # the file of the cells may have more than 4 GiB before it is packed
        book.use_zip64()
        sheet = _Sheet(book)
        sheet.line(0, columns)
        count = 0
        for count, record in enumerate(records, 1):
            sheet.line(count, record)
        try:
            book.close()
        except xlsxwriter.exceptions.FileCreateError as error:
            # it wraps the error of the system
            raise error.args[0] from error
    if notes is not None and sheet.cut:
        cells = plural(sheet.cut, "cell")
        notes.append(
            f"{cells} had more characters than the 32,767 of a sheet and {_are(sheet.cut)} cut, as their ends say; "
            "CSV, JSONL, Parquet and SQLite have them whole"
        )
    return count


def _are(number: int) -> str:
    return "is" if number == 1 else "are"


class _Sheet:
    """Writes cells, and counts those that were cut."""

    def __init__(self, book: Any) -> None:
        self._sheet, self._plain = book.add_worksheet("answers"), book.add_format()
        self._sheet.freeze_panes(1, 0)
        self.cut = 0

    def line(self, row: int, values: Sequence[object]) -> None:
        """Write a line of cells."""
        text, number = self._sheet.write_string, self._sheet.write_number
        for column, value in enumerate(values):
            if value is None:
                continue
            if type(value) is str:
                self._text(row, column, value, text)
            elif isinstance(value, bool):
                self._sheet.write_boolean(row, column, value)
            elif isinstance(value, int) and -_EXACT < value < _EXACT:
                number(row, column, value)
            elif isinstance(value, float):
                if math.isfinite(value):
                    number(row, column, value)
            else:
                self._text(row, column, text_of(value), text)

    def _text(self, row: int, column: int, value: str, write: Callable[[int, int, str], int]) -> None:
        value = text_of(value)
        # most texts need no count of their units
        if len(value) > _MOST_UNITS // 2 and _units(value) > _MOST_UNITS:
            self.cut += 1
            value = _shortened(value)
        if value.startswith("<r>") and value.endswith("</r>"):
            # the library takes such a text for its own code of a text in several fonts, unless it makes that code itself
            self._sheet.write_rich_string(row, column, value[0], self._plain, value[1:])
        else:
            write(row, column, value)


def _units(text: str) -> int:
    return len(text.encode("utf-16-le")) // 2


def _shortened(text: str) -> str:
    end = f" [cut: {len(text):,} characters]"
    return text.encode("utf-16-le")[: 2 * (_MOST_UNITS - len(end))].decode("utf-16-le", errors="ignore") + end
