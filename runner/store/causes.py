"""Results of a run by cause: rows that failed, and answers that are cut, filtered or empty, with what their attempts cost.

All is added up in SQL, and ids are read one by one, so that memory does not grow with the rows.
"""

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from msgspec import Struct

from runner.several import spoken
from runner.store import database
from runner.store.cost import billed, cost, perhaps, unknown
from runner.store.counts import by_cause, cause
from runner.store.schema import attempts, items, prices

SHOWN = 5
"""Ids of a cause that are kept."""
_READ = 1_000


class Spent(Struct, frozen=True, kw_only=True):
    """What the attempts of rows took. Tokens are None if no attempt reported any; cost is in picodollars.

    perhaps: what they may have cost beyond; None: no limit. priced, unpriced: attempts that were billed, or may have been, at
    prices that are known, or are not.
    """

    attempts: int = 0
    input_tokens: int | None = None
    output_tokens: int | None = None
    cost: int = 0
    perhaps: int | None = 0
    unpriced: int = 0
    priced: int = 0

    def plus(self, other: "Spent") -> "Spent":
        """Return both together."""
        return Spent(
            attempts=self.attempts + other.attempts,
            input_tokens=_sum(self.input_tokens, other.input_tokens),
            output_tokens=_sum(self.output_tokens, other.output_tokens),
            cost=self.cost + other.cost,
            perhaps=None if self.perhaps is None or other.perhaps is None else self.perhaps + other.perhaps,
            unpriced=self.unpriced + other.unpriced,
            priced=self.priced + other.priced,
        )


class Cause(Struct, frozen=True, kw_only=True):
    """Results that share a cause. code: of failed rows; None for answers, which share finish reason and notes.

    example_id, example: the first of them, and its error; of answers, the finish reason. prefix: what the errors have in common.
    """

    code: str | None
    prefix: str | None = None
    finish_reason: str | None = None
    notes: str | None = None
    count: int
    example_id: str
    example: str
    ids: list[str] = []
    spent: Spent = Spent()


class CauseReader:
    """The causes of one run, in one state of the store. answers: how many of each row are wanted."""

    def __init__(self, connection: sa.Connection, run_id: int, answers: int) -> None:
        self._connection, self._run, self._answers = connection, run_id, answers

    def failed(self) -> list[Cause]:
        """Return the failed rows by cause, most frequent first."""
        groups, key = self._rows(by_cause(self._run, self._answers)), (items.c.error_code, cause())
        spent = self._spent([items.c.status == "failed"], key)
        ids = self._first([items.c.status == "failed"], key)
        return [
            Cause(
                code=code or "unknown",
                prefix=prefix,
                count=count,
                example_id=spoken(first),
                example=error or "",
                ids=ids.get((code, prefix), []),
                spent=spent.get((code, prefix), Spent()),
            )
            for code, count, first, error, _, prefix in groups
        ]

    def answered(self, reasons: Collection[str], note: str) -> list[Cause]:
        """Return the answers that have one of these finish reasons, or the note, by reason and notes."""
        noted = sa.func.instr(sa.literal(",") + sa.func.coalesce(items.c.notes, "") + ",", f",{note},") > 0
        odd = [items.c.status == "done", sa.or_(items.c.finish_reason.in_(sorted(reasons)), noted)]
        key = (items.c.finish_reason, items.c.notes)
        columns = (*key, sa.func.count(), items.c.key, sa.func.min(items.c.position))
        groups = self._rows(sa.select(*columns).where(*self._mine(odd)).group_by(*key).order_by(sa.func.count().desc()))
        if not groups:
            return []
        spent, ids = self._spent(odd, key), self._first(odd, key)
        return [
            Cause(
                code=None,
                finish_reason=reason,
                notes=notes,
                count=count,
                example_id=spoken(first),
                example=f"the answer ended with {reason}" if reason else "the answer has no finish reason",
                ids=ids.get((reason, notes), []),
                spent=spent.get((reason, notes), Spent()),
            )
            for reason, notes, count, first, _ in groups
        ]

    def ids(self, of: Cause) -> Iterator[str]:
        """Yield the ids of all rows of a cause, in the order of the input."""
        if of.code is None:
            those = [items.c.status == "done", items.c.finish_reason.is_(of.finish_reason), items.c.notes.is_(of.notes)]
        else:
            code = items.c.error_code.is_(None) if of.code == "unknown" else items.c.error_code == of.code
            those = [items.c.status == "failed", code, cause().is_(of.prefix)]
        statement = sa.select(items.c.key).where(*self._mine(those)).order_by(items.c.position, items.c.id)
        for key in self._connection.execution_options(yield_per=_READ).execute(statement).scalars():
            yield spoken(key)

    def _mine(self, those: list[sa.ColumnElement[bool]]) -> list[sa.ColumnElement[bool]]:
        return [items.c.run_id == self._run, items.c.answer_number <= self._answers, *those]

    def _rows(self, statement: sa.Select[Any]) -> list[Any]:
        return list(self._connection.execute(statement))

    def _first(self, those: list[sa.ColumnElement[bool]], key: tuple[Any, Any]) -> Mapping[tuple[Any, Any], list[str]]:
        """Return the first ids of each group."""
        place = sa.func.row_number().over(partition_by=key, order_by=(items.c.position, items.c.id)).label("place")
        named = [one.label(name) for one, name in zip(key, ("one", "other"), strict=True)]
        numbered = sa.select(*named, items.c.key, place).where(*self._mine(those)).subquery()
        found: dict[tuple[Any, Any], list[str]] = {}
        columns = numbered.c
        for one, other, name in self._rows(
            sa.select(columns.one, columns.other, columns.key).where(columns.place <= SHOWN).order_by(columns.place)
        ):
            found.setdefault((one, other), []).append(spoken(name))
        return found

    def _spent(self, those: list[sa.ColumnElement[bool]], key: tuple[Any, Any]) -> Mapping[tuple[Any, Any], Spent]:
        """Add up what all attempts of each group took: the one that led to its outcome, and the failed ones."""
        of_row = (attempts.c.run_id == items.c.run_id, attempts.c.item_key == items.c.key, attempts.c.error_code.is_not(None))
        led = (attempts.c.id == items.c.attempt_id, attempts.c.error_code.is_(None))
        found: dict[tuple[Any, Any], Spent] = {}
        for joined in (of_row, led):
            source = items.join(attempts, sa.and_(*joined)).outerjoin(prices, prices.c.id == attempts.c.price_id)
            statement = sa.select(*key, *_AMOUNTS).select_from(source).where(*self._mine(those)).group_by(*key)
            for one, other, *amounts, unlimited in self._rows(statement):
                count, read, written, known, beyond, unpriced, priced = amounts
                took = Spent(
                    attempts=count,
                    input_tokens=read,
                    output_tokens=written,
                    cost=known or 0,
                    perhaps=None if unlimited else beyond or 0,
                    unpriced=unpriced or 0,
                    priced=priced or 0,
                )
                found[one, other] = found.get((one, other), Spent()).plus(took)
        return found


_A, _P = "attempts", "prices"
_BILLED = billed(_A)
_AMOUNTS: tuple[sa.ColumnElement[Any], ...] = (
    sa.func.count(),
    sa.func.sum(attempts.c.input_tokens),
    sa.func.sum(attempts.c.output_tokens),
    sa.literal_column(f"sum(CASE WHEN {_BILLED} THEN coalesce({cost(_A, _P)}, 0) ELSE 0 END)"),
    sa.literal_column(f"sum(CASE WHEN {_BILLED} THEN {perhaps(_A, _P)} ELSE 0 END)"),
    sa.literal_column(f"sum({_BILLED} AND prices.input IS NULL)"),
    sa.literal_column(f"sum({_BILLED} AND prices.input IS NOT NULL)"),
    sa.literal_column(f"sum({_BILLED} AND {unknown(_A)} AND attempts.output_bound IS NULL)"),
)


def _sum(one: int | None, other: int | None) -> int | None:
    return None if one is None and other is None else (one or 0) + (other or 0)


@contextmanager
def reading(store: Path, run_id: int, answers: int) -> Iterator[CauseReader]:
    """Yield what reads the causes of a run. Raises StoreError."""
    with database.transaction(store, write=False) as connection:
        yield CauseReader(connection, run_id, answers)
