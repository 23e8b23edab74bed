"""Chooses among the rows of an input: those for which a condition holds, and a random sample of them."""

import heapq
from collections.abc import Callable, Generator, Iterable, Mapping
from hashlib import blake2b
from itertools import islice
from typing import Protocol, TypeAlias

from runner.errors import UsageError
from runner.inputs.keys import base_key
from runner.model import Json, Row
from runner.origin import where

Rows: TypeAlias = Generator[Row, None, None]
_SHOWN = 20


class Condition(Protocol):
    """A condition on the fields of a row. names: the fields without which it means nothing."""

    names: frozenset[str]

    def holds(self, fields: Mapping[str, Json], where: str) -> bool:
        """Return True if it holds. where: the row, in words. Raises UsageError if it cannot be computed."""
        ...


def narrowed(rows: Rows, condition: Condition, *, rest: bool = False) -> Rows:
    """Yield the rows for which the condition holds. Of a broken row nothing can be told, so it stays.

    rest: they are not all rows of the input. If they are, and none has a field that the condition names, UsageError is raised at
    their end: a name that is not spelled right would choose no row, or with ``!=`` all of them.
    """
    absent, first = set() if rest else set(condition.names), None
    for row in rows:
        if row.fields is None or row.fault is not None:
            yield row
            continue
        if absent:
            first = first or row.fields
            absent.difference_update(row.fields)
        if condition.holds(row.fields, where(row.place, row.line)):
            yield row
    if absent and first is not None:
        what = "the field" if len(absent) == 1 else "the fields"
        names = ", ".join(map(repr, sorted(absent)))
        raise UsageError(f"where names {what} {names}, which no row has; the fields of the first row: {listed(first)}")


def listed(fields: Iterable[str]) -> str:
    """Return the names of fields for a message: the first of many, or ``none``."""
    names = list(islice(fields, _SHOWN + 1))
    return ", ".join([*names[:_SHOWN], *(["..."] if len(names) > _SHOWN else [])]) or "none"


class Sample:
    """A random part of the rows of an input: the same for the same rows, wherever they stand.

    read: starts to read all rows, which is done once more for the choice. number: how many are chosen. seed: another one chooses
    others.
    """

    def __init__(self, read: Callable[[], Rows], number: int, seed: int) -> None:
        self._read, self._number, self._seed = read, number, seed
        # the greatest hash of a row that is chosen
        self._last: bytes | None = None

    def rows(self) -> Rows:
        """Yield the rows that are chosen, in the order of the input."""
        if self._last is None:
            least = heapq.nsmallest(self._number, map(self._hash, self._read()))
            self._last = least[-1] if least else b""
        return (row for row in self._read() if self._hash(row) <= (self._last or b""))

    def _hash(self, row: Row) -> bytes:
        key, is_own = base_key(row)
        # rows that are alike are told apart
        words = f"{self._seed} {key}" if is_own else f"{self._seed} {key} {row.line}"
        return blake2b(words.encode(errors="surrogatepass"), digest_size=12).digest()
