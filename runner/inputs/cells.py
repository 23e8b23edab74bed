"""Makes rows from the cells of a table: names for its columns, and values for the cells that are settings. Pure."""

import math
from base64 import b64encode
from collections.abc import Sequence
from datetime import date, time, timedelta
from typing import Any

import msgspec

from runner.inputs.keys import ROW_SETTINGS, whole
from runner.model import Json

_AS_JSON = frozenset((*ROW_SETTINGS, "params", "messages")) - {"system", "model"}
"""Columns whose cells are no text where they are read: numbers, lists and objects are written as JSON."""


def column_names(header: Sequence[object]) -> list[str]:
    """Return a name for each column.

    A column without a name is called by its place, and of two with the same name the second gets a number.
    """
    names: dict[str, None] = {}
    taken = {str(cell).strip() for cell in header}
    # the last number that each name got
    numbers: dict[str, int] = {}
    for place, cell in enumerate(header, 1):
        name = "" if cell is None else str(cell).strip()
        if not name:
            name = _free(f"column_{place}", taken, numbers)
        elif name in names:
            numbers.setdefault(name, 1)
            name = _free(name, taken, numbers)
        names[name] = None
        taken.add(name)
    return list(names)


def _free(name: str, taken: set[str], numbers: dict[str, int]) -> str:
    """Return a name that no column has: with the next number, if it had one before or is taken."""
    if name not in numbers and name not in taken:
        return name
    number = numbers.get(name, 1) + 1
    while (found := f"{name}_{number}") in taken:
        number += 1
    numbers[name] = number
    return found


_FILES = (b"RIFF", b"%PDF-")
"""Beginnings of files that rows may hold, and whose bytes may be UTF-8."""


class Settings:
    """Reads the cells of a row that are its id or its settings, which in a table of texts are written as JSON."""

    def __init__(self, names: Sequence[str], *, as_data: bool) -> None:
        """names: the columns. as_data: fields such as ``model`` are the user's own data."""
        of_rows = ROW_SETTINGS if not as_data else ()
        self._settings = [name for name in names if name in of_rows or name in ("id", "params", "messages")]

    def read(self, fields: dict[str, Json]) -> None:
        """Replace the texts of settings by what they say; what is no JSON stays a text. An empty cell says nothing."""
        for name in self._settings:
            value = fields.get(name)
            if not isinstance(value, str):
                continue
            if not value.strip():
                fields[name] = None
            elif name in _AS_JSON:
                fields[name] = _value(value)


class Plain:
    """Makes JSON of the values that tables hold. nulls: how many numbers were none and became null."""

    def __init__(self) -> None:
        self.nulls = 0

    def value(self, value: object) -> Json:
        """Return a value as JSON: dates and times as ISO 8601, durations in seconds, decimals and bytes as text."""
        if value is None or isinstance(value, str | bool | int):
            return value
        if isinstance(value, float):
            if not math.isfinite(value):
                self.nulls += 1
                return None
            return whole(value)
        if isinstance(value, date | time):
            return value.isoformat()
        if isinstance(value, timedelta):
            return value.total_seconds()
        if isinstance(value, dict):
            return {str(name): self.value(inner) for name, inner in value.items()}
        if isinstance(value, list | tuple):
            return [self.value(inner) for inner in value]
        return text_of(value)


def text_of(value: object) -> str:
    """Return bytes as text, in Base64 if they are none; anything else in its own words."""
    if isinstance(value, bytes):
        if value.startswith(_FILES):
            # what may be text by chance
            return b64encode(value).decode()
        try:
            return value.decode()
        except UnicodeDecodeError:
            return b64encode(value).decode()
    return str(value)


def _value(text: str) -> Any:
    try:
        return msgspec.json.decode(text.strip())
    except (msgspec.DecodeError, RecursionError):
        return text
