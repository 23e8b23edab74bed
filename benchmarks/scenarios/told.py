"""A limit on requests per minute that runner learns only from the headers of the answers."""

from pathlib import Path

from benchmarks import rows
from benchmarks.gauge import Gauge
from benchmarks.process import Runner
from benchmarks.scenarios.bench import Bench
from benchmarks.scenarios.known import LENGTH_S, RPM, SECOND, TAIL_S
from benchmarks.table import Figure
from runner.simulator import Behaviour, Simulator

WARM_UP_S = 10


async def openai(folder: Path, bench: Bench) -> list[Figure]:
    """Headers ``x-ratelimit-*``."""
    return await _measure(folder, bench, "openai")


async def anthropic(folder: Path, bench: Bench) -> list[Figure]:
    """Headers ``anthropic-ratelimit-*``."""
    return await _measure(folder, bench, "anthropic")


async def _measure(folder: Path, bench: Bench, dialect: str) -> list[Figure]:
    rows.write(folder, rows.plain(RPM * LENGTH_S // 60))
    behaviour = Behaviour(first_token_s=0.3, chunk_s=0.0, tokens=20, rpm=RPM, fill=SECOND)
    async with Simulator(behaviour) as server, Gauge(server) as gauge:
        options = ("--provider", dialect, "--model", "m", "--base-url", server.base_url(dialect), "--concurrency", "auto")
        async with Runner(folder, *options, *bench.options) as process:
            begin = await gauge.until(lambda stats: stats["requests"] > 0, process)
            await process.until_end(LENGTH_S * 4)
        bench.show(gauge, begin)
    used = 60 * gauge.per_second(begin + WARM_UP_S, begin + LENGTH_S - TAIL_S, lambda reading: reading.admitted)
    stats = server.stats()
    return [
        Figure("share of the limit used", 100 * used / RPM, "%", at_least=92),
        Figure("refused / requests", 100 * stats["refused"] / stats["requests"], "%", at_most=1),
    ]
