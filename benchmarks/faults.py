"""What the loss of a worker, of the network or of the driver costs: ``python -m benchmarks.faults``. See README.md.

Three workers join a run, each with a server of its own beside it, so that every request shows who has sent it. A few seconds
later something happens to one of them. Linux, and root for the cuts of a network.
"""

import argparse
import asyncio
import os
import platform
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import uvloop

from benchmarks import books, rows
from benchmarks.driver import free_port
from benchmarks.process import environment, interrupted, say
from benchmarks.sites import Road, Site, Tunnel, apart
from benchmarks.table import Figure, missed, render

WORKERS, SLOTS, PAUSE_S, CHUNKS = 3, 90, 0.3, 20
ROWS = 6_000
BEFORE_S = 5.0
"""Seconds of calm, of which the last four are the pace of each worker."""
WATCHED_S = 8.0
"""Seconds after it in which the others must keep their pace."""
_LIMIT_S = 180.0
_POLL_S = 0.005


class Scene:
    """A run with its workers and their servers."""

    def __init__(self, folder: Path, count: int) -> None:
        rows.write(folder, rows.plain(count))
        self.folder, self.rows = folder, count
        self.sites = [Site(CHUNKS, PAUSE_S) for _ in range(WORKERS)]
        self.workers: list[subprocess.Popen[bytes]] = []
        self.driver: subprocess.Popen[bytes] | None = None
        self.at = 0.0

    @property
    def victim(self) -> Site:
        """The server of the worker to which it happens."""
        return self.sites[0]

    def fetch(self, query: str) -> list[tuple[float, ...]]:
        """Read the store."""
        with closing(sqlite3.connect(f"file:{self.folder / books.STORE}?mode=ro", uri=True, timeout=30)) as store:
            return store.execute(query).fetchall()

    @property
    def words(self) -> str:
        """What the driver has said."""
        return (self.folder / "driver.log").read_text(errors="replace")

    def start(self, *options: str) -> subprocess.Popen[bytes]:
        """Start the driver in its folder."""
        return self._start("driver", "run", "prompts.jsonl", "--provider", "openai", "--model", "m", "--concurrency", str(SLOTS),
                           "--base-url", self.sites[-1].url, "--deadline", f"{_LIMIT_S:g}", *options)  # fmt: skip

    def join(self, number: int, place: str, port: int, space: str | None) -> subprocess.Popen[bytes]:
        """Start a worker beside its server."""
        token = str(self.folder / f"{books.STORE}.{port}.token")
        words = ("worker", "--connect", place, "--token-file", token, "--base-url", self.sites[number].url)
        return self._start(f"worker{number}", *words, before=("ip", "netns", "exec", space) if space else ())

    def _start(self, name: str, *words: str, before: Sequence[str] = ()) -> subprocess.Popen[bytes]:
        with (self.folder / f"{name}.log").open("ab") as log:
            return subprocess.Popen(  # noqa: S603 - our own commands
                (*before, sys.executable, "-m", "runner", *words), cwd=self.folder, env=environment(), stdin=subprocess.DEVNULL,
                stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip

    def end(self) -> None:
        """End what still runs."""
        for process in (*self.workers, *filter(None, [self.driver])):
            if process.poll() is None:
                process.kill()
            process.wait()


async def until(condition: Callable[[], object], what: str, scene: Scene, limit_s: float = _LIMIT_S) -> float:
    """Wait for a condition; return the seconds that it took. Raises RuntimeError."""
    begin = time.monotonic()
    while not condition():
        if time.monotonic() - begin > limit_s:
            raise RuntimeError(f"waited {limit_s:g} s in vain for {what}: {scene.words[-1500:]}")
        await asyncio.sleep(_POLL_S)
    return time.monotonic() - begin


@contextmanager
def begun(count: int = ROWS) -> Iterator[Scene]:
    """Make a folder for a scene, and end what it has started."""
    with tempfile.TemporaryDirectory(prefix="runner-bench-") as name:
        scene = Scene(Path(name), count)
        try:
            yield scene
        finally:
            scene.end()


async def with_workers(scene: Scene, road: Road | None = None, tunnel: bool = False) -> Tunnel | None:
    """Start driver, servers and workers, and let them work for a while. Return the tunnel of the first worker, if it has one."""
    port, host, proxy = free_port(), road.listen if road is not None else "127.0.0.1", None
    spaces = [road.space if road is not None and number == 0 else None for number in range(WORKERS)]
    for site, space in zip(scene.sites, spaces, strict=True):
        await site.listen(space)
    scene.driver = scene.start("--listen", f"{host}:{port}")
    if tunnel:
        proxy = Tunnel(port)
        await proxy.listen()
    token = scene.folder / f"{books.STORE}.{port}.token"
    await until(token.exists, "the listener", scene)
    for number, space in enumerate(spaces):
        place = proxy.address if proxy is not None and number == 0 else f"{host}:{port}"
        scene.workers.append(scene.join(number, place, port, space))
    await until(lambda: all(len(site.answered) > 50 for site in scene.sites), "answers of all workers", scene)
    await asyncio.sleep(BEFORE_S)
    scene.at = time.time()
    return proxy


async def finished(scene: Scene) -> None:
    """Wait until the run has come to its end, with all rows done."""
    assert scene.driver is not None
    driver = scene.driver
    await until(lambda: driver.poll() is not None, "the end of the run", scene)
    done = books.statuses(scene.folder)
    if driver.returncode != 0 or done != {"done": scene.rows}:
        raise RuntimeError(f"the run ended with {driver.returncode} and {done}: {scene.words[-1500:]}")


def losses(scene: Scene, least_s: float, most_s: float) -> list[Figure]:
    """Return what the loss of the first worker has cost."""
    known = [end for (end,) in scene.fetch("SELECT started_at + duration_s FROM attempts WHERE error_code = 'worker_lost'")]
    requests = sum(len(site.arrived) for site in scene.sites)
    found = [
        Figure("known after", max(known, default=scene.at + 999) - scene.at, "s", at_most=most_s),
        Figure("requests that were out", len(known)),
        Figure("requests beyond rows and those", max(0, requests - scene.rows - len(known)), at_most=0),
        Figure("pace of the others, worst second / before", 100 * pace(scene), "%", at_least=80),
    ]
    return [*found, Figure("known not before", min(known, default=0.0) - scene.at, "s", at_least=least_s)] if least_s else found


def pace(scene: Scene) -> float:
    """Return the fewest answers of the others in a second after it, as a share of those before it."""
    times = [at for site in scene.sites[1:] for at in site.answered]
    before = sum(scene.at - 4 <= at < scene.at for at in times) / 4
    last = min(scene.at + WATCHED_S, max(times) - 1)
    begins = [scene.at + step / 4 for step in range(int((last - scene.at) * 4) - 3)]
    return min(sum(begin <= at < begin + 1 for at in times) for begin in begins) / before


async def killed() -> list[Figure]:
    """Kill a worker."""
    with begun() as scene:
        await with_workers(scene)
        scene.workers[0].send_signal(signal.SIGKILL)
        await finished(scene)
        return losses(scene, 0.0, 0.5)


async def stopped() -> list[Figure]:
    """Stop a worker, and let it go on when it has been given up for two seconds."""
    with begun() as scene:
        await with_workers(scene)
        scene.workers[0].send_signal(signal.SIGSTOP)
        await until(lambda: "was lost" in scene.words, "the loss", scene)
        await asyncio.sleep(2)
        awake = time.time()
        scene.workers[0].send_signal(signal.SIGCONT)
        await finished(scene)
        unknown = "SELECT count(*) FROM attempts WHERE error_code = 'worker_lost' AND sent AND input_tokens IS NULL"
        return [
            *losses(scene, 5.0, 6.0),
            Figure("requests of it after that", sum(at > awake for at in scene.victim.arrived), at_most=0),
            Figure("late answers that are neither kept nor booked", scene.fetch(unknown)[0][0], at_most=0),
        ]


def cut(sides: Sequence[str], *, tunnel: bool) -> Callable[[], Coroutine[Any, Any, list[Figure]]]:
    """Return a scene in which nothing comes to these sides any more. tunnel: through a proxy, which goes on to listen."""

    async def scene_of() -> list[Figure]:
        with ExitStack() as stack:
            scene = stack.enter_context(begun())
            road = None if tunnel else stack.enter_context(apart())
            way = await with_workers(scene, road, tunnel) or road
            assert way is not None
            way.cut(sides)
            await finished(scene)
            return losses(scene, 5.0, 6.0)

    return scene_of


async def driver_killed() -> list[Figure]:
    """Kill the driver; then go on with the run."""
    with begun(3_000) as scene:
        await with_workers(scene)
        assert scene.driver is not None
        scene.driver.send_signal(signal.SIGKILL)
        gone_s = await until(lambda: all(worker.poll() is not None for worker in scene.workers), "the end of the workers", scene)
        scene.driver.wait()
        saved = scene.fetch("SELECT count(*) FROM attempts")[0][0]
        out = sum(len(site.arrived) for site in scene.sites) - saved
        scene.driver = scene.start("--workers", "2")
        await finished(scene)
        requests = sum(len(site.arrived) for site in scene.sites)
        return [
            Figure("no worker left after", gone_s, "s", at_most=2),
            Figure("requests that were out", out, at_most=SLOTS),
            Figure("rows that were sent twice", requests - scene.rows, at_most=SLOTS),
        ]


async def driver_stopped() -> list[Figure]:
    """Stop the driver of local workers for 40 seconds."""
    with begun(4_000) as scene:
        for site in scene.sites:
            await site.listen(None)
        driver = scene.driver = scene.start("--workers", str(WORKERS))
        await until(lambda: len(scene.sites[-1].answered) > 500, "answers", scene)
        children = _children(driver.pid)
        driver.send_signal(signal.SIGSTOP)
        begin = time.monotonic()
        await until(lambda: not any(_alive(pid) for pid in children), "the end of the workers", scene)
        ended_s = time.monotonic() - begin
        await asyncio.sleep(max(0.0, 40 - ended_s))
        before = len(scene.sites[-1].arrived)
        driver.send_signal(signal.SIGCONT)
        again_s = await until(lambda: len(scene.sites[-1].arrived) > before, "new requests", scene)
        await finished(scene)
        return [
            Figure("workers", len(children)),
            Figure("they ended after", ended_s, "s", at_most=36),
            Figure("after it goes on, the next request", again_s, "s"),
            Figure("rows that were sent twice", len(scene.sites[-1].arrived) - scene.rows, at_most=SLOTS),
        ]


def _children(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def _alive(pid: str) -> bool:
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    return False


_SIDES = {"both directions": ("driver", "worker"), "to the worker": ("worker",), "to the driver": ("driver",)}
SCENES: dict[str, Callable[[], Coroutine[Any, Any, list[Figure]]]] = {
    "killed": killed,
    "stopped": stopped,
    **{f"cable cut, {words}": cut(sides, tunnel=False) for words, sides in _SIDES.items()},
    **{f"tunnel cut, {words}": cut(sides, tunnel=True) for words, sides in _SIDES.items()},
    "driver killed": driver_killed,
    "driver stopped": driver_stopped,
}


def main() -> int:
    """Parse the command line, measure, print the table; return 1 if a target is missed or a scene could not be measured."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.faults", description=__doc__)
    parser.add_argument("--only", action="append", choices=SCENES, metavar="NAME", help=f"one of {', '.join(SCENES)}")
    parser.add_argument("--runs", type=int, default=3, help="runs of each scene; the table shows their median (3)")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, interrupted)
    found: dict[str, list[list[Figure]]] = {}
    failed = 0
    for name in args.only or SCENES:
        for number in range(1, args.runs + 1):
            try:
                with asyncio.Runner(loop_factory=uvloop.new_event_loop) as loop:
                    figures = loop.run(SCENES[name]())
            except RuntimeError as error:
                failed += 1
                say(f"{name}, run {number}: not measured: {error}")
                continue
            found.setdefault(name, []).append(figures)
            say(f"{name}, run {number}: {', '.join(f'{one.what} {one.text(one.value)}' for one in figures)}")
    load = os.getloadavg()[0]
    print(f"Python {platform.python_version()}, {os.cpu_count()} CPUs, load {load:.1f}, median of {args.runs}\n")
    print(render(found))
    return int(failed > 0 or any(missed(runs) for runs in found.values()))


if __name__ == "__main__":
    sys.exit(main())
