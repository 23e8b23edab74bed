"""The lane of one endpoint among several. Its rows wait in the queue that all of them share (``fleet``)."""

from collections.abc import Callable, Iterable

import anyio

from runner.admission import Permit, Standing
from runner.engine.clock import Clock
from runner.engine.limits.headers import Kind
from runner.engine.limits.hearing import KEPT, Hearing
from runner.engine.limits.holding import Holding
from runner.engine.limits.lane import Lane
from runner.engine.limits.line import Limited
from runner.engine.limits.places import Places
from runner.engine.limits.roster import Member
from runner.engine.limits.slots import Slots
from runner.model import Attempt

QUOTA = 3.0
"""Failures that begin an outage, as long as the request cannot have caused them: others can take the rows meanwhile."""
CONTRADICTED = 3
"""Rows that it has refused and another has answered, one after the other, after which an endpoint rests ..."""
REST_S = 5.0
REST_MOST_S = 60.0
"""... for so many seconds; twice as long each time, up to the second number."""


class _Offered:
    """The slots of an endpoint that the session has: of one that gets requests only now and then, those that it uses."""

    def __init__(self, slots: Slots, member: Member) -> None:
        self._slots, self._member = slots, member

    @property
    def limit(self) -> int:
        """How many there are."""
        spare = self._member.fallback or self._member.out is not None
        return self._slots.out if spare else self._slots.limit


class MemberLane(Lane):
    """The lane of an endpoint. present: returns the number of rows that it may get."""

    def __init__(
        self,
        model: str,
        slots: Slots,
        places: Places,
        per_minute: dict[Kind, float],
        clock: Clock,
        member: Member,
        present: Callable[[], int],
    ) -> None:
        self.member = member
        super().__init__(model, slots, places, per_minute, clock)
        self._outage.quota, self._outage.innocent = QUOTA, 1
        self._holding = Holding(clock.monotonic, self._outage, present)
        self._streak = self._holding.streak
        self.hearing = Hearing(clock.monotonic)
        # mean seconds of an answer; None: there is none yet
        self.usual_s: float | None = None
        # of its turn among endpoints with weights
        self.credit = 0.0
        # rows that wait for its limits per minute
        self._inside: dict[anyio.CancelScope, Permit] = {}
        self._contradicted, self._rest_s = 0, REST_S

    def _offered(self) -> Limited:
        return _Offered(self._slots, self.member)

    def sized(self) -> None:
        """Look whether it gets requests."""
        self._own_line.sized()

    @property
    def in_service(self) -> bool:
        """True if it takes requests, now or as soon as others end."""
        return self.member.out is None and not self.blocked

    @property
    def why_blocked(self) -> str:
        """The reason in ``fallback_on`` for which it takes none."""
        return "outage" if self.member.out is not None or self._outage.since is not None else "rate_limited"

    @property
    def probing(self) -> bool:
        """True if the next request would be a probe."""
        return self._outage.since is not None

    @property
    def opening(self) -> bool:
        """True while its slots open by the passing of time."""
        return self._slots.opening

    @property
    def opens_in_s(self) -> float:
        """Seconds until its pause or the time before its next probe is over; 0 if it waits for neither."""
        probe_s = (self._outage.probe_in_s or 0.0) if self._outage.since is not None else 0.0
        return max(self._pause.left_s, probe_s)

    def pace(self, wish: Permit) -> float:
        """Return the answers a second when all of its slots, or its limits per minute, are used; 0 if that is not known."""
        return min(self._slots.limit / self.usual_s, self._rates.per_second(wish)) if self.usual_s else 0.0

    def limit_wait_s(self, wish: Permit) -> float:
        """Return for how many seconds its limits per minute would let a request wait now, at most."""
        return self._rates.longest(wish)[0] if self._rates.limited else 0.0

    def idle(self, wish: Permit) -> tuple[int, str] | None:
        """Return how many of its slots are free, and why, as the ledger names it; None: none is, or no row is there for them."""
        spare = self._offered().limit - self._slots.out
        if spare <= 0:
            return None
        if self.blocked or self._places.halted:
            return spare, self._barrier(wish)
        limit = self._rates.longest(wish)[1] if self._rates.limited else None
        if limit is not None:
            return spare, limit
        return (spare, self._reopens) if not self._free(wish) else None

    def takes(self, wish: Permit) -> bool:
        """Return True if a request could go out now, but for the limits per minute."""
        return not self._closed() and len(self._inside) <= len(self._savers) and self._free(wish)

    def lets(self, wish: Permit) -> bool:
        """Return True if the limits per minute let a request go out now."""
        return not self._rates.limited or not (self._gate.busy or self._rates.holds_back(wish))

    def expected_s(self, usual_s: float) -> float:
        """Return how long a request is likely to take, as far as endpoints can be compared. usual_s: if that is not known."""
        return (self.usual_s or usual_s) * (self._slots.out + 1) / max(1, self._slots.limit)

    async def admit(self, standing: Standing, size: int, most: int | None) -> Permit | None:
        """Return a permit, or None if the endpoint has closed while the row waited for its limits. The row is chosen for it."""
        permit = None
        with anyio.CancelScope() as scope:
            self._inside[scope] = Permit(admitted_at=0.0, size=size, most=most, standard=standing.standard)
            try:
                permit = await self.acquire(standing, size, most)
            finally:
                del self._inside[scope]
        if permit is not None:
            self.hearing.admitted(permit)
        return permit

    def hinders(self, others: Iterable["MemberLane"]) -> bool:
        """Return True if a row waits for its limits that another endpoint could take now."""
        others = [one for one in others if one is not self and one.in_service]
        return any(one.takes(wish) and one.lets(wish) for wish in self._inside.values() for one in others)

    def let_go(self) -> None:
        """Give the rows that wait for the limits back to the queue: others may be quicker, or open."""
        for scope in self._inside:
            scope.cancel()

    def outages_of(self, standing: Standing) -> int:
        """Return in how many outages a row has failed here."""
        return len({self._outage.beginning(failure) for failure in standing.failures} - {None})

    @property
    def held(self) -> int:
        """How many rows it holds until it is known what their refusals mean."""
        return len(self._streak.held)

    def refused_alone(self, permit: Permit, attempt: Attempt) -> None:
        """Record a refusal whose row is asked elsewhere next: whatever it says, the server is there.

        In an outage of refusals it is one more of them.
        """
        self._words = attempt.error
        self._rates.used(permit, attempt.usage, complete=False)
        self._streak.ended(permit)
        self._accept(permit)
        if self._outage.refusing:
            self._outage.refused(permit)
        elif self._outage.answered(permit, success=False):
            self._reopen()
        self._outage.lost(permit)
        self._places.notify()

    def contradicted(self) -> None:
        """Record that another endpoint has answered a row which this one had refused. After a few of them it rests."""
        self._contradicted += 1
        if self._contradicted >= CONTRADICTED:
            self._contradicted = 0
            self.pause(self._rest_s, "it refuses rows that others answer")
            self._rest_s = min(2 * self._rest_s, REST_MOST_S)

    def give_up(self, requests: list[Permit]) -> None:
        """End requests of which nothing has been heard, oldest first: an outage has begun with them."""
        began = requests[0].sent_at
        assert began is not None
        self._outage.fall_silent(began)
        for permit in requests:
            if permit.give_up is not None:
                permit.give_up()
        self._places.notify()

    def answered_in(self, seconds: float) -> None:
        """Record an answer. seconds: that it took."""
        self.usual_s = seconds if self.usual_s is None else KEPT * self.usual_s + (1 - KEPT) * seconds
        self._contradicted, self._rest_s = 0, REST_S
