"""A run whose rows are asked again by ``runner retry``, which is killed again and again and gone on with by ``runner resume``."""

import asyncio
import json
import random
import signal
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from processes import Ended, Started, assert_clean, installed, runner

from benchmarks.killed import Look, look, sent
from kills.asked import Looked, judged, read
from runner.money import PICO
from runner.several import row_of
from runner.simulator import Behaviour, Line, Simulator, parse_prices

SLOTS = 4
STEP = 400
"""Tokens by which the request of a row is longer than that of the row before: so its length tells which row it is of."""
_PRICES = {"m": {"input": 1, "output": 4}}
_START_S = 0.5
_PATIENCE_S = 120.0
_GOES_ON = (0, 1, 5)
"""Exit codes of a session that ended by itself: all done, rows have failed, the budget is reached."""


class Form(NamedTuple):
    """A kind of retry. options: of the run. chosen: of the first retry. faults: shares of requests.

    twins: rows with the same prompt. budget: each session gets an amount that is reached in its middle.
    """

    dialect: str = "openai"
    options: tuple[str, ...] = ()
    chosen: tuple[str, ...] = ("--all",)
    faults: tuple[tuple[str, float], ...] = (("500", 0.15), ("truncate", 0.1))
    twins: int = 1
    answers: int = 1
    budget: bool = False


FORMS = {
    "all": Form(),
    "classes with done rows": Form("anthropic", chosen=("--class", "length,server,truncated")),
    "equal rows": Form(options=("--dedupe",), twins=2),
    "two answers": Form("anthropic", options=("--answers", "2"), answers=2),
    "a schema": Form(
        options=("--fields", "mood: good|bad, n: int", "--repairs", "1"), faults=(("invalid_json", 0.3), ("500", 0.1))
    ),
    "a budget": Form(budget=True),
}


class Told(NamedTuple):
    """What came of a form. looks: the books beside the invoice after each session. lost: answers that no session has saved."""

    kills: int
    retries: int
    looks: list[Look]
    broken: list[str]


class Again:
    """One run, and its retries. start: starts a process of ``runner``."""

    def __init__(self, form: Form, seed: str, folder: Path, rows: int, say: Callable[[str], None], *, fresh: bool) -> None:
        self._form, self._folder, self._rows, self._say = form, folder, rows, say
        self._start = installed if fresh else runner
        self._draw = random.Random(seed)
        self._kills = self._retries = 0
        self._looks: list[Look] = []
        self.broken: list[str] = []
        self._lines = 0

    async def carry_out(self, kills: int) -> Told:
        """Make the run, and ask its rows again until so many sessions were killed and nothing is left; or a rule is broken."""
        faults = dict(self._form.faults)
        behaviour = Behaviour(
            first_token_s=0.02, chunk_s=0.001, tokens=20, hints=False, faults=faults, prices=parse_prices(json.dumps(_PRICES))
        )
        async with Simulator(behaviour) as simulator:
            self._simulator = simulator
            self._write()
            with runner(*self._run(), cwd=self._folder) as process:
                ended = await asyncio.to_thread(process.ended)
            assert ended.code in _GOES_ON, ended
            self._before = self._read()
            self._lines = len(self._new_lines())
            while not self.broken and (self._kills < kills or self._before.pending):
                await self._session(last=self._kills >= kills)
        return Told(self._kills, self._retries, self._looks, self.broken)

    def _write(self) -> None:
        with (self._folder / "p.jsonl").open("w") as file:
            for number in range(self._rows):
                prompt = "word" * (STEP * (1 + number // self._form.twins))
                file.write(json.dumps({"id": f"r{number}", "prompt": prompt}) + "\n")

    def _run(self) -> list[str]:
        address = ["--provider", self._form.dialect, "--model", "m", "--base-url", self._simulator.base_url(self._form.dialect)]
        money = ["--prices", json.dumps(_PRICES), "--max-tokens", "24"]
        # one attempt for each row, so that some fail
        return ["run", "p.jsonl", *address, *money, "--attempts", "1", "--concurrency", str(SLOTS), *self._form.options]

    def _command(self, *, last: bool) -> list[str]:
        pending = self._before.pending
        chosen = self._form.chosen if not self._retries else ("--all",)
        words = ["resume"] if pending else ["retry", *chosen, "--attempts", "3"]
        if not self._form.budget:
            return words
        # what was open at the kills may have been billed, and is used up
        now = self._looks[-1] if self._looks else None
        used = (now.spent + (now.perhaps or 0)) / PICO if now else self._before.spent
        return [*words, "--max-cost", f"{used + (10.0 if last else self._draw.uniform(0.02, 0.08)):.6f}"]

    # -- one session

    async def _session(self, *, last: bool) -> None:
        """One session, killed unless it is to be the last one; and its judgement."""
        words = self._command(last=last)
        with self._start(*words, cwd=self._folder) as process:
            if not last:
                await self._instant(process)
                process.signal(signal.SIGKILL)
            ended = await asyncio.to_thread(process.ended)
        killed = ended.code == -signal.SIGKILL
        self._kills += killed
        self._retries += words[0] == "retry"
        # in this order: the look at the books opens the store itself
        after, money = self._read(), await look(0, self._kills, self._folder, self._simulator, told=False)
        self._looks.append(money)
        lines = self._new_lines()
        self._lines += len(lines)
        where = f"session {len(self._looks)}, runner {' '.join(words)}"
        found = [*_quiet(ended), *judged(self._before, after, [self._prompt(line) for line in lines], self._prompt_of)]
        if not money.right:
            found.append(f"the books are not right beside the invoice: {money}")
        if money.lost > self._kills * SLOTS:
            found.append(f"{money.lost} answers were lost in {self._kills} kills with {SLOTS} slots")
        if not killed and ended.code not in _GOES_ON:
            found.append(f"it ended by itself with exit code {ended.code}: {ended.err[-500:]}")
        if last and after.pending:
            found.append(f"{len(after.pending)} rows are left behind a session that was not killed: {ended.out[-500:]}")
        self.broken += [f"{where}: {rule}" for rule in found]
        how = "killed" if killed else f"ended with {ended.code}"
        self._say(f"{where}: {how}; {len(lines)} requests billed, {len(after.pending)} of {len(after.chosen)} rows left")
        self._before = after

    async def _instant(self, process: Started) -> None:
        """Wait for a random instant: in the start, some requests later, or when the log of the store has just grown."""
        kind = self._draw.choice(("start", "requests", "requests", "write"))
        if kind == "start":
            await asyncio.sleep(self._draw.uniform(0.0, _START_S))
            return
        wanted = sent(self._simulator.invoice()) + self._draw.randint(1, max(2, self._rows // 3))
        await _until(lambda: sent(self._simulator.invoice()) >= wanted or not process.alive)
        if kind == "write":
            size = self._log()
            await _until(lambda: self._log() != size or not process.alive)
            await asyncio.sleep(self._draw.uniform(0.0, 0.002))
            return
        await asyncio.sleep(self._draw.uniform(0.0, 0.05))

    def _log(self) -> int:
        log = self._folder / "runner.db-wal"
        return log.stat().st_size if log.exists() else 0

    def _read(self) -> Looked:
        # a look at the store itself tidies it up, and one at a copy leaves that to the next session
        return read(self._folder / "runner.db", self._folder / "scratch" if self._draw.random() < 0.5 else None)

    def _new_lines(self) -> Sequence[Line]:
        lines = self._simulator.invoice(lines=True).lines
        assert isinstance(lines, list)
        return lines[self._lines :]

    def _prompt(self, line: Line) -> int:
        return line.fresh_tokens // STEP - 1

    def _prompt_of(self, key: str) -> int:
        return int(row_of(key).removeprefix("r")) // self._form.twins


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(_PATIENCE_S):
        while not condition():  # noqa: ASYNC110 - other processes
            await asyncio.sleep(0.001)


def _quiet(ended: Ended) -> Iterator[str]:
    try:
        assert_clean(ended)
    except AssertionError as error:
        yield f"it was not quiet: {error}"


async def asked_again(
    form: Form, seed: str, folder: Path, kills: int, rows: int, say: Callable[[str], None], *, fresh: bool
) -> Told:
    """Carry a form out in an empty folder. fresh: with the installed command; else with forks of an interpreter that is warm."""
    return await Again(form, seed, folder, rows, say, fresh=fresh).carry_out(kills)
