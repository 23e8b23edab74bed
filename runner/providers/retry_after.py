"""Reads from response headers, or else from an error body, how long a server asks clients to wait before they retry.

Pure. One rule: what cannot be parsed, or is not plausible, is ignored, and the next one is tried.
"""

import re
from collections.abc import Iterator, Mapping

from runner.durations import date, instant_of, number, parse_span, span_until, until
from runner.model import Json

# 31 days: a server that sends more does not mean it
_LONGEST_S = 31 * 86400.0
# names of a wait in an error body, without "_" and "-", in lower case, and what one unit of it is in seconds
_FIELDS = {
    "retrydelay": 1.0, "retryafter": 1.0, "retryafterseconds": 1.0, "retryaftersecs": 1.0, "retryaftersec": 1.0,
    "retryafters": 1.0, "retryinseconds": 1.0, "waitseconds": 1.0, "retryafterms": 1e-3, "retrydelayms": 1e-3,
}  # fmt: skip
_INSIDE = ("details", "metadata", "headers", "error", "parameters", "data")
_DEEPEST = 5
_SENTENCE = re.compile(
    r"(?:try again|retry|wait|available)(?: your request| again)?(?: in| after| for)? (?:about |at least )?"
    r"((?:\d+(?:\.\d+)?(?:ms|h|m|s) ?)+\b|\d+(?:\.\d+)?) ?(second|sec\b|minute|min\b|hour|millisecond)?",
    re.IGNORECASE | re.ASCII,
)
_UNITS = {"second": 1.0, "sec": 1.0, "minute": 60.0, "min": 60.0, "hour": 3600.0, "millisecond": 1e-3}


def retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Return the wait in seconds, or None. Header names are lower case.

    now: seconds since the epoch, used if the answer has no ``date`` header. Order of the headers: retry-after-ms, retry-after
    as a number, retry-after as a date, x-ratelimit-reset-*, anthropic-ratelimit-*-reset.
    """
    return next((wait for wait in _waits(headers, now) if wait is not None and wait <= _LONGEST_S), None)


def _waits(headers: Mapping[str, str], now: float) -> Iterator[float | None]:
    in_ms = number(headers.get("retry-after-ms", ""))
    yield None if in_ms is None else in_ms / 1000
    plain = headers.get("retry-after", "")
    yield number(plain)
    server_now = date(headers.get("date", ""))
    if server_now is None:
        server_now = now
    yield until(date(plain), server_now)
    for family in (_openai_resets(headers, server_now), _anthropic_resets(headers, server_now)):
        yield max((wait for wait in family if wait is not None), default=None)


def _openai_resets(headers: Mapping[str, str], now: float) -> Iterator[float | None]:
    for name, value in headers.items():
        if name.startswith("x-ratelimit-reset") and _used_up(headers, name.replace("-reset", "-remaining", 1)):
            yield span_until(value, now)


def _anthropic_resets(headers: Mapping[str, str], now: float) -> Iterator[float | None]:
    for name, value in headers.items():
        if (
            name.startswith("anthropic-ratelimit-")
            and name.endswith("-reset")
            and _used_up(headers, name.removesuffix("reset") + "remaining")
        ):
            yield until(instant_of(value), now)


def _used_up(headers: Mapping[str, str], remaining: str) -> bool:
    """Return True if a limit is used up or its remainder is unknown. A limit with a remainder did not cause the refusal."""
    value = headers.get(remaining)
    return value is None or number(value) == 0


def asks_to_return(headers: Mapping[str, str], now: float) -> bool:
    """Return True if the answer itself has a header that tells when to come back, and not only the state of a limit."""
    server_now = date(headers.get("date", ""))
    plain = headers.get("retry-after", "")
    waits = (
        number(headers.get("retry-after-ms", "")),
        number(plain),
        until(date(plain), now if server_now is None else server_now),
    )
    return any(wait is not None for wait in waits)


def body_wait(value: Json, depth: int = 0) -> float | None:
    """Return the wait in seconds that the fields of a decoded error body ask for, or None."""
    if isinstance(value, list):
        waits = (body_wait(entry, depth + 1) for entry in value[:20]) if depth < _DEEPEST else iter(())
        return next((wait for wait in waits if wait is not None), None)
    if not isinstance(value, dict):
        return None
    for name, given in value.items():
        unit = _FIELDS.get(name.replace("_", "").replace("-", "").lower())
        if unit is not None and (wait := _amount(given, unit)) is not None:
            return wait
    inner = (body_wait(value.get(name), depth + 1) for name in _INSIDE) if depth < _DEEPEST else iter(())
    return next((wait for wait in inner if wait is not None), None)


def words_wait(message: str) -> float | None:
    """Return the wait in seconds that a message asks for (``Please try again in 6m0s.``), or None."""
    for amount, unit in _SENTENCE.findall(message[:2000]):
        plain = number(amount)
        if plain is not None and not unit:
            # a number without a unit may be anything
            continue
        wait = parse_span(amount.replace(" ", "")) if plain is None else plain * _UNITS[unit.lower()]
        if wait is not None and wait <= _LONGEST_S:
            return wait
    return None


def _amount(given: Json, unit: float) -> float | None:
    if isinstance(given, str):
        plain = number(given)
        wait = parse_span(given) if plain is None else plain * unit
    elif isinstance(given, int | float) and not isinstance(given, bool) and 0 <= given < 1e12:
        wait = given * unit
    elif isinstance(given, dict):
        # google.protobuf.Duration as an object
        wait = _amount(given.get("seconds"), 1.0)
    else:
        return None
    return wait if wait is not None and wait <= _LONGEST_S else None
