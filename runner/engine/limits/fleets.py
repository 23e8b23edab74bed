"""The lanes of a session whose requests go to several endpoints."""

from collections.abc import Callable

from runner.engine.clock import Clock
from runner.engine.limits.fleet import FleetLane
from runner.engine.limits.lanes import Lanes, Limits
from runner.engine.limits.member_lane import MemberLane
from runner.engine.limits.roster import Member, Roster
from runner.engine.limits.slots import Slots


class FleetLanes(Lanes):
    """Creates the queue of a model when its first row comes. each: most requests in flight at one endpoint."""

    def __init__(self, limits: Limits, roster: Roster, each: int, clock: Clock | None = None) -> None:
        super().__init__(limits, clock)
        self._roster, self._each = roster, each

    def change(self, limits: Limits, each: int) -> None:
        """Have other limits from now on, at each endpoint."""
        self._each = each
        super().change(limits, each)

    @property
    def ceiling(self) -> int:
        """Most requests in flight, over all endpoints that get requests now."""
        return min(self._limits.ceiling, self._each * max(1, sum(one.out is None for one in self._roster.members)))

    def look(self) -> None:
        """See whether a row waits where another endpoint could take it, at the end of a run. Called each second."""
        for lane in self._lanes.values():
            if isinstance(lane, FleetLane):
                lane.look()

    def _made(self, model: str) -> FleetLane:
        return FleetLane(model, self._roster, self._places, self._clock, self._made_for)

    def _made_for(self, model: str, member: Member, present: Callable[[], int]) -> MemberLane:
        slots = Slots(self._each, tuned=self._limits.tuned, clock=self._clock.monotonic)
        return MemberLane(model, slots, self._places, dict(self._limits.per_minute), self._clock, member, present)
