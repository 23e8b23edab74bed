"""Which results of a run are wanted, and in which order."""

from collections.abc import Callable
from typing import Any, Literal, TypeAlias

import sqlalchemy as sa
from msgspec import Struct

from runner.store.result_rows import ORDER, ORDER_OF_ANSWERS, finished_at
from runner.store.reuse import number_taken_over
from runner.store.schema import attempts, items
from runner.store.spending import has_open

Order: TypeAlias = Literal["input", "finished"]


_NUMBERS = ("integer", "real")


class Cut(Struct, frozen=True, kw_only=True):
    """Rows whose answers were cut. codes: of those that failed. reasons: finish reasons as they are stored.

    plain: fields of a row with the name of a setting are the user's own data (``row_settings = false``).
    """

    codes: frozenset[str] = frozenset()
    reasons: frozenset[str] = frozenset()
    plain: bool = False

    @property
    def failed(self) -> sa.ColumnElement[bool]:
        """Those that failed, in SQL."""
        coded = (items.c.status == "failed") & items.c.error_code.in_(sorted(self.codes))
        return coded & items.c.finish_reason.in_(sorted(self.reasons))

    @property
    def at_own_limit(self) -> sa.ColumnElement[bool]:
        """Those that set the limit of their answers themselves, done ones too, in SQL."""
        done = (items.c.status == "done") & items.c.finish_reason.in_(sorted(self.reasons))
        return sa.or_(done, self.failed) & _sets_limit(plain=self.plain)


class Selection(Struct, frozen=True, kw_only=True):
    """Results for which one of the conditions holds, or every result. order: as in the input, or as they were finished."""

    every: bool = True

    statuses: frozenset[str] = frozenset()
    # of failed rows
    codes: frozenset[str] = frozenset()
    # of done rows: finish reasons as they are stored, and the notes on answers
    reasons: frozenset[str] = frozenset()
    notes: frozenset[str] = frozenset()
    # failed rows whose answers were cut, and rows whose answers were cut at a limit of their own; None: not asked for
    cut: Cut | None = None
    own_limit: Cut | None = None
    # done rows that have none of these reasons and notes; None: not asked for
    without: "tuple[frozenset[str], frozenset[str]] | None" = None
    # of all these, those of rows at this position or behind it; None: all. It makes pages, as an index finds it
    position: int | None = None
    # of all these, results that are left out; None: none are
    but: "Selection | None" = None
    order: Order = "input"

    @property
    def where(self) -> sa.ColumnElement[bool]:
        """The condition, in SQL."""
        done, failed = items.c.status == "done", items.c.status == "failed"
        wanted: list[sa.ColumnElement[bool]] = [items.c.status == status for status in sorted(self.statuses)]
        if self.codes:
            wanted.append(failed & items.c.error_code.in_(sorted(self.codes)))
        if self.reasons or self.notes:
            wanted.append(done & _has(self.reasons, self.notes))
        if self.cut is not None:
            wanted.append(self.cut.failed)
        if self.own_limit is not None:
            wanted.append(self.own_limit.at_own_limit)
        if self.without is not None:
            wanted.append(done & ~_has(*self.without))
        found: sa.ColumnElement[bool] = sa.true() if self.every else sa.or_(sa.false(), *wanted)
        if self.position is not None:
            found &= items.c.position >= self.position
        # what is compared with NULL is not left out
        return found if self.but is None else found & ~sa.func.coalesce(self.but.where, sa.false())


EVERY = Selection()
"""All results, in the order of the input."""


def _has(reasons: frozenset[str], notes: frozenset[str]) -> sa.ColumnElement[bool]:
    """Tell whether an answer has one of these finish reasons or notes. No answer has none of both, and NULL is no answer."""
    words = sa.literal(",") + sa.func.coalesce(items.c.notes, "") + ","
    reason = sa.func.coalesce(items.c.finish_reason, "").in_(sorted(reasons))
    return sa.or_(reason, *(sa.func.instr(words, f",{note},") > 0 for note in sorted(notes)))


def _sets_limit(*, plain: bool) -> sa.ColumnElement[bool]:
    """Tell whether a row sets the most tokens of its answer, as ``inputs`` reads it: itself, in ``params`` or in what is sent."""
    places = ("$.params",) if plain else ("$", "$.params")
    names = ("max_tokens", "extra_body.max_tokens", "extra_body.max_completion_tokens")
    fields = sa.case((sa.func.json_valid(items.c.metadata), items.c.metadata))
    return sa.or_(*(_is_positive(fields, f"{place}.{name}") for place in places for name in names))


def _is_positive(fields: sa.ColumnElement[Any], path: str) -> sa.ColumnElement[bool]:
    """Tell whether fields have a number above 0 at a path. They have none in an empty cell, and a text is no number."""
    return sa.func.json_type(fields, path).in_(_NUMBERS) & (sa.func.json_extract(fields, path) > 0)


def has_further(run_id: int) -> sa.Exists:
    """Tell whether a run has further answers of rows, in the words of the condition of an index."""
    return sa.exists().where(items.c.run_id == run_id, sa.text("items.answer_number > 1"))


def has_endpoints(run_id: int) -> sa.Exists:
    """Tell whether a run has attempts at several endpoints, in the words of the condition of an index."""
    return sa.exists().where(attempts.c.run_id == run_id, attempts.c.endpoint.is_not(None))


def ordered(
    fetch: Callable[[sa.Select[Any]], list[Any]], run_id: int, select: Callable[..., sa.Select[Any]], chosen: Selection
) -> sa.Select[Any]:
    """Return the statement that selects results, for one run in order."""
    # a run without answers of others, or without open requests, is spared the look for them
    looked_for = number_taken_over(run_id).add_columns(has_further(run_id), has_open(run_id))
    ((taken_over, further_answers, open_requests),) = fetch(looked_for)
    order: tuple[Any, ...] = ORDER_OF_ANSWERS if further_answers else ORDER
    if chosen.order == "finished":
        # without a time of their own: broken rows, and those that got the answer of another row
        order = (finished_at(taken_over=bool(taken_over)).asc().nulls_last(), *order)
    statement = select(taken_over=bool(taken_over), open_requests=bool(open_requests)).where(items.c.run_id == run_id)
    return statement.where(chosen.where).order_by(*order)
