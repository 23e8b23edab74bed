"""Tells of an answer that still grows whether it can become valid, by what has come so far. Pure.

Only what no continuation can mend counts: JSON that is malformed, and values that are complete and do not fit. Words and a code
fence before the JSON are waited for. The whole answer is checked once more when it is there (``answers``).
"""

import re
from collections.abc import Collection

from runner.model import Json
from runner.schema.partial import reader
from runner.schema.validation import Validator

_TOKEN = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*(?:"|\\?\Z)|[{}\[\]]', re.DOTALL)
_NUMBER = "0123456789.eE+-"
_OF_OPEN = frozenset({"type", "additionalProperties", "maxItems", "maxProperties"})
"""Faults of an object or a list that is not complete yet, which nothing that follows can mend."""


class Growing:
    """Looks at the beginnings of answers. openers: how the value begins, ``{`` and ``[``; none: nothing is told early."""

    def __init__(self, validator: Validator, openers: Collection[str]) -> None:
        self._validator, self._openers = validator, openers
        self._read = reader("on", "fail_fast")

    def fault(self, text: str) -> str | None:
        """Return why an answer that begins like that can no longer become valid; None if it can, or nobody knows."""
        begin = min((at for mark in self._openers if (at := text.find(mark)) >= 0), default=-1)
        if begin < 0:
            return None
        # a number may go on, and 1 may become 12
        text = text.rstrip(_NUMBER)
        open_, whole = _depth(text, begin)
        try:
            value = self._read(text[begin:].encode(errors="surrogatepass"))
        except ValueError as error:
            # the number of the character is that of the beginning
            return f"is not JSON: {error}"
        if whole:
            return "; ".join(self._validator.faults(value)) or None
        spine = _spine(value, open_)
        if spine is None:
            return None
        found = self._validator.found(value)
        return next((words for kind, path, words in found if kind in _OF_OPEN or path not in spine), None)


def _depth(text: str, begin: int) -> tuple[int, bool]:
    """Return how many objects and lists are open at the end of a text, and whether the first one is complete."""
    depth = 0
    for token in _TOKEN.finditer(text, begin):
        mark = token[0]
        depth += 1 if mark in "{[" else -1 if mark in "}]" else 0
        if depth == 0:
            return 0, True
    return depth, False


def _spine(value: Json, depth: int) -> set[tuple[str | int, ...]] | None:
    """Return the paths of the objects and lists that are open: the last one in each. None if they are not found in a value."""
    path: tuple[str | int, ...] = ()
    paths = {path}
    for _ in range(depth - 1):
        if isinstance(value, dict) and value:
            last: str | int = next(reversed(value))
        elif isinstance(value, list) and value:
            last = len(value) - 1
        else:
            return None
        value, path = value[last], (*path, last)
        paths.add(path)
    return paths if isinstance(value, dict | list) else None
