"""The rows of several endpoints, and what the endpoints' states mean for them. The base class of ``FleetLane``."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import Literal

from msgspec import field, structs

from runner.admission import Failure, Permit, Standing
from runner.durations import format_span
from runner.engine.clock import Clock
from runner.engine.limits.choice import is_silent
from runner.engine.limits.headers import Kind
from runner.engine.limits.member_lane import MemberLane
from runner.engine.limits.places import Places
from runner.engine.limits.roster import Member, Roster
from runner.pace import LaneState

EXCUSED = 6
"""Outages whose failures do not count against a row. In more of them, the row may be what makes the servers fail."""
SHOWN = 2
"""Endpoints of which it is shown why they are closed."""
_NEVER = float("-inf")
Made = Callable[[str, Member, Callable[[], int]], MemberLane]
"""Makes the lane of an endpoint for a model, given what returns the number of rows that it may get."""


class FleetStanding(Standing):
    """The standing of a row at several endpoints. there: at each, by its number. at: where it was last.

    tried: where it has failed since it was last answered. passed_on: it may go to fallbacks only. decided: what becomes of it
    after a refusal: "again" if another endpoint is asked, which has not seen it. refused_at: the one whose refusal that confirms.
    waits_since: when it began to wait for a permit. given_up: a request of it was, since its endpoint was silent.
    """

    there: dict[int, Standing] = field(default_factory=dict)
    at: int | None = None
    tried: set[int] = field(default_factory=set)
    passed_on: bool = False
    decided: Literal["fail", "again"] | None = None
    refused_at: int | None = None
    waits_since: float | None = None
    given_up: bool = False


class FleetRows:
    """Knows each row and where it has been, and answers questions about all endpoints together. made: makes the lane of one."""

    def __init__(self, model: str, roster: Roster, places: Places, clock: Clock, made: Made) -> None:
        self.model, self._roster, self._places, self._clock = model, roster, places, clock.monotonic
        self._made, self._lanes = made, dict[int, MemberLane]()
        self._standings: set[FleetStanding] = set()
        self._open: dict[Permit, tuple[MemberLane, FleetStanding]] = {}
        self._last = False
        roster.changed.append(self._changed)
        self._changed()

    def _changed(self) -> None:
        for member in self._roster.members:
            if member.number not in self._lanes:
                lane = self._lanes[member.number] = self._made(self.model, member, partial(self._present, member.number))
                if self._last:
                    lane.last()
            else:
                lane = self._lanes[member.number]
                lane.sized()
                if member.out is not None:
                    lane.let_go()
        self._places.notify()

    def _present(self, number: int) -> int:
        """Return how many rows there are for an endpoint: those that another one holds are not."""
        return len(self._standings) - sum(lane.held for at, lane in self._lanes.items() if at != number)

    def enter(self, number: int, key: str = "") -> FleetStanding:
        """Return the standing of an item that enters the lane. number: its attempts in earlier sessions."""
        standing = FleetStanding(key=key, number=number)
        self._standings.add(standing)
        return standing

    def leave(self, standing: Standing) -> None:
        """Remove the standing of an item that leaves the lane."""
        one = of(standing)
        self._standings.discard(one)
        for number, there in one.there.items():
            self._lanes[number].leave(there)

    def come(self, standing: Standing) -> None:
        """Count a row that has been here before."""
        one = of(standing)
        self._standings.add(one)
        if one.at is not None:
            self._lanes[one.at].come(one.there[one.at])

    def _moved(self, standing: FleetStanding, lane: MemberLane) -> Standing:
        """Return the standing of a row at an endpoint to which it goes. It leaves the one where it was."""
        number, before = lane.member.number, standing.at
        there = standing.there.get(number)
        if before is not None and before != number:
            self._lanes[before].leave(standing.there[before])
        if there is None:
            there = standing.there[number] = lane.enter(standing.number, standing.key)
        elif before != number:
            lane.come(there)
        standing.at = number
        there.number, there.standard, there.slow = standing.number, standing.standard, standing.slow
        return there

    # -- what a failure counts as

    def excused(self, failure: Failure) -> bool:
        """Return True if a failure fell into an outage, or its endpoint is left out by now."""
        lane = self._lanes[failure.endpoint]
        return lane.member.out is not None or lane.excused(failure)

    def counted(self, standing: Standing) -> int:
        """Return how many failures of an item count against it: none that fell into an outage, unless these are many."""
        own, outages = 0, 0
        for number, there in of(standing).there.items():
            lane = self._lanes[number]
            if lane.member.out is None:
                own += lane.counted(there)
                outages += lane.outages_of(there)
        return own + max(0, outages - EXCUSED)

    def singled_out(self, standing: Standing, since: float) -> bool:
        """Return True if the failures since ``since`` are this item's own: others succeeded then, or no other is failing."""
        one = of(standing)
        return one.at is None or self._lanes[one.at].singled_out(one.there[one.at], since)

    def resting(self, standing: Standing, cause: str | None = None) -> AbstractContextManager[None]:
        """Count an item that is not to be sent yet, while the context lasts. cause: None if it waits for its next attempt."""
        one = of(standing)
        if cause is None and one.at is not None:
            return self._lanes[one.at].resting(standing)
        return self._places.ledger.resting(cause or "retry")

    @property
    def out_of_service_s(self) -> float:
        """Seconds since no endpoint is in service; 0 if one is."""
        return min((lane.out_of_service_s for lane in self._serving), default=0.0)

    @property
    def succeeded_at(self) -> float:
        """When the last completion came, by the clock of the run; minus infinity before the first."""
        return max((lane.succeeded_at for lane in self._lanes.values()), default=_NEVER)

    # -- for the whole session

    def change(self, ceiling: int, per_minute: dict[Kind, float]) -> None:
        """Have other limits of the user, at each endpoint."""
        for lane in self._lanes.values():
            lane.change(ceiling, per_minute)

    def excuse(self, seconds: float) -> None:
        """Count so much less of the time for which rows have waited for the server."""
        for standing in self._standings:
            standing.excuse(seconds, self._clock())

    def _silent(self) -> list[MemberLane]:
        """Return the endpoints in service of which nothing is heard while others answer."""
        serving = self._serving
        return [lane for lane in serving if lane.in_service and is_silent(lane, serving)]

    @property
    def _serving(self) -> list[MemberLane]:
        return [self._lanes[member.number] for member in self._roster.serving()]

    @property
    def slots(self) -> int:
        """Requests that may be in flight now."""
        return sum(lane.slots for lane in self._lanes.values() if lane.member.out is None)

    @property
    def waiting_items(self) -> int:
        """Number of items in the lane without a permit."""
        return max(0, len(self._standings) - len(self._open))

    @property
    def tried_items(self) -> int:
        """Number of items that are held, and those that save up; while all endpoints are closed, those that were tried."""
        return sum(lane.tried_items for lane in self._lanes.values())

    @property
    def asked_s(self) -> float:
        """Seconds until the first endpoint ends a pause that its server asked for; 0 if one may continue now."""
        return min((lane.asked_s for lane in self._serving), default=0.0)

    @property
    def occupied(self) -> bool:
        """True if the lane has items."""
        return bool(self._standings)

    @property
    def blocked(self) -> bool:
        """True if each endpoint is in a pause or an outage."""
        return all(lane.blocked for lane in self._serving)

    def last(self) -> None:
        """Record that no further item will come."""
        self._last = True
        for lane in self._lanes.values():
            lane.last()
            # a row that waits for limits may have its answer sooner elsewhere
            lane.let_go()
        self._places.notify()

    def state(self) -> LaneState:
        """Return what the endpoints are doing now, added up; what keeps one of them from work is in ``waiting``."""
        lanes = self._serving or list(self._lanes.values())
        states = [lane.state() for lane in lanes]
        words = [f"{lane.member.name}: {one.waiting}" for lane, one in zip(lanes, states, strict=True) if one.blocked]
        words += [f"{one.member.name}: no answer for {format_span(int(one.hearing.silent_s))}" for one in self._silent()]
        waiting = "; ".join(words[:SHOWN]) or next((one.waiting for one in states if one.waiting), None)
        waiting = f"{waiting}; and {len(words) - SHOWN} more" if len(words) > SHOWN else waiting
        limits: dict[str, float] = {}
        for kind in states[0].limits if states else ():
            if all(kind in one.limits for one in states):
                limits[kind] = sum(one.limits[kind] for one in states)
        first = min(states, key=lambda one: (one.blocked, one.outage_s))
        return structs.replace(
            first,
            model=self.model,
            slots=sum(one.slots for one in states),
            ceiling=sum(one.ceiling for one in states),
            in_flight=len(self._open),
            limits=limits,
            waiting=waiting,
            waiting_rows=self.waiting_items,
        )


def of(standing: Standing) -> FleetStanding:
    """Return the standing of a row that came in by ``enter``."""
    assert isinstance(standing, FleetStanding)
    return standing
