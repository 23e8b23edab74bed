"""What a run may have cost beyond what is known, in words: for requests of unknown usage, and for such as were open at an end."""

from runner.event_types import Summary
from runner.money import PICO, shown
from runner.store.totals import Totals
from runner.text import plural


def more(of: Totals | Summary, *, active: bool) -> str | None:
    """Return what a run may have cost beyond its known cost, in one phrase; None if all is known, or no price.

    active: its session goes on; else open requests are those that a killed one left.
    """
    if of.cost is None:
        return None
    if of.cost_perhaps is None:
        return "perhaps more, for attempts whose usage is unknown and whose answers had no limit (--max-tokens sets one)"
    return f"perhaps up to {_amount(of.cost_perhaps)} more, {_for_what(of, active=active)}" if of.cost_perhaps else None


def unpriced(of: Totals) -> str | None:
    """Return the words for requests that were open at a kill, where no price is known; None where ``more`` has them."""
    if not of.killed_requests or of.cost is not None:
        return None
    were = "was" if of.killed_requests == 1 else "were"
    return f"up to {plural(of.killed_requests, 'request')} {were} open when the process ended, perhaps billed"


def _for_what(of: Totals | Summary, *, active: bool) -> str:
    """Return for what a run may have cost more than is known."""
    attempts = "for attempts whose usage or service tier is not known in full"
    if not of.open_requests or not of.cost_open_requests:
        return attempts
    requests = _open(of, active=active)
    # what is left to the others may be a rounding of the sums
    if of.cost_perhaps is None or of.cost_perhaps - of.cost_open_requests < 1 / PICO:
        return requests
    return f"{attempts}, {_amount(of.cost_open_requests)} of it {requests}"


def _open(of: Totals | Summary, *, active: bool) -> str:
    """Return for which open requests a run may have cost more."""
    # those of a session with a budget are attempts in the next one, so that its summary has none of them
    killed = of.killed_requests if isinstance(of, Totals) else of.open_requests
    single, parts = of.open_requests - killed, []
    if single and active:
        parts.append(f"for {plural(single, 'open request')}")
    elif single:
        parts.append(f"for {_that_were_open(single)}")
    if killed:
        # they may be of several sessions that were killed
        parts.append(f"for up to {_that_were_open(killed, 'without a budget ' if single and not active else '')}")
    return " and ".join(parts)


def _that_were_open(number: int, how: str = "") -> str:
    return f"{plural(number, 'request')} that {'was' if number == 1 else 'were'} open {how}when the process ended"


def _amount(dollars: float) -> str:
    return shown(round(dollars * PICO))
