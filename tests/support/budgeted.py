"""Runs under a budget, against a server that bills: in this process with stops and cancels, or in processes that are killed."""

import asyncio
import json
import os
import random
import signal
import sqlite3
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, NamedTuple

import forks
from billing import OUTPUT, PRICES, REASONING, THINKING, THINKS, WRITTEN, WRITTEN_1H, Biller
from raw_server import RawServer

import runner
from runner.errors import RunStoppedError

SESSIONS = 40
"""Sessions that a run may take at most."""
_QUICK = {"silence_s": 0.4, "first_byte_s": 2.0, "attempts": 3}


class Case(NamedTuple):
    """A run: its rows and settings. budget: picodollars, by which ``settings`` has it in dollars.

    body: what its requests have beside their prompts.
    """

    name: str
    dialect: str
    budget: int
    settings: dict[str, Any]
    prices: dict[str, Any]
    body: dict[str, Any]


class Result(NamedTuple):
    """What a run came to, in picodollars. low, high: what its books say was billed. reached: its budget stopped it."""

    budget: int
    billed: int
    answered: int
    low: int
    high: int
    reached: bool
    kills: int = 0

    @property
    def over(self) -> int:
        return max(0, self.billed - self.budget)


def prepared(folder: Path, seed: int, *, rows: int | None = None, most: float | None = None, told: bool = False) -> Case:
    """Write the rows of a run, and draw its settings. most: the budget, in requests of the highest cost; None: drawn.

    Some have reasoning that is priced apart and that no answer tells apart, and some ask for caches that are kept for an hour.
    told: this one has neither.
    """
    chance = random.Random(seed)
    rows = rows or chance.randint(4, 30)
    prompts = ["x" * chance.randint(1, 300) for _ in range(rows)]
    (folder / "p.jsonl").write_text("".join(json.dumps({"id": str(at), "prompt": one}) + "\n" for at, one in enumerate(prompts)))
    tokens, dialect = chance.randint(40 if told else 3, 400), chance.choice(["openai", "anthropic"])
    share, many = chance.uniform(0.5, 1.1 * rows), chance.randint(1, 8)
    thinks, hour = (not told and chance.random() < 0.4 for _ in range(2))
    highest = (300 + 150) * (WRITTEN_1H if hour else WRITTEN) + tokens * (REASONING if thinks else OUTPUT)
    budget = round(highest * (most or share))
    settings = {"max_tokens": tokens, "max_cost": budget / 1e12, "concurrency": many, **_QUICK}
    body = {"cache_control": {"type": "ephemeral", "ttl": "1h"}} if hour else {}
    return Case(f"run{seed}{THINKS if thinks else ''}", dialect, budget, settings, THINKING if thinks else PRICES, body)


def base_url(server: RawServer, case: Case) -> str:
    return f"{server.origin}/{case.name}" + ("/v1" if case.dialect == "openai" else "")


async def played(folder: Path, case: Case, server: RawServer, biller: Biller, *, disturbed: int | None = None) -> Result:
    """Run a case in this process until it is finished or its budget is reached. disturbed: seed of the stops and cancels."""
    chance = random.Random(disturbed)
    given = {**case.settings, "provider": case.dialect, "base_url": base_url(server, case), "model": "m", "prices": case.prices}
    given |= {"extra_body": case.body} if case.body else {}
    reached = False
    for session in range(SESSIONS):
        stop = runner.StopHandle()
        task = asyncio.ensure_future(_session(folder, stop, given))
        if disturbed is not None and session < 4 and chance.random() < 0.7:
            wanted = biller.requests[case.name] + chance.randint(0, 8)
            while not task.done() and biller.requests[case.name] < wanted:  # noqa: ASYNC110 - a server of other code
                await asyncio.sleep(0.002)
            await asyncio.sleep(chance.uniform(0.0, 0.03))
            if chance.random() < 0.3:
                task.cancel()
            stop.request()
            if chance.random() < 0.7:
                # the second request drops what is open
                stop.request()
        try:
            if await task:
                break
        except RunStoppedError as error:
            reached = error.code == "budget"
            if reached:
                break
        except (asyncio.CancelledError, runner.RunLockedError):
            await asyncio.sleep(0.05)
    return _result(folder, case, biller, reached=reached)


async def _session(folder: Path, stop: "runner.StopHandle", given: dict[str, Any]) -> bool:
    summary = await runner.arun(folder / "p.jsonl", db=folder / "runner.db", stop=stop, **given)
    return summary.finished


async def killed(folder: Path, case: Case, server: RawServer, biller: Biller, kills: int) -> Result:
    """Run a case in processes, kill so many of them while requests are open, and let the last one come to its end."""
    chance, done, code = random.Random(case.name), 0, 0
    for _ in range(kills + SESSIONS):
        process = _process(folder, case, server)
        wanted = biller.requests[case.name] + chance.randint(1, 4)
        while done < kills and process.poll() is None and biller.requests[case.name] < wanted:  # noqa: ASYNC110 - a process
            await asyncio.sleep(0.002)
        if done < kills and process.poll() is None:
            await asyncio.sleep(chance.uniform(0.0, 0.02))
            process.kill()
        code = await asyncio.to_thread(process.wait, 120)
        done += code == -signal.SIGKILL
        if code in (0, 5) or (code == 1 and done >= kills):
            break
    assert code in (0, 1, 5), (folder / "said").read_text()
    return _result(folder, case, biller, reached=code == 5, kills=done)


def _process(folder: Path, case: Case, server: RawServer) -> forks.Fork:
    options = [
        word
        for name, value in case.settings.items()
        for word in (f"--{name.replace('_', '-')}", f"{value:.12f}".rstrip("0").rstrip("."))
    ]
    where = [
        "--provider",
        case.dialect,
        "--base-url",
        base_url(server, case),
        "--model",
        "m",
        "--prices",
        json.dumps(case.prices),
    ]
    where += ["--extra-body", json.dumps(case.body)] if case.body else []
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "RUNNER_", "OPENAI", "ANTHROPIC"))
    }
    environment = {**kept, "PYTHONUNBUFFERED": "1", "PYTHONPATH": forks.CHECKOUT}
    with Path(os.devnull).open() as nothing, (folder / "said").open("a") as said:
        streams = (nothing.fileno(), said.fileno(), said.fileno())
        return forks.Fork(["run", "p.jsonl", *where, *options], cwd=folder, env=environment, streams=streams, terminal=False)


def _result(folder: Path, case: Case, biller: Biller, *, reached: bool, kills: int = 0) -> Result:
    with suppress(runner.StoreError, runner.UsageError), closing(sqlite3.connect(folder / "runner.db")) as store:
        left = store.execute("SELECT count(*) FROM reservations").fetchone()[0]
        assert left == 0, f"{left} reservations are left"
        spent = store.execute("SELECT coalesce(sum(cost), 0), coalesce(sum(cost_perhaps), 0) FROM spend").fetchone()
        low, more = (round(amount * 1e12) for amount in spent)
        return Result(case.budget, biller.bills[case.name], biller.answers[case.name], low, low + more, reached, kills)
    raise AssertionError("there is no store")
