"""Waits that use up no attempt: for a rate limit, and for capacity of the flex tier; and when an item, or the run, gives up."""

import math
import random

from runner.durations import format_span
from runner.engine.judge import OUTAGE_S
from runner.engine.limits.pause import LONG_PAUSE_S
from runner.engine.retry import RetryPolicy
from runner.engine.task import Task, asks
from runner.errors import AttemptError, ProviderError
from runner.money import FLEX


def refused_wait(task: Task, error: AttemptError, policy: RetryPolicy, now: float, draw: random.Random) -> float | None:
    """Return the seconds until an item is sent again that was refused without using up an attempt; None: it is given up.

    An item for which flex has had no capacity for long enough is sent at the standard tier from now on. now: monotonic.
    """
    standing, hint_s = task.standing, error.retry_after_s if isinstance(error, ProviderError) else None
    until, waited_s = None, 0.0
    if error.code == "no_capacity" and task.item.request.tier == FLEX:
        # the patience may have become shorter since the first refusal
        until = min(now + policy.flex_patience_s, math.inf if standing.flex_until is None else standing.flex_until)
        standing.flex_until = until
        task.lane.expect_fallback(until)
        if until <= now:
            fall_back(task)
            return 0.0
    else:
        if standing.refused_since is None:
            standing.refused_since = now
        waited_s = now - standing.refused_since
    wait_s = policy.throttled_delay(standing.refusals, waited_s=waited_s, draw=draw, hint_s=hint_s, last_s=standing.waited_s)
    if until is not None and wait_s is not None:
        return min(wait_s, until - now)
    if hint_s is not None and hint_s > LONG_PAUSE_S and standing.refused_since is not None:
        standing.refused_since += hint_s
    return wait_s


def fall_back(task: Task) -> None:
    """Ask for the standard tier from now on, which every provider takes a request without a tier for."""
    asks(task, tier=None)
    standing = task.standing
    standing.standard, standing.slow, standing.flex_until, standing.refusals = True, False, None, 0


def why_no_further(task: Task, verdict: str, wait_s: float | None, now: float, succeeded_at: float) -> str | None:
    """Return words to append to the message of an error that stops the run; None if the run continues.

    wait_s: until the next attempt of the item, None if there is none. succeeded_at: when any row was answered last, monotonic.
    """
    if verdict != "retry":
        return "" if verdict == "stop" else None
    since = task.standing.refused_since
    refused_all = wait_s is None and since is not None and succeeded_at < since
    out_too_long = task.lane.out_of_service_s > OUTAGE_S and now - succeeded_at > OUTAGE_S
    return f" (no row was answered for {format_span(OUTAGE_S)})" if refused_all or out_too_long else None
