"""``python -m benchmarks.watched``: what it costs a run to be watched, and how late those who watch are told. See the README."""

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from benchmarks import books, rows
from benchmarks.process import environment, interrupted, say
from benchmarks.repeated import repeated
from benchmarks.streams import Streams
from benchmarks.table import Figure

SLOTS, CHUNKS, ANSWERS = 64, 30, 6_000
FIRST_S, GAP_S = 0.2, 0.03
"""Of the answers whose pieces are timed."""
GUESTS, HOSTED = 60, 200
"""Watchers at the socket, which takes 64, and watchers that the page would have."""
_LIMIT_S = 300.0


class Took(NamedTuple):
    """What a run took. told: by its watchers; empty without any."""

    user_s: float
    # user and system
    cpu_s: float
    wall_s: float
    told: dict[str, float]


def took(
    count: int,
    *,
    watchers: Sequence[str] | None = None,
    hosted: int = 0,
    checkout: Path | None = None,
    paced: bool = False,
) -> Took:
    """Run so many rows. watchers: arguments of ``benchmarks.watchers``. checkout: the code that is run; None: this one."""
    command = [sys.executable, "-m", *(["benchmarks.hosted", str(hosted)] if hosted else ["runner"])]
    env = environment() if checkout is None else {**environment(), "PYTHONPATH": str(checkout)}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="runner-bench-")))
        rows.write(folder, rows.plain(count))
        server = stack.enter_context(Streams(CHUNKS, first_s=FIRST_S * paced, gap_s=GAP_S * paced, stamped=paced))
        options = ["--model", "m", "--base-url", server.base_url, "--concurrency", str(SLOTS), "--quiet"]
        watching = None
        if watchers is not None:
            watching = subprocess.Popen(  # noqa: S603 - our own command
                (sys.executable, "-m", "benchmarks.watchers", str(folder / books.STORE), *watchers),
                env=environment(), stdout=subprocess.PIPE, start_new_session=True,
            )  # fmt: skip
            stack.callback(watching.kill)
        process = subprocess.Popen(  # noqa: S603 - as above
            (*command, "run", "prompts.jsonl", *options), cwd=folder, env=env, stdin=subprocess.DEVNULL, start_new_session=True
        )
        stack.callback(process.kill)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        served = server.end()
        if process.returncode or served.answers != count:
            raise RuntimeError(f"runner ended with {process.returncode}, {served.answers:,} of {count:,} answers")
        out = watching.communicate(timeout=_LIMIT_S)[0] if watching is not None else b""
    return Took(usage.ru_utime, usage.ru_utime + usage.ru_stime, served.wall_s, json.loads(out) if out.strip() else {})


def figures(count: int) -> list[Figure]:
    """Measure everything once. Shares are of a run without a watcher, made shortly before."""
    calm, paced = took(count // 10, paced=True), took(count // 10, paced=True, watchers=())
    deaf = took(count // 10, paced=True, watchers=("--deaf",))
    hosted = took(count // 10, paced=True, hosted=HOSTED)
    guests = took(count // 10, paced=True, watchers=("--number", str(GUESTS)))
    alone = took(count)
    most = [("one watcher", took(count, watchers=())), (f"{HOSTED} in the process", took(count, hosted=HOSTED))]
    return [
        *_shares(calm, paced, "one watcher"),
        *_shares(calm, deaf, "one that never reads"),
        *_shares(calm, hosted, f"{HOSTED} in the process"),
        *_shares(calm, guests, f"{GUESTS} at the socket"),
        Figure("a token is at the watcher, median", 1_000 * paced.told["delay_p50_s"], "ms"),
        Figure("a token is at the watcher, p95", 1_000 * paced.told["delay_p95_s"], "ms", at_most=200),
        Figure(f"the same, {GUESTS} at the socket", 1_000 * guests.told["delay_p95_s"], "ms"),
        *(Figure(f"CPU, answers at once, {who}", 100 * watched.cpu_s / alone.cpu_s, "%") for who, watched in most),
    ]


def _shares(alone: Took, watched: Took, who: str) -> list[Figure]:
    return [
        Figure(f"rate, {who}", 100 * alone.wall_s / watched.wall_s, "%", at_least=90),
        Figure(f"CPU, {who}", 100 * watched.cpu_s / alone.cpu_s, "%"),
    ]


def main() -> int:
    """Parse the command line, measure, print the table; return 1 if a target is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.watched", description=__doc__)
    parser.add_argument("--answers", type=int, default=ANSWERS, help=f"answers of a run ({ANSWERS:,})")
    parser.add_argument("--runs", type=int, default=5, help="the table shows their medians (5)")
    parser.add_argument("--against", type=Path, help="only compare a run without a watcher with that of another checkout")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, interrupted)
    if args.against is not None:
        return _pairs(args.answers, args.against, args.runs)
    about = f"{args.answers:,} answers of {CHUNKS} pieces, {SLOTS} slots"
    return repeated("watched", lambda: figures(args.answers), args.runs, about)


def _pairs(count: int, against: Path, pairs: int) -> int:
    """Compare user CPU without a watcher in pairs, each in another order than the one before."""
    ratios = []
    for number in range(pairs):
        places = [None, against] if number % 2 else [against, None]
        spent = {place: took(count, checkout=place).user_s for place in places}
        ratios.append(spent[None] / spent[against])
        say(f"pair {number + 1}: {spent[None]:.2f} s, {spent[against]:.2f} s, {ratios[-1]:.3f}")
    print(f"user CPU against {against.name}: median {statistics.median(ratios):.3f}, {min(ratios):.3f} to {max(ratios):.3f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
