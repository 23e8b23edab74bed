"""How a session ended, and why a run stopped: a command spells an address only where typing it gives no secret away.

A store may come from somebody else (``config.trust``), and so may the stop reason in it. Whoever types an address has named it.
"""

import os
import re
import shlex
from urllib.parse import urlsplit

from runner.config import endpoint
from runner.config.job import restore_job
from runner.durations import clock
from runner.errors import ATTACHMENT, BAD_ROW, UNKNOWN, RunnerError, remedy, to_address
from runner.event_types import CHOSEN, LIMITED, Summary
from runner.model import Run
from runner.several import amount
from runner.text import plural

OF_THE_ROW = frozenset(
    {
        *(ATTACHMENT, BAD_ROW, "bad_request", "content_policy", "context_length", "not_found", "size_cap", "too_large"),
        *("unbounded", "unpriced"),
    }
)
"""Error codes of rows that would fail again as they are: so would others with the same request."""

_RAISED = re.compile(r"`runner resume((?: --max-(?:cost|tokens-total) [0-9.]+)+)`\.$")


def stop_reason(run: Run) -> str | None:
    """Return the stored stop reason of a run, with the word URL for an address that no command may spell."""
    reason, address = run.stop_reason, remedy(run.stop_reason).address
    if reason is None or address in (None, UNKNOWN) or _may_be_spelt(run, address):
        return reason
    return f"{reason.removesuffix(to_address(address))}{to_address()}"


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


def raised(reason: str | None) -> tuple[str, ...]:
    """Return the options that a stop reason advises, to continue a run that has reached its budget; none if it advises none.

    Only its end is looked at, and only numbers are taken: a store may come from somebody else.
    """
    found = _RAISED.search(reason or "")
    return tuple(found[1].split()) if found else ()


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
    rows = end.rows + end.missing if end.chosen else end.rows
    return plural(rows, "row") if end.answers == 1 else f"{plural(end.counted, 'answer')} of {plural(rows, 'row')}"


def as_asked(end: Summary) -> bool:
    """Return True if the session ended where --limit, --where or --sample asked it to, and rows are left."""
    return (end.limit is not None or end.narrowed) and not end.finished and end.stop_reason is None
