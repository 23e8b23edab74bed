"""Keys of rows. A row's key within a run is its own id, else a hash of its content and an ordinal among identical rows. Pure."""

from array import array
from collections.abc import Iterator, Mapping
from hashlib import blake2b

import msgspec

from runner.inputs.duplicates import RepeatedHashes
from runner.model import Json, Row

KEY_PREFIX = "row-"
"""Prefix of the keys of rows without an id."""

_NOTHING: Mapping[str, int] = {}
_SORTED = msgspec.json.Encoder(order="sorted")


def base_key(row: Row) -> tuple[str, bool]:
    """Return the key of a row before an ordinal is added, and True if that key is the row's own id.

    Without an id, the key is a hash of the row's content that ignores spacing and the order of fields. It never depends on the
    line number, so that inserting a line does not cause the rows below it to be sent again.
    """
    if row.fields is None:
        return KEY_PREFIX + blake2b(row.raw, digest_size=10).hexdigest(), False
    own = _own_id(row.fields)
    if own is not None:
        return own, True
    return KEY_PREFIX + blake2b(_SORTED.encode(row.fields), digest_size=10).hexdigest(), False


def _own_id(fields: Mapping[str, Json]) -> str | None:
    own = fields.get("id")
    if isinstance(own, str):
        return own or None
    if isinstance(own, int) and not isinstance(own, bool):
        return str(own)
    return None


def fingerprint(row: Row) -> int:
    """Return a 64-bit hash of what a row asks: a changed prompt under the same id changes it, changed metadata does not."""
    fields = row.fields or {}
    asked = _SORTED.encode([fields.get("prompt"), fields.get("messages"), fields.get("params")])
    return int.from_bytes(blake2b(asked, digest_size=8).digest(), "big", signed=True)


def short_key(key: str) -> int:
    """Return the first 64 of the 80 bits of a generated key. If two rows ever share them, one gets a needless ordinal."""
    return int(key[len(KEY_PREFIX) : len(KEY_PREFIX) + 16], 16) - (1 << 63)


def keyed(rows: Iterator[Row], repeated: RepeatedHashes, before: Mapping[str, int] = _NOTHING) -> Iterator[tuple[str, Row]]:
    """Yield every row with its key. Identical rows without an id get an ordinal (``-2``, ``-3``, ...) from the second on.

    before: how many identical rows precede ``rows``, by their key without an ordinal.
    """
    seen = array("I", bytes(repeated.counts.itemsize * len(repeated)))
    for row in rows:
        key, is_own = base_key(row)
        if (seen or before) and not is_own:
            number = 1 + before.get(key, 0)
            index = repeated.find(short_key(key)) if seen else None
            if index is not None:
                number += seen[index]
                seen[index] += 1
            if number > 1:
                key = f"{key}-{number}"
        yield key, row
