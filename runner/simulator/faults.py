"""The faults that the simulator can inject, by name, and the parser of their shares: ``429=0.1``.

A share is a fraction of all admitted requests; all shares together are at most 1.
"""

import difflib
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from runner.errors import UsageError

FAULTS: Mapping[str, str] = MappingProxyType(
    {
        "429": "rate limit error, with retry-after: 1",
        "500": "internal server error",
        "503": "service unavailable",
        "529": "server overloaded",
        "disconnect": "connection reset in the middle of the answer",
        "truncate": "answer ends cleanly in the middle, with no finish reason",
        "stall": "answer stops in the middle and the connection stays open for an hour",
        "malformed": "one data line in the middle of the answer is not valid JSON",
        "error_event": "an error (overloaded) arrives inside the answer, after status 200",
        "length": "answer ends with the finish reason length (max_tokens); not an error",
        "json": "plain JSON although a stream was requested",
        "empty": "a finish reason but no text",
        "invalid_json": "an answer that does not fit the schema of its request, if that has one",
    }
)
"""Name of every fault -> what a client sees of it, in one line."""

STATUSES: Mapping[str, int] = MappingProxyType({"429": 429, "500": 500, "503": 503, "529": 529})
"""Name of every fault that is an error status before any answer -> that status."""

OUTAGES = tuple(STATUSES.values())
"""The statuses that an outage can have."""

HARMLESS = frozenset({"length", "json", "empty", "invalid_json"})
"""The faults with which the answer is still complete."""

# Floating-point sums are inexact: ten shares of 0.1 do not add up to exactly 1.0.
_ROUNDING = 1e-9


def parse_faults(texts: Sequence[str]) -> dict[str, float]:
    """Parse shares such as ``["429=0.1", "truncate=0.05"]``. Raises UsageError if one is invalid."""
    shares: dict[str, float] = {}
    for text in texts:
        name, equals, number = (part.strip() for part in text.partition("="))
        if not equals:
            raise UsageError(f"fault {text!r} needs a share, such as {name or '429'}=0.1")
        if name in shares:
            raise UsageError(f"fault {name!r} is given twice")
        try:
            shares[name] = float(number)
        except ValueError:
            raise UsageError(f"the share of fault {name!r} must be a number from 0 to 1, not {number!r}") from None
    check_faults(shares)
    return shares


def check_faults(shares: Mapping[str, float]) -> None:
    """Raise UsageError unless every name is known and the shares add up to at most 1."""
    for name, share in shares.items():
        if name not in FAULTS:
            raise UsageError(f"unknown fault {name!r}; {_hint(name)}")
        # ``not 0 <= share`` refuses NaN too.
        if not 0 <= share <= 1:
            raise UsageError(f"the share of fault {name!r} must be from 0 to 1, not {share:g}")
    total = sum(shares.values())
    if total > 1 + _ROUNDING:
        raise UsageError(f"the shares of all faults add up to {total:g}, which is more than 1")


def _hint(name: str) -> str:
    close = difflib.get_close_matches(name.lower(), FAULTS, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else f"available: {', '.join(FAULTS)}"
