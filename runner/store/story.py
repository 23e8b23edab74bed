"""One row of a run, with everything that was sent for it and what came back. Synchronous."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import msgspec
import sqlalchemy as sa
from msgspec import Struct, structs

from runner.model import Json
from runner.money import dollars
from runner.several import number_of, row_of
from runner.store import database, early
from runner.store.cost import billed, cost, held, perhaps
from runner.store.former import FormerAnswer, answers
from runner.store.reuse import IS_TAKEN_OVER
from runner.store.row_attempts import Led, attempts_of_row, of_row
from runner.store.schema import attempts, items, prices, replaced, reservations, reused
from runner.store.spending import Fetch


class Sent(Struct, frozen=True, kw_only=True):
    """One attempt, as the store has it."""

    number: int
    started_at: float
    duration_s: float
    time_to_first_token_s: float | None
    status: int | None
    sent: bool
    bytes_received: int
    input_tokens: int | None
    output_tokens: int | None
    cached_tokens: int | None
    reasoning_tokens: int | None
    served_model: str | None
    response_id: str | None
    error_code: str | None
    error: str | None
    # which of several endpoints it went to
    endpoint: str | None
    # dollars that it cost, and what it may have cost in addition; None: not known
    cost: float | None = None
    cost_perhaps: float | None = None
    # output tokens that were saved by ending its answer early: an estimate (``early``); None: it was not, or nothing tells it
    estimated_saved_tokens: int | None = None


_COLUMNS = Sent.__struct_fields__[:-3]
_PRICED = "CASE WHEN NOT {billed} THEN 0 WHEN prices.input IS NOT NULL THEN {amount} END"
_COST = _PRICED.format(billed=billed("attempts"), amount=f"coalesce({cost('attempts', 'prices')}, 0)")
_PERHAPS = _PRICED.format(billed=billed("attempts"), amount=perhaps("attempts", "prices"))
_HELD = f"CASE WHEN count(*) = count({held('reservations', 'prices')}) THEN sum({held('reservations', 'prices')}) END"
"""Picodollars of an attempt, and those that the open requests of a row hold; NULL: not known, or without a limit."""
_ENDED, _SPENT, _MORE = 2, 3, 4
"""Where among the columns of an attempt it is told whether it was ended early, and what it cost."""
UsualOf: TypeAlias = Callable[[Fetch, int], early.Usual | None]
_DIGITS = 18
"""Of the longest number that SQLite can hold in any case."""


class TakenFrom(Struct, frozen=True, kw_only=True):
    """Where an answer is from that was taken over: the run that bought it, its row's id and its number there, and the attempt."""

    from_run: int
    from_key: str
    from_answer: int
    started_at: float
    duration_s: float
    time_to_first_token_s: float | None
    input_tokens: int | None
    output_tokens: int | None
    cached_tokens: int | None
    reasoning_tokens: int | None
    served_model: str | None
    response_id: str | None


class Story(Struct, frozen=True, kw_only=True):
    """A row, or one of several answers to it. key: its id. fields: as they are stored. status: None if it has no outcome yet."""

    key: str
    line: int | None
    status: str | None
    fields: Mapping[str, Json]
    text: str | None
    finish_reason: str | None
    error_code: str | None
    error: str | None
    notes: str | None
    # reasoning, refusal, tool calls, citations, logprobs
    extra: Mapping[str, Json]
    attempts: list[Sent]
    # dollars that all its attempts cost, failed ones too, and what they may have cost in addition; None: not known
    cost: float | None = None
    cost_perhaps: float | None = None
    # None: the answer is the run's own
    taken_from: TakenFrom | None = None
    answer_number: int = 1
    # the id of the row that bought the answer with the same request (--dedupe); and the seed that was made up and sent for it
    same_as: str | None = None
    made_seed: int | None = None
    # the answers that it had before, oldest first
    former: list[FormerAnswer] = []


def story(store: Path, run_id: int, key: str, usual: UsualOf = early.usual) -> list[Story]:
    """Return a row of a run by its id, or by its line if no row has that id, once for each of its answers. Raises StoreError.

    usual: returns what whole answers of the run are like. It takes long, and is asked only if an answer was ended early.
    """
    database.prepare(store, create=False)
    with database.transaction(store, write=False) as connection:
        of_run = sa.select(items).where(items.c.run_id == run_id)
        rows = _by_key(connection, of_run, key)
        if not rows and key.isascii() and key.isdecimal() and len(key) <= _DIGITS:
            # rows without an id have hashes as keys, and a person knows the line
            row = connection.execute(of_run.where(items.c.position == int(key)).order_by(items.c.id.desc())).first()
            key = key if row is None else row_of(row.key)
            rows = _by_key(connection, of_run, key)
        of_former = [(replaced.c.run_id == run_id, mine) for mine in of_row(replaced.c.item_key, key)]
        led = [Led(one.key, one.attempt_id, one.attempts) for one in rows.values()]
        columns = (replaced.c.item_key, replaced.c.attempt_id, replaced.c.attempts)
        led += [Led(*one) for mine in of_former for one in connection.execute(sa.select(*columns).where(*mine))]
        money = (sa.literal_column(_COST, sa.Integer), sa.literal_column(_PERHAPS, sa.Integer))
        wanted: list[sa.ColumnElement[Any]] = [early.is_early(), *money, *(attempts.c[name] for name in _COLUMNS)]
        found = attempts_of_row(connection, run_id, key, wanted, led)
        ended_early = any(one[_ENDED] for one in found)
        like = usual(lambda all_: list(connection.execute(all_)), run_id) if ended_early else None
        open_requests = _held(connection, run_id, key)
        former = [old for mine in of_former for old in answers(connection, store, *mine)]
        bought = sa.select(reused).join(items, IS_TAKEN_OVER).where(items.c.run_id == run_id, items.c.key.in_(list(rows)))
        taken: dict[str, Mapping[Any, Any]] = {one["item_key"]: one for one in connection.execute(bought).mappings()}
    sent: dict[str, list[Sent]] = {}
    for _, item, ended, spent, more, *values in found:
        of = dict(zip(_COLUMNS, values, strict=True))
        saved = max(0, round(like.saved(of["bytes_received"]))) if ended and like is not None else None
        sent.setdefault(item, []).append(
            Sent(**of, cost=_dollars(spent), cost_perhaps=_dollars(more), estimated_saved_tokens=saved)
        )
    keys = sorted(rows.keys() | sent.keys(), key=number_of)
    stories = (
        _story(store, one, rows.get(one), sent.get(one, []), taken.get(one), _money(found, open_requests, one)) for one in keys
    )
    return [structs.replace(one, former=[old for old in former if old.answer_number == one.answer_number]) for one in stories]


def _by_key(connection: sa.Connection, of_run: sa.Select[Any], key: str) -> dict[str, Any]:
    """Return a row, and its further answers, by their keys."""
    return {row.key: row for mine in of_row(items.c.key, key) for row in connection.execute(of_run.where(mine))}


def _held(connection: sa.Connection, run_id: int, key: str) -> dict[str, int | None]:
    """Return what the open requests of a row, and of its further answers, hold of a budget, in picodollars. None: not known."""
    r = reservations.c
    source = reservations.outerjoin(prices, prices.c.id == r.price_id)
    mine = (r.run_id == run_id, sa.or_(*of_row(r.item_key, key)))
    statement = sa.select(r.item_key, sa.literal_column(_HELD, sa.Integer)).select_from(source).where(*mine)
    return dict(map(tuple, connection.execute(statement.group_by(r.item_key))))


def _money(found: list[Any], open_requests: Mapping[str, int | None], key: str) -> tuple[float | None, ...]:
    """Return what all attempts of a row cost, and perhaps beyond that, as the export has it.

    found: the attempts of the row and of its further answers, each with its key and its money.
    """
    mine = [one for one in found if one.item_key == key]
    spent, more = [one[_SPENT] for one in mine], [one[_MORE] for one in mine]
    more += [open_requests[key]] if key in open_requests else []
    sums = (sum(amounts) if None not in amounts else None for amounts in (spent, more))
    return tuple(map(_dollars, sums))


def _dollars(picodollars: int | None) -> float | None:
    return None if picodollars is None else float(dollars(picodollars))


def _story(
    store: Path, key: str, row: Any, sent: list[Sent], taken: Mapping[Any, Any] | None, money: tuple[float | None, ...]
) -> Story:
    try:
        known: dict[str, Any] = {
            name: getattr(row, name, None) for name in ("status", "text", "finish_reason", "error_code", "error", "notes")
        }
        fields, extra = _decoded(getattr(row, "metadata", None)), _decoded(getattr(row, "extra", None))
    except database.DAMAGE as error:
        raise database.store_error(store, "read", error) from error
    same_as = getattr(row, "same_as", None)
    return Story(
        key=row_of(key),
        answer_number=number_of(key),
        same_as=same_as and row_of(same_as),
        made_seed=getattr(row, "made_seed", None),
        line=getattr(row, "position", None),
        fields=fields,
        extra=extra,
        attempts=sent,
        taken_from=_taken_from(taken) if taken is not None else None,
        cost=money[0],
        cost_perhaps=money[1],
        **known,
    )


def _taken_from(taken: Mapping[Any, Any]) -> TakenFrom:
    key = taken["from_key"]
    told = {**taken, "from_key": row_of(key), "from_answer": number_of(key)}
    return TakenFrom(**{name: told[name] for name in TakenFrom.__struct_fields__})


def _decoded(text: str | None) -> dict[str, Any]:
    return msgspec.json.decode(text, type=dict[str, Any]) if text is not None else {}
