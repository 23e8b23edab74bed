"""Runs a session in the foreground: shows its events, obeys signals and returns an exit code."""

import gc
import os
import sys
from contextlib import suppress
from typing import NoReturn

from runner import api
from runner.cli import progress
from runner.config.job import Job
from runner.engine.stop import Stop
from runner.errors import RunStoppedError, StoreError
from runner.events import Summary
from runner.interfaces import Observer
from runner.session.blocking import blocking
from runner.session.options import SessionOptions
from runner.session.signals import STOP_SIGNALS, exit_code, on_signals
from runner.session.stopping import StopHandle
from runner.text import clean, redact


def drive(job: Job, db: str, options: SessionOptions, *, quiet: bool, as_json: bool) -> int:
    """Run a session with progress on the screen; return the exit code."""
    # Objects loaded so far live until exit: neither a collection nor the end of the process has to scan them.
    gc.freeze()
    # A run creates almost no reference cycles; collecting as often as by default costs a tenth of the time.
    gc.set_threshold(50_000, 20, 20)
    observe = progress.choose(db, quiet=quiet, as_json=as_json)
    handle = StopHandle()
    with observe, on_signals(STOP_SIGNALS, handle.signalled) as caught:
        try:
            summary = blocking(lambda: handle.run(lambda stop: _execute(job, db, options, stop, observe.tell)))
        except RunStoppedError as error:
            # one reason is printed once
            if observe.told_why:
                return error.exit_code
            raise
        except KeyboardInterrupt:
            observe.dropped()
            raise
    if caught and not summary.finished:
        return exit_code(caught[0])
    if observe.lost is not None:
        raise StoreError(f"the output cannot be written: {observe.lost.strerror or observe.lost}; the results are in the store")
    if summary.stop_reason is not None:
        return 1
    return 0 if job.tolerates(summary.failed + summary.kept, of=summary.rows) else 1


async def _execute(job: Job, db: str, options: SessionOptions, stop: Stop, observe: Observer) -> Summary:
    try:
        return await api.execute(job, db, options, stop, observe)
    except StoreError as error:
        if error.stuck:
            _leave(error)
        raise


def _leave(error: StoreError) -> NoReturn:
    """End the process at once: closing the event loop, or Python itself, would wait for the thread that hangs in the store."""
    with suppress(OSError):
        print(f"runner: {clean(redact(str(error)))}", file=sys.stderr, flush=True)
    os._exit(error.exit_code)
