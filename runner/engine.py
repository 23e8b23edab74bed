"""source -> workers -> writer. Knows neither HTTP nor SQL.

Endings are carried by the streams closing: no sentinel values, no flags. A finished outcome is never dropped: handing it over and
writing it are shielded from cancellation.
"""

from collections.abc import Callable, Coroutine, Iterator
from contextlib import aclosing
from functools import partial
from typing import Any

import anyio
from anyio.abc import TaskGroup
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from runner.errors import RunnerError, StoreError
from runner.interfaces import Handle, Items, Save
from runner.model import Attempt, Entry, Item, Outcome
from runner.stop import Stop

BATCH = 1_000
"""Entries in one transaction at most; bounds the writer's memory, not its pace."""


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
    give, take = anyio.create_memory_object_stream[Item](workers)
    hand, collect = anyio.create_memory_object_stream[Entry](max(BATCH, 2 * workers))
    abort, feeding = anyio.CancelScope(), anyio.CancelScope()
    try:
        with give, take, collect:
            async with anyio.create_task_group() as outer:
                outer.start_soon(_write, collect, save, abort, save_limit_s)
                # closing `hand` ends the writer, so it closes only after the last worker
                with hand, abort:
                    async with anyio.create_task_group() as watch:
                        watch.start_soon(_end, stop, feeding, abort)
                        async with anyio.create_task_group() as inner:
                            inner.start_soon(_feed, items, give, hand, feeding)
                            for _ in range(workers):
                                inner.start_soon(_work, take, handle, hand, stop)
                            if wanted is not None:
                                watch.start_soon(
                                    _grow, inner, take, workers, wanted, partial(_work, take, handle, hand, stop), stop
                                )
                        watch.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        raise _cause(group) from None


async def _feed(
    items: Items, give: MemoryObjectSendStream[Item], hand: MemoryObjectSendStream[Entry], feeding: anyio.CancelScope
) -> None:
    with give, feeding:
        async with aclosing(items):
            async for item in items:
                if isinstance(item, Outcome):
                    await _hand_over(hand, item)
                    continue
                try:
                    give.send_nowait(item)
                except anyio.WouldBlock:
                    await give.send(item)


async def _work(take: MemoryObjectReceiveStream[Item], handle: Handle, hand: MemoryObjectSendStream[Entry], stop: Stop) -> None:
    async def emit(attempt: Attempt) -> None:
        await _hand_over(hand, attempt)

    while True:
        try:
            try:
                # what is there is taken without a turn of the loop
                item = take.receive_nowait()
            except anyio.WouldBlock:
                item = await take.receive()
        except anyio.EndOfStream:
            return
        if stop.requested:
            return
        outcome = await handle(item, emit)
        if outcome is not None:
            await _hand_over(hand, outcome)


async def _grow(
    crew: TaskGroup,
    take: MemoryObjectReceiveStream[Item],
    workers: int,
    wanted: Callable[[], int],
    work: Callable[[], Coroutine[Any, Any, None]],
    stop: Stop,
) -> None:
    """Let more work as soon as items wait for a worker and more are wanted."""
    while True:
        await anyio.sleep(GROW_S)
        waiting = take.statistics()
        if stop.requested or (waiting.open_send_streams == 0 and waiting.current_buffer_used == 0):
            return
        if waiting.current_buffer_used and not waiting.tasks_waiting_receive:
            more = max(0, wanted() - workers)
            workers += more
            for _ in range(more):
                crew.start_soon(work)


async def _hand_over(hand: MemoryObjectSendStream[Entry], entry: Entry) -> None:
    """Give an entry to the writer, whatever happens around: it may have been paid for."""
    try:
        hand.send_nowait(entry)
    except anyio.WouldBlock:
        with anyio.CancelScope(shield=True):
            await hand.send(entry)


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


async def _write(collect: MemoryObjectReceiveStream[Entry], save: Save, abort: anyio.CancelScope, save_limit_s: float) -> None:
    drain = anyio.CancelScope(shield=True)
    async with anyio.create_task_group() as group:
        group.start_soon(_limit, drain, save_limit_s)
        with drain:
            await _write_all(collect, save, abort)
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


async def _write_all(collect: MemoryObjectReceiveStream[Entry], save: Save, abort: anyio.CancelScope) -> None:
    async for first in collect:
        batch = [first, *_waiting(collect, BATCH - 1)]
        try:
            await save(batch)
        except Exception:
            # buying more would be waste; what is finished gets one more try, all together
            abort.cancel()
            batch += [entry async for entry in collect]
            await save(batch)
            raise


def _waiting(collect: MemoryObjectReceiveStream[Entry], most: int) -> Iterator[Entry]:
    """Take what is there already, without waiting."""
    for _ in range(most):
        try:
            yield collect.receive_nowait()
        except (anyio.WouldBlock, anyio.EndOfStream):
            return


def _cause(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Pick the error to show: one of ours first, a broken stream (a consequence) last."""
    leaves = list(_leaves(group))
    consequences = (anyio.BrokenResourceError, anyio.ClosedResourceError)
    ours: list[BaseException] = [leaf for leaf in leaves if isinstance(leaf, RunnerError)]
    causes = ours or [leaf for leaf in leaves if not isinstance(leaf, consequences)] or leaves
    return causes[0]


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error
