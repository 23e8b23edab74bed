"""How many outcomes a run has, by kind."""

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from msgspec import Struct

from runner.store.schema import items


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


def further() -> sa.Select[Any]:
    """Count the outcomes of further answers of rows: (run, number of the answer, status, error code, count).

    Those that are no longer wanted do not count for their run. A store without such answers has nothing to read here.
    """
    columns = (items.c.run_id, items.c.answer_number, items.c.status, items.c.error_code)
    # the condition of an index, in its words
    return sa.select(*columns, sa.func.count()).where(sa.text("answer_number > 1")).group_by(*columns)
