"""Parses waits and instants from text, and formats them for people. Pure.

Every parser returns None for text that it cannot read, so that its caller can try the next form.
"""

import math
import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

_NUMBER = re.compile(r"(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?", re.ASCII | re.IGNORECASE)
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|us|µs|ns|d|h|m|s)", re.ASCII)
_SPAN = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|us|µs|ns|d|h|m|s))+", re.ASCII)
_CLOCK = re.compile(r"(?:(\d+)-)?(\d+):([0-5]\d):([0-5]\d)", re.ASCII)
_INSTANT = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d", re.ASCII)
# no number, span or date is longer; matching more text would only cost time
_LONGEST = 64
_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
# from here on, a plain number is not a wait but an instant in seconds since the epoch; from 1000 times that on, in ms
_EPOCH = 1e9


def number(text: str) -> float | None:
    """Parse a finite number that is not negative."""
    text = text.strip()
    if len(text) > _LONGEST or not _NUMBER.fullmatch(text):
        return None
    value = float(text)
    return value if math.isfinite(value) else None


def reset(text: str, now: float) -> float | None:
    """Parse a wait and return it in seconds. The text is a number, a span (``6m0s``), or an instant (epoch or RFC 3339)."""
    wait = span_until(text, now)
    return wait if wait is not None else until(instant_of(text), now)


def parse_span(text: str) -> float | None:
    """Parse a number of seconds, or a span such as ``6m0s``, and return seconds."""
    text = text.strip()
    value = number(text)
    if value is not None:
        return value
    if len(text) > _LONGEST or not _SPAN.fullmatch(text):
        return None
    total = sum(float(amount) * _SECONDS[unit] for amount, unit in _PART.findall(text))
    return total if math.isfinite(total) else None


def parse_duration(text: str) -> float | None:
    """Parse what a person types: a number of seconds, a span such as ``2h30m``, or ``HH:MM:SS`` (also ``D-HH:MM:SS``)."""
    match = _CLOCK.fullmatch(text.strip()) if len(text) <= _LONGEST else None
    if match is None:
        return parse_span(text)
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return days * 86400.0 + hours * 3600.0 + minutes * 60.0 + seconds


def span_until(text: str, now: float) -> float | None:
    """Parse a wait and return it in seconds: a span, a number, or a number so large that it is an instant since the epoch."""
    value = number(text)
    if value is None or value < _EPOCH:
        return parse_span(text)
    return until(value if value < _EPOCH * 1000 else value / 1000, now)


def until(instant: float | None, now: float) -> float | None:
    """Return the seconds from ``now`` to an instant; None if the instant is unknown or past."""
    if instant is None or instant < now:
        return None
    return instant - now


def date(text: str) -> float | None:
    """Parse an HTTP date and return seconds since the epoch."""
    if len(text) > _LONGEST:
        return None
    try:
        return _timestamp(parsedate_to_datetime(text))
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def instant_of(text: str) -> float | None:
    """Parse an RFC 3339 instant and return seconds since the epoch."""
    text = text.strip()
    if not _INSTANT.match(text):
        return None
    try:
        return _timestamp(datetime.fromisoformat(text))
    except (ValueError, OverflowError):
        return None


def _timestamp(moment: datetime) -> float:
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def format_span(seconds: float) -> str:
    """Format a duration for people: ``45 s``, ``10 min``, ``5.5 h``."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def clock(seconds: float) -> str:
    """Return a duration as minutes and seconds (``1:05``), from one hour on with hours (``1:00:05``)."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
