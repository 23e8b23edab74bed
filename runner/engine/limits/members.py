"""The items of a lane, and what its pause, its outage and its slots mean for them. The base class of ``Lane``."""

from contextlib import AbstractContextManager

from runner.admission import Failure, Permit, Standing
from runner.engine.clock import Clock
from runner.engine.limits.fallback import Fallback
from runner.engine.limits.headers import Kind
from runner.engine.limits.holding import Holding
from runner.engine.limits.ledger import FULL
from runner.engine.limits.line import Limited, Line
from runner.engine.limits.outage import Outage
from runner.engine.limits.pause import Pause
from runner.engine.limits.places import Places
from runner.engine.limits.rates import Rates
from runner.engine.limits.slots import Slots
from runner.engine.limits.streak import Fate

SAVERS_BYTES = 64 * 1024 * 1024
"""Size of all requests that save up, from which on no further worker is wanted for the rows behind them."""


class Members:
    """Knows the standing of each item in the lane, and answers questions about it.

    succeeded_at: when the last completion came, by the clock; minus infinity before the first.
    """

    _rates: Rates

    def __init__(self, slots: Slots, places: Places, clock: Clock) -> None:
        self._slots, self._places, self._clock = slots, places, clock.monotonic
        # after what slots open one after the other: the start, a pause or an outage
        self._reopens = "turn"
        self._own_line = Line(places.ledger, self._offered())
        # the requests that fell back from flex to the standard tier; None until flex has had no capacity
        self._fallback: Fallback | None = None
        self._pause = Pause(clock.monotonic)
        self._outage = Outage(clock.monotonic, clock.random)
        self._standings: set[Standing] = set()
        # items that wait for their first permit
        self._unsent = 0
        # rows whose refusal may be the endpoint's
        self._holding = Holding(clock.monotonic, self._outage, self._standings.__len__)
        self._streak = self._holding.streak
        # requests that save up for a limit per minute and let others go first, oldest first, with their items
        self._savers: dict[Permit, Standing] = {}
        self.succeeded_at = float("-inf")

    def _offered(self) -> Limited:
        """Return what tells how many slots the lane has for the session."""
        return self._slots

    def enter(self, number: int, key: str = "") -> Standing:
        """Return the standing of an item that enters the lane. number: its attempts in earlier sessions."""
        standing = Standing(key=key, number=number)
        self._standings.add(standing)
        return standing

    def come(self, standing: Standing) -> None:
        """Count a row that has been here before."""
        self._standings.add(standing)

    def leave(self, standing: Standing) -> None:
        """Remove the standing of an item that leaves the lane."""
        self._standings.discard(standing)
        if self._streak.watching:
            self._holding.leave(standing)

    def expect_fallback(self, until: float) -> None:
        """Record that flex has no capacity for a row, which goes to the standard tier at ``until``, by the lane's clock."""
        self._falling_back.expect(until)

    @property
    def _falling_back(self) -> Fallback:
        if self._fallback is None:
            slots = Slots(self._slots.ceiling, tuned=self._slots.tuned, clock=self._clock)
            self._fallback = Fallback(slots, self._clock, self._places.ledger)
            self._places.fallbacks.append(self._fallback)
        return self._fallback

    @property
    def _pools(self) -> tuple[Slots, ...]:
        return (self._slots,) if self._fallback is None else (self._slots, self._fallback.slots)

    def _pool(self, permit: Permit) -> Slots:
        """Return the slots from which a permit takes its own."""
        return self._falling_back.slots if permit.standard else self._slots

    def _line(self, permit: Permit) -> Line:
        """Return where the time of a permit is counted."""
        return self._falling_back.line if permit.standard else self._own_line

    def _waits_for(self, permit: Permit, cause: str | None) -> None:
        """Record why the request waits that is to go next; None: it waits for nothing."""
        self._line(permit).waits_for(cause)

    def _barrier(self, permit: Permit) -> str:
        """Return what a request waits for that is to go next, as the ledger names it. It may not go now."""
        if self._places.halted:
            return "halt"
        if self._outage.since is not None:
            return "outage"
        if self._pause.left_s > 0:
            return "pause"
        if self._pool(permit).out >= self._pool(permit).limit:
            return FULL
        if self._places.free:
            # the slots open one after the other
            return self._reopens
        return "capacity" if self._places.fallbacks else FULL

    def resting(self, standing: Standing, cause: str | None = None) -> AbstractContextManager[None]:
        """Count an item that is not to be sent yet, while the context lasts. cause: None if it waits for its next attempt."""
        return self._places.ledger.resting(cause or self._why_rests(standing))

    def _why_rests(self, standing: Standing) -> str:
        if self._outage.since is not None:
            return "outage"
        if standing.flex_until is not None:
            return "capacity"
        if standing.refused_since is not None:
            return "pause"
        # refusals that no limit is the reason of: the server could not be reached
        return "outage" if standing.refusals else "retry"

    def _closed(self) -> bool:
        if self._pause.left_s > 0:
            return True
        return self._outage.since is not None and self._outage.probe_in_s != 0.0

    def _free(self, permit: Permit) -> bool:
        return (self._places.any if permit.standard else self._places.free) and self._pool(permit).may_take()

    def _goes_after(self, permit: Permit) -> bool:
        """Return True in an outage for a row of the standard tier if one that is untried can go: its answer shows more."""
        return permit.standard and self._outage.since is not None and self._unsent > 0 and self._free(Permit(admitted_at=0.0))

    @property
    def slots(self) -> int:
        """Requests that may be in flight now."""
        if self._fallback is None:
            return self._slots.limit
        return min(self._slots.limit + self._fallback.slots.limit, self._slots.ceiling)

    @property
    def _out(self) -> int:
        """Requests that are open, or whose attempts have not been saved yet."""
        return self._slots.out + (self._fallback.slots.out if self._fallback is not None else 0)

    @property
    def waiting_items(self) -> int:
        """Number of items in the lane without a permit."""
        return max(0, len(self._standings) - self._out - len(self._streak.held))

    @property
    def tried_items(self) -> int:
        """Number of items that let others go first: those that are held, those that save up, in an outage those tried."""
        # rows behind large ones are to be read, but not at the cost of all memory
        savers = len(self._savers) if sum(permit.size for permit in self._savers) < SAVERS_BYTES else 0
        if not self._outage.likely:
            return savers + len(self._streak.held)
        return savers + sum(standing.ended is not None for standing in self._standings)

    @property
    def paused_s(self) -> float:
        """Seconds until the pause ends; 0 if there is none."""
        return self._pause.left_s

    @property
    def asked_s(self) -> float:
        """Seconds until a pause that the server asked for ends; 0 if there is none."""
        return self._pause.left_s if self._pause.asked else 0.0

    @property
    def occupied(self) -> bool:
        """True if the lane has items."""
        return bool(self._standings)

    @property
    def blocked(self) -> bool:
        """True during a pause or an outage: no request is sent, even if others end."""
        return self._pause.left_s > 0 or self._outage.since is not None

    @property
    def out_of_service_s(self) -> float:
        """Seconds since the present outage began; 0 if there is none."""
        return 0.0 if self._outage.since is None else self._clock() - self._outage.since

    def excused(self, failure: Failure) -> bool:
        """Return True if a failure fell into an outage."""
        return self._outage.excuses(failure)

    def resize(self, ceiling: int) -> None:
        """Change how many requests may be open at most."""
        for slots in self._pools:
            slots.resize(ceiling)
        self._own_line.sized()

    def change(self, ceiling: int, per_minute: dict[Kind, float]) -> None:
        """Have other limits of the user."""
        self.resize(ceiling)
        self._rates.configure({**per_minute})

    def excuse(self, seconds: float) -> None:
        """Count so much less of the time for which rows have waited for the server."""
        for standing in self._standings:
            standing.excuse(seconds, self._clock())

    def counted(self, standing: Standing) -> int:
        """Return how many failures of an item count against it."""
        return self._outage.counted(standing.failures)

    def singled_out(self, standing: Standing, since: float) -> bool:
        """Return True if the failures since ``since`` are specific to this item.

        That is so if other items succeeded in that time, or if no other item is failing.
        """
        others_fail = any(other is not standing and other.failures for other in self._standings)
        return self.succeeded_at > since or not others_fail

    async def fate(self, standing: Standing) -> Fate:
        """Wait until it is known what becomes of a row that was refused."""
        with self.resting(standing):
            return await self._holding.fate(standing)

    def last(self) -> None:
        """Record that no further item will come."""
        self._holding.end()

    def _accept(self, permit: Permit) -> None:
        if not permit.accepted:
            permit.accepted_at = self._clock()
            self._pool(permit).accepted(permit)
            self._line(permit).sized()
            self._places.notify()

    def _reopen(self) -> None:
        self._streak.end()
        self._reopens = "outage"
        for slots in self._pools:
            slots.probing()
        self._places.notify()
