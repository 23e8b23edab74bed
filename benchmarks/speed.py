"""``python -m benchmarks.speed``: what runner costs beside a bare loop, and how near it comes to the clock."""

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
"""No client can be faster: every slot has to wait for so many answers, one after the other."""

_STARTS = 15
_LIMIT_S = 600.0
_STEADY = 20_000
"""From so many items on the start of a process weighs little."""


class Took(NamedTuple):
    """What a client took for so many items, and what its server says about them."""

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
    """Parse the command line, measure, print the table; 1 when a target is missed or a run could not be measured."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed", description=__doc__)
    parser.add_argument("--items", type=int, default=_STEADY, help=f"items of the runs without delay ({_STEADY:,})")
    parser.add_argument("--runs", type=int, default=3, help="how often all is measured; the table shows medians (3)")
    parser.add_argument(
        "--python", action="append", default=[], metavar="PATH", help="another interpreter, with an SDK that this one lacks"
    )
    given = parser.parse_args()
    pythons = (sys.executable, *given.python)
    signal.signal(signal.SIGTERM, interrupted)
    found: dict[str, list[list[Figure]]] = {}
    failed = 0
    for number in range(1, given.runs + 1):
        for measure in (_without_delay, _waves, _start):
            try:
                figures = measure(given.items, number, pythons)
            except RuntimeError as error:
                failed += 1
                say(f"run {number}: not measured: {error}")
                continue
            for name, some in figures.items():
                found.setdefault(name, []).append(some)
                say(f"{name}, run {number}: {', '.join(f'{one.what} {one.text(one.value)}' for one in some)}")
    where = f"Python {platform.python_version()}, {platform.system()} {platform.machine()}"
    print(f"{where}, {given.items:,} items, median of {given.runs}\n")
    print(render(found))
    for note in _notes(given.items, pythons):
        print(f"\nNote: {note}")
    return int(failed > 0 or any(missed(runs) for runs in found.values()))


def _notes(items: int, pythons: Sequence[str]) -> list[str]:
    absent = [peer.label for peer in PEERS if python_for(peer, pythons) is None]
    notes = [f"{label} is not installed here (nor for --python), so runner was not measured against it." for label in absent]
    if items < _STEADY:
        notes.append(f"with fewer than {_STEADY:,} items the start of runner's process weighs in every ratio.")
    if _cpus() == (None, None):
        notes.append("there is one CPU only: client and server take it from each other.")
    return notes


def _without_delay(items: int, number: int, pythons: Sequence[str]) -> dict[str, list[Figure]]:
    """Measure all clients beside each other; every other run backwards, so that a drift hits none of them alone."""
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
        # a share of the loop's CPU time: of the wall it would look small on a busy machine, and it is never less than that
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
    """Compare starts one after the other, several times."""
    commands = ((sys.executable, "-c", "import click"), (sys.executable, "-m", "runner", "--help"))
    for command in commands:
        # the first one may have to compile
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
    """Time a short command: waited for, not polled, as a poll's period would be a part of the time."""
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
    """Run a whole process over a new prompt file, and look into its store."""
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
            raise RuntimeError(f"runner ended with {ran.code}: {child.said(folder)[-2000:]}")
        right = list(books.texts(folder).values()).count(text(chunks))
        return Took(items, ran.wall_s, ran.cpu_s, ran.peak_mib, _served(streams, items, right, "runner stored"))


def _loop(name: str, items: int, in_flight: int, python: str = sys.executable) -> Took:
    """Run one of the loops that store nothing; its clock is its own."""
    client, server = _cpus()
    with tempfile.TemporaryDirectory(prefix="runner-bench-") as folder, Streams(_CHUNKS, cpu=server) as streams:
        numbers = (str(number) for number in (items, in_flight, _CHUNKS))
        command = (python, "-m", "benchmarks.loops", name, streams.base_url, *numbers)
        ran = child.spawn(Path(folder), command, limit_s=_LIMIT_S, cpu=client)
        said = child.said(Path(folder))
        if ran.code != 0:
            raise RuntimeError(f"the loop {name} ended with {ran.code}: {said[-2000:]}")
        told = json.loads(said)
        served = _served(streams, items, told["right"], f"the loop {name} read", before=int(name not in COLD))
        return Took(items, told["wall_s"], told["cpu_s"], ran.peak_mib, served)


def _served(streams: Streams, items: int, right: int, who: str, *, before: int = 0) -> Served:
    """Let the server end; every item must have been served once, in full, and be right on the other side.

    before: requests that were no item's.
    """
    served = streams.end()
    if (served.answers, served.broken, right) != (items + before, 0, items):
        raise RuntimeError(f"of {items:,} items {served.answers:,} were served, {served.broken:,} broke, {who} {right:,}")
    return served


def _cpus() -> tuple[int, int] | tuple[None, None]:
    """Give the client's CPU and the server's, where there is more than one."""
    ours = sorted(os.sched_getaffinity(0))
    return (ours[0], ours[1]) if len(ours) > 1 else (None, None)


if __name__ == "__main__":
    sys.exit(main())
