"""The rows of a run that a person wants to look at: the slowest, the dearest, and examples of failures."""

from collections.abc import Mapping, Sequence

import sqlalchemy as sa

from runner.figures import Example, Extreme
from runner.store.result_rows import COST
from runner.store.schema import attempts, items, prices
from runner.store.spending import Fetch, once

_ROWS = 10
_EXAMPLES = 3
_SOURCE = items.outerjoin(attempts, items.c.attempt_id == attempts.c.id).outerjoin(prices, attempts.c.price_id == prices.c.id)


def slowest(fetch: Fetch, run_id: int, answers: int) -> list[Extreme]:
    """Return the answers whose request took longest, the slowest first. answers: how many of each row are wanted."""
    return _extremes(fetch, run_id, answers, attempts.c.duration_s, items.c.status == "done")


def dearest(fetch: Fetch, run_id: int, answers: int) -> list[Extreme]:
    """Return the rows whose attempts cost most together, failed ones too, the dearest first. What has no price is left out."""
    return _extremes(fetch, run_id, answers, COST, sa.true(), nothing_too=False)


def _extremes(
    fetch: Fetch,
    run_id: int,
    answers: int,
    by: sa.ColumnElement[float],
    where: sa.ColumnElement[bool],
    *,
    nothing_too: bool = True,
) -> list[Extreme]:
    columns = (items.c.key, items.c.position, items.c.error_code, items.c.attempts, attempts.c.duration_s)
    told = (attempts.c.time_to_first_token_s, attempts.c.output_tokens, COST)
    wanted = (items.c.run_id == run_id, items.c.answer_number <= answers, where)
    every = once(sa.select(items.c.id, by.label("by")).select_from(_SOURCE).where(*wanted)).c
    # the few are found first, since the cost of a row takes several looks
    few = sa.select(every.id).where(every.by.is_not(None) if nothing_too else every.by > 0)
    ids = [number for (number,) in fetch(few.order_by(every.by.desc(), every.id).limit(_ROWS))]
    found = sa.select(*columns, *told).select_from(_SOURCE).where(items.c.id.in_(ids)).order_by(by.desc(), items.c.id)
    return [Extreme(*row) for row in fetch(found)]


def examples(fetch: Fetch, run_id: int, answers: int, codes: Sequence[str]) -> Mapping[str, list[Example]]:
    """Return the first failed rows of each of these error codes."""
    failed = (items.c.run_id == run_id, items.c.status == "failed", items.c.answer_number <= answers)
    columns = sa.select(items.c.key, items.c.position, sa.func.coalesce(items.c.error, ""))
    return {
        code: [
            Example(*row)
            for row in fetch(
                columns.where(*failed, sa.func.coalesce(items.c.error_code, "unknown") == code)
                .order_by(items.c.position, items.c.id)
                .limit(_EXAMPLES)
            )
        ]
        for code in codes
    }
