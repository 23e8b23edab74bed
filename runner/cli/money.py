"""What a run costs, in words."""

from collections.abc import Mapping, Sequence

from runner.event_types import Summary
from runner.figures import EndpointFigures
from runner.model import Json
from runner.money import PICO, exact, picodollars, shown
from runner.session import perhaps
from runner.store.totals import Totals
from runner.text import clean, plural

_ENDPOINTS = 10
"""Endpoints that are shown."""

UNKNOWN = "unknown: no price is known"


def cost(of: Totals | Summary, *, left: int, active: bool = True) -> str | None:
    """Return what a run has cost, in one phrase; None if no price is known. left: rows without an outcome.

    active: its session goes on; else open requests are those that a killed one left.
    """
    if of.cost is None:
        return None
    parts = [amount(of.cost)]
    if isinstance(of, Summary) and (now := in_this_session(of)) is not None:
        parts[0] += f" in all, {amount(now)} of it in this session"
    if of.cost_failed_attempts:
        parts[0] += f", {amount(of.cost_failed_attempts)} of it on failed attempts"
    if (more := perhaps.more(of, active=active)) is not None:
        parts.append(more)
    if of.cost_saved_by_cache:
        parts.append(f"caches saved {amount(of.cost_saved_by_cache)}" if of.cost_saved_by_cache > 0 else _in_vain(of))
    if of.unpriced_attempts:
        parts.append(f"{plural(of.unpriced_attempts, 'attempt')} of unknown price")
    if left and of.cost_projected is not None:
        parts.append(f"about {amount(of.cost_projected)} when all rows are done")
    return "; ".join(parts)


def in_this_session(of: Summary) -> float | None:
    """Return what of the cost of a run the last session has cost, in dollars; None if it is all, or not known."""
    return of.cost_now if of.cost is not None and of.cost_now is not None and of.cost - of.cost_now > 0.5 / PICO else None


def budget_left(of: Totals, settings: Mapping[str, Json], *, rows: int, left: int) -> str | None:
    """Return what the budget of a run leaves, if its other rows are expected to take more; None if it is enough, or not known.

    settings: those of the run. rows: with an outcome for which something was sent. left: without one.
    """
    limit, projected = settings.get("max_cost"), of.cost_projected
    if isinstance(limit, int | float) and of.cost is not None and of.cost_perhaps is not None:
        room, expected = limit - of.cost - of.cost_perhaps, projected - of.cost if left and projected is not None else 0.0
        if room < max(expected, 0.5 / PICO):
            return amount(max(0.0, room))
    limit, known = settings.get("max_tokens_total"), (of.input_tokens or 0) + (of.output_tokens or 0)
    if isinstance(limit, int):
        free = limit - of.tokens_of_budget
        if free < max(known * left / rows if rows else 0, 1):
            return plural(max(0, free), "token")
    return None


def _in_vain(of: Totals | Summary) -> str:
    return f"writing to caches cost {amount(-(of.cost_saved_by_cache or 0.0))} more than reading from them saved"


def standard_tier(of: Totals | Summary) -> str | None:
    """Return the words for answers that the flex tier was asked for and the standard tier gave; None if there are none."""
    number = of.standard_tier
    return f"{plural(number, 'answer')} came from the standard tier, at its price" if number else None


def ended_early(of: Totals | Summary) -> str | None:
    """Return the words for answers that were ended before their end; None if there are none."""
    if not of.ended_early:
        return None
    words = plural(of.ended_early, "answer")
    if of.estimated_saved_tokens is None:
        return f"{words}; no whole answer tells how much that saved"
    cost = "" if of.estimated_saved_cost is None else f" ({amount(of.estimated_saved_cost)})"
    return f"{words}; saved about {plural(of.estimated_saved_tokens, 'token')}{cost}, estimated by the whole answers"


def amount(dollars: float) -> str:
    """Return dollars as a person reads them."""
    return shown(round(dollars * PICO))


def typed(dollars: float) -> str:
    """Return dollars that a person has typed."""
    return exact(picodollars(dollars))


def endpoints(of: Sequence[EndpointFigures]) -> list[str]:
    """Return a line for each of several endpoints of a run; without the lines, those with fewest answers are counted."""
    lines = []
    for one in of[:_ENDPOINTS]:
        words = [plural(one.answers, "answer")]
        words += [plural(one.failed_attempts, "failed attempt")] if one.failed_attempts else []
        if one.input_tokens is not None or one.output_tokens is not None:
            words.append(f"{_count(one.input_tokens)} tokens in, {_count(one.output_tokens)} out")
        words += [amount(one.cost)] if one.cost is not None else []
        words += [f"p50 {one.p50_s:.2f} s"] if one.p50_s is not None else []
        lines.append(f"{clean(one.endpoint)}: {', '.join(words)}")
    if len(of) > _ENDPOINTS:
        lines.append(f"and {plural(len(of) - _ENDPOINTS, 'endpoint')} more, which --json shows")
    return [f"  {'endpoints' if not place else '':12}  {line}" for place, line in enumerate(lines)]


def _count(number: int | None) -> str:
    return "unknown" if number is None else f"{number:,}"
