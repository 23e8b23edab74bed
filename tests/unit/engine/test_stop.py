"""The stop event: the first request decides; it ends the waits that cost nothing at once, and only those."""

import anyio
import pytest
from anyio.lowlevel import checkpoint

from runner.engine.stop import Stop
from runner.errors import RunStoppedError

pytestmark = pytest.mark.anyio


async def test_before_anybody_asks() -> None:
    stop = Stop()
    assert (stop.requested, stop.reason, stop.error) == (False, None, None)
    passed = False
    with stop.interrupts():
        await checkpoint()
        passed = True
    assert passed


async def test_the_first_reason_stays() -> None:
    stop, first = Stop(), RunStoppedError("no money", code="billing")
    stop.request("no money", grace_s=10, error=first)
    stop.request("Ctrl-C", grace_s=30, error=RunStoppedError("other", code="auth"))
    assert (stop.requested, stop.reason, stop.error, stop.grace_s) == (True, "no money", first, 10)


async def test_a_shorter_grace_wins() -> None:
    stop = Stop()
    stop.request("Ctrl-C", grace_s=30)
    stop.request("Ctrl-C again", grace_s=0)
    assert (stop.reason, stop.grace_s) == ("Ctrl-C", 0)


async def test_it_wakes_everybody_who_waits_for_it() -> None:
    stop, woken = Stop(), []

    async def wait(name: int) -> None:
        await stop.wait()
        woken.append(name)

    async with anyio.create_task_group() as group:
        for name in range(3):
            group.start_soon(wait, name)
        await anyio.wait_all_tasks_blocked()
        assert woken == []
        stop.request("enough", grace_s=0)
    assert sorted(woken) == [0, 1, 2]
    await stop.wait()


async def test_it_ends_every_wait_under_way() -> None:
    stop, ended = Stop(), []

    async def wait() -> None:
        with stop.interrupts():
            await anyio.sleep_forever()
        ended.append(True)

    async with anyio.create_task_group() as group:
        for _ in range(5):
            group.start_soon(wait)
        await anyio.wait_all_tasks_blocked()
        assert ended == []
        stop.request("enough", grace_s=30)
    assert ended == [True] * 5


async def test_a_wait_begun_after_it_ends_at_once() -> None:
    stop = Stop()
    stop.request("enough", grace_s=30)
    with anyio.fail_after(60):
        with stop.interrupts():
            await anyio.sleep_forever()


async def test_what_is_not_such_a_wait_goes_on() -> None:
    stop = Stop()
    with stop.interrupts():
        pass
    stop.request("enough", grace_s=30)
    await checkpoint()
    await checkpoint()


async def test_a_wait_cancelled_from_outside_is_not_swallowed() -> None:
    stop = Stop()
    with anyio.move_on_after(0) as outside:
        with stop.interrupts():
            await anyio.sleep_forever()
        raise AssertionError("the cancellation was lost")
    assert outside.cancelled_caught


async def test_a_cancellation_at_the_same_time_is_told_at_the_next_wait() -> None:
    stop, after = Stop(), []

    async def work() -> None:
        with stop.interrupts():
            await anyio.sleep_forever()
        after.append(True)
        await checkpoint()
        raise AssertionError("the cancellation was lost")

    for first_outside in (True, False):
        stop = Stop()
        async with anyio.create_task_group() as group:
            group.start_soon(work)
            await anyio.wait_all_tasks_blocked()
            if first_outside:
                group.cancel_scope.cancel()
            stop.request("enough", grace_s=0)
            group.cancel_scope.cancel()
    assert after == [True, True]


async def test_a_wait_that_ends_by_itself_in_the_same_instant_leaves_nothing_behind() -> None:
    stop, came = Stop(), anyio.Event()
    passed = []

    async def work() -> None:
        with stop.interrupts():
            await came.wait()
        await checkpoint()
        await anyio.sleep(0.001)
        passed.append(True)

    async with anyio.create_task_group() as group:
        group.start_soon(work)
        await anyio.wait_all_tasks_blocked()
        came.set()
        stop.request("enough", grace_s=0)
    assert passed == [True]
