"""Which way requests go, and when a run is to be done: the settings ``mode``, ``by`` and ``within``. Pure."""

import re
from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from typing import Any

from runner.errors import UsageError

_OF_DAY = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)(?::([0-5]\d))?", re.ASCII)
_MEANT = "a time of day such as 07:00, or a date and time such as '2026-12-02 07:00'"


def instant(by: str, now: float) -> float:
    """Return when a setting ``by`` is, in seconds since the epoch: for a time of day, the next one after ``now``.

    What names no time zone is of the zone of this machine, and its summer time is that of the day itself. Raises ValueError.
    """
    text = by.strip()
    if (found := _OF_DAY.fullmatch(text)) is None:
        if not re.match(r"\d{4}-\d\d-\d\d[Tt ]\d", text, re.ASCII):
            raise ValueError(by)
        # without a zone, ``timestamp`` reads it as local time
        return datetime.fromisoformat(text).timestamp()
    hour, minute, second = (int(part or 0) for part in found.groups())
    today = (
        datetime.fromtimestamp(now, UTC)
        .astimezone()
        .replace(tzinfo=None)
        .replace(hour=hour, minute=minute, second=second, microsecond=0)
    )
    # one day later on the calendar, and not 24 hours: a night may have 23 or 25
    return next(at for days in (0, 1) if (at := (today + timedelta(days=days)).timestamp()) > now or days)


def check(by: str, where: str) -> None:
    """Raise UsageError for what is no instant. where: where the text comes from, in words."""
    try:
        instant(by, 0.0)
    except (ValueError, OverflowError, OSError):
        raise UsageError(f"by must be {_MEANT}, not {by!r} ({where})") from None


def settle(values: dict[str, Any], sources: dict[str, str], given: Collection[str]) -> None:
    """Let ``by`` or ``within`` of one source of settings replace what the sources before it say. Raises UsageError for both."""
    named = [name for name in ("by", "within") if name in given]
    if len(named) > 1:
        raise UsageError(f"by and within exclude each other: give the time when it is to be done, or how long ({sources['by']})")
    for name in named:
        other = "within" if name == "by" else "by"
        values.pop(other, None)
        sources.pop(other, None)


def fit(full: dict[str, Any], sources: dict[str, str], stored: str) -> None:
    """Refuse ``by`` and ``within`` for live requests; what a run has of them from earlier sessions does not count for these.

    stored: the source of the settings that a store gives. Raises UsageError.
    """
    for name in ("by", "within") if full["mode"] == "live" else ():
        if full[name] is None:
            continue
        # whoever asks for live requests on the command line need not know what a file says of batches
        asked = sources.get("mode", "").startswith("option") and not sources[name].startswith("option")
        if sources.get(name) != stored and not asked:
            word = full[name] if name == "by" else f"{full[name]:g}"
            raise UsageError(f"{name} ({word}) says when a batch run is to be done: add mode batch or mixed, or leave {name} out")
        full[name] = None


def due(by: str | None, within: float | None, now: float) -> float | None:
    """Return when a session that begins now is to be done, in seconds since the epoch; None: whenever it is."""
    if by is not None:
        return instant(by, now)
    return now + within if within is not None else None
