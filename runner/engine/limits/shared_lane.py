"""A lane that shares its limits with other runs as long as there are any; alone it is a lane like any other.

alone     slots, limits per minute and pauses are its own
shared    each request needs a ticket of the run that serves (``Leader``), beyond what the lane itself allows: its outage,
its places, a fixed number of slots. What the server says goes to the run that serves, which pauses all.
"""

from collections.abc import Callable, Iterable
from typing import get_args

from msgspec import structs

from runner.admission import Permit, Standing
from runner.engine.clock import Clock
from runner.engine.limits.fallback import Fallback
from runner.engine.limits.headers import Kind, Seen
from runner.engine.limits.lane import RECHECK_S, Lane
from runner.engine.limits.leader import Leader
from runner.engine.limits.learned import Learned
from runner.engine.limits.places import Places
from runner.engine.limits.rates import Rates
from runner.engine.limits.slots import Slots
from runner.model import Attempt, Usage
from runner.pace import LaneState

KINDS: tuple[Kind, ...] = get_args(Kind)


class LedRates(Rates):
    """Passes on what it is told. own: the limits of the lane, for requests that reserved amounts of them before.

    learns: it alone learns how many tokens requests have; else whoever it passes this on to has the same estimate.
    """

    def __init__(self, own: Rates, leader: Leader, *, learns: bool) -> None:
        super().__init__({}, lambda: 0.0)
        self.own, self._leader, self._learns = own, leader, learns

    @property
    def waits_for(self) -> Kind | None:
        """The limit for which requests wait now."""
        return next((kind for kind in KINDS if kind == self._leader.cause), None)

    @property
    def per_minute(self) -> dict[Kind, float]:
        """The limits in force."""
        known = self._leader.per_minute
        return {kind: known[kind] for kind in KINDS if kind in known}

    def unused(self, permit: Permit) -> None:
        """Return the whole reservation."""
        self.own.unused(permit)
        self._leader.uncounted(permit, requests=False)

    def refused(self, permit: Permit) -> None:
        """Correct the reservation after a rate limit."""
        self.own.refused(permit)
        self._leader.uncounted(permit, requests=True)

    def used(self, permit: Permit, usage: Usage | None, *, complete: bool) -> None:
        """Correct the reservation to what the request used."""
        if permit.reserved or self._learns:
            self.own.used(permit, usage, complete=complete)
        self._leader.used(permit, usage, complete=complete)

    def hear(self, raw: Iterable[tuple[bytes, bytes]], wall: float, *, always: bool) -> None:  # noqa: ARG002 - as the own ones
        """Pass on the headers of an answer."""
        self._leader.hear(raw, always=always)


class SharedLane(Lane):
    """The lane of a model whose limits may be shared. ``runner.sharing`` says who leads."""

    def __init__(self, model: str, slots: Slots, places: Places, per_minute: dict[Kind, float], clock: Clock) -> None:
        super().__init__(model, slots, places, per_minute, clock)
        self.configured = {**per_minute}
        # called when the limits of the user are others
        self.changed: Callable[[], None] = lambda: None
        self._leader: Leader | None = None
        # rows that wait for a permit, and those of them that fell back from flex
        self._wanting: tuple[dict[Standing, None], dict[Standing, None]] = ({}, {})
        # permits that are out
        self.open: dict[Permit, None] = {}
        # how many runs share the limits, this one included; 0: it is alone
        self.runs = 0
        # limits per minute that users of other runs have set, and that were smaller than those of this one
        self.borrowed: set[Kind] = set()

    # -- what the user sets

    def change(self, ceiling: int, per_minute: dict[Kind, float]) -> None:
        """Have other limits of the user. Those who share them are told."""
        self.configured = {**per_minute}
        self.resize(ceiling)
        self.own_rates.configure(self.configured)
        self.changed()

    # -- who leads

    def follow(self, leader: Leader, *, learns: bool) -> None:
        """Have each request wait for a ticket from now on. learns: see ``LedRates``."""
        rates = self.own_rates
        self._leader = leader
        self._rates = LedRates(rates, leader, learns=learns)
        for slots in self._pools:
            slots.leader = leader
        self._places.notify()

    def go_alone(self, learned: Learned | None, reported: dict[str, float]) -> None:
        """Have the own limits count from now on, with what was learned and what the server reports."""
        rates = self.own_rates
        self._leader, self._rates, self.runs = None, rates, 0
        rates.told = self._waits_for
        rates.configure(self.configured)
        for kind in KINDS:
            if kind in reported:
                rates.learn(kind, Seen(limit=reported[kind]))
        for slots in self._pools:
            slots.leader = None
        if learned is not None:
            self._slots.go_on(learned)
        self._own_line.sized()
        self._places.notify()

    def told(self, limit: int, runs: int, pause_s: float, reason: str, *, asked: bool) -> None:
        """Record what is so for all runs together: slots, a pause, and how many runs there are."""
        self.runs = runs
        if self._slots.tuned:
            self._slots.limit = max(1, min(limit, self._slots.ceiling))
            self._own_line.sized()
        if pause_s > 0 and self._pause.extend(pause_s, reason, asked=asked):
            self._reopens = "pause"

    def look(self) -> None:
        """Look how many tickets the rows want now."""
        if self._leader is not None:
            self._leader.wanted()

    def wake(self) -> None:
        """Have the next row look whether it may go."""
        self._places.notify()

    @property
    def own_rates(self) -> Rates:
        """The limits per minute that count while the lane is alone."""
        return self._rates.own if isinstance(self._rates, LedRates) else self._rates

    @property
    def learned(self) -> Learned | None:
        """What the lane has learned of the slots of the server; None if their number is fixed."""
        return self._slots.learned() if self._slots.tuned else None

    @property
    def reports(self) -> dict[str, float]:
        """The limits per minute that the server reports."""
        return {str(kind): limit for kind, limit in self.own_rates.reports.items()}

    @property
    def pausing(self) -> tuple[float, str, bool]:
        """Seconds until the pause ends, its reason, and whether the server asked for it."""
        return self._pause.left_s, self._pause.reason, self._pause.asked

    @property
    def fixed(self) -> bool:
        """True if the number of slots is fixed."""
        return not self._slots.tuned

    @property
    def most(self) -> int:
        """Most requests that may ever be open."""
        return self._slots.ceiling

    def wants(self, *, standard: bool) -> list[Standing]:
        """Return the rows for which tickets are wanted. standard: those that fell back from flex.

        A pause is one of all runs: their rows keep their turns. An outage is the own matter, and takes no tickets but for probes.
        """
        rows = self._wanting[standard]
        if not rows or self._places.halted or (self._outage.since is not None and self._outage.probe_in_s != 0.0):
            return []
        pool = self._falling_back.slots if standard else self._slots
        room = min(self._places.ceiling - self._places.out, pool.ceiling - pool.out)
        room = min(room, 1) if self._outage.since is not None else room
        return [one for one, _ in zip(rows, range(room), strict=False)]

    # -- what differs while it is shared

    @property
    def _falling_back(self) -> Fallback:
        fallback = super()._falling_back
        fallback.slots.leader = self._leader
        return fallback

    async def acquire(self, standing: Standing, size: int, most: int | None) -> Permit:
        """Wait for a permit, which the caller must release."""
        wanting = self._wanting[standing.standard]
        standing.size, standing.most = size, most
        wanting[standing] = None
        if self._leader is not None:
            self._leader.wanted()
        try:
            return await super().acquire(standing, size, most)
        finally:
            del wanting[standing]
            if self._leader is not None:
                # also where the row was cancelled: a ticket may be left
                self._leader.wanted()

    async def _open(self, permit: Permit) -> None:
        await super()._open(permit)
        while (leader := self._leader) is not None and not leader.ready(standard=permit.standard):
            leader.wanted()
            self._waits_for(permit, leader.cause)
            await self._places.change(RECHECK_S)
            await super()._open(permit)

    def _let(self, permit: Permit) -> None:
        super()._let(permit)
        self.open[permit] = None
        if self._leader is not None:
            self._leader.take(permit)

    def release(self, permit: Permit, attempt: Attempt | None = None, *, unused: bool = False) -> None:
        """Release a permit: after its attempt has been saved, or because no attempt was made (``unused``)."""
        super().release(permit, attempt, unused=unused)
        del self.open[permit]
        if self._leader is not None:
            self._leader.gave_back(permit, unused=unused)

    def throttle(self, permit: Permit, hint_s: float | None, status: int | None) -> None:
        """React to a rate limit."""
        if self._leader is None:
            super().throttle(permit, hint_s, status)
            return
        self._leader.throttle(permit, hint_s, status, self._words)
        if hint_s is not None:
            # the pause of all is a moment away
            self._pause.extend(hint_s, self._words or str(status or 429), asked=True)

    def pause(self, seconds: float, reason: str, *, asked: bool = False) -> None:
        """Send no new request for ``seconds``, in no run."""
        super().pause(seconds, reason, asked=asked)
        if self._leader is not None:
            self._leader.pause(seconds, self._pause.reason or reason, asked=asked)

    def state(self) -> LaneState:
        """Return what the lane is doing now."""
        state = super().state()
        return structs.replace(state, shared=self.runs) if self.runs else state
