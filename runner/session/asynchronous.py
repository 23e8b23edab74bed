"""Sessions in tasks of the program's own event loop: how they are prepared, begun and left.

A run that was left early may still be ending when the next one begins, such as one over the same file. The next one waits for it.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias
from weakref import ref

from runner.config.job import Job
from runner.config.trust import allowed
from runner.engine.listening import Hear
from runner.engine.stop import Stop
from runner.errors import UsageError
from runner.event_types import Summary
from runner.interfaces import Observer
from runner.session import arguments, session
from runner.session.backlog import Backlog
from runner.session.naming import store_path
from runner.session.options import SessionOptions
from runner.session.prepare import in_thread
from runner.session.sources import Source, job_of_async
from runner.session.stopping import StopHandle, begun


class Ready(NamedTuple):
    """What is needed to begin a session."""

    job: Job
    store: Path
    options: SessionOptions


Prepare: TypeAlias = Callable[[], AbstractAsyncContextManager[Ready]]

_leaving: set["ref[asyncio.Task[Summary]]"] = set()
"""Sessions whose readers have gone, as long as they are there. A WeakSet could not be read while a finalizer adds to it."""


def run_of(
    source: Source, db: str | Path, limit: int | None, *, new: bool, accept_changes: bool, settings: dict[str, Any]
) -> Prepare:
    """Check the arguments of ``run``, and return what prepares such a session. Raises UsageError."""
    arguments.warn_of_variables()
    options, trust = arguments.of_run(settings, db, limit, new=new, accept_changes=accept_changes)
    # the program may change its folder before the session begins
    store = store_path(db)

    @asynccontextmanager
    async def prepare() -> AsyncIterator[Ready]:
        async with job_of_async(source, settings, store, trust=trust, limit=options.limit) as job:
            yield Ready(job, store, options)

    return prepare


def restored(restore: Callable[[], tuple[Job, SessionOptions]], db: str | Path, *, trust: bool) -> Prepare:
    """Return what prepares a session that goes on with a run."""
    store = store_path(db)

    @asynccontextmanager
    async def prepare() -> AsyncIterator[Ready]:
        job, options = await in_thread(restore)
        yield Ready(allowed(job, trust), store, options)

    return prepare


def start(
    prepare: Prepare, handle: StopHandle, observe: Observer, hear: Hear | None = None, backlog: Backlog | None = None
) -> "asyncio.Task[Summary]":
    """Begin a session in a task. Raises UsageError without an event loop of asyncio."""
    refuse_other_loops()

    async def execute(stop: Stop) -> Summary:
        async with AsyncExitStack() as stack:
            with handle.preparing():
                await _others_ended()
                job, store, options = await stack.enter_async_context(prepare())
            return await session.execute(job, store, options, stop, observe, hear, backlog)

    return begun(execute, handle)


def leave(task: "asyncio.Task[Summary]", handle: StopHandle) -> None:
    """Stop a session whose reader has gone; once, for a second request would drop what is open."""
    if not task.done() and ref(task) not in _leaving:
        _leaving.add(ref(task, _leaving.discard))
        handle.left()


async def _others_ended() -> None:
    loop = asyncio.get_running_loop()
    leaving = [task for one in tuple(_leaving) if (task := one()) is not None]
    others = [task for task in leaving if task.get_loop() is loop and not task.done()]
    if others:
        await asyncio.wait(others)


def refuse_other_loops() -> None:
    """Raise UsageError where no task of asyncio runs, such as under trio."""
    try:
        task = asyncio.current_task()
    except RuntimeError:
        task = None
    if task is None:
        raise UsageError(
            "this needs a running event loop of asyncio (anyio on asyncio is one); elsewhere call runner.run, under trio with "
            "trio.to_thread.run_sync"
        )
