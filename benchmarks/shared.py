"""``python -m benchmarks.shared``: four runs that share one limit: how much of it they use, how evenly, and after a kill."""

import argparse
import asyncio
import os
import platform
import signal
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any, NamedTuple

import uvloop

from benchmarks import books, child, rows
from benchmarks.process import Runner, say
from benchmarks.table import Figure, missed, render
from runner.simulator import Behaviour, Simulator

_RUNS, _ROWS, _RPM, _SLOTS = 4, 100_000, 1_200, 60
_PAIRS, _PAIR_ROWS = 7, 5_000
_WARM_S, _WINDOW_S = 40.0, 90.0
_FIRST_S = 4.0
SECOND = 1 / 60


Scenario = Callable[[Path, "Sharing"], Coroutine[Any, Any, list[Figure]]]


class Sharing(NamedTuple):
    """How many runs there are, and further options of each."""

    runs: int = _RUNS
    options: tuple[str, ...] = ()


class Seen(NamedTuple):
    """What was seen at one moment."""

    at: float
    completions: int
    in_flight_s: float
    done: tuple[int, ...]


def main() -> int:
    """Parse the command line, measure, print the table; return 1 if a target is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.shared", description=__doc__)
    parser.add_argument("--only", choices=("known", "unknown", "alone"), help="one of the scenarios")
    parser.add_argument("--times", type=int, default=3, help="times that each is measured; the table shows medians (3)")
    parser.add_argument("--apart", action="store_true", help="with --no-share, to compare")
    parser.add_argument("--runs", type=int, default=_RUNS, help="runs that share the limit (4)")
    args = parser.parse_args()
    sharing = Sharing(args.runs, ("--no-share",) if args.apart else ())
    found: dict[str, list[list[Figure]]] = {}
    for name, scenario in SCENARIOS.items():
        if args.only in (None, name):
            for number in range(1, args.times + 1):
                with (
                    tempfile.TemporaryDirectory(prefix="rb-") as folder,
                    asyncio.Runner(loop_factory=uvloop.new_event_loop) as loop,
                ):
                    found.setdefault(name, []).append(loop.run(_scenario(scenario, Path(folder), sharing)))
                say(f"{name} {number}: {', '.join(f'{one.what} {one.text(one.value)}' for one in found[name][-1])}")
    load = statistics.fmean(os.getloadavg())
    print(f"Python {platform.python_version()}, {os.cpu_count()} CPUs, load {load:.1f}, median of {args.times}\n")
    print(render(found))
    return int(any(missed(runs) for runs in found.values()))


async def _scenario(scenario: Scenario, folder: Path, sharing: Sharing) -> list[Figure]:
    # no run of anybody else is found
    os.environ["XDG_RUNTIME_DIR"] = str(folder)
    return await scenario(folder, sharing)


async def known(folder: Path, sharing: Sharing) -> list[Figure]:
    """Four runs with the same limit of requests per minute, which the server reports, and their users have set."""
    behaviour = Behaviour(first_token_s=0.3, chunk_s=0.0, tokens=20, rpm=_RPM, fill=SECOND)
    async with Simulator(behaviour) as server, AsyncExitStack() as stack:
        processes = await _start(stack, folder, server, sharing, "--rpm", str(_RPM))
        begin, end = await _window(folder, server)
        used = (end.completions - begin.completions) / ((end.at - begin.at) * _RPM / 60)
        figures = [Figure("of the limit used", 100 * used, "%", at_least=95), *_common(server, begin, end)]
        await _stop(processes)
        return figures


async def unknown(folder: Path, sharing: Sharing) -> list[Figure]:
    """Four runs at a server that does not say how many requests it takes at once; then the one that serves is killed."""
    behaviour = Behaviour(first_token_s=_FIRST_S, chunk_s=0.0, tokens=20, max_in_flight=_SLOTS)
    async with Simulator(behaviour) as server, AsyncExitStack() as stack:
        processes = await _start(stack, folder, server, sharing)
        begin, end = await _window(folder, server)
        used = (end.in_flight_s - begin.in_flight_s) / ((end.at - begin.at) * _SLOTS)
        figures = [Figure("of the limit used", 100 * used, "%", at_least=95), *_common(server, begin, end)]
        if len(processes) > 1 and not sharing.options:
            figures += await _killed(processes, server)
        await _stop(processes)
        return figures


async def _killed(processes: list[Runner], server: Simulator) -> list[Figure]:
    """Kill the run that serves, the first one, and see when the others send again, and when all slots are used."""
    processes[0].kill()
    killed = time.monotonic()
    # what was on its way when it died may still arrive
    await asyncio.sleep(0.02)
    before = server.stats()["requests"]
    sends_s = await _until(lambda: server.stats()["requests"] > before, killed)
    at, open_s = time.monotonic(), server.stats()["in_flight_s"]
    while True:
        await asyncio.sleep(0.05)
        last, last_s, at, open_s = at, open_s, time.monotonic(), server.stats()["in_flight_s"]
        if open_s - last_s >= 0.9 * _SLOTS * (at - last):
            break
    full_s = at - killed
    return [
        Figure("kill: the others send again after", 1000 * sends_s, "ms", at_most=1000),
        Figure("kill: 90 % of the slots used after", 1000 * full_s, "ms"),
    ]


async def alone(folder: Path, _: Sharing) -> list[Figure]:
    """What a socket costs at which nobody comes: CPU time of a run with and without it, in alternating pairs."""
    took: dict[str, list[float]] = {"--share": [], "--no-share": []}
    async with Simulator(Behaviour(first_token_s=0.0, chunk_s=0.0, tokens=5)) as server:
        for number in range(_PAIRS):
            for option in ("--share", "--no-share") if number % 2 == 0 else ("--no-share", "--share"):
                own = folder / f"{number}{option}"
                own.mkdir()
                rows.write(own, rows.plain(_PAIR_ROWS))
                every = ("--model", "m", "--base-url", server.base_url("openai"), "--concurrency", "64", "--quiet", option)
                ran = await asyncio.to_thread(child.run, own, "run", "prompts.jsonl", *every, limit_s=600)
                took[option].append(1000 * ran.cpu_s)
    ratio = statistics.median(one / other for one, other in zip(took["--share"], took["--no-share"], strict=True))
    return [
        Figure(f"CPU of {_PAIR_ROWS:,} rows, alone", statistics.median(took["--share"]), "ms"),
        Figure("CPU, --share / --no-share", ratio, "", at_most=1.03),
    ]


async def _start(stack: AsyncExitStack, folder: Path, server: Simulator, sharing: Sharing, *options: str) -> list[Runner]:
    processes = []
    for number in range(sharing.runs):
        own = folder / str(number)
        own.mkdir()
        rows.write(own, rows.plain(_ROWS))
        every = ("--model", "m", "--base-url", server.base_url("openai"), *options, *sharing.options)
        runner = Runner(own, *every, env={"OPENAI_API_KEY": "k"})
        processes.append(await stack.enter_async_context(runner))
        if number == 0:
            # it is to be the one that serves
            await _until(lambda: server.stats()["requests"] > 0, time.monotonic())
    return processes


async def _window(folder: Path, server: Simulator) -> tuple[Seen, Seen]:
    """Wait until all runs are at work and the slots were found, then see what happens in a minute."""
    await _until(lambda: all(_done(folder)), time.monotonic(), 0.5)
    await asyncio.sleep(_WARM_S)
    begin = _seen(folder, server)
    await asyncio.sleep(_WINDOW_S)
    return begin, _seen(folder, server)


def _seen(folder: Path, server: Simulator) -> Seen:
    stats = server.stats()
    return Seen(time.monotonic(), stats["completions"], stats["in_flight_s"], tuple(_done(folder)))


def _done(folder: Path) -> list[int]:
    found = []
    for number in range(len(list(folder.glob("[0-9]*")))):
        count = 0
        # a run may just be making its store
        with suppress(sqlite3.OperationalError):
            count = books.statuses(folder / str(number)).get("done", 0)
        found.append(count)
    return found


def _common(server: Simulator, begin: Seen, end: Seen) -> list[Figure]:
    shares = [last - first for first, last in zip(begin.done, end.done, strict=True)]
    mean = statistics.fmean(shares)
    uneven = max(abs(share - mean) for share in shares) / mean
    stats = server.stats()
    return [
        Figure("refused, of all requests", 100 * stats["refused"] / stats["requests"], "%", at_most=0.5),
        Figure("uneven by", 100 * uneven, "%", at_most=10),
    ]


async def _until(reached: Callable[[], bool], since: float, poll_s: float = 0.002) -> float:
    async with asyncio.timeout(120):
        while not reached():  # noqa: ASYNC110 - the server has no event to wait for
            await asyncio.sleep(poll_s)
    return time.monotonic() - since


async def _stop(processes: list[Runner]) -> None:
    await asyncio.gather(*(process.stop() for process in processes))


SCENARIOS = {"known": known, "unknown": unknown, "alone": alone}

if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main())
