"""How many rows of a Parquet file fit into the memory at once, by what its pages say about themselves. None is unpacked.

A page of a few bytes can stand for one cell that is larger than a row may be, or for a text that each of a million rows repeats.
"""

from collections.abc import Iterator
from itertools import chain
from typing import IO, Any, NamedTuple

from runner.inputs.json_rows import ROW_BYTES

MOST_ROWS = 250
"""Rows that are read at once, at most."""
_MOST_BYTES = 64 << 20
"""Bytes that these rows should have together."""
_MOST_OF_HEADER = 1 << 16
_DICTIONARY = 2


class Page(NamedTuple):
    """What the header of a page says: its kind, its bytes when it is unpacked and where it lies, and the values in it."""

    kind: int
    size: int
    packed: int
    values: int


class TooLargeError(Exception):
    """A page holds a cell that is larger than a row may be."""


def rows_at_once(file: IO[bytes], group: Any) -> int:
    """Return how many rows of a row group may be read at once.

    file: the Parquet file. group: the metadata of the row group. Raises TooLargeError.
    """
    columns = [group.column(place) for place in range(group.num_columns)]
    # a cell of a column with a dictionary may be as long as the dictionary
    each = sum(column.total_uncompressed_size for column in columns) // max(1, group.num_rows)
    for column in columns:
        pages = _pages(file, column)
        first = next(pages, None)
        if first is not None and first.kind == _DICTIONARY:
            each += first.size
        if column.total_uncompressed_size > ROW_BYTES and first is not None:
            for page in chain([first], pages):
                if page.size > ROW_BYTES * max(1, page.values):
                    raise TooLargeError
    return max(1, min(MOST_ROWS, _MOST_BYTES // max(1, int(each))))


def _pages(file: IO[bytes], column: Any) -> Iterator[Page]:
    """Yield what is known of the pages of a column, up to the first header that cannot be read: the library refuses that."""
    at = column.data_page_offset
    if column.dictionary_page_offset is not None:
        at = min(at, column.dictionary_page_offset)
    end = at + column.total_compressed_size
    while at < end:
        file.seek(at)
        try:
            header = _Header(file.read(_MOST_OF_HEADER))
            page = header.page()
        except (IndexError, ValueError, RecursionError):
            return
        if page.packed < 0:
            return
        yield page
        at += header.length + page.packed


class _Header:
    """The header of a page in the compact protocol of Thrift. Raises IndexError and ValueError for what is none."""

    def __init__(self, data: bytes) -> None:
        self._data, self.length = data, 0

    def page(self) -> Page:
        """Return what it says, of the fields of ``PageHeader`` in the Parquet format."""
        found = self._struct()
        inner: dict[int, Any] = next((found[number] for number in (5, 7, 8) if isinstance(found.get(number), dict)), {})
        kind, size, packed, values = found.get(1), found.get(2), found.get(3), inner.get(1, 0)
        if not (isinstance(kind, int) and isinstance(size, int) and isinstance(packed, int) and isinstance(values, int)):
            raise ValueError(found)  # noqa: TRY004 - the file is wrong, not the caller
        return Page(kind, size, packed, values)

    def _struct(self) -> dict[int, Any]:
        fields: dict[int, Any] = {}
        number = 0
        while head := self._byte():
            number = number + (head >> 4) if head >> 4 else self._signed()
            fields[number] = self._value(head & 15)
        return fields

    def _value(self, kind: int) -> Any:
        if kind in (1, 2):
            return kind == 1
        if kind == 3:
            return self._byte()
        if kind in (4, 5, 6):
            return self._signed()
        if kind == 7:
            self.length += 8
            return None
        if kind == 8:
            self.length += self._number()
            return None
        if kind == 12:
            return self._struct()
        raise ValueError(kind)

    def _byte(self) -> int:
        self.length += 1
        return self._data[self.length - 1]

    def _number(self) -> int:
        number = shift = 0
        while (byte := self._byte()) & 128:
            number |= (byte & 127) << shift
            shift += 7
        return number | byte << shift

    def _signed(self) -> int:
        number = self._number()
        return (number >> 1) ^ -(number & 1)
