"""One session of a run: prepare it, wire the parts together, run them, sum up."""

from pathlib import Path

from runner.config.job import Job
from runner.engine.listening import Hear
from runner.engine.stop import Stop
from runner.errors import RunStoppedError
from runner.event_types import Finished, Summary
from runner.interfaces import Observer
from runner.session import nothing_left, prepare
from runner.session.again import Again
from runner.session.audience import Audience, with_reason
from runner.session.backlog import Backlog
from runner.session.continuing import Idle
from runner.session.controlled import Controlled
from runner.session.expecting import Confirm
from runner.session.foreseen import owned
from runner.session.input_session import InputSession
from runner.session.options import SessionOptions
from runner.session.prepare import in_thread
from runner.session.stopping import interruption


async def execute(
    job: Job,
    store_path: Path,
    options: SessionOptions,
    stop: Stop,
    observe: Observer,
    hear: Hear | None = None,
    backlog: Backlog | None = None,
    confirm: Confirm | None = None,
) -> Summary:
    """Run a job until all its rows have outcomes or a stop is requested. hear: receives the pieces of answers as they come.

    backlog: of a reader that new rows wait for; None: there is none. confirm: is told what the session will cost, if
    that is known, before it sends anything; returns True if it has said so, and raises what ends the session.
    Raises UsageError before anything is sent, StoreError, and RunStoppedError when further requests would be pointless.
    """
    audience, plan = Audience(observe, interruption(stop), hear), await prepare.prepare(job, store_path, options)
    if isinstance(plan, Idle):
        for event in nothing_left.nothing_to_do(job, plan):
            audience.tell(event)
        return nothing_left.summary(job, plan.run, plan.money)
    again = Again(plan.job, plan.options, store_path, plan.run.id)
    audience.complete = again.told
    async with Controlled() as controlled:
        async with await in_thread(lambda: owned(plan)) as store:
            session = InputSession(plan, store, stop, audience, backlog, again)
            await session.ask(confirm)
            summary = await session.whole(controlled)
        summary = with_reason(summary, again.told)
        audience.tell(Finished(summary=summary))
    if stop.error is not None and not summary.finished:
        raise RunStoppedError(again.told(str(stop.error)), code=stop.error.code)
    return summary
