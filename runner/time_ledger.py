"""Where the time of a session goes: the seconds of all its slots, divided by what each slot did or waited for.

A slot is one request that may be in flight. A second of 64 slots is 64 seconds here.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from msgspec import Struct

PARTS = ("answering_s", "limits_s", "retry_wait_s", "server_queue_s", "outage_s", "runner_s", "idle_s")
"""The parts, in the order in which they are shown. They add up to ``total_s``."""
NAMES: Mapping[str, str] = {
    "answering_s": "answering",
    "limits_s": "waiting for limits",
    "retry_wait_s": "waiting for retries",
    "server_queue_s": "in the server's queue",
    "outage_s": "server down",
    "runner_s": "this process",
    "idle_s": "no row left",
}
"""What people read for each part, in a terminal and in a report."""
CAUSES: Mapping[str, str] = {
    # a request is under way, and brings an answer; or it brings none
    "answering": "answering_s",
    "failed": "answering_s",
    # a limit per minute holds requests back; the server has refused one, a pause follows; flex is full; the budget; a person
    "rpm": "limits_s",
    "tpm": "limits_s",
    "input_tpm": "limits_s",
    "output_tpm": "limits_s",
    "pause": "limits_s",
    "capacity": "limits_s",
    "budget": "limits_s",
    "halt": "limits_s",
    # rows wait for their next attempt
    "retry": "retry_wait_s",
    # the first token takes longer than it did at best
    "first_token": "server_queue_s",
    "outage": "outage_s",
    # a request waits to be sent, and an answer to be saved; rows are read, wait until a prefix is warm, for their turn, or for
    # workers that could send them
    "sending": "runner_s",
    "saving": "runner_s",
    "reading": "runner_s",
    "warming": "runner_s",
    "turn": "runner_s",
    "workers": "runner_s",
    # no row is left that is not under way; whoever reads the results is slow; the program asks for nothing
    "end": "idle_s",
    "reader": "idle_s",
    "program": "idle_s",
}
"""What a slot does or waits for, and the part in which that counts."""


class Moment(NamedTuple):
    """A stretch of a session, from the moment before to this one. at: its end, in seconds since the session began.

    in_flight, slots: requests in flight, and requests that may be, as means over the stretch. why: the cause (``CAUSES``) for
    which most of the free slots were free; None: none was free, or nearly none.
    """

    at: float
    in_flight: float
    slots: float
    why: str | None = None


class TimeLedger(Struct, frozen=True, kw_only=True):
    """Where the time went: seconds of slots. The parts add up to ``total_s``."""

    answering_s: float = 0.0
    limits_s: float = 0.0
    retry_wait_s: float = 0.0
    server_queue_s: float = 0.0
    outage_s: float = 0.0
    runner_s: float = 0.0
    idle_s: float = 0.0
    # the number of slots, over time
    total_s: float = 0.0
    # the same seconds by cause, without those that are zero
    causes: Mapping[str, float] = {}
    # seconds by the clock; of these, what the session's own thread computed
    elapsed_s: float = 0.0
    busy_s: float = 0.0
    # requests that have ended, and those in flight as a mean
    requests: int = 0
    in_flight: float = 0.0
    # at the end: limits per minute in force (the lowest, if there are several models), and those of them that the job sets;
    # slots, their highest number, and whether they tune themselves
    limits: Mapping[str, float] = {}
    own_limits: tuple[str, ...] = ()
    slots: int = 0
    ceiling: int = 0
    tuned: bool = False
    # answers that came in pieces; their mean time to the first token, and the best one (see ``docs/reference/time.md``)
    streamed: int = 0
    first_token_s: float | None = None
    best_first_token_s: float | None = None
    # limits per minute that held for some time because the user of another run had set them, with which this one shared them
    borrowed_limits: tuple[str, ...] = ()
    # one sentence on what would make it faster; it is made when it is shown
    advice: str | None = None

    def share(self, part: str) -> float:
        """Return the share of a part or of a cause, from 0 to 1."""
        seconds: float = getattr(self, part) if part in PARTS else self.causes.get(part, 0.0)
        return seconds / self.total_s if self.total_s else 0.0


def ledger_of(causes: Mapping[str, float], total_s: float, **more: object) -> TimeLedger:
    """Return the ledger with these seconds by cause. more: its other fields."""
    parts = dict.fromkeys(PARTS, 0.0)
    for cause, seconds in causes.items():
        parts[CAUSES[cause]] += seconds
    known = {cause: round(seconds, 6) for cause, seconds in causes.items() if seconds > 0}
    rounded = {part: round(seconds, 6) for part, seconds in parts.items()}
    return TimeLedger(**rounded, total_s=round(total_s, 6), causes=known, **more)  # type: ignore[arg-type]


def together(ledgers: Iterable[TimeLedger]) -> TimeLedger | None:
    """Add up the ledgers of several sessions, oldest first; None without any. What is no sum is that of the last one."""
    every = list(ledgers)
    if not every:
        return None
    causes: dict[str, float] = {}
    for one in every:
        for cause, seconds in one.causes.items():
            if cause in CAUSES:
                causes[cause] = causes.get(cause, 0.0) + seconds
    last, streamed, elapsed_s = every[-1], sum(one.streamed for one in every), sum(one.elapsed_s for one in every)
    firsts = [one.first_token_s * one.streamed for one in every if one.first_token_s is not None]
    bests = [one.best_first_token_s for one in every if one.best_first_token_s is not None]
    return ledger_of(
        causes,
        sum(one.total_s for one in every),
        elapsed_s=round(elapsed_s, 6),
        busy_s=round(sum(one.busy_s for one in every), 6),
        requests=sum(one.requests for one in every),
        in_flight=round(sum(one.in_flight * one.elapsed_s for one in every) / elapsed_s, 3) if elapsed_s else 0.0,
        limits=last.limits,
        own_limits=last.own_limits,
        borrowed_limits=last.borrowed_limits,
        slots=last.slots,
        ceiling=last.ceiling,
        tuned=last.tuned,
        streamed=streamed,
        first_token_s=round(sum(firsts) / streamed, 6) if firsts and streamed else None,
        best_first_token_s=min(bests, default=None),
    )
