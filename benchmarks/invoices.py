"""``python -m benchmarks.invoices``: runs with faults, whose books are compared with the simulator's invoice.

In every run the known cost must be what the invoice has of answers whose usage arrived, to the picodollar, and the whole invoice
must lie between the known cost and what may have been billed in addition. See ``benchmarks/README.md``.
"""

import argparse
import asyncio
import json
import random
import sys
import tempfile
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import runner
from runner.money import PICO, Money
from runner.simulator import Behaviour, Simulator, Statement, parse_prices
from runner.simulator.cache import CacheKind
from runner.store.reader import StoreReader

ROWS = 12
_AT_ONCE = 12
_CUTS = ("disconnect", "truncate", "stall", "malformed", "error_event")
_FAULTS = (*_CUTS, "429", "500", "503", "529", "length", "json", "empty")

_CACHES: dict[str, list[CacheKind]] = {"openai": ["off", "openai", "vllm"], "anthropic": ["off", "anthropic"]}


class Compared(NamedTuple):
    """The books of one run beside the invoice of its server, in picodollars."""

    seed: int
    money: Money
    reported: int
    billed: int

    @property
    def known(self) -> bool:
        """True if the known cost is what the invoice has of answers whose usage arrived."""
        return self.money.spent == self.reported

    @property
    def contained(self) -> bool:
        """True if the invoice lies in the interval of the books."""
        money = self.money
        return money.perhaps is not None and money.spent <= self.billed <= money.spent + money.perhaps


async def fault_run(seed: int, folder: Path) -> Compared:
    """Make a run against a simulator with faults, caches, tiers, reasoning and prices that the seed draws."""
    chance = random.Random(seed)  # noqa: S311
    dialect = chance.choice(["openai", "anthropic"])
    prices = _prices(chance, dialect)
    behaviour = Behaviour(
        seed=seed,
        first_token_s=chance.choice([0.0, 0.005]),
        chunk_s=chance.choice([0.0, 0.0005]),
        tokens=chance.choice([4, 20]),
        hints=False,
        faults=_faults(chance),
        reasoning_tokens=chance.choice([0, 6]),
        cache=chance.choice(_CACHES[dialect]),
        flex_downgrade=chance.choice([0.0, 0.5]),
        prices=parse_prices(json.dumps(prices)),
    )
    store = folder / f"{seed}.db"
    async with Simulator(behaviour) as simulator:
        end = await runner.arun(
            _rows(chance, dialect),
            db=store,
            provider=dialect,
            base_url=simulator.base_url(dialect),
            model="m",
            prices=prices,
            max_tokens=chance.choice([30, 60]),
            stream=chance.random() < 0.8,
            concurrency=chance.choice([2, 8]),
            attempts=3,
            first_byte_s=2,
            silence_s=0.2,
            progress=False,
            trust=True,
        )
        # requests that were given up are billed when the server notices
        while (statement := simulator.invoice()).open:  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.01)
    with StoreReader(store) as reader:
        return _compared(seed, reader.money(end.run), statement)


def _compared(seed: int, money: Money, statement: Statement) -> Compared:
    reported, billed = (int(Decimal(amount) * PICO) for amount in (statement.amount_reported, statement.amount))
    return Compared(seed, money, reported, billed)


def _prices(chance: random.Random, dialect: str) -> dict[str, Any]:
    """Return prices of the model, the same for both sides. The Messages dialect does not count reasoning apart."""
    table: dict[str, Any] = {"input": chance.choice([0.25, 3, 1.1]), "output": chance.choice([2, 15, 0.4])}
    table |= {"cached_input": chance.choice([0.025, 0.3]), "cache_write": chance.choice([3.75, 0.5]), "flex": 0.5}
    if dialect == "openai" and chance.random() < 0.5:
        table["reasoning"] = 7.5
    return {"m": table}


def _faults(chance: random.Random) -> dict[str, float]:
    names = chance.sample(_FAULTS, 4)
    return {name: round(chance.uniform(0.02, 0.15), 3) for name in names}


def _rows(chance: random.Random, dialect: str) -> list[dict[str, Any]]:
    """Return rows that share a long beginning, so that caches have something to hold."""
    shared = "one word after the other " * chance.choice([10, 400])
    tier = {"service_tier": "flex"} if dialect == "openai" and chance.random() < 0.4 else {}
    rows = []
    for number in range(ROWS):
        content: Any = [{"type": "text", "text": shared}, {"type": "text", "text": f"row {number}"}]
        if dialect == "anthropic":
            content[0]["cache_control"] = {"type": "ephemeral"}
        rows.append({"id": str(number), "messages": [{"role": "user", "content": content}], "params": {"extra_body": tier}})
    return rows


async def fault_runs(seeds: Sequence[int], folder: Path) -> list[Compared]:
    """Make many runs, several at a time: most of their time they wait for the next attempt."""
    few = asyncio.Semaphore(_AT_ONCE)

    async def one(seed: int) -> Compared:
        async with few:
            return await fault_run(seed, folder)

    return await asyncio.gather(*(one(seed) for seed in seeds))


def main() -> int:
    """Parse the command line, make the runs, print what did not agree, and the sum."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.invoices", description=__doc__)
    parser.add_argument("--runs", type=int, default=1_000, help="runs with faults (1,000)")
    parser.add_argument("--first", type=int, default=0, help="seed of the first (0)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="runner-bench-") as folder:
        found = asyncio.run(fault_runs(range(args.first, args.first + args.runs), Path(folder)))
    wrong = [one for one in found if not (one.known and one.contained)]
    for one in wrong:
        print(one)
    perhaps = sum(bool(one.money.perhaps) for one in found)
    right = len(found) - len(wrong)
    print(f"{right} of {len(found)} runs agree with their invoice; {perhaps} of them had attempts of unknown usage")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
