"""How far the answers of two runs agree. Pure, in constant memory.

Texts are the same if they are equal without white space at their ends. With a schema, answers are the same if each field is.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from runner.model import Json

_MOST_VALUES = 50
"""Different values of a field for which kappa is told: it is for categories."""
_LONGEST = 100
"""Characters of a text that can be a category."""
_CATEGORIES = frozenset((str, int, bool, type(None)))
_DECODE = msgspec.json.Decoder().decode


class Agreement(Struct, frozen=True, kw_only=True):
    """How far answers agree.

    agreement: the share of those that are the same. kappa: Cohen's, which is 0 for as much as chance alone would give and 1 for
    all. Both None if nothing was compared; kappa also where values are no categories: more than 50 different ones, or so many
    that most come once or twice; and where both runs have one value only.
    """

    same: int
    changed: int
    agreement: float | None
    kappa: float | None


class Tally:
    """Counts answers that are the same.

    fields: those that are compared. Empty: the answers are JSON without fields that both runs have, and are compared as a whole.
    None: they are texts.
    """

    def __init__(self, fields: Sequence[str] | None = None) -> None:
        self._as_json = fields is not None
        self._whole = _Counts()
        self._of = {name: _Counts() for name in fields or ()}

    def add(self, left: str | None, right: str | None) -> bool:
        """Take two answers to the same row. Return True if they are the same."""
        if not self._as_json:
            return self._whole.add((left or "").strip(), (right or "").strip())
        one, other = _read(left), _read(right)
        if not self._of:
            return self._whole.add(one, other)
        one, other = (value if isinstance(value, dict) else {} for value in (one, other))
        same = True
        for name, counts in self._of.items():
            same &= counts.add(_stripped(one.get(name)), _stripped(other.get(name)))
        self._whole.count(same=same)
        return same

    @property
    def whole(self) -> Agreement:
        """How far whole answers agree."""
        return self._whole.told()

    @property
    def fields(self) -> Mapping[str, Agreement]:
        """How far each field agrees."""
        return {name: counts.told() for name, counts in self._of.items()}


class _Counts:
    """Counts pairs of values, and how often each value is on each side, as long as these are few."""

    def __init__(self) -> None:
        self._same = self._changed = 0
        self._left, self._right = dict[Any, int](), dict[Any, int]()
        self._few = True

    def add(self, left: Json, right: Json) -> bool:
        """Count a pair of values. Return True if they are the same."""
        same = _same(left, right)
        self.count(same=same)
        if self._few:
            self._keep(left, right)
        return same

    def _keep(self, left: Json, right: Json) -> None:
        """Count how often each value is on its side; nothing more once these are too many."""
        for value, counts in ((left, self._left), (right, self._right)):
            kind = value.__class__
            if kind not in _CATEGORIES or (kind is str and len(value) > _LONGEST):
                self._few = False
            else:
                # as keys, True and 1 would be one
                key = (bool, value) if kind is bool else value
                counts[key] = counts.get(key, 0) + 1
        if not self._few or max(len(self._left), len(self._right)) > _MOST_VALUES:
            self._few = False
            self._left.clear()
            self._right.clear()

    def count(self, *, same: bool) -> None:
        """Count a pair of values that are known to be the same or not."""
        if same:
            self._same += 1
        else:
            self._changed += 1

    def told(self) -> Agreement:
        """Return what was counted."""
        number = self._same + self._changed
        share = self._same / number if number else None
        return Agreement(same=self._same, changed=self._changed, agreement=share, kappa=self._kappa(number))

    def _kappa(self, number: int) -> float | None:
        by_chance = sum(count * self._right.get(value, 0) for value, count in self._left.items())
        values = max(len(self._left), len(self._right))
        if not values or 2 * values > number or by_chance == number * number:
            return None
        expected = by_chance / number / number
        return (self._same / number - expected) / (1 - expected)


def _same(left: Json, right: Json) -> bool:
    """Tell whether two values are the same, however deep they are. True is not 1, at any depth; 1 is 1.0."""
    open_ = [(left, right)]
    while open_:
        one, other = open_.pop()
        if isinstance(one, dict) and isinstance(other, dict):
            if one.keys() != other.keys():
                return False
            open_ += [(value, other[name]) for name, value in one.items()]
        elif isinstance(one, list) and isinstance(other, list):
            if len(one) != len(other):
                return False
            open_ += zip(one, other, strict=True)
        elif one != other or isinstance(one, bool) != isinstance(other, bool):
            return False
    return True


def _stripped(value: Json) -> Json:
    return value.strip() if value.__class__ is str else value


def _read(text: str | None) -> Json:
    """Return the JSON of an answer; its text if it is none, as in a store that somebody has changed."""
    try:
        return _DECODE(text or "")
    except (msgspec.DecodeError, RecursionError):
        return text


def common(left: Iterable[str], right: Iterable[str]) -> list[str]:
    """Return the fields that both runs have, in the order of the left one."""
    others = set(right)
    return [name for name in left if name in others]
