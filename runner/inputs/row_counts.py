"""Which rows of an input a session considers, and the counts of what becomes of them."""

from collections.abc import Collection

from msgspec import Struct, field


class Selection(Struct, frozen=True, kw_only=True):
    """Which rows of an input a session considers, and which settled rows it sends again."""

    # number of rows to consider, from the first; None: all
    limit: int | None = None
    # answers that are wanted of each row
    answers: int = 1
    # True: the rows that a retry has chosen are sent again (``Settled.again``), and nothing else is
    retries: bool = False
    # True: settled rows that have changed since are sent again; those that have failed are counted, which takes a look at each
    accept_changes: bool = False
    counts_failed: bool = False
    # True: the store holds nothing for this run, so no keys are looked up
    fresh: bool = False
    # True: the store may hold broken rows; those that are no longer in the input are deleted. in_part: only some rows are read,
    # and nothing is known of the lines of others
    may_hold_broken: bool = True
    in_part: bool = False
    # keys, each of one answer: of what has no outcome, only these are sent, and the input is read as far as the last; None: all
    only: Collection[str] | None = None


class Counts(Struct):
    """Running counts of ``items``; may be read at any time. Where several answers of a row are wanted, each counts as a row."""

    # rows that are settled and not sent again
    settled: int = 0
    # rows that have an outcome from earlier, including failed rows that are sent again
    seen: int = 0
    # settled rows that have changed since and are not sent again
    changed: int = 0
    # rows without an outcome that a retry, or a sample, leaves for another session
    left: int = 0
    # rows that wait in a batch at a provider
    waiting: int = 0
    # line of the last row that was read
    last_line: int = 0
    # True when the input has been read to its end
    complete: bool = False


class SettledRows(Struct):
    """The settled rows of an input, before a session begins, counted as in ``Counts``."""

    # rows that are settled and will not be sent again; of these, such that have failed (``Selection.counts_failed``), and all
    # failed rows that were looked at: not those of the settled beginning
    settled: int = 0
    failed: int = 0
    seen_failed: int = 0
    # rows that have an outcome, including those that are sent again; settled rows that have changed since
    seen: int = 0
    changed: int = 0
    # rows without an outcome that a retry leaves for another session; those that it asks again, and of these, changed ones
    left: int = 0
    again: int = 0
    again_changed: int = 0
    # rows that wait in a batch at a provider; of those with an outcome, none is counted in ``settled`` or ``again``
    waiting: int = 0
    # ``_mark`` of each batch in which every row is settled, unchanged and on its old line: ``items`` skips these batches
    untouched: set[int] = field(default_factory=set)
