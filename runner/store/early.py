"""What was saved by ending answers before their end: an estimate, by the whole answers of the same run.

An answer that was ended would have been as long as the whole ones are in the mean, and of it came as much as its bytes tell: a
token takes as many of them as in the whole answers. The difference is what was saved, if the server noticed the end.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from msgspec import Struct

from runner.errors import INVALID_OUTPUT, STOPPED_BY_RULE
from runner.money import PICO
from runner.store import database
from runner.store.schema import attempts, prices
from runner.store.spending import Fetch, of_run

BEGINNINGS = {INVALID_OUTPUT: "the answer can no longer fit the schema: ", STOPPED_BY_RULE: "the answer has "}
"""How the error of an answer begins that was ended early, by its code. No error of a whole answer with it begins so.

The store has no other sign of it: the usage of a whole answer may be unknown too.
"""
CODES = frozenset(BEGINNINGS)
"""Error codes of attempts whose answer may have been ended early."""


class Saved(Struct, frozen=True):
    """What was saved. ended: answers that were ended early. The rest is an estimate; None: nothing tells it. cost: dollars."""

    ended: int = 0
    tokens: int | None = None
    cost: float | None = None


NOTHING = Saved()


class Usual(Struct, frozen=True):
    """Whole answers of a run in the mean. tokens: of output. bytes: received for each of these."""

    tokens: float
    bytes: float

    def saved(self, received: Any) -> Any:
        """Return the tokens that an answer has saved, of which so many bytes came; a number, or an expression of SQL."""
        return self.tokens - received / self.bytes


def told(saved: Saved) -> dict[str, Any]:
    """Return it as totals and summaries have it."""
    return {"ended_early": saved.ended, "estimated_saved_tokens": saved.tokens, "estimated_saved_cost": saved.cost}


def is_early() -> sa.ColumnElement[bool]:
    """Tell whether an attempt was ended early: its error says so, and its usage is not known as a whole."""
    a = attempts.c
    says = (sa.and_(a.error_code == code, a.error.startswith(begin, autoescape=True)) for code, begin in BEGINNINGS.items())
    return sa.and_(sa.or_(*says), a.input_bound.is_not(None))


def usual(fetch: Callable[[sa.Select[Any]], Any], run_id: int) -> Usual | None:
    """Return what whole answers of a run are like; None if none tells its tokens."""
    a = attempts.c
    total = sa.select(sa.func.count(), sa.func.total(a.output_tokens), sa.func.total(a.bytes_received))
    ((number, tokens, received),) = fetch(total.where(of_run(run_id), a.error_code.is_(None), a.output_tokens.is_not(None)))
    return Usual(tokens / number, received / tokens) if tokens and received else None


def saved(fetch: Fetch, run_id: int) -> Saved:
    """Return what a run has saved. Reads the whole answers only if some were ended."""
    a, early = attempts.c, (attempts.c.run_id == run_id, attempts.c.error_code.is_not(None), is_early())
    ended = fetch(sa.select(sa.func.count()).where(*early))[0][0]
    if not ended:
        return NOTHING
    like = usual(fetch, run_id)
    if like is None:
        return Saved(ended)
    tokens = sa.func.sum(sa.func.max(0.0, like.saved(a.bytes_received)))
    by_rate = sa.select(prices.c.output, tokens).select_from(attempts.outerjoin(prices, prices.c.id == a.price_id))
    groups = [(rate, number) for rate, number in fetch(by_rate.where(*early).group_by(prices.c.output))]
    cost = None if any(rate is None for rate, _ in groups) else sum(rate * number for rate, number in groups) / PICO
    return Saved(ended, round(sum(number for _, number in groups)), cost)


def read(store: Path, run_id: int) -> Saved:
    """Return the same for a run of a store, at the end of a session. Blocks. Raises StoreError."""
    with database.transaction(store, write=False) as connection:
        return saved(lambda statement: list(connection.execute(statement)), run_id)
