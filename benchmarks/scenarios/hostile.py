"""The peak memory while eight slots at once receive endless answers."""

from pathlib import Path

from benchmarks import rows
from benchmarks.hostile_server import KINDS, HostileServer
from benchmarks.process import Runner
from benchmarks.scenarios.bench import Bench
from benchmarks.table import Figure
from runner.simulator import Behaviour, Simulator

SLOTS = 8
ROWS = 64
LENGTH_S = 6
"""Seconds after which a run that keeps retrying is stopped."""
_OPTIONS = ("--model", "m", "--concurrency", str(SLOTS), "--attempts", "2", "--attempt-s", "4", "--new")


async def measure(folder: Path, bench: Bench) -> list[Figure]:  # noqa: ARG001 - all scenarios have this signature
    """Return the peak resident memory for each kind of answer, minus that of a normal run of the same rows."""
    rows.write(folder, rows.plain(ROWS))
    async with Simulator(Behaviour(first_token_s=0.1, tokens=100)) as server:
        normal = await _peak_mib(folder, server.base_url("openai"))
    figures = []
    for kind in KINDS:
        async with HostileServer(kind, together=SLOTS) as hostile:
            peak = await _peak_mib(folder, hostile.base_url)
        if hostile.requests < SLOTS:
            raise RuntimeError(f"{kind}: only {hostile.requests} requests")
        figures.append(Figure(kind, max(0.0, peak - normal), "MiB", at_most=64))
    return [Figure("calm run, peak", normal, "MiB"), *figures]


async def _peak_mib(folder: Path, base_url: str) -> float:
    async with Runner(folder, *_OPTIONS, "--base-url", base_url) as process:
        try:
            await process.until_end(LENGTH_S)
        except RuntimeError:
            await process.stop()
    return process.peak_mib
