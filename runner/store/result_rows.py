"""How a result lies in the store: its columns, its order, and how a row of them becomes a result."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import msgspec
import sqlalchemy as sa

from runner.model import Json, Result
from runner.origin import Files, place_of
from runner.several import MARK, row_of
from runner.store.cost import billed, cost, held, perhaps
from runner.store.reuse import IS_TAKEN_OVER
from runner.store.schema import BOUGHT, attempts, items, prices, reused

Asked: TypeAlias = Callable[[dict[str, Json]], Json]
"""Returns what a row asked, given its stored fields, and takes from them what is no field of the user's own."""

RESULT = (
    *(items.c[name] for name in ("key", "metadata", "extra", "text", "status", "finish_reason", "error_code", "error")),
    *(attempts.c[name] for name in ("served_model", "input_tokens", "output_tokens", "cached_tokens", "reasoning_tokens")),
    items.c.attempts,
    attempts.c.time_to_first_token_s,
    attempts.c.duration_s,
    items.c.position,
)
# the file of a row is added when it is known (``located``)
_LAST = (sa.null(), items.c.answer_number, items.c.same_as, attempts.c.endpoint)
_TAKEN_OVER = tuple(
    sa.func.coalesce(column, reused.c[column.name]) if column.table is attempts and column.name in BOUGHT else column
    for column in RESULT
)
"""The same for a run that has taken over answers: what of it the attempts do not have."""


def _of_row(amount: Callable[[str, str], str]) -> sa.ColumnElement[float]:
    """Return what all attempts of a row cost, in dollars; NULL if the rates of one are not known.

    They are the one that led to its outcome, and the failed ones before it, which an index finds.
    """
    one = f"CASE WHEN NOT {billed('attempts')} THEN 0 WHEN prices.input IS NOT NULL THEN {amount('attempts', 'prices')} END"
    own = f"CASE WHEN attempts.id IS NULL THEN 0 ELSE {one} END"
    others = (
        f"SELECT CASE WHEN count(*) = count({amount('f', 'q')}) THEN coalesce(sum({amount('f', 'q')}), 0) END"  # noqa: S608
        " FROM attempts f LEFT JOIN prices q ON q.id = f.price_id WHERE f.run_id = items.run_id AND f.item_key = items.key"
        f" AND f.error_code IS NOT NULL AND f.id IS NOT items.attempt_id AND {billed('f')}"
    )
    # answers that a newer one has replaced were paid for, too
    former = (
        f"SELECT CASE WHEN count(*) = count({amount('f', 'q')}) THEN coalesce(sum({amount('f', 'q')}), 0) END"  # noqa: S608
        " FROM replaced o JOIN attempts f ON f.id = o.attempt_id LEFT JOIN prices q ON q.id = f.price_id"
        f" WHERE o.run_id = items.run_id AND o.item_key = items.key AND f.error_code IS NULL AND {billed('f')}"
    )
    # most rows have one attempt, and are spared the look for others
    rest = f"CASE WHEN items.attempts <= (attempts.id IS NOT NULL) THEN 0 ELSE ({others}) + ({former}) END"
    return sa.literal_column(f"({own} + {rest}) / 1e12", sa.Float)


COST = _of_row(lambda a, p: f"coalesce({cost(a, p)}, {p}.input * 0)")
"""What all attempts of a row cost, in a statement that joins ``items`` with its attempt and the price of that."""
_PERHAPS = _of_row(lambda a, p: f"{p}.input * 0 + {perhaps(a, p)}")
# a row that has an outcome, and is sent again, or was when its process was killed
_OPEN = (
    f"SELECT CASE WHEN count(*) = count({held('o', 'q')}) THEN coalesce(sum({held('o', 'q')}), 0) END"  # noqa: S608 - constants
    " FROM reservations o LEFT JOIN prices q ON q.id = o.price_id WHERE o.run_id = items.run_id AND o.item_key = items.key"
)
_PERHAPS_WITH_OPEN = _PERHAPS + sa.literal_column(f"({_OPEN}) / 1e12", sa.Float)
# input order; with the status in between, the order is that of an index, so that SQLite need not sort a million rows
ORDER = (items.c.position, items.c.status, items.c.id)
# the same by row and by number, for a run with several answers of a row
_BEFORE_MARK = sa.func.substr(items.c.key, 1, sa.func.instr(items.c.key, MARK) - 1)
_ROW = sa.case((items.c.answer_number > 1, _BEFORE_MARK), else_=items.c.key)
ORDER_OF_ANSWERS = (items.c.position, _ROW, items.c.answer_number)
EXTRA = ("reasoning", "refusal", "tool_calls", "citations", "logprobs")
"""What is kept of an answer beside its text, in the order of the fields of a Result."""
_NOTHING = (None,) * len(EXTRA)
_DECODE = msgspec.json.Decoder(dict[str, Any]).decode


def select_results(*, taken_over: bool, open_requests: bool = False) -> sa.Select[Any]:
    """Return the statement that selects the results of all runs. taken_over: some may be answers that a run has taken over.

    open_requests: some rows may have a request under a budget that is open, or was when its process was killed.
    """
    money = (COST, _PERHAPS_WITH_OPEN if open_requests else _PERHAPS)
    source = items.outerjoin(attempts, items.c.attempt_id == attempts.c.id).outerjoin(prices, attempts.c.price_id == prices.c.id)
    if not taken_over:
        return sa.select(*RESULT, sa.null(), *money, *_LAST).select_from(source)
    return sa.select(*_TAKEN_OVER, reused.c.from_run, *money, *_LAST).select_from(source.outerjoin(reused, IS_TAKEN_OVER))


class Decided(NamedTuple):
    """The attempt that decided a row: when it ended, its HTTP status, the provider's name for the answer, and its variant.

    All None if there is no such attempt. variant: the entry of ``variants`` with its settings; None: those of the run. made_seed:
    the made-up seed that was sent.
    """

    ended_at: float | None
    http_status: int | None
    response_id: str | None
    variant: int | None
    made_seed: int | None


def finished_at(*, taken_over: bool) -> sa.ColumnElement[float]:
    """Return when the attempt ended that decided a row; NULL if it has none. taken_over: as for ``select_results``."""
    ended = attempts.c.started_at + attempts.c.duration_s
    return sa.func.coalesce(ended, reused.c.started_at + reused.c.duration_s) if taken_over else ended


def select_decided(*, taken_over: bool, open_requests: bool = False) -> sa.Select[Any]:
    """Return the same with the columns of ``Decided`` behind. An answer that was taken over has time and name of its attempt."""
    name = sa.func.coalesce(attempts.c.response_id, reused.c.response_id) if taken_over else attempts.c.response_id
    columns = (finished_at(taken_over=taken_over), attempts.c.status, name, attempts.c.variant_id, items.c.made_seed)
    return select_results(taken_over=taken_over, open_requests=open_requests).add_columns(*columns)


_EXACT = 2**53
"""Numbers below it are the same as float and as int."""


def result_of(values: Sequence[Any], asked: Asked | None = None) -> Result:
    """Return the result in a row of the columns ``RESULT``. asked: None leaves out what the row asked."""
    key, metadata, extra, *rest = values
    fields: dict[str, Json] = _DECODE(metadata) if metadata is not None else {}
    prompt = asked(fields) if asked is not None else None
    own = _taken_id(fields, key)
    # in front of the line, of the run that an answer was taken over from, of its costs, and of what most results do not have
    rest[-8:-8] = map(_DECODE(extra).get, EXTRA) if extra is not None else _NOTHING
    if rest[-2] is not None:
        rest[-2] = row_of(rest[-2])
    return Result(own, fields, prompt, *rest)


def fields_of(key: str, metadata: str | None) -> tuple[Json, dict[str, Json]]:
    """Return the id of a row, and its stored fields without it."""
    fields: dict[str, Json] = _DECODE(metadata) if metadata is not None else {}
    return _taken_id(fields, key), fields


def _taken_id(fields: dict[str, Json], key: str) -> Json:
    """Take the id of a row out of its stored fields, and return it; that of its key if they have none."""
    # a template that names the id keeps it, also where it is null
    own = fields.pop("id", None)
    if isinstance(own, float) and own.is_integer() and abs(own) < _EXACT:
        # as the key has it: pandas writes 1 as 1.0
        own = int(own)
    return row_of(key) if own in (None, "") else own


def located(result: Result, files: Files | None) -> Result:
    """Return a result with the file of its row and the line there. files: those that the run has read, if several."""
    if files is None:
        return result
    file, line = place_of(result.line, files)
    return msgspec.structs.replace(result, line=line, file=file)
