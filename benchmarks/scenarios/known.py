"""Limits that the user sets and the server enforces: the share that is used, and the requests that are refused.

The server's bucket starts with one second's worth, so that the limit holds from the first second. With a minute's worth, as
providers have it, a client could far exceed its limit for half a minute before the first refusal.
"""

from pathlib import Path

from benchmarks import books, rows
from benchmarks.gauge import Gauge
from benchmarks.process import Runner
from benchmarks.scenarios.bench import Bench
from benchmarks.scenarios.queueing import slowest
from benchmarks.table import Figure
from runner.simulator import Behaviour, Simulator

RPM = 1800
TPM = 600_000
LENGTH_S = 36
"""Seconds that the rows take at the limit."""
WARM_UP_S = 5
TAIL_S = 5
CONCURRENCY = 16
"""Far more than the limit needs (3 to 10 at once), so that slots never delay a request."""
SECOND = 1 / 60


async def requests(folder: Path, bench: Bench) -> list[Figure]:
    """Measure a limit on requests per minute."""
    rows.write(folder, rows.plain(RPM * LENGTH_S // 60))
    behaviour = Behaviour(first_token_s=0.3, chunk_s=0.0, tokens=20, rpm=RPM, fill=SECOND)
    async with Simulator(behaviour) as server, Gauge(server) as gauge:
        begin = await _run(folder, bench, server, gauge, "--rpm", str(RPM))
    used = 60 * gauge.per_second(begin + WARM_UP_S, begin + LENGTH_S - TAIL_S, lambda reading: reading.admitted)
    return [_share(used / RPM), _refused(server)]


async def tokens(folder: Path, bench: Bench) -> list[Figure]:
    """Measure a limit on tokens per minute, with items of 50 to 5,000 tokens, and how long the large ones wait."""
    rows.write(folder, rows.mixed(TPM * LENGTH_S // 60, least=50, most=5000))
    behaviour = Behaviour(first_token_s=0.3, chunk_s=0.0, tokens=100_000, tpm=TPM, fill=SECOND)
    async with Simulator(behaviour) as server, Gauge(server) as gauge:
        begin = await _run(folder, bench, server, gauge, "--tpm", str(TPM))
    used = 60 * gauge.per_second(begin + WARM_UP_S, begin + LENGTH_S - TAIL_S, lambda reading: reading.tokens)
    waits = slowest(books.attempts(folder), per_second=TPM / 60, slots=CONCURRENCY, large=4000)
    return [
        _share(used / TPM),
        _refused(server),
        Figure("longest wait of a large item / its fair share", waits, "x", at_most=2),
    ]


async def _run(folder: Path, bench: Bench, server: Simulator, gauge: Gauge, *options: str) -> float:
    """Run all rows; return the time of the first request."""
    options = (
        "--model",
        "m",
        "--base-url",
        server.base_url("openai"),
        "--concurrency",
        str(CONCURRENCY),
        *bench.options,
        *options,
    )
    async with Runner(folder, *options) as process:
        begin = await gauge.until(lambda stats: stats["requests"] > 0, process)
        await process.until_end(LENGTH_S * 4)
    bench.show(gauge, begin)
    return begin


def _share(value: float) -> Figure:
    return Figure("share of the limit used", 100 * value, "%", at_least=97)


def _refused(server: Simulator) -> Figure:
    return Figure("refused requests", server.stats()["refused"], at_most=0)
