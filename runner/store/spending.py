"""Adds up what the attempts of a run cost: tokens in SQL, money in whole numbers of any size."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import msgspec
import sqlalchemy as sa

from runner.admission import TOGETHER
from runner.batches import SENT_STATES
from runner.money import Money, Rates, Tokens
from runner.store.cost import at_an_end, billed, bounds, kinds, most_of
from runner.store.schema import attempts, batch_rows, batches, prices, reservations

Fetch = Callable[[sa.Select[Any]], list[Any]]
"""Returns all rows of a statement."""

OF_KILLED = 2
"""Marks what was open when a session without a budget was killed, in the rows of ``tokens_of``: their ``open``."""
_RATES = Rates.__struct_fields__


def of_run(run_id: int, after: int = 0) -> sa.ColumnElement[bool]:
    """Select the attempts of a run in the order of the table: the index, in the order of the keys, is several times slower.

    after: only those that were saved behind this one.
    """
    edges = (sa.func.min(attempts.c.id), sa.func.max(attempts.c.id))
    first, last = (sa.select(edge).where(attempts.c.run_id == run_id).scalar_subquery() for edge in edges)
    # adding 0 prevents SQLite from using that index
    mine = sa.and_(attempts.c.id.between(first, last), attempts.c.run_id + 0 == run_id)
    return sa.and_(mine, attempts.c.id > after) if after else mine


def once(rows: sa.Select[Any]) -> sa.Subquery:
    """Return a statement as a table whose columns SQLite works out once for each row, and not wherever they are used.

    That is what a limit does, here one that is none. Nothing is kept in memory.
    """
    return rows.limit(-1).subquery()


def rates_of(run_id: int) -> sa.Select[Any]:
    """Return the statement that selects the entries of prices of a run."""
    columns = (prices.c[name] for name in (*_RATES, *(most_of(rate) for rate in _RATES)))
    return sa.select(prices.c.id, *columns).where(prices.c.run_id == run_id)


def tokens_of(run_id: int, keys: Sequence[str] | None = None, *, ended: bool = False, after: int = 0) -> sa.Select[Any]:
    """Return the statement that adds up the tokens of the billed attempts of a run, by their rates and by whether they failed.

    bounded: their usage is not known as a whole, and they have bounds of what they may have used. at_end: of these, those that
    were open when their session ended.
    keys: those of the answers that count; None: all do. A request that is open under a budget counts like the failed attempt that
    it becomes if its process is killed, and so does one that waits in a batch at a provider. open: 1 for such, 2 for those that
    were open when a session without a budget was killed.
    ended: no session goes on, so that the newest was killed if it has left a reservation. after: as for ``of_run``.
    """
    a = attempts.c
    known = (a.input_tokens.is_not(None), a.output_tokens.is_not(None))
    failed, bounded = a.error_code.is_not(None).label("failed"), a.input_bound.is_not(None).label("bounded")
    at_end = sa.literal_column(at_an_end("attempts"), sa.Boolean).label("at_end")
    tokens = {name: _sum(value).filter(*known) for name, value in kinds("attempts").items()}
    made = (
        sa.select(
            a.price_id,
            failed,
            bounded,
            at_end,
            sa.literal(0).label("open"),
            sa.func.count().label("count"),
            *(sa.func.coalesce(value, 0).label(name) for name, value in tokens.items()),
            *(sa.func.coalesce(_sum(value), 0).label(name) for name, value in bounds("attempts").items()),
            sa.func.count().filter(a.output_bound.is_(None)).label("unlimited"),
        )
        .where(of_run(run_id, after), sa.text(billed("attempts")), _is_one_of(a.item_key, keys))
        .group_by(a.price_id, failed, bounded, at_end)
    )
    return sa.select(sa.union_all(made, _held(run_id, keys, ended=ended), _in_batches(run_id, keys)).subquery())


def held_of(run_id: int, *, ended: bool = False) -> sa.Select[Any]:
    """Return the statement that selects of the rows of ``tokens_of`` those of open requests, without a look at the attempts."""
    return sa.select(sa.union_all(_held(run_id, None, ended=ended), _in_batches(run_id, None)).subquery())


def _held(run_id: int, keys: Sequence[str] | None, *, ended: bool) -> sa.Select[Any]:
    r = reservations.c
    # in the order of the columns of ``tokens_of``
    kind = sa.case((r.item_key == TOGETHER, OF_KILLED), else_=1).label("open")
    is_so = (sa.true().label(name) for name in ("failed", "bounded", "at_end"))
    nothing = (sa.literal(0).label(name) for name in kinds("attempts"))
    columns = {"most_in": r.input_bound, "most_out": r.output_bound, "most_hour": r.cache_1h_bound}
    most = (sa.func.coalesce(sa.func.sum(column), 0).label(name) for name, column in columns.items())
    unlimited = sa.func.coalesce(sa.func.sum(r.requests).filter(r.output_bound.is_(None)), 0).label("unlimited")
    held = sa.select(r.price_id, *is_so, kind, sa.func.sum(r.requests).label("count"), *nothing, *most, unlimited)
    return held.where(_is_left(run_id, ended=ended), _is_one_of(r.item_key, keys)).group_by(r.price_id, kind)


def _in_batches(run_id: int, keys: Sequence[str] | None) -> sa.Select[Any]:
    """Select what the requests in open batches may cost that have no result yet, like open requests."""
    b, r = batches.c, batch_rows.c
    mine = (b.run_id == run_id, b.state.in_(SENT_STATES), b.waiting + b.released > 0)
    is_so = (sa.true().label(name) for name in ("failed", "bounded", "at_end"))
    nothing = (sa.literal(0).label(name) for name in kinds("attempts"))
    if keys is None:
        count: sa.ColumnElement[Any] = sa.func.sum(b.waiting + b.released)
        left: list[sa.ColumnElement[Any]] = [
            sa.func.sum(b[name]) for name in ("left_input", "left_output", "left_1h", "left_unlimited")
        ]
        source: sa.FromClause = batches
    else:
        count, source = sa.func.count(), batch_rows.join(batches, b.id == r.batch_id)
        sums = (sa.func.sum(r[name]) for name in ("input_bound", "output_bound", "cache_1h_bound"))
        left = [*sums, sa.func.count().filter(r.output_bound.is_(None))]
    names = ("most_in", "most_out", "most_hour", "unlimited")
    most = (sa.func.coalesce(amount, 0).label(name) for name, amount in zip(names, left, strict=True))
    held = sa.select(b.price_id, *is_so, sa.literal(1).label("open"), count.label("count"), *nothing, *most)
    return held.select_from(source).where(*mine, _is_one_of(r.key, keys)).group_by(b.price_id)


def _is_left(run_id: int, *, ended: bool) -> sa.ColumnElement[bool]:
    """Select the reservations of a run that count. That of a session without a budget does not while the session goes on."""
    r = reservations.c
    counts = sa.true() if ended else sa.or_(r.item_key != TOGETHER, r.number > 0)
    return sa.and_(r.run_id == run_id, counts)


def has_open(run_id: int) -> sa.Exists:
    """Tell whether a run has reservations of single requests."""
    return sa.exists().where(reservations.c.run_id == run_id, reservations.c.item_key > TOGETHER)


def _is_one_of(column: sa.Column[str], keys: Sequence[str] | None) -> sa.ColumnElement[bool]:
    if keys is None:
        return sa.true()
    # one value: a statement can have no more than some thousand
    listed = sa.func.json_each(msgspec.json.encode(keys).decode()).table_valued("value")
    return column.in_(sa.select(listed.c.value))


def _sum(amount: str) -> sa.Function[int]:
    return sa.func.sum(sa.literal_column(amount, sa.Integer))


def is_priced(rates: list[Any]) -> bool:
    """Return True if one of the rows of ``rates_of`` has rates."""
    return any(row[1] is not None for row in rates)


def number_billed(run_id: int) -> sa.Select[Any]:
    """Return the statement that counts the attempts of a run that were billed, or may have been."""
    return sa.select(sa.func.count()).where(of_run(run_id), sa.literal_column(billed("attempts"), sa.Boolean))


def money_of(rates: list[Any], groups: list[Any]) -> Money:
    """Add up what a run has cost. rates, groups: the rows of ``rates_of`` and ``tokens_of``, of the same state of the store."""
    known, money = _known(rates), Money()
    for group in groups:
        of = known.get(group.price_id)
        money = money.plus(_of_group(group, of) if of is not None else Money(unpriced=group.count))
        money = money.plus(
            Money(open_requests=group.count if group.open else 0, killed_requests=group.count if group.open == OF_KILLED else 0)
        )
    return money


class Used(NamedTuple):
    """What a run has used of a budget, or may have: picodollars, and tokens of input and output. unknown: attempts not in it."""

    cost: int = 0
    tokens: int = 0
    unknown: int = 0


def used_of(rates: list[Any], groups: list[Any]) -> Used:
    """Add up what a run has used, or may have; the parameters are those of ``money_of``. What has no limit is not counted."""
    known = _known(rates)
    cost = tokens = unknown = 0
    for group in groups:
        of, counted = known.get(group.price_id), tokens_in(group).read + tokens_in(group).written
        tokens += group.most_in + group.most_out if group.bounded else counted
        unknown += group.count if of is None else group.unlimited if group.bounded else 0
        if of is not None:
            cost += of.least.cost(tokens_in(group)) + _beyond(group, of)
    return Used(cost, tokens, unknown)


class AtEnds(NamedTuple):
    """Requests that were open when sessions ended, by a kill or a stop, and what they may have used beyond what is known.

    Picodollars, and tokens of input and output, as far as that has a limit. unlimited: how many of them have none. That they were
    open says nothing of their rows, so that it is not expected of others.
    """

    number: int = 0
    cost: int = 0
    tokens: int = 0
    unlimited: int = 0

    def plus(self, other: "AtEnds") -> "AtEnds":
        """Return both together."""
        return AtEnds(*(mine + theirs for mine, theirs in zip(self, other, strict=True)))


def at_ends_of(rates: list[Any], groups: list[Any]) -> AtEnds:
    """Add up what was open when the sessions of a run ended; the parameters are those of ``money_of``."""
    known, found = _known(rates), AtEnds()
    for group in groups:
        if group.at_end:
            of, tokens = known.get(group.price_id), tokens_in(group)
            beyond = group.most_in + group.most_out - tokens.read - tokens.written
            found = found.plus(AtEnds(group.count, _beyond(group, of) if of is not None else 0, beyond, group.unlimited))
    return found


def tokens_in(group: Any) -> Tokens:
    """Return the known tokens of a row of ``tokens_of``."""
    return Tokens(**{name: getattr(group, name) for name in Tokens.__struct_fields__})


class _Span(NamedTuple):
    """The rates of an entry of prices: those that hold for certain, and the highest that may."""

    least: Rates
    most: Rates


def _known(rates: list[Any]) -> dict[int, _Span]:
    """Return the rates of the entries that have some, by their number."""
    found = {}
    for number, *values in rates:
        least, top = (dict(zip(_RATES, part, strict=True)) for part in (values[: len(_RATES)], values[len(_RATES) :]))
        if least["input"] is not None:
            found[number] = _Span(Rates(**least), Rates(**(least if top["input"] is None else top)))
    return found


def _beyond(group: Any, rates: _Span) -> int:
    """Return what the attempts of a group may have cost beyond what is known, in picodollars, as far as that has a limit."""
    tokens = tokens_in(group)
    if not group.bounded:
        return rates.least.unsure(tokens, rates.most)
    return rates.most.most(group.most_in, group.most_out, group.most_hour) - rates.least.cost(tokens)


def _of_group(group: Any, rates: _Span) -> Money:
    tokens, beyond = tokens_in(group), _beyond(group, rates)
    known = rates.least.cost(tokens)
    perhaps = None if group.bounded and group.unlimited else beyond
    return Money(
        spent=known,
        failed=known if group.failed else 0,
        perhaps=perhaps,
        priced=group.count,
        saved=rates.least.saved(tokens),
        held=perhaps if group.open else 0,
        unsure=0 if group.bounded else beyond,
    )
