"""What the rows that are left of a run use of its budget, if they are like those before."""

from collections.abc import Sequence
from pathlib import Path

from runner.admission import Amounts
from runner.session import learned, like_now
from runner.session.reached import Likely, Progress
from runner.session.rest import like_the_rest
from runner.store import samples
from runner.store.samples import RowSpent, RunSpent

_LEAST = 2
"""Settled rows, at the least, that have a spread."""


def learnt(store: Path, run_id: int, progress: Progress, variant: int | None = None) -> Progress:
    """Return how far a run is, with what the store tells of the rows that are left. Blocks. Raises StoreError.

    variant: the entry of the settings with which they are asked; None: those of the run.
    """
    so_far = samples.so_far(store, run_id)
    at_ends = Amounts(so_far.at_ends.cost, so_far.at_ends.tokens)
    rows = like_now.of_settings(store, run_id, like_the_rest(store, run_id), variant)
    likely = _likely(list(rows.values()), progress.left, so_far)
    return Progress(progress.spent, progress.rows, progress.left, progress.unsure, at_ends, likely)


def _likely(rows: Sequence[RowSpent], left: int, so_far: RunSpent) -> Likely | None:
    """Return what the rows that are left use, failed attempts of known usage among it; None if too few rows tell."""
    if len(rows) < _LEAST:
        return None
    cost, tokens = (learned.mean([one(row) for row in rows], left) for one in (_cost, _tokens))
    sent = max(1.0, sum(row.billed for row in rows) / len(rows))
    return Likely(cost, tokens, sent, so_far.unknown, so_far.input_tokens + so_far.output_tokens)


def _cost(row: RowSpent) -> int:
    return row.last.cost + row.others.cost + row.unsure


def _tokens(row: RowSpent) -> int:
    return sum(spent.input_tokens + spent.output_tokens for spent in (row.last, row.others))
