"""Several endpoints with one queue, without a network."""

import random
from typing import Any

import anyio

from runner.admission import Failure, Permit
from runner.engine.clock import Clock
from runner.engine.limits import Limits
from runner.engine.limits.fleets import FleetLanes
from runner.engine.limits.roster import Member, Roster
from runner.errors import AttemptError, ProviderError, TransportError
from runner.model import Usage

USAGE = Usage(input_tokens=1, output_tokens=1)
NOBODY = TransportError("no connection", code="connect", sent=False)
REFUSED = ProviderError("429", code="rate_limited", verdict="retry", status=429, throttled=True)


class Fleet:
    """Endpoints by number, with so many slots each, and one model."""

    def __init__(self, *members: dict[str, Any], each: int = 2, on: frozenset[str] = frozenset(), **per_minute: float) -> None:
        self.roster = Roster([Member(number=n, name=f"e{n}", **more) for n, more in enumerate(members)], on)
        limits = Limits(ceiling=100, tuned=False, per_minute=per_minute)  # type: ignore[arg-type]
        clock = Clock(monotonic=anyio.current_time, wall=anyio.current_time, random=random.Random(1))
        self.lanes = FleetLanes(limits, self.roster, each, clock)
        self.lane: Any = self.lanes.of("m")
        self.standings: dict[Permit, Any] = {}

    async def go(self, standing: Any = None) -> Permit:
        standing = standing or self.lane.enter(0)
        permit: Permit = await self.lane.acquire(standing, 10, 5)
        permit.sent_at = anyio.current_time()
        self.standings[permit] = standing
        return permit

    async def may_go(self, standing: Any = None) -> Permit | None:
        with anyio.move_on_after(0.5):
            return await self.go(standing)
        return None

    def begun(self, permit: Permit) -> None:
        self.lane.heard(permit, 200, [])

    def answered(self, permit: Permit) -> None:
        self.lane.succeeded(permit, USAGE)
        self.over(permit)

    def failed(self, permit: Permit, error: AttemptError = NOBODY) -> Any:
        standing, now, throttled = self.standings[permit], anyio.current_time(), isinstance(error, ProviderError)
        standing.ended = now
        if error.sent and not throttled:
            standing.failures.append(Failure(began=permit.admitted_at, ended=now, endpoint=permit.endpoint))
        self.lane.failed(permit, error, None, throttled=throttled, retried=True)
        if throttled:
            self.lane.throttle(permit, 30.0, 429)
        self.lane.release(permit)
        return standing

    def over(self, permit: Permit) -> None:
        self.lane.release(permit)
        self.lane.leave(self.standings.pop(permit))

    async def known(self, *seconds: float) -> None:
        """Have each endpoint answer once, in so many seconds."""
        permits = [await self.go() for _ in range(2 * len(seconds))]
        start = anyio.current_time()
        for after, number in sorted((after, number) for number, after in enumerate(seconds)):
            await anyio.sleep(start + after - anyio.current_time())
            for permit in permits:
                if permit.endpoint == number:
                    self.answered(permit)
