"""The faults the simulator can play, by name, and how shares of them are written: ``429=0.1``.

A share is a part of all admitted requests; all shares together are at most the whole.
"""

import difflib
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from runner.errors import UsageError

FAULTS: Mapping[str, str] = MappingProxyType(
    {
        "429": "refused for its rate, with retry-after: 1",
        "500": "refused with an internal server error",
        "503": "refused as unavailable",
        "529": "refused as overloaded",
        "disconnect": "connection reset in the middle of the answer",
        "truncate": "answer ends cleanly in the middle, with no finish reason",
        "stall": "answer stops in the middle and the connection stays open for an hour",
        "malformed": "one data line in the middle of the answer is not JSON",
        "error_event": "an error (overloaded) arrives inside the answer, after status 200",
        "length": "answer ends with the finish reason length (max_tokens); not an error",
        "json": "plain JSON although a stream was asked for",
        "empty": "a finish reason but no text",
    }
)
"""Name of every fault, with one line on what a client sees of it."""

STATUSES: Mapping[str, int] = MappingProxyType({"429": 429, "500": 500, "503": 503, "529": 529})
"""The faults that are a refusal by status, before any answer."""

OUTAGES = tuple(STATUSES.values())
"""The statuses that an outage may have."""

HARMLESS = frozenset({"length", "json", "empty"})
"""The faults under which the answer is still served in full."""

# Ten shares of 0.1 do not add up to 1.0 in binary.
_ROUNDING = 1e-9


def parse_faults(texts: Sequence[str]) -> dict[str, float]:
    """Read shares such as ``["429=0.1", "truncate=0.05"]``; anything else is a UsageError."""
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
            raise UsageError(f"share of fault {name!r} must be a number from 0 to 1, not {number!r}") from None
    check_faults(shares)
    return shares


def check_faults(shares: Mapping[str, float]) -> None:
    """Raise UsageError unless every name is known and the shares are parts of one whole."""
    for name, share in shares.items():
        if name not in FAULTS:
            raise UsageError(f"there is no fault {name!r}; {_nearest(name)}")
        # Written this way round so that NaN is refused too.
        if not 0 <= share <= 1:
            raise UsageError(f"share of fault {name!r} must be from 0 to 1, not {share:g}")
    total = sum(shares.values())
    if total > 1 + _ROUNDING:
        raise UsageError(f"shares of all faults add up to {total:g}, which is more than 1")


def _nearest(name: str) -> str:
    close = difflib.get_close_matches(name.lower(), FAULTS, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else f"known are {', '.join(FAULTS)}"
