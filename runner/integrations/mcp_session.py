"""The process of a session that an agent has started: it does not end with the server, and says in a file what happens.

What it is to do comes in as JSON on standard input. It reads the job itself and checks what it has read, so that nothing can
change between the check and the run.
"""

import gc
import os
import re
import sys
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import msgspec
from msgspec import Struct, structs

from runner import api
from runner.config.job import Job
from runner.engine.stop import Stop
from runner.errors import RunLockedError, RunnerError, RunStoppedError, StoreError, UsageError
from runner.event_types import Event, Finished, Noted, Started, Stopping, Summary
from runner.integrations import mcp_guard
from runner.integrations.mcp_cap import Cap
from runner.integrations.mcp_files import Root
from runner.integrations.mcp_guard import Human
from runner.money import PICO
from runner.session.blocking import blocking
from runner.session.options import Asked, SessionOptions
from runner.session.signals import STOP_SIGNALS, exit_code, on_signals
from runner.session.stopping import StopHandle
from runner.text import clean, redact

_LOCKED = re.compile(r"run (\d+) of ")
"""How the sentence begins about a run on which another session works (``store.checkpoint``)."""


class Order(Struct, frozen=True, kw_only=True):
    """What a session is to do.

    input: a file or several, of a run that begins or goes on; None: ``run`` is resumed, or its rows are sent again (``retry``).
    share: picodollars that it may spend; None: it has no budget of the server's. lock: descriptor of its lock.
    """

    grant: str
    lock: int
    root: str
    db: str
    human: Human
    share: int | None = None
    input: str | list[str] | None = None
    run: int | None = None
    retry: bool = False
    classes: tuple[str, ...] = ()
    ids: tuple[str, ...] | None = None
    all_rows: bool = False
    settings: dict[str, Any] = {}
    limit: int | None = None
    new: bool = False
    accept_changes: bool = False
    name: str | None = None
    tags: tuple[str, ...] = ()


def job_of(order: Order, root: Root) -> tuple[Job, SessionOptions]:
    """Return the job and the options of an order, checked. Raises UsageError, StoreError."""
    settings = mcp_guard.settings_of(order.settings)
    if order.input is not None:
        job = mcp_guard.load(root, order.input, settings, order.human)
        options = SessionOptions(
            limit=order.limit,
            new=order.new,
            accept_changes=order.accept_changes,
            name=order.name,
            tags=order.tags,
        )
        return job, options
    if order.retry:
        which = Asked(classes=order.classes, ids=order.ids, all_rows=order.all_rows)
        job, options = api.retried(order.db, order.run, settings, which)
    else:
        job, options = api.resumed(order.db, order.run, settings, accept_changes=order.accept_changes)
    return mcp_guard.checked(job, root, order.human), options


class Session:
    """A session, and the file to which it says what happens."""

    def __init__(self, order: Order, log: BinaryIO, root: Root) -> None:
        self.order, self._log, self._root = order, log, root
        self._cap = Cap(Path(order.db), None)
        self._job: Job | None = None

    def run(self) -> int:
        """Run it to its end, and return the exit code."""
        job, options = job_of(self.order, self._root)
        share = self.order.share
        self._job = job = mcp_guard.with_share(job, None if share is None else share / PICO)
        gc.freeze()
        gc.set_threshold(50_000, 20, 20)
        handle, db = StopHandle(), self.order.db
        with on_signals(STOP_SIGNALS, handle.signalled) as caught:
            summary = blocking(lambda: handle.run(lambda stop: self._execute(job, structs.replace(options, db=db), stop)))
        if caught and not summary.finished:
            return exit_code(caught[0])
        return 0 if summary.stop_reason is None else 1

    async def _execute(self, job: Job, options: SessionOptions, stop: Stop) -> Summary:
        try:
            return await api.execute(job, self.order.db, options, stop, self._observe)
        except StoreError as error:
            if error.stuck:
                # closing the event loop, or Python itself, would wait for the thread that hangs in the store
                self.say(told(error))
                os._exit(error.exit_code)
            raise

    def _observe(self, event: Event) -> None:
        match event:
            case Started():
                self._begin(event)
            case Noted() | Stopping():
                self.say({"event": type(event).__name__.lower(), **msgspec.to_builtins(event)})
            case Finished():
                self.say({"event": "finished", **msgspec.to_builtins(event.summary)})
            case _:
                pass

    def _begin(self, event: Started) -> None:
        """Note the run before anything is sent; what cannot be noted is not begun."""
        assert self._job is not None
        try:
            # a link, or a folder, may have been changed since the check
            self._root.check(self._job)
            self._cap.begun(self.order.grant, event.run)
        except RunnerError as error:
            self.say(told(error))
            self._leave(error)
        self.say({"event": "started", **msgspec.to_builtins(event)})

    def _leave(self, error: RunnerError) -> NoReturn:
        # what is no error ends the session, and nothing has been sent so far
        raise SystemExit(error.exit_code)

    def say(self, event: dict[str, Any]) -> None:
        """Write an event as a line."""
        self._log.write(msgspec.json.encode(event) + b"\n")
        self._log.flush()


def told(error: RunnerError) -> dict[str, Any]:
    """Return an error as ``--json`` tells it. locked: the run on which another session works."""
    code = error.code if isinstance(error, RunStoppedError) else None
    number = _LOCKED.match(str(error)) if isinstance(error, RunLockedError) else None
    locked = {"locked": int(number[1])} if number is not None else {}
    return {"event": "error", "exit_code": error.exit_code, "code": code, "message": clean(redact(str(error))), **locked}


def main() -> int:
    """Run the session that standard input orders, and return the exit code."""
    order = msgspec.json.decode(sys.stdin.buffer.read(), type=Order)
    # workers of the session must not hold its lock
    os.set_inheritable(order.lock, False)
    os.umask(0o077)
    cap = Cap(Path(order.db), None)
    with cap.log_of(order.grant).open("ab") as log:
        return ended(Session(order, log, Root(order.root)), cap)


def ended(session: Session, cap: Cap) -> int:
    """Run a session to its end, note in the cap what it has used, and return its exit code."""
    try:
        return session.run()
    except RunnerError as error:
        session.say(told(error))
        return error.exit_code
    except OSError as error:
        session.say(told(UsageError(f"{error.filename or 'a file'} cannot be used: {error.strerror or error}")))
        return 4
    finally:
        cap.ended(session.order.grant)


if __name__ == "__main__":
    sys.exit(main())
