"""The engine with plain functions for its parts: nothing finished is ever lost."""

import random
from collections.abc import AsyncGenerator, Callable
from functools import partial

import anyio
import pytest

from runner import engine
from runner.errors import StoreError
from runner.interfaces import Emit
from runner.model import Attempt, Entry, Item, Outcome, Request
from runner.stop import Stop

pytestmark = pytest.mark.anyio


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
        """end: called once when so many outcomes are finished, so that no test depends on a clock."""
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
        await engine.run(numbers(100_000), bench.handle, bench.save, workers=32, stop=Stop())
    assert scope.cancelled_caught
    assert len(bench.finished) >= bench.end_after
    assert sorted(bench.saved) == sorted(bench.finished)


@pytest.mark.parametrize("seed", range(6))
async def test_abort_loses_no_finished_result(seed: int) -> None:
    """A stop whose grace time runs out at once cancels the workers."""
    stop = Stop()
    second = partial(stop.request, "second Ctrl-C", grace_s=0)
    bench = Bench(seed, save_s=0.01, end_after=20 + seed * 37, end=second)
    await engine.run(numbers(100_000), bench.handle, bench.save, workers=32, stop=stop)
    assert len(bench.finished) >= bench.end_after
    assert sorted(bench.saved) == sorted(bench.finished)


async def test_a_crash_in_one_worker_loses_no_finished_result_and_surfaces() -> None:
    bench = Bench(save_s=0.01)

    async def handle(item: Item, emit: Emit) -> Outcome | None:
        if item.key == "700":
            raise RuntimeError("broken inside")
        return await bench.handle(item, emit)

    with pytest.raises(RuntimeError, match="broken inside"):
        await engine.run(numbers(100_000), handle, bench.save, workers=32, stop=Stop())
    assert sorted(bench.saved) == sorted(bench.finished)


async def test_a_stop_lets_work_in_flight_finish_and_starts_nothing_new() -> None:
    bench, stop = Bench(), Stop()

    async def handle(item: Item, emit: Emit) -> Outcome | None:
        if item.key == "40":
            stop.request("enough", grace_s=30)
        return await bench.handle(item, emit)

    await engine.run(numbers(100_000), handle, bench.save, workers=8, stop=stop)
    assert sorted(bench.saved) == sorted(bench.started)
    assert len(bench.started) <= 41 + 8


async def test_all_items_are_saved_once_by_one_writer() -> None:
    bench = Bench()
    await engine.run(numbers(500), bench.handle, bench.save, workers=16, stop=Stop())
    assert sorted(bench.saved, key=int) == [str(number) for number in range(500)]
    assert bench.most_saving == 1


async def test_outcomes_from_the_source_need_no_worker() -> None:
    bench = Bench()

    async def source() -> AsyncGenerator[Item | Outcome, None]:
        yield an_item(1)
        yield an_outcome(an_item(2))

    await engine.run(source(), bench.handle, bench.save, workers=2, stop=Stop())
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

    await engine.run(numbers(10), handle, save, workers=2, stop=Stop())
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
        await engine.run(numbers(100_000), bench.handle, save, workers=8, stop=Stop())
    assert len(calls) == 4
    assert sorted(bench.saved) == sorted(bench.finished)


async def test_a_store_that_never_answers_cannot_hang_a_cancelled_run() -> None:
    async def save(entries: list[Entry]) -> None:
        await anyio.sleep_forever()

    bench = Bench()
    with anyio.move_on_after(0.05) as scope, pytest.raises(StoreError, match=r"within 0\.05 s"):
        await engine.run(numbers(100), bench.handle, save, workers=4, stop=Stop(), save_limit_s=0.05)
    assert scope.cancel_called


async def test_an_error_of_the_source_surfaces() -> None:
    async def source() -> AsyncGenerator[Item | Outcome, None]:
        yield an_item(1)
        raise OSError("the file went away")

    bench = Bench()
    with pytest.raises(OSError, match="went away"):
        await engine.run(source(), bench.handle, bench.save, workers=2, stop=Stop())
    assert sorted(bench.saved) == sorted(bench.finished)


async def test_nothing_to_do_ends_at_once() -> None:
    bench = Bench()
    await engine.run(numbers(0), bench.handle, bench.save, workers=4, stop=Stop())
    assert bench.saved == []
