"""One run, from its first row to its last export, killed again and again on the way."""

import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from processes import Ended, Started, assert_clean, installed, runner

from kills import judge
from kills.aims import AIMS, AT_WORK, Scene
from kills.endpoint import Endpoint, serving
from kills.judge import Bill, Figures, Session
from kills.rows import KINDS, TEMPLATE
from kills.shown import shown
from kills.store import Held, commits, look, take_back

LATE = ("last", "end")
"""Aims behind all others: they need the last rows."""
EACH = 4
"""Rows that are added to the prompt file for a kill behind the last commit."""
DEADLINE = "10m"
"""Ends a session whose harness was killed itself."""
CEILING = 16
"""Slots at most, where their number tunes itself."""
_OF_LOADING = "migration"
"""The aim that watches what an interpreter loads: a fork has that behind itself."""


class Form(NamedTuple):
    """How long a campaign is. concurrency: slots, or ``auto``. aims: kills of each kind. kind: a key of ``rows.KINDS``.

    workers: processes that send the requests of each session; 0: its own does.
    """

    items: int
    aims: dict[str, int]
    concurrency: str = "8"
    kind: str = "jsonl"
    workers: int = 0

    @property
    def slots(self) -> int:
        return CEILING if self.concurrency == "auto" else int(self.concurrency)


def form(items: int, kills: int, concurrency: str = "8", kind: str = "jsonl", workers: int = 0) -> Form:
    """Make a form of so many kills, ``LEAST`` or more, each kind with its share of them. With workers, a third is of those."""
    aims = {name: max(1, round(aim.long * kills / 200)) for name, aim in AIMS.items() if aim.long}
    if workers:
        aims = {
            name: count if name in ("creation", "checkpoint", "line") else max(1, count * 2 // 3) for name, count in aims.items()
        }
        aims["loss"] = kills // 3
    # what rounding has taken or given
    aims["work"] += kills - sum(aims.values())
    return Form(items, aims, concurrency, kind, workers)


LEAST = 2 * len(AIMS)
AROUND = ("start", "scan", "opening", "resume", "migration", "export", "end")
"""Aims before and behind the work: the short form has two runs, and these are in the second."""
SHORT = Form(240, {name: 0 if name in AROUND else aim.short for name, aim in AIMS.items()})
SHORT_AROUND = Form(240, {name: aim.short if name in AROUND else int(name in ("work", "last")) for name, aim in AIMS.items()})
_FEW = {**dict.fromkeys(AIMS, 0), "work": 2, "commit": 1, "last": 2}
AUTO = Form(60, _FEW, "auto", "csv")
PARQUET = Form(60, {**_FEW, "start": 1, "scan": 1}, "8", "parquet")


class Verdict(NamedTuple):
    """What came of a campaign."""

    form: Form
    seed: str
    sessions: list[Figures]
    bill: Bill
    # empty: no rule was broken
    broken: list[str]


@dataclass
class Campaign:
    """The moving parts of a campaign; ``carry_out`` makes and runs one."""

    form: Form
    seed: str
    folder: Path
    endpoint: Endpoint
    say: Callable[[str], None]
    # all sessions with the installed command; else with forks of an interpreter that is warm, as far as an aim allows it
    fresh: bool
    held: Held = field(default_factory=Held)
    sessions: list[Figures] = field(default_factory=list)
    shown: set[str] = field(default_factory=set)
    broken: list[str] = field(default_factory=list)
    # in the prompt file
    rows: int = 0
    # from a start to its first request, as last seen
    start_s: float = 1.0

    @property
    def store(self) -> Path:
        return self.folder / "runner.db"

    @property
    def input(self) -> Path:
        return self.folder / f"prompts.{self.form.kind}"

    def carry_out(self) -> None:
        """Kill by plan, until a rule is broken; then let the run end, and judge the whole."""
        self._write(self.form.items - EACH * (self.form.aims["last"] - 1))
        plan = self._plan()
        for place, name in enumerate(plan):
            if name == "last" and name in plan[:place]:
                self._write(EACH)
            coming = sum(one in AT_WORK for one in plan[place:])
            self._kill(name, share=(self.rows - len(self.held.items)) / (coming + 1))
            if self.broken:
                return
        # some may have ended before they could be killed
        for _ in plan:
            if not self.broken and sum(one.killed for one in self.sessions) < len(plan):
                self._kill("end", share=1.0)
        if not self.broken:
            self._end()

    def bill(self) -> Bill:
        """Add up what all sessions have sent."""
        return judge.bill(self.form.items, self.form.slots, self.endpoint.journal, self.sessions)

    def _plan(self) -> list[str]:
        draw = random.Random(f"{self.seed} plan")
        left = Counter(self.form.aims)
        # most of the rows are needed for a full log; and rows before anything can be gone on with, exported or taken back
        early = [name for name in ("creation", "checkpoint", "line") for _ in range(left.pop(name, 0))] + ["work"]
        late = [name for name in LATE for _ in range(left.pop(name, 0))][1:]
        left["work"] -= 1
        # only a kill at work leaves something to recover
        pairs = min(left["recovery"], left["work"])
        left.subtract({"recovery": pairs, "work": pairs})
        middle = [["work", "recovery"]] * pairs + [[name] for name in left.elements()]
        draw.shuffle(middle)
        draw.shuffle(late)
        return [*early, *chain.from_iterable(middle), "last", *late]

    def _write(self, more: int) -> None:
        """Add rows to the prompt file."""
        KINDS[self.form.kind](self.input, self.rows, self.rows + more)
        self.rows += more

    # -- one session

    def _kill(self, name: str, share: float) -> None:
        """One session, and its kill. share: rows that it may settle when it is killed at work."""
        draw = random.Random(f"{self.seed} {len(self.sessions) + 1}")
        if name == "migration":
            take_back(self.store)
        output, old = self._older_export(draw) if name == "export" else (None, None)
        command = ["export", "-o", output.name] if output is not None else self._command(name, draw)
        session = self._session(name, command)
        scene = self._scene(name, draw, share)
        with self._start(*command, aim=name) as process, ExitStack() as after:
            started = time.monotonic()
            AIMS[name].wait(scene, process, after)
            session.struck, session.missed = time.monotonic(), scene.missed
            process.signal(signal.SIGKILL)
            ended = process.ended()
        if scene.entries and name != "line":
            self.start_s = scene.entries[0].request.at - started
        session.export = self._export_now(output, old) if output is not None else None
        self._judge(session, ended)

    def _start(self, *command: str, aim: str = "") -> Started:
        return (installed if self.fresh or aim == _OF_LOADING else runner)(*command, cwd=self.folder)

    def _session(self, name: str, command: list[str]) -> Session:
        before = look(self.store, self.folder / "scratch")
        begin = len(self.endpoint.journal)
        return Session(name, " ".join(command), self.form.slots, self.rows, begin, before)

    def _scene(self, name: str, draw: random.Random, share: float) -> Scene:
        return Scene(
            input=self.input,
            store=self.store,
            endpoint=self.endpoint,
            draw=draw,
            slots=self.form.slots,
            rows=self.rows,
            after_requests=1 + int(draw.uniform(0, 2) * share),
            # the last rows are for the aims that need them
            most_requests=max(EACH, self.rows - len(self.held.items)) if name not in LATE else sys.maxsize,
            start_s=self.start_s,
            journal_before=len(self.endpoint.journal),
            booked_before=len(self.held.attempts),
            finished_before=self.held.finished,
        )

    def _command(self, name: str, draw: random.Random) -> list[str]:
        as_json = ["--json"] if name == "commit" or (name != "line" and draw.random() < 0.6) else []
        workers = ["--workers", str(self.form.workers)] if self.form.workers else []
        if self.held.runs and (name == "resume" or draw.random() < 0.4):
            return ["resume", "1", *as_json, *workers]
        most = ["--max-concurrency", str(CEILING)] if self.form.concurrency == "auto" else []
        address = ["--model", "m", "--base-url", self.endpoint.base_url, "--concurrency", self.form.concurrency, *most, *workers]
        template = ["--prompt", TEMPLATE] if self.form.kind != "jsonl" else []
        return ["run", self.input.name, *template, *address, "--silence-s", "3", "--deadline", DEADLINE, *as_json]

    def _judge(self, session: Session, ended: Ended) -> None:
        self.endpoint.settle()
        session.entries = self.endpoint.journal[session.begin :]
        session.code = None if ended.code == -signal.SIGKILL else ended.code
        session.shown = shown(ended.out, ended.err)
        self.held = session.after = look(self.store, self.folder / "scratch")
        self.shown |= session.shown.keys
        found = judge.figures(session)
        self.sessions.append(found)
        where = f"session {len(self.sessions)}, {session.aim}"
        try:
            assert_clean(ended)
        except AssertionError as error:
            self.broken.append(f"{where}: it was not quiet: {error}")
        self.broken += [f"{where}: {rule}" for rule in judge.after_session(session)]
        if session.aim == "migration":
            # a kill lands on one of its commits, and might have landed on each
            for held in commits(self.store, self.folder / "scratch"):
                self.broken += [f"{where}, at an earlier commit: {rule}" for rule in judge.intact(held)]
        settled = f"{len(self.held.items)} of {self.rows} rows settled, {found.requests} requests, {found.lost} lost"
        self.say(f"{where}: {found.landed}; {settled}; runner {session.command}")

    # -- exports

    def _older_export(self, draw: random.Random) -> tuple[Path, bytes | None]:
        """Choose a name, and leave an older export under it, or none."""
        output = self.folder / draw.choice(("answers.csv", "answers.jsonl"))
        if draw.random() < 0.3:
            output.unlink(missing_ok=True)
        return output, _bytes(output)

    def _export_now(self, output: Path, old: bytes | None) -> str:
        """Say what the name of a killed export holds, and leave a whole one under it."""
        now, whole = _bytes(output), self._exported(f"whole{output.suffix}")
        for left in self.folder.glob(".export-*"):
            left.unlink()
        complete = now == _bytes(whole)
        whole.replace(output)
        if now == old:
            return "absent" if now is None else "old"
        return "complete" if complete else f"{len(now or b'')} bytes"

    def _exported(self, name: str) -> Path:
        with self._start("export", "-o", name) as process:
            ended = process.ended()
        assert ended.code == 0, ended
        return self.folder / name

    # -- the end

    def _end(self) -> None:
        """Let the run end, look that nothing is sent behind it, and judge all of it."""
        for name in ("the rest", "nothing to do"):
            command = self._command("line", random.Random(self.seed))
            session = self._session(name, command)
            with self._start(*command) as process:
                ended = process.ended()
            self._judge(session, ended)
        if self.sessions[-1].requests:
            self.broken.append("requests were sent for a finished run")
        self.broken += judge.at_the_end(self.bill(), self.held, frozenset(self.shown))
        for name in ("final.csv", "final.jsonl"):
            self.broken += judge.exported(self._exported(name), self.form.items)


def carry_out(form: Form, seed: str, folder: Path, say: Callable[[str], None], *, fresh: bool = True) -> Verdict:
    """Carry a campaign out in an empty folder. The same seed gives the same plan, faults and pauses."""
    with serving(seed) as endpoint:
        campaign = Campaign(form, seed, folder.resolve(), endpoint, say, fresh)
        campaign.carry_out()
        return Verdict(form, seed, campaign.sessions, campaign.bill(), campaign.broken)


def _bytes(path: Path) -> bytes | None:
    return path.read_bytes() if path.exists() else None
