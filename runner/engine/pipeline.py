"""source -> workers -> writer. Knows neither HTTP nor SQL.

Endings are carried by the queue closing: no sentinel values, no flags. A finished outcome is never dropped: handing it over and
writing it are shielded from cancellation.
"""

from collections.abc import Callable, Coroutine, Iterator
from contextlib import aclosing, closing
from functools import partial
from typing import Any

import anyio
from anyio.abc import TaskGroup
from anyio.lowlevel import checkpoint

from runner.engine.bounded_queue import BoundedQueue
from runner.engine.stop import Stop
from runner.errors import RunnerError, StoreError
from runner.interfaces import Handle, Items, Save
from runner.model import Attempt, Entry, Item, Outcome

BATCH = 1_000
"""Entries in one transaction at most; bounds the writer's memory, not its pace."""
TURNS = 10
"""For so many turns of the loop the writer lets entries come as long as each turn brings some: larger batches, and no timer."""

GROW_S = 0.05
"""How often a look is taken whether more workers are wanted."""


async def run(
    items: Items,
    handle: Handle,
    save: Save,
    *,
    workers: int,
    stop: Stop,
    wanted: Callable[[], int] | None = None,
    save_limit_s: float = 60.0,
) -> None:
    """Work through ``items`` until they end or ``stop`` is asked, then return with everything finished saved.

    workers: items held in memory at first, in flight or waiting for a retry. wanted: how many it may be now; their number grows
    when there is work for more, and never falls.
    save_limit_s: after a cancellation, how long the writer may take to save what is finished.
    Raises what ``save``, ``items`` or ``handle`` raised; when ``save`` fails everything else is cancelled at once.
    """
    todo, finished = BoundedQueue[Item](workers), BoundedQueue[Entry](max(BATCH, 2 * workers))
    abort, feeding = anyio.CancelScope(), anyio.CancelScope()
    work = partial(_work, todo, handle, finished, stop)
    try:
        async with anyio.create_task_group() as outer:
            outer.start_soon(_write, finished, save, abort, save_limit_s)
            # its end is the writer's, so it closes only after the last worker
            with closing(finished), abort:
                async with anyio.create_task_group() as watch:
                    watch.start_soon(_end, stop, feeding, abort)
                    async with anyio.create_task_group() as inner:
                        inner.start_soon(_feed, items, todo, finished, feeding)
                        for _ in range(workers):
                            inner.start_soon(work)
                        if wanted is not None:
                            watch.start_soon(_grow, inner, todo, workers, wanted, work, stop)
                    watch.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        raise _cause(group) from None


async def _feed(items: Items, todo: BoundedQueue[Item], finished: BoundedQueue[Entry], feeding: anyio.CancelScope) -> None:
    with closing(todo), feeding:
        async with aclosing(items):
            async for item in items:
                if isinstance(item, Outcome):
                    await _hand_over(finished, item)
                elif not todo.offer(item):
                    await todo.put(item)


async def _work(todo: BoundedQueue[Item], handle: Handle, finished: BoundedQueue[Entry], stop: Stop) -> None:
    async def emit(attempt: Attempt) -> None:
        await _hand_over(finished, attempt)

    # what is there is taken without a turn of the loop
    while len(todo) or await todo.wait():
        (item,) = todo.take(1)
        if stop.requested:
            return
        outcome = await handle(item, emit)
        if outcome is not None:
            await _hand_over(finished, outcome)


async def _grow(
    crew: TaskGroup,
    todo: BoundedQueue[Item],
    workers: int,
    wanted: Callable[[], int],
    work: Callable[[], Coroutine[Any, Any, None]],
    stop: Stop,
) -> None:
    """Let more work as soon as items wait for a worker and more are wanted."""
    while True:
        await anyio.sleep(GROW_S)
        if stop.requested or todo.over:
            return
        if len(todo) and not todo.waited_for:
            more = max(0, wanted() - workers)
            workers += more
            for _ in range(more):
                crew.start_soon(work)


async def _hand_over(finished: BoundedQueue[Entry], entry: Entry) -> None:
    """Give an entry to the writer, whatever happens around: it may have been paid for."""
    if not finished.offer(entry):
        with anyio.CancelScope(shield=True):
            await finished.put(entry)


async def _end(stop: Stop, feeding: anyio.CancelScope, abort: anyio.CancelScope) -> None:
    """On a stop: take nothing new in, and give up what is still in flight after the grace time."""
    await stop.wait()
    feeding.cancel()
    until = anyio.current_time() + stop.grace_s
    while (left := until - anyio.current_time()) > 0:
        await anyio.sleep(min(left, 0.1))
        # a second request may have shortened it
        until = min(until, anyio.current_time() + stop.grace_s)
    abort.cancel()


async def _write(finished: BoundedQueue[Entry], save: Save, abort: anyio.CancelScope, save_limit_s: float) -> None:
    drain = anyio.CancelScope(shield=True)
    async with anyio.create_task_group() as group:
        group.start_soon(_limit, drain, save_limit_s)
        with drain:
            await _write_all(finished, save, abort)
        group.cancel_scope.cancel()
    if drain.cancelled_caught:
        raise StoreError(f"the store did not take the last results within {save_limit_s:g} s; they are lost")


async def _limit(drain: anyio.CancelScope, save_limit_s: float) -> None:
    """Once the run is cancelled, bound the writer, so that a dead disk cannot hang the exit."""
    try:
        await anyio.sleep_forever()
    except anyio.get_cancelled_exc_class():
        drain.deadline = anyio.current_time() + save_limit_s
        raise


async def _write_all(finished: BoundedQueue[Entry], save: Save, abort: anyio.CancelScope) -> None:
    while await finished.wait():
        await _let_come(finished)
        batch = finished.take(BATCH)
        try:
            await save(batch)
        except Exception:
            # buying more would be waste; what is finished gets one more try, all together
            abort.cancel()
            while await finished.wait():
                batch += finished.take(BATCH)
            await save(batch)
            raise


async def _let_come(finished: BoundedQueue[Entry]) -> None:
    """Let the answers that are in the process already become entries: a commit costs as much as a dozen of them."""
    for _ in range(TURNS):
        before = len(finished)
        await checkpoint()
        if len(finished) == before:
            return


def _cause(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Pick the error to show: one of ours first."""
    leaves = list(_leaves(group))
    ours = (leaf for leaf in leaves if isinstance(leaf, RunnerError))
    return next(ours, leaves[0])


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error
