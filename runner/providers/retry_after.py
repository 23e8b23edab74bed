"""Reads from response headers how long a server asks clients to wait before they retry.

Pure. One rule: a header that cannot be parsed, or is not plausible, is ignored, and the next one is tried.
"""

from collections.abc import Iterator, Mapping

from runner.durations import date, instant_of, number, span_until, until

# 31 days: a server that sends more does not mean it
_LONGEST_S = 31 * 86400.0


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
