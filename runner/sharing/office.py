"""Gives the tickets out, at the run that serves: one in turn to each run that wants some, as the common lane admits them."""

import asyncio
from collections.abc import Callable, Sequence
from time import time

from msgspec import structs

from runner.admission import Standing
from runner.engine.clock import Clock
from runner.engine.limits.headers import Kind
from runner.engine.limits.rates import Rates
from runner.engine.limits.shared_lane import KINDS
from runner.frames import Batch
from runner.sharing.all_runs import CommonLane, Ticket
from runner.sharing.messages import (
    Ask,
    Asked,
    Beat,
    Drop,
    Ended,
    FromRun,
    Grant,
    Headers,
    Hello,
    Known,
    Note,
    Out,
    Pause,
    Said,
    Taken,
    Throttled,
    ToRun,
)  # fmt: skip

SETTLE_S = 0.5
"""Seconds for which a run that has taken over waits until the others have told it of their open requests."""


class Guest:
    """A run, as the office sees it. send: takes what it is told. gone: called if it is given up."""

    def __init__(self, hello: Hello, send: Callable[[Sequence[ToRun]], None], gone: Callable[[], None], now: float) -> None:
        self.hello, self._send, self.gone = hello, send, gone
        self.heard_at = now
        # tickets that it wants, by number; flex rows that fell back apart; and those that it has
        self.asks: tuple[dict[int, Asked], dict[int, Asked]] = ({}, {})
        self.tickets: dict[int, Ticket] = {}
        self.tasks: list[asyncio.Task[None]] = []
        self.wants = (asyncio.Event(), asyncio.Event())
        self._grants: list[int] = []
        self._limit = 1
        self._batch = Batch(self._flush)

    def grant(self, number: int, limit: int) -> None:
        """Give it a ticket."""
        self._grants.append(number)
        self._limit = limit
        self._batch.due()

    def tell(self, message: ToRun) -> None:
        """Tell it something at once."""
        self._send([message])

    def _flush(self) -> None:
        if self._grants:
            grants, self._grants = self._grants, []
            self._send([Grant(grants, self._limit)])


class Office:
    """The run that serves, as long as others share its limits. name: of that run. tell: takes a sentence for its user.

    expected: how many other runs had their limits shared with the one that served before; their open requests are waited for.
    """

    def __init__(
        self, rates: Rates, clock: Clock, name: str, tell: Callable[[str], None], known: Known | None, expected: int
    ) -> None:
        self._clock, self._name, self._note = clock, name, tell
        self.lane = CommonLane(rates, clock, self._broadcast_soon)
        self._guests: dict[Guest, None] = {}
        # the limits of users that hold, and the names of their runs
        self._set_by: dict[Kind, tuple[float, str]] = {}
        self._expected, self._settled = expected, asyncio.Event()
        self._begun = known is not None
        if known is not None:
            self.lane.begin(known.learned)
            self.lane.begins_paused(known.pause_s, known.reason, asked=known.asked)
        self._batch = Batch(self.broadcast)
        if expected <= 0:
            self._settled.set()
        else:
            asyncio.get_running_loop().call_later(SETTLE_S, self._settled.set)

    @property
    def settled(self) -> bool:
        """True once tickets are given out."""
        return self._settled.is_set()

    @property
    def guests(self) -> list[Guest]:
        """The runs, that which serves included."""
        return list(self._guests)

    # -- who comes and goes

    def enter(self, guest: Guest, *, begins: bool = False) -> None:
        """Let a run in. begins: what it has learned counts more than what others have."""
        hello = guest.hello
        self._guests[guest] = None
        if hello.learned is not None and (begins or not self._begun):
            self._begun = True
            self.lane.begin(hello.learned)
        for kind in KINDS:
            if kind in hello.reported and kind not in self.lane.rates.reports:
                self.lane.rates.reports[kind] = hello.reported[kind]
        if hello.pause is not None:
            self.lane.begins_paused(hello.pause.seconds, hello.pause.reason, asked=hello.pause.asked)
        self.bounds()
        for asked in hello.out:
            self._out(guest, asked)
        loop = asyncio.get_running_loop()
        guest.tasks = [loop.create_task(self._give(guest, standard=standard)) for standard in (False, True)]
        for task in guest.tasks:
            task.add_done_callback(lambda done: self._failed(guest, done))
        if len(self._guests) > self._expected:
            self._settled.set()
        self.broadcast()

    def leave(self, guest: Guest) -> None:
        """Forget a run: its open requests count no more."""
        if guest not in self._guests:
            return
        del self._guests[guest]
        for task in guest.tasks:
            task.cancel()
        for number in list(guest.tickets):
            self._end(guest, number, unused=False)
        if self._guests:
            self.bounds()
            self.broadcast()

    def _failed(self, guest: Guest, task: asyncio.Task[None]) -> None:
        """Let a run go that gets no further tickets because of an error here."""
        if not task.cancelled() and (error := task.exception()) is not None:
            self._note(f"limits are not shared with {guest.hello.name}: {type(error).__name__}: {error}")
            self.leave(guest)
            guest.gone()

    def close(self) -> None:
        """Give no further tickets."""
        for guest in self.guests:
            for task in guest.tasks:
                task.cancel()
        self._guests.clear()

    def bounds(self) -> None:
        """Have the limits hold that the users of the present runs have set: of each kind the smallest."""
        self._set_by = {}
        for guest in self._guests:
            for kind in KINDS:
                limit = guest.hello.limits.get(kind)
                if limit is not None and (kind not in self._set_by or limit < self._set_by[kind][0]):
                    self._set_by[kind] = (limit, guest.hello.name)
        self.lane.rates.configure({kind: limit for kind, (limit, _) in self._set_by.items()})
        tuned = [guest.hello.ceiling for guest in self._guests if not guest.hello.fixed]
        if tuned:
            self.lane.bound(sum(tuned))

    # -- tickets

    async def _give(self, guest: Guest, *, standard: bool) -> None:
        """Give a run its tickets, one after the other."""
        asks, standing = guest.asks[standard], Standing(standard=standard)
        while True:
            if not asks:
                guest.wants[standard].clear()
                await guest.wants[standard].wait()
            await self._settled.wait()
            if not asks:
                continue
            asked = next(iter(asks.values()))
            ticket = self._ticket(guest, asked)
            await self.lane.admit(ticket, standing)
            if not asks:
                # it wants none any more
                self.lane.told_nothing(ticket)
                self.lane.release(ticket, unused=True)
                continue
            number = asked.number if asked.number in asks else next(iter(asks))
            del asks[number]
            guest.tickets[number] = ticket
            guest.grant(number, self._share(guest))

    def _ticket(self, guest: Guest, asked: Asked) -> Ticket:
        return Ticket(
            admitted_at=0.0, size=asked.size, most=asked.most, standard=asked.standard, fixed=guest.hello.fixed,
            ticket=asked.number,
        )  # fmt: skip

    def _out(self, guest: Guest, asked: Asked) -> None:
        ticket = guest.tickets[asked.number] = self._ticket(guest, asked)
        self.lane.register(ticket)

    def _end(self, guest: Guest, number: int, *, unused: bool) -> None:
        if (ticket := guest.tickets.pop(number, None)) is not None:
            self.lane.told_nothing(ticket)
            self.lane.release(ticket, unused=unused)

    # -- what runs say

    def take(self, guest: Guest, messages: Sequence[FromRun]) -> None:
        """Take what a run says."""
        guest.heard_at = self._clock.monotonic()
        if guest in self._guests:
            for message in messages:
                self._take(guest, message)

    def _take(self, guest: Guest, message: FromRun) -> None:
        match message:
            case Said():
                if (ticket := guest.tickets.get(message.number)) is not None:
                    self._said(ticket, message)
            case Ended(number, unused):
                self._end(guest, number, unused=unused)
            case Ask(tickets):
                for asked in tickets:
                    guest.asks[asked.standard][asked.number] = asked
                    guest.wants[asked.standard].set()
            case Drop(numbers):
                for number in numbers:
                    if guest.asks[0].pop(number, None) is None and guest.asks[1].pop(number, None) is None:
                        self._end(guest, number, unused=True)
            case Taken(asked):
                if (ticket := guest.tickets.get(asked.number)) is not None:
                    self.lane.took(ticket, asked.size, asked.most)
            case Out(asked):
                self._out(guest, asked)
            case Headers(raw, refusal):
                self.lane.rates.hear(raw, time(), always=refusal)
            case Pause(seconds, reason, asked_):
                self.lane.pause(seconds, reason, asked=asked_)
            case Throttled(number, hint_s, status, words):
                if (ticket := guest.tickets.get(number)) is not None:
                    self.lane.said(words)
                    self.lane.throttle(ticket, hint_s, status)
            case Hello() | Beat():
                # who it is was said before, and that it lives has been noted
                return

    def _said(self, ticket: Ticket, said: Said) -> None:
        lane = self.lane
        if said.what == "accepted":
            lane.accepted(ticket)
        elif said.what == "done":
            lane.succeeded(ticket, said.usage)
        elif said.what == "used":
            lane.rates.used(ticket, said.usage, complete=False)
        elif said.what == "uncounted":
            lane.rates.refused(ticket)
        elif said.what == "unused":
            lane.rates.unused(ticket)
        else:
            lane.too_many(ticket, exactly=said.what == "refused")

    # -- what runs are told

    def known(self) -> Known:
        """Return what is so for all runs."""
        lane, rates = self.lane, self.lane.rates
        reports = {str(kind): limit for kind, limit in rates.reports.items()}
        limits = {str(kind): limit for kind, limit in rates.per_minute.items()}
        set_by = {str(kind): found for kind, found in self._set_by.items()}
        return Known(len(self._guests), 1, lane.learned, limits, reports, *lane.pausing, lane.cause, self._name, set_by)

    def broadcast(self) -> None:
        """Tell all runs what is so for all."""
        known = self.known()
        for guest in self.guests:
            guest.tell(structs.replace(known, limit=self._share(guest)))

    def _share(self, guest: Guest) -> int:
        """Return how many tickets a run may have, with what the others have now."""
        return max(1, self.lane.learned.limit - self.lane.taken + len(guest.tickets))

    def _broadcast_soon(self) -> None:
        self._batch.due()

    def expire(self, before: float) -> None:
        """Give up the runs of which nothing was heard since ``before``."""
        for guest in self.guests:
            if guest.heard_at < before:
                words = f"{guest.hello.name} shares its limits with this run and says nothing: its open requests count no more"
                self.leave(guest)
                guest.gone()
                self._note(words)
                for other in self.guests:
                    other.tell(Note(words))
