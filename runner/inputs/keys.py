"""What identifies a row within a run: its own id, else a hash of its content with an ordinal among identical rows. Pure."""

from array import array
from collections.abc import Iterator, Mapping
from hashlib import blake2b

import msgspec

from runner.inputs.duplicates import RepeatedHashes
from runner.model import Json, Row

KEY_PREFIX = "row-"
"""How the keys begin that we give to rows without an id."""


_SORTED = msgspec.json.Encoder(order="sorted")


def base_key(row: Row) -> tuple[str, bool]:
    """Give a row's identity before ordinals, and whether it is the row's own id.

    Without an id it is a hash of the row's content, whatever its spacing or order of fields; never its line number, so that
    a line inserted above buys nothing again.
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
    """Hash what a row asks, so that a changed prompt under the same id is noticed and changed metadata is not."""
    fields = row.fields or {}
    asked = _SORTED.encode([fields.get("prompt"), fields.get("messages"), fields.get("params")])
    return int.from_bytes(blake2b(asked, digest_size=8).digest(), "big", signed=True)


def short_key(key: str) -> int:
    """Shorten a key that we gave to 64 of its 80 bits: if two rows ever share them, one gets an ordinal for nothing."""
    return int(key[len(KEY_PREFIX) : len(KEY_PREFIX) + 16], 16) - (1 << 63)


def keyed(rows: Iterator[Row], repeated: RepeatedHashes) -> Iterator[tuple[str, Row]]:
    """Give every row its key: identical rows without an id are told apart by an ordinal."""
    seen = array("I", bytes(repeated.counts.itemsize * len(repeated)))
    for row in rows:
        key, is_own = base_key(row)
        at = repeated.find(short_key(key)) if seen and not is_own else None
        if at is not None:
            seen[at] += 1
            if seen[at] > 1:
                key = f"{key}-{seen[at]}"
        yield key, row
