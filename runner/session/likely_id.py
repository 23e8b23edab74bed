"""Finds the column of a table that is the id of its rows. Pure."""

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from runner.inputs.duplicates import HashCollector
from runner.model import Json, Row

_ID = re.compile(r"(?i:(?:.*[\W_])?(?:id|uuid|guid|key|nr|no|number|code|sku|asin|isbn))|.*[a-z](?:Id|ID|Key|Nr|No)")
_LONGEST_ID = 64
_MOST_IDS = 3
"""Columns that may be the id, and are compared over all rows."""


class Found(NamedTuple):
    """The column that is the id; whether a column ``id`` repeats itself; and what may be the id, as far as it was read."""

    column: str | None
    repeats: bool
    maybe: str | None


class Ids:
    """Finds out which column is the id of its rows: one that is different in each row, and is called or looks like an id."""

    def __init__(self, filled: Mapping[str, int], rows: Sequence[Mapping[str, Json]]) -> None:
        """filled: how many cells of each column hold something in these rows, the first of all."""
        full = [name for name, number in filled.items() if number == len(rows) and rows]
        named = [name for name in full if name != "id" and _ID.fullmatch(name) and _are_ids([row[name] for row in rows])]
        self._hashes = {name: HashCollector() for name in [*(["id"] if "id" in filled else []), *named[:_MOST_IDS]]}
        self._unfit: set[str] = set()

    def add(self, rows: Sequence[Row]) -> None:
        """Look at the ids of rows."""
        for name, hashes in self._hashes.items():
            for row in rows:
                own = (row.fields or {}).get(name)
                if own not in (None, ""):
                    hashes.add(hash(str(own)))
                elif row.fault is None and name != "id":
                    self._unfit.add(name)

    def found(self, *, all_read: bool) -> Found:
        """Return what the columns are. all_read: no row was left out."""
        repeating = {name for name, hashes in self._hashes.items() if hashes.repeats()}
        repeats = "id" in repeating
        if "id" in self._hashes and not repeats:
            return Found("id", False, None)
        fit = (name for name in self._hashes if name not in repeating | self._unfit)
        found = next(fit, None)
        # a column that was not read to its end may repeat itself yet, and then the whole file would be refused
        sure = all_read or repeats
        return Found(found if sure else None, repeats, None if sure else found)


def _are_ids(values: Sequence[Json]) -> bool:
    """Return True if values may be ids: short, without blanks, and each another."""
    texts = {
        value if isinstance(value, str) else str(value)
        for value in values
        if isinstance(value, str | int) and not isinstance(value, bool)
    }
    return len(texts) == len(values) and all(len(text) <= _LONGEST_ID and not any(map(str.isspace, text)) for text in texts)
