"""The pipeline with plain functions as its parts: no finished outcome is ever lost."""

import random
from collections.abc import AsyncGenerator, Callable
from functools import partial

import anyio
import anyio.lowlevel
import pytest
from virtual import BACKEND

from runner.engine import pipeline
from runner.engine.stop import Stop
from runner.errors import StoreError
from runner.interfaces import Emit
from runner.model import Attempt, Entry, Item, Outcome, Request

pytestmark = pytest.mark.anyio
in_virtual_time = pytest.mark.parametrize("anyio_backend", [BACKEND], ids=["virtual"])


def an_item(number: int) -> Item:
    request = Request(model="m", messages=({"role": "user", "content": str(number)},))
    return Item(key=str(number), position=number, request=request, metadata={}, fingerprint=0)


def an_outcome(item: Item) -> Outcome:
    return Outcome(key=item.key, position=item.position, status="done", metadata={}, fingerprint=0)


async def numbers(count: int) -> AsyncGenerator[Item | Outcome, None]:
    for number in range(count):
        yield an_item(number)


class Bench:
    """Records which outcomes were finished and which were saved."""

    def __init__(self, seed: int = 0, *, save_s: float = 0.001, end_after: int = 0, end: Callable[[], object] = print) -> None:
        """end: called once when a number of outcomes are finished, so that no test depends on a clock."""
        self.end_after, self.end = end_after, end
        self.random = random.Random(seed)
        self.save_s = save_s
        self.started: list[str] = []
        self.finished: list[str] = []
        self.saved: list[str] = []
        self.saving = 0
        self.most_saving = 0

    async def handle(self, item: Item, emit: Emit) -> Outcome | None:
        self.started.append(item.key)
        await anyio.sleep(self.random.uniform(0, 0.004))
        self.finished.append(item.key)
        if len(self.finished) == self.end_after:
            self.end()
        return an_outcome(item)

    async def save(self, entries: list[Entry]) -> None:
        self.saving += 1
        self.most_saving = max(self.most_saving, self.saving)
        await anyio.sleep(self.save_s)
        self.saving -= 1
        self.saved += [entry.key for entry in entries if isinstance(entry, Outcome)]


@pytest.mark.parametrize("seed", range(12))
async def test_cancelling_loses_no_finished_result(seed: int) -> None:
    scope = anyio.CancelScope()
    bench = Bench(seed, save_s=0.01, end_after=20 + seed * 37, end=scope.cancel)
    with scope:
        await pipeline.run(numbers(100_000), bench.handle, bench.save, workers=32, stop=Stop())
    assert scope.cancelled_caught
    assert len(bench.finished) >= bench.end_after
    assert sorted(bench.saved) == sorted(bench.finished)


@pytest.mark.parametrize("cancelled", [True, False], ids=["cancelled", "stopped"])
@in_virtual_time
async def test_results_that_wait_for_a_full_queue_survive_the_end(cancelled: bool) -> None:
    """The writer is busy, its queue is full, and each worker holds a finished outcome that has no place yet."""
    scope, stop, written = anyio.CancelScope(), Stop(), anyio.Event()
    finished: list[str] = []
    saved: list[str] = []

    async def handle(item: Item, emit: Emit) -> Outcome | None:
        finished.append(item.key)
        return an_outcome(item)

    async def save(entries: list[Entry]) -> None:
        await written.wait()
        saved.extend(entry.key for entry in entries if isinstance(entry, Outcome))

    async def end() -> None:
        await anyio.sleep(1)
        assert len(finished) > pipeline.BATCH + 32
        if cancelled:
            scope.cancel()
        else:
            stop.request("second Ctrl-C", grace_s=0)
        await anyio.sleep(1)
        written.set()

    async with anyio.create_task_group() as group:
        group.start_soon(end)
        with scope:
            await pipeline.run(numbers(100_000), handle, save, workers=32, stop=stop)
    assert sorted(saved) == sorted(finished)


@pytest.mark.parametrize("seed", range(6))
async def test_abort_loses_no_finished_result(seed: int) -> None:
    """A stop whose grace time runs out at once cancels the workers."""
    stop = Stop()
    second = partial(stop.request, "second Ctrl-C", grace_s=0)
    bench = Bench(seed, save_s=0.01, end_after=20 + seed * 37, end=second)
    await pipeline.run(numbers(100_000), bench.handle, bench.save, workers=32, stop=stop)
    assert len(bench.finished) >= bench.end_after
    assert sorted(bench.saved) == sorted(bench.finished)


async def test_a_crash_in_one_worker_loses_no_finished_result_and_surfaces() -> None:
    bench = Bench(save_s=0.01)

    async def handle(item: Item, emit: Emit) -> Outcome | None:
        if item.key == "700":
            raise RuntimeError("broken inside")
        return await bench.handle(item, emit)

    with pytest.raises(RuntimeError, match="broken inside"):
        await pipeline.run(numbers(100_000), handle, bench.save, workers=32, stop=Stop())
    assert sorted(bench.saved) == sorted(bench.finished)


async def test_a_stop_lets_work_in_flight_finish_and_starts_nothing_new() -> None:
    bench, stop = Bench(), Stop()

    async def handle(item: Item, emit: Emit) -> Outcome | None:
        if item.key == "40":
            stop.request("enough", grace_s=30)
        return await bench.handle(item, emit)

    await pipeline.run(numbers(100_000), handle, bench.save, workers=8, stop=stop)
    assert sorted(bench.saved) == sorted(bench.started)
    assert len(bench.started) <= 41 + 8


async def test_all_items_are_saved_once_by_one_writer() -> None:
    bench = Bench()
    await pipeline.run(numbers(500), bench.handle, bench.save, workers=16, stop=Stop())
    assert sorted(bench.saved, key=int) == [str(number) for number in range(500)]
    assert bench.most_saving == 1


async def test_outcomes_from_the_source_need_no_worker() -> None:
    bench = Bench()

    async def source() -> AsyncGenerator[Item | Outcome, None]:
        yield an_item(1)
        yield an_outcome(an_item(2))

    await pipeline.run(source(), bench.handle, bench.save, workers=2, stop=Stop())
    assert sorted(bench.saved) == ["1", "2"]
    assert bench.started == ["1"]


async def test_emitted_attempts_reach_the_writer() -> None:
    bench = Bench()
    seen: list[Entry] = []

    async def handle(item: Item, emit: Emit) -> Outcome | None:
        await emit(Attempt(key=item.key, number=1, started_at=0, duration_s=0))
        return await bench.handle(item, emit)

    async def save(entries: list[Entry]) -> None:
        seen.extend(entries)

    await pipeline.run(numbers(10), handle, save, workers=2, stop=Stop())
    assert sum(isinstance(entry, Attempt) for entry in seen) == 10
    assert sum(isinstance(entry, Outcome) for entry in seen) == 10


async def test_a_failing_store_stops_everything_and_gets_one_more_try() -> None:
    bench = Bench()
    calls: list[int] = []

    async def save(entries: list[Entry]) -> None:
        calls.append(len(entries))
        if len(calls) == 3:
            raise StoreError("disk full")
        await bench.save(entries)

    with pytest.raises(StoreError, match="disk full"):
        await pipeline.run(numbers(100_000), bench.handle, save, workers=8, stop=Stop())
    assert len(calls) == 4
    assert sorted(bench.saved) == sorted(bench.finished)


async def test_a_store_that_never_answers_cannot_hang_a_cancelled_run() -> None:
    async def save(entries: list[Entry]) -> None:
        await anyio.sleep_forever()

    bench = Bench()
    with anyio.move_on_after(0.05) as scope, pytest.raises(StoreError, match=r"within 0\.05 s"):
        await pipeline.run(numbers(100), bench.handle, save, workers=4, stop=Stop(), save_limit_s=0.05)
    assert scope.cancel_called


async def test_an_error_of_the_source_surfaces() -> None:
    async def source() -> AsyncGenerator[Item | Outcome, None]:
        yield an_item(1)
        raise OSError("the file went away")

    bench = Bench()
    with pytest.raises(OSError, match="went away"):
        await pipeline.run(source(), bench.handle, bench.save, workers=2, stop=Stop())
    assert sorted(bench.saved) == sorted(bench.finished)


async def test_nothing_to_do_ends_at_once() -> None:
    bench = Bench()
    await pipeline.run(numbers(0), bench.handle, bench.save, workers=4, stop=Stop())
    assert bench.saved == []


# -- more workers


class Crew:
    """Holds every item until it is released, and counts the workers that are busy."""

    def __init__(self) -> None:
        self.at_work = self.most = 0
        self.go = anyio.Event()

    async def handle(self, item: Item, emit: Emit) -> Outcome | None:
        self.at_work += 1
        self.most = max(self.most, self.at_work)
        try:
            await self.go.wait()
        finally:
            self.at_work -= 1
        return an_outcome(item)


async def nowhere(entries: list[Entry]) -> None:
    """Save nothing."""


@in_virtual_time
async def test_more_work_when_items_wait_and_more_are_wanted() -> None:
    crew, seen, wanted = Crew(), list[int](), 4

    async def watch() -> None:
        nonlocal wanted
        for options in (4, 10, 10, 25, 7):
            wanted = options
            await anyio.sleep(3 * pipeline.GROW_S)
            seen.append(crew.at_work)
        crew.go.set()

    async with anyio.create_task_group() as group:
        group.start_soon(watch)
        await pipeline.run(numbers(200), crew.handle, nowhere, workers=4, stop=Stop(), wanted=lambda: wanted)
    # their number grows and never falls
    assert seen == [4, 10, 10, 25, 25]
    assert crew.most == 25


@in_virtual_time
async def test_no_more_work_than_there_are_items() -> None:
    crew, asked = Crew(), list[int]()

    def wanted() -> int:
        asked.append(1)
        return 100

    async def watch() -> None:
        await anyio.sleep(10)
        assert crew.at_work == 3
        crew.go.set()

    async with anyio.create_task_group() as group:
        group.start_soon(watch)
        await pipeline.run(numbers(3), crew.handle, nowhere, workers=8, stop=Stop(), wanted=wanted)
    assert asked == []


@in_virtual_time
async def test_nobody_is_taken_on_when_the_run_is_to_stop() -> None:
    crew, stop, wanted = Crew(), Stop(), 2

    async def watch() -> None:
        nonlocal wanted
        await anyio.sleep(1)
        stop.request("enough", grace_s=5)
        wanted = 50
        await anyio.sleep(1)
        assert crew.at_work == 2
        crew.go.set()

    async with anyio.create_task_group() as group:
        group.start_soon(watch)
        await pipeline.run(numbers(200), crew.handle, nowhere, workers=2, stop=stop, wanted=lambda: wanted)
    assert crew.most == 2


@in_virtual_time
@pytest.mark.parametrize("seed", range(10))
async def test_a_crew_that_ends_at_any_moment_while_more_are_wanted_is_no_error(seed: int) -> None:
    draw, saved, wanted = random.Random(seed), list[str](), 1

    async def handle(item: Item, emit: Emit) -> Outcome | None:
        nonlocal wanted
        wanted += draw.randrange(3)
        await anyio.sleep(draw.uniform(0, 4 * pipeline.GROW_S))
        return an_outcome(item)

    async def save(entries: list[Entry]) -> None:
        saved.extend(entry.key for entry in entries)

    count = draw.randrange(200)
    await pipeline.run(numbers(count), handle, save, workers=1, stop=Stop(), wanted=lambda: wanted)
    assert sorted(saved, key=int) == [str(number) for number in range(count)]


@in_virtual_time
async def test_a_slow_source_is_waited_for_and_its_late_items_are_worked_on() -> None:
    crew, most = Crew(), 6

    async def source() -> AsyncGenerator[Item | Outcome, None]:
        for number in range(20):
            await anyio.sleep(1)
            yield an_item(number)

    async def watch() -> None:
        await anyio.sleep(60)
        assert crew.at_work == most
        crew.go.set()

    async with anyio.create_task_group() as group:
        group.start_soon(watch)
        await pipeline.run(source(), crew.handle, nowhere, workers=1, stop=Stop(), wanted=lambda: most)


@in_virtual_time
async def test_what_is_finished_is_saved_at_once_and_waits_for_no_timer_and_for_nobody_else() -> None:
    finished, saved = dict[str, float](), dict[str, float]()

    async def handle(item: Item, emit: Emit) -> Outcome | None:
        await anyio.sleep(1 + item.position)
        finished[item.key] = anyio.current_time()
        return an_outcome(item)

    async def save(entries: list[Entry]) -> None:
        saved.update((entry.key, anyio.current_time()) for entry in entries)

    await pipeline.run(numbers(20), handle, save, workers=20, stop=Stop())
    assert len(saved) == 20
    # a turn of this loop takes a microsecond, and only a timer takes longer
    assert max(saved[key] - finished[key] for key in finished) < 0.001


@in_virtual_time
async def test_entries_that_come_turn_by_turn_are_written_together_but_not_waited_for_without_end() -> None:
    sizes: list[int] = []

    async def handle(item: Item, emit: Emit) -> Outcome | None:
        await anyio.lowlevel.checkpoint()
        return an_outcome(item)

    async def save(entries: list[Entry]) -> None:
        sizes.append(len(entries))

    await pipeline.run(numbers(1000), handle, save, workers=1, stop=Stop())
    assert sum(sizes) == 1000
    assert max(sizes) <= pipeline.TURNS + 1
    assert len(sizes) < 500
