"""What a server tells of its limits: ``x-ratelimit-*`` (OpenAI and many others) and ``anthropic-ratelimit-*``. Pure.

Sources: OpenAI, "Rate limits", section on headers; Anthropic, "Rate limits", section on response headers.
"""

from collections.abc import Iterable, Mapping
from typing import Literal, TypeAlias

from msgspec import Struct

from runner import durations

Kind: TypeAlias = Literal["rpm", "tpm", "input_tpm", "output_tpm"]
"""A limit per minute, by the name of its option."""

LONG_S = 300.0
"""A limit that takes longer than this to come back is one for a day, not for a minute: it is not a pace."""

LEAST = 1.0
"""A smaller limit is a mistake of the server; nothing would go out."""

_WORDS: Mapping[str, Kind] = {
    "requests": "rpm", "tokens": "tpm", "input-tokens": "input_tpm", "output-tokens": "output_tpm",
}  # fmt: skip
_PREFIXES = ("x-ratelimit-", "anthropic-ratelimit-")
_PARTS = ("limit", "remaining", "reset")


class Seen(Struct, kw_only=True):
    """One limit as the headers of an answer show it; None where they do not."""

    limit: float | None = None
    remaining: float | None = None
    # seconds until all of it is there again
    reset_s: float | None = None

    @property
    def per_minute(self) -> float | None:
        """The limit as a pace, None when it is none."""
        if self.limit is None or self.limit < LEAST or (self.reset_s is not None and self.reset_s > LONG_S):
            return None
        return self.limit


def speaks(raw: Iterable[tuple[bytes, bytes]]) -> bool:
    """Tell whether any header is about limits; cheap, as it is asked for every answer."""
    return any(b"ratelimit" in name.lower() for name, _ in raw)


def read(raw: Iterable[tuple[bytes, bytes]], now: float) -> dict[Kind, Seen]:
    """Read all limits. ``now``: UTC seconds since the epoch, used when the server sends no date."""
    headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in raw}
    server_now = durations.date(headers.get("date", ""))
    found: dict[Kind, Seen] = {}
    for name, value in headers.items():
        prefix = next((one for one in _PREFIXES if name.startswith(one)), None)
        if prefix is None:
            continue
        part, kind = _split(name.removeprefix(prefix))
        if part is None or kind is None:
            continue
        seen = found.setdefault(kind, Seen())
        if part == "limit":
            seen.limit = durations.number(value)
        elif part == "remaining":
            seen.remaining = durations.number(value)
        else:
            seen.reset_s = durations.reset(value, now if server_now is None else server_now)
    return found


def _split(name: str) -> tuple[str | None, Kind | None]:
    """Take ``limit-tokens`` (OpenAI) or ``tokens-limit`` (Anthropic) apart."""
    for part in _PARTS:
        if name.startswith(f"{part}-"):
            return part, _WORDS.get(name.removeprefix(f"{part}-"))
        if name.endswith(f"-{part}"):
            return part, _WORDS.get(name.removesuffix(f"-{part}"))
    return None, None
