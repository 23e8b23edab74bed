"""Whether the rate grows with the nodes: ``python -m benchmarks.nodes``. See ``benchmarks/README.md``.

A node is a worker of ``benchmarks.instant`` whose answers take a second, with 200 open requests: 200 rows a second. The driver is
the product with its store.
"""

import argparse
import os
import platform
import signal
import sqlite3
import sys
import tempfile
from contextlib import closing
from pathlib import Path

from benchmarks import books
from benchmarks.driver import passed, write
from benchmarks.process import interrupted, say
from benchmarks.table import Figure, missed, render

EACH, PAUSE_S = 200, 1.0
SECONDS = 16
"""How long a run takes at the full rate. Its middle counts: slots open one after the other, and the last rows leave some free."""
PROMPT_BYTES, ANSWER_BYTES = 2_000, 1_000
PROCESSES = 2
"""Among which the nodes are divided: a process for each would measure the scheduler of this machine."""


def rate(folder: Path) -> float:
    """Return the answers a second in the middle of a run, from a third of them to two thirds."""
    with closing(sqlite3.connect(folder / books.STORE)) as store:
        ends = [end for (end,) in store.execute("SELECT started_at + duration_s FROM attempts ORDER BY 1")]
    first, last = len(ends) // 3, 2 * len(ends) // 3
    return float((last - first) / (ends[last] - ends[first]))


def measured(nodes: int) -> tuple[float, float]:
    """Return the rate with so many nodes, and the CPU time of the driver a row in microseconds."""
    with tempfile.TemporaryDirectory(prefix="runner-bench-") as name:
        folder, count = Path(name), nodes * EACH * SECONDS
        write(folder, count, PROMPT_BYTES)
        groups = [len(range(number, nodes, PROCESSES)) for number in range(min(PROCESSES, nodes))]
        found = passed(folder, nodes * EACH, groups, PAUSE_S, ANSWER_BYTES)
        if found.saved != count:
            raise RuntimeError(f"of {count:,} rows {found.saved:,} are in the store")
        return rate(folder), 1e6 * found.cpu_s / count


def main() -> int:
    """Parse the command line, measure, print the table; return 1 if a target is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.nodes", description=__doc__)
    parser.add_argument("--nodes", type=int, nargs="+", default=[1, 5, 12, 25], help="how many; the first is the measure")
    parser.add_argument("--runs", type=int, default=3, help="the table shows their median (3)")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, interrupted)
    every = []
    for number in range(1, args.runs + 1):
        figures, one = [], 0.0
        for nodes in args.nodes:
            found, cpu = measured(nodes)
            one = one or found / nodes
            figures += [
                Figure(f"{nodes} nodes, rows a second", found),
                Figure(f"{nodes} nodes, of so many times the first", 100 * found / nodes / one, "%", at_least=95),
                Figure(f"{nodes} nodes, CPU of the driver a row", cpu, "us"),
            ]
        every.append(figures)
        say(f"run {number}: {', '.join(f'{one.what} {one.text(one.value)}' for one in figures)}")
    load = os.getloadavg()[0]
    print(f"Python {platform.python_version()}, {os.cpu_count()} CPUs, load {load:.1f}, median of {args.runs}\n")
    print(render({"nodes": every}))
    return int(missed(every))


if __name__ == "__main__":
    sys.exit(main())
