"""Adds up what the attempts of a run cost: tokens in SQL, money in whole numbers of any size."""

from collections.abc import Callable
from typing import Any, NamedTuple

import sqlalchemy as sa

from runner.money import Money, Rates
from runner.store.cost import billed
from runner.store.schema import attempts, prices

Fetch = Callable[[sa.Select[Any]], list[Any]]
"""Returns all rows of a statement."""

_RATES = Rates.__struct_fields__
_SUMS = ("fresh", "cached", "cache_write", "plain", "reasoning")


def of_run(run_id: int) -> sa.ColumnElement[bool]:
    """Select the attempts of a run in the order of the table: the index, in the order of the keys, is several times slower."""
    edges = (sa.func.min(attempts.c.id), sa.func.max(attempts.c.id))
    first, last = (sa.select(edge).where(attempts.c.run_id == run_id).scalar_subquery() for edge in edges)
    # adding 0 prevents SQLite from using that index
    return sa.and_(attempts.c.id.between(first, last), attempts.c.run_id + 0 == run_id)


def rates_of(run_id: int) -> sa.Select[Any]:
    """Return the statement that selects the entries of prices of a run."""
    return sa.select(prices.c.id, *(prices.c[name] for name in _RATES)).where(prices.c.run_id == run_id)


def tokens_of(run_id: int) -> sa.Select[Any]:
    """Return the statement that adds up the tokens of the billed attempts of a run, by their rates and by whether they failed."""
    a = attempts.c
    cached, stored = sa.func.coalesce(a.cached_tokens, 0), sa.func.coalesce(a.cache_write_tokens, 0)
    reasoning = sa.func.min(sa.func.coalesce(a.reasoning_tokens, 0), a.output_tokens)
    sums = {
        "fresh": sa.func.max(0, a.input_tokens - cached - stored),
        "cached": cached,
        "cache_write": stored,
        "plain": a.output_tokens - reasoning,
        "reasoning": reasoning,
    }
    known = (a.input_tokens.is_not(None), a.output_tokens.is_not(None))
    failed, bounded = a.error_code.is_not(None).label("failed"), a.input_bound.is_not(None).label("bounded")
    return (
        sa.select(
            a.price_id,
            failed,
            bounded,
            sa.func.count().label("count"),
            *(sa.func.coalesce(sa.func.sum(value).filter(*known), 0).label(name) for name, value in sums.items()),
            sa.func.coalesce(sa.func.sum(a.input_bound), 0).label("most_in"),
            sa.func.coalesce(sa.func.sum(a.output_bound), 0).label("most_out"),
            sa.func.count().filter(a.output_bound.is_(None)).label("unlimited"),
        )
        .where(of_run(run_id), sa.text(billed("attempts")))
        .group_by(a.price_id, failed, bounded)
    )


def is_priced(rates: list[Any]) -> bool:
    """Return True if one of the rows of ``rates_of`` has rates."""
    return any(row[1] is not None for row in rates)


def money_of(rates: list[Any], groups: list[Any]) -> Money:
    """Add up what a run has cost. rates, groups: the rows of ``rates_of`` and ``tokens_of``, of the same state of the store."""
    known = {row[0]: Rates(**dict(zip(_RATES, row[1:], strict=True))) for row in rates if row[1] is not None}
    money = Money()
    for group in groups:
        of = known.get(group.price_id)
        money = money.plus(_of_group(group, of) if of is not None else Money(unpriced=group.count))
    return money


class Used(NamedTuple):
    """What a run has used of a budget, or may have: picodollars, and tokens of input and output. unknown: attempts not in it."""

    cost: int = 0
    tokens: int = 0
    unknown: int = 0


def used_of(rates: list[Any], groups: list[Any]) -> Used:
    """Add up what a run has used, or may have; the parameters are those of ``money_of``. What has no limit is not counted."""
    known = {row[0]: Rates(**dict(zip(_RATES, row[1:], strict=True))) for row in rates if row[1] is not None}
    cost = tokens = unknown = 0
    for group in groups:
        of, counted = known.get(group.price_id), sum(getattr(group, name) for name in _SUMS)
        tokens += max(counted, group.most_in + group.most_out) if group.bounded else counted
        unknown += group.count if of is None else group.unlimited if group.bounded else 0
        if of is not None:
            spent = _cost(group, of)
            cost += max(spent, of.most(group.most_in, group.most_out)) if group.bounded else spent
    return Used(cost, tokens, unknown)


def _cost(group: Any, rates: Rates) -> int:
    return rates.cost(**{name: getattr(group, name) for name in _SUMS})


def _of_group(group: Any, rates: Rates) -> Money:
    known = _cost(group, rates)
    perhaps: int | None = 0
    if group.bounded:
        perhaps = None if group.unlimited else max(0, rates.most(group.most_in, group.most_out) - known)
    saved = rates.saved(cached=group.cached, cache_write=group.cache_write)
    return Money(spent=known, failed=known if group.failed else 0, perhaps=perhaps, priced=group.count, saved=saved)
