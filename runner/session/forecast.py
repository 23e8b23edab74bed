"""How long a session will still take: from the limits in force and the recent rate. Pure: the caller gives the time.

Time that says nothing about the rate is left out: an outage, and a pause of more than ``LONG_PAUSE_S``. The states:

    going    every sample counts; the rate is that of the recent samples
    held     an outage or a long pause; samples since the last outcome before it are dropped, for they belong to it
    going    again from the first outcome after it: the time until then belongs to it too

While requests wait for a limit per minute, that limit is the rate; nothing that is measured tells it better.
"""

from collections.abc import Sequence
from typing import NamedTuple

from msgspec import Struct

from runner.pace import LaneState

LONG_PAUSE_S = 5.0
"""Seconds. A pause that is longer at its beginning is left out of the rate."""
SERIES = 3
"""So many pauses without a row between them are a series that grows: nobody knows its end."""
WINDOW_S, WINDOW_ROWS = 30.0, 150
"""The recent rate is measured over at least so many seconds and rows, if there are so many."""
LIMITED = 0.5
"""A session whose requests waited for a limit per minute in this share of the recent samples goes at the pace of that limit."""
WAVES, FAILING = 3, 1.2
"""Answers for each open request up to which they are few, and requests for each row from which failed attempts are many."""
_RECENT = 20
_KEPT = 480


class Sent(Struct, frozen=True, kw_only=True):
    """What a session has done so far: rows with an outcome, ended requests, and their tokens; None if none were reported.

    usual_s, longest_s: median and 95th percentile of the time of an answer, in seconds; 0 before the first.
    """

    rows: int
    requests: int
    input_tokens: int | None
    output_tokens: int | None
    usual_s: float = 0.0
    longest_s: float = 0.0


class _Sample(NamedTuple):
    at: float
    rows: int


class Forecast:
    """Follows one session. Feed it with ``see`` about twice a second."""

    def __init__(self) -> None:
        self._samples = [_Sample(0.0, 0)]
        # the seconds that count at the last row
        self._row_at = 0.0
        # seconds that count, and seconds of long pauses
        self._going_s = self._paused_s = 0.0
        self._pauses = 0
        self._seen_at = 0.0
        self._held = False
        # pauses since the last row, and the seconds of the present one that were left
        self._series, self._pause_left_s = 0, 0.0
        self._lanes: Sequence[LaneState] = ()
        self._sent = Sent(rows=0, requests=0, input_tokens=None, output_tokens=None)
        # whether requests waited for a limit, newest last
        self._limited: list[bool] = []

    def see(self, elapsed_s: float, sent: Sent, lanes: Sequence[LaneState]) -> None:
        """Take note of the state of the session ``elapsed_s`` seconds after its start."""
        passed_s, self._seen_at = max(0.0, elapsed_s - self._seen_at), elapsed_s
        blocked = bool(lanes) and all(_holds(lane, held=self._held) for lane in lanes)
        self._lanes, more = lanes, sent.rows > self._sent.rows
        self._sent = sent
        paused_s = min((lane.paused_s for lane in lanes), default=0.0)
        self._series = 0 if more else self._series + (paused_s > self._pause_left_s)
        self._pause_left_s = paused_s
        if blocked and not self._held:
            self._hold(lanes)
        elif self._held and not blocked and more:
            self._held = False
            self._samples[-1:] = [_Sample(self._going_s, sent.rows)]
            self._row_at = self._going_s
            return
        if self._held:
            self._paused_s += passed_s if any(lane.paused_s for lane in lanes) else 0.0
            return
        self._going_s += passed_s
        self._row_at = self._going_s if more else self._row_at
        self._samples.append(_Sample(self._going_s, sent.rows))
        if len(self._samples) > _KEPT:
            # older times are kept more coarsely
            self._samples[: _KEPT // 2] = self._samples[: _KEPT // 2 : 2]
        self._limited = [*self._limited[1 - _RECENT :], any(lane.waits_for is not None for lane in lanes)]

    def _hold(self, lanes: Sequence[LaneState]) -> None:
        self._held = True
        self._pauses += any(lane.paused_s for lane in lanes)
        last = self._samples[-1].rows
        while len(self._samples) > 1 and self._samples[-2].rows == last:
            self._samples.pop()
        self._going_s = self._samples[-1].at

    @property
    def held(self) -> bool:
        """True in an outage or a long pause, until the first row after it."""
        return self._held

    def left_s(self, rows: int) -> float | None:
        """Return the seconds until ``rows`` more rows have their outcomes, in an outage from its end on; None if unknown."""
        if rows <= 0:
            return 0.0
        if self._series >= SERIES and not any(lane.outage_s for lane in self._lanes):
            return None
        lane = self._lanes[0] if len(self._lanes) == 1 else None
        in_flight = min(rows, sum(lane.in_flight for lane in self._lanes))
        by_limit = self._by_limit(rows - in_flight, lane) if lane is not None else None
        rate, since_s = self._rate()
        # at the end, some requests take longer than usual
        tail_s = (self._sent.longest_s - self._sent.usual_s) * in_flight / max(1, sum(lane.slots for lane in self._lanes))
        by_rate = max(0.0, rows / rate - since_s) * self._share_of_pauses() + tail_s if rate else None
        if by_limit is not None and (by_rate is None or sum(self._limited) > LIMITED * len(self._limited)):
            left = by_limit
        elif by_rate is not None:
            left = max(by_rate, by_limit or 0.0)
        else:
            return None
        return left + min((lane.paused_s for lane in self._lanes), default=0.0)

    def _rate(self) -> tuple[float | None, float]:
        """Return the recent rate, None if there is none, and the seconds since the row up to which it was measured.

        Where few requests are open, no row may come for as long as an answer takes. That is no sign of a lower rate.
        """
        last = self._samples[-1]
        since_s = last.at - self._row_at
        if since_s > max(self._sent.usual_s, self._sent.longest_s):
            since_s = 0.0
        end_at = last.at - since_s
        for first in reversed(self._samples):
            if end_at - first.at >= WINDOW_S and last.rows - first.rows >= WINDOW_ROWS:
                break
        passed_s, number = end_at - first.at, last.rows - first.rows
        if passed_s <= 0 or number <= 0:
            return None, since_s
        return max(number / passed_s, self._rate_of_few(number)), since_s

    def _rate_of_few(self, number: int) -> float:
        """Return the rate that the open requests show where each slot has had few answers yet: what is open by how long it takes.

        Answers come in waves then, and a rate that is measured in the middle of one is too low. Little's law: the number of open
        requests is the rate times the time of an answer. Failed attempts make it say too much, so it is not asked then.
        """
        in_flight = sum(lane.in_flight for lane in self._lanes)
        alone = self._sent.requests <= FAILING * self._sent.rows
        few = number < WAVES * in_flight
        return in_flight / self._sent.usual_s if few and alone and self._sent.usual_s > 0 else 0.0

    def _by_limit(self, unsent: int, lane: LaneState) -> float | None:
        """Return the seconds that the limits per minute allow at the least, retries included; None without a limit.

        unsent: rows that are not even open. What those in the lane need is known; the others are like all that have been read.
        """
        sent = self._sent
        settled = max(1, sent.rows)
        into, out = sent.input_tokens, sent.output_tokens
        uses = {
            "rpm": max(1.0, sent.requests / settled) if sent.rows else 1.0,
            "tpm": ((into or 0) + (out or 0)) / settled,
            "input_tpm": (into or 0) / settled,
            "output_tpm": (out or 0) / settled,
        }
        times = []
        for kind, limit in lane.limits.items():
            use, need, read = uses.get(kind, 0.0), 0.0, 0
            if unsent > 0 and kind in lane.needs:
                need, read = lane.needs[kind], lane.waiting_rows
            if read:
                use = (use * sent.rows + need) / (sent.rows + read) if use else need / read
            if (use or need) and limit > 0:
                # half of the next one's wait is over, on average
                # of runs that share a limit, each gets the same part
                part = limit / max(1, lane.shared)
                times.append(60 * (need + use * max(0.0, unsent - read - 0.5)) / part)
        return max(times) + sent.usual_s if times else None

    def _share_of_pauses(self) -> float:
        """Return the factor by which pauses that come again and again lengthen the time."""
        if self._pauses < 2 or not self._going_s:
            return 1.0
        return (self._going_s + self._paused_s) / self._going_s


def _holds(lane: LaneState, *, held: bool) -> bool:
    return lane.halted or lane.outage_s > 0 or lane.paused_s > (0.0 if held else LONG_PAUSE_S)
