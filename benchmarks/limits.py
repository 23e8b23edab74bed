"""``python -m benchmarks.limits``: how well runner handles limits, outages and bad servers. See ``benchmarks/README.md``."""

import argparse
import asyncio
import platform
import signal
import sys
import tempfile
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import uvloop

from benchmarks.process import say
from benchmarks.scenarios import SCENARIOS, Bench
from benchmarks.table import Figure, missed, render


def main() -> int:
    """Parse the command line, measure, print the table; return 1 if a target is missed or a run could not be measured."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.limits", description=__doc__)
    parser.add_argument("--only", action="append", choices=SCENARIOS, metavar="NAME", help=f"one of {', '.join(SCENARIOS)}")
    parser.add_argument("--runs", type=int, default=3, help="runs of each scenario; the table shows their median (3)")
    parser.add_argument("--outage-s", type=float, default=60.0, help="length of the outages in seconds; 600 is realistic (60)")
    parser.add_argument("--workers", type=int, default=0, help="local workers of each run whose limit is measured (0)")
    parser.add_argument("--timeline", action="store_true", help="print the server's counts, second by second")
    args = parser.parse_args()
    figures_of: dict[str, list[list[Figure]]] = {}
    failed = 0
    for name in args.only or SCENARIOS:
        for number in range(1, args.runs + 1):
            begin = time.monotonic()
            try:
                figures = _measured(name, Bench(args.timeline, args.outage_s, args.workers))
            except asyncio.CancelledError:
                return 128 + signal.SIGTERM
            except RuntimeError as error:
                failed += 1
                say(f"{name}, run {number}: not measured: {error}")
                continue
            figures_of.setdefault(name, []).append(figures)
            summary = ", ".join(f"{figure.what} {figure.text(figure.value)}" for figure in figures)
            say(f"{name}, run {number}, {time.monotonic() - begin:.0f} s: {summary}")
    print(f"Python {platform.python_version()}, {platform.system()} {platform.machine()}, median of {args.runs}\n")
    print(render(figures_of))
    return int(failed > 0 or any(missed(runs) for runs in figures_of.values()))


def _measured(name: str, bench: Bench) -> list[Figure]:
    with (
        tempfile.TemporaryDirectory(prefix="runner-bench-") as folder,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as loop,
    ):
        return loop.run(_ended_by_sigterm(SCENARIOS[name](Path(folder), bench)))


async def _ended_by_sigterm(measuring: Coroutine[Any, Any, list[Figure]]) -> list[Figure]:
    """Cancel the measurement on SIGTERM, as Ctrl-C does, so that no process is left behind."""
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await measuring


if __name__ == "__main__":
    sys.exit(main())
