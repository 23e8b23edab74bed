"""Tells of an answer that still grows whether it can become valid, by what has come so far. Pure.

Only what no continuation can mend counts: JSON that is malformed, a value of a type that the schema does not take, and values
that are complete and do not fit. Words and a code fence before the JSON are waited for. The whole answer is checked once more
when it is there (``answers``).
"""

from collections.abc import Collection

from runner.errors import UsageError
from runner.model import Json
from runner.schema.partial import reader
from runner.schema.strict_json import begin_of
from runner.schema.structure import Structure
from runner.schema.types_only import types_only
from runner.schema.validation import Validator, place

_OF_OPEN = frozenset({"type", "additionalProperties", "maxItems", "maxProperties"})
"""Faults of an object or a list that is not complete yet, which nothing that follows can mend."""
_NAMES = {str: "a text", int: "a number", bool: "true or false", type(None): "null", dict: "an object", list: "a list"}
_STEP, _GROWTH = 24, 1.1
"""The values are looked at again when the answer has grown by so much: in all, by few times its length."""
_SHORT = 1_000
"""Characters among which the beginning of the value is looked for with each piece, and later as often as its values."""


class Growing:
    """Looks at the beginnings of answers. openers: how the value begins, ``{`` and ``[``; none: nothing is told early."""

    def __init__(self, validator: Validator, openers: Collection[str]) -> None:
        self._validator, self._openers = validator, openers
        self._types = _types_of(validator)
        self._read = reader("on", "fail_fast")

    def answer(self) -> "GrowingAnswer":
        """Return what looks at one answer."""
        return GrowingAnswer(self, self._openers)

    def fault(self, text: str) -> str | None:
        """Return why an answer that begins like that can no longer become valid; None if it can, or nobody knows."""
        return self.answer().fault(text, values=True)

    def of_values(self, text: str, begin: int, structure: Structure) -> str | None:
        """Return what is wrong with the values that have come. structure: of that text, which begins there."""
        try:
            # a number may go on, and 1 may become 12
            value = self._read(text[begin : len(text) - len(structure.word)].encode(errors="surrogatepass"))
        except ValueError as error:
            # the number of the character is that of the beginning
            return f"is not JSON: {error}"
        if structure.whole:
            return "; ".join(self._validator.faults(value)) or None
        spine = _spine(value, structure.depth)
        if spine is None:
            return None
        for kind, path, words in self._validator.found(value):
            if kind in _OF_OPEN or path not in spine:
                return words
        return self._of_types(value, spine, structure)

    def _of_types(self, value: Json, spine: dict[tuple[str | int, ...], Json], structure: Structure) -> str | None:
        """Return which open value has a type that does not fit there. The value is changed."""
        if self._types is None:
            return None
        path, last = next(reversed(spine.items()))
        begun = structure.open_value()
        if begun is not None and isinstance(last, list):
            path, open_ = (*path, len(last)), begun[0]
            last.append(open_)
        elif begun is not None and isinstance(last, dict) and structure.key is not None:
            path, open_ = (*path, structure.key), begun[0]
            last[structure.key] = open_
        else:
            open_ = last
        for kind, at, words in self._types.found(value):
            of_open = at == path[: len(at)] and (kind == "type" or kind not in _OF_OPEN)
            return f"{f'at {place(path)}: ' if path else ''}{_NAMES[type(open_)]} does not fit there" if of_open else words
        return None


class GrowingAnswer:
    """Looks at one answer. What has been read of its structure is not read again."""

    def __init__(self, growing: Growing, openers: Collection[str]) -> None:
        self._growing, self._openers = growing, openers
        self._begin = -1
        self._structure = Structure(0)
        self._next = _STEP

    def fault(self, text: str, *, values: bool = False) -> str | None:
        """Return why an answer that begins like that can no longer become valid. The text begins as the one before.

        values: look at the values too, though the text has not grown by much.
        """
        due = values or len(text) >= self._next
        if due:
            self._next = int(len(text) * _GROWTH) + _STEP
        if self._begin < 0:
            if not due and len(text) > _SHORT:
                return None
            self._begin = begin_of(text, self._openers)
            self._structure = Structure(self._begin)
            if self._begin < 0:
                return None
        self._structure.take(text)
        if self._structure.fault is not None:
            return self._structure.fault
        return self._growing.of_values(text, self._begin, self._structure) if due else None


def _types_of(validator: Validator) -> Validator | None:
    """Return what checks the types of a schema alone; None for one whose parts refer to what that has not."""
    try:
        only = types_only(validator.schema)
        return Validator(only) if isinstance(only, dict) else None
    except UsageError:
        return None


def _spine(value: Json, depth: int) -> dict[tuple[str | int, ...], Json] | None:
    """Return the objects and lists that are open, by their paths: the last one in each. None if they are not found in a value."""
    path: tuple[str | int, ...] = ()
    parts = {path: value}
    for _ in range(depth - 1):
        if isinstance(value, dict) and value:
            last: str | int = next(reversed(value))
            value = value[last]
        elif isinstance(value, list) and value:
            last = len(value) - 1
            value = value[last]
        else:
            return None
        path = (*path, last)
        parts[path] = value
    return parts if isinstance(value, dict | list) else None
