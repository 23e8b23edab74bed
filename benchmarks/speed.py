"""``python -m benchmarks.speed``: how much CPU and time runner needs compared with a bare loop and with other clients."""

import argparse
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks import books, child, rows
from benchmarks.loops import COLD
from benchmarks.peers import PEERS, Peer, python_for
from benchmarks.process import environment, interrupted, say
from benchmarks.streams import Served, Streams, text
from benchmarks.table import Figure, missed, render

_CHUNKS = 20
_FEW, _MANY = 64, 512
_WAVES, _AT_ONCE, _PACED_CHUNKS, _FIRST_S, _GAP_S = 3, 1000, 50, 0.2, 0.04
_BOUND_S = _WAVES * (_FIRST_S + (_PACED_CHUNKS - 1) * _GAP_S)
"""Latency bound in seconds: every slot must wait for this many answers, one after the other."""

_STARTS = 15
_LIMIT_S = 600.0
_STEADY = 20_000
"""With this many items or more, the start of a process has little weight."""


class Took(NamedTuple):
    """The time and memory that a client used for a number of items, and the counts of its server."""

    items: int
    wall_s: float
    cpu_s: float
    peak_mib: float
    served: Served

    @property
    def rate(self) -> float:
        """Items per second."""
        return self.items / self.wall_s

    @property
    def cpu_ms(self) -> float:
        """Milliseconds of CPU per 1,000 items."""
        return self.cpu_s * 1_000_000 / self.items


def main() -> int:
    """Parse the command line, measure, print the table; return 1 if a target is missed or a run could not be measured."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed", description=__doc__)
    parser.add_argument("--items", type=int, default=_STEADY, help=f"items of the runs without delay ({_STEADY:,})")
    parser.add_argument("--runs", type=int, default=3, help="how often everything is measured; the table shows medians (3)")
    parser.add_argument(
        "--python",
        action="append",
        default=[],
        metavar="PATH",
        help="another interpreter, for an SDK that this one lacks",
    )
    args = parser.parse_args()
    pythons = (sys.executable, *args.python)
    signal.signal(signal.SIGTERM, interrupted)
    figures_of: dict[str, list[list[Figure]]] = {}
    failed = 0
    for number in range(1, args.runs + 1):
        for measure in (_without_delay, _waves, _start):
            try:
                figures = measure(args.items, number, pythons)
            except RuntimeError as error:
                failed += 1
                say(f"run {number}: not measured: {error}")
                continue
            for name, group in figures.items():
                figures_of.setdefault(name, []).append(group)
                say(f"{name}, run {number}: {', '.join(f'{figure.what} {figure.text(figure.value)}' for figure in group)}")
    where = f"Python {platform.python_version()}, {platform.system()} {platform.machine()}"
    print(f"{where}, {args.items:,} items, median of {args.runs}\n")
    print(render(figures_of))
    for note in _notes(args.items, pythons):
        print(f"\nNote: {note}")
    return int(failed > 0 or any(missed(runs) for runs in figures_of.values()))


def _notes(items: int, pythons: Sequence[str]) -> list[str]:
    absent = [peer.label for peer in PEERS if python_for(peer, pythons) is None]
    notes = [f"{label} is not installed here (nor for --python), so runner was not measured against it." for label in absent]
    if items < _STEADY:
        notes.append(f"with fewer than {_STEADY:,} items the start of runner's process weighs in every ratio.")
    if _cpus() == (None, None):
        notes.append("there is one CPU only, and client and server share it.")
    return notes


def _without_delay(items: int, number: int, pythons: Sequence[str]) -> dict[str, list[Figure]]:
    """Measure all clients in turn; in reverse order in every other run, so that a drift of the machine affects all of them."""
    todo: list[Callable[[], Took]] = [
        lambda: _loop("bare", items, _FEW),
        lambda: _runner(items, _FEW, _CHUNKS),
        lambda: _runner(items, _MANY, _CHUNKS),
    ]
    turn = slice(None, None, 1 if number % 2 else -1)
    bare, few, many = [measure() for measure in todo[turn]][turn]
    figures = {
        "64 in flight": _beside(bare, few),
        "512 in flight": [
            Figure("runner", many.rate, "items/s"),
            Figure("runner, CPU per 1,000 items", many.cpu_ms, "ms"),
            Figure("CPU, 512 / 64 in flight", many.cpu_ms / few.cpu_ms, "", at_most=1.6),
        ],
    }
    for peer in PEERS:
        if (python := python_for(peer, pythons)) is not None:
            figures[peer.label] = _against(peer, python, few)
    return figures


def _beside(bare: Took, few: Took) -> list[Figure]:
    return [
        Figure("bare loop", bare.rate, "items/s"),
        Figure("runner", few.rate, "items/s"),
        Figure("items/s, runner / bare loop", few.rate / bare.rate, "", at_least=0.85),
        Figure("bare loop, CPU per 1,000 items", bare.cpu_ms, "ms"),
        Figure("runner, CPU per 1,000 items", few.cpu_ms, "ms"),
        Figure("CPU, runner / bare loop", few.cpu_ms / bare.cpu_ms),
        # relative to the loop's CPU time: the wall time is never shorter, and on a busy machine the share would look too small
        Figure("the server's CPU / bare loop's", bare.served.cpu_s / bare.cpu_s * 100, "%", at_most=60),
        Figure("bare loop's CPU / wall", bare.cpu_s / bare.wall_s * 100, "%"),
    ]


def _against(peer: Peer, python: str, few: Took) -> list[Figure]:
    used = _loop(peer.loop, peer.items, _FEW, python)
    return [
        Figure("its rate", used.rate, "items/s"),
        Figure("its CPU per 1,000 items", used.cpu_ms, "ms"),
        Figure("items/s, runner / it", few.rate / used.rate, "", at_least=peer.target),
        Figure("CPU, it / runner", used.cpu_ms / few.cpu_ms),
    ]


def _waves(_items: int, _number: int, _pythons: Sequence[str]) -> dict[str, list[Figure]]:
    took = _runner(_WAVES * _AT_ONCE, _AT_ONCE, _PACED_CHUNKS, first_s=_FIRST_S, gap_s=_GAP_S)
    return {
        "1,000 in flight": [
            Figure("wall / latency bound", took.served.wall_s / _BOUND_S, "", at_most=1.12),
            Figure("most answers under way", took.served.most),
            Figure("peak", took.peak_mib * 1.048576, "MB", at_most=140),
            Figure("runner, CPU per 1,000 items", took.cpu_ms, "ms"),
            Figure("the server's CPU / wall", took.served.cpu_s / took.served.wall_s * 100, "%"),
        ]
    }


def _start(_items: int, _number: int, _pythons: Sequence[str]) -> dict[str, list[Figure]]:
    """Compare start-ups, alternately and several times."""
    commands = ((sys.executable, "-c", "import click"), (sys.executable, "-m", "runner", "--help"))
    for command in commands:
        # the first start may have to compile modules
        _started(command)
    pairs = [[_started(command) for command in commands] for _ in range(_STARTS)]
    click, shown = (statistics.median(times) for times in zip(*pairs, strict=True))
    return {
        "--help": [
            Figure("`import click`", click * 1000, "ms"),
            Figure("`runner --help`", shown * 1000, "ms"),
            Figure("wall / `import click`", shown / click, "", at_most=2),
        ]
    }


def _started(command: Sequence[str]) -> float:
    """Return the seconds that a short command takes. It is waited for, not polled: the period of a poll would add to the time."""
    client, _ = _cpus()
    begin = time.perf_counter()
    with subprocess.Popen(  # noqa: S603 - our own commands
        command, env=environment(), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        child.pin(process.pid, client)
        code = process.wait()
    if code != 0:
        raise RuntimeError(f"{' '.join(command)} ended with {code}")
    return time.perf_counter() - begin


def _runner(items: int, in_flight: int, chunks: int, *, first_s: float = 0.0, gap_s: float = 0.0) -> Took:
    """Run runner as a process on a new prompt file, and check the answers in its store."""
    client, server = _cpus()
    with (
        tempfile.TemporaryDirectory(prefix="runner-bench-") as name,
        Streams(chunks, first_s=first_s, gap_s=gap_s, cpu=server) as streams,
    ):
        folder = Path(name)
        rows.write(folder, rows.plain(items))
        ran = child.run(
            folder, "run", "prompts.jsonl", "--provider", "openai", "--model", "m", "--base-url", streams.base_url,
            "--concurrency", str(in_flight), "--deadline", f"{_LIMIT_S:g}", "--quiet", limit_s=_LIMIT_S, cpu=client,
        )  # fmt: skip
        if ran.code != 0:
            raise RuntimeError(f"runner ended with {ran.code}: {child.output(folder)[-2000:]}")
        right = list(books.texts(folder).values()).count(text(chunks))
        return Took(items, ran.wall_s, ran.cpu_s, ran.peak_mib, _served(streams, items, right, "runner stored"))


def _loop(name: str, items: int, in_flight: int, python: str = sys.executable) -> Took:
    """Run one of the loops, which store nothing and measure their own time."""
    client, server = _cpus()
    with tempfile.TemporaryDirectory(prefix="runner-bench-") as folder, Streams(_CHUNKS, cpu=server) as streams:
        numbers = (str(number) for number in (items, in_flight, _CHUNKS))
        command = (python, "-m", "benchmarks.loops", name, streams.base_url, *numbers)
        ran = child.spawn(Path(folder), command, limit_s=_LIMIT_S, cpu=client)
        output = child.output(Path(folder))
        if ran.code != 0:
            raise RuntimeError(f"the loop {name} ended with {ran.code}: {output[-2000:]}")
        report = json.loads(output)
        served = _served(streams, items, report["right"], f"the loop {name} read", before=int(name not in COLD))
        return Took(items, report["wall_s"], report["cpu_s"], ran.peak_mib, served)


def _served(streams: Streams, items: int, right: int, who: str, *, before: int = 0) -> Served:
    """End the server, and check that it served every item once and in full, and that the client read all of them correctly.

    before: requests that belong to no item.
    """
    served = streams.end()
    if (served.answers, served.broken, right) != (items + before, 0, items):
        raise RuntimeError(f"of {items:,} items {served.answers:,} were served, {served.broken:,} broke, {who} {right:,}")
    return served


def _cpus() -> tuple[int, int] | tuple[None, None]:
    """Return the CPU for the client and the one for the server, or None for both if there is only one CPU."""
    ours = sorted(os.sched_getaffinity(0))
    return (ours[0], ours[1]) if len(ours) > 1 else (None, None)


if __name__ == "__main__":
    sys.exit(main())
