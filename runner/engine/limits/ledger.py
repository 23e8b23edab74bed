"""Divides the time of all slots of a session: at each instant each slot counts for one cause (``runner.time_ledger``).

    slots  =  requests that hold one           from permit to commit; divided when it is released, by its attempt
           +  free, for rows that could go     why the first of them waits: a limit, a pause, an outage
           +  free, for rows that rest         until their next attempt, or for the budget
           +  free, and no row for it          it is still to be read, or none is left

What changes is told to the ledger as it changes; it needs no timer. A change costs a look at the clock and some additions.
Rows that wait for different causes share free slots in proportion to their number.
"""

import time
from collections import defaultdict
from collections.abc import Callable
from types import TracebackType
from typing import NamedTuple

from runner.admission import Permit
from runner.engine.limits.first_tokens import FirstTokens
from runner.model import Attempt

FULL = ""
"""A row waits for a slot, and for nothing else: it tells nothing about free slots."""
_READING, _END = "reading", "end"
_REFUSED = {"rate_limited": "pause", "no_capacity": "capacity"}
_UNREACHED = frozenset({"connect", "dns", "proxy", "timeout_connect", "tls"})


class Reading(NamedTuple):
    """What a ledger has come to. Each number is a sum since the session began to send.

    at_s, busy_s: by the clock, and by the processor time of the thread. causes, total_s: seconds of slots. free: of these, those
    of free slots. held_s: those of requests in flight. slots: their number now. requests: those that have ended. streamed:
    answers whose first token was seen.
    """

    at_s: float
    busy_s: float
    causes: dict[str, float]
    free: dict[str, float]
    held_s: float
    total_s: float
    slots: int
    requests: int
    streamed: int
    first_token_s: float | None
    best_first_token_s: float | None


class Ledger:
    """The ledger of a session. clock: monotonic seconds. ceiling: most slots of all models. slots: before the first model."""

    def __init__(self, clock: Callable[[], float], ceiling: int, slots: int) -> None:
        self._clock, self._ceiling = clock, ceiling
        self._runs = False
        self._start = self._at = clock()
        self._busy_from = 0.0
        # what it has come to at its end; None: it has not ended
        self._at_end: Reading | None = None
        # slots in force, and of these, those that requests hold; what the lines allow together
        self._slots, self._out, self._allowed = slots, 0, 0
        self._requests = 0
        # of each line
        self.first_tokens: list[FirstTokens] = []
        # seconds of requests that have released their slots, and of free slots; by cause
        self._spent = dict.fromkeys((*_REFUSED.values(), "answering", "failed", "outage", "sending"), 0.0)
        self._sending_s = self._saving_s = 0.0
        self._free: defaultdict[str, float] = defaultdict(float)
        self._free_s = self._held_s = 0.0
        # when the requests that are out were admitted, added up, in seconds since the start
        self._admitted_s = 0.0
        # how many rows could go and rest, by cause; those that wait for nothing but a slot; and why slots have no row
        self._ready: defaultdict[str, int] = defaultdict(int)
        self._resting: defaultdict[str, int] = defaultdict(int)
        # of both together, and of these, those that rest
        self._waiting = self._rests = self._full = 0
        self._rest = _READING

    def begin(self) -> None:
        """Begin to count: what was before does not."""
        self._start = self._at = self._clock()
        self._busy_from = time.thread_time()
        self._runs = True

    def end(self) -> None:
        """Count no further: what comes later, also of requests that are open now, changes nothing that is read."""
        self._at_end = self.read()
        self._runs = False

    def rest(self, cause: str) -> None:
        """Record why free slots have no row from now on."""
        if cause != self._rest:
            self.settle()
            self._rest = cause

    def more(self) -> None:
        """Record that rows are to be read."""
        self.rest(_READING)

    def holds(self, held: bool) -> None:
        """Record that rows that were read are held back until a prefix is warm, or that they are not any more."""
        self.rest("warming" if held else _READING)

    def asks(self, idle: bool) -> None:
        """Record that the program gives no row, or that it has given one."""
        self.rest("program" if idle else _READING)

    def last(self) -> None:
        """Record that no row is left to be read."""
        self.rest(_END)

    def resting(self, cause: str) -> "Resting":
        """Return a context for a row that has a worker, and is not to go yet."""
        return Resting(self, cause)

    def settle(self) -> None:
        """Divide the time of free slots until now, as things have stood. Called before anything changes."""
        self._settle(self._clock())

    def _settle(self, now: float) -> None:
        passed_s = now - self._at
        if passed_s > 0:
            self._at = now
            free = self._slots - self._out
            if free > 0 and self._runs:
                self._divide(free, passed_s)

    def _divide(self, free: float, passed_s: float) -> None:
        spent = self._free
        self._free_s += free * passed_s
        if self._waiting:
            for group, rows in ((self._ready, self._waiting - self._rests), (self._resting, self._rests)):
                if not rows:
                    continue
                each_s = passed_s * min(1.0, free / rows)
                for cause, count in group.items():
                    if count:
                        spent[cause] += count * each_s
                free -= rows
                if free <= 0:
                    return
        # rows that wait for slots of their own model show that reading keeps up: there is none for these slots
        cause = _END if self._full and self._rest == _READING else self._rest
        spent[cause] += free * passed_s

    def read(self) -> Reading:
        """Return what it has come to, at its end if that was. Open requests count as answering until they end."""
        if self._at_end is not None:
            return self._at_end
        self.settle()
        causes = dict(self._spent)
        causes["sending"] += self._sending_s
        causes["saving"] = self._saving_s
        for cause, seconds in self._free.items():
            causes[cause] = causes.get(cause, 0.0) + seconds
        tokens = self.first_tokens
        queue_s = sum(one.beyond_s() for one in tokens)
        open_s = self._out * (self._at - self._start) - self._admitted_s
        held_s = self._held_s + open_s
        causes["answering"] += open_s - queue_s
        causes["first_token"] = queue_s
        streamed = sum(one.count for one in tokens)
        known = [(one.count, one.best_s) for one in tokens if one.best_s is not None]
        return Reading(
            at_s=self._at - self._start,
            busy_s=time.thread_time() - self._busy_from,
            causes=causes,
            free=dict(self._free),
            held_s=held_s,
            total_s=held_s + self._free_s,
            slots=max(self._slots, self._out),
            requests=self._requests,
            streamed=streamed,
            first_token_s=sum(one.total_s for one in tokens) / streamed if streamed else None,
            best_first_token_s=sum(n * best for n, best in known) / sum(n for n, _ in known) if known else None,
        )

    # -- what lines tell

    def allow(self, more: int) -> None:
        """Record that a line allows so many requests more."""
        self.settle()
        self._allowed += more
        self._slots = min(self._allowed, self._ceiling)

    def bound(self, ceiling: int) -> None:
        """Record that all models together have other slots at most."""
        self.settle()
        self._ceiling = ceiling
        self._slots = min(self._allowed, ceiling)

    def wait(self, cause: str, rows: int) -> None:
        """Record that so many rows more, or fewer, could go and wait for this cause."""
        if self._slots > self._out:
            # else no slot is free that could count for them
            self.settle()
        if cause == FULL:
            self._full += rows
        else:
            self._ready[cause] += rows
            self._waiting += rows

    def stay(self, cause: str, rows: int) -> None:
        """Record that so many rows more, or fewer, rest for this cause."""
        self.settle()
        self._resting[cause] += rows
        self._rests += rows
        self._waiting += rows

    def hold(self, permit: Permit, cause: str | None) -> None:
        """Record that a request holds a slot from now on, whose row has waited for this cause. None: the row has not waited."""
        self._settle(permit.admitted_at)
        if cause == FULL:
            self._full -= 1
        elif cause is not None:
            self._ready[cause] -= 1
            self._waiting -= 1
        self._out += 1
        self._admitted_s += permit.admitted_at - self._start

    def release(self, permit: Permit, attempt: Attempt | None, *, out_of_service: bool) -> str:
        """Record that a request holds its slot no longer, and divide the time for which it did. Return the cause of the rest."""
        now = self._clock()
        self._settle(now)
        self._out -= 1
        admitted_at, sent_at = permit.admitted_at, permit.sent_at
        self._admitted_s -= admitted_at - self._start
        self._held_s += now - admitted_at
        if attempt is None:
            # nothing was sent, or nobody knows what became of it
            cause = "sending" if sent_at is None else "answering"
            self._spent[cause] += now - admitted_at
            return cause
        self._requests += 1
        if sent_at is None:
            sent_at = admitted_at
        ended_at = sent_at + attempt.duration_s
        if ended_at > now:
            ended_at = now
        # these two are numbers of their own, as they are added to for each request
        self._sending_s += sent_at - admitted_at
        self._saving_s += now - ended_at
        cause = "answering" if attempt.error_code is None else _cause(permit, attempt.error_code, out_of_service=out_of_service)
        self._spent[cause] += ended_at - sent_at
        return cause


class Resting:
    """A context for a row that rests."""

    __slots__ = ("_cause", "_ledger")

    def __init__(self, ledger: Ledger, cause: str) -> None:
        self._ledger, self._cause = ledger, cause

    def __enter__(self) -> None:
        self._ledger.stay(self._cause, 1)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._ledger.stay(self._cause, -1)


def _cause(permit: Permit, code: str, *, out_of_service: bool) -> str:
    """Return for what the time of a failed attempt counts."""
    if code in _REFUSED:
        return _REFUSED[code]
    down = permit.probe or out_of_service or code in _UNREACHED
    return "outage" if down and code != "cancelled" else "failed"
