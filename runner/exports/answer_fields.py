"""The fields of answers with a schema, as columns of an export behind the text. Pure."""

from collections.abc import Callable, Iterable, Iterator, Sequence

import msgspec

_DECODE = msgspec.json.Decoder().decode


def named(columns: Sequence[str], fields: Sequence[str], alike: Callable[[str], str] = str) -> list[str]:
    """Return the columns of the fields: their names, with ``answer_`` in front where another column has that name.

    alike: names for which it returns the same are one.
    """
    taken, found = set(map(alike, columns)), list[str]()
    for name in fields:
        column = name
        while alike(column) in taken:
            column = f"answer_{column}"
        taken.add(alike(column))
        found.append(column)
    return found


def place(columns: Sequence[str]) -> int:
    """Return where the columns of the fields go: behind the text, and the number of the answer if there is one."""
    at = columns.index("text") + 1
    return at + (columns[at : at + 1] == ["answer_number"])


def filled(records: Iterable[Sequence[object]], columns: Sequence[str], fields: Sequence[str]) -> Iterator[list[object]]:
    """Yield records with the values of the fields, None where there is none. columns: those that the records have."""
    at, text, status = place(columns), columns.index("text"), columns.index("status")
    none: list[object] = [None] * len(fields)
    for record in records:
        values = list(record)
        values[at:at] = _values(record[text], fields) if record[status] == "done" else none
        yield values


def _values(text: object, fields: Sequence[str]) -> list[object]:
    try:
        found = _DECODE(text) if isinstance(text, str) else None
    except (msgspec.DecodeError, RecursionError):
        # a store that somebody has changed
        found = None
    get = found.get if isinstance(found, dict) else {}.get
    return [get(name) for name in fields]
