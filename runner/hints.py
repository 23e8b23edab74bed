"""How long a server asks to be left alone, read from its response headers.

Pure, and its one rule: a hint that makes no sense is no hint, and the next form is tried.
"""

import math
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

_NUMBER = re.compile(r"(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?", re.ASCII | re.IGNORECASE)
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|us|µs|ns|d|h|m|s)", re.ASCII)
_SPAN = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|us|µs|ns|d|h|m|s))+", re.ASCII)
_INSTANT = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d", re.ASCII)
# no number, span or date is longer; more would only cost time
_LONGEST = 64
_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
# a month: no server means a longer wait in earnest
_LONGEST_S = 31 * 86400.0
# from here on a plain number is no wait but an instant since the epoch; a thousand times that, one in ms
_EPOCH = 1e9


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
    yield _until(date(plain), server_now)
    for family in (_openai_resets(headers, server_now), _anthropic_resets(headers, server_now)):
        yield max((wait for wait in family if wait is not None), default=None)


def _openai_resets(headers: Mapping[str, str], now: float) -> Iterator[float | None]:
    for name, value in headers.items():
        if name.startswith("x-ratelimit-reset") and _spent(headers, name.replace("-reset", "-remaining", 1)):
            yield _span(value, now)


def _anthropic_resets(headers: Mapping[str, str], now: float) -> Iterator[float | None]:
    for name, value in headers.items():
        if (
            name.startswith("anthropic-ratelimit-")
            and name.endswith("-reset")
            and _spent(headers, name.removesuffix("reset") + "remaining")
        ):
            yield _until(_instant(value), now)


def _spent(headers: Mapping[str, str], remaining: str) -> bool:
    """Tell whether nothing is left of a limit. One that is not spent did not cause the refusal."""
    left = headers.get(remaining)
    return left is None or number(left) == 0


def number(text: str) -> float | None:
    """Read a number that is none below 0, no NaN and not infinite."""
    text = text.strip()
    if len(text) > _LONGEST or not _NUMBER.fullmatch(text):
        return None
    value = float(text)
    return value if math.isfinite(value) else None


def reset(text: str, now: float) -> float | None:
    """Read a time to wait, in seconds: a span (``6m0s``), a number, an instant in either, or one by RFC 3339."""
    wait = _span(text, now)
    return wait if wait is not None else _until(_instant(text), now)


def span(text: str) -> float | None:
    """Read a time in seconds: a number, or a span such as ``6m0s``."""
    text = text.strip()
    value = number(text)
    if value is not None:
        return value
    if len(text) > _LONGEST or not _SPAN.fullmatch(text):
        return None
    total = sum(float(amount) * _SECONDS[unit] for amount, unit in _PART.findall(text))
    return total if math.isfinite(total) else None


def _span(text: str, now: float) -> float | None:
    value = number(text)
    if value is None or value < _EPOCH:
        return span(text)
    return _until(value if value < _EPOCH * 1000 else value / 1000, now)


def _until(instant: float | None, now: float) -> float | None:
    if instant is None or instant < now:
        return None
    return instant - now


def date(text: str) -> float | None:
    """Read an HTTP date."""
    if len(text) > _LONGEST:
        return None
    try:
        return _timestamp(parsedate_to_datetime(text))
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def _instant(text: str) -> float | None:
    """Read an RFC 3339 instant."""
    text = text.strip()
    if not _INSTANT.match(text):
        return None
    try:
        return _timestamp(datetime.fromisoformat(text))
    except (ValueError, OverflowError):
        return None


def _timestamp(moment: datetime) -> float:
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
