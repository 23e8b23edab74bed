"""Words the reason why no request of a lane is sent, in one phrase."""

import time

from runner.engine.limits.headers import Kind
from runner.engine.limits.outage import Outage
from runner.engine.limits.pause import LONG_PAUSE_S, Pause
from runner.engine.limits.rates import Rates

_NAMES: dict[Kind, str] = {
    "rpm": "requests/min",
    "tpm": "tokens/min",
    "input_tpm": "input tokens/min",
    "output_tpm": "output tokens/min",
}
LONGEST = 90
"""Characters of an answer that are shown."""
_UNREACHABLE = ("connect", "dns", "proxy", "timeout_connect", "tls")
"""Error codes of attempts that did not reach the server."""


def shown(words: str | None, otherwise: str) -> str:
    """Return the last answer of the server, shortened, or other words if there is none."""
    words = words or otherwise
    return words if len(words) <= LONGEST else f"{words[: LONGEST - 1].rstrip()}…"


def waiting(pause: Pause, outage: Outage, rates: Rates, words: str | None, *, clock: float, wall: float) -> str | None:
    """Return the phrase; None if requests wait for slots only.

    words: the last answer of the server that was a failure. clock, wall: the time now, monotonic and since the epoch.
    """
    if (left := pause.left_s) > 0:
        until = time.localtime(wall + left)
        return f"paused until {time.strftime('%Y-%m-%d %H:%M:%S' if left > LONG_PAUSE_S else '%H:%M:%S', until)} ({pause.reason})"
    if outage.since is not None:
        since = time.localtime(wall - (clock - outage.since))
        trouble = "unreachable" if outage.reason in _UNREACHABLE else "refusing all rows" if outage.refusing else "failing"
        return f"server {trouble} since {time.strftime('%H:%M:%S', since)} ({shown(words, outage.reason)}); retrying"
    if (kind := rates.waits_for) is None:
        return None
    limit = f" ({rates.per_minute[kind]:,.10g}, reported by the server)" if rates.reported.get(kind) else ""
    return f"waiting for the {_NAMES[kind]} limit{limit}"
