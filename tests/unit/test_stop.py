"""One wish to end: asked once, ends the free waits at once, and only those."""

import anyio
import pytest
from anyio.lowlevel import checkpoint

from runner.errors import RunStoppedError
from runner.stop import Stop

pytestmark = pytest.mark.anyio


async def test_before_anybody_asks() -> None:
    stop = Stop()
    assert (stop.requested, stop.reason, stop.error) == (False, None, None)
    with stop.interrupts() as scope:
        await checkpoint()
    assert not scope.cancelled_caught


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
        with stop.interrupts() as scope:
            await anyio.sleep_forever()
        ended.append(scope.cancelled_caught)

    async with anyio.create_task_group() as group:
        for _ in range(5):
            group.start_soon(wait)
        await anyio.wait_all_tasks_blocked()
        stop.request("enough", grace_s=30)
    assert ended == [True] * 5


async def test_a_wait_begun_after_it_ends_at_once() -> None:
    stop = Stop()
    stop.request("enough", grace_s=30)
    with stop.interrupts() as scope:
        await anyio.sleep_forever()
    assert scope.cancelled_caught


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
        with stop.interrupts() as scope:
            await anyio.sleep_forever()
        raise AssertionError("the cancellation was lost")
    assert outside.cancelled_caught
    assert not scope.cancelled_caught
