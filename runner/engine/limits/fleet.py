r"""One queue for several endpoints. It implements ``interfaces.Lane`` over a lane of each of them.

    row -> queue -> the endpoint that answers it first -> its lane: outage, slot, limits per minute -> permit
             ^                                              |
             \---- closed meanwhile, or failed there <------/

A row waits here, and not in the lane of an endpoint, so that one which is slow or out of service holds none up. It goes to the
endpoint that is likely to answer first; by weight, if the user has given any. A fallback gets a row only if all others are closed
for a reason that the user has named, or if they refuse its content. One that is silent gets none while others answer. Once no
further row will come, none goes to an endpoint that would answer it later than the others can answer all that wait.
"""

from collections.abc import Iterable
from typing import Literal

from runner.admission import Permit, Standing
from runner.engine.clock import Clock
from runner.engine.limits.choice import by_weight, is_silent, is_too_slow, quickest
from runner.engine.limits.fleet_rows import FleetRows, FleetStanding, Made, of
from runner.engine.limits.gate import Gate
from runner.engine.limits.hearing import GIVEN_UP_S
from runner.engine.limits.ledger import FULL
from runner.engine.limits.line import Line
from runner.engine.limits.member_lane import MemberLane
from runner.engine.limits.places import Places
from runner.engine.limits.roster import Roster
from runner.errors import AttemptError
from runner.model import Attempt, Usage

RECHECK_S = 1.0
OPENING_S = 0.005
"""Longest wait, in seconds, before the endpoints are looked at again; and while their slots open by the passing of time."""
LIMITED_S = 5.0
"""Seconds that a row may have to wait for limits per minute until a fallback takes it, if the user has named ``rate_limited``."""


class _NoSlots:
    """What the queue adds to the slots of a session."""

    limit = 0


class FleetLane(FleetRows):
    """The lane of a model over several endpoints."""

    def __init__(self, model: str, roster: Roster, places: Places, clock: Clock, made: Made) -> None:
        super().__init__(model, roster, places, clock, made)
        self._gate, self._passed_on = Gate(), Gate()
        self._line = Line(places.ledger, _NoSlots())
        # where the last failure was: what follows it in the same turn of the loop is about that endpoint
        self._failing: MemberLane | None = None
        self._waiting = 0

    # -- admission

    async def acquire(self, standing: Standing, size: int, most: int | None) -> Permit:
        """Wait for a permit, first come, first served. size: bytes of the request. most: limit of its output tokens."""
        one = of(standing)
        if not one.elsewhere:
            # it was tried everywhere: the next round begins
            one.tried.clear()
        one.size, one.most, one.elsewhere = size, most, False
        one.waits_since = self._clock()
        self._waiting += 1
        try:
            while True:
                lane = await self._lane(one, wish(one))
                permit = await lane.admit(self._moved(one, lane), size, most)
                if permit is not None:
                    break
        finally:
            self._waiting -= 1
            one.waits_since = None
        permit.endpoint, one.admitted_at = lane.member.number, permit.admitted_at
        self._open[permit] = lane, one
        return permit

    async def _lane(self, standing: FleetStanding, wish: Permit) -> MemberLane:
        """Wait at the head of the queue for an endpoint that takes a row. What follows must not give up its turn first."""
        # a row whose refusal another endpoint is to confirm may wait long for that, and holds nobody up
        gate = self._passed_on if standing.passed_on or standing.refused_at in standing.tried else self._gate
        self._line.join(at_once=False)
        try:
            await gate.enter(again=standing.ended is not None)
            try:
                while True:
                    group = self._group(standing)
                    if (lane := self._best(standing, wish, group)) is not None:
                        return lane
                    self._line.waits_for(self._barrier(group, wish))
                    await self._places.change(self._look_in_s(group, wish))
            finally:
                gate.leave()
        finally:
            self._line.leave()

    def _group(self, standing: FleetStanding) -> list[MemberLane]:
        """Return the endpoints to which a row may go."""
        lanes = [lane for lane in self._lanes.values() if lane.member.out is None]
        spare = [lane for lane in lanes if lane.member.fallback]
        if standing.passed_on and spare:
            # where those are down, the row fails for its refusal
            return [lane for lane in spare if lane.in_service] or lanes
        first = [lane for lane in lanes if not lane.member.fallback]
        wanted = self._roster.fallback_on
        if spare and (first or "outage" in wanted) and all(self._gives_way(lane, standing) for lane in first):
            return [*first, *spare]
        return first

    def _gives_way(self, lane: MemberLane, standing: FleetStanding) -> bool:
        """Return True if a fallback may take a row in place of an endpoint."""
        wanted = self._roster.fallback_on
        if lane.blocked:
            return lane.why_blocked in wanted
        if is_silent(lane, [*self._lanes.values()]):
            return "outage" in wanted
        wait_s = lane.limit_wait_s(wish(standing)) if "rate_limited" in wanted else 0.0
        waited_s = self._clock() - standing.waits_since if standing.waits_since is not None else 0.0
        return wait_s > 0 and wait_s + waited_s > LIMITED_S

    def _best(self, standing: FleetStanding, wish: Permit, group: list[MemberLane]) -> MemberLane | None:
        """Return the endpoint to which a row goes now; None if it waits."""
        if (at := standing.refused_at) is not None and at in standing.tried:
            # its refusal is to be confirmed by another one
            group = [lane for lane in group if lane.member.number != at and lane.in_service] or group
        open_ = [lane for lane in group if lane.takes(wish)]
        if not open_:
            return None
        serves = any(lane.in_service for lane in group)
        rivals = group
        if any(silent := [lane.in_service and is_silent(lane, group) for lane in group]):
            left = [lane for lane, none in zip(group, silent, strict=True) if not none]
            # if all are silent, none of them is known to be worse
            rivals = left if any(lane.in_service for lane in left) else group
            open_ = [lane for lane in open_ if lane in rivals]
        now = [lane for lane in open_ if lane.lets(wish)] or open_
        if standing.tried:
            now = [lane for lane in now if lane.member.number not in standing.tried] or now
        if self._last and serves:
            # what is left is not risked as probes, nor left to an endpoint that would answer last
            now = [lane for lane in now if lane.in_service]
            if not self._roster.weighted:
                now = [lane for lane in now if not is_too_slow(lane, rivals, self._waiting, wish)]
        elif probing := next((lane for lane in now if lane.probing), None):
            return probing
        if not now:
            return None
        return by_weight(now) if self._roster.weighted else quickest(now)

    def _barrier(self, group: list[MemberLane], wish: Permit) -> str:
        """Return what the head of the queue waits for, as the ledger names it: what keeps most of the free slots from work."""
        idle = [(found[0], "outage" if is_silent(lane, group) else found[1]) for lane in group if (found := lane.idle(wish))]
        if idle:
            return max(idle)[1]
        return "capacity" if self._places.fallbacks and not self._places.free else FULL

    def _look_in_s(self, group: list[MemberLane], wish: Permit) -> float:
        if any(lane.opening and lane.in_service for lane in group):
            return OPENING_S
        waits = [lane.opens_in_s or lane.limit_wait_s(wish) for lane in group]
        return min([RECHECK_S, *(max(OPENING_S, wait_s) for wait_s in waits if wait_s)])

    # -- results of attempts

    def release(self, permit: Permit, attempt: Attempt | None = None, *, unused: bool = False) -> None:
        """Release a permit: after its attempt has been saved, or because no attempt was made (``unused``)."""
        lane, _ = self._open.pop(permit)
        lane.hearing.over(permit)
        lane.release(permit, attempt, unused=unused)

    def heard(self, permit: Permit, status: int, raw: Iterable[tuple[bytes, bytes]]) -> None:
        """Record that an answer has begun. raw: its headers."""
        lane = self._open[permit][0]
        lane.hearing.heard(permit, answers=200 <= status <= 299)
        lane.heard(permit, status, raw)

    def succeeded(self, permit: Permit, usage: Usage | None) -> None:
        """Record a completion."""
        lane, standing = self._ended(permit)
        if (refused_at := standing.refused_at) is not None and refused_at != lane.member.number:
            self._lanes[refused_at].contradicted()
            _cleared(self._lanes[refused_at])
        standing.refused_at = None
        standing.tried.clear()
        lane.hearing.heard(permit, answers=True)
        lane.answered_in(self._clock() - (permit.sent_at or permit.admitted_at))
        lane.succeeded(permit, usage)

    def failed(self, permit: Permit, error: AttemptError, usage: Usage | None, *, throttled: bool, retried: bool) -> None:
        """Record a failed attempt. throttled: refused by a rate limit. retried: another attempt may follow."""
        lane, standing = self._ended(permit)
        self._failing, number = lane, lane.member.number
        standing.tried.add(number)
        lane.failed(permit, error, usage, throttled=throttled, retried=retried)
        _cleared(lane)
        self._look_elsewhere(standing)

    def _look_elsewhere(self, standing: FleetStanding) -> None:
        """Have a row go on at once if an endpoint is in service where it has not failed."""
        tried = standing.tried
        standing.elsewhere = any(one.in_service and one.member.number not in tried for one in self._group(standing))

    def _ended(self, permit: Permit) -> tuple[MemberLane, FleetStanding]:
        """Return where an attempt was made, and the row. What the row knows of its end is known there too."""
        lane, standing = self._open[permit]
        there = standing.there[lane.member.number]
        there.ended = standing.ended if standing.ended is not None else self._clock()
        there.failures = [failure for failure in standing.failures if failure.endpoint == lane.member.number]
        return lane, standing

    def refused(self, standing: Standing, permit: Permit, attempt: Attempt) -> float:
        """Hold a row whose refusal may be the endpoint's. Another endpoint is asked first, if there is one.

        A row whose content was refused goes to a fallback, once. Return for how many seconds all rows are refused, or 0.
        """
        lane, one = self._ended(permit)[0], of(standing)
        one.tried.add(lane.member.number)
        if attempt.error_code == "content_policy" and self._roster.passes_on(lane.member):
            one.decided = "fail" if one.passed_on else "again"
            one.passed_on = one.elsewhere = True
            lane.refused_alone(permit, attempt)
            return 0.0
        others = [other for other in self._group(one) if other.in_service and other.member.number not in one.tried]
        if others and one.refused_at is None:
            one.decided, one.refused_at, one.elsewhere = "again", lane.member.number, True
            lane.refused_alone(permit, attempt)
            return 0.0
        refusing_s = lane.refused(one.there[lane.member.number], permit, attempt)
        _cleared(lane)
        return refusing_s

    async def fate(self, standing: Standing) -> Literal["fail", "again"]:
        """Wait until it is known what becomes of a row that was refused."""
        one = of(standing)
        if (fate := one.decided) is not None:
            one.decided = None
            return fate
        assert one.at is not None
        return await self._lanes[one.at].fate(one.there[one.at])

    def told_nothing(self, permit: Permit) -> None:
        """Record an attempt that shows nothing about the server: it was cancelled, or it used a stale connection."""
        self._ended(permit)[0].told_nothing(permit)

    def throttle(self, permit: Permit, hint_s: float | None, status: int | None) -> None:
        """React to a rate limit of one endpoint."""
        lane, standing = self._open[permit]
        lane.throttle(permit, hint_s, status)
        lane.let_go()
        # the endpoint is closed by now, so that a fallback may be open
        self._look_elsewhere(standing)

    def pause(self, seconds: float, reason: str, *, asked: bool = False) -> None:
        """Send nothing for so many seconds to the endpoint whose failure has just been recorded. asked: it asked for the wait."""
        if self._failing is not None:
            self._failing.pause(seconds, reason, asked=asked)
            self._failing.let_go()

    def expect_fallback(self, until: float) -> None:
        """Record that flex has no capacity for a row, which goes to the standard tier at ``until``, by the lane's clock."""
        if self._failing is not None:
            self._failing.expect_fallback(until)

    def look(self) -> None:
        """See, once no further row will come, whether one waits where another endpoint could take it. Called each second.

        What is open at a silent endpoint is ended once nothing else is left to do. Each row only once.
        """
        if not self._last:
            return
        every = [*self._lanes.values()]
        for lane in every:
            if lane.hinders(every):
                lane.let_go()
        if self._waiting:
            return
        for lane in every:
            if not lane.blocked and is_silent(lane, every, GIVEN_UP_S):
                requests = [one for one in lane.hearing.unheard(GIVEN_UP_S) if self._can_go_elsewhere(lane, self._open[one][1])]
                for one in requests:
                    self._open[one][1].given_up = True
                if requests:
                    lane.give_up(requests)

    def _can_go_elsewhere(self, lane: MemberLane, standing: FleetStanding) -> bool:
        """Return True if another endpoint can take a row that has not been given up before."""
        group = [one for one in self._group(standing) if one is not lane]
        return not standing.given_up and any(one.in_service and not is_silent(one, [lane, *group]) for one in group)


def _cleared(lane: MemberLane) -> None:
    """Give the rows back that wait for the limits of an endpoint, if it is closed: others may be open."""
    if lane.blocked:
        lane.let_go()


def wish(standing: FleetStanding) -> Permit:
    """Return a permit as a row would get it, to be asked about."""
    return Permit(admitted_at=0.0, size=standing.size, most=standing.most, standard=standing.standard)
