"""How many outcomes a run has, by kind."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeAlias

import sqlalchemy as sa
from msgspec import Struct

from runner.errors import BAD_ROW
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
    # failed rows by error code, broken ones too
    causes: Mapping[str, int] = {}

    @property
    def paid(self) -> int:
        """Rows for which something was sent: an answer that was taken over and a broken row cost nothing."""
        return self.done - self.reused + self.failed

    @property
    def bought(self) -> bool:
        """True if the run has an answer of its own, so that its endpoint has answered."""
        return self.done > self.reused


async def counted(fetch: Fetch, run_id: int) -> RunCounts:
    """Count the outcomes of a run."""
    mine = items.c.run_id == run_id
    # this query reads only the index; only failed rows have to be read themselves, in the next query
    by_status = sa.select(items.c.status, sa.func.count()).where(mine).group_by(items.c.status)
    failed = sa.select(items.c.error_code, sa.func.count()).where(mine, items.c.status == "failed")
    counts: dict[str, int] = dict(await fetch(by_status))
    causes = {code or "unknown": count for code, count in await fetch(failed.group_by(items.c.error_code))}
    broken = causes.get(BAD_ROW, 0)
    failed_attempts = (attempts.c.run_id == run_id, attempts.c.error_code.is_not(None))
    one_failed_attempt = sa.select(attempts.c.id).where(*failed_attempts).limit(1)
    return RunCounts(
        done=counts.get("done", 0),
        failed=counts.get("failed", 0) - broken,
        broken=broken,
        attempted="done" in counts or bool(await fetch(one_failed_attempt)),
        causes=causes,
        reused=(await fetch(number_taken_over(run_id)))[0][0],
    )
