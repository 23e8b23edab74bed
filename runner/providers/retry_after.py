"""How long a server asks to be left alone, read from its response headers.

Pure, and its one rule: a hint that makes no sense is no hint, and the next form is tried.
"""

from collections.abc import Iterator, Mapping

from runner.durations import date, instant_of, number, span_until, until

# a month: no server means a longer wait in earnest
_LONGEST_S = 31 * 86400.0


def retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Give the wait in seconds, or None. Header names are lower case; ``now`` is used when the server sends no date.

    Order: retry-after-ms, retry-after as number, then as date, x-ratelimit-reset-*, anthropic-ratelimit-*-reset.
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
        if name.startswith("x-ratelimit-reset") and _spent(headers, name.replace("-reset", "-remaining", 1)):
            yield span_until(value, now)


def _anthropic_resets(headers: Mapping[str, str], now: float) -> Iterator[float | None]:
    for name, value in headers.items():
        if (
            name.startswith("anthropic-ratelimit-")
            and name.endswith("-reset")
            and _spent(headers, name.removesuffix("reset") + "remaining")
        ):
            yield until(instant_of(value), now)


def _spent(headers: Mapping[str, str], remaining: str) -> bool:
    """Tell whether nothing is left of a limit. One that is not spent did not cause the refusal."""
    left = headers.get(remaining)
    return left is None or number(left) == 0
