"""Asks prompts for the page and for programs: the sessions that send them, what they may cost, and which streams are open."""

import asyncio
import secrets
import time
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from msgspec import Struct

from runner.config.job import Job
from runner.engine.giving_up import CANCELLED
from runner.engine.limits.budget import Pot
from runner.errors import RunLockedError, RunnerError
from runner.model import Result
from runner.money import PICO, picodollars
from runner.session import viewing
from runner.session.prepare import in_thread
from runner.session.stopping import StopHandle
from runner.session.viewing import Prompts, View
from runner.store.reader import StoreReader
from runner.web import ask_events as events
from runner.web.ask_events import Data

MOST_COST = 5.0
"""Dollars that all prompts of a store may cost, unless the user says another sum."""
IDLE_S = 60.0
"""Seconds without an open stream after which a session ends: then another process may use its run, and connections are closed."""
LOOK_S = 0.5
"""Seconds after which it is looked why a request waits, while nothing comes of its answer."""
COUNT_S = 0.25
"""Seconds between two counts of the tokens that have come."""
_REMEMBERED = 1_000
_PROCESSES = 8
"""Processes that may ask prompts with the settings of the same run at once."""


class Asked(Struct, forbid_unknown_fields=True, kw_only=True):
    """What a client sends. One of prompt, messages and row; params: settings of this prompt, as a row may have them."""

    prompt: str | None = None
    messages: list[dict[str, Any]] | None = None
    row: dict[str, Any] | None = None
    run: int | None = None
    model: str | None = None
    params: dict[str, Any] = {}

    @property
    def given(self) -> int:
        """How many of prompt, messages and row there are."""
        return sum(one is not None for one in (self.prompt, self.messages, self.row))


class _Target(NamedTuple):
    """Whose settings count: those of a run, or None for those of the job file. plain: a prompt as it stands, and no row."""

    run: int | None
    plain: bool


class _Held:
    """An open session. streams: how many use it."""

    def __init__(self, prompts: Prompts, handle: StopHandle, job: Job) -> None:
        self.prompts, self.handle, self.job, self.streams = prompts, handle, job, 0
        self.idle: asyncio.TimerHandle | None = None


class Stream:
    """One prompt that is streamed. ``events`` yields what comes of it, once."""

    def __init__(self, own: str, held: _Held, fields: dict[str, Any], run: int | None) -> None:
        self.id, self._view, self._held = own, View(), held
        self._model = str(fields.get("model") or held.job.model)
        self._run = run
        self.asking = asyncio.create_task(held.prompts.views.view(fields, self._view))
        limit_s = held.job.attempt_s
        words = f"there was no whole answer within {limit_s:g} s"
        self._limit = asyncio.get_running_loop().call_later(limit_s, self._view.give_up, "timeout_attempt", words)
        self.asking.add_done_callback(lambda _: self._limit.cancel())

    def cancel(self, words: str) -> None:
        """End the request at the provider. What it cost is on the books. words: why."""
        self._view.give_up(CANCELLED, words)

    async def events(self) -> AsyncGenerator[tuple[str, Data], None]:
        """Yield the events: their name and data. Whoever stops reading them ends the request."""
        try:
            async for event in self._events():
                yield event
        finally:
            self.cancel("the one who asked has gone")

    async def _events(self) -> AsyncGenerator[tuple[str, Data], None]:
        view, attempt, counted, at, waits = self._view, 0, 0, time.monotonic(), None
        yield "metadata", self._metadata(0)
        while (told := await view.take(LOOK_S)) is not None:
            begun, shown = events.started(told), view.told
            waiting = self._held.prompts.views.waiting() if not shown else None
            if begun is not None:
                attempt, self._model = begun.attempt, begun.model
            if begun is not None or waiting != waits:
                waits = waiting
                yield "metadata", self._metadata(attempt, waiting)
            for data in events.tokens(told):
                yield "token", data
            count, now = events.about_tokens(view.chars), time.monotonic()
            if count != counted and now - at >= COUNT_S:
                counted, at = count, now
                yield "metadata", self._metadata(attempt)
        yield await self._end(shown=view.told > 0)
        if (fault := self.asking.exception()) is not None and not isinstance(fault, RunnerError):
            # a bug: the server tells it in its terminal
            raise fault

    def _metadata(self, attempt: int, waiting: str | None = None) -> Data:
        count = {"output_tokens": events.about_tokens(self._view.chars), "estimated": True}
        return {"id": self.id, "run": self._run, "model": self._model, "attempt": attempt, "waiting": waiting, **count}

    async def _end(self, *, shown: bool) -> tuple[str, Data]:
        try:
            result: Result = await asyncio.shield(self.asking)
        except RunnerError as error:
            return events.failed(error, self.id)
        except Exception as error:  # noqa: BLE001 - whoever has asked is told the end in any case
            words = f"internal error, {type(error).__name__}; the terminal of the server says more"
            return events.failed(RunnerError(words), self.id)
        return events.ended(result, shown=shown)


class Asker:
    """Opens streams. job: of a job file; None: the settings are those of runs. most: dollars, None: whatever they cost.

    What earlier servers have spent counts, as the books have it, and so does what another one spends at the same time: it is
    looked up when a session is opened and nothing is open.
    """

    def __init__(self, store: Path, *, job: Job | None = None, most: float | None = MOST_COST) -> None:
        self._store, self._given = store, job
        self._most = most
        self._pot = Pot("max_cost_session", "cost", picodollars(most)) if most is not None else None
        self._sessions: dict[_Target, _Held] = {}
        self._opening = asyncio.Lock()
        self.streams: dict[str, Stream] = {}
        # ids of those that have ended, the last ones
        self.ended: deque[str] = deque(maxlen=_REMEMBERED)

    @property
    def spent(self) -> float | None:
        """Dollars that prompts have cost, or may have, as far as that is known here; None if nothing is counted."""
        return self._pot.used / PICO if self._pot is not None else None

    async def open(self, asked: Asked) -> Stream:
        """Ask a prompt, and return its stream. Raises UsageError, StoreError."""
        run = asked.run
        if run is None and self._given is None:
            run = await in_thread(self._newest)
        held = await self._session(_Target(run, asked.row is None))
        # nothing is awaited from here on, so the session stays open
        own = f"ask-{secrets.token_hex(8)}"
        fields = asked.row if asked.row is not None else {}
        fields = {"prompt": asked.prompt} if asked.prompt is not None else fields
        fields = {"messages": asked.messages} if asked.messages is not None else fields
        settings = {**({"model": asked.model} if asked.model is not None else {}), **asked.params}
        stream = Stream(own, held, viewing.row_of(held.job, own, fields, settings), run)
        self._count(held, 1)
        self.streams[own] = stream

        def ended(_: asyncio.Task[Result]) -> None:
            del self.streams[own]
            self.ended.append(own)
            self._count(held, -1)
            if not stream.asking.cancelled():
                # whoever asked may have gone before it was told
                stream.asking.exception()

        stream.asking.add_done_callback(ended)
        return stream

    def end(self, words: str = "the server has ended") -> None:
        """End all requests."""
        for stream in list(self.streams.values()):
            stream.cancel(words)

    async def aclose(self) -> None:
        """End all requests and sessions. What they cost is on the books then."""
        self.end()
        async with self._opening:
            for held in list(self._sessions.values()):
                await self._close(held)
            self._sessions.clear()

    # -- sessions

    def _newest(self) -> int:
        with StoreReader(self._store) as reader:
            return reader.run(counted=False).id

    async def _session(self, target: _Target) -> _Held:
        async with self._opening:
            held = self._sessions.get(target)
            if held is not None and not held.prompts.has_ended:
                return held
            if held is not None:
                await self._close(self._sessions.pop(target))
            held = self._sessions[target] = await self._opened(target)
            self._count(held, 0)
            return held

    async def _opened(self, target: _Target) -> _Held:
        run, plain, given = target.run, target.plain, self._given if target.run is None else None
        store, most = self._store, self._most

        def settings() -> Job:
            job = given if given is not None else viewing.job_of_run(store, run or 0)
            return viewing.settings_of(job, plain=plain, most=most)

        job, number = await in_thread(settings), 1
        await self._count_spent()
        while True:
            handle = StopHandle()
            prompts = Prompts(job, self._pot, db=store, name=viewing.name_of(run, plain=plain, number=number), stop=handle)
            try:
                await prompts.__aenter__()
            except RunLockedError:
                # another process asks prompts with the settings of the same run
                number += 1
                if number > _PROCESSES:
                    raise
                continue
            return _Held(prompts, handle, job)

    async def _count_spent(self) -> None:
        """Read what prompts have cost. The books know all of it while nothing is open here."""
        pot = self._pot
        if pot is None or self.streams:
            return
        before = pot.used
        spent = await in_thread(lambda: viewing.spent(self._store))
        if not self.streams and pot.used == before and not pot.held:
            pot.used = spent

    def _count(self, held: _Held, by: int) -> None:
        held.streams += by
        if held.idle is not None:
            held.idle.cancel()
            held.idle = None
        if not held.streams:
            held.idle = asyncio.get_running_loop().call_later(IDLE_S, self._rest, held)

    def _rest(self, held: _Held) -> None:
        self._resting = asyncio.get_running_loop().create_task(self._end_idle(held))

    async def _end_idle(self, held: _Held) -> None:
        async with self._opening:
            if held.streams == 0 and held in self._sessions.values():
                self._sessions = {target: one for target, one in self._sessions.items() if one is not held}
                await self._close(held)

    async def _close(self, held: _Held) -> None:
        if held.idle is not None:
            held.idle.cancel()
        # what it failed with was told to those who had asked
        with suppress(RunnerError):
            await held.prompts.__aexit__(None, None, None)
