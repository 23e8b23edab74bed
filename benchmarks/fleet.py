"""``python -m benchmarks.fleet``: how much of two endpoints is used while one is slow, dies and comes back. See README.md.

Both servers are simulators with a limit of open requests, in processes of their own. The second is four times slower. It is
killed and started again while the run goes. In each phase the answers a second are compared with what the servers that are up
can do: their limits of open requests, divided by the time of an answer of theirs, as this run itself has measured it. Of an
answer that began before the phase, or ended after it, the part within counts: answers of the slow server come in waves.
"""

import argparse
import json
import platform
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import NamedTuple

from benchmarks.process import say
from benchmarks.table import Figure, missed, render

SLOTS = 24
SLOWER = 4
CHUNKS = 20
CHUNK_S = 0.02
EDGE_S = 2.0
"""Seconds after a change that belong to no phase: those in which slots open one after the other, and answers are under way."""


class Phase(NamedTuple):
    """A stretch of the run. up: the servers that answer in it, by their base URLs."""

    name: str
    begin: float
    end: float
    up: Sequence[str]


@contextmanager
def _server(port: int, pace: float) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    options = ["--first-token-s", str(pace), "--chunk-s", str(pace), "--tokens", str(CHUNKS), "--fill"]
    command = [sys.executable, "-m", "runner", "simulate", "--port", str(port), *options, "--max-in-flight", str(SLOTS)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603 - our own words
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            yield line.split()[-1], process
        finally:
            process.kill()


def measured(folder: Path, phase_s: float, chunk_s: float) -> tuple[list[Phase], Path]:
    """Run once; return the phases, and the store."""
    prompts, store = folder / "prompts.jsonl", folder / "r.db"
    most = int(5 * phase_s * SLOTS * (1 + 1 / SLOWER) / (CHUNKS * chunk_s))
    lines = (json.dumps({"id": f"r{number}", "prompt": f"row {number}", "max_tokens": CHUNKS}) for number in range(most))
    prompts.write_text("\n".join(lines) + "\n")
    with ExitStack() as stack:
        quick, _ = stack.enter_context(_server(0, chunk_s))
        slow, victim = stack.enter_context(_server(0, SLOWER * chunk_s))
        options = ["--base-url", quick, "--base-url", slow, "--concurrency", str(SLOTS), "--quiet", "--db", str(store)]
        command = [sys.executable, "-m", "runner", "run", str(prompts), "--model", "m", *options]
        run = stack.enter_context(subprocess.Popen(command, stdout=subprocess.DEVNULL))  # noqa: S603 - as above
        while not store.exists() or not _answers(store):
            time.sleep(0.1)
        phases = []
        begin = time.time()
        time.sleep(phase_s)
        phases.append(Phase("both", begin, time.time(), (quick, slow)))
        victim.kill()
        begin = time.time()
        time.sleep(phase_s)
        phases.append(Phase("the slow one is dead", begin, time.time(), (quick,)))
        port = int(slow.rpartition(":")[2].partition("/")[0])
        again, _ = stack.enter_context(_server(port, SLOWER * chunk_s))
        assert again == slow
        begin = time.time()
        # the next probe comes after 15 seconds at the latest
        _wait_for(store, slow, begin)
        begin = time.time()
        time.sleep(phase_s)
        phases.append(Phase("it is back", begin, time.time(), (quick, slow)))
        run.terminate()
        run.wait()
    return phases, store


def _fetch(store: Path, query: str, *values: object) -> list[tuple[float, ...]]:
    with closing(sqlite3.connect(f"file:{store}?mode=ro", uri=True, timeout=15)) as connection:
        return list(connection.execute(query, values))


def _answers(store: Path) -> bool:
    try:
        return bool(_fetch(store, "SELECT 1 FROM attempts LIMIT 1"))
    except sqlite3.OperationalError:
        return False


def _wait_for(store: Path, url: str, since: float) -> None:
    while not _fetch(store, "SELECT 1 FROM attempts WHERE endpoint = ? AND status = 200 AND started_at > ? LIMIT 1", url, since):
        time.sleep(0.1)


def figures(phases: Sequence[Phase], store: Path) -> list[Figure]:
    """Return the figures of a run."""
    usual = {}
    for url in phases[0].up:
        spans = [
            span for (span,) in _fetch(store, "SELECT duration_s FROM attempts WHERE endpoint = ? AND error_code IS NULL", url)
        ]
        usual[url] = statistics.fmean(spans)
    found = []
    for phase in phases:
        begin, end = phase.begin + EDGE_S, phase.end
        number = sum(_seconds(store, url, begin, end) / usual[url] for url in phase.up)
        able = sum(SLOTS / usual[url] for url in phase.up)
        found.append(Figure(f"used, {phase.name}", 100 * number / (end - begin) / able, "%", at_least=95))
    ((failed,),) = _fetch(store, "SELECT count(*) FROM items WHERE status = 'failed'")
    return [*found, Figure("rows failed", failed, at_most=0)]


def _seconds(store: Path, url: str, begin: float, end: float) -> float:
    """Return the seconds within a phase of all requests that a server answered, or that broke off after it only."""
    query = "SELECT started_at, started_at + duration_s, error_code IS NULL FROM attempts WHERE endpoint = ? AND started_at < ?"
    spans = _fetch(store, query, url, end)
    return sum(min(end, to) - max(begin, since) for since, to, answered in spans if to > begin and (answered or to > end))


def main() -> int:
    """Measure, print the table; return 1 if a target is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fleet", description=__doc__)
    parser.add_argument("--runs", type=int, default=3, help="the table shows their median (3)")
    parser.add_argument("--phase-s", type=float, default=12.0, help="seconds of each phase (12)")
    about = f"seconds between two pieces of an answer ({CHUNK_S}); on a machine that is busy, more of them show the queue alone"
    parser.add_argument("--chunk-s", type=float, default=CHUNK_S, help=about)
    args = parser.parse_args()
    every = []
    for number in range(1, args.runs + 1):
        with tempfile.TemporaryDirectory(prefix="runner-bench-") as folder:
            every.append(figures(*measured(Path(folder), args.phase_s, args.chunk_s)))
        say(f"run {number}: " + ", ".join(f"{one.what} {one.text(one.value)}" for one in every[-1]))
    print(f"Python {platform.python_version()}, {platform.system()} {platform.machine()}, median of {args.runs}\n")
    print(render({"fleet": every}))
    return int(missed(every))


if __name__ == "__main__":
    sys.exit(main())
