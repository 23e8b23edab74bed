"""A fifth of all streams are cut, reset, malformed or stalled; only complete and correct answers may be stored as done."""

from pathlib import Path

from benchmarks import books, rows
from benchmarks.process import Runner
from benchmarks.scenarios.bench import Bench
from benchmarks.table import Figure
from runner.simulator import Behaviour, Simulator

ROWS = 1000
FAULTS = {"truncate": 0.05, "disconnect": 0.05, "malformed": 0.05, "stall": 0.05}


async def measure(folder: Path, bench: Bench) -> list[Figure]:  # noqa: ARG001 - all scenarios have this signature
    """Measure each dialect. The answers are echoes, so the correct text of each is known."""
    figures = []
    for dialect in ("openai", "anthropic"):
        sent = rows.stories(ROWS)
        rows.write(folder, sent)
        async with Simulator(Behaviour(first_token_s=0.1, chunk_s=0.002, echo=True, faults=FAULTS)) as server:
            options = ("--provider", dialect, "--model", "m", "--base-url", server.base_url(dialect), "--new")
            async with Runner(folder, *options, "--silence-s", "1", "--attempts", "10", "--db", f"{dialect}.db") as process:
                await process.until_end(180)
            broken = sum(server.stats()["faults"].values())
        texts = books.texts(folder, f"{dialect}.db")
        wrong = sum(texts.get(row["id"], row["prompt"]) != row["prompt"] for row in sent)
        figures += [
            Figure(f"{dialect}: wrong or partial answers stored as done", wrong, at_most=0),
            Figure(f"{dialect}: rows without an answer", ROWS - len(texts), at_most=0),
            Figure(f"{dialect}: streams broken", broken),
        ]
    return figures
