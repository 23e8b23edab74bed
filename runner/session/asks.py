"""A session whose rows a program asks one by one: ``runner.Session`` puts them in, and gets their results from the store.

    ask ──> inbox ──looked up──> answered before ──────────────────> its result
                        └─────> open ──> request ──> saved ──> its result

Each ask is a row of a run, under its id or a hash of what it asks. There is no file of them, so such a run cannot be resumed; the
same program asks again, and what is answered costs nothing.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from typing import Any

import anyio
from msgspec import Struct, structs

from runner.admission import Reservation
from runner.config.endpoint import Endpoint
from runner.config.job import Job
from runner.engine.stop import Stop
from runner.errors import RunnerError, RunStoppedError, StoreError, UsageError
from runner.event_types import Summary
from runner.inputs import objects
from runner.inputs.keys import asks_the_same, base_key, fingerprint, whole
from runner.inputs.prompts import asked, make_item
from runner.interfaces import Client, Items, Provider
from runner.model import Entry, Item, Json, Outcome, Result, Row
from runner.providers.http import HttpExchange
from runner.row_events import RowEvent
from runner.session import backlog
from runner.session.audience import Audience
from runner.session.backlog import Backlog
from runner.session.opening import media_of, template_of
from runner.session.working import Working
from runner.settled import Settled
from runner.store.checkpoint import RunStore
from runner.store.results import ResultReader

_BATCH = 1_000
"""Asks that are looked up in the store at once."""


class _Asked(Struct, eq=False):
    """A row that was asked and has no result yet. callers: how many wait for it."""

    row: Row
    future: "asyncio.Future[Result]"
    callers: int = 0


class Asks(Working):
    """The rows of one session, as they are asked. accept_changes: an id may be asked again with another prompt."""

    def __init__(
        self, job: Job, endpoint: Endpoint, store: RunStore, stop: Stop, audience: Audience, *, accept_changes: bool
    ) -> None:
        super().__init__(job, endpoint, store, stop, audience)
        self._template, self._accepts = template_of(job), accept_changes
        self._media, texts = media_of(job), self._template.texts
        self._reader = ResultReader(store.path, store.run_id, lambda fields: asked(fields, texts))
        # what was asked and not looked up yet
        self._inbox: deque[str] = deque()
        self._more, self._idle = anyio.Event(), True
        self._open: dict[str, _Asked] = {}
        # keys of rows whose results lie in the store
        self._settled = Backlog()
        self._listeners: dict[str, list[Backlog]] = {}
        self._listens = lambda item: item.key in self._listeners
        # no more asks are wanted; none can be taken
        self._closed, self._full = False, False
        self._error: RunnerError | None = None
        self._line = 0
        # asks that were answered before
        self._known = 0

    # -- the side of the program

    async def ask(self, fields: Mapping[str, Any]) -> Result:
        """Return the result of a row, once it is saved. Raises UsageError, and what ended the session."""
        if self._error is not None:
            # one error for all asks would keep the frames of each
            raise copy(self._error)
        row = self._row(fields)
        key = base_key(row)[0]
        waiting = self._open.get(key)
        if waiting is None:
            if self._full:
                raise self._refusal()
            waiting = self._open[key] = _Asked(row, asyncio.get_running_loop().create_future())
            self._inbox.append(key)
            self._more.set()
        elif not asks_the_same(row, fingerprint(waiting.row)):
            raise _another(key)
        waiting.callers += 1
        try:
            return await asyncio.shield(waiting.future)
        finally:
            waiting.callers -= 1

    @contextmanager
    def heard(self, fields: Mapping[str, Any]) -> Iterator[Backlog]:
        """Yield what is told of a row while it is asked. Raises UsageError."""
        key, told = base_key(self._row(fields))[0], Backlog()
        self._listeners.setdefault(key, []).append(told)
        try:
            yield told
        finally:
            self._listeners[key].remove(told)
            if not self._listeners[key]:
                del self._listeners[key]

    def hear(self, event: RowEvent) -> None:
        """Pass a piece of an answer to those who listen."""
        for told in self._listeners.get(str(event.id), ()):
            told.hear(event)

    def close(self) -> None:
        """Let the session end when all that was asked has its result."""
        self._closed = True
        self._more.set()

    def _row(self, given: Mapping[str, Any]) -> Row:
        try:
            fields = objects.plain(given)
        except objects.UnfitError as error:
            raise objects.refusal(1, error) from error
        names = self._template.texts.names if self._template.texts is not None else None
        return Row(line=0, fields=fields, plain=not self._job.row_settings, asked=names, media=self._media, place="ask")

    # -- the side of the engine

    async def begin(self, notes: Sequence[str]) -> None:
        """Read what the run holds, and send the event Started. notes: what a person should know first, one sentence each."""
        self._before = before = await self._store.counts()
        self._line = await self._reader.last_line()
        await self._store.begin(rows=None, digest="")
        restored = before.done + before.failed + before.broken
        told = (*self._endpoint.notes, *notes, *([self._limits_note] if self._limits_note is not None else []))
        failed = before.failed + before.broken
        self._tell(
            self._meter.begin(self._store.run_id, str(self._job.input), restored, restored, failed, told, paid=before.paid)
        )

    def _items(self) -> Items:
        return self._unanswered()

    def _coming(self) -> bool:
        # the program may wait for an answer before it asks again
        return bool(self._inbox) or not self._idle

    async def _unanswered(self) -> AsyncGenerator[Item | Outcome, None]:
        while not (self._closed and not self._inbox):
            if not self._inbox:
                self._more, self._idle = anyio.Event(), True
                self._lanes.ledger.asks(True)
                await self._more.wait()
                self._lanes.ledger.asks(False)
                continue
            self._idle = False
            keys = [self._inbox.popleft() for _ in range(min(_BATCH, len(self._inbox)))]
            settled = await self._store.settled(keys)
            tried = await self._store.tried(keys) if self._accepts else {}
            for key in keys:
                candidate = self._candidate(key, settled.get(key), tried.get(key, 0))
                if candidate is not None:
                    yield candidate
        self._full = True

    def _candidate(self, key: str, stored: Settled | None, tried: int) -> Item | Outcome | None:
        """Return what is to be done for an ask; None if that is nothing. tried: number of its last failed attempt."""
        waiting = self._open[key]
        if not waiting.callers:
            # nothing was sent for it, and nobody waits for it any more
            del self._open[key]
            return None
        done = stored is not None and stored.status == "done"
        if done and asks_the_same(waiting.row, stored.fingerprint if stored is not None else None):
            self._known += 1
            self._settled.put(backlog.Settled(key))
            return None
        if done and not self._accepts:
            self._fail(key, _another(key))
            return None
        position = stored.position if stored is not None else None
        if position is None:
            self._line = position = self._line + 1
        made = make_item(structs.replace(waiting.row, line=position), key, self._template)
        if isinstance(made, Item) and stored is not None:
            return structs.replace(made, attempts_before=max(stored.attempts, tried), answered=done)
        return made

    async def run(self, provider: Provider, client: Client[HttpExchange]) -> None:
        """Run the engine until the session is closed or stops, and give each ask its result."""
        answering = asyncio.get_running_loop().create_task(self._answer())
        try:
            await super().run(provider, client)
        finally:
            self._settled.end()
            with anyio.CancelScope(shield=True):
                await answering

    async def _save(self, batch: list[Entry | Reservation]) -> None:
        await super()._save(batch)
        for entry in batch:
            if isinstance(entry, Outcome) and entry.kept:
                # the store keeps the answer to what was asked before, which is none to this
                self._resolve(entry.key, _failure(entry, asked(dict(entry.metadata), self._template.texts)))
            elif isinstance(entry, Outcome):
                self._settled.put(backlog.Settled(entry.key))

    async def _answer(self) -> None:
        """Read the results of what is settled, and give them to those who wait."""
        async with self._reader as reader:
            while keys := [key for key in await self._settled.take(_BATCH) if isinstance(key, str)]:
                try:
                    found = await reader.of(keys)
                except StoreError as error:
                    for key in keys:
                        self._fail(key, error)
                    continue
                for key in keys:
                    if key in found:
                        self._resolve(key, found[key])
                    else:
                        # its caller would wait for ever
                        self._fail(key, StoreError(f"the row {key!r} is not in the store any more: somebody has changed it"))

    def _resolve(self, key: str, result: Result) -> None:
        waiting = self._open.pop(key, None)
        if waiting is not None and not waiting.future.done():
            waiting.future.set_result(result)

    def _fail(self, key: str, error: RunnerError) -> None:
        waiting = self._open.pop(key, None)
        if waiting is not None and not waiting.future.done():
            waiting.future.set_exception(error)
            # whoever waited may be gone
            waiting.future.exception()

    # -- the end

    def end_with(self, error: RunnerError | None) -> None:
        """End all that is open, and what is asked later. error: what ended the session; None: a stop, or the program."""
        self._error = error or self._refusal()
        for key in list(self._open):
            self._fail(key, self._error)

    def _refusal(self) -> RunStoppedError:
        reason = self._stop.reason or "its block has been left"
        words = f"the session has ended ({reason}); what is answered is saved, so ask again in a new one"
        return RunStoppedError(words, code="cancelled")

    async def end(self) -> Summary:
        """Store how the session ended, and return its summary."""
        now = await self._store.counts()
        rows, left = now.done + now.failed + now.broken, len(self._open)
        await self._store.begin(rows=rows, digest="")
        reason = self._stop.reason if left else None
        await self._store.finish(complete=not left, stop_reason=reason)
        return self._summed(
            now,
            finished=not left,
            rows=rows,
            skipped=self._known,
            missing=0,
            changed=self._stats.kept,
            stop_reason=reason,
            left=left,
            stop_code=self._stop.error.code if self._stop.error is not None else None,
        )


def _another(key: str) -> UsageError:
    return UsageError(
        f"{key!r} has the answer to another prompt; ask under another id, or use Session(accept_changes=True) to replace it"
    )


def _failure(outcome: Outcome, asked: Json) -> Result:
    """Return the result of a row that failed and whose earlier answer is kept. asked: its prompt."""
    known = {
        "id": whole(outcome.metadata.get("id", outcome.key)),
        "metadata": {},
        "prompt": asked,
        "status": "failed",
        "error_code": outcome.error_code,
        "error": outcome.error,
        "attempts": outcome.attempts,
        "line": outcome.position,
        "answer_number": 1,
    }
    return Result(**{**dict.fromkeys(Result.__struct_fields__), **known})
