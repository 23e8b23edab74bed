"""The fields of answers with a schema, as columns of an export behind the text. Pure."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

import msgspec

from runner.exports.columns import spelt
from runner.exports.kinds import Kind, Kinds
from runner.model import Json

_DECODE = msgspec.json.Decoder().decode
_ANY = ("text", "other")
"""Kinds of columns into which each value fits."""
_MOST = 2**63


def added(
    columns: Sequence[str], fields: Collection[str], alike: Callable[[str], str] = spelt, *, prefix: bool = False
) -> list[str]:
    """Return the columns of an export with those of the fields. The arguments are those of ``named``."""
    at = place(columns)
    return [*columns[:at], *named(columns, fields, alike, prefix=prefix), *columns[at:]]


def named(
    columns: Sequence[str], fields: Collection[str], alike: Callable[[str], str] = spelt, *, prefix: bool = False
) -> list[str]:
    """Return the columns of the fields: their names, with ``answer_`` in front where another column has that name.

    alike: names for which it returns the same are one. prefix: each has ``answer_`` in front.
    """
    taken, found = set(map(alike, columns)), list[str]()
    for name in fields:
        column = f"answer_{name}" if prefix else name
        while alike(column) in taken:
            column = f"answer_{column}"
        taken.add(alike(column))
        found.append(column)
    return found


def place(columns: Sequence[str]) -> int:
    """Return where the columns of the fields go: behind the text, and the number of the answer if there is one."""
    at = columns.index("text") + 1
    return at + (columns[at : at + 1] == ["answer_number"])


def filled(records: Iterable[Sequence[object]], columns: Sequence[str], fields: Mapping[str, Kind]) -> Iterable[Sequence[object]]:
    """Return records with the values of the fields, None where there is none. columns: those that the records have."""
    return _filled(records, columns, fields) if fields else records


def kinds_of(texts: Iterable[str | None], fields: Mapping[str, Kind]) -> list[Kind]:
    """Return what the columns of the fields hold: what the schema says, unless a value would not fit into such a column.

    texts: all answers. fields: each with what it holds by the schema.
    """
    kinds, doubtful = Kinds(), {name: kind for name, kind in fields.items() if kind not in _ANY}
    for text in texts if doubtful else ():
        kinds.see(dict(zip(doubtful, values(text, doubtful), strict=True)))
    return [kinds.of(name, kind) for name, kind in fields.items()]


def values(text: object, fields: Mapping[str, Kind]) -> list[Json]:
    """Return the values of the fields of an answer; None for each that it does not have, and for all of what is no object.

    A whole number that the model wrote as 3.0 or 3e0 is 3 in a field of whole numbers: JSON Schema takes it as one.
    """
    try:
        found = _DECODE(text) if fields and isinstance(text, str) else None
    except (msgspec.DecodeError, RecursionError):
        # a store that somebody has changed
        found = None
    get = found.get if isinstance(found, dict) else {}.get
    return [_whole(get(name)) if kind == "int" else get(name) for name, kind in fields.items()]


def _whole(value: Json) -> Json:
    return int(value) if type(value) is float and value.is_integer() and -_MOST <= value < _MOST else value


def _filled(records: Iterable[Sequence[object]], columns: Sequence[str], fields: Mapping[str, Kind]) -> Iterator[list[object]]:
    at, text, status = place(columns), columns.index("text"), columns.index("status")
    none: list[object] = [None] * len(fields)
    for record in records:
        found = list(record)
        found[at:at] = values(record[text], fields) if record[status] == "done" else none
        yield found
