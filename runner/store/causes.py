"""Results of a run by cause: rows that failed, and answers that are cut, filtered or empty, with what their attempts cost.

All is added up in SQL, and ids are read one by one, so that memory does not grow with the rows.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import sqlalchemy as sa
from msgspec import Struct, structs

from runner.errors import BAD_ROW, INVALID_OUTPUT
from runner.several import spoken
from runner.store.cost import billed, cost, perhaps, unknown
from runner.store.schema import attempts, items, prices
from runner.store.selection import Cut
from runner.store.spending import of_run

SHOWN = 5
"""Ids of a cause that are kept."""
_READ = 1_000
_NO_CODE, _UNPRICED = "unknown", "unpriced"
Fetch: TypeAlias = Callable[[sa.Select[Any]], Sequence[Any]]
"""Returns all rows of a statement."""
_Key: TypeAlias = tuple[sa.ColumnElement[Any], ...]


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
    finish_reason: of failed rows, if it says why they failed. own_limit: they were cut at a limit that they set themselves.
    """

    code: str | None
    prefix: str | None = None
    finish_reason: str | None = None
    notes: str | None = None
    count: int
    example_id: str
    example: str
    own_limit: bool = False
    ids: list[str] = []
    spent: Spent = Spent()


class CauseReader:
    """The causes of one run. connection: that of a ``StoreReader.snapshot``, so that they fit what else is read there.

    answers: how many of each row are wanted. cut: the rows whose answers were cut.
    """

    def __init__(self, connection: sa.Connection, run_id: int, answers: int, cut: Cut) -> None:
        self._connection, self._run, self._answers, self._cut = connection, run_id, answers, cut

    def failed(self) -> list[Cause]:
        """Return the failed rows by cause, most frequent first."""
        found, key, those = self.counted(), _key(self._cut), [items.c.status == "failed"]
        if not found:
            return []
        spent, ids = self._spent(those, key), self._first(those, key)
        groups = [(_stored(one.code), one.prefix, one.finish_reason, one.own_limit or None) for one in found]
        return [
            structs.replace(one, ids=ids.get(group, []), spent=spent.get(group, Spent()))
            for one, group in zip(found, groups, strict=True)
        ]

    def counted(self) -> list[Cause]:
        """Return the failed rows by cause as ``failed`` does, without their ids and what they took."""
        return failed_rows(self._rows, self._run, self._answers, self._cut)

    def answered(self, reasons: Collection[str], note: str) -> list[Cause]:
        """Return the answers that have one of these finish reasons, or the note, by reason and notes."""
        noted = sa.func.instr(sa.literal(",") + sa.func.coalesce(items.c.notes, "") + ",", f",{note},") > 0
        odd = [items.c.status == "done", sa.or_(items.c.finish_reason.in_(sorted(reasons)), noted)]
        key = (items.c.finish_reason, items.c.notes, _own_limit(self._cut))
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
                own_limit=bool(own),
                example_id=spoken(first),
                example=f"the answer ended with {reason}" if reason else "the answer has no finish reason",
                ids=ids.get((reason, notes, own), []),
                spent=spent.get((reason, notes, own), Spent()),
            )
            for reason, notes, own, count, first, _ in groups
        ]

    def ids(self, of: Cause) -> Iterator[str]:
        """Yield the ids of all rows of a cause, in the order of the input."""
        own = of.own_limit or None
        if of.code is None:
            those = [items.c.status == "done", items.c.finish_reason.is_(of.finish_reason), items.c.notes.is_(of.notes)]
            those.append(_own_limit(self._cut).is_(own))
        else:
            values = zip(_key(self._cut), (_stored(of.code), of.prefix, of.finish_reason, own), strict=True)
            those = [items.c.status == "failed", *(column.is_(value) for column, value in values)]
        statement = sa.select(items.c.key).where(*self._mine(those)).order_by(items.c.position, items.c.id)
        # an option of the statement: that of the connection would hold for all that is read after it
        for key in self._connection.execute(statement, execution_options={"yield_per": _READ}).scalars():
            yield spoken(key)

    def longest(self) -> int | None:
        """Return the most tokens that an answer of the run has; None if no attempt reported any."""
        longest: int | None = self._rows(sa.select(sa.func.max(attempts.c.output_tokens)).where(of_run(self._run)))[0][0]
        return longest

    def longest_s(self, code: str) -> float | None:
        """Return the seconds that the longest attempt took which failed with a code; None if none did."""
        failed = (attempts.c.run_id == self._run, attempts.c.error_code == code)
        longest_s: float | None = self._rows(sa.select(sa.func.max(attempts.c.duration_s)).where(*failed))[0][0]
        return longest_s

    def _mine(self, those: list[sa.ColumnElement[bool]]) -> list[sa.ColumnElement[bool]]:
        return [items.c.run_id == self._run, items.c.answer_number <= self._answers, *those]

    def _rows(self, statement: sa.Select[Any]) -> list[Any]:
        return list(self._connection.execute(statement))

    def _first(self, those: list[sa.ColumnElement[bool]], key: _Key) -> Mapping[tuple[Any, ...], list[str]]:
        """Return the first ids of each group."""
        place = sa.func.row_number().over(partition_by=key, order_by=(items.c.position, items.c.id)).label("place")
        named = [one.label(f"part_{number}") for number, one in enumerate(key)]
        numbered = sa.select(*named, items.c.key, place).where(*self._mine(those)).subquery()
        *parts, name, nth = numbered.c
        found: dict[tuple[Any, ...], list[str]] = {}
        for *group, first in self._rows(sa.select(*parts, name).where(nth <= SHOWN).order_by(nth)):
            found.setdefault(tuple(group), []).append(spoken(first))
        return found

    def _spent(self, those: list[sa.ColumnElement[bool]], key: _Key) -> Mapping[tuple[Any, ...], Spent]:
        """Add up what all attempts of each group took: the one that led to its outcome, and the failed ones."""
        of_row = (attempts.c.run_id == items.c.run_id, attempts.c.item_key == items.c.key, attempts.c.error_code.is_not(None))
        led = (attempts.c.id == items.c.attempt_id, attempts.c.error_code.is_(None))
        found: dict[tuple[Any, ...], Spent] = {}
        for joined in (of_row, led):
            source = items.join(attempts, sa.and_(*joined)).outerjoin(prices, prices.c.id == attempts.c.price_id)
            statement = sa.select(*key, *_AMOUNTS).select_from(source).where(*self._mine(those)).group_by(*key)
            for values in self._rows(statement):
                group = tuple(values[: len(key)])
                count, read, written, known, beyond, unpriced, priced, unlimited = values[len(key) :]
                took = Spent(
                    attempts=count,
                    input_tokens=read,
                    output_tokens=written,
                    cost=known or 0,
                    perhaps=None if unlimited else beyond or 0,
                    unpriced=unpriced or 0,
                    priced=priced or 0,
                )
                found[group] = found.get(group, Spent()).plus(took)
        return found


def failed_rows(fetch: Fetch, run_id: int, answers: int, cut: Cut) -> list[Cause]:
    """Return the failed rows of a run by cause, most frequent first, without their ids and what they took.

    answers: how many of each row are wanted. cut: the rows whose answers were cut.
    """
    key = _key(cut)
    # SQLite takes the other columns from the row that has the minimum
    columns = (*key, sa.func.count(), items.c.key, items.c.error, sa.func.min(items.c.position))
    mine = (items.c.run_id == run_id, items.c.status == "failed", items.c.answer_number <= answers)
    return [
        Cause(
            code=code or _NO_CODE,
            prefix=prefix,
            finish_reason=reason,
            count=count,
            own_limit=bool(own),
            example_id=spoken(first),
            example=error or "",
        )
        for code, prefix, reason, own, count, first, error, _ in fetch(
            sa.select(*columns).where(*mine).group_by(*key).order_by(sa.func.count().desc())
        )
    ]


def _stored(code: str | None) -> str | None:
    """Return an error code as it is in the store."""
    return None if code == _NO_CODE else code


def _key(cut: Cut) -> _Key:
    """Return what failed rows of one cause have in common."""
    return (items.c.error_code, _prefix(), _cut_by(cut.reasons), _own_limit(cut))


def _prefix() -> sa.ColumnElement[Any]:
    """Return what the errors of failed rows with one code have in common."""
    # a message begins with the provider's own error code and a colon; that of a broken row begins with its line
    prefix = sa.func.substr(items.c.error, 1, sa.func.instr(items.c.error, ": "))
    # each model without a price is a cause of its own, for which something else is to be done
    whole = items.c.error_code == _UNPRICED
    return sa.case((items.c.error_code == BAD_ROW, ""), (whole, items.c.error), else_=prefix)


def _cut_by(cut: Collection[str]) -> sa.ColumnElement[Any]:
    """Return the finish reason of an answer that does not fit the schema as it was cut; NULL for all else."""
    is_cut = sa.and_(items.c.error_code == INVALID_OUTPUT, items.c.finish_reason.in_(sorted(cut)))
    return sa.case((is_cut, items.c.finish_reason))


def _own_limit(cut: Cut) -> sa.ColumnElement[Any]:
    """Return true for rows that were cut at a limit of their own, which no option changes; NULL for all others."""
    return sa.case((cut.at_own_limit, sa.true()))


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
