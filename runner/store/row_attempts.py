"""The attempts of one row, without reading those of all others.

The store has an index of failed attempts alone, as one of all attempts would slow every run down. An attempt that was answered
is known by the outcome that it led to. What neither knows, such as that of an answer which an older version has replaced, is
missed in the numbers of the row's attempts, and then all attempts of the run are read.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa

from runner.several import MARK
from runner.store.schema import attempts, prices


class Led(NamedTuple):
    """An outcome, now or before: the attempt that led to it, and how many attempts its row had by then."""

    key: str
    attempt_id: int | None
    attempts: int


def of_row(column: sa.Column[str], key: str) -> tuple[sa.ColumnElement[bool], sa.ColumnElement[bool]]:
    """Return what selects a row, and what selects its further answers: an index finds either, but not always one of both.

    key: of the row.
    """
    return column == key, sa.and_(column > f"{key}{MARK}", column < f"{key}{chr(ord(MARK) + 1)}")


def attempts_of_row(
    connection: sa.Connection, run_id: int, key: str, columns: Sequence[sa.ColumnElement[Any]], led: Iterable[Led]
) -> list[Any]:
    """Return ``id``, ``item_key`` and columns of all attempts of a row and of its further answers, oldest first.

    columns: of ``attempts`` and ``prices``, ``number`` among them. led: the outcomes that they have, and had.
    connection: reads one state of the store.
    """
    a, led = attempts.c, list(led)
    selected = sa.select(a.id, a.item_key, *columns).select_from(attempts.outerjoin(prices, prices.c.id == a.price_id))
    found: dict[int, Any] = {}
    for mine in of_row(a.item_key, key):
        failed = selected.where(a.run_id == run_id, a.error_code.is_not(None), mine)
        found |= {one.id: one for one in connection.execute(failed)}
    # a number of an attempt tells where it is; the rest is checked, as somebody may have changed the store
    answered = selected.where(a.id.in_([one.attempt_id for one in led if one.attempt_id is not None]))
    known = connection.execute(answered.where(a.run_id + 0 == run_id, sa.or_(*of_row(a.item_key, key))))
    found |= {one.id: one for one in known}
    if not _are_all(found, led):
        every = selected.where(a.run_id == run_id, sa.or_(*of_row(a.item_key, key)))
        found = {one.id: one for one in connection.execute(every)}
    return [found[number] for number in sorted(found)]


def _are_all(found: Mapping[int, Any], led: Sequence[Led]) -> bool:
    """Return False if attempts are missing among those that were found: each row counts its own from 1."""
    numbers: dict[str, set[int]] = {one.key: set() for one in led}
    for one in found.values():
        numbers.setdefault(one.item_key, set()).add(one.number)
    least = {key: max((one.attempts for one in led if one.key == key), default=0) for key in numbers}
    return all(of == set(range(1, max(least[key], *of, 0) + 1)) for key, of in numbers.items())
