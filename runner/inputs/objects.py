"""Makes JSON of the values of Python: those that a program has in its rows. Pure; imports none of their libraries.

* Texts, whole numbers, True and False stay as they are, those of numpy and the like too. A number that is none, an infinity,
  None, pandas.NaT and pandas.NA are null.
* Dates, times and timestamps are text (ISO 8601), durations are seconds. Decimals, UUIDs, paths and periods are text.
* Bytes are text if they are UTF-8, else Base64. A member of an Enum is its value. Lists, tuples and arrays are lists.
* Anything else is refused: what its text would be may change from one session to the next.
"""

import math
from collections.abc import Callable, Mapping
from datetime import date, time, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from typing import Any
from uuid import UUID

import msgspec

from runner.errors import UsageError
from runner.inputs.cells import text_of
from runner.model import Json

_AS_IT_IS = frozenset((str, int, bool, type(None)))
_MISSING = ("NaTType", "NAType")
_AS_TEXT = (Decimal, UUID, PurePath)
_OF_PANDAS = ("Period", "Interval")

_encode = msgspec.json.Encoder().encode_into


class UnfitError(ValueError):
    """A value is in no form that JSON has. where: the way to it. what: words for it. way: what to do."""

    def __init__(self, where: tuple[str, ...], what: str, way: str = "make it a text, a number, a list or a dict") -> None:
        super().__init__(what)
        self.where, self.what, self.way = where, what, way


def plain(value: Any, where: tuple[str, ...] = ()) -> Json:
    """Return a value as JSON has it. where: the way to it, for messages. Raises UnfitError."""
    if type(value) in _AS_IT_IS:
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, Enum):
        return plain(value.value, where)
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, Mapping):
        return {_name(name, where): plain(inner, (*where, str(name))) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner, (*where, str(place))) for place, inner in enumerate(value)]
    return _scalar(value, where)


def _name(name: object, where: tuple[str, ...]) -> str:
    if isinstance(name, str | int | float | date | UUID) or name is None:
        return str(name)
    raise UnfitError(where, f"has a name of type {type(name).__name__}")


def _scalar(value: Any, where: tuple[str, ...]) -> Json:
    """Return what is no part of JSON in the form that we give it."""
    kind, home = type(value).__name__, type(value).__module__.partition(".")[0]
    if kind in _MISSING and home == "pandas":
        return None
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, Decimal) and not value.is_finite():
        return None
    if isinstance(value, _AS_TEXT) or (home == "pandas" and kind in _OF_PANDAS):
        return str(value)
    if isinstance(value, bytes | bytearray | memoryview):
        return text_of(bytes(value))
    inner = _unpacked(value, kind)
    if inner is None:
        raise UnfitError(where, f"is a value of type {type(value).__name__}")
    return plain(inner(), where)


def _unpacked(value: Any, kind: str) -> Callable[[], Any] | None:
    """Return what makes plain Python of a value of numpy, pandas, polars, Arrow and the like; None if nothing does."""
    if kind in ("datetime64", "timedelta64"):
        # one with nanoseconds would become a number
        return lambda: value.astype(f"{kind}[us]").tolist()
    for way in ("tolist", "to_list", "as_py"):
        if callable(made := getattr(value, way, None)) and not isinstance(value, type):
            return made  # type: ignore[no-any-return]
    return None


def add(line: bytearray, fields: Mapping[str, Json], number: int) -> None:
    """Write a row behind what a buffer holds, as a line. number: of the row, for messages. Raises UsageError."""
    begin = len(line)
    try:
        _encode(fields, line, begin)
    except UnicodeEncodeError as error:
        where, broken = _broken_text(fields, ())
        raise refusal(
            number,
            UnfitError(
                where,
                f"has half of a surrogate pair ({broken!a}), which is no text",
                "text.encode('utf-8', 'replace').decode() replaces it",
            ),
        ) from error
    except (OverflowError, ValueError, TypeError) as error:
        raise refusal(number, UnfitError((), f"holds what JSON cannot: {error}")) from error
    line += b"\n"


def refusal(number: int, found: UnfitError) -> UsageError:
    """Return the sentence about a row with a value that is none for JSON. number: of the row, from 1 on."""
    what = f"field {'.'.join(found.where)!r} of row {number:,}" if found.where else f"row {number:,}"
    return UsageError(f"{what} {found.what}; {found.way}, or leave it out")


def _broken_text(value: Json, where: tuple[str, ...]) -> tuple[tuple[str, ...], str]:
    """Return where the text is that cannot be encoded, and the character that is none."""
    if isinstance(value, str):
        return where, next((char for char in value if "\ud800" <= char <= "\udfff"), "")
    inner = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else ()
    for name, part in inner:
        for text in (name, part):
            found = _broken_text(text, (*where, ascii(name)[1:-1] if isinstance(name, str) else str(name)))
            if found[1]:
                return found
    return where, ""
