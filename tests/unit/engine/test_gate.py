"""The gate: tasks take turns, and none is lost when another one is cancelled."""

import asyncio

import anyio
import pytest
from anyio.lowlevel import checkpoint

from runner.admission import Permit
from runner.engine.limits.gate import Gate

pytestmark = pytest.mark.anyio


async def pass_through(gate: Gate, name: str, seen: list[str], *, again: bool) -> None:
    await gate.enter(again=again)
    try:
        seen.append(name)
        # other tasks come in the meantime
        await checkpoint()
    finally:
        gate.leave()


async def test_both_kinds_take_turns_and_each_keeps_its_order() -> None:
    gate, seen = Gate(), list[str]()
    await gate.enter(again=False)
    async with anyio.create_task_group() as group:
        for one in range(4):
            group.start_soon(lambda one=one: pass_through(gate, f"new {one}", seen, again=False))
        await anyio.wait_all_tasks_blocked()
        for one in range(2):
            group.start_soon(lambda one=one: pass_through(gate, f"again {one}", seen, again=True))
        await anyio.wait_all_tasks_blocked()
        assert seen == []
        gate.leave()
    assert seen == ["again 0", "new 0", "again 1", "new 1", "new 2", "new 3"]
    assert not gate.busy


@pytest.mark.parametrize("again", [False, True])
async def test_who_gives_up_holds_nobody_up(again: bool) -> None:
    gate, seen = Gate(), list[str]()
    await gate.enter(again=False)
    async with anyio.create_task_group() as group:
        with anyio.CancelScope() as scope:
            group.start_soon(lambda: pass_through(gate, "patient", seen, again=False))
            async with anyio.create_task_group() as hurried:
                for one in range(3):
                    hurried.start_soon(lambda one=one: pass_through(gate, f"hurried {one}", seen, again=again))
                await anyio.wait_all_tasks_blocked()
                scope.cancel()
                # at the moment in which they are cancelled: one of them may have been granted the turn already
                gate.leave()
    assert seen[-1] == "patient"
    assert not gate.busy


async def test_nobody_waits_where_nobody_is() -> None:
    gate = Gate()
    assert not gate.busy
    await gate.enter(again=True)
    assert gate.busy
    gate.leave()
    assert not gate.busy


@pytest.mark.parametrize("again", [False, True])
async def test_who_is_cancelled_at_the_moment_of_its_turn_passes_it_on(again: bool) -> None:
    gate, seen = Gate(), list[str]()
    await gate.enter(again=False)
    # as a stop cancels a wait: by the task itself, which does not look whether its turn has come
    hurried, patient = (asyncio.ensure_future(pass_through(gate, name, seen, again=again)) for name in ("hurried", "patient"))
    await anyio.wait_all_tasks_blocked()
    gate.leave()
    hurried.cancel()
    await asyncio.wait([hurried, patient], timeout=60)
    patient.cancel()
    assert (hurried.cancelled(), seen) == (True, ["patient"])
    assert not gate.busy


async def test_who_is_inside_serves_those_that_wait_in_their_order_as_long_as_it_can() -> None:
    gate, let, seen = Gate(), list[Permit](), list[str]()
    names = ["new 0", "new 1", "new 2", "again 0", "again 1"]
    permits = {name: Permit(admitted_at=0.0) for name in names}

    async def one(name: str) -> None:
        served = await gate.enter(permits[name], again=name.startswith("again"))
        seen.append(f"{name} {'served' if served else 'inside'}")
        if not served:
            gate.leave()

    def serves(permit: Permit) -> bool:
        let.append(permit)
        return len(let) <= 3

    await gate.enter(again=False)
    tasks = {name: asyncio.ensure_future(one(name)) for name in names}
    await anyio.wait_all_tasks_blocked()
    tasks["new 0"].cancel()
    gate.serve(serves)
    # the one for which there was nothing comes in next
    gate.leave()
    await asyncio.wait(tasks.values(), timeout=60)
    assert let == [permits[name] for name in ("again 0", "new 1", "again 1", "new 2")]
    assert seen == ["again 0 served", "new 1 served", "again 1 served", "new 2 inside"]
    assert not gate.busy


async def test_who_is_cancelled_after_it_was_served_passes_on_no_turn() -> None:
    gate, seen, permit = Gate(), list[str](), Permit(admitted_at=0.0)
    await gate.enter(again=False)
    served = asyncio.ensure_future(gate.enter(permit, again=False))
    patient = asyncio.ensure_future(pass_through(gate, "patient", seen, again=False))
    await anyio.wait_all_tasks_blocked()
    gate.serve(lambda one: one is permit)
    served.cancel()
    await asyncio.wait([served], timeout=60)
    await anyio.wait_all_tasks_blocked()
    # the one that has served it is still inside
    assert (served.cancelled(), seen) == (True, [])
    gate.leave()
    await asyncio.wait([patient], timeout=60)
    assert (seen, gate.busy) == (["patient"], False)
