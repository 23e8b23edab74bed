"""A request waits for somebody who can send it before it uses up a limit."""

import asyncio
from typing import Any, cast

import pytest
from asking import PROGRAM_LOOP
from peers import call, joined_by_another, paired
from simulating import until
from world import an_item

from runner.engine.admitting import Admitting
from runner.engine.clock import Clock
from runner.engine.limits import Lanes, Limits
from runner.engine.stop import Stop
from runner.engine.task import Task
from runner.engine.way import Way

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return PROGRAM_LOOP


async def test_a_permit_for_which_the_last_worker_has_gone_meanwhile_is_given_back() -> None:
    nothing = cast("Any", None)
    lanes = Lanes(Limits(ceiling=1, tuned=False))
    lane: Any = lanes.of("m")
    async with paired() as peer:
        await peer.greet()
        await until(lambda: peer.crew.ready)
        admitting = Admitting(nothing, [], Stop(), Clock(), peer.crew)
        before = await lane.acquire(lane.enter(0), 10, 5)
        task = Task(an_item(1), call(), lane, lane.enter(0), 0, Way(nothing, nothing))
        waiting = asyncio.ensure_future(admitting._acquired(task))
        await until(lambda: lane._gate.busy)
        peer.end()
        await until(lambda: not peer.crew.ready)
        lane.release(before, unused=True)
        # it has the slot for a moment, and leaves it to one that can use it
        await until(lambda: lanes.in_flight == 0)
        assert not waiting.done()
        async with joined_by_another(peer) as other:
            await other.greet()
            permit = await asyncio.wait_for(waiting, 60)
            assert lanes.in_flight == 1
            lane.release(permit, unused=True)
