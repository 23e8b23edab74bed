"""``python -m benchmarks.workers``: what local workers gain over one process, and what share of the CPU time the driver takes."""

import argparse
import os
import signal
import statistics
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from benchmarks import books, child, rows
from benchmarks.process import interrupted, say
from benchmarks.streams import Streams, text
from benchmarks.table import Figure, missed, render

_ITEMS, _CHUNKS, _SLOTS, _PAIRS = 20_000, 20, 256, 5
_PACED, _PACED_CHUNKS, _PACED_SLOTS, _FIRST_S, _GAP_S = 6_000, 50, 1_000, 0.2, 0.04
_LIMIT_S = 600.0
_LOOK_S = 0.05
_TICKS = os.sysconf("SC_CLK_TCK")


class Took(NamedTuple):
    """What a run used. driver_s: CPU seconds of the driver; all_s: of it and its workers."""

    rate: float
    driver_s: float
    all_s: float

    @property
    def share(self) -> float:
        """The driver's share of the CPU time, in per cent."""
        return self.driver_s / self.all_s * 100


def main() -> int:
    """Parse the command line, measure in alternating pairs, print the table; return 1 if a target is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.workers", description=__doc__)
    parser.add_argument("--items", type=int, default=_ITEMS, help=f"items of the runs without delay ({_ITEMS:,})")
    parser.add_argument("--pairs", type=int, default=_PAIRS, help=f"pairs of runs; the table shows medians ({_PAIRS})")
    parser.add_argument("--workers", type=int, default=2, help="workers of the second run of each pair (2)")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, interrupted)
    found: dict[str, list[list[Figure]]] = {"one write": [], "paced": []}
    for number in range(args.pairs):
        order = (0, args.workers) if number % 2 == 0 else (args.workers, 0)
        took = {workers: _run(args.items, _SLOTS, _CHUNKS, workers) for workers in order}
        found["one write"].append(_pair(took[0], took[args.workers], args.items))
        paced = _run(_PACED, _PACED_SLOTS, _PACED_CHUNKS, args.workers, first_s=_FIRST_S, gap_s=_GAP_S)
        found["paced"].append([Figure("driver's share of the CPU", paced.share, "%", at_most=20)])
        for name, groups in found.items():
            say(f"{name}, pair {number + 1}: {', '.join(f'{one.what} {one.text(one.value)}' for one in groups[-1])}")
    load = statistics.fmean(os.getloadavg())
    print(f"{os.cpu_count()} CPUs, load {load:.1f}, {args.items:,} items, {args.workers} workers, median of {args.pairs}\n")
    print(render(found))
    return int(any(missed(runs) for runs in found.values()))


def _pair(one: Took, more: Took, items: int) -> list[Figure]:
    return [
        Figure("one process", one.rate, "items/s"),
        Figure("with workers", more.rate, "items/s"),
        Figure("with workers / one process", more.rate / one.rate, "", at_least=1.6),
        Figure("one process, CPU per 1,000 items", one.all_s * 1e6 / items, "ms"),
        Figure("driver, CPU per 1,000 items", more.driver_s * 1e6 / items, "ms"),
        Figure("workers, CPU per 1,000 items", (more.all_s - more.driver_s) * 1e6 / items, "ms"),
    ]


def _run(items: int, slots: int, chunks: int, workers: int, *, first_s: float = 0.0, gap_s: float = 0.0) -> Took:
    with tempfile.TemporaryDirectory(prefix="runner-bench-") as name, Streams(chunks, first_s=first_s, gap_s=gap_s) as streams:
        folder = Path(name)
        rows.write(folder, rows.plain(items))
        driver = _Driver(folder)
        ran = child.run(
            folder, "run", "prompts.jsonl", "--provider", "openai", "--model", "m", "--base-url", streams.base_url,
            "--concurrency", str(slots), "--workers", str(workers), "--deadline", f"{_LIMIT_S:g}", "--quiet", limit_s=_LIMIT_S,
        )  # fmt: skip
        driver_s = driver.ended()
        if ran.code != 0:
            raise RuntimeError(f"runner ended with {ran.code}: {child.output(folder)[-2000:]}")
        right = list(books.texts(folder).values()).count(text(chunks))
        served = streams.end()
        if (right, served.answers) != (items, items):
            raise RuntimeError(f"of {items:,} items {served.answers:,} were served, and {right:,} stored")
        return Took(items / served.wall_s, driver_s, ran.cpu_s)


class _Driver:
    """Follows the CPU time of the process that works in a folder, and which is not a worker."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._found, self._end = folder, 0.0, threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    def ended(self) -> float:
        """Return the CPU seconds, once the process has ended."""
        self._end.set()
        self._thread.join()
        return self._found

    def _follow(self) -> None:
        pid = None
        while not self._end.wait(_LOOK_S):
            pid = pid or self._pid()
            if pid is not None:
                with suppress(OSError, IndexError):
                    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                    self._found = (int(fields[11]) + int(fields[12])) / _TICKS

    def _pid(self) -> int | None:
        for entry in Path("/proc").iterdir():
            with suppress(OSError):
                if entry.name.isdigit() and (entry / "cwd").resolve() == self._folder.resolve():
                    arguments = (entry / "cmdline").read_bytes().split(b"\0")
                    if b"run" in arguments:
                        return int(entry.name)
        return None


if __name__ == "__main__":
    begin = time.monotonic()
    code = main()
    say(f"took {time.monotonic() - begin:.0f} s")
    sys.exit(code)
