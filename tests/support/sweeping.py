"""The sweeps: the N-th write, or the N-th sync, of a store's files fails, for N = 1, 2, ... until a run meets no fault.

The real command runs under ``strace``, which makes the kernel's answer an error. As a script it is the long form:

    python tests/support/sweeping.py                                # all chains; a table, and exit code 1 when a rule is broken
    python tests/support/sweeping.py --scene resume --call sync     # some of them

strace counts the calls of each thread by itself, and a connection to the store has a thread of its own. So "once" is once in each
connection, and "on" is from the N-th call of each connection on. ``tests/flow/test_sweeps.py`` has a disk that is gone for all of
them at the same time.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from processes import HANG_S, Ended, Started, assert_clean, environment, rows
from raw_server import RawServer, Received, Reply, in_thread, openai_answer

ROWS = 8
CONCURRENCY = 2
CALLS = {"write": "pwrite64,pwritev,write,ftruncate", "sync": "fsync,fdatasync"}
ERRORS = ("EIO", "ENOSPC")
SCENES = {"start": 1, "resume": 1, "checkpoint": 1_000_000}
"""What a run does when it is hit, and the size of a row's own field: it begins, goes on, brings a large log into the store."""


class Fault(NamedTuple):
    """What goes wrong. when: "once" or "on". call: "write" or "sync"."""

    scene: str
    call: str
    error: str
    when: str
    n: int

    @property
    def injection(self) -> str:
        return f"inject={CALLS[self.call]}:error={self.error}:when={self.n}{'+' if self.when == 'on' else ''}"


def not_here() -> str | None:
    """Return the reason why no sweep can run here; None if one can."""
    found = shutil.which("strace")
    if sys.platform != "linux" or found is None:
        return "not run: there is no strace" if sys.platform == "linux" else "not run: strace is a program of Linux"
    probe = [found, "-f", "-o", os.devnull, "-e", "inject=fsync:error=EIO", sys.executable, "-c", "pass"]
    tried = subprocess.run(probe, capture_output=True, text=True, check=False)
    return f"not run: strace may not trace here ({tried.stderr.strip()[-200:]})" if tried.returncode else None


class Stage:
    """A server for many benches, each known by its key, with a journal for each; and the stores with which the scenes begin.

    slow_s: how long every answer takes.
    """

    def __init__(self, folder: Path, slow_s: float = 0.0) -> None:
        self.folder = folder
        self.journals: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self.server = RawServer(self._answer)
        self._slow_s = slow_s
        self._begun: dict[str, Path] = {}

    def _answer(self, request: Received) -> Reply:
        row = request.json["messages"][0]["content"]
        self.journals[request.headers["authorization"]][row] += 1
        return Reply((self._slow_s, *openai_answer(f"echo {row}").steps))

    def prepare(self, scenes: Iterable[str]) -> None:
        """Create the stores of scenes in which a run is continued: three rows are done."""
        for scene in scenes:
            if scene != "start":
                folder = self.folder / f"begun-{scene}"
                folder.mkdir()
                bench = Bench(self, folder, scene)
                ended = bench.run(bench.command("--limit", "3"))
                assert ended.code == 0, ended
                self._begun[scene] = bench.store

    def bench(self, scene: str, folder: Path) -> "Bench":
        """Set a scene in a folder of its own."""
        bench = Bench(self, folder, scene)
        if scene in self._begun:
            shutil.copy(self._begun[scene], bench.store)
        return bench


@contextmanager
def stage(*scenes: str, slow_s: float = 0.0) -> Iterator[Stage]:
    """Open a stage for these scenes."""
    with tempfile.TemporaryDirectory(prefix="sweep-") as name:
        opened = Stage(Path(name).resolve(), slow_s)
        with in_thread(opened.server):
            opened.prepare(scenes)
            yield opened


class Bench:
    """A folder with a prompt file and a store, as a scene begins."""

    def __init__(self, stage: Stage, folder: Path, scene: str, number: int = ROWS) -> None:
        self.stage, self.folder, self.scene, self.number = stage, folder, scene, number
        self.store = folder / "runner.db"
        lines = (json.dumps({"id": f"row-{one}", "prompt": f"row-{one}", "own": "x" * SCENES[scene]}) for one in range(number))
        (folder / "prompts.jsonl").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")

    @property
    def asked(self) -> Counter[str]:
        """How often the server received each row."""
        return self.stage.journals[f"Bearer {self.folder}"]

    @property
    def environment(self) -> dict[str, str]:
        return environment({"OPENAI_API_KEY": str(self.folder)})

    def command(self, *options: str) -> list[str]:
        address = ["--model", "m", "--base-url", self.stage.server.base_url, "--concurrency", str(CONCURRENCY)]
        return [sys.executable, "-m", "runner", "run", "prompts.jsonl", *address, "--json", *options]

    def again(self) -> list[str]:
        """Return the command under test. ``resume`` writes nothing before its own connection does."""
        return self.command() if self.scene == "start" else [sys.executable, "-m", "runner", "resume", "1", "--json"]

    def run(self, command: Sequence[str]) -> Ended:
        with Started(command, cwd=self.folder, env=self.environment) as process:
            try:
                return process.ended(HANG_S)
            finally:
                if process.alive:
                    # the started process is strace; the traced process is in its session
                    os.killpg(process.pid, signal.SIGKILL)

    def stored(self) -> set[str]:
        return {key for (key,) in rows(self.store, "SELECT key FROM items WHERE status = 'done'")}


def items_of(ended: Ended) -> set[str]:
    """Return the rows that a run has reported as done."""
    events = [json.loads(line) for line in ended.out.splitlines() if line.endswith("}")]
    return {one["id"] for one in events if one["event"] == "item" and one["status"] == "done"}


@dataclass
class Verdict:
    """The result of a run under a fault, and the rules that it broke."""

    hits: int = 0
    code: int = 0
    told: int = 0
    twice: int = 0
    sentence: str = ""
    broken: list[str] = field(default_factory=list)

    def hold(self, rule: bool, words: str) -> None:
        if not rule:
            self.broken.append(words)


def hit(fault: Fault, opened: Stage) -> Verdict:
    """Run the scene under the fault, then once more without, and check all rules."""
    with tempfile.TemporaryDirectory(prefix=f"{fault.scene}-", dir=opened.folder) as name:
        bench = opened.bench(fault.scene, Path(name))
        log = bench.folder / "strace.log"
        # in the scene "checkpoint" the log is brought over by writes to the store's own file, and these alone are hit
        endings = ("",) if fault.scene == "checkpoint" else ("", "-wal", "-shm", "-journal")
        files = [word for ending in endings for word in ("-P", f"{bench.store}{ending}")]
        tracing = ["strace", "-f", "--seccomp-bpf", "-qq", "-o", str(log), *files]
        tracing += ["-e", f"trace={CALLS[fault.call]}", "-e", fault.injection]
        try:
            ended = bench.run([*tracing, *bench.again()])
        except AssertionError as error:
            return Verdict(broken=[f"hangs: {error}"])
        verdict = Verdict(hits=log.read_text(errors="replace").count("(INJECTED)"), code=ended.code)
        judge(bench, ended, verdict)
        go_on(bench, ended, verdict)
    return verdict


def judge(bench: Bench, ended: Ended, verdict: Verdict) -> None:
    """Check what must be true of a run that met a fault."""
    told, stored = items_of(ended), bench.stored()
    verdict.told, verdict.sentence = len(told), ended.err.strip()
    verdict.hold(told <= stored, f"told to be done, but not in the store: {sorted(told - stored)}")
    verdict.hold(verdict.hits > 0 or ended.code == 0, f"exit code {ended.code} without a fault: {ended.err}")
    verdict.hold(ended.code in (0, 4), f"exit code {ended.code}: {ended.err}")
    if ended.code == 0:
        verdict.hold(len(stored) == bench.number, f"exit code 0 with {len(stored)} of {bench.number} rows")
        verdict.hold(not ended.err, f"exit code 0, but it said: {ended.err}")
    else:
        lines = ended.err.splitlines()
        one = len(lines) == 1 and lines[0].startswith("runner: ") and str(bench.store) in lines[0]
        verdict.hold(one, f"not one clear sentence: {ended.err}")
    try:
        assert_clean(ended)
    except AssertionError as error:
        verdict.broken.append(f"not clean: {error}")
    if bench.store.exists() and bench.store.stat().st_size:
        verdict.hold(rows(bench.store, "PRAGMA integrity_check") == [("ok",)], "the store is damaged")


def go_on(bench: Bench, ended: Ended, verdict: Verdict) -> None:
    """Run the same command without faults, and check that no row reported or stored as done is sent again."""
    kept, before = bench.stored() | items_of(ended), bench.asked.copy()
    after = bench.run(bench.command())
    verdict.hold(after.code == 0 and not after.err, f"does not go on: exit code {after.code}: {after.err}")
    found = rows(bench.store, "SELECT key, status FROM items ORDER BY position")
    verdict.hold(found == [(f"row-{one}", "done") for one in range(bench.number)], f"not every row once: {found}")
    verdict.hold(rows(bench.store, "PRAGMA integrity_check") == [("ok",)], "the store is damaged in the end")
    again = {row for row in kept if bench.asked[row] > before[row]}
    verdict.hold(not again, f"bought again although finished: {sorted(again)}")
    verdict.twice = sum(times - 1 for times in bench.asked.values())
    verdict.hold(verdict.twice <= CONCURRENCY, f"{verdict.twice} rows were bought twice, with {CONCURRENCY} in flight")
    doubled = rows(bench.store, "SELECT item_key, number FROM attempts GROUP BY 1, 2 HAVING count(*) > 1")
    verdict.hold(not doubled, f"on the books twice: {doubled}")


# the long form


class Chain(NamedTuple):
    """All N of one kind of fault."""

    scene: str
    call: str
    error: str
    when: str

    def numbers(self) -> Iterator[int]:
        """Count up. A checkpoint writes a thousand similar pages, so there the steps grow."""
        n = 1
        while True:
            yield n
            n += max(1, n // 4) if self.scene == "checkpoint" else 1


def sweep(chain: Chain, opened: Stage) -> tuple[str, list[str]]:
    """Go through a chain until a run meets no fault. Return its line of the table and the broken rules."""
    verdicts: list[Verdict] = []
    broken: list[str] = []
    for n in chain.numbers():
        verdict = hit(Fault(*chain, n), opened)
        verdicts.append(verdict)
        broken += [f"{' '.join(chain)} N={n}: {words}" for words in verdict.broken]
        if verdict.hits == 0:
            break
    struck = [one for one in verdicts if one.hits]
    stopped, through = sum(one.code == 4 for one in struck), sum(one.code == 0 for one in struck)
    told, twice = sum(one.told for one in struck), sum(one.twice for one in struck)
    figures = (n, len(verdicts), sum(one.hits for one in struck), stopped, through, told, twice, len(broken))
    return " | ".join([*(f"{word:10}" for word in chain), *(f"{figure:7,}" for figure in figures)]), broken


FIGURES = ("clean N", "runs", "hits", "exit 4", "exit 0", "told", "twice", "broken")


def main() -> int:
    """Sweep all chains, or only the given ones."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, known in (("scene", tuple(SCENES)), ("call", tuple(CALLS)), ("error", ERRORS), ("when", ("once", "on"))):
        parser.add_argument(f"--{name}", choices=known, action="append", default=None)
    parser.add_argument("--jobs", type=int, default=2, help="runs at the same time (default: 2)")
    given = parser.parse_args()
    if why := not_here():
        print(f"the sweeps were {why}", file=sys.stderr)
        return 1
    chains = [
        Chain(scene, call, error, when)
        for scene in given.scene or SCENES
        for call in given.call or CALLS
        for error in given.error or ERRORS
        for when in given.when or ("once", "on")
    ]
    print(" | ".join([*(f"{word:10}" for word in Chain._fields), *(f"{word:>7}" for word in FIGURES)]), flush=True)
    everything: list[str] = []
    with stage(*(given.scene or SCENES)) as opened, ThreadPoolExecutor(given.jobs) as pool:
        for line, broken in pool.map(lambda chain: sweep(chain, opened), chains):
            print(line, flush=True)
            everything += broken
    for words in everything:
        print(words[:2000])
    print(f"{len(everything)} rules broken" if everything else "no rule was broken")
    return 1 if everything else 0


if __name__ == "__main__":
    sys.exit(main())
