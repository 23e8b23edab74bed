"""The gate: tasks take turns, and none is lost when another one is cancelled."""

import asyncio

import anyio
import pytest
from anyio.lowlevel import checkpoint

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
