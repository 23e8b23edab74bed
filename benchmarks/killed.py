"""Runs without a budget whose processes are killed: their books beside the invoice of the server after each kill, and at the end.

``python -m benchmarks.invoices`` makes them. What was open at a kill is billed, and nobody has saved what it cost.
"""

import asyncio
import json
import random
import sqlite3
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from decimal import Decimal
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from runner.errors import UsageError
from runner.money import PICO
from runner.simulator import Behaviour, Line, Simulator, Statement, parse_prices
from runner.store.reader import StoreReader

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))
processes: Any = import_module("processes")

ROWS = 60
_TOGETHER = 2
"""Runs that go on at the same time, each in a process of its own."""
_SHAPED = 3
"""Each third run has a schema, repairs and two answers of each row; half of these end answers early that cannot fit."""
_SHAPE = ("--fields", "mood: good|bad, why: str, n: int", "--repairs", "2", "--answers", "2", "--max-tokens", "300")


class Look(NamedTuple):
    """The books of a run beside the invoice, in picodollars. matched: what the invoice has of the answers that were saved.

    open: the requests that may have been open at the kills, and what they may have cost. lost: answers that arrived, or may have,
    and were not saved.
    """

    seed: int
    kills: int
    spent: int
    perhaps: int | None
    matched: int | None
    billed: int
    open: int
    held: int
    lost: int
    view: tuple[int, int]

    @property
    def right(self) -> bool:
        """True if nothing is wrong."""
        contained = self.perhaps is not None and self.spent <= self.billed <= self.spent + self.perhaps
        return contained and self.spent == self.matched and self.view == (self.spent, self.perhaps) and self.lost <= self.open

    @property
    def needed(self) -> bool:
        """True if the books would be below the invoice without what was open."""
        return self.perhaps is not None and self.billed > self.spent + self.perhaps - self.held


async def killed_run(seed: int, folder: Path, kills: int = 3, workers: int = 0) -> list[Look]:
    """Make a run, kill it so many times, at moments that the seed draws, and finish it. Return what was seen after each."""
    chance = random.Random(seed)  # noqa: S311
    where = folder / f"killed{seed}"
    where.mkdir()
    dialect = chance.choice(["openai", "anthropic"])
    # only the one dialect tells how much of an answer was reasoning
    dear = {"reasoning": 7} if (told := dialect == "openai") else {}
    price = {"input": 1, "output": 4, "cached_input": 0.1, "cache_write": 1.25, **dear}
    prices = {"m": price, "dear": {name: 100 * each for name, each in price.items()}}
    behaviour = Behaviour(
        seed=seed,
        first_token_s=0.02,
        chunk_s=0.001,
        tokens=30,
        reasoning_tokens=chance.choice([0, 10]),
        hints=False,
        faults={"truncate": 0.05, "500": 0.05, **({"invalid_json": 0.4} if seed % _SHAPED == 0 else {})},
        prices=parse_prices(json.dumps(prices)),
    )
    with (where / "p.jsonl").open("w") as file:
        for number in range(ROWS):
            text = f"{number} {'word ' * chance.randint(1, 400)}"
            # a few rows are for a dear model
            of = {"model": "dear"} if number % 20 == seed % 20 else {}
            file.write(json.dumps({"id": str(number), "prompt": text, **of}) + "\n")
    found = []
    async with Simulator(behaviour) as simulator:
        words = ["run", "p.jsonl", "--provider", dialect, "--base-url", simulator.base_url(dialect), "--model", "m"]
        words += ["--prices", json.dumps(prices), "--max-tokens", "60", "--concurrency", chance.choice(["3", "8", "auto"])]
        words += ["--workers", str(workers)] if workers else []
        words += [] if chance.random() < 0.8 else ["--no-stream"]
        words += [*_SHAPE, *(["--fail-fast"] if seed % (2 * _SHAPED) == 0 else [])] if seed % _SHAPED == 0 else []
        for kill in range(1, kills + 1):
            if not await _killed(words, where, simulator, chance):
                break
            found.append(await look(seed, kill, where, simulator, told=told))
        with processes.runner(*words, cwd=where) as process:
            # an answer that never fits makes its row fail
            assert (await asyncio.to_thread(process.ended)).code in ((0, 1) if seed % _SHAPED == 0 else (0,))
        found.append(await look(seed, kills, where, simulator, told=told))
    return found


async def _killed(words: Sequence[str], where: Path, simulator: Simulator, chance: random.Random) -> bool:
    """Start a session and kill it after some requests. Return False if it was at its end before."""
    wanted = sent(simulator.invoice()) + chance.randint(1, ROWS // 4)
    with processes.runner(*words, cwd=where) as process:
        while process.alive and sent(simulator.invoice()) < wanted:  # noqa: ASYNC110 - a process
            await asyncio.sleep(0.002)
        await asyncio.sleep(chance.uniform(0.0, 0.05))
        if not process.alive:
            return False
        await asyncio.to_thread(process.killed)
    return True


def sent(statement: Statement) -> int:
    """Return how many requests have reached the simulator, and are billed or will be."""
    return statement.requests + statement.open


async def look(seed: int, kills: int, where: Path, simulator: Simulator, *, told: bool) -> Look:
    """Wait until nothing is open at the simulator, and hold the books of the run in a folder against its invoice.

    told: the answers tell how much of them was reasoning.
    """
    # requests that were given up are billed when the server notices
    while (statement := simulator.invoice(lines=True)).open:  # noqa: ASYNC110 - nothing tells of it
        await asyncio.sleep(0.01)
    assert isinstance(statement.lines, list)
    billed, store = int(Decimal(statement.amount) * PICO), where / "runner.db"
    try:
        with StoreReader(store) as reader:
            money = reader.money(reader.run().id)
    except UsageError:
        # it was killed before it had written its run
        return Look(seed, kills, 0, 0, 0, billed, 0, 0, 0, (0, 0))
    with closing(sqlite3.connect(store)) as connection:
        saved = connection.execute(
            "SELECT model, input_tokens, cached_tokens, output_tokens, reasoning_tokens FROM attempts JOIN prices"
            " ON prices.id = price_id WHERE input_tokens IS NOT NULL AND output_tokens IS NOT NULL"
        ).fetchall()
        spent = connection.execute("SELECT cost, cost_perhaps FROM spend").fetchall()
        # with a budget, the next session writes each request that was open at a kill as an attempt
        ((killed,),) = connection.execute("SELECT count(*) FROM attempts WHERE error_code = 'killed'")
    low, more = (sum(round((row[at] or 0) * PICO) for row in spent) for at in (0, 1))
    reported = [line for line in statement.lines if line.reported]
    matched, lost = _matched(reported, saved, told=told), len(reported) - len(saved)
    open_ = money.open_requests + killed
    return Look(seed, kills, money.spent, money.perhaps, matched, billed, open_, money.held or 0, lost, (low, more))


def _matched(lines: Sequence[Line], saved: Sequence[tuple[Any, ...]], *, told: bool) -> int | None:
    """Return what the invoice has of the answers that were saved; None if one of them has no line of its own.

    saved: model, tokens of input, from a cache, of output, of reasoning. told: the answers tell how much was reasoning.
    """
    amounts: dict[tuple[Any, ...], list[int]] = {}
    for line in lines:
        read = line.fresh_tokens + line.cached_tokens + line.written_tokens
        tokens = (line.model, read, line.cached_tokens, line.output_tokens, line.reasoning_tokens if told else 0)
        amounts.setdefault(tokens, []).append(line.amount_picodollars)
    wanted = Counter((model, *(tokens or 0 for tokens in counted)) for model, *counted in saved)
    if any(number > len(amounts.get(tokens, ())) for tokens, number in wanted.items()):
        return None
    return sum(sum(amounts[tokens][:number]) for tokens, number in wanted.items())


async def killed_runs(seeds: Sequence[int], folder: Path, kills: int = 3, workers: int = 0) -> list[Look]:
    """Make many runs that are killed."""
    few = asyncio.Semaphore(_TOGETHER)

    async def one(seed: int) -> list[Look]:
        async with few:
            return await killed_run(seed, folder, kills, workers)

    return [look for looks in await asyncio.gather(*map(one, seeds)) for look in looks]


def missed(found: Sequence[Look]) -> list[str]:
    """Return what was not met. A figure of kills that lost nothing is none."""
    wrong = [f"killed: {one}" for one in found if not one.right]
    if not any(one.needed for one in found):
        wrong.append("killed: no invoice is beyond the books without what was open: more runs are needed")
    if not any(one.lost for one in found):
        wrong.append("killed: no answer was lost in a kill: more runs are needed")
    return wrong
