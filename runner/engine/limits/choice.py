"""Which of several endpoints a row goes to, among those that can take it now."""

from collections.abc import Sequence

from runner.admission import Permit
from runner.engine.limits.hearing import SILENT_S, bound_s
from runner.engine.limits.member_lane import MemberLane


def quickest(lanes: Sequence[MemberLane]) -> MemberLane:
    """Return the endpoint that is likely to answer first. One that has not answered yet is taken to be as quick as the best."""
    if len(lanes) == 1:
        return lanes[0]
    usual_s = min((lane.usual_s for lane in lanes if lane.usual_s is not None), default=1.0)
    return min(lanes, key=lambda lane: lane.expected_s(usual_s))


def by_weight(lanes: Sequence[MemberLane]) -> MemberLane:
    """Return the next of several endpoints: each has its turn as often as its weight says (as nginx does it)."""
    total = 0.0
    for lane in lanes:
        share = 1.0 if lane.member.weight is None else lane.member.weight
        lane.credit += share
        total += share
    chosen = max(lanes, key=lambda lane: lane.credit)
    chosen.credit -= total
    return chosen


def is_too_slow(lane: MemberLane, among: Sequence[MemberLane], waiting: int, wish: Permit) -> bool:
    """Return True if the other endpoints can answer all rows that wait before this one has answered the next.

    waiting: how many rows wait. No further one will come. wish: for the next of them. What an endpoint's limits per minute make
    it wait is part of the time that it takes.
    """
    paces = {one: one.pace(wish) for one in among if one is not lane and one.in_service and one.usual_s is not None}
    together = sum(paces.values())
    if not together or lane.usual_s is None:
        return False
    first_s = min((one.usual_s or 0.0) + max(one.limit_wait_s(wish), 1 / together) for one, pace in paces.items() if pace)
    return lane.usual_s + lane.limit_wait_s(wish) > (waiting - 1) / together + first_s


def is_silent(lane: MemberLane, among: Sequence[MemberLane], least_s: float = SILENT_S) -> bool:
    """Return True if an endpoint has answered nothing for long, while others answer in a known time."""
    if (silent_s := lane.hearing.silent_s) <= least_s:
        return False
    limit_s = bound_s(lane.hearing, (one.hearing for one in among if one is not lane and one.in_service), least_s)
    return limit_s is not None and silent_s > limit_s
