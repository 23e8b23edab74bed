"""Which of several endpoints a row goes to, among those that can take it now."""

from collections.abc import Sequence

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


def is_too_slow(lane: MemberLane, among: Sequence[MemberLane], waiting: int) -> bool:
    """Return True if the other endpoints can answer all rows that wait before this one has answered the next.

    waiting: how many rows wait. No further one will come.
    """
    others = [one for one in among if one is not lane and one.in_service and one.pace]
    if not others or lane.usual_s is None:
        return False
    quickest_s = min(one.usual_s or 0.0 for one in others)
    return lane.usual_s > waiting / sum(one.pace for one in others) + quickest_s
