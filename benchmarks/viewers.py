"""``python -m benchmarks.viewers``: what a run loses to those who look at its page, and how late they are. See the README."""

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from benchmarks import books, rows
from benchmarks.process import environment, interrupted
from benchmarks.repeated import repeated
from benchmarks.streams import Streams
from benchmarks.table import Figure

SLOTS, CHUNKS, ANSWERS, VIEWERS = 64, 30, 1_200, 200
FIRST_S, GAP_S = 0.2, 0.03
_LIMIT_S = 300.0


class Took(NamedTuple):
    """What a run took, and what its first viewer was told."""

    wall_s: float
    cpu_s: float
    told: dict[str, float]


def took(count: int, viewers: int, *, deaf: bool = False) -> Took:
    """Run so many rows, with a page if there are viewers. deaf: one more opens the stream and never reads."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="runner-bench-")))
        rows.write(folder, rows.plain(count))
        server = stack.enter_context(Streams(CHUNKS, first_s=FIRST_S, gap_s=GAP_S, stamped=True))
        options = ["--model", "m", "--base-url", server.base_url, "--concurrency", str(SLOTS), "--quiet"]
        watching = None
        if viewers or deaf:
            port = _free()
            options += ["--web", "--port", str(port)]
            words = (str(folder / books.STORE), str(port), "--number", str(viewers), *(["--deaf"] if deaf else []))
            watching = subprocess.Popen(  # noqa: S603 - our own command
                (sys.executable, "-m", "benchmarks.page_viewers", *words),
                env=environment(), stdout=subprocess.PIPE, start_new_session=True,
            )  # fmt: skip
            stack.callback(watching.kill)
        process = subprocess.Popen(  # noqa: S603 - as above
            (sys.executable, "-m", "runner", "run", "prompts.jsonl", *options),
            cwd=folder, env=environment(), stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        stack.callback(process.kill)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        served = server.end()
        if process.returncode or served.answers != count:
            raise RuntimeError(f"runner ended with {process.returncode}, {served.answers:,} of {count:,} answers")
        out = watching.communicate(timeout=_LIMIT_S)[0] if watching is not None else b""
    return Took(served.wall_s, usage.ru_utime + usage.ru_stime, json.loads(out) if out.strip() else {})


def _free() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def figures(count: int) -> list[Figure]:
    """Measure everything once. Shares are of a run without a page, made shortly before."""
    alone, one, many, deaf = took(count, 0), took(count, 1), took(count, VIEWERS), took(count, 1, deaf=True)
    return [
        Figure("rate, one viewer", 100 * alone.wall_s / one.wall_s, "%", at_least=90),
        Figure(f"rate, {VIEWERS} viewers", 100 * alone.wall_s / many.wall_s, "%", at_least=90),
        Figure("rate, one viewer and one that never reads", 100 * alone.wall_s / deaf.wall_s, "%", at_least=90),
        Figure(f"CPU of the run and its page, {VIEWERS} viewers", 100 * many.cpu_s / alone.cpu_s, "%"),
        Figure("a token is at the viewer, median", 1_000 * one.told["delay_p50_s"], "ms"),
        Figure("a token is at the viewer, p95", 1_000 * one.told["delay_p95_s"], "ms", at_most=250),
        Figure(f"the same, {VIEWERS} viewers", 1_000 * many.told["delay_p95_s"], "ms", at_most=250),
    ]


def main() -> int:
    """Parse the command line, measure, print the table; return 1 if a target is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.viewers", description=__doc__)
    parser.add_argument("--answers", type=int, default=ANSWERS, help=f"answers of a run ({ANSWERS:,})")
    parser.add_argument("--runs", type=int, default=3, help="the table shows their medians (3)")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, interrupted)
    about = f"{args.answers:,} answers of {CHUNKS} pieces, {SLOTS} slots"
    return repeated("viewers", lambda: figures(args.answers), args.runs, about)


if __name__ == "__main__":
    sys.exit(main())
