"""Runs inside the program's own event loop: ``arun``, ``aresume``, ``aretry``. No thread is waited for, and no loop is begun.

A run that was left early may still be ending when the next one begins, such as one over the same file. The next one waits for it.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from operator import index
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias
from weakref import WeakSet

from runner.config.job import Job
from runner.config.trust import allowed
from runner.engine.listening import Hear
from runner.engine.stop import Stop
from runner.errors import UsageError
from runner.event_types import Summary
from runner.interfaces import Observer
from runner.session import arguments, restoring, session
from runner.session.backlog import Backlog
from runner.session.naming import DEFAULT_STORE
from runner.session.options import SessionOptions
from runner.session.prepare import in_thread
from runner.session.sources import Source, job_of_async
from runner.session.stopping import StopHandle, begun, ended


class Ready(NamedTuple):
    """What is needed to begin a session."""

    job: Job
    store: Path
    options: SessionOptions


Prepare: TypeAlias = Callable[[], AbstractAsyncContextManager[Ready]]

_leaving: WeakSet["asyncio.Task[Summary]"] = WeakSet()
"""Sessions whose readers have gone, until they have ended."""


async def arun(
    source: Source,
    *,
    db: str | Path = DEFAULT_STORE,
    limit: int | None = None,
    new: bool = False,
    accept_changes: bool = False,
    stop: StopHandle | str | Sequence[str] | None = None,
    observe: Observer | None = None,
    **settings: Any,
) -> Summary:
    """Do what ``run`` does, in the running event loop. The arguments and the errors are the same.

    If its task is cancelled (also by Ctrl-C under ``asyncio.run``, a timeout, a cancel scope of anyio), open requests may finish
    for up to 30 s; if it is cancelled again they are dropped. What is answered is saved, and then the cancellation goes on.
    """
    handle = arguments.handle(stop, settings) or StopHandle()
    arguments.check(observe=observe)
    prepare = run_of(source, db, limit, new=new, accept_changes=accept_changes, settings=settings)
    return await ended(start(prepare, handle, arguments.observer(observe)), handle)


async def aresume(
    run_id: int | None = None,
    *,
    db: str | Path = DEFAULT_STORE,
    accept_changes: bool = False,
    trust: bool = False,
    stop: StopHandle | str | Sequence[str] | None = None,
    observe: Observer | None = None,
    **settings: Any,
) -> Summary:
    """Do what ``resume`` does, in the running event loop, as ``arun``."""
    handle = arguments.handle(stop, settings) or StopHandle()
    arguments.warn_of_variables()
    arguments.check(run_id=run_id, db=db, accept_changes=accept_changes, trust=trust, observe=observe)

    prepare = _restored(lambda: restoring.resumed(db, run_id, settings, accept_changes=accept_changes), db, trust=trust)

    return await ended(start(prepare, handle, arguments.observer(observe)), handle)


async def aretry(
    run_id: int | None = None,
    *,
    db: str | Path = DEFAULT_STORE,
    trust: bool = False,
    stop: StopHandle | str | Sequence[str] | None = None,
    observe: Observer | None = None,
    **settings: Any,
) -> Summary:
    """Do what ``retry`` does, in the running event loop, as ``arun``."""
    handle = arguments.handle(stop, settings) or StopHandle()
    arguments.warn_of_variables()
    arguments.check(run_id=run_id, db=db, trust=trust, observe=observe)

    prepare = _restored(lambda: restoring.retried(db, run_id, settings), db, trust=trust)

    return await ended(start(prepare, handle, arguments.observer(observe)), handle)


def run_of(
    source: Source, db: str | Path, limit: int | None, *, new: bool, accept_changes: bool, settings: dict[str, Any]
) -> Prepare:
    """Check the arguments of ``run``, and return what prepares such a session. Raises UsageError."""
    arguments.warn_of_variables()
    strict, trust = settings.pop("strict", False), settings.pop("trust", False)
    flags = {"new": new, "accept_changes": accept_changes, "strict": strict, "trust": trust}
    arguments.check(db=db, limit=limit, **flags)
    number = None if limit is None else index(limit)
    options = SessionOptions(limit=number, new=new, accept_changes=accept_changes, strict=strict)

    @asynccontextmanager
    async def prepare() -> AsyncIterator[Ready]:
        async with job_of_async(source, settings, db, trust=trust) as job:
            yield Ready(job, _resolved(db), options)

    return prepare


def _restored(restore: Callable[[], tuple[Job, SessionOptions]], db: str | Path, *, trust: bool) -> Prepare:
    @asynccontextmanager
    async def prepare() -> AsyncIterator[Ready]:
        job, options = await in_thread(restore)
        yield Ready(allowed(job, trust), _resolved(db), options)

    return prepare


def start(
    prepare: Prepare, handle: StopHandle, observe: Observer, hear: Hear | None = None, backlog: Backlog | None = None
) -> "asyncio.Task[Summary]":
    """Begin a session in a task. Raises UsageError without an event loop of asyncio."""
    refuse_other_loops()

    async def execute(stop: Stop) -> Summary:
        await _others_ended()
        async with prepare() as (job, store, options):
            return await session.execute(job, store, options, stop, observe, hear, backlog)

    return begun(execute, handle)


def leave(task: "asyncio.Task[Summary]", handle: StopHandle) -> None:
    """Stop a session whose reader has gone."""
    if not task.done():
        _leaving.add(task)
        handle.request()


async def _others_ended() -> None:
    loop = asyncio.get_running_loop()
    others = [task for task in _leaving if task.get_loop() is loop and not task.done()]
    if others:
        await asyncio.wait(others)


def _resolved(db: str | Path) -> Path:
    return Path(db).resolve()


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
