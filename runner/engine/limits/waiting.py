"""What a lane shows of itself: its state, and the reason why no request is sent, in one phrase."""

import math
import time
from collections.abc import Container, Iterable, Mapping

from msgspec import structs

from runner.admission import Permit, Standing
from runner.durations import format_span
from runner.engine.limits.bucket import HOLD_S
from runner.engine.limits.fallback import Fallback
from runner.engine.limits.headers import Kind
from runner.engine.limits.outage import Outage
from runner.engine.limits.pause import LONG_PAUSE_S, Pause
from runner.engine.limits.rates import Rates
from runner.engine.limits.slots import Slots
from runner.pace import LaneState
from runner.several import spoken
from runner.text import clean, plural

_NAMES: dict[Kind, str] = {
    "rpm": "requests/min",
    "tpm": "tokens/min",
    "input_tpm": "input tokens/min",
    "output_tpm": "output tokens/min",
}
QUIET_S = 20.0
"""Seconds without an answer after which that is shown, so that a slow server does not look like a hang."""
LONGEST = 90
"""Characters of an answer that are shown."""
_UNREACHABLE = ("connect", "dns", "proxy", "timeout_connect", "tls")
"""Error codes of attempts that did not reach the server."""


def shown(words: str | None, otherwise: str) -> str:
    """Return the last answer of the server, shortened, or other words if there is none."""
    words = words or otherwise
    return words if len(words) <= LONGEST else f"{words[: LONGEST - 1].rstrip()}…"


def state(
    model: str, slots: Slots, pause: Pause, outage: Outage, rates: Rates, words: str | None, *, clock: float, wall: float
) -> LaneState:
    """Return what the lane of a model is doing.

    words: the last answer of the server that was a failure. clock, wall: the time now, monotonic and since the epoch.
    """
    return LaneState(
        model=model,
        slots=slots.limit,
        ceiling=slots.ceiling,
        in_flight=slots.out,
        limits={str(kind): limit for kind, limit in rates.per_minute.items()},
        waiting=waiting(pause, outage, rates, words, clock=clock, wall=wall),
        blocked=pause.left_s > 0 or outage.since is not None,
        waits_for=rates.waits_for,
        paused_s=pause.left_s,
        outage_s=0.0 if outage.since is None else clock - outage.since,
    )


def with_needs(
    state: LaneState,
    rates: Rates,
    standings: Iterable[Standing],
    savers: Mapping[Permit, Standing],
    held: Container[Standing],
) -> LaneState:
    """Add what the rows of a lane that wait still have to get of its limits, and the row that makes others wait by saving up.

    savers: the requests that save up, oldest first. held: rows that were refused. Only an outage sends them again.
    """
    rows = [standing for standing in standings if standing.waits]
    sent = rows if state.outage_s else [standing for standing in rows if standing not in held]
    needs = {str(kind): need for kind, need in rates.needs(sent, savers).items()}
    words = state.waiting
    if savers and words and not state.blocked:
        permit, standing = next(iter(savers.items()))
        tokens, left_s = rates.saving(permit)
        if left_s > HOLD_S and standing.key:
            key, left = clean(spoken(standing.key), 40), format_span(math.ceil(left_s))
            words += f"; row {key} of about {tokens:,.0f} tokens needs {left} more of it"
    return structs.replace(state, waiting_rows=len(rows), needs=needs, waiting=words)


def waiting(pause: Pause, outage: Outage, rates: Rates, words: str | None, *, clock: float, wall: float) -> str | None:
    """Return the phrase; None if requests wait for slots only. The parameters are those of ``state``."""
    if (left := pause.left_s) > 0:
        if left > LONG_PAUSE_S:
            return f"paused until {time.strftime('%Y-%m-%d %H:%M:%S %Z', time.localtime(wall + left)).rstrip()} ({pause.reason})"
        return f"paused for {format_span(math.ceil(left))} more ({pause.reason})"
    if outage.since is not None:
        trouble = "unreachable" if outage.reason in _UNREACHABLE else "refusing all rows" if outage.refusing else "failing"
        return f"server {trouble} for {format_span(clock - outage.since)} ({shown(words, outage.reason)}); retrying"
    if (kind := rates.waits_for) is None:
        return None
    limit = f" ({rates.per_minute[kind]:,.10g}, reported by the server)" if rates.reported.get(kind) else ""
    return f"waiting for the {_NAMES[kind]} limit{limit}"


def full(standings: Iterable[Standing], fallback: Fallback | None, clock: float) -> str | None:
    """Return a phrase about the rows that wait for capacity of flex, and those that go to the standard tier; None without any.

    fallback: of the lane. clock: the time now. A row whose time is over, and that waits for a budget, is in neither.
    """
    if fallback is None:
        return None
    until = [at for standing in standings if (at := standing.flex_until) is not None and standing.waits and at > clock]
    phrases = []
    if until:
        left = format_span(math.ceil(min(until) - clock))
        phrases.append(f"flex has no capacity for {plural(len(until), 'row')}; the first goes to the standard tier in {left}")
    if fallback.waiting:
        what = "until an open request ends" if fallback.lacks_place else "for a slot"
        go = "goes" if fallback.waiting == 1 else "go"
        phrases.append(f"{plural(fallback.waiting, 'row')} {go} to the standard tier, and must wait {what}")
    return "; ".join(phrases) or None


def quiet(standings: Iterable[Standing], answered_at: float, clock: float) -> str | None:
    """Return a phrase about a lane whose open requests have brought no answer for long; None if there is none for long.

    answered_at: when the last answer was complete. clock: the time now, monotonic.
    """
    waits = [(one.admitted_at, one.slow) for one in standings if one.admitted_at is not None and not one.waits]
    if not waits:
        return None
    since, slow = min(waits)
    oldest_s = clock - since
    quiet_s = min(oldest_s, clock - answered_at)
    if quiet_s < QUIET_S:
        return None
    words = f"no answer for {format_span(quiet_s)}; the oldest request has been open for {format_span(oldest_s)}"
    return f"{words}, as is usual at the flex tier" if slow else words
