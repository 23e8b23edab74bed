"""How many rows go through one driver: ``python -m benchmarks.driver``. See ``benchmarks/README.md``.

The driver is the product with its store. Its workers are those of ``benchmarks.instant``, which answer without HTTP.
"""

import argparse
import json
import os
import platform
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from benchmarks import books, child, rows
from benchmarks.instant import ANSWER, Told
from benchmarks.process import environment, interrupted, say
from benchmarks.table import Figure, missed, render

ROWS, PROMPT_BYTES, SLOTS, WORKERS = 60_000, 2_000, 1_024, 16
_NOWHERE = "http://127.0.0.1:9/v1"
_LOOK_S = 0.05
_LIMIT_S = 1_200.0
DRIVER_CPU = min(os.sched_getaffinity(0))
"""The driver has one processor for itself, as far as that goes, and its workers the others."""
OTHERS = os.sched_getaffinity(0) - {DRIVER_CPU}


class Passed(NamedTuple):
    """What came through a driver. sizes: its resident memory in MB, as (rows, MB), from look to look."""

    told: Sequence[Told]
    cpu_s: float
    sizes: Sequence[tuple[float, float]]
    saved: int

    @property
    def rate(self) -> float:
        """Rows a second, from the first request to the last answer."""
        return self.saved / (max(one.last for one in self.told) - min(one.first for one in self.told))


def write(folder: Path, count: int, size: int) -> None:
    """Write rows of so many bytes."""
    rows.write(folder, ({"id": f"r{number}", "prompt": f"{number} ".ljust(size, "x")} for number in range(count)))


@contextmanager
def driver(folder: Path, port: int, slots: int) -> Iterator[subprocess.Popen[bytes]]:
    """Run ``runner run`` in a folder, with a listener and no worker of its own."""
    words = ["run", "prompts.jsonl", "--provider", "openai", "--model", "m", "--base-url", _NOWHERE, "--quiet"]
    words += ["--concurrency", str(slots), "--listen", f"127.0.0.1:{port}", "--deadline", f"{_LIMIT_S:g}"]
    with (folder / "output.log").open("wb") as log:
        process = subprocess.Popen(  # noqa: S603 - our own command
            (sys.executable, "-m", "runner", *words), cwd=folder, env=environment(), stdin=subprocess.DEVNULL, stdout=log,
            stderr=log, start_new_session=True,
        )  # fmt: skip
        try:
            child.pin(process.pid, DRIVER_CPU)
            yield process
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()


@contextmanager
def joined(folder: Path, port: int, links: int, pause_s: float, size: int) -> Iterator[subprocess.Popen[bytes]]:
    """Have so many workers of one process join. They wait for the driver."""
    file = folder / f"{books.STORE}.{port}.token"
    until = time.monotonic() + 60
    while not file.exists() or not file.read_text():
        if time.monotonic() > until:
            raise RuntimeError(f"the driver does not listen: {(folder / 'output.log').read_text()[-2000:]}")
        time.sleep(_LOOK_S)
    words = ("--links", str(links), "--pause-s", str(pause_s), "--bytes", str(size))
    command = (sys.executable, "-m", "benchmarks.instant", f"127.0.0.1:{port}", *words)
    env = {**environment(), "RUNNER_WORKER_TOKEN": file.read_text().strip()}
    process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, start_new_session=True)  # noqa: S603 - as above
    try:
        if len(OTHERS) > 0:
            os.sched_setaffinity(process.pid, OTHERS)
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def free_port() -> int:
    """Return a port that nobody uses now."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def passed(folder: Path, slots: int, groups: Sequence[int], pause_s: float = 0.0, size: int = len(ANSWER)) -> Passed:
    """Run until all rows of a folder are through. groups: for each process of workers, how many of them it has.

    pause_s, size: seconds and bytes of an answer.
    """
    port = free_port()
    with ExitStack() as stack:
        process = stack.enter_context(driver(folder, port, slots))
        workers = [stack.enter_context(joined(folder, port, links, pause_s, size)) for links in groups]
        sizes = list(_followed(folder, process))
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode not in (0, 130):
            raise RuntimeError(f"runner ended with {process.returncode}: {(folder / 'output.log').read_text()[-2000:]}")
        told = [Told(**json.loads(worker.communicate(timeout=30)[0])) for worker in workers]
    saved = sum(books.statuses(folder).values())
    return Passed(told, usage.ru_utime + usage.ru_stime, sizes, saved)


def _followed(folder: Path, process: subprocess.Popen[bytes]) -> Iterator[tuple[float, float]]:
    """Yield how far a driver is, by the size of its store in MB, and its resident memory in MB, until it is about to end."""
    while True:
        time.sleep(_LOOK_S)
        fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
        if fields[0] in "ZX":
            return
        store = folder / books.STORE
        yield (store.stat().st_size / 1e6 if store.exists() else 0.0), int(fields[21]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def main() -> int:
    """Parse the command line, measure, print the table; return 1 if a target is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.driver", description=__doc__)
    parser.add_argument("--rows", type=int, default=ROWS, help=f"rows of each run ({ROWS:,})")
    parser.add_argument("--workers", type=int, default=WORKERS, help=f"workers, each a process ({WORKERS})")
    parser.add_argument("--runs", type=int, default=3, help="the table shows their median (3)")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, interrupted)
    every = []
    for number in range(1, args.runs + 1):
        with tempfile.TemporaryDirectory(prefix="runner-bench-") as name:
            folder = Path(name)
            write(folder, args.rows, PROMPT_BYTES)
            every.append(_figures(passed(folder, SLOTS, [1] * args.workers), args.rows))
        say(f"run {number}: {', '.join(f'{one.what} {one.text(one.value)}' for one in every[-1])}")
    load = os.getloadavg()[0]
    where = f"Python {platform.python_version()}, {os.cpu_count()} CPUs, load {load:.1f}"
    print(f"{where}, {args.rows:,} rows, {args.workers} workers, median of {args.runs}\n")
    print(render({"driver": every}))
    return int(missed(every))


def _figures(found: Passed, count: int) -> list[Figure]:
    if found.saved != count:
        raise RuntimeError(f"of {count:,} rows {found.saved:,} are in the store")
    most = found.sizes[-1][0]
    early = max((size for at, size in found.sizes if at < most / 4), default=0.0)
    late = max(size for _, size in found.sizes)
    return [
        Figure("rows a second", found.rate, "", at_least=6_000),
        Figure("CPU of the driver a row", 1e6 * found.cpu_s / count, "us", at_most=120),
        Figure("memory of the driver, first quarter", early, "MB"),
        Figure("memory of the driver, at most", late, "MB"),
    ]


if __name__ == "__main__":
    sys.exit(main())
