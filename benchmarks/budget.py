"""``python -m benchmarks.budget``: a budget against the bill of a server, with faults, stops, cancels and kills.

The server answers up to the limit of every request and bills each that comes in (``tests/support/billing.py``), in some runs with
reasoning that no answer tells apart, and with caches that are kept for an hour. See ``benchmarks/README.md``.
"""

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Awaitable, Callable
from importlib import import_module
from pathlib import Path
from statistics import fmean
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))
billing: Any = import_module("billing")
budgeted: Any = import_module("budgeted")
raw_server: Any = import_module("raw_server")

TOGETHER, PROCESSES = 16, 2
"""Runs in this process, and runs in processes of their own, that go on at the same time."""
ROWS_OF_KILLED, BUDGET_OF_KILLED = 400, 260.0
"""Rows of a run that is killed, and its budget in requests of the highest cost: about what its sessions send."""
ROWS, BUDGET = 1500, 150.0
"""The same of a run with ordinary answers, whose budget ends it."""
LEAST_USE = 0.95
LEAST_REACHED = 0.25
"""Of the runs with faults: so many must be ended by their budget."""


async def every(jobs: list[Callable[[], Awaitable[Any]]], together: int, what: str) -> list[Any]:
    """Do all of them, a number of them at the same time, and return the results."""
    turn, done = asyncio.Semaphore(together), 0

    async def one(job: Callable[[], Awaitable[Any]]) -> Any:
        nonlocal done
        async with turn:
            result = await job()
        done += 1
        if done % max(1, len(jobs) // 20) == 0:
            print(f"  {what}: {done:,} of {len(jobs):,}", file=sys.stderr, flush=True)
        return result

    return list(await asyncio.gather(*map(one, jobs)))


async def measured(
    folder: Path, runs: int, kill: int, kills: int, ordinary: int, workers: int = 0
) -> tuple[list[Any], list[Any], list[Any]]:
    """Return the results of the runs with stops and cancels, of the killed ones, and of those with ordinary answers.

    workers: local ones of each session.
    """
    biller, calm = billing.Biller(seed=1), billing.Biller(seed=2, faults={}, ordinary=True)

    def place(name: str) -> Path:
        made = folder / name
        made.mkdir()
        return made

    def prepared(where: Path, seed: int, **more: Any) -> Any:
        case = budgeted.prepared(where, seed, **more)
        return case._replace(settings={**case.settings, "workers": workers}) if workers else case

    def disturbed(seed: int) -> Callable[[], Awaitable[Any]]:
        where = place(f"run{seed}")
        case = prepared(where, seed)
        return lambda: budgeted.played(where, case, server, biller, disturbed=seed if seed % 2 else None)

    def killed(seed: int) -> Callable[[], Awaitable[Any]]:
        where = place(f"run{seed}")
        case = prepared(where, seed, rows=ROWS_OF_KILLED, most=BUDGET_OF_KILLED)
        return lambda: budgeted.killed(where, case, server, biller, kills)

    def usual(seed: int) -> Callable[[], Awaitable[Any]]:
        where = place(f"run{seed}")
        case = prepared(where, seed, rows=ROWS, most=BUDGET, told=True)
        return lambda: budgeted.played(where, case, quiet, calm)

    async with raw_server.RawServer(biller) as server, raw_server.RawServer(calm) as quiet:
        first = await every([disturbed(seed) for seed in range(runs - kill)], TOGETHER // (workers + 1), "stops and cancels")
        second = await every([killed(seed) for seed in range(100_000, 100_000 + kill)], PROCESSES, "kills")
        third = await every([usual(seed) for seed in range(200_000, 200_000 + ordinary)], 2, "ordinary answers")
    return first, second, third


def main() -> int:
    """Measure, and print the figures. Return 1 if one is missed."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--runs", type=int, default=1000, help="runs in all, with faults")
    parser.add_argument("--killed", type=int, default=50, help="those of them whose sessions are killed")
    parser.add_argument("--kills", type=int, default=20, help="kills in each of these")
    parser.add_argument("--ordinary", type=int, default=20, help="runs more, with answers of ordinary lengths and no faults")
    parser.add_argument("--workers", type=int, default=0, help="local workers of each session (0)")
    given = parser.parse_args()
    shared = Path("/dev/shm")  # noqa: S108 - thousands of commits, none of which has to survive a power cut
    with tempfile.TemporaryDirectory(dir=shared if shared.is_dir() else None) as folder:
        parts = (given.runs, given.killed, given.kills, given.ordinary, given.workers)
        first, second, third = asyncio.run(measured(Path(folder), *parts))
    runs = [*first, *second]
    use = [one.answered / one.budget for one in third]
    print(
        f"overrun         {sum(one.over for one in (*runs, *third)):,} picodollars of {sum(one.billed for one in runs):,} in "
        f"{len(runs):,} runs; the budget ended {sum(one.reached for one in runs):,} of them"
    )
    print(f"kills           {sum(one.kills for one in second):,} in {len(second)} of the runs")
    print(f"books           contain the bill in {sum(map(contained, runs)):,} of {len(runs):,} runs")
    if use:
        print(f"ordinary        {fmean(use):.1%} of the budget became answers ({min(use):.1%} at the least), in {len(use)} runs")
    wrong = missed(first, second, third, given.kills)
    for one in wrong:
        print(f"MISSED          {one}")
    return int(bool(wrong))


def contained(run: Any) -> bool:
    """Return True if the bill of a run lies between what its books know and what they say it may have been at most."""
    return bool(run.low <= run.billed <= run.high)


def missed(first: list[Any], second: list[Any], third: list[Any], kills: int) -> list[str]:
    """Return what was not met, by the results of ``measured``. kills: those that each run of the second kind should have had."""
    runs, found = [*first, *second], list[str]()
    if over := [one.over for one in (*runs, *third) if one.over]:
        found.append(f"{len(over):,} runs cost more than their budget, by up to {max(over):,} picodollars")
    if outside := sum(not contained(one) for one in (*runs, *third)):
        found.append(f"the books of {outside:,} runs do not contain the bill")
    if few := sum(one.kills != kills for one in second):
        found.append(f"{few:,} runs were not killed {kills} times")
    # a budget that ends no run is not measured
    if sum(one.reached for one in runs) < LEAST_REACHED * len(runs):
        found.append(f"the budget ended fewer than {LEAST_REACHED:.0%} of the runs with faults")
    if free := sum(not one.reached for one in third):
        found.append(f"{free:,} runs with ordinary answers did not reach their budget")
    if low := sum(one.reached and one.answered < LEAST_USE * one.budget for one in third):
        found.append(f"in {low:,} runs with ordinary answers less than {LEAST_USE:.0%} of the budget became answers")
    return found


if __name__ == "__main__":
    sys.exit(main())
