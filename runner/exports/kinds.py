"""What the columns of an export hold, for formats and tables whose columns are typed. Pure.

Columns are whole numbers, numbers, True and False, or texts. Numbers that do not fit into 64 bits, lists, objects and columns of
several kinds are "other": each value is a text, or JSON.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, TypeAlias, get_type_hints

import msgspec

from runner.answer_shape import FieldKind
from runner.model import Json, Result
from runner.text import encodable, encodable_tree

Kind: TypeAlias = FieldKind

_OF_HINTS: dict[Any, Kind] = {
    **dict.fromkeys((int, int | None), "int"),
    float | None: "float",
    **dict.fromkeys((str, str | None, Literal["done", "failed"]), "text"),
}
OURS: Mapping[str, Kind] = {name: _OF_HINTS.get(hint, "other") for name, hint in get_type_hints(Result).items()}
"""What each column of ours holds. What ``id`` and the rows' own fields hold, only the rows tell."""
_MOST = 2**63
_NUMBERS = ("int", "float")
_EXACT = 2**53
"""Whole numbers up to here are the same as a float."""


class Kinds:
    """Finds out what the rows' own fields hold, from the values of all rows, in constant memory."""

    def __init__(self) -> None:
        self._types: dict[str, set[type]] = {}
        self._ints: dict[str, tuple[int, int]] = {}

    def see(self, fields: Mapping[str, Json]) -> None:
        """Take the fields of one more row."""
        for name, value in fields.items():
            kind = type(value)
            self._types.setdefault(name, set()).add(kind)
            if kind is int:
                least, most = self._ints.get(name, (value, value))
                self._ints[name] = (min(least, value), max(most, value))

    @property
    def names(self) -> list[str]:
        """The names of all fields, in the order in which they first appear."""
        return list(self._types)

    def of(self, name: str, wanted: Kind | None = None) -> Kind:
        """Return what a field holds. wanted: what a column of it is, if all that it holds fits; a text by default."""
        types = self._types.get(name, set()) - {type(None)}
        if wanted is None or not types:
            return wanted or _decided(types, *self._ints.get(name, (0, 0))) or "text"
        # whole numbers are numbers too
        found = _decided(types | ({float} if wanted == "float" else set()), *self._ints.get(name, (0, 0)))
        return found if found in _NUMBERS and wanted in _NUMBERS else wanted if found == wanted else "other"


def kind_of(values: Sequence[Any]) -> Kind | None:
    """Return what a column holds; None if it holds nothing."""
    types = set(map(type, values)) - {type(None)}
    ints = [value for value in values if type(value) is int] if int in types else [0]
    return _decided(types, min(ints), max(ints))


def _decided(types: set[type], least: int, most: int) -> Kind | None:
    """Return what a column of values of these types holds; None if it has none. least, most: of its whole numbers."""
    if not types:
        return None
    if types == {int}:
        return "int" if least >= -_MOST and most < _MOST else "other"
    if types <= {int, float}:
        return "float" if least >= -_EXACT and most <= _EXACT else "other"
    (kind, *others) = types
    return "other" if others else {bool: "bool", str: "text"}.get(kind, "other")  # type: ignore[return-value]


def typed(records: Iterable[Sequence[object]], kinds: Sequence[Kind]) -> Iterator[list[Any]]:
    """Yield records as typed columns take them: each value is of its column's kind, or None. "other" is text."""
    makers = [_MAKERS.get(kind) for kind in kinds]
    for record in records:
        yield [value if value is None or make is None else make(value) for value, make in zip(record, makers, strict=True)]


def flat(values: Sequence[Any], kind: Kind) -> list[Any]:
    """Return the values of one column as a typed column takes them."""
    make = _MAKERS.get(kind)
    return list(values) if make is None else [None if value is None else make(value) for value in values]


def text_of(value: object) -> str:
    """Return a text as it is, and any other JSON value as compact JSON, without half characters."""
    if isinstance(value, str):
        return encodable(value)
    try:
        return msgspec.json.encode(value).decode()
    except UnicodeEncodeError:
        return msgspec.json.encode(encodable_tree(value)).decode()


_MAKERS: Mapping[Kind, Callable[[Any], Any]] = {"float": float, "text": text_of, "other": text_of}
