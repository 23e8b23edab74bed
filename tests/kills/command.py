"""The command line of the long form, and its table."""

import argparse
import asyncio
import secrets
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from kills.again import FORMS, asked_again
from kills.campaign import LEAST, Verdict, carry_out, form
from kills.judge import Figures
from kills.rows import KINDS

_RETRIED = 24
"""Rows of a run whose retries are killed."""


def main() -> int:
    """Carry out all campaigns, print what was done; 1 when a rule was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.kills", description="Kill one run again and again, and judge it.")
    parser.add_argument("--kills", type=int, default=200, help=f"kills with a fixed concurrency, {LEAST} at least (200)")
    parser.add_argument("--items", type=int, default=2000, help="its rows (2000); the run with auto has a fifth of both")
    parser.add_argument("--only", choices=("8", "auto", "retries"), help="one concurrency only, or the retries only")
    parser.add_argument("--retry-kills", type=int, default=12, help="kills of each form of a retry (12)")
    parser.add_argument("--input", choices=tuple(KINDS), default="jsonl", help="the format of its rows (jsonl)")
    parser.add_argument("--workers", type=int, default=0, help="local workers of each session, which are killed too (0)")
    parser.add_argument("--seed", default=secrets.token_hex(4), help="as printed, to carry out the same plan again")
    parser.add_argument("--keep", type=Path, help="a folder for prompt files, stores and exports, to be looked at afterwards")
    given = parser.parse_args()
    # so that no process is left behind
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    _say(f"seed {given.seed}")
    kills = max(LEAST, given.kills)
    forms = [
        form(given.items, kills, "8", given.input, given.workers),
        form(given.items // 5, max(LEAST, kills // 5), "auto", given.input, given.workers),
    ]
    broken = False
    for one in forms:
        if given.only in (None, one.concurrency):
            begin = time.monotonic()
            with tempfile.TemporaryDirectory(prefix="runner-kills-") as scratch:
                folder = Path(scratch) if given.keep is None else given.keep / one.concurrency
                folder.mkdir(parents=True, exist_ok=given.keep is None)
                verdict = carry_out(one, given.seed, folder, _say)
            print("\n".join(table(verdict)), f"\ntook {time.monotonic() - begin:.0f} s\n", flush=True)
            broken = broken or bool(verdict.broken)
    if given.only in (None, "retries"):
        broken = _retries(given.seed, given.retry_kills, given.keep) or broken
    return int(broken)


def _retries(seed: str, kills: int, keep: Path | None) -> bool:
    """Kill retries, of each form so many. Tell whether a rule was broken."""
    broken = False
    for name, retried in FORMS.items():
        with tempfile.TemporaryDirectory(prefix="runner-kills-") as scratch:
            folder = Path(scratch) if keep is None else keep / name.replace(" ", "-")
            folder.mkdir(parents=True, exist_ok=keep is None)
            told = asyncio.run(asked_again(retried, seed, folder, kills, _RETRIED, _say, fresh=True))
        last = told.looks[-1]
        print(
            f"retries, {name}: {told.kills} kills, {told.retries} retries; {last.lost} answers lost, {last.open} may be",
            flush=True,
        )
        print(*(f"BROKEN: {rule}" for rule in told.broken), f"rules broken: {len(told.broken)}\n", sep="\n", flush=True)
        broken = broken or bool(told.broken)
    return broken


def table(verdict: Verdict) -> Iterator[str]:
    """Say what was done and what came of it, as Markdown."""
    bill = verdict.bill
    killed = [one for one in verdict.sessions if one.killed]
    yield f"concurrency {verdict.form.concurrency}, {bill.slots} slots at most; seed {verdict.seed}\n"
    yield "| aim | sessions | killed | requests | lost | where the kills landed |"
    yield "|---|---|---|---|---|---|"
    for aim in dict.fromkeys(one.aim for one in verdict.sessions):
        yield _line(aim, [one for one in verdict.sessions if one.aim == aim])
    yield _line("all", verdict.sessions)
    lost = sum(one.lost for one in killed)
    worst = max((one.lost for one in killed), default=0)
    yield f"\nitems {bill.items}, kills {bill.kills}"
    yield f"requests {bill.requests}, attempts on the books {bill.attempts}, lost with kills {bill.requests - bill.attempts}"
    yield f"bound {bill.bound} = {bill.items} items + {bill.retries} retries + {bill.kills} kills x {bill.slots} slots"
    yield f"on the books, perhaps never sent, with workers that were killed: {bill.unsure}"
    yield f"lost per kill: {lost / max(1, len(killed)):.2f} on average, {worst} at most, of {bill.slots} that may be"
    yield f"answers bought twice: {bill.duplicates}, {bill.duplicates / max(1, bill.kills):.3f} per kill"
    yield f"rows and counts that were shown as done, and looked up in the store: {sum(one.shown for one in verdict.sessions)}"
    yield from (f"BROKEN: {rule}" for rule in verdict.broken)
    yield f"rules broken: {len(verdict.broken)}"


def _line(aim: str, sessions: Sequence[Figures]) -> str:
    landed = Counter(one.landed for one in sessions)
    where = ", ".join(f"{count} {words}" for words, count in landed.most_common())
    killed, requests, lost = (sum(column) for column in zip(*((s.killed, s.requests, s.lost) for s in sessions), strict=True))
    return f"| {aim} | {len(sessions)} | {killed} | {requests} | {lost} | {where} |"


def _say(sentence: str) -> None:
    print(sentence, file=sys.stderr, flush=True)
