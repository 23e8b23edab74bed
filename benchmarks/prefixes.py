"""How many of the cached tokens that were reachable a run gets: ``python -m benchmarks.prefixes [--short]``.

Rows with a few long prefixes, shuffled, go to the simulator with the cache rules of three kinds of provider. What was reachable
is what the same rules give if each request is sent after the answer to the one before it.
"""

import asyncio
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

import runner
from runner.simulator import Behaviour, Simulator
from runner.simulator.cache import Cache, CacheKind

KINDS: tuple[CacheKind, ...] = ("openai", "anthropic", "vllm")
PREFIXES = (1, 5, 50)
ROWS, SHORT = 10_000, 400
GOAL = 0.95
_WORDS = 1_100
"""Words of a prefix, which are about 1,400 tokens."""


class Measured(NamedTuple):
    """Tokens that came from the cache, and that could have; seconds of the run; requests that were billed."""

    cached: int
    reachable: int
    seconds: float
    requests: int

    @property
    def share(self) -> float:
        """Return which part of the reachable tokens came from the cache."""
        return self.cached / self.reachable


def texts(prefixes: int, rows: int) -> list[tuple[str, str]]:
    """Return prefix and question of each row, shuffled."""
    words = " word" * _WORDS
    made = [(f"Document {number % prefixes}:{words}", f"Question {number}?") for number in range(rows)]
    random.Random(prefixes).shuffle(made)  # noqa: S311
    return made


def reachable(kind: CacheKind, rows: list[tuple[str, str]]) -> int:
    """Return how many tokens the rules of a provider give from the cache if requests are sent one after the other."""
    cache, read = Cache(kind, lifetime_s=1e9), 0
    for prefix, question in rows:
        text: Any = prefix
        if kind == "anthropic":
            text = [{"type": "text", "text": prefix, "cache_control": {"type": "ephemeral"}}]
        system = {} if kind != "anthropic" else {"system": text}
        messages = [{"role": "user", "content": question}]
        body = {"model": "m", **system, "messages": messages if system else [{"role": "system", "content": text}, *messages]}
        asked = cache.read("m", msgspec.json.encode(body))
        assert asked is not None
        read += cache.find(asked, 1 << 30).read
        cache.keep(asked)
    return read


def write(path: Path, rows: list[tuple[str, str]]) -> None:
    """Write a prompt file with these prefixes and questions."""
    with path.open("wb") as file:
        for prefix, question in rows:
            messages = [{"role": "system", "content": prefix}, {"role": "user", "content": question}]
            file.write(msgspec.json.encode({"messages": messages}) + b"\n")


async def measure(kind: CacheKind, prefixes: int, rows: int, **settings: Any) -> Measured:
    """Run the rows against a simulator. settings: of the run, beside those that the figure is about."""
    made, dialect = texts(prefixes, rows), "anthropic" if kind == "anthropic" else "openai"
    told: dict[str, Any] = {"warm_prefix": True, "cache_prefix": kind == "anthropic", "model": "m", **settings}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "rows.jsonl")
        write(path, made)
        async with Simulator(Behaviour(cache=kind, first_token_s=0.1, chunk_s=0.0, tokens=6)) as server:
            base_url = server.url + ("/v1" if dialect == "openai" else "")
            start = time.monotonic()
            await runner.arun(path, db=Path(folder, "runner.db"), provider=dialect, base_url=base_url, **told)
            took_s, bill = time.monotonic() - start, server.invoice()
    return Measured(bill.cached_tokens, reachable(kind, made), took_s, bill.requests)


def main() -> int:
    """Print a line for each kind of provider and number of prefixes. Return 1 if the figure is not reached."""
    rows = SHORT if "--short" in sys.argv[1:] else ROWS
    worst = 1.0
    for kind in KINDS:
        for prefixes in PREFIXES:
            found = asyncio.run(measure(kind, prefixes, rows))
            plain = asyncio.run(measure(kind, prefixes, rows, warm_prefix=False))
            worst = min(worst, found.share)
            print(
                f"{kind:10} {prefixes:3} prefixes, {rows:,} rows: {found.share:6.1%} of {found.reachable:,} tokens in "
                f"{found.seconds:.1f} s; without warm_prefix {plain.share:6.1%} in {plain.seconds:.1f} s",
                flush=True,
            )
    print(f"worst {worst:.1%}; the goal is {GOAL:.0%}")
    return int(worst < GOAL)


if __name__ == "__main__":
    sys.exit(main())
