"""Runs a session in the foreground: shows its events, obeys signals and returns an exit code."""

import gc
import os
import signal
import sys
from contextlib import suppress
from typing import NoReturn

import anyio

from runner import api
from runner.cli import output, progress
from runner.config.job import Job
from runner.engine.stop import Stop
from runner.errors import RunStoppedError, StoreError
from runner.events import Summary
from runner.interfaces import Observer
from runner.session.blocking import blocking
from runner.session.options import SessionOptions
from runner.text import clean, redact

GRACE_S = 30.0
"""How long open requests may take after the first Ctrl-C, in seconds."""


def drive(job: Job, db: str, options: SessionOptions, *, quiet: bool, as_json: bool) -> int:
    """Run a session with progress on the screen; return the exit code."""
    # Objects loaded so far live until exit: neither a collection nor the end of the process has to scan them.
    gc.freeze()
    # A run creates almost no reference cycles; collecting as often as by default costs a tenth of the time.
    gc.set_threshold(50_000, 20, 20)
    observe = progress.choose(db, quiet=quiet, as_json=as_json)
    caught: list[int] = []
    with observe:
        try:
            summary = blocking(lambda: _until_signalled(job, db, options, observe.tell, caught))
        except RunStoppedError as error:
            # one reason is printed once
            if observe.told_why:
                return error.exit_code
            raise
    if caught and not summary.finished:
        return 130 if caught[0] == signal.SIGINT else 143
    if summary.stop_reason is not None:
        return 1
    return 0 if job.tolerates(summary.failed + summary.kept, of=summary.rows) else 1


def _leave(error: StoreError) -> NoReturn:
    """End the process at once: closing the event loop, or Python itself, would wait for the thread that hangs in the store."""
    with suppress(OSError):
        print(f"runner: {clean(redact(str(error)))}", file=sys.stderr, flush=True)
    os._exit(error.exit_code)


async def _until_signalled(job: Job, db: str, options: SessionOptions, observe: Observer, caught: list[int]) -> Summary:
    """Execute a session. The first signal asks it to stop, the second drops open requests, the third cancels the session."""
    stop = Stop()
    result: list[Summary] = []
    failure: list[Exception] = []

    async def execute(scope: anyio.CancelScope) -> None:
        try:
            result.append(await api.execute(job, db, options, stop, observe))
        except Exception as error:  # noqa: BLE001 - raised below, outside the group that would wrap it
            if isinstance(error, StoreError) and error.stuck:
                _leave(error)
            failure.append(error)
        scope.cancel()

    supported = [signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])]
    # a signal that the parent process had us ignore (nohup) stays ignored
    kinds = [kind for kind in supported if signal.getsignal(kind) is not signal.SIG_IGN]
    with anyio.open_signal_receiver(*kinds) as signals:
        async with anyio.create_task_group() as group:
            group.start_soon(execute, group.cancel_scope)
            async for kind in signals:
                caught.append(kind)
                name = "Ctrl-C" if kind == signal.SIGINT else signal.Signals(kind).name
                stop.request(f"{output.STOPPED_BY}{name}", grace_s=0.0 if stop.requested else GRACE_S)
                if len(caught) > 2:
                    group.cancel_scope.cancel()
    if failure:
        raise failure[0]
    if not result:
        raise KeyboardInterrupt
    return result[0]
