"""Keys of rows. A row's key within a run is its own id, else a hash of its content and an ordinal among identical rows. Pure."""

import re
from array import array
from collections.abc import Collection, Iterator, Mapping
from hashlib import blake2b
from typing import Any

import msgspec
from msgspec import structs

from runner.inputs.duplicates import RepeatedHashes
from runner.model import SYSTEM_ROLES, Json, Row
from runner.several import MARK

WHOLE_ROW = "row"
"""Name of all fields of a row in a template."""

NEVER_ABSENT = frozenset((WHOLE_ROW, "range", "dict", "namespace", "cycler", "joiner"))
"""Names that mean something in a template even if a row has no field of that name."""

KEY_PREFIX = "row-"
"""Prefix of the keys of rows without an id."""

ROW_SETTINGS = ("system", "model", "max_tokens", "temperature", "top_p", "stop", "seed", "extra_body")
"""Fields of a row that are settings of its request."""

_OF_TOOLS = ("tools", "tool_choice", "parallel_tool_calls", "functions", "function_call")
_OF_ANSWERS = (
    "response_format", "max_completion_tokens", "frequency_penalty", "presence_penalty", "logit_bias",
    "reasoning_effort", "thinking", "top_k", "stop_sequences",
)  # fmt: skip
UNSENT = frozenset((*_OF_TOOLS, *_OF_ANSWERS))
"""Names of fields of a request that are no settings of a row: they are sent in its ``extra_body`` alone."""

OF_A_REQUEST = UNSENT.union(ROW_SETTINGS)
"""Both of these: names by which rows that hold neither are passed over at once."""

_SETTING_NAMES = frozenset(ROW_SETTINGS)
_NOTHING: Mapping[str, Any] = {}
_EXACT = 2**53
_GENERATED = re.compile(rf"{KEY_PREFIX}[0-9a-f]{{20}}(-[0-9]+)?")
_SORTED = msgspec.json.Encoder(order="sorted")


def base_key(row: Row) -> tuple[str, bool]:
    """Return the key of a row before an ordinal is added, and True if that key is the row's own id.

    Without an id, the key is a hash of the row's content that ignores spacing and the order of fields. It never depends on the
    line number, so that inserting a line does not cause the rows below it to be sent again.
    """
    own = _own_id(row.fields) if row.fields is not None else None
    # an id with the mark could be the key of another row's answer; such a row is broken
    if own is not None and MARK not in own:
        return own, True
    if row.fields is None or row.fault is not None:
        return KEY_PREFIX + blake2b(row.raw, digest_size=10).hexdigest(), False
    return KEY_PREFIX + blake2b(_SORTED.encode(row.fields), digest_size=10).hexdigest(), False


def id_fault(own: Json) -> str | None:
    """Return what is wrong with the id of a row; None if nothing is."""
    if own == "":
        return "the id is empty"
    if isinstance(own, str) and MARK in own:
        return "the id holds the character U+FDD0, which runner uses itself; leave it out"
    if isinstance(whole(own) if isinstance(own, float) else own, bool | float | list | dict):
        return "the id must be a string or a whole number"
    return None


def _own_id(fields: Mapping[str, Json]) -> str | None:
    own = fields.get("id")
    if isinstance(own, str):
        return own or None
    if isinstance(own, int) and not isinstance(own, bool):
        return str(own)
    # pandas writes the whole numbers of a column with a gap as 1.0
    number = whole(own)
    return str(number) if type(number) is int else None


def whole(value: Json) -> Json:
    """Return a float that is a whole number as int, and any other value as it is."""
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < _EXACT else value


def named_in(fields: Mapping[str, Json], named: Collection[str]) -> dict[str, Json]:
    """Return the fields of a row that name files, without those that are empty."""
    return {name: value for name in named if (value := fields.get(name)) not in (None, "", [])}


def row_settings(row: Row) -> Mapping[str, Json]:
    """Return the settings at the top level of a row, without those that are null."""
    fields = row.fields
    if fields is None or _SETTING_NAMES.isdisjoint(fields) or row.plain:
        return _NOTHING
    return {name: whole(value) for name in ROW_SETTINGS if (value := fields.get(name)) is not None}


def unsent(row: Row) -> set[str]:
    """Return the fields of a row that are called like those of a request and are plain data all the same."""
    fields = row.fields
    if fields is None or UNSENT.isdisjoint(fields) or row.plain:
        return set()
    asked = row.asked or ()
    return set() if WHOLE_ROW in asked else {name for name in UNSENT.difference(asked) if fields.get(name) is not None}


def _beside(row: Row) -> Mapping[str, Json]:
    """Return what a row asks beside its prompt: its settings, and the names of its files, but not what these contain."""
    settings = row_settings(row)
    if row.fields is None or row.media.keys().isdisjoint(row.fields):
        return settings
    return {**settings, **named_in(row.fields, row.media)}


def fingerprint(row: Row) -> int:
    """Return a 64-bit hash of what a row asks: a changed prompt or setting changes it under the same id, metadata does not.

    Where a template makes the prompt, the fields that it names count.
    """
    fields, settings = row.fields or {}, _beside(row)
    if row.asked is None:
        return fingerprint_of(fields, settings)
    named = {name: value for name, value in fields.items() if name in row.asked or WHOLE_ROW in row.asked}
    return _hash([named, fields.get("params"), settings])


def is_plain(row: Row) -> bool:
    """Return True if a row sets nothing beside its prompt or the fields of its template: ``loose`` is its fingerprint then."""
    fields = row.fields or {}
    return fields.get("params") is None and (row.asked is not None or isinstance(fields.get("prompt"), str)) and not _beside(row)


def form(row: Row) -> frozenset[str]:
    """Return what a row sets itself: its parameters, and which of the other parts of a request.

    Rows that set the same ask the same only if their fingerprints are equal.
    """
    fields, beside = row.fields or {}, _beside(row)
    params = {name: value for name, value in beside.items() if name in _SETTING_NAMES and name != "system"}
    parts = {*beside, _SORTED.encode([params, fields.get("params")]).decode()}
    if row.asked is None:
        messages = fields.get("messages")
        said = enumerate(messages if isinstance(messages, list) else [])
        parts |= {name for name in ("prompt", "messages") if fields.get(name) is not None}
        parts |= {f"system {at}" for at, one in said if isinstance(one, dict) and one.get("role") in SYSTEM_ROLES}
    return frozenset(parts)


def loose(row: Row) -> int:
    """Return a hash that two rows share which ask the same, however each of them is written, and whatever their jobs add.

    Without a template it is made of the last text that is no system text, else of the fields that the template names.
    """
    if row.fields is not None and row.asked is not None:
        fields = {name: value for name, value in row.fields.items() if name != "params"}
        return fingerprint(structs.replace(row, fields=fields, plain=True, media=_NOTHING))
    return fingerprint_of({"prompt": _last_text(row.fields or {})}, _NOTHING)


def _last_text(fields: Mapping[str, Json]) -> str:
    prompt, messages = fields.get("prompt"), fields.get("messages")
    if isinstance(prompt, str):
        return prompt
    said = [one for one in messages if isinstance(one, dict)] if isinstance(messages, list) else []
    content = next((one.get("content") for one in reversed(said) if one.get("role") not in SYSTEM_ROLES), None)
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    return "".join(text for part in parts if isinstance(part, dict) and isinstance(text := part.get("text"), str))


def fingerprint_of(fields: Mapping[str, Json], settings: Mapping[str, Json]) -> int:
    """Return the fingerprint of a row. settings: what it has beside its prompt: settings, and names of files."""
    asked = [fields.get("prompt"), fields.get("messages"), fields.get("params")]
    if settings:
        asked.append(settings)
    return _hash(asked)


def _hash(asked: list[Json]) -> int:
    return int.from_bytes(blake2b(_SORTED.encode(asked), digest_size=8).digest(), "big", signed=True)


def asks_the_same(row: Row, stored: int | None) -> bool:
    """Return True if a stored fingerprint is that of a row, or of the row with numbers and nulls as another program writes them.

    pandas writes 50 as 50.0, and null for what is missing. Only ``params`` is looked at: beside the prompt both are alike.
    """
    if stored == fingerprint(row):
        return True
    fields = row.fields or {}
    params = fields.get("params")
    if type(params) is not dict:
        return False
    given = {name: value for name, value in params.items() if value is not None}
    alike = (
        {name: whole(value) for name, value in given.items()},
        {name: float(value) if type(value) is int and abs(value) < _EXACT else value for name, value in given.items()},
    )
    return any(stored == fingerprint_of({**fields, "params": one or None}, _beside(row)) for one in alike)


def is_generated(key: str) -> bool:
    """Return True for a key that a row without an id gets."""
    return _GENERATED.fullmatch(key) is not None


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
