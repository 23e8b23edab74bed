"""The lane of all runs together, at the run that serves: it admits tickets as any lane admits requests."""

from collections.abc import Callable

from runner.admission import Permit, Standing
from runner.engine.clock import Clock
from runner.engine.limits.gate import Gate
from runner.engine.limits.lane import Lane
from runner.engine.limits.learned import Learned
from runner.engine.limits.ledger import Ledger
from runner.engine.limits.places import Places
from runner.engine.limits.rates import Rates
from runner.engine.limits.slots import Slots

_ENDLESS = 1_000_000


class Ticket(Permit, eq=False):
    """The permit of a request of some run. fixed: its run has a fixed number of slots, and takes none of those of all."""

    fixed: bool = False


class CommonLane(Lane):
    """Admits tickets: pause, slots, limits per minute. rates: of the lane of the run that serves, so that nothing starts anew.

    paused: called when a pause begins.
    """

    def __init__(self, rates: Rates, clock: Clock, paused: Callable[[], None]) -> None:
        places = Places(_ENDLESS, Ledger(clock.monotonic, _ENDLESS, 1))
        super().__init__("", Slots(_ENDLESS, tuned=True, clock=clock.monotonic), places, {}, clock)
        rates.told = self._waits_for
        self._rates, self._paused = rates, paused
        self._gate_apart = Gate()
        self._apart = Slots(_ENDLESS, tuned=False, clock=clock.monotonic)

    async def admit(self, ticket: Ticket, standing: Standing) -> None:
        """Wait until a ticket may be given. standing: of the run, whose tickets come one after the other, in turn with others."""
        standing.size, standing.most = ticket.size, ticket.most
        if ticket.standard:
            with self._falling_back.waits():
                await self._queue(ticket, standing, self._falling_back.gate)
        else:
            # who waits for a slot must not hold up those that need none
            await self._queue(ticket, standing, self._gate_apart if ticket.fixed else self._gate)

    def register(self, ticket: Ticket) -> None:
        """Count a request that is open already."""
        line = self._line(ticket)
        line.join(at_once=True)
        self._let(ticket)
        line.leave()

    def accepted(self, ticket: Ticket) -> None:
        """Record that an answer has begun."""
        self._accept(ticket)

    def too_many(self, ticket: Ticket, *, exactly: bool) -> None:
        """Record that the server had too many requests. exactly: those that it has accepted show how many it takes."""
        if exactly:
            self._pool(ticket).refuse(ticket)
        else:
            self._pool(ticket).overload(ticket)

    def took(self, ticket: Ticket, size: int, most: int | None) -> None:
        """Record that a ticket is used by a request of this size."""
        ticket.size, ticket.most = size, most

    @property
    def rates(self) -> Rates:
        """The limits per minute."""
        return self._rates

    @property
    def learned(self) -> Learned:
        """What is known of the slots."""
        return self._slots.learned()

    @property
    def taken(self) -> int:
        """How many of the slots are taken."""
        return self._slots.out

    def begin(self, learned: Learned | None) -> None:
        """Begin with what is known of the slots."""
        if learned is not None:
            self._slots.go_on(learned)

    def bound(self, ceiling: int) -> None:
        """Try no more slots than this."""
        self._slots.ceiling = max(1, ceiling)
        self._slots.limit = min(self._slots.limit, self._slots.ceiling)

    def said(self, words: str | None) -> None:
        """Take the words of the server, to be shown with a pause."""
        self._words = words

    @property
    def cause(self) -> str:
        """What the first ticket waits for, as the ledger names it."""
        return self._rates.waits_for or self._barrier(Permit(admitted_at=0.0))

    @property
    def pausing(self) -> tuple[float, str, bool]:
        """Seconds until the pause ends, its reason, and whether the server asked for it."""
        return self._pause.left_s, self._pause.reason, self._pause.asked

    def pause(self, seconds: float, reason: str, *, asked: bool = False) -> None:
        """Give no tickets for ``seconds``."""
        before = self._pause.until
        super().pause(seconds, reason, asked=asked)
        if self._pause.until != before:
            self._paused()

    def begins_paused(self, seconds: float, reason: str, *, asked: bool) -> None:
        """Go on with a pause that runs."""
        self._pause.extend(seconds, reason, asked=asked)

    def _pool(self, permit: Permit) -> Slots:
        return self._apart if isinstance(permit, Ticket) and permit.fixed else super()._pool(permit)
