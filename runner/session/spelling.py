"""How a session ended, and why a run stopped: a command spells an address only where typing it gives no secret away.

A store may come from somebody else (``config.trust``), and so may the stop reason in it. Whoever types an address has named it.
"""

import os
import re
import shlex
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from msgspec import structs

from runner.config import endpoint
from runner.config.job import restore_job
from runner.config.settings import SETTINGS
from runner.durations import clock
from runner.errors import ATTACHMENT, BAD_ROW, UNKNOWN, RunnerError, remedy, to_address
from runner.event_types import AS_ASKED, CHOSEN, LIMITED, WAITING, Summary
from runner.inputs import spool
from runner.model import Run
from runner.money import Money, shown
from runner.session.naming import in_full
from runner.several import amount
from runner.store.reader import REACHED
from runner.text import plural, shell_word

OF_THE_ROW = frozenset(
    {
        *(ATTACHMENT, BAD_ROW, "bad_request", "content_policy", "context_length", "not_found", "size_cap", "too_large"),
        *("stopped_by_rule", "unbounded", "unpriced"),
    }
)
"""Error codes of rows that would fail again as they are: so would others with the same request."""
LEFT_OUT = {"unsupported_tier": ("--tier", "default"), "unsupported_parameter": ("--no-strict-params",)}
"""By error code: the options with which such rows need not fail again."""

_RAISED = re.compile(r"`runner (resume|retry|run|estimate)\b([^`]*)`\.$")
_SPENT = ("--max-cost", "--max-tokens-total")
_NUMBERS = ("int", "float", "slots", "span", "share")
_WORDS = (
    "model",
    "where",
    "tier",
    "stop",
    "extra_body",
    "finish_retry",
    "finish_fail",
    "finish_done",
    "money_codes",
    "rate_codes",
)
_SAFE = frozenset(setting.option for setting in SETTINGS if setting.kind in _NUMBERS or setting.name in _WORDS)
"""Options that lead nowhere else: no secret, no file and no address is named by them."""
_SWITCHES = [setting.option.removeprefix("--") for setting in SETTINGS if setting.kind == "bool"]
_FLAGS = frozenset({"--accept-changes", *(f"--{sign}{name}" for name in _SWITCHES for sign in ("", "no-"))})
"""Options without a value."""


class Raised(NamedTuple):
    """What a stop reason advises, to go on with a run that has reached its budget: options, as a shell reads them.

    retries: it goes on with the failed rows. chosen: with some of the rows. in_part: the limits are those of a part of the input.
    whole: the command that goes on with that part, if it is known who wrote it.
    """

    options: tuple[str, ...] = ()
    retries: bool = False
    chosen: bool = False
    in_part: bool = False
    whole: str | None = None


def state(run: Run) -> str:
    """Return the state of a run in one word."""
    if run.active:
        return "running"
    if run.finished_at is not None:
        return "finished"
    if run.stop_reason is not None and run.stop_reason.startswith(WAITING):
        return "waiting"
    return "limited" if run.stop_reason in AS_ASKED else "interrupted"


def stop_reason(run: Run) -> str | None:
    """Return the stored stop reason of a run, with the word URL for an address that no command may spell."""
    reason, address = run.stop_reason, remedy(run.stop_reason).address
    if reason is None or address in (None, UNKNOWN) or _may_be_spelt(run, address):
        return reason
    return f"{reason.removesuffix(to_address(address))}{to_address()}"


def told(run: Run, db: str | Path) -> Run:
    """Return a run with its stop reason as it may be shown: with complete commands. db: the store, as it was given."""
    reason = stop_reason(run)
    if reason is None:
        return run
    return structs.replace(run, stop_reason=in_full(reason, run.id, db, asked=spool.is_asked(run.input)))


def _may_be_spelt(run: Run, word: str) -> bool:
    """Return True if an address is at the server of the run, and the run may send its secrets there without a question."""
    try:
        (address,) = shlex.split(word)
        if urlsplit(address).netloc != urlsplit(str(run.settings.get("base_url"))).netloc:
            return False
        job = endpoint.with_base_url(restore_job({**run.settings, "input": run.input}, {}), os.environ)
        return endpoint.is_users(job, os.environ) or not endpoint.ungranted(job, os.environ)
    except (RunnerError, ValueError):
        return False


def raised(reason: str | None, *, own: bool = False) -> Raised:
    """Return what a stop reason advises, to continue a run that has reached its budget; nothing if it advises nothing.

    Only its end is looked at, and of a store, which may come from somebody else, only what leads nowhere else is taken. own: it
    is the reason of this session, so the file of its results is taken too.
    """
    found = _RAISED.search(reason or "")
    try:
        words = shlex.split(found[2]) if found else []
    except ValueError:
        words = []
    if found is None or not (reason or "").startswith(REACHED):
        return Raised()
    given = list(_options(words))
    if found[1] in ("run", "estimate"):
        # their rows are a part of those of the run: its other rows have the same limit
        spent = _spelt((name, value) for name, value in given if name in _SPENT)
        return Raised(spent, in_part=True, whole=found[0].strip("`.") if own and found[1] == "run" else None)
    may_be = {*_SPENT, *_SAFE, *_FLAGS, *(["--output"] if own else [])}
    taken = [(name, value) for name, value in given if name in may_be]
    return Raised(_spelt(taken), found[1] == "retry", any(name in ("--where", "--sample") for name, _ in taken))


def _options(words: list[str]) -> Iterator[tuple[str, str | None]]:
    """Yield the options of a command with their values; None for one that has no value."""
    for place, word in enumerate(words):
        if word.startswith("--"):
            after = words[place + 1] if place + 1 < len(words) else "--"
            yield word, None if word in _FLAGS or after.startswith("--") else after


def _spelt(options: Iterable[tuple[str, str | None]]) -> tuple[str, ...]:
    return tuple(word for name, value in options for word in (name, *([] if value is None else [shell_word(value)])))


def how_ended(end: Summary) -> str:
    """Return how a session ended, in one line; done, failed and left are all rows of the file."""
    done, failed = end.settled_rows
    took = f"in {clock(end.elapsed_s)}"
    if as_asked(end):
        asked = LIMITED if end.limit is not None else CHOSEN
        if not failed:
            return f"run {end.run}: {done:,} of {end.wanted:,} done, {asked}; {end.left:,} left; {took}"
        counts = f"{done:,} done, {failed:,} failed, {end.left:,} left of {amount(end.rows, end.answers)}"
        return f"run {end.run}: {counts}, {asked}; {took}"
    left = f", {end.left:,} left" if end.left else ""
    state = "finished" if end.finished else "not finished"
    return f"run {end.run} {state}: {done:,} done, {failed:,} failed{left} of {_counted(end)} {took}"


def _counted(end: Summary) -> str:
    """Return what the counts of a session are about, in words."""
    rows = end.rows + end.missing
    return plural(rows, "row") if end.answers == 1 else f"{plural(end.counted, 'answer')} of {plural(rows, 'row')}"


def as_asked(end: Summary) -> bool:
    """Return True if the session ended where --limit, --where or --sample asked it to, and rows are left."""
    return (end.limit is not None or end.narrowed) and not end.finished and end.stop_reason is None


def in_no_row(killed: Money) -> list[str]:
    """Say what the sums of the rows do not have: requests that were open when a session without a budget was killed."""
    if not killed.killed_requests:
        return []
    number = killed.killed_requests
    were = f"up to {plural(number, 'request')} that {'was' if number == 1 else 'were'} open when the process ended"
    parts = ["an amount without a limit"] if killed.held is None else [f"up to {shown(killed.held)}"] if killed.held else []
    parts += ["an amount that is not known"] if killed.unpriced else []
    amount = " and ".join(parts) or "nothing"
    return [f"beside the rows, perhaps {amount} for {were}: it is in no row, and `runner status` counts it"]
