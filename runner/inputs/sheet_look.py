"""Looks through a spreadsheet file before the library reads it: what it would take in memory. Nothing is kept.

A file of a kilobyte can stand for more cells and texts than any memory holds, and the library has no limit.
"""

import zipfile
import zlib
from array import array
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import IO
from xml.parsers import expat

from runner.errors import UsageError

MOST_BYTES = 1 << 30
"""Bytes that a file may have when it is unpacked."""
MOST_CELLS = 24 << 20
"""Cells that a sheet may have, empty ones between them too: more than 1,048,576 rows of 20 columns."""
MOST_SHARED = 8 << 20
"""Texts that cells may share."""
MOST_TEXT = 256 << 20
"""Bytes that the texts of a sheet may have together; one that several cells share counts for each."""
_BLOCK = 1 << 16
_LONGEST_TAG = 1 << 20
_DIGITS = "0123456789"
_SPACES = " \t\r\n"
_MOST_COLUMNS = 26 + 26**2 + 26**3
_OFTEN = 0xFFF
"""Cells between two comparisons with what is allowed."""


class _RefusedError(Exception):
    """A file is not read; ``str()`` says why, in words that follow its name."""


def refuse_bomb(path: Path) -> None:
    """Raise UsageError for a file that is damaged, or would take more memory than a sheet may. OSError if it cannot be read."""
    status = path.stat()
    refused = _refused(path, status.st_ino, status.st_size, status.st_mtime_ns)
    if refused is not None:
        raise UsageError(f"{path} {refused}")


@lru_cache(maxsize=64)
def _refused(path: Path, *_: int) -> str | None:
    """Return why a file is not read, in words that follow its name; None if it may be. A run asks more than once."""
    if not zipfile.is_zipfile(path):
        return None
    try:
        with zipfile.ZipFile(path) as packed:
            _look_at(packed)
    except _RefusedError as error:
        return str(error)
    except (zipfile.BadZipFile, NotImplementedError, zlib.error, EOFError, RuntimeError, expat.ExpatError) as error:
        return _damaged(str(error))
    return None


def _look_at(packed: zipfile.ZipFile) -> None:
    left, shared = MOST_BYTES, array("Q")
    # the texts that cells share come before the cells
    for part in sorted(packed.infolist(), key=lambda part: "sharedstrings" not in part.filename.lower()):
        # what the directory says about the size may be a lie, and the library does not ask it
        part.file_size = 1 << 62
        with packed.open(part) as file:
            found: _Part | None = None
            for block in _blocks(file):
                left -= len(block)
                if left < 0:
                    size = f"unpacks to more than {MOST_BYTES >> 30} GiB"
                    raise _RefusedError(f"{size}, more than a sheet may have here; save it as CSV")
                if left + len(block) and found is None and block.lstrip(b"\xef\xbb\xbf\xff\xfe\0 \t\r\n").startswith(b"<"):
                    found = _Part(shared)
                if found is not None:
                    found.feed(block)
            if found is not None:
                found.end()


def _blocks(file: IO[bytes]) -> Iterator[bytes]:
    while block := file.read(_BLOCK):
        yield block


def _damaged(why: str) -> str:
    return f"is cut off or damaged ({why}); save the file again, or copy it again"


class _Part:
    """An XML file inside: the texts that cells share, a sheet of an .xlsx, or all sheets of an .ods. Raises _RefusedError."""

    def __init__(self, shared: "array[int]") -> None:
        """shared: the lengths of the texts that cells share, to which those of this part are added."""
        self._shared, self._fed = shared, 0
        self._sheet: _Sheet = _Sheet(shared)
        self._known: dict[str, Callable[[list[str]], None] | None] = {}
        self._parser = parser = expat.ParserCreate()
        parser.ordered_attributes = parser.buffer_text = True
        parser.StartElementHandler, parser.EntityDeclHandler = self._start, _refuse_entity
        parser.CharacterDataHandler = self._sheet.chars

    def feed(self, block: bytes) -> None:
        """Read on. Raises ExpatError."""
        self._fed += len(block)
        self._parser.Parse(block, False)
        if self._fed - max(0, self._parser.CurrentByteIndex) > _LONGEST_TAG + _BLOCK:
            raise _RefusedError(_damaged("a tag without an end"))

    def end(self) -> None:
        """Read the end. Raises ExpatError."""
        self._parser.Parse(b"", True)
        self._sheet.end()

    def _start(self, name: str, attributes: list[str]) -> None:
        try:
            found = self._known[name]
        except KeyError:
            # the prefix of a name may be any
            found = self._known[name] = self._sheet.tags.get(name.rpartition(":")[2])
            if len(self._known) > _OFTEN:
                raise _RefusedError(_damaged("tags of too many names")) from None
        if found is not None:
            found(attributes)


def _refuse_entity(*_: object) -> None:
    raise _RefusedError(_damaged("entities of its own, which no program writes for a sheet"))


class _Sheet:
    """The cells and texts of a part, counted."""

    def __init__(self, shared: "array[int]") -> None:
        self._shared = shared
        self.tags: dict[str, Callable[[list[str]], None]] = {
            "si": self._shared_text,
            "row": self._row,
            "c": self._cell,
            "v": self._value,
            "is": self._fill,
            "table": self._table,
            "table-row": self._repeated_row,
            "table-cell": self._repeated_cell,
            "covered-table-cell": self._repeated_cell,
            "s": self._spaces,
        }
        self._cells = self._text = 0
        # the last row and column with a value
        self._last = self._columns = 0
        # where the reader is, and where the cell says that it is
        self._line = self._place = 0
        self._at = self._number = ""
        self._letters: set[str] = set()
        # a cell is open whose value is the number of a shared text, and that number
        self._is_shared, self._which = False, ""
        self._of_shared = False
        # of an .ods: how often the row stands there, and the cell
        self._rows = self._times = 1

    def chars(self, data: str) -> None:
        """Count text."""
        if self._is_shared:
            self._which += data[:20]
            return
        length = len(data) if data.isascii() else len(data.encode(errors="replace"))
        self._add_text(length)

    def _add_text(self, length: int) -> None:
        if self._of_shared:
            self._shared[-1] += length
        self._text += length * self._times * self._rows
        if self._text > MOST_TEXT:
            self.check()

    def end(self) -> None:
        """Raise _RefusedError if there is more than is allowed."""
        self._add_shared()
        self.check()

    def check(self) -> None:
        """Raise _RefusedError if there is more than is allowed so far."""
        if self._text > MOST_TEXT:
            size = f"has texts of more than {MOST_TEXT >> 20} MiB"
            raise _RefusedError(f"{size}, more than a sheet may have here; save it as CSV")
        if max(self._cells, self._last * self._columns) > MOST_CELLS:
            words = f"{MOST_CELLS:,} cells with the empty ones between them"
            raise _RefusedError(
                f"has a sheet that reaches to {_called(self._columns)}{min(self._last, 10**9)}, more than {words}; "
                "delete what stands far from the table, or save it as CSV"
            )

    # .xlsx

    def _shared_text(self, _: list[str]) -> None:
        self._of_shared = True
        self._shared.append(0)
        if len(self._shared) > MOST_SHARED:
            raise _RefusedError(f"has more than {MOST_SHARED:,} texts, more than a sheet may have here; save it as CSV")

    def _row(self, attributes: list[str]) -> None:
        self._line, self._place = self._line + 1, 0
        for name, value in zip(attributes[::2], attributes[1::2], strict=True):
            if name == "r":
                self._line = _whole(value)

    def _cell(self, attributes: list[str]) -> None:
        if self._is_shared:
            self._add_shared()
        self._place += 1
        self._at = attributes[attributes.index("r") + 1] if "r" in attributes else ""
        # most cells have neither
        if "s" in attributes and "t" in attributes:
            self._is_shared = ("t", "s") in zip(attributes[::2], attributes[1::2], strict=True)

    def _value(self, attributes: list[str]) -> None:
        self._which = ""
        self._fill(attributes)

    def _fill(self, _: list[str]) -> None:
        """Count a cell with a value; one that only has a style takes nothing."""
        self._cells += 1
        at = self._at
        if not at:
            self._columns, self._last = max(self._columns, self._place), max(self._last, self._line)
        else:
            letters = at.rstrip(_DIGITS)
            if letters not in self._letters:
                self._letters.add(letters)
                self._columns = max(self._columns, _column(letters))
            if not at.endswith(self._number, len(letters)) or len(at) - len(letters) != len(self._number):
                self._number = at[len(letters) :]
                self._last = max(self._last, _whole(self._number))
        if not self._cells & _OFTEN:
            self.check()

    def _add_shared(self) -> None:
        if self._is_shared:
            self._is_shared = False
            number = _whole(self._which.strip(_SPACES))
            self._add_text(self._shared[number] if number < len(self._shared) else 0)

    # .ods

    def _table(self, _: list[str]) -> None:
        self.check()
        self._line = self._place = self._last = self._columns = self._cells = 0
        self._rows = self._times = 1

    def _repeated_row(self, attributes: list[str]) -> None:
        self._rows, self._place = _repeats(attributes, "number-rows-repeated"), 0
        self._line += self._rows

    def _repeated_cell(self, attributes: list[str]) -> None:
        self._times = _repeats(attributes, "number-columns-repeated")
        self._place += self._times
        if any(name.rpartition(":")[2] == "value-type" for name in attributes[::2]):
            self._cells += self._times * self._rows
            self._columns, self._last = max(self._columns, self._place), max(self._last, self._line)
            # a text may be an attribute
            self._add_text(sum(map(len, attributes)))
            self.check()

    def _spaces(self, attributes: list[str]) -> None:
        self._add_text(_repeats(attributes, "c"))


def _repeats(attributes: list[str], wanted: str) -> int:
    """Return how often something stands there, by its attribute of that name: once if it has none."""
    for name, value in zip(attributes[::2], attributes[1::2], strict=True):
        if name.rpartition(":")[2] == wanted:
            return max(1, _whole(value.strip(_SPACES)))
    return 1


def _whole(digits: str) -> int:
    """Return a number; of one with more digits than any sheet needs, the first. 0 for what is none."""
    digits = digits[:18]
    return int(digits) if digits.isascii() and digits.isdigit() else 0


def _column(letters: str) -> int:
    """Return the number of a column, from 1 on: A is 1, AA is 27."""
    number = 0
    for letter in letters[:8].upper():
        number = 26 * number + max(0, ord(letter) - 64)
    if number > _MOST_COLUMNS:
        raise _RefusedError(_damaged(f"a cell in a column {letters[:8]!r}"))
    return number


def _called(number: int) -> str:
    """Return the letters of a column, as ``_column`` reads them."""
    letters = ""
    while number > 0:
        number, rest = divmod(number - 1, 26)
        letters = chr(65 + rest) + letters
    return letters
