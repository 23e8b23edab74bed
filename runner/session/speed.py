"""How fast a session is, as it is shown: a plain mean over the last seconds. Pure: the caller gives the time."""

from collections import deque
from typing import NamedTuple

from runner.session.forecast import Sent

WINDOW_S = 30.0
"""Seconds over which a rate is taken. Where answers take long, three times the usual one."""


class Rates(NamedTuple):
    """Per second; None: nothing of the kind has come yet, or nothing is sent now."""

    rows: float | None = None
    requests: float | None = None
    tokens: float | None = None


class _Seen(NamedTuple):
    at: float
    rows: int
    requests: int
    tokens: int


class Speed:
    """Follows one session. Feed it with ``see`` about twice a second."""

    def __init__(self) -> None:
        self._seen = deque([_Seen(0.0, 0, 0, 0)])

    def see(self, elapsed_s: float, sent: Sent, *, held: bool) -> Rates:
        """Take note of what was done ``elapsed_s`` seconds after the start, and return the rates. held: nothing is sent now."""
        seen = self._seen
        seen.append(_Seen(elapsed_s, sent.rows, sent.requests, sent.output_tokens or 0))
        since = elapsed_s - max(WINDOW_S, 3 * sent.usual_s)
        while len(seen) > 2 and seen[1].at <= since:
            seen.popleft()
        first, last = seen[0], seen[-1]
        passed_s = last.at - first.at
        if held or passed_s <= 0:
            return Rates()
        return Rates(
            rows=(last.rows - first.rows) / passed_s if last.rows else None,
            requests=(last.requests - first.requests) / passed_s if last.requests else None,
            tokens=(last.tokens - first.tokens) / passed_s if last.tokens else None,
        )
