"""Says in one phrase why nothing goes out at present."""

import time

from runner.engine.limits.headers import Kind
from runner.engine.limits.outage import Outage
from runner.engine.limits.pause import PARKED_S, Pause
from runner.engine.limits.rates import Rates

_WORDS: dict[Kind, str] = {
    "rpm": "requests/min",
    "tpm": "tokens/min",
    "input_tpm": "input tokens/min",
    "output_tpm": "output tokens/min",
}


def waiting(pause: Pause, outage: Outage, rates: Rates, *, clock: float, wall: float) -> str | None:
    """Give the phrase, None when nothing but slots is waited for. clock, wall: the time now, monotonic and since the epoch."""
    if (left := pause.left_s) > 0:
        until = time.localtime(wall + left)
        if left > PARKED_S:
            return f"parked until {time.strftime('%Y-%m-%d %H:%M:%S', until)} ({pause.reason})"
        return f"paused until {time.strftime('%H:%M:%S', until)} ({pause.reason})"
    if outage.since is not None:
        since = time.localtime(wall - (clock - outage.since))
        return f"out of service since {time.strftime('%H:%M:%S', since)} ({outage.reason}), tried again now and then"
    if (kind := rates.waits_for) is None:
        return None
    told = f" ({rates.per_minute[kind]:,.10g}, told by the server)" if rates.told.get(kind) else ""
    return f"waiting for {_WORDS[kind]}{told}"
