"""The lanes of a session, one for each model."""

from collections.abc import Callable
from typing import Protocol

from msgspec import Struct, structs

from runner import interfaces
from runner.engine.clock import Clock
from runner.engine.limits.halt import Halt
from runner.engine.limits.headers import Kind
from runner.engine.limits.lane import Lane
from runner.engine.limits.ledger import Ledger
from runner.engine.limits.places import Places
from runner.engine.limits.shared_lane import SharedLane
from runner.engine.limits.slots import START, Slots
from runner.pace import LaneState


class Limits(Struct, frozen=True, kw_only=True):
    """The limits that a job sets. per_minute: by name of the option; they apply to each lane separately."""

    # maximum number of requests in flight, over all lanes
    ceiling: int
    # True: each lane finds its number of slots by itself, up to the ceiling
    tuned: bool = True
    per_minute: dict[Kind, float] = {}


class SessionLane(interfaces.Lane, Protocol):
    """A lane, with what the whole session asks it."""

    @property
    def slots(self) -> int:
        """Requests that may be in flight now."""
        ...

    @property
    def waiting_items(self) -> int:
        """Number of items in the lane without a permit."""
        ...

    @property
    def tried_items(self) -> int:
        """Number of items that occupy a worker while others go first."""
        ...

    @property
    def asked_s(self) -> float:
        """Seconds until a pause that the server asked for ends; 0 if there is none."""
        ...

    @property
    def occupied(self) -> bool:
        """True if the lane has items."""
        ...

    @property
    def blocked(self) -> bool:
        """True during a pause or an outage."""
        ...

    def last(self) -> None:
        """Record that no further item will come."""
        ...

    def excuse(self, seconds: float) -> None:
        """Count so much less of the time for which rows have waited for the server."""
        ...

    def change(self, ceiling: int, per_minute: dict[Kind, float]) -> None:
        """Have other limits of the user: how many requests may be open, and how many of what may go out in a minute."""
        ...

    def state(self) -> LaneState:
        """Return what the lane is doing now."""
        ...


class Lanes:
    """Creates the lane of a model when the first row for that model comes."""

    def __init__(self, limits: Limits, clock: Clock | None = None) -> None:
        self._limits, self._clock = limits, clock or Clock()
        first = min(START, limits.ceiling) if limits.tuned else limits.ceiling
        # divides the time of all slots
        self.ledger = Ledger(self._clock.monotonic, limits.ceiling, first)
        self._places = Places(limits.ceiling, self.ledger)
        self.halt = Halt()
        self._lanes: dict[str, SessionLane] = {}
        self._shared: list[SharedLane] = []
        # told of each lane, which may then share its limits with other runs; None: none does
        self.share: Callable[[SharedLane], None] | None = None
        # True if no item will come that is in no lane yet
        self._last = False

    def of(self, model: str) -> SessionLane:
        """Return the lane of a model."""
        lane = self._lanes.get(model)
        if lane is None:
            lane = self._lanes[model] = self._made(model)
            if self._last:
                lane.last()
        return lane

    def _made(self, model: str) -> SessionLane:
        slots = Slots(self._limits.ceiling, tuned=self._limits.tuned, clock=self._clock.monotonic)
        per_minute = dict(self._limits.per_minute)
        if self.share is None:
            return Lane(model, slots, self._places, per_minute, self._clock)
        lane = SharedLane(model, slots, self._places, per_minute, self._clock)
        self._shared.append(lane)
        self.share(lane)
        return lane

    def last(self) -> None:
        """Record that no further item will come: all are in their lanes."""
        self._last = True
        self.ledger.last()
        for lane in self._lanes.values():
            lane.last()

    @property
    def ceiling(self) -> int:
        """Most requests in flight, over all lanes."""
        return self._limits.ceiling

    @property
    def tuned(self) -> bool:
        """True if the slots adapt by themselves."""
        return self._limits.tuned

    @property
    def per_minute(self) -> dict[Kind, float]:
        """The limits per minute that the job sets."""
        return self._limits.per_minute

    @property
    def borrowed(self) -> set[Kind]:
        """The limits per minute that users of runs have set with which this one shared them."""
        return {kind for lane in self._shared for kind in lane.borrowed}

    @property
    def slots(self) -> int:
        """Requests that may be in flight now, over all lanes."""
        most = sum(lane.slots for lane in self._lanes.values())
        return min(most or START, self._limits.ceiling) if self._limits.tuned else self._limits.ceiling

    @property
    def in_flight(self) -> int:
        """Requests that are open, or whose attempts have not been saved yet."""
        return self._places.out

    def stuck(self) -> int:
        """Return how many items occupy a worker in vain.

        These are the tried items of lanes that may be in an outage, the items that are held and, while any lane has fewer items
        than slots, the items for which the other lanes have no slot.
        """
        tried = sum(lane.tried_items for lane in self._lanes.values())
        if all(lane.waiting_items >= lane.slots for lane in self._lanes.values()):
            return tried
        waiting = (lane.waiting_items - (0 if lane.blocked else lane.slots) for lane in self._lanes.values())
        return tried + sum(max(0, number) for number in waiting)

    @property
    def asked_s(self) -> float:
        """Seconds that the server asked to wait until the first lane may continue; 0 if a lane may continue now."""
        return min((lane.asked_s for lane in self._lanes.values() if lane.occupied), default=0.0)

    @property
    def succeeded_at(self) -> float:
        """When the last completion came in any lane, by the monotonic clock; minus infinity before the first."""
        return max((lane.succeeded_at for lane in self._lanes.values()), default=float("-inf"))

    def states(self) -> tuple[LaneState, ...]:
        """Return what each lane is doing."""
        states = tuple(lane.state() for lane in self._lanes.values())
        if not self.halt.on:
            return states
        return tuple(structs.replace(one, waiting=self.halt.words, blocked=True, halted=True) for one in states)

    def pause(self, words: str, at: float) -> None:
        """Send nothing further, in no lane: a person wants it so. words: what is shown. at: seconds since the epoch."""
        self.halt.begin(words, at)
        self._places.halted = True
        # rows that wait find out why, and tickets of other runs go back
        self.wake()

    def go_on(self, at: float) -> None:
        """Send requests again. Time in which rows wait for a server does not count while nothing was sent. at: as above."""
        paused_s = max(0.0, at - self.halt.at)
        self._places.halted = False
        for lane in self._lanes.values():
            lane.excuse(paused_s)
        self.halt.end()
        self.wake()

    def change(self, limits: Limits, each: int) -> None:
        """Have other limits from now on. Requests that are open beyond them go on. each: most requests open at one endpoint."""
        self._limits = limits
        self._places.ceiling = limits.ceiling
        self.ledger.bound(limits.ceiling)
        for lane in self._lanes.values():
            lane.change(each, limits.per_minute)
        self.wake()

    def wake(self) -> None:
        """Have the rows that wait look whether they may go."""
        self._places.notify()
        for lane in self._shared:
            lane.look()
