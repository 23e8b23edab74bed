"""An outage in the middle of a run with default settings: the rows that fail, and the requests that are wasted."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from benchmarks import books, rows
from benchmarks.gauge import Gauge
from benchmarks.process import Runner
from benchmarks.scenarios.bench import Bench
from benchmarks.table import Figure
from runner.simulator import Behaviour, Simulator

ROWS = 6000
BEFORE_S = 10
Change = Callable[[Simulator], Awaitable[None]]


async def unavailable(folder: Path, bench: Bench) -> list[Figure]:
    """Every request gets a 503."""
    return await _by_status(folder, bench, 503)


async def overloaded(folder: Path, bench: Bench) -> list[Figure]:
    """Every request gets a 529."""
    return await _by_status(folder, bench, 529)


async def refused(folder: Path, bench: Bench) -> list[Figure]:
    """Open connections break, and new ones are refused."""
    return await _measure(folder, bench, Simulator.close_port, Simulator.open_port)


async def _by_status(folder: Path, bench: Bench, status: int) -> list[Figure]:
    async def begin(server: Simulator) -> None:
        server.outage(status)

    async def end(server: Simulator) -> None:
        server.outage(None)

    return await _measure(folder, bench, begin, end)


async def _measure(folder: Path, bench: Bench, begin: Change, end: Change) -> list[Figure]:
    rows.write(folder, rows.plain(ROWS))
    behaviour = Behaviour(first_token_s=1.0, chunk_s=0.0, tokens=20)
    async with Simulator(behaviour) as server, Gauge(server) as gauge:
        address = ("--model", "m", "--base-url", server.base_url("openai"))
        async with Runner(folder, *address, "--concurrency", "auto", *bench.options) as process:
            started = await gauge.until(lambda stats: stats["requests"] > 0, process)
            await asyncio.sleep(BEFORE_S)
            await begin(server)
            await asyncio.sleep(bench.outage_s)
            if not process.alive:
                raise RuntimeError(f"the run ended during the outage: {process.log[-2000:]}")
            await end(server)
            ended = server.stats()["completions"]
            resumed = await gauge.until(lambda stats: stats["completions"] > ended, process, 700)
            await process.until_end(300)
        bench.show(gauge, started)
    attempts = books.attempts(folder)
    retries = sum(attempt.number > 1 for attempt in attempts)
    counted = books.statuses(folder)
    return [
        Figure("items not done", ROWS - counted.get("done", 0), at_most=0),
        Figure("retries / requests", 100 * retries / len(attempts), "%", at_most=10),
        Figure("end of the outage to the next answer", resumed - started - BEFORE_S - bench.outage_s, "s"),
    ]
