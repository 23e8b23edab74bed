"""source -> workers -> writer. Knows neither HTTP nor SQL.

Each queue is closed when its producer ends; there are no sentinel values or flags. A finished outcome is never dropped: passing
it to the writer and writing it are shielded from cancellation.
"""

from collections.abc import Callable, Coroutine, Iterator
from contextlib import aclosing, closing
from functools import partial
from typing import Any

import anyio
from anyio.abc import TaskGroup
from anyio.lowlevel import checkpoint

from runner.admission import Reservation
from runner.engine.bounded_queue import BoundedQueue
from runner.engine.more import More
from runner.engine.stop import Stop
from runner.errors import RunnerError, StoreError
from runner.interfaces import Handle, Items, Save
from runner.model import Entry, Item, Outcome

BATCH = 1_000
"""Maximum number of entries in one transaction; bounds the writer's memory, not its speed."""
TURNS = 10
"""Maximum number of event loop turns for which the writer waits while each turn brings new entries.

The batches become larger without a timer."""

GROW_S = 0.05
"""Interval at which the number of workers is checked, in seconds."""


async def run(
    items: Items,
    handle: Handle,
    save: Save,
    *,
    workers: int,
    stop: Stop,
    wanted: Callable[[], int] | None = None,
    more: More | None = None,
    save_limit_s: float = 60.0,
) -> None:
    """Process ``items`` until they end or a stop is requested. On return, every finished outcome has been saved.

    workers: initial number of workers; each holds one item, in flight or waiting for a retry. wanted: returns the number of
    workers wanted now. Workers are added if items wait for one, and never removed.
    more: told when no item is left that no worker has taken; it may have items of its own.
    save_limit_s: seconds that the writer has, after a cancellation, to save what is finished.
    Raises what ``save``, ``items`` or ``handle`` raised. If ``save`` fails, everything else is cancelled at once.
    """
    todo, finished = BoundedQueue[Item](workers), BoundedQueue[Entry | Reservation](max(BATCH, 2 * workers))
    abort, feeding = anyio.CancelScope(), anyio.CancelScope()
    last = (more := more or More()).last
    work, one = partial(_work, todo, handle, finished, stop, last), partial(_one, handle, finished, stop)
    try:
        async with anyio.create_task_group() as outer:
            outer.start_soon(_write, finished, save, abort, save_limit_s)
            # the workers put entries on it, so it is closed after the last of them has ended
            with closing(finished), abort:
                async with anyio.create_task_group() as watch:
                    watch.start_soon(_enforce_stop, stop, feeding, abort)
                    async with anyio.create_task_group() as inner:
                        more.begin(lambda item: inner.start_soon(one, item))
                        inner.start_soon(_feed, items, todo, finished, feeding)
                        for _ in range(workers):
                            inner.start_soon(work)
                        if wanted is not None:
                            watch.start_soon(_grow, inner, todo, workers, wanted, work, stop, last)
                    watch.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        raise cause_of(group) from None


async def _feed(
    items: Items, todo: BoundedQueue[Item], finished: BoundedQueue[Entry | Reservation], feeding: anyio.CancelScope
) -> None:
    with closing(todo), feeding:
        async with aclosing(items):
            async for item in items:
                if isinstance(item, Outcome):
                    await _hand_over(finished, item)
                elif not todo.offer(item):
                    await todo.put(item)


async def _work(
    todo: BoundedQueue[Item], handle: Handle, finished: BoundedQueue[Entry | Reservation], stop: Stop, last: Callable[[], None]
) -> None:
    emit = partial(_hand_over, finished)
    # an item that is already there is taken without a turn of the event loop
    while len(todo) or await todo.wait():
        item = todo.take_one()
        if stop.requested:
            return
        outcome = await handle(item, emit)
        if outcome is not None and not finished.offer(outcome):
            await _hand_over(finished, outcome)
    last()


async def _one(handle: Handle, finished: BoundedQueue[Entry | Reservation], stop: Stop, item: Item) -> None:
    """Do an item that has not come from the source."""
    if stop.requested:
        return
    outcome = await handle(item, partial(_hand_over, finished))
    if outcome is not None:
        await _hand_over(finished, outcome)


async def _grow(
    group: TaskGroup,
    todo: BoundedQueue[Item],
    workers: int,
    wanted: Callable[[], int],
    work: Callable[[], Coroutine[Any, Any, None]],
    stop: Stop,
    last: Callable[[], None],
) -> None:
    """Add workers when items wait for one and more are wanted."""
    while True:
        await anyio.sleep(GROW_S)
        if stop.requested or todo.drained:
            # every worker may be held up, so that none of them finds out
            last()
            return
        if len(todo) and not todo.has_waiters:
            more = max(0, wanted() - workers)
            workers += more
            for _ in range(more):
                group.start_soon(work)


async def _hand_over(finished: BoundedQueue[Entry | Reservation], entry: Entry | Reservation) -> None:
    """Pass an entry to the writer, even during a cancellation: it may have been paid for."""
    if not finished.offer(entry):
        with anyio.CancelScope(shield=True):
            await finished.put(entry)


async def _enforce_stop(stop: Stop, feeding: anyio.CancelScope, abort: anyio.CancelScope) -> None:
    """On a stop, read no further items, and cancel the requests that are still open after the grace time."""
    await stop.wait()
    feeding.cancel()
    until = anyio.current_time() + stop.grace_s
    while (left := until - anyio.current_time()) > 0:
        await anyio.sleep(min(left, 0.1))
        # a second stop request may have shortened the grace time
        until = min(until, anyio.current_time() + stop.grace_s)
    abort.cancel()


async def _write(finished: BoundedQueue[Entry | Reservation], save: Save, abort: anyio.CancelScope, save_limit_s: float) -> None:
    drain = anyio.CancelScope(shield=True)
    async with anyio.create_task_group() as group:
        group.start_soon(_limit_drain, drain, save_limit_s)
        with drain:
            await _write_all(finished, save, abort)
        group.cancel_scope.cancel()
    if drain.cancelled_caught:
        raise StoreError(f"the last results could not be saved within {save_limit_s:g} s; they are lost")


async def _limit_drain(drain: anyio.CancelScope, save_limit_s: float) -> None:
    """Once the run is cancelled, give the writer a deadline, so that a dead disk cannot hang the exit."""
    try:
        await anyio.sleep_forever()
    except anyio.get_cancelled_exc_class():
        drain.deadline = anyio.current_time() + save_limit_s
        raise


async def _write_all(finished: BoundedQueue[Entry | Reservation], save: Save, abort: anyio.CancelScope) -> None:
    while await finished.wait():
        await _gather(finished)
        batch = finished.take(BATCH)
        try:
            await save(batch)
        except Exception:
            # further answers would be paid for and lost; everything that is finished is tried once more, in one transaction
            abort.cancel()
            while await finished.wait():
                batch += finished.take(BATCH)
            await save(batch)
            raise


async def _gather(finished: BoundedQueue[Entry | Reservation]) -> None:
    """Wait while answers that the process has already received become entries: one commit costs as much as a dozen of them."""
    for _ in range(TURNS):
        before = len(finished)
        await checkpoint()
        if len(finished) == before:
            return


def cause_of(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the error of a task group to show: one of ours if there is one."""
    leaves = list(_leaves(group))
    ours = (leaf for leaf in leaves if isinstance(leaf, RunnerError))
    return next(ours, leaves[0])


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error
