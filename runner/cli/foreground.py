"""Runs a session in the foreground: shows its events, obeys signals and returns an exit code."""

import gc
import os
import signal
import sys
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import NoReturn, TypedDict, Unpack

import msgspec
from msgspec import structs

from runner import api
from runner.cli import chosen, confirming, progress, telling
from runner.cli import output as texts
from runner.config.job import Job
from runner.engine.stop import Stop
from runner.errors import RunStoppedError, StoreError
from runner.event_types import Event, Started, Summary
from runner.exports.file import is_standard_output
from runner.interfaces import Observer
from runner.session.blocking import blocking
from runner.session.expecting import Confirm
from runner.session.options import SessionOptions
from runner.session.outputs import refuse_early
from runner.session.signals import STOP_SIGNALS, exit_code, on_signals
from runner.session.stopping import BY_COMMAND, StopHandle
from runner.text import clean, json_text, redact

_WAITING = 7
"""The exit code of a session that leaves rows in batches at the provider."""


class Shown(TypedDict):
    """How a session is shown. yes: start it whatever it will cost.

    outputs: files to which the results are written at the end, whatever has ended the session but a third signal. web: show it
    on a page, at this port or, for None in it, at the usual one. telemetry: tell OpenTelemetry of it.
    """

    quiet: bool
    as_json: bool
    outputs: tuple[str, ...]
    yes: bool
    web: tuple[int | None] | None
    telemetry: bool


def drive(job: Job, db: str, options: SessionOptions, **shown: Unpack[Shown]) -> int:
    """Run a session with progress on the screen; return the exit code."""
    quiet, as_json, outputs, web = shown["quiet"], shown["as_json"], shown["outputs"], shown["web"]
    refuse_early(outputs, Path(db).resolve(), job.input)
    begun: list[int] = []
    options = structs.replace(options, db=db, outputs=outputs)
    observe = progress.choose(db, quiet=quiet, as_json=as_json, exported=bool(outputs))
    told = telling.told(job, observe, quiet=quiet) if shown["telemetry"] else nullcontext(observe.tell)
    try:
        with nullcontext() if web is None else _shown(observe, db, web[0]), told as tell:
            passed = partial(_passed, begun, tell)
            return _session(job, db, options, observe, confirming.confirm(job, yes=shown["yes"]), passed)
    finally:
        if outputs and begun and not isinstance(sys.exc_info()[1], KeyboardInterrupt | StoreError):
            _export(begun[0], db, outputs, quiet=quiet, as_json=as_json)


def _shown(observe: progress.View, db: str, port: int | None) -> AbstractContextManager[object]:
    """Return a context in which the session has a page, from its beginning on. Raises UsageError."""
    # nothing of the page is imported where it is not wanted
    from runner.web.beside import Beside

    page = Beside(Path(db).resolve(), port)
    observe.opens = page.open
    return page


def sample(job: Job, db: str, options: SessionOptions, *, quiet: bool, yes: bool) -> int:
    """Send the rows of an estimate, with progress on the screen; return 0 if all of them have outcomes, else the exit code."""
    observe = progress.choose(db, quiet=quiet, as_json=False)
    observe.summed = False
    return _session(job, db, structs.replace(options, db=db), observe, confirming.confirm(job, yes=yes), observe.tell)


def _export(run: int, db: str, targets: tuple[str, ...], *, quiet: bool, as_json: bool) -> None:
    notes: list[str] = []
    written = api.export(targets, run_id=run, db=db, notes=notes)
    if as_json:
        # where the rows are written to standard output, they are what is printed
        if not any(map(is_standard_output, targets)):
            files = texts.written(written, targets, formats=[None] * len(targets), manifest=False)
            print(json_text(msgspec.json.encode({"event": "exported", "run": run, "files": files, "notes": notes})), flush=True)
    elif not quiet:
        for sentence in [*texts.exported(chosen.exported(run, db)[0], None, written, targets, db), *notes]:
            print(sentence, flush=True)


def _passed(begun: list[int], tell: Observer, event: Event) -> None:
    """Pass an event on. begun: receives the number of the run."""
    if isinstance(event, Started):
        begun.append(event.run)
    tell(event)


def _session(
    job: Job,
    db: str,
    options: SessionOptions,
    observe: progress.View,
    confirm: Confirm | None,
    tell: Observer,
) -> int:
    """Run a session and return the exit code. tell: passes the events on to ``observe``."""
    # Objects loaded so far live until exit: neither a collection nor the end of the process has to scan them.
    gc.freeze()
    # A run creates almost no reference cycles; collecting as often as by default costs a tenth of the time.
    gc.set_threshold(50_000, 20, 20)
    handle = StopHandle()

    with observe, on_signals(STOP_SIGNALS, handle.signalled) as caught:
        try:
            summary = blocking(lambda: handle.run(lambda stop: _execute(job, db, options, stop, tell, confirm)))
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
        # as Ctrl-C, whoever has ended it
        by_command = summary.stop_reason.startswith(BY_COMMAND.rstrip("`"))
        return exit_code(signal.SIGINT) if by_command else _WAITING if summary.waiting else 1
    if options.sample is not None or (options.retry_failed and not (summary.done_now or summary.failed_now)):
        # there was no row to send again
        return 0
    return 0 if job.tolerates(summary.failed + summary.kept, of=summary.wanted) else 1


async def _execute(job: Job, db: str, options: SessionOptions, stop: Stop, observe: Observer, confirm: Confirm | None) -> Summary:
    try:
        return await api.execute(job, db, options, stop, observe, confirm=confirm)
    except StoreError as error:
        if error.stuck:
            _leave(error)
        raise


def _leave(error: StoreError) -> NoReturn:
    """End the process at once: closing the event loop, or Python itself, would wait for the thread that hangs in the store."""
    with suppress(OSError):
        print(f"runner: {clean(redact(str(error)))}", file=sys.stderr, flush=True)
    os._exit(error.exit_code)
