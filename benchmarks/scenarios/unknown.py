"""An unannounced limit on concurrent requests: 48, then 12, then 96; how close the number of slots comes to it."""

import asyncio
import time
from pathlib import Path

from benchmarks import rows
from benchmarks.gauge import Gauge
from benchmarks.process import Runner
from benchmarks.scenarios.bench import Bench
from benchmarks.table import Figure
from runner.simulator import Behaviour, Simulator

CEILINGS = (48, 12, 96)
PHASE_S = 60
SETTLED_S = 30
ROWS = 30_000
"""More than the server can answer in all phases together."""


async def hinted(folder: Path, bench: Bench) -> list[Figure]:
    """Refusals have the header ``retry-after: 1``."""
    return await _measure(folder, bench, hints=True)


async def silent(folder: Path, bench: Bench) -> list[Figure]:
    """Refusals have no header about a wait."""
    return await _measure(folder, bench, hints=False)


async def _measure(folder: Path, bench: Bench, *, hints: bool) -> list[Figure]:
    rows.write(folder, rows.plain(ROWS))
    behaviour = Behaviour(first_token_s=1.0, chunk_s=0.0, tokens=20, max_in_flight=CEILINGS[0], hints=hints)
    async with Simulator(behaviour) as server, Gauge(server) as gauge:
        address = ("--model", "m", "--base-url", server.base_url("openai"))
        async with Runner(folder, *address, "--concurrency", "auto", *bench.options) as process:
            begin = await gauge.until(lambda stats: stats["requests"] > 0, process)
            changes = []
            for number, ceiling in enumerate(CEILINGS):
                server.limit(max_in_flight=ceiling)
                changes.append(begin + number * PHASE_S)
                await asyncio.sleep(changes[-1] + PHASE_S - time.monotonic())
            stats = server.stats()
            await process.stop()
        bench.show(gauge, begin)
    figures = []
    for ceiling, change in zip(CEILINGS, changes, strict=True):
        # 0.2 s before the next change or the stop, which would affect the mean
        settled = gauge.in_flight(change + SETTLED_S, change + PHASE_S - 0.2)
        early = gauge.in_flight(change, change + SETTLED_S)
        figures += [
            Figure(f"in flight / {ceiling}, from {SETTLED_S} s on", 100 * settled / ceiling, "%", at_least=90),
            Figure(f"in flight / {ceiling}, first {SETTLED_S} s", 100 * early / ceiling, "%"),
        ]
    return [*figures, Figure("refused / requests", 100 * stats["refused"] / stats["requests"], "%", at_most=2)]
