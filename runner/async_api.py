"""The public Python API in the program's own event loop: arun, aestimate, ... ``session`` has stream, events and Session."""

from collections.abc import Iterable, Sequence
from operator import index
from pathlib import Path
from typing import Any, Unpack

from msgspec import structs

from runner.config.keywords import EstimateSettings, ResumeSettings, RetrySettings, RunSettings
from runner.interfaces import Observer
from runner.progress.watching import watched
from runner.session import arguments, restoring
from runner.session.asynchronous import Prepare, refuse_other_loops, restored, run_of, start
from runner.session.estimating import Estimate, estimate_job, refuse_stopped, unsent_async
from runner.session.naming import DEFAULT_STORE, store_path
from runner.session.prepare import in_thread
from runner.session.results import RunSummary, with_results
from runner.session.sources import Source, job_of_async
from runner.session.stopping import StopHandle, ended


async def arun(
    source: Source,
    *,
    db: str | Path = DEFAULT_STORE,
    limit: int | None = None,
    new: bool = False,
    accept_changes: bool = False,
    stop: StopHandle | str | Sequence[str] | None = None,
    observe: Observer | None = None,
    **settings: Unpack[RunSettings],
) -> RunSummary:
    """Do what ``run`` does, in the running event loop of asyncio. The arguments and the errors are the same.

    If its task is cancelled (also by Ctrl-C under ``asyncio.run``, a timeout, a cancel scope of anyio), open requests may finish
    for up to 30 s; if it is cancelled again they are dropped. What is answered is saved, and then the cancellation goes on.
    """
    given: dict[str, Any] = {**settings}
    handle, progress = arguments.handle(stop, given), given.pop("progress", None)
    prepare = run_of(source, db, limit, new=new, accept_changes=accept_changes, settings=given)
    return await _watched(prepare, db, handle, observe, progress)


async def aresume(
    run_id: int | str | None = None,
    *,
    db: str | Path = DEFAULT_STORE,
    accept_changes: bool = False,
    trust: bool = False,
    stop: StopHandle | str | Sequence[str] | None = None,
    observe: Observer | None = None,
    progress: bool | None = None,
    **settings: Unpack[ResumeSettings],
) -> RunSummary:
    """Do what ``resume`` does, in the running event loop, as ``arun``."""
    given: dict[str, Any] = {**settings}
    handle = arguments.handle(stop, given)
    arguments.warn_of_variables()
    arguments.check(run_id=run_id, db=db, accept_changes=accept_changes, trust=trust)
    detach = arguments.detached(given)
    prepare = restored(lambda: detach(restoring.resumed(db, run_id, given, accept_changes=accept_changes)), db, trust=trust)
    return await _watched(prepare, db, handle, observe, progress)


async def aretry(
    run_id: int | str | None = None,
    *,
    classes: str | Sequence[str] | None = None,
    ids: Iterable[str | int] | Path | None = None,
    db: str | Path = DEFAULT_STORE,
    stop: StopHandle | str | Sequence[str] | None = None,
    observe: Observer | None = None,
    **settings: Unpack[RetrySettings],
) -> RunSummary:
    """Do what ``retry`` does, in the running event loop, as ``arun``."""
    given: dict[str, Any] = {**settings}
    handle = arguments.handle(stop, given)
    progress, trust, all_rows = given.pop("progress", None), given.pop("trust", False), given.pop("all_rows", False)
    arguments.warn_of_variables()
    chosen = arguments.of_retry(classes, ids, all_rows=all_rows)
    arguments.check(run_id=run_id, db=db, trust=trust)
    detach = arguments.detached(given)
    prepare = restored(lambda: detach(restoring.retried(db, run_id, given, chosen)), db, trust=trust)
    return await _watched(prepare, db, handle, observe, progress)


async def aestimate(
    source: Source,
    *,
    sample: int = 0,
    db: str | Path = DEFAULT_STORE,
    limit: int | None = None,
    new: bool = False,
    observe: Observer | None = None,
    **settings: Unpack[EstimateSettings],
) -> Estimate:
    """Do what ``estimate`` does, in the running event loop, as ``arun``. With ``sample``, a cancellation is that of ``arun``."""
    given: dict[str, Any] = {**settings}
    progress = given.pop("progress", None)
    arguments.warn_of_variables()
    options, trust = arguments.of_run(given, db, limit, new=new, accept_changes=False, labelled=False)
    arguments.check(sample=sample, observe=observe, progress=progress)
    refuse_other_loops()
    refuse_other_loops()
    store = store_path(db)
    if not sample:
        async with unsent_async(source, given, trust=trust) as job:
            return await in_thread(lambda: estimate_job(job, store, options))
    options = structs.replace(options, sample=index(sample))
    async with job_of_async(source, given, store, trust=trust, limit=options.limit) as job:
        prepare = restored(lambda: (job, options), store, trust=trust)
        refuse_stopped(await _watched(prepare, store, None, observe, progress))
        return await in_thread(lambda: estimate_job(job, store, structs.replace(options, new=False)))


async def _watched(
    prepare: Prepare, db: str | Path, handle: StopHandle | None, observe: Observer | None, progress: bool | None
) -> RunSummary:
    """Run a session to its end, and show it to a person who looks."""
    arguments.check(observe=observe, progress=progress)
    handle, store = handle or StopHandle(), store_path(db)
    with watched(progress, observe) as observer:
        summary = await ended(start(prepare, handle, arguments.observer(observer)), handle)
    return with_results(summary, store)
