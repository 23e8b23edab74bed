"""``python -m benchmarks.invoices``: runs with faults, whose books are compared with the simulator's invoice.

In every run the known cost must be what the invoice has of answers whose usage arrived, to the picodollar, and the whole invoice
must lie between the known cost and what may have been billed in addition; so must the bill of the dearest server. What an answer
does not tell apart (reasoning in the Messages dialect, caches of an hour behind a gateway) counts at the lower of its rates as
known. The session's end, the view ``spend`` and the rows of an export must say the same as the books. See
``benchmarks/README.md``.
"""

import argparse
import asyncio
import json
import random
import sqlite3
import sys
import tempfile
from collections.abc import Sequence
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import runner
from benchmarks import killed
from runner.money import PICO, Money
from runner.simulator import Behaviour, Line, Simulator, Statement, parse_prices
from runner.simulator.cache import CacheKind
from runner.simulator.prices import Billing, Rates, billing_of, rates
from runner.simulator.prompt import BYTES_PER_TOKEN
from runner.store.reader import StoreReader

ROWS = 12
_AT_ONCE = 12
_CUTS = ("disconnect", "truncate", "stall", "malformed", "error_event")
KINDS = frozenset({"flex", "priority", "cached", "written", "written_1h", "reasoning"})
"""What has rates of its own."""
_TIERS: tuple[Billing, ...] = ("standard", "flex", "priority")
_FAULTS = (*_CUTS, "429", "500", "503", "529", "length", "json", "empty")

_CACHES: dict[str, list[CacheKind]] = {
    "openai": ["off", "openai", "vllm", "anthropic"],
    "anthropic": ["off", "anthropic", "anthropic"],
}


class Compared(NamedTuple):
    """The books of one run beside the invoice of its server, in picodollars.

    reported: what the invoice has of answers whose usage arrived. certain: of that, what their usage tells for certain.
    dearest: what a server can bill at most, if each byte of a request without a usage is a token and its answer as long as its
    limit. others: the least and the most of the cost, by who says so. kinds: what is on the invoice that has rates of its own.
    """

    seed: int
    money: Money
    certain: int
    reported: int
    billed: int
    dearest: int
    others: dict[str, tuple[int, int]]
    kinds: frozenset[str]

    @property
    def known(self) -> bool:
        """True if the known cost is what answers told for certain."""
        return self.money.spent == self.certain

    @property
    def untold(self) -> bool:
        """True if answers did not tell apart what has rates of its own."""
        return self.certain != self.reported

    @property
    def contained(self) -> bool:
        """True if the invoice lies in the interval of the books, and that of the dearest server too."""
        money = self.money
        return money.perhaps is not None and money.spent <= self.billed <= self.dearest <= money.spent + money.perhaps

    @property
    def agreed(self) -> bool:
        """True if all that tell the cost tell the same."""
        return set(self.others.values()) == {(self.money.spent, self.money.perhaps)}

    @property
    def right(self) -> bool:
        """True if nothing is wrong."""
        return self.known and self.contained and self.agreed


async def fault_run(seed: int, folder: Path, workers: int = 0) -> Compared:
    """Make a run against a simulator with faults, caches, tiers, reasoning and prices that the seed draws."""
    chance = random.Random(seed)  # noqa: S311
    dialect, limit = chance.choice(["openai", "anthropic"]), chance.choice([30, 60])
    prices = _prices(chance)
    behaviour = Behaviour(
        seed=seed,
        first_token_s=chance.choice([0.0, 0.005]),
        chunk_s=chance.choice([0.0, 0.0005]),
        tokens=chance.choice([4, 20]),
        fill_limit=chance.random() < 0.3,
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
            max_tokens=limit,
            stream=chance.random() < 0.8,
            concurrency=chance.choice([2, 8]),
            workers=workers,
            attempts=3,
            first_byte_s=2,
            silence_s=0.2,
            progress=False,
            trust=True,
        )
        # requests that were given up are billed when the server notices
        while (statement := simulator.invoice(lines=True)).open:  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.01)
    with StoreReader(store) as reader:
        found = compared(seed, reader.money(end.run), statement, dialect, behaviour, limit)
    return found._replace(others=_others(end, store))


def compared(seed: int, money: Money, statement: Statement, dialect: str, behaviour: Behaviour, limit: int) -> Compared:
    """Compare what the books say with the invoice of a simulator, which has its lines. limit: of each answer, in tokens."""
    reported, billed = (int(Decimal(amount) * PICO) for amount in (statement.amount_reported, statement.amount))
    assert isinstance(statement.lines, list)
    assert not statement.lines_dropped
    by_tier = {tier: rates(behaviour.prices["m"], tier) for tier in _TIERS}
    lines = [(line, by_tier[billing_of(line.tier)]) for line in statement.lines]
    untold = sum(_untold(line, of, dialect, thinks=behaviour.reasoning_tokens > 0) for line, of in lines if line.reported)
    dearest = reported + sum(_dearest(line, of, limit) for line, of in lines if not line.reported)
    return Compared(seed, money, reported - untold, reported, billed, dearest, {}, _kinds(statement.lines))


def _kinds(lines: Sequence[Line]) -> frozenset[str]:
    """Return what has rates of its own in answers whose usage arrived."""
    found = {
        "flex": any(line.reported and line.tier == "flex" for line in lines),
        "priority": any(line.reported and line.tier == "priority" for line in lines),
        "cached": any(line.reported and line.cached_tokens for line in lines),
        "written": any(line.reported and line.written_tokens > line.written_1h_tokens for line in lines),
        "written_1h": any(line.reported and line.written_1h_tokens for line in lines),
        "reasoning": any(line.reported and line.reasoning_tokens for line in lines),
    }
    return frozenset(name for name, there in found.items() if there)


def _dearest(line: Line, of: Rates, limit: int) -> int:
    """Return the most that can be billed for a request whose usage did not arrive: a token for each byte, at the highest rate."""
    read = max(of.fresh, of.cached, of.written, of.written_1h if line.written_1h_tokens else 0)
    size = BYTES_PER_TOKEN * (line.fresh_tokens + line.cached_tokens + line.written_tokens)
    return size * read + limit * max(of.output, of.reasoning)


def _others(end: runner.Summary, store: Path) -> dict[str, tuple[int, int]]:
    """Return the least and the most of the cost by the end of the session, by the view and by the rows of an export."""
    with closing(sqlite3.connect(store)) as connection:
        spent = connection.execute("SELECT cost, cost_perhaps FROM spend").fetchall()
    rows = [(result.cost, result.cost_perhaps) for result in runner.results(end.run, db=store)]
    return {"session": _sum([(end.cost, end.cost_perhaps)]), "view": _sum(spent), "rows": _sum(rows)}


def _sum(amounts: Sequence[tuple[float | None, float | None]]) -> tuple[int, int]:
    """Return sums of dollars in picodollars; what is None counts as 0."""
    spent, perhaps = (sum(round((amount or 0) * PICO) for amount in column) for column in zip(*amounts, strict=True))
    return spent, perhaps


def _untold(line: Line, of: Rates, dialect: str, *, thinks: bool) -> int:
    """Return what of a bill is not certain for one who reads the answer, in picodollars. thinks: the model may reason."""
    untold = 0
    if dialect == "anthropic" or not thinks:
        # nothing tells what of the output was reasoning
        billed = (line.output_tokens - line.reasoning_tokens) * of.output + line.reasoning_tokens * of.reasoning
        untold += billed - line.output_tokens * min(of.output, of.reasoning)
    if dialect == "openai":
        # a gateway has one number for what was written to caches
        untold += line.written_1h_tokens * max(0, of.written_1h - of.written)
    return untold


def _prices(chance: random.Random) -> dict[str, Any]:
    """Return prices of the model, the same for both sides."""
    table: dict[str, Any] = {"input": chance.choice([0.25, 3, 1.1]), "output": chance.choice([2, 15, 0.4])}
    # what is not stated must mean the same on both sides
    optional = {"cached_input": chance.choice([0.025, None]), "cache_write": chance.choice([3.75, None])}
    table |= {"flex": 0.5, "priority": 1.75, **{name: price for name, price in optional.items() if price is not None}}
    if chance.random() < 0.5:
        table["reasoning"] = 7.5
    if chance.random() < 0.5:
        table["cache_write_1h"] = 6
    return {"m": table}


def _faults(chance: random.Random) -> dict[str, float]:
    names = chance.sample(_FAULTS, 4)
    return {name: round(chance.uniform(0.02, 0.15), 3) for name in names}


def _rows(chance: random.Random, dialect: str) -> list[dict[str, Any]]:
    """Return rows that share a long beginning, so that caches have something to hold."""
    shared = "one word after the other " * chance.choice([10, 400])
    tiers = ["flex", "flex", "priority"] if dialect == "openai" and chance.random() < 0.4 else []
    # of two beginnings, one is first kept for minutes, the other for an hour
    marked, hour = chance.random() < 0.5, {"ttl": "1h"} if chance.random() < 0.5 else {}
    rows = []
    for number in range(ROWS):
        content: Any = [{"type": "text", "text": f"{number % 2} {shared}"}, {"type": "text", "text": f"row {number}"}]
        if dialect == "anthropic" or marked:
            content[0]["cache_control"] = {"type": "ephemeral", **(hour if number % 3 else {})}
        tier = {"service_tier": tiers[number % len(tiers)]} if tiers else {}
        rows.append({"id": str(number), "messages": [{"role": "user", "content": content}], "params": {"extra_body": tier}})
    return rows


async def fault_runs(seeds: Sequence[int], folder: Path, workers: int = 0) -> list[Compared]:
    """Make many runs, several at a time: most of their time they wait for the next attempt."""
    few = asyncio.Semaphore(_AT_ONCE // (workers + 1))

    async def one(seed: int) -> Compared:
        async with few:
            return await fault_run(seed, folder, workers)

    return await asyncio.gather(*(one(seed) for seed in seeds))


def main() -> int:
    """Parse the command line, make the runs, print what did not agree, and the sum."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.invoices", description=__doc__)
    parser.add_argument("--runs", type=int, default=1_000, help="runs with faults (1,000)")
    parser.add_argument("--killed", type=int, default=30, help="further runs, whose processes are killed three times each (30)")
    parser.add_argument("--first", type=int, default=0, help="seed of the first (0)")
    parser.add_argument("--workers", type=int, default=0, help="local workers of each session (0)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="runner-bench-") as folder:
        found = asyncio.run(fault_runs(range(args.first, args.first + args.runs), Path(folder), args.workers))
        looks = asyncio.run(killed.killed_runs(range(args.first, args.first + args.killed), Path(folder), workers=args.workers))
    perhaps, untold = sum(bool(one.money.perhaps) for one in found), sum(one.untold for one in found)
    print(
        f"{sum(one.right for one in found)} of {len(found)} runs agree with their invoice; {perhaps} of them had attempts of "
        f"unknown usage, {untold} answers that did not tell apart what has rates of its own"
    )
    print(
        f"{sum(one.right for one in looks)} of {len(looks)} looks at runs without a budget that were killed agree with their "
        f"invoice; {sum(one.needed for one in looks)} of them only with what may have been open at a kill"
    )
    wrong = [*(missed(found) if found else []), *(killed.missed(looks) if looks else [])]
    for one in wrong:
        print(f"MISSED  {one}")
    return int(bool(wrong))


def missed(found: Sequence[Compared]) -> list[str]:
    """Return what was not met. A figure of runs that had nothing of what may be billed wrongly is none."""
    wrong = []
    for one in found:
        names = {"known": one.known, "contained": one.contained, "agreed": one.agreed}
        if not one.right:
            wrong.append(f"not {', '.join(name for name, right in names.items() if not right)}: {one}")
    there = frozenset[str]().union(*(one.kinds for one in found))
    if absent := sorted(KINDS - there):
        wrong.append(f"no invoice has {', '.join(absent)}: more runs are needed")
    if not any(one.money.perhaps for one in found):
        wrong.append("no run had attempts of unknown usage: more runs are needed")
    return wrong


if __name__ == "__main__":
    sys.exit(main())
