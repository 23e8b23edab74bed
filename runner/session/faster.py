"""One sentence on what would make a session faster, made from where its time went. None where nobody can tell."""

from msgspec import structs

from runner.text import plural
from runner.time_ledger import PARTS, TimeLedger

LEAST_S, LEAST_REQUESTS = 10.0, 50
"""A session that was shorter, or sent fewer requests, says nothing: what it shows is chance."""
LEAST_SHARE = 0.2
"""Share of the time from which a part is worth a sentence."""
FULL = 0.7
"""Share of the time for which slots must be in use to be the limit themselves."""
BUSY = 0.85
"""Share of the time for which the process computes, from which on it is the limit."""
_LIMITS = {
    "rpm": "requests a minute",
    "tpm": "tokens a minute",
    "input_tpm": "input tokens a minute",
    "output_tpm": "output tokens a minute",
}
_OURS = {
    "reading": "rows were read too slowly: put the input on a local disk, without compression",
    "saving": "answers waited to be saved: put the store on a local disk, with --db",
    "sending": "requests waited to be written to the store before they went out: put it on a local disk, with --db",
    "warming": "rows waited until a shared prefix was in the provider's cache: --no-warm-prefix sends them at once",
    "workers": "rows waited for workers that could send them: start more, and earlier",
}


def is_telling(time: TimeLedger) -> bool:
    """Return True if a session was long enough for its shares to mean something."""
    return time.elapsed_s >= LEAST_S and time.requests >= LEAST_REQUESTS and time.total_s > 0


def too_brief(time: TimeLedger) -> str | None:
    """Return why no shares of a ledger are shown, in a sentence; None if they are."""
    if is_telling(time):
        return None
    return f"Shares of less than {LEAST_S:g} seconds or {plural(LEAST_REQUESTS, 'request')} are chance, so none are shown."


def with_advice(time: TimeLedger | None) -> TimeLedger | None:
    """Return a ledger with the sentence on what would make its session faster, if there is one."""
    return structs.replace(time, advice=advice(time)) if time is not None else None


def advice(time: TimeLedger) -> str | None:
    """Return the sentence; None if the session was too short, or if there is nothing to say."""
    if not is_telling(time):
        return None
    busy = time.busy_s / time.elapsed_s
    if busy >= BUSY:
        how = "several processes do more: give each a part of the rows as an input of its own"
        return f"this process is the limit, it computed {_percent(busy)} of the time: {how}"
    held_up = [part for part in PARTS if part not in ("answering_s", "idle_s") and time.share(part) >= LEAST_SHARE]
    if not held_up:
        return _of_full_slots(time)
    part = max(held_up, key=time.share)
    words = {
        "limits_s": _of_limits,
        "server_queue_s": _of_queue,
        "retry_wait_s": _of_retries,
        "outage_s": _of_outage,
        "runner_s": _of_ours,
    }
    return words[part](time)


def _of_limits(time: TimeLedger) -> str | None:
    causes = (*_LIMITS, "pause", "capacity", "budget", "halt")
    cause = max(causes, key=time.share)
    share = _percent(time.share(cause))
    if cause == "halt":
        return f"{share} of the time the session was paused by hand: nothing was sent"
    if cause == "pause":
        first = f"{share} of the time requests waited after the server had refused some"
        return f"{first}: ask for a higher limit, or set --rpm, --tpm or --concurrency to what it takes"
    if cause == "capacity":
        return f"{share} of the time flex had no capacity: with a shorter --flex-patience rows go at the standard price sooner"
    if cause == "budget":
        return f"{share} of the time requests waited for room in the budget: a larger --max-cost lets more of them go at once"
    if cause in time.borrowed_limits:
        first = f"{share} of the time a limit of {_LIMITS[cause]} held requests back, which another run had set"
        return f"{first}: raise it there, or keep this run apart with --no-share"
    limit = time.limits.get(cause)
    what = f"the limit of {limit:,.10g} {_LIMITS[cause]}" if limit is not None else f"a limit of {_LIMITS[cause]}"
    option = f"--{cause.replace('_', '-')}"
    todo = f"raise {option}, if the server allows more" if cause in time.own_limits else "ask the provider for a higher limit"
    return f"{share} of the time {what} held requests back: {todo}"


def _of_queue(time: TimeLedger) -> str | None:
    first, best = time.first_token_s, time.best_first_token_s
    if first is None or best is None:
        return None
    at = plural(max(1, round(time.in_flight)), "request")
    took = f"the server took {first:.2g} s to its first token with {at} in flight, and {best:.2g} s at best"
    return f"{took}: more at once will not be faster, more of its replicas will"


def _of_retries(time: TimeLedger) -> str | None:
    share = _percent(time.share("retry_wait_s"))
    return f"{share} of the time rows waited for another attempt: what the failed attempts ended with is to be mended first"


def _of_outage(time: TimeLedger) -> str | None:
    return f"{_percent(time.share('outage_s'))} of the time the server was down: nothing here would have made it faster"


def _of_ours(time: TimeLedger) -> str | None:
    cause = max(_OURS, key=time.share)
    return f"{_percent(time.share(cause))} of the time {_OURS[cause]}" if time.share(cause) >= LEAST_SHARE else None


def _of_full_slots(time: TimeLedger) -> str | None:
    """Say that more requests at once would be faster, where their number and nothing else was the limit."""
    used = time.share("answering_s") + time.share("server_queue_s")
    if used < FULL or time.slots < time.ceiling or not time.ceiling:
        return None
    option = "--max-concurrency" if time.tuned else "--concurrency"
    full = f"all {plural(time.ceiling, 'slot')} were in use {_percent(used)} of the time"
    return f"{full}: {option} {2 * time.ceiling} sends more at once, if the server takes it"


def _percent(share: float) -> str:
    return f"{min(100, round(100 * share))} %"
