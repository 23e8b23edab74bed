"""Kills sessions with batches at each of their points, and judges what comes of it by the simulator's own journal.

``python -m tests.kills.batches`` kills at all points; a test kills at some. ``kills.points`` says what a point is. Each case is
one run of a form in a folder and at a simulator of its own: its sessions one after the other, one of them killed at a point, then
``runner resume`` until the run is done.
"""

import argparse
import asyncio
import json
import random
import signal
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

if __name__ == "__main__":
    # as pytest does for the tests (pythonpath in pyproject.toml): their helpers are top-level modules
    sys.path.insert(0, str(Path(__file__).parents[1]))
    sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

import forks
import httpx
import msgspec
from processes import Ended, assert_clean, runner

from kills import points
from runner.batches import OPEN_STATES
from runner.money import PICO
from runner.simulator import Behaviour, Line, Simulator, Statement, parse_prices
from runner.store.batch_reading import read_batches
from runner.store.reader import StoreReader

DIALECTS = ("openai", "anthropic")
ROWS, FILE_ROWS = 12, 5
KEY = "sk-test-0000000000000001"
SPEED = 50.0
"""How many times faster the waits of a session are."""
_HEADERS = {"authorization": f"Bearer {KEY}", "x-api-key": KEY, "anthropic-version": "2023-06-01"}
_KEYS = {"OPENAI_API_KEY": KEY, "ANTHROPIC_API_KEY": KEY}
_PRICE = {"m": {"input": 2.0, "output": 8.0, "batch": 0.5}}
_SCHEMA = ("--fields", "grade: good|bad, n: int", "--repairs", "4", "--attempts", "9")
_GOES_ON = (0, 1, 5, 7)
_MOST_SESSIONS = 8
HANG_S = 60.0


class Form(NamedTuple):
    """What is run. behaviour: of the simulator. options: of all sessions that begin or continue the run.

    sessions: what the sessions are, one after the other: ``run`` with further words, or other commands. live: rows may be live
    when a session is killed, so that their answers may be lost.
    """

    behaviour: Mapping[str, Any] = MappingProxyType({})
    options: tuple[str, ...] = ()
    sessions: tuple[str, ...] = ("run",)
    live: bool = False
    mode: str = "batch"
    file_rows: int = FILE_ROWS
    # what follows a session that was killed is the next one, not the same once more
    onwards: bool = False


FORMS = {
    "plain": Form(),
    # what expires, is refused, or does not fit goes into further batches
    "a second round": Form(
        behaviour={"batch_expire": 0.25, "batch_fail": 0.15, "batch_fail_status": 500, "faults": {"invalid_json": 0.3}},
        options=_SCHEMA,
    ),
    "detached": Form(sessions=("run --detach", "run --detach", "run")),
    "cancelled": Form(
        behaviour={"batch_delay_s": 0.6, "batch_cancel_done": 0.5, "batch_cancel_s": 0.1},
        sessions=("run --detach", "batches cancel b1 b2", "batches fetch 1", "run"),
    ),
    "cancelled too late": Form(
        behaviour={"batch_delay_s": 0.6, "batch_cancel_done": 1.0, "batch_cancel_s": 0.1},
        sessions=("run --detach", "batches cancel b1", "run"),
    ),
    "cancelled after a kill": Form(
        behaviour={"batch_delay_s": 0.6, "batch_cancel_done": 0.5, "batch_cancel_s": 0.1},
        sessions=("run --detach", "batches cancel b1", "run"),
        onwards=True,
    ),
    "too large": Form(behaviour={"batch_lines": 4}, file_rows=0),
    "a full queue": Form(behaviour={"batch_delay_s": 0.3, "batch_queue_tokens": 300, "batch_queue_full": "refuse"}),
    "a queue that fills": Form(behaviour={"batch_delay_s": 0.3, "batch_queue_tokens": 300, "batch_queue_full": "fail"}),
    "lost answers": Form(behaviour={"batch_lost": 2, "batch_lost_uploads": 1, "batch_unlisted_s": 0.02}),
    "a budget": Form(behaviour={"batch_delay_s": 0.3}, options=("--max-cost", "0.0026")),
    "mixed": Form(behaviour={"batch_expire": 0.4}, mode="mixed", live=True),
    "mixed within": Form(
        behaviour={"batch_delay_s": 30.0, "batch_cancel_s": 0.1, "batch_cancel_done": 0.3},
        options=("--within", "8s"),
        mode="mixed",
        live=True,
    ),
}


class Case(NamedTuple):
    """Where a run of a form is killed: session and point, twice at most."""

    form: str
    dialect: str
    kills: tuple[tuple[int, str], ...] = ()

    def __str__(self) -> str:
        where = ", then ".join(f"session {number + 1} at {point}" for number, point in self.kills) or "not killed"
        return f"{self.form}, {self.dialect}: {where}"


class Told(NamedTuple):
    """What came of a case. points: of each session that was not killed. texts: the answers."""

    case: Case
    kills: int
    broken: list[str]
    points: list[list[str]]
    texts: dict[str, str | None]
    doubled: int
    orphans: int
    seconds: float


class Run:
    """One case."""

    def __init__(self, case: Case, folder: Path, right: dict[str, str | None] | None = None) -> None:
        self.case, self.form, self.folder, self._right = case, FORMS[case.form], folder, right
        self._log = folder / "points"
        self._points: list[list[str]] = []
        self._kills = 0
        self._broken: list[str] = []
        self._said = ""
        self._orphans = 0

    async def carry_out(self) -> Told:
        """Make the run, with its kills, and judge it."""
        began = time.monotonic()
        given = {"first_token_s": 0.0, "chunk_s": 0.0, "tokens": 6, "hints": False, "batch_delay_s": 0.02, **self.form.behaviour}
        async with Simulator(Behaviour(prices=parse_prices(json.dumps(_PRICE)), **given)) as simulator:
            self._simulator = simulator
            with (self.folder / "p.jsonl").open("w") as file:
                for number in range(ROWS):
                    file.write(json.dumps({"id": f"r{number}", "prompt": f"say {number}"}) + "\n")
            kills = dict(self.case.kills)
            for number, words in enumerate(self.form.sessions):
                if (point := kills.pop(number, None)) is not None and await self._session(words, point):
                    # once more, as its user would; with a further kill if there is one
                    if not self.form.onwards or number + 1 == len(self.form.sessions):
                        await self._session(words, kills.pop(-1, ""))
                    if self._kills == 2:
                        await self._session(words)
                elif point is None:
                    await self._session(words)
            await self._finish()
            texts = await self._judge() if not self._broken else {}
        doubled = simulator.invoice().doubled
        return Told(self.case, self._kills, self._broken, self._points, texts, doubled, self._orphans, time.monotonic() - began)

    def _words(self, words: str) -> list[str]:
        name, *more = words.split()
        if name != "run":
            return [name, *more]
        where = ["--provider", self.case.dialect, "--model", "m", "--base-url", self._simulator.base_url(self.case.dialect)]
        fixed = ["--prices", json.dumps(_PRICE), "--max-tokens", "40", "--mode", self.form.mode, "-q"]
        return ["run", "p.jsonl", *where, *fixed, *self.form.options, *more]

    async def _session(self, words: str, point: str = "") -> bool:
        """Run a session. Return True if it was killed."""
        self._log.unlink(missing_ok=True)
        given = {forks.BEFORE: "tests.kills.points", points.POINT: point, points.LOG: str(self._log)}
        pace = {points.SPEED: str(SPEED), points.ROWS: str(self.form.file_rows)}
        with runner(*self._words(words), cwd=self.folder, env={**_KEYS, **given, **pace}) as process:
            ended: Ended = await asyncio.to_thread(process.ended, HANG_S)
        self._said = f"{words}: {ended.code}; {ended.out[-800:]}{ended.err[-800:]}"
        came = self._log.read_text().splitlines() if self._log.exists() else []
        if killed := ended.code == -signal.SIGKILL:
            self._kills += 1
        else:
            self._points.append(came)
            try:
                assert_clean(ended)
            except AssertionError:
                self._break(f"it was not quiet: {self._said}")
            allowed = (*_GOES_ON, 2) if words.startswith("batches") else _GOES_ON
            if ended.code not in allowed:
                self._break(f"it ended with an error: {self._said}")
        self._code = ended.code
        return killed

    async def _finish(self) -> None:
        """Continue until nothing is left."""
        sessions = 0
        while self._code != 0 or self.form.sessions[-1] != "run" or self._open():
            sessions += 1
            if self._broken:
                return
            if sessions > _MOST_SESSIONS:
                self._break(f"it is not done after {sessions} sessions: {self._said}")
                return
            await self._session("run" if "--max-cost" not in self.form.options else f"run --max-cost {0.0026 + 0.001 * sessions}")
            if self._code == 0 and not self._open():
                return

    def _open(self) -> bool:
        with StoreReader(self.folder / "runner.db") as reader:
            return any(batch.state in OPEN_STATES for batch in read_batches(reader.fetch, all_states=True))

    def _break(self, rule: str) -> None:
        self._broken.append(f"{self.case}: {rule}")

    # -- the rules

    async def _judge(self) -> dict[str, str | None]:
        while (statement := self._simulator.invoice(lines=True)).open:  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.01)
        texts = self._judge_rows()
        self._judge_money(statement)
        await self._judge_places()
        return texts

    def _judge_rows(self) -> dict[str, str | None]:
        import runner as package

        found = list(package.results(db=self.folder / "runner.db"))
        texts = {str(row.id): row.text for row in found}
        wrong = [f"{row.id} {row.status} {row.error}" for row in found if row.status != "done"]
        if wrong or len(texts) != ROWS or len(found) != ROWS:
            self._break(f"{len(found)} rows have an outcome, and these are not done: {wrong}; {self._said}")
        if self._right is not None and not self.form.live and texts != self._right:
            differ = {key: text for key, text in texts.items() if self._right.get(key) != text}
            self._break(f"these answers are not those of the run without a kill: {differ}")
        return texts

    def _judge_money(self, statement: Statement) -> None:
        with StoreReader(self.folder / "runner.db") as reader:
            money = reader.money(reader.run().id)
        with closing(sqlite3.connect(self.folder / "runner.db")) as store:
            ((number, read, written),) = store.execute(
                "SELECT count(*), sum(input_tokens), sum(output_tokens) FROM attempts WHERE output_tokens IS NOT NULL"
            )
        billed = int(Decimal(statement.amount) * PICO)
        assert isinstance(statement.lines, list)
        lines: Sequence[Line] = statement.lines
        here, there = (number, read, written), (statement.requests, statement.input_tokens, statement.output_tokens)
        if self.form.live:
            lost = [line for line in lines if line.tier != "batch"]
            if not money.spent <= billed <= money.spent + (money.perhaps or 0) + sum(line.amount_picodollars for line in lost):
                self._break(f"the books have {money.spent}, and {money.perhaps} perhaps; billed were {billed}")
            bodies = Counter(line.body for line in lines if line.tier == "batch")
            if twice := [body for body, times in bodies.items() if times > 1]:
                self._break(f"{len(twice)} requests were billed twice in batches")
            return
        if statement.doubled:
            self._break(f"{statement.doubled} requests were billed twice")
        if here != there or money.spent != billed or money.perhaps:
            self._break(f"the books have {here}, {money.spent} and {money.perhaps} perhaps; billed were {there}, {billed}")

    async def _judge_places(self) -> None:
        """Nothing is left anywhere: batches that nobody knows, uploads, files of requests, open batches."""
        base = self._simulator.base_url(self.case.dialect)
        with StoreReader(self.folder / "runner.db") as reader:
            stored = read_batches(reader.fetch, all_states=True)
        async with httpx.AsyncClient(headers=_HEADERS, trust_env=False, timeout=HANG_S) as client:
            if self.case.dialect == "openai":
                uploads = (await client.get(f"{base}/files", params={"limit": 1000})).json()["data"]
                left = [one["id"] for one in uploads if one["purpose"] == "batch"]
                remote = (await client.get(f"{base}/batches", params={"limit": 100})).json()["data"]
            else:
                left = []
                remote = (await client.get(f"{base}/v1/messages/batches", params={"limit": 1000})).json()["data"]
        known = {batch.remote_id for batch in stored}
        # one that has failed as a whole is sent again from the same file
        unknown = [one["id"] for one in remote if one["id"] not in known and one.get("status") != "failed"]
        self._orphans = len(left) + len(unknown)
        if left:
            self._break(f"{len(left)} uploads are left of {len(stored)}")
        if unknown:
            self._break(f"{len(unknown)} batches are known to nobody")
        states = Counter(batch.state for batch in stored)
        if set(states) - {"done", "refused"}:
            self._break(f"the batches are {dict(states)}")
        if files := [path.name for path in self.folder.rglob("*.batches/*")]:
            self._break(f"these files are left: {files}")


async def carried_out(
    cases: Sequence[Case], right: dict[tuple[str, str], dict[str, str | None]], workers: int, say: Callable[[Told], None]
) -> list[Told]:
    """Carry out cases, some at the same time, each in a folder of its own."""
    few = asyncio.Semaphore(workers)

    async def one(case: Case) -> Told:
        async with few:
            with tempfile.TemporaryDirectory() as folder:
                told = await Run(case, Path(folder), right.get((case.form, case.dialect))).carry_out()
            say(told)
            return told

    return await asyncio.gather(*map(one, cases))


async def swept(
    forms: Sequence[str],
    dialects: Sequence[str],
    *,
    every: int = 1,
    twice: int = 0,
    workers: int = 2,
    seed: str = "",
    say: Callable[[Told], None] = lambda _: None,
) -> list[Told]:
    """Run each form without a kill, then with a kill at each of its points. every: at each so many-th.

    twice: cases of two kills.
    """
    whole = await carried_out([Case(form, dialect) for form in forms for dialect in dialects], {}, workers, say)
    right = {(told.case.form, told.case.dialect): told.texts for told in whole}
    draw = random.Random(seed)
    single = [case for told in whole for case in _cases(told)]
    first = draw.randrange(every)
    double = [_again(draw.choice(single), whole, draw) for _ in range(twice)]
    return [*whole, *await carried_out([*single[first::every], *double], right, workers, say)]


def _cases(told: Told) -> Iterator[Case]:
    for number in range(len(FORMS[told.case.form].sessions)):
        for point in told.points[number]:
            yield Case(told.case.form, told.case.dialect, ((number, point),))


def _again(case: Case, whole: Sequence[Told], draw: random.Random) -> Case:
    """Return a case with a second kill, in the session after the first."""
    told = next(one for one in whole if one.case[:2] == case[:2])
    return case._replace(kills=(*case.kills, (-1, draw.choice([point for came in told.points for point in came]))))


def table(told: Sequence[Told]) -> str:
    """Return what came of all cases, by form and dialect."""
    lines = [_line("form", "dialect", "points", "cases", "kills", "missed", "doubles", "orphans", "broken")]
    for name, dialect in dict.fromkeys((one.case.form, one.case.dialect) for one in told):
        mine = [one for one in told if one.case[:2] == (name, dialect)]
        whole = next(one for one in mine if not one.case.kills)
        cases = [one for one in mine if one.case.kills]
        number = sum(map(len, whole.points[: len(FORMS[name].sessions)]))
        doubles = sum(one.doubled for one in mine) if not FORMS[name].live else 0
        kills, missed = sum(one.kills for one in cases), sum(one.kills < 1 for one in cases)
        broken, orphans = sum(bool(one.broken) for one in mine), sum(one.orphans for one in mine)
        lines.append(_line(name, dialect, number, len(cases), kills, missed, doubles, orphans, broken))
    return "\n".join(lines)


def _line(form: str, dialect: str, *numbers: object) -> str:
    return f"{form:<22} {dialect:<10}{''.join(f'{number:>8}' for number in numbers)}"


def main() -> int:
    """Kill at points, and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vendor", choices=DIALECTS, help="one of the two")
    parser.add_argument("--form", choices=FORMS, action="append", help="one form; may be repeated")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="only at each N-th point")
    parser.add_argument("--twice", type=int, default=0, metavar="N", help="so many cases with a second kill")
    parser.add_argument("--workers", type=int, default=2, metavar="N", help="cases at the same time")
    parser.add_argument("--seed", default="", help="draws the first point of --every, and second kills")
    parser.add_argument("--point", help="one point of the first session, such as 'file half sent #1'")
    given = parser.parse_args()
    dialects = (given.vendor,) if given.vendor else DIALECTS

    def say(told: Told) -> None:
        for rule in told.broken:
            print(rule, flush=True)

    forms = given.form or list(FORMS)
    if given.point:
        cases = [Case(form, dialect, ((0, given.point),)) for form in forms for dialect in dialects]
        told = asyncio.run(carried_out(cases, {}, given.workers, say))
        print(msgspec.json.encode([one[1:] for one in told]).decode())
        return int(any(one.broken for one in told))
    told = asyncio.run(
        swept(forms, dialects, every=given.every, twice=given.twice, workers=given.workers, seed=given.seed, say=say)
    )
    print(table(told))
    return int(any(one.broken for one in told))


if __name__ == "__main__":
    sys.exit(main())
