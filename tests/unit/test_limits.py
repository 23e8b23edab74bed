"""The lane: slots, rate and pause. Time is virtual, so that waits are exact and cost nothing."""

import asyncio
import math
import selectors
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from runner.limits import FixedLane, Pause, RequestRate

pytestmark = pytest.mark.anyio


MOMENT_S = 1e-6


class VirtualTime(asyncio.SelectorEventLoop):
    """A loop that jumps to its next timer instead of waiting for it."""

    def __init__(self) -> None:
        self._now = 1000.0
        super().__init__(_Jump(self))

    def time(self) -> float:
        return self._now


class _Jump(selectors.DefaultSelector):
    def __init__(self, loop: VirtualTime) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[Any]:
        # every turn of the loop takes a moment, as in real life
        self._loop._now += MOMENT_S + max(timeout or 0.0, 0.0)
        return super().select(None if timeout is None else 0)


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return "asyncio", {"loop_factory": VirtualTime}


class Line:
    """People who queue; notes who came through, and when."""

    def __init__(self, acquire: Callable[[], Awaitable[None]]) -> None:
        self._acquire = acquire
        self._start = anyio.current_time()
        self.through: list[int] = []
        self.times: list[float] = []

    async def one(self, name: int) -> None:
        await self._acquire()
        self.through.append(name)
        self.times.append(anyio.current_time() - self._start)

    async def all(self, names: Sequence[int]) -> None:
        async with anyio.create_task_group() as group:
            for name in names:
                group.start_soon(self.one, name)


# -- pause


async def test_without_a_pause_nobody_waits() -> None:
    pause, start = Pause(), anyio.current_time()
    assert pause.left_s == 0
    await pause.wait()
    assert anyio.current_time() - start < 0.001


async def test_a_longer_pause_replaces_a_shorter_one_never_the_other_way_round() -> None:
    now = [50.0]
    pause = Pause(lambda: now[0])
    pause.extend(10, "first")
    pause.extend(3, "shorter")
    assert (pause.left_s, pause.reason) == (10, "first")
    pause.extend(30, "longer")
    assert (pause.left_s, pause.reason) == (30, "longer")
    now[0] += 31
    assert pause.left_s == 0
    pause.extend(1, "next")
    assert (pause.left_s, pause.reason) == (1, "next")


@pytest.mark.parametrize("seconds", [0.0, -5.0])
async def test_a_pause_of_nothing_is_none(seconds: float) -> None:
    pause = Pause()
    pause.extend(seconds, "nothing")
    assert pause.left_s == 0


async def test_a_pause_that_grows_is_waited_for_in_full() -> None:
    pause, start = Pause(), anyio.current_time()
    pause.extend(10, "first")
    async with anyio.create_task_group() as group:
        group.start_soon(pause.wait)
        await anyio.sleep(9)
        pause.extend(20, "more")
    assert anyio.current_time() - start == pytest.approx(29, abs=0.01)


# -- rate


@pytest.mark.parametrize("per_minute", [6, 60, 90, 600, 6000])
async def test_the_burst_is_one_seconds_worth(per_minute: float) -> None:
    line = Line(RequestRate(per_minute).acquire)
    await line.all(range(2 * math.ceil(per_minute / 60) + 3))
    assert sum(time < 60 / per_minute / 2 for time in line.times) == max(1, per_minute // 60)


@pytest.mark.parametrize("per_minute", [30, 100, 600])
async def test_no_minute_sees_more_than_the_rate(per_minute: float) -> None:
    line = Line(RequestRate(per_minute).acquire)
    await line.all(range(3 * int(per_minute)))
    burst = max(1, per_minute / 60)
    for start in line.times:
        assert sum(start <= time < start + 60 for time in line.times) <= per_minute
    # and it is used up: three minutes' worth takes three minutes, but for the share that the burst costs
    assert 180 - 60 * burst / per_minute - 0.5 <= line.times[-1] <= 180 * 1.02


async def test_the_rate_lets_in_by_order_of_coming() -> None:
    line = Line(RequestRate(100).acquire)
    await line.all(range(50))
    assert line.through == list(range(50))


async def test_who_gives_up_in_the_rates_queue_holds_nobody_up() -> None:
    rate = RequestRate(60)
    line = Line(rate.acquire)
    with anyio.move_on_after(5):
        await line.all(range(100))
    went = len(line.through)
    assert went < 10
    await line.all([100, 101])
    assert line.through[went:] == [100, 101]


# -- slots


async def all_free(lane: FixedLane, slots: int) -> None:
    """Take every slot, and give them back."""
    with anyio.fail_after(3600):
        for _ in range(slots):
            await lane.acquire()
    assert lane.in_flight == slots
    for _ in range(slots):
        lane.release()
    assert lane.in_flight == 0


async def test_no_more_than_the_slots_are_in_flight() -> None:
    lane, most = FixedLane(4), 0

    async def work() -> None:
        nonlocal most
        await lane.acquire()
        most = max(most, lane.in_flight)
        await anyio.sleep(1)
        lane.release()

    async with anyio.create_task_group() as group:
        for _ in range(30):
            group.start_soon(work)
    assert most == 4
    await all_free(lane, 4)


async def test_slots_go_out_by_order_of_coming() -> None:
    lane = FixedLane(1)
    await lane.acquire()
    line = Line(lane.acquire)
    async with anyio.create_task_group() as group:
        for name in range(20):
            group.start_soon(line.one, name)
        await anyio.wait_all_tasks_blocked()
        for count in range(20):
            assert line.through == list(range(count))
            lane.release()
            # a newcomer must not overtake those who wait
            group.start_soon(line.one, 100 + count)
            await anyio.wait_all_tasks_blocked()
        assert line.through == list(range(20))
        group.cancel_scope.cancel()


async def test_order_holds_behind_a_pause() -> None:
    lane = FixedLane(1)
    lane.pause(10, "rate_limited")
    line = Line(lane.acquire)
    async with anyio.create_task_group() as group:
        for name in range(20):
            group.start_soon(line.one, name)
            await anyio.sleep(0.1)
        for _ in range(20):
            await anyio.sleep(10)
            lane.release()
    assert line.through == list(range(20))


async def test_cancelling_who_waits_leaks_no_slot() -> None:
    lane = FixedLane(2)
    for _ in range(2):
        await lane.acquire()
    for _ in range(20):
        with anyio.move_on_after(1) as scope:
            await lane.acquire()
        assert scope.cancelled_caught
    for _ in range(2):
        lane.release()
    await all_free(lane, 2)


@pytest.mark.parametrize("rate", [None, 60.0])
@pytest.mark.parametrize("yields", range(6))
async def test_a_cancellation_at_the_very_moment_of_getting_a_slot_leaks_none(rate: float | None, yields: int) -> None:
    lane = FixedLane(1, RequestRate(rate) if rate is not None else None)
    await lane.acquire()
    got: list[bool] = []

    async def work() -> None:
        await lane.acquire()
        got.append(True)
        lane.release()

    async with anyio.create_task_group() as group:
        group.start_soon(work)
        await anyio.wait_all_tasks_blocked()
        lane.release()
        for _ in range(yields):
            await checkpoint()
        group.cancel_scope.cancel()
    assert lane.in_flight == 0
    await all_free(lane, 1)


async def test_cancelling_who_waits_for_the_rate_gives_the_slot_back() -> None:
    lane = FixedLane(5, RequestRate(6))
    await lane.acquire()
    with anyio.move_on_after(1) as scope:
        await lane.acquire()
    assert scope.cancelled_caught
    assert lane.in_flight == 1
    lane.release()
    await all_free(lane, 5)


async def test_a_pause_is_waited_for_outside_the_slot() -> None:
    lane = FixedLane(3)
    lane.pause(10, "rate_limited")
    assert lane.paused == (pytest.approx(10), "rate_limited")
    async with anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(lane.acquire)
        await anyio.sleep(9)
        assert lane.in_flight == 0
        await anyio.sleep(2)
        assert lane.in_flight == 3
    assert lane.paused is None


async def test_cancelling_who_waits_for_a_pause_leaks_no_slot() -> None:
    lane = FixedLane(3)
    lane.pause(100, "rate_limited")
    with anyio.move_on_after(10):
        await Line(lane.acquire).all(range(10))
    await all_free(lane, 3)


async def test_a_pause_that_begins_while_slots_are_waited_for_holds_too() -> None:
    lane = FixedLane(1)
    await lane.acquire()
    line = Line(lane.acquire)
    async with anyio.create_task_group() as group:
        group.start_soon(line.one, 1)
        await anyio.sleep(1)
        lane.pause(10, "rate_limited")
        lane.release()
        await anyio.sleep(5)
        assert (line.through, lane.in_flight) == ([], 0)
    assert line.times == [pytest.approx(11, abs=0.01)]


async def test_a_pause_that_begins_while_the_rate_is_waited_for_holds_too() -> None:
    lane = FixedLane(5, RequestRate(6))
    await lane.acquire()
    line = Line(lane.acquire)
    async with anyio.create_task_group() as group:
        group.start_soon(line.one, 1)
        await anyio.sleep(5)
        lane.pause(30, "overloaded")
    assert line.times[0] >= 35
    assert lane.in_flight == 2


async def test_after_a_pause_the_rate_still_holds() -> None:
    lane = FixedLane(100, RequestRate(60))
    lane.pause(600, "rate_limited")
    line = Line(lane.acquire)
    await line.all(range(20))
    assert line.times[0] == pytest.approx(600, abs=0.01)
    assert sum(time < 601 for time in line.times) <= 2


async def test_what_is_in_flight_is_not_touched_by_a_pause() -> None:
    lane = FixedLane(2)
    await lane.acquire()
    lane.pause(10, "rate_limited")
    assert lane.in_flight == 1
    lane.release()
    assert lane.in_flight == 0
