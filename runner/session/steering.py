"""What may be asked of a session that runs: each request, and what came of it, in words."""

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TypeAlias

import anyio
from msgspec import Struct

from runner.config.job import Job
from runner.control.messages import Cancel, Continue, Pause, Reply, Request, Requeue, Set, Stop
from runner.durations import format_span
from runner.engine.limits import Lanes
from runner.engine.stop import Stop as StopEvent
from runner.errors import RunnerError, StoreError, UsageError
from runner.pace import Pace
from runner.session.limit_steering import LimitSteering
from runner.session.naming import command
from runner.session.row_steering import CANCELLED_ROW, NOT_YET, REQUEUED, SAME, RowSteering
from runner.session.stopping import BY_COMMAND
from runner.store.checkpoint import RunStore
from runner.store.steered import Steered, note
from runner.text import clean, plural

WHO: Mapping[str, str] = {"terminal": "you", "page": "you", "api": "a program", "agent": "an agent"}
"""Who asks, in words; whoever sits at a terminal or at the page is who reads them."""
_MOST_REASONS = 3
"""Reasons that are told where nothing was done; the reply has one for each row."""
LAST_S = 5.0
"""Seconds for which the end of a session waits until what was asked is answered."""


class Done(Struct, frozen=True, kw_only=True):
    """What came of a request. what: one sentence. rows: what became of each row that was named. noted: it is in the history."""

    what: str
    rows: Mapping[str, str] = {}
    noted: bool = True


Told: TypeAlias = Callable[[Steered], None]
"""Is told of each request that has changed something."""


class Steering:
    """Does what is asked of a session. tell: tells its user a sentence. store: of its run, which keeps what was asked."""

    def __init__(self, job: Job, lanes: Lanes, stop: StopEvent, store: RunStore, tell: Callable[[str], None]) -> None:
        self._lanes, self._stop, self._store, self._tell = lanes, stop, store, tell
        self.limits = LimitSteering(job, lanes)
        # None until the session sends
        self.rows: RowSteering | None = None
        # the number of the session in its run, and the store as commands name it
        self.session, self.db = 0, str(store.path)
        self.told: Told = lambda _: None
        # returns what the session is doing; None until it is known
        self.pace: Callable[[], Pace] | None = None
        # the session sends no more; requests that are being answered, and what is set when none is
        self.over, self._busy, self._idle = False, 0, anyio.Event()
        # its rows go through batches
        self.batched = False

    async def answer(self, request: Request, by: str) -> Reply:
        """Do what is asked, and say what came of it. by: who asks."""
        self._busy += 1
        try:
            return await self._answer(request, by)
        finally:
            self._busy -= 1
            if not self._busy:
                self._idle.set()

    async def finish(self) -> None:
        """Take no further request, and wait until those are answered that have come: they need the store."""
        self.over = True
        with anyio.move_on_after(LAST_S, shield=True):
            while self._busy:
                self._idle = anyio.Event()
                await self._idle.wait()

    async def _answer(self, request: Request, by: str) -> Reply:
        name = type(request).__name__.lower()
        try:
            done = await self._done(request, by)
        except RunnerError as error:
            return Reply(number=0, error=str(error), rows=getattr(error, "rows", {}))
        if done.noted:
            await self._keep(Steered(at=time.time(), session=self.session, by=by, command=name, what=done.what))
        return Reply(number=0, done=done.what, rows=done.rows)

    async def _keep(self, steered: Steered) -> None:
        """Write into the history of the run what was asked, and tell of it."""
        self._tell(f"asked by {WHO.get(steered.by, steered.by)}: {steered.what}")
        self.told(steered)
        # if it fails, the next batch of answers that cannot be saved tells of it
        with suppress(StoreError):
            await self._store.write(lambda connection: note(connection, self._run, steered))
            # whoever looks at the store sees it at once
            if self.pace is not None:
                await self._store.note_pace(self.pace())

    async def _done(self, request: Request, by: str) -> Done:
        self._refuse_when_over()
        match request:
            case Pause():
                return self._pause(by)
            case Continue():
                return self._go_on()
            case Stop():
                return self._end()
            case Cancel():
                rows = await self._rows.cancel(request.ids)
                return _of_rows(rows, CANCELLED_ROW)
            case Requeue():
                self._refuse_at_end()
                if self.batched:
                    again = f"`{command('retry', self._run, self.db)}`"
                    raise UsageError(f"rows of a session with batches are sent again once it has ended: {again}")
                rows = await self._rows.requeue(request.ids, self._refuse_at_end)
                return _of_rows(rows, REQUEUED)
            case Set():
                self._refuse_at_end()
                return Done(what=self.limits.set(request, self._run, self.db))
            case _:
                raise UsageError("this session cannot do that")

    @property
    def _rows(self) -> RowSteering:
        if self.rows is None:
            raise UsageError(f"run {self._run} has not begun to send; try again in a moment")
        return self.rows

    @property
    def _run(self) -> int:
        return self._store.run_id

    def _pause(self, by: str) -> Done:
        again = f"`{command('continue', self._run, self.db)}`"
        self._refuse_at_end()
        if self._lanes.halt.on:
            return Done(what=f"paused already; {again} goes on", noted=False)
        self._lanes.pause(f"paused by {WHO.get(by, by)}: {again}", time.time())
        opened = self._lanes.in_flight
        rest = f"; {plural(opened, 'open request')} may end" if opened else ""
        return Done(what=f"paused: no further request goes out{rest}; {again} goes on")

    def _go_on(self) -> Done:
        halt, now = self._lanes.halt, time.time()
        if not halt.on:
            return Done(what="it is not paused", noted=False)
        paused_s = max(0.0, now - halt.at)
        self._lanes.go_on(now)
        return Done(what=f"goes on after a pause of {format_span(paused_s)}")

    def _end(self) -> Done:
        again = self._stop.requested
        self._stop.ask(BY_COMMAND)
        if again:
            return Done(what="drops its open requests, and ends")
        return Done(what=f"stops: no further request goes out; {plural(self._lanes.in_flight, 'open request')} may end")

    def _refuse_when_over(self) -> None:
        if self.over:
            raise UsageError(f"run {self._run} is about to end")

    def _refuse_at_end(self) -> None:
        self._refuse_when_over()
        if self._stop.requested:
            raise UsageError(f"run {self._run} is stopping, and sends nothing further")


def _of_rows(rows: Mapping[str, str], done: str) -> Done:
    """Return what came of a request about rows. Raises UsageError if nothing did."""
    if (why := _refusals(rows, done)) is not None:
        raise RefusedRowsError(why, rows)
    return Done(what=_summed(rows, done), rows=rows)


def _summed(said: Mapping[str, str], done: str) -> str:
    """Return one sentence about what became of rows. done: what those say with which it was done."""
    well = [word for word, phrase in said.items() if phrase.startswith(done) and not phrase.startswith(f"{done}{SAME}")]
    shown = ", ".join(clean(word, 40) for word in well[:3]) + (", ..." if len(well) > 3 else "")
    return f"{done} {plural(len(well), 'row')} ({shown})" if well else f"no row was {done}"


def _refusals(said: Mapping[str, str], done: str) -> str | None:
    """Return why nothing was done; None if something was."""
    if any(phrase.startswith((done, NOT_YET)) for phrase in said.values()):
        return None
    # of each reason, the first row
    firsts = dict[str, str]()
    for word, phrase in said.items():
        firsts.setdefault(phrase, word)
    shown = list(firsts.items())[:_MOST_REASONS]
    more = f" (and {plural(len(said) - len(shown), 'other row')})" if len(said) > len(shown) else ""
    return "; ".join(f"row {clean(word, 40)}: {phrase}" for phrase, word in shown) + more


class RefusedRowsError(UsageError):
    """Nothing was done for any of the rows. rows: why, by id."""

    def __init__(self, message: str, rows: Mapping[str, str]) -> None:
        super().__init__(message)
        self.rows = rows
