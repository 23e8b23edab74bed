"""``python -m benchmarks.verdicts``: rows that are refused for themselves, and a server that refuses everything, in virtual time.

The engine, the lanes and the pipeline are the real ones; the server and the clock are not (``tests/support/world.py``). See
``benchmarks/README.md``.
"""

import argparse
import random
import sys
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from runner.engine.limits import streak
from runner.errors import AttemptError, ProviderError

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))
world: Any = import_module("world")
virtual: Any = import_module("virtual")

ROWS, GOOD, CONCURRENCY = 300, 10, 8
BEGIN_S = 5.0
"""When the trouble begins, in seconds after the start."""
SERVICE = {"quick": (0.5, 2.0), "slow": (10.0, 40.0)}
"""Shortest and longest time of an answer in seconds, by kind. A refusal takes one round trip."""
SHARES = (0.0, 0.05, 0.2, 0.5, 0.8, 0.9, 0.95)
LENGTHS = (0.0, 0.2, 1.0, 3.0, 30.0, 90.0)
NUMBERS = (3, 5, 8, 12, 16, 24)


class Measured(NamedTuple):
    """What one run came to. failed: good rows that failed. wasted: requests beyond one for each row. took_s: virtual time."""

    failed: int
    wasted: int
    took_s: float
    stopped: bool


class Scene(NamedTuple):
    """share: of rows that are refused for themselves. length_s: of the trouble. number: K."""

    kind: str
    share: float
    length_s: float
    number: int
    seed: int


def measure(scene: Scene) -> Measured:
    """Run one scene."""
    before, streak.ALIKE = streak.ALIKE, scene.number
    try:
        measured: Measured = virtual.run(lambda: _run(scene))
        return measured
    finally:
        streak.ALIKE = before


async def _run(scene: Scene) -> Measured:
    draw = random.Random(scene.seed)  # noqa: S311 - a repeatable draw
    bad = {str(number) for number in range(GOOD, ROWS) if draw.random() < scene.share}

    def fault(item: str, since: float) -> AttemptError | None:
        # the same words from the rows and from the trouble: nothing but the streak tells them apart
        trouble = BEGIN_S <= since < BEGIN_S + scene.length_s
        return ProviderError("400: no", code="bad_request", verdict="fail", status=400) if trouble or item in bad else None

    server = world.Server(service=SERVICE[scene.kind], fault=_at_arrival(fault), seed=scene.seed)
    simulated = world.World(server, ceiling=CONCURRENCY, tuned=False, seed=scene.seed)
    await simulated.work(ROWS)
    wrongly = sum(outcome.key not in bad for outcome in simulated.failed)
    return Measured(wrongly, server.requests - ROWS, server.since, simulated.stop.error is not None)


def _at_arrival(fault: Any) -> Any:
    """Return a fault that refuses requests when they come, and not those that were taken in."""
    taken: set[str] = set()

    def at_arrival(item: str, since: float) -> AttemptError | None:
        if item in taken:
            return None
        error: AttemptError | None = fault(item, since)
        if error is None:
            taken.add(item)
        return error

    return at_arrival


def scenes(kind: str, number: int, shares: Sequence[float], lengths: Sequence[float], seeds: int) -> Iterator[Scene]:
    """Yield the scenes of one cell of the table."""
    for share in shares:
        for length_s in lengths:
            for seed in range(1, seeds + 1):
                yield Scene(kind, share, length_s, number, seed)


def cell(measured: Sequence[Measured], calm: Sequence[Measured]) -> str:
    """Return the means over runs: rows wrongly failed, requests wasted, seconds lost against calm runs; and how many stopped."""
    count = len(measured)
    failed, wasted = (sum(one[column] for one in measured) / count for column in (0, 1))
    lost_s = sum(one.took_s - other.took_s for one, other in zip(measured, calm, strict=True)) / count
    stopped = sum(one.stopped for one in measured)
    return f"{failed:.1f} / {wasted:.0f} / {lost_s:.0f}" + (f" ({stopped} stopped)" if stopped else "")


def main() -> int:
    """Print a table for each kind: K against the share of bad rows without trouble, and against the length of the trouble."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.verdicts", description=__doc__)
    parser.add_argument("--seeds", type=int, default=5, help="runs of each scene (5)")
    parser.add_argument("--numbers", type=int, nargs="*", default=NUMBERS, help="values of K")
    parser.add_argument("--kinds", nargs="*", default=list(SERVICE), choices=list(SERVICE))
    given = parser.parse_args()
    never = 1_000_000
    for kind in given.kinds:
        for words, axis in (("share of bad rows, no trouble", SHARES), ("seconds of trouble, 5 % of bad rows", LENGTHS)):
            share_axis = axis is SHARES
            print(f"\n{kind}: {words}\n\n| K | " + " | ".join(f"{value:g}" for value in axis) + " |")
            print("|---" * (len(axis) + 1) + "|")
            for number in given.numbers:
                cells = []
                for value in axis:
                    shares, lengths = ((value,), (0.0,)) if share_axis else ((0.05,), (value,))
                    measured = [measure(scene) for scene in scenes(kind, number, shares, lengths, given.seeds)]
                    calm = [measure(scene) for scene in scenes(kind, never, shares, (0.0,), given.seeds)]
                    cells.append(cell(measured, calm))
                print(f"| {number} | " + " | ".join(cells) + " |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
