"""Nothing on a queue is lost or comes twice, whoever waits and whoever gives up waiting."""

import asyncio
import random

import anyio
import pytest
from virtual import BACKEND

from runner.engine.bounded_queue import BoundedQueue

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("anyio_backend", [BACKEND], ids=["virtual"])]


async def test_things_come_off_in_order_and_no_more_than_there_is_room() -> None:
    queue = BoundedQueue[int](3)
    assert [queue.offer(number) for number in range(5)] == [True, True, True, False, False]
    assert (len(queue), queue.has_waiters, queue.drained) == (3, False, False)
    assert (queue.take(2), queue.take(2), queue.take(2)) == ([0, 1], [2], [])


@pytest.mark.parametrize("room", [1, 2, 3, 10])
async def test_who_waits_for_room_is_woken_when_half_is_free(room: int) -> None:
    queue = BoundedQueue[int](room)
    put = []

    async def feed() -> None:
        for number in range(3 * room):
            await queue.put(number)
            put.append(number)

    async with anyio.create_task_group() as group:
        group.start_soon(feed)
        await anyio.sleep(1)
        assert len(put) == room
        taken = 0
        while len(put) == room:
            assert room - taken > room // 2
            queue.take(1)
            taken += 1
            await anyio.sleep(1)
        assert room - taken <= room // 2
        assert (len(queue), len(put)) == (room, room + taken)
        group.cancel_scope.cancel()


async def test_what_was_put_on_before_the_end_comes_off_and_then_nothing() -> None:
    queue = BoundedQueue[int](2)
    ends = []

    async def work() -> None:
        ends.append(await queue.wait())

    async with anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(work)
        await anyio.sleep(1)
        assert queue.has_waiters
        queue.close()
    assert ends == [False] * 3
    queue = BoundedQueue[int](2)
    queue.offer(1)
    queue.close()
    assert (queue.drained, await queue.wait(), queue.take(9)) == (False, True, [1])
    assert (queue.drained, await queue.wait()) == (True, False)


async def test_one_thing_wakes_one_and_who_gives_up_passes_it_on() -> None:
    queue = BoundedQueue[int](2)
    woken = []

    async def work(name: str) -> None:
        if await queue.wait():
            woken.append((name, queue.take(1)))

    tasks = []
    for name in "abcd":
        tasks.append(asyncio.create_task(work(name)))
        await anyio.sleep(1)
    tasks[1].cancel()
    await anyio.sleep(1)
    queue.offer(1)
    # it is woken already, and will not take it
    tasks[0].cancel()
    await anyio.sleep(1)
    assert woken == [("c", [1])]
    assert queue.has_waiters
    queue.close()
    await tasks[3]
    assert not queue.has_waiters


@pytest.mark.parametrize("seed", range(30))
async def test_everything_is_taken_once_whatever_happens_around(seed: int) -> None:
    draw = random.Random(seed)
    queue, taken, put = BoundedQueue[int](draw.randint(1, 5)), list[int](), list[int]()

    async def feed() -> None:
        for number in range(100):
            await queue.put(number)
            put.append(number)
            if draw.random() < 0.3:
                await anyio.sleep(draw.uniform(0, 0.01))

    async def work() -> None:
        while True:
            with anyio.move_on_after(draw.uniform(0, 0.01)):
                if not await queue.wait():
                    return
                taken.extend(queue.take(draw.randint(1, 4)))
                await anyio.sleep(draw.uniform(0, 0.01))

    with anyio.fail_after(100):
        async with anyio.create_task_group() as crew:
            for _ in range(draw.randint(1, 4)):
                crew.start_soon(work)
            async with anyio.create_task_group() as feeders:
                feeders.start_soon(feed)
            queue.close()
    assert taken == put == list(range(100))
