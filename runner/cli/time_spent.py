"""The lines that say where the time of a session or of a run went."""

import textwrap

from runner.session.faster import is_telling
from runner.time_ledger import NAMES, PARTS, TimeLedger

WIDTH = 80
_INDENT = " " * 16
_TIED = "\N{NO-BREAK SPACE}"


def lines(time: TimeLedger | None) -> list[str]:
    """Return the shares of the time, largest first, and what would make it faster; nothing where a session was too short."""
    if time is None or not is_telling(time):
        return []
    shares = sorted(percents(time).items(), key=lambda share: -share[1])
    # a number and its name stay on one line
    words = ", ".join(f"{percent} % {NAMES[part]}".replace(" ", _TIED) for part, percent in shares if percent)
    return [*_wrapped(f"  time          {words}"), *(_wrapped(f"{_INDENT}{time.advice}") if time.advice else [])]


def percents(time: TimeLedger) -> dict[str, int]:
    """Return the parts as whole percents that add up to 100."""
    exact = {part: 100 * max(0.0, time.share(part)) for part in PARTS}
    found = {part: int(share) for part, share in exact.items()}
    # those that lost most by rounding get what is left
    for part in sorted(PARTS, key=lambda part: found[part] - exact[part])[: max(0, 100 - sum(found.values()))]:
        found[part] += 1
    return found


def _wrapped(line: str) -> list[str]:
    """Return a line as several ones that fit a narrow terminal."""
    lines = textwrap.wrap(line, WIDTH, subsequent_indent=_INDENT, break_long_words=False, break_on_hyphens=False)
    return [line.replace(_TIED, " ") for line in lines]
