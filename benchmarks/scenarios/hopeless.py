"""A wrong key, and an account without credit: a run of a hundred thousand rows must stop at once, not row by row."""

from pathlib import Path

from benchmarks import rows
from benchmarks.process import Runner
from benchmarks.scenarios.bench import Bench
from benchmarks.table import Figure
from runner.simulator import Behaviour, Simulator

ROWS = 100_000
CONCURRENCY = 64
STOPPED = 3
"""The exit code of a run that was stopped because of the provider's answer."""
_CASES = (
    ("wrong key, openai", "openai", Behaviour(first_token_s=0.1, key="right")),
    ("no money, openai", "openai", Behaviour(first_token_s=0.1, broke=True)),
    ("no money, anthropic", "anthropic", Behaviour(first_token_s=0.1, broke=True)),
)


async def measure(folder: Path, bench: Bench) -> list[Figure]:  # noqa: ARG001 - all scenarios have this signature
    """Return the time from start to exit, and the requests sent, for each case."""
    rows.write(folder, rows.plain(ROWS))
    figures = []
    for what, dialect, behaviour in _CASES:
        async with Simulator(behaviour) as server:
            options = ("--provider", dialect, "--model", "m", "--base-url", server.base_url(dialect), "--new")
            env = {"WRONG_KEY": "sk-wrong"}
            async with Runner(
                folder, *options, "--concurrency", str(CONCURRENCY), "--api-key-env", "WRONG_KEY", env=env
            ) as process:
                code = await process.until_end(120)
        if code != STOPPED or process.ended is None:
            raise RuntimeError(f"{what}: exit code {code}, not {STOPPED}: {process.log[-2000:]}")
        figures += [
            Figure(f"{what}: start to exit", process.ended - process.started, "s", at_most=5),
            Figure(f"{what}: requests sent", server.stats()["requests"], at_most=CONCURRENCY),
        ]
    return figures
