"""The books of a run beside the invoice of its server. ``python -m benchmarks.invoices`` makes a thousand such runs."""

import asyncio
import json
from decimal import Decimal
from pathlib import Path

import pytest
from processes import Simulated, assert_clean, count, run, simulator, until
from processes import runner as started

from benchmarks.invoices import fault_runs, missed
from runner.money import dollars
from runner.store.reader import StoreReader

SEEDS = (4, 8, 16, 21, 24, 27, 47)
"""Both dialects, streamed and not, with caches of both lives, tiers, reasoning, cut answers and refusals."""


def test_the_known_cost_is_what_was_reported_and_the_interval_contains_the_invoice(tmp_path: Path) -> None:
    found = asyncio.run(fault_runs(SEEDS, tmp_path))
    # what has rates of its own is on the invoices, and some attempts had an unknown usage
    assert missed(found) == []
    assert all(one.money.spent for one in found)
    assert any(one.untold for one in found)


PRICES = {"m": {"input": 1, "output": 4, "cached_input": 0.1, "cache_write": 1.25, "reasoning": 7}}
ROWS, KILLS = 60, 3


@pytest.mark.parametrize("dialect", ["openai", "anthropic"])
def test_after_each_kill_the_books_contain_the_invoice_at_once(tmp_path: Path, dialect: str) -> None:
    """Reasoning is priced apart, and half of the prompts ask for a cache that is kept for an hour."""
    shared = "one word after the other " * 180
    with (tmp_path / "p.jsonl").open("w") as file:
        for number in range(ROWS):
            mark = {"type": "ephemeral", **({"ttl": "1h"} if number % 2 else {})}
            parts = [
                {"type": "text", "text": f"{number % 4} {shared}", "cache_control": mark},
                {"type": "text", "text": str(number)},
            ]
            file.write(json.dumps({"id": str(number), "messages": [{"role": "user", "content": parts}]}) + "\n")
    behaviour = (
        "--tokens",
        "30",
        "--reasoning-tokens",
        "20",
        "--cache",
        "anthropic",
        "--first-token-s",
        "0.05",
        "--chunk-s",
        "0.002",
    )
    with simulator(*behaviour, "--fault", "truncate=0.1", "--prices", json.dumps(PRICES)) as server:
        words = ["p.jsonl", "--provider", dialect, "--base-url", server.base_url(dialect), "--model", "m", "--max-tokens", "80"]
        words += ["--prices", json.dumps(PRICES), "--max-cost", "5", "--concurrency", "8"]
        for kill in range(1, KILLS + 1):
            with started("run", *words, "--json", cwd=tmp_path) as process:
                process.until(lambda: process.out.count('"item"') >= 4, "answers")
                process.killed()
            low, high = books(tmp_path)
            assert low <= billed(server) <= high, kill
        assert_clean(run("run", *words, cwd=tmp_path))
        low, high = books(tmp_path)
        assert low <= billed(server) <= high
    assert count(tmp_path / "runner.db", "reservations") == 0


def books(folder: Path) -> tuple[Decimal, Decimal]:
    """What a run has cost at the least and at the most, in dollars."""
    with StoreReader(folder / "runner.db") as reader:
        money = reader.money(1)
    assert money.perhaps is not None
    return dollars(money.spent), dollars(money.spent + money.perhaps)


def billed(server: Simulated) -> Decimal:
    """What the invoice comes to, once all requests have ended."""
    until(lambda: not server.invoice()["open"], "the end of all requests")
    return Decimal(server.invoice()["amount"])
