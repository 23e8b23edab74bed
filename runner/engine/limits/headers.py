"""Reads the limits that a server reports: ``x-ratelimit-*`` (OpenAI and many others), ``anthropic-ratelimit-*``. Pure.

Sources: OpenAI, "Rate limits", section on headers; Anthropic, "Rate limits", section on response headers.
"""

from collections.abc import Iterable, Mapping
from typing import Literal, TypeAlias

from msgspec import Struct

from runner import durations

Kind: TypeAlias = Literal["rpm", "tpm", "input_tpm", "output_tpm"]
"""The kinds of limits per minute, named like their options."""

LONG_S = 300.0
"""Seconds. A limit that resets later than this is one per day, not per minute, and is ignored."""

LEAST = 1.0
"""A smaller limit is taken for a mistake of the server and ignored: no request could be sent."""

_WORDS: Mapping[str, Kind] = {
    "requests": "rpm", "tokens": "tpm", "input-tokens": "input_tpm", "output-tokens": "output_tpm",
}  # fmt: skip
_PREFIXES = ("x-ratelimit-", "anthropic-ratelimit-")
_PARTS = ("limit", "remaining", "reset")


class Seen(Struct, kw_only=True):
    """One limit as the headers of an answer report it. None: not reported."""

    limit: float | None = None
    remaining: float | None = None
    # seconds until the whole limit is available again
    reset_s: float | None = None

    @property
    def per_minute(self) -> float | None:
        """The limit per minute; None if it is unknown, implausible or not per minute."""
        if self.limit is None or self.limit < LEAST or (self.reset_s is not None and self.reset_s > LONG_S):
            return None
        return self.limit


def speaks(raw: Iterable[tuple[bytes, bytes]]) -> bool:
    """Return True if any header is about limits. Cheap: called for every answer whose headers are read."""
    return any(b"ratelimit" in name.lower() for name, _ in raw)


def read(raw: Iterable[tuple[bytes, bytes]], now: float) -> dict[Kind, Seen]:
    """Return all limits in the headers. now: UTC seconds since the epoch, used if the server sends no date."""
    headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in raw}
    server_now = durations.date(headers.get("date", ""))
    limits: dict[Kind, Seen] = {}
    for name, value in headers.items():
        prefix = next((known for known in _PREFIXES if name.startswith(known)), None)
        if prefix is None:
            continue
        part, kind = _split(name.removeprefix(prefix))
        if part is None or kind is None:
            continue
        seen = limits.setdefault(kind, Seen())
        if part == "limit":
            seen.limit = durations.number(value)
        elif part == "remaining":
            seen.remaining = durations.number(value)
        else:
            seen.reset_s = durations.reset(value, now if server_now is None else server_now)
    return limits


def _split(name: str) -> tuple[str | None, Kind | None]:
    """Split ``limit-tokens`` (OpenAI) or ``tokens-limit`` (Anthropic) into its part and its kind."""
    for part in _PARTS:
        if name.startswith(f"{part}-"):
            return part, _WORDS.get(name.removeprefix(f"{part}-"))
        if name.endswith(f"-{part}"):
            return part, _WORDS.get(name.removesuffix(f"-{part}"))
    return None, None
