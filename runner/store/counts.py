"""How many outcomes a run has, by kind."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import sqlalchemy as sa
from msgspec import Struct

from runner.errors import BAD_ROW
from runner.store.batch_reading import waiting_in
from runner.store.reuse import number_taken_over
from runner.store.schema import attempts, items

Fetch: TypeAlias = Callable[[sa.Select[Any]], Awaitable[Sequence[Any]]]
"""Returns all rows of a statement."""


class RunCounts(Struct, frozen=True, kw_only=True):
    """Numbers of the outcomes of a run by kind, and whether anything was ever sent."""

    done: int
    # not including the broken rows
    failed: int
    broken: int
    attempted: bool
    # of the done: rows that have taken over an answer of an earlier run
    reused: int = 0
    # rows that have the outcome of another one with the same request
    shared: int = 0
    # outcomes that are no longer wanted, and for which something was sent; none of the other numbers has them
    unwanted: int = 0
    # all outcomes that are no longer wanted
    beyond: int = 0
    # failed rows by error code, broken ones too
    causes: Mapping[str, int] = {}
    # rows that wait in open batches; some may have an outcome of before
    waiting: int = 0

    @property
    def paid(self) -> int:
        """Rows for which something was sent: a broken row costs nothing, nor does an answer of another run or row."""
        return self.done - self.reused + self.failed - self.shared + self.unwanted

    @property
    def bought(self) -> bool:
        """True if the run has an answer of its own, so that its endpoint has answered."""
        return self.done > self.reused


async def counted(fetch: Fetch, run_id: int, answers: int) -> RunCounts:
    """Count the outcomes of a run, without answers that are no longer wanted. answers: how many of each row are."""
    mine = items.c.run_id == run_id
    # this query reads only the index; only failed rows have to be read themselves, in the next query
    by_status = sa.select(items.c.status, sa.func.count()).where(mine).group_by(items.c.status)
    failed = sa.select(items.c.error_code, sa.func.count()).where(mine, items.c.status == "failed")
    counts: dict[str, int] = dict(await fetch(by_status))
    causes = {code or "unknown": count for code, count in await fetch(failed.group_by(items.c.error_code))}
    unwanted = beyond = 0
    for _, number, status, code, count in await fetch(further().where(mine)):
        if number > answers:
            counts[status] -= count
            beyond += count
            unwanted += count if code != BAD_ROW else 0
            if status == "failed":
                causes[code or "unknown"] -= count
    causes = {code: count for code, count in causes.items() if count}
    broken = causes.get(BAD_ROW, 0)
    unpaid = await _unpaid(fetch, run_id, answers)
    failed_attempts = (attempts.c.run_id == run_id, attempts.c.error_code.is_not(None))
    one_failed_attempt = sa.select(attempts.c.id).where(*failed_attempts).limit(1)
    return RunCounts(
        done=counts.get("done", 0),
        failed=counts.get("failed", 0) - broken,
        broken=broken,
        attempted="done" in counts or bool(await fetch(one_failed_attempt)),
        causes=causes,
        reused=unpaid.reused,
        shared=unpaid.shared,
        unwanted=unwanted - unpaid.unwanted,
        beyond=beyond,
        waiting=(await fetch(waiting_in(run_id)))[0][0],
    )


class _Unpaid(NamedTuple):
    """Outcomes for which nothing was sent: taken over, of another row with the same request, and such that are not wanted."""

    reused: int
    shared: int
    unwanted: int


async def _unpaid(fetch: Fetch, run_id: int, answers: int) -> _Unpaid:
    copies = sa.select(sa.func.count()).where(items.c.run_id == run_id, items.c.same_as.is_not(None))
    reused, shared = (await fetch(number_taken_over(run_id)))[0][0], (await fetch(copies))[0][0]
    if not (reused or shared):
        return _Unpaid(0, 0, 0)
    wanted = items.c.answer_number <= answers
    now, copied = (await fetch(number_taken_over(run_id).where(wanted)))[0][0], (await fetch(copies.where(wanted)))[0][0]
    return _Unpaid(now, copied, reused - now + shared - copied)


def further() -> sa.Select[Any]:
    """Count the outcomes of further answers of rows: (run, number of the answer, status, error code, count).

    Those that are no longer wanted do not count for their run. A store without such answers has nothing to read here.
    """
    columns = (items.c.run_id, items.c.answer_number, items.c.status, items.c.error_code)
    # the condition of an index, in its words
    return sa.select(*columns, sa.func.count()).where(sa.text("answer_number > 1")).group_by(*columns)
