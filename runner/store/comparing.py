"""Two runs of a store side by side: the rows that both have, matched by their keys. Synchronous.

The key of a row is its id, or the hash of its content where it has none. The key of a further answer has its number, so the
second answer of a row is compared with the second.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import sqlalchemy as sa

from runner.model import Run
from runner.store.reader import StoreReader
from runner.store.result_rows import ORDER, ORDER_OF_ANSWERS, fields_of
from runner.store.schema import attempts, items


class Pair(NamedTuple):
    """What became of one row, or of one of its answers, in both runs. The order is that of the columns that are read."""

    key: str
    # of the left run; None unless they are wanted
    fields: str | None
    # False: the two runs have stored other fields of the row
    alike: bool
    answer_number: int
    left_status: str
    right_status: str
    left_code: str | None
    right_code: str | None
    left_text: str | None
    right_text: str | None

    @property
    def both_done(self) -> bool:
        """True if both runs have an answer."""
        return self.left_status == self.right_status == "done"

    def id_and_fields(self) -> tuple[Any, dict[str, Any]]:
        """Return the id of the row and its own fields, as the left run has stored them."""
        return fields_of(self.key, self.fields)


class PairReader(StoreReader):
    """A reader of a store that reads two of its runs together. Use it in one ``snapshot``."""

    def pairs(self, left: Run, right: Run, *, fields: bool = False) -> Iterator[Pair]:
        """Yield what both runs have an outcome of, in the input order of the left one. fields: with the fields of the rows.

        Answers that one of them wants no longer are left out. Takes constant memory.
        """
        with self._decoded():
            yield from (Pair(*row) for row in self._tuples(_joined(left, right, fields=fields)))

    def number(self, left: Run, right: Run) -> int:
        """Return how many outcomes both runs have."""
        pairs = _joined(left, right, fields=False).order_by(None).with_only_columns(sa.func.count())
        return int(self._fetch(pairs)[0][0])

    def seconds(self, run: Run) -> float:
        """Return the seconds that all attempts of a run took together."""
        total = sa.select(sa.func.total(attempts.c.duration_s)).where(attempts.c.run_id == run.id)
        return float(self._fetch(total)[0][0])


def _joined(left: Run, right: Run, *, fields: bool) -> sa.Select[Any]:
    one, other = items.c, items.alias("other").c
    return (
        sa.select(
            one.key,
            one.metadata if fields else sa.null(),
            one.metadata.is_not_distinct_from(other.metadata),
            one.answer_number,
            one.status,
            other.status,
            one.error_code,
            other.error_code,
            one.text,
            other.text,
        )
        .where(one.run_id == left.id, other.run_id == right.id, other.key == one.key)
        .where(one.answer_number <= left.answers, other.answer_number <= right.answers)
        .order_by(*(ORDER if min(left.answers, right.answers) == 1 else ORDER_OF_ANSWERS))
    )
