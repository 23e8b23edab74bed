"""What is said about a session while it goes on, one line each. Pure."""

from runner.durations import clock
from runner.event_types import Progress, Started, Stopping
from runner.inputs import spool
from runner.progress import screen
from runner.text import clean, plural


def headline(event: Started) -> str:
    """Return the first line of a session: the run, its input and the rows that earlier sessions finished."""
    failed = event.restored_failed
    before = f", {event.restored - failed:,} already done" if event.restored else ""
    before += f", {failed:,} already failed" if failed else ""
    return f"run {event.run}: {clean(spool.full_name(event.input))}, {_amount(event)}{before}"


def line(event: Progress) -> str:
    """Return progress as a plain line."""
    done, failed, left = event.settled_rows
    in_flight, slots = screen.open_requests(event)
    words = f"{done:,} done, {failed:,} failed, {left:,} left of {_amount(event)}"
    words += f"; {in_flight:,} of {slots:,} open" if slots else f"; {in_flight:,} open"
    if event.pace.workers is not None:
        words += f" by {plural(event.pace.workers.live, 'worker')}"
    if shared := screen.sharing(event):
        words += f", limits shared by {shared:,} runs"
    words += f", {screen.rate(event.rows_per_s)} {'rows' if event.answers is None else 'answers'}/s"
    if screen.rate(event.requests_per_s) != screen.rate(event.rows_per_s):
        words += f", {screen.rate(event.requests_per_s)} requests/s"
    words += f", {screen.rate(event.tokens_per_s)} tokens/s"
    if event.cost is not None:
        words += f"; {screen.cost(event)}"
    if event.left_s is not None and left:
        words += f"; {clock(event.left_s)} {'after the outage' if screen.in_outage(event) else 'to go'}"
    why = screen.why(event)
    return f"{words}; {why}" if why else words


def _amount(event: Progress | Started) -> str:
    """Return how much a session is to have at its end."""
    of = plural(event.rows, "row")
    if event.answers is None:
        return of
    # a retry and a sample leave some of them to others
    whole = event.rows * event.each if isinstance(event, Started) else event.answers
    part = f"{event.answers:,} of " if event.answers < whole else ""
    return f"{part}{plural(max(event.answers, whole), 'answer')} of {of}"


def waiting(event: Stopping, how: str) -> str | None:
    """Return what a session waits for that ends early; None if for nothing. how: what drops the open requests, such as Ctrl-C."""
    if not (event.in_flight and event.grace_s):
        return None
    it = "it" if event.in_flight == 1 else "them"
    return f"waiting up to {event.grace_s:g} s for {plural(event.in_flight, 'open request')}; {how} to drop {it}"
