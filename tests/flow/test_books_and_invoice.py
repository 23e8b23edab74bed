"""The books of a run beside the invoice of its server. ``python -m benchmarks.invoices`` makes a thousand such runs."""

import asyncio
from pathlib import Path

from benchmarks.invoices import fault_runs

SEEDS = (2, 3, 4, 6, 7, 8)
"""Both dialects, streamed and not, with caches, tiers, reasoning, cut answers and refusals."""


def test_the_known_cost_is_what_was_reported_and_the_interval_contains_the_invoice(tmp_path: Path) -> None:
    found = asyncio.run(fault_runs(SEEDS, tmp_path))
    assert [one for one in found if not (one.known and one.contained)] == []
    # some attempts must have had an unknown usage, and some answers a known one
    assert any(one.money.perhaps for one in found)
    assert all(one.money.spent for one in found)
