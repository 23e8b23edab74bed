"""The reader's side of a session: puts what is announced on a backlog, and makes events of what is taken from it.

results of earlier sessions -> events of this session, in their order -> broken rows that it has not looked at -> Finished
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from itertools import islice

from runner.errors import BAD_ROW
from runner.event_types import (
    AttemptFailed,
    Event,
    Finished,
    Progress,
    RowFinished,
    Saved,
    Started,
    StreamEvent,
    Summary,
    Waiting,
)
from runner.model import Attempt, Result, Run
from runner.origin import Files, files_in
from runner.session.asynchronous import Prepare, Ready, leave, start
from runner.session.backlog import Backlog, Element, OnSlow, Settled
from runner.session.opening import asked_in
from runner.session.prepare import in_thread
from runner.session.results import RunSummary, with_results
from runner.session.stopping import StopHandle, ended
from runner.several import number_of, row_of
from runner.store.reader import StoreReader
from runner.store.result_rows import located
from runner.store.results import ResultReader

_BATCH = 100
"""Elements that are taken from the backlog at once, and rows that are read from the store at once."""


class Along:
    """A session and its reader. on_slow: see ``Backlog``; None: the reader wants the results alone.

    task: the session, once it has begun. summary: how it ended.
    """

    def __init__(self, prepare: Prepare, handle: StopHandle, on_slow: OnSlow | None) -> None:
        self._prepare, self._handle = prepare, handle
        self._all = on_slow is not None
        self._backlog = Backlog(on_slow or "wait")
        self.task: asyncio.Task[Summary] | None = None
        self.summary: RunSummary | None = None
        self._ready: Ready | None = None
        # hashes of the keys of this session's rows that are left out of the earlier ones: broken, or all with accept_changes
        self._again: set[int] = set()
        self._blocked: dict[str, str] = {}
        self._last_line = 0
        self._files: Files | None = None
        # wanted of each row
        self._answers = 1

    async def events(self) -> AsyncGenerator[StreamEvent, None]:
        """Begin the session, yield its events, and end it. Raises what it raises."""
        backlog, handle = self._backlog, self._handle
        task = self.task = start(self._prepared, handle, self._observe, backlog.hear if self._all else None, backlog)
        task.add_done_callback(lambda _: backlog.end())
        try:
            async with aclosing(self._events()) as events:
                async for event in events:
                    yield event
            self.summary = self._with_results(await ended(task, handle))
            yield Finished(summary=self.summary)
        finally:
            backlog.leave()
            if not task.done():
                leave(task, handle)
                # whoever leaves gets no more errors
                with suppress(Exception):
                    self.summary = self._with_results(await ended(task, handle))

    def _with_results(self, summary: Summary) -> RunSummary:
        assert self._ready is not None
        return with_results(summary, self._ready.store)

    @asynccontextmanager
    async def _prepared(self) -> AsyncIterator[Ready]:
        async with self._prepare() as self._ready:
            yield self._ready

    def _observe(self, event: Event) -> None:
        """Put an event on the backlog."""
        if isinstance(event, Saved):
            if self._all:
                for attempt in event.attempts:
                    self._backlog.put(_failed(attempt))
            for outcome in event.outcomes:
                if outcome.error_code == BAD_ROW or self._accepts:
                    self._again.add(hash(outcome.key))
                self._backlog.put(Settled(outcome.key))
        elif isinstance(event, Started) or (self._all and not isinstance(event, Finished)):
            self._backlog.put(event)

    @property
    def _accepts(self) -> bool:
        return self._ready is not None and self._ready.options.accept_changes

    async def _events(self) -> AsyncGenerator[StreamEvent, None]:
        first = await self._backlog.take(1)
        if not first or self._ready is None:
            # it could not begin
            return
        started, store = first[0], self._ready.store
        assert isinstance(started, Started)
        yield started
        run = await in_thread(lambda: _run(self._ready, started.run))
        asked, self._files, self._answers = asked_in(run.settings), files_in(run.settings), run.answers
        async with ResultReader(store, run.id, asked) as reader:
            upto = await reader.newest()
            self._backlog.begin()
            if not self._accepts:
                async for event in self._earlier(reader, upto, started):
                    yield event
            while elements := await self._backlog.take(_BATCH):
                async for event in self._made(elements, reader):
                    yield event
            if self._accepts:
                async for event in self._earlier(reader, upto, started):
                    yield event
            async for event in self._pages(reader, upto, broken=True):
                yield event

    async def _earlier(self, reader: ResultReader, upto: int, started: Started) -> AsyncIterator[StreamEvent]:
        """Yield the rows that earlier sessions have finished, apart from broken ones."""
        assert self._ready is not None
        limit = self._ready.options.limit
        if limit is None:
            async for event in self._pages(reader, upto, broken=False):
                yield event
            return
        numbers = iter(await reader.first(upto, min(limit * self._answers, started.restored)))
        while some := list(islice(numbers, _BATCH)):
            for event in self._as_earlier(await reader.numbered(some)):
                yield event

    async def _pages(self, reader: ResultReader, upto: int, *, broken: bool) -> AsyncIterator[StreamEvent]:
        at = 0
        while at < upto:
            at, found = await reader.page(at, upto, _BATCH, broken=broken)
            for event in self._as_earlier(found):
                yield event

    def _as_earlier(self, found: Sequence[tuple[str, Result]]) -> list[StreamEvent]:
        limited = self._ready is not None and self._ready.options.limit is not None
        events: list[StreamEvent] = []
        for key, result in found:
            beyond = limited and result.error_code == BAD_ROW and result.line > self._last_line
            if hash(key) not in self._again and not beyond:
                self._last_line = max(self._last_line, result.line)
                events.append(RowFinished(result=located(result, self._files), earlier=True))
        return events

    async def _made(self, elements: Sequence[Element], reader: ResultReader) -> AsyncIterator[StreamEvent]:
        """Yield the events of what was taken."""
        keys = [element for element in elements if isinstance(element, Settled)]
        found = await reader.of(keys) if keys else {}
        for element in elements:
            if isinstance(element, Settled):
                self._backlog.taken(1)
                if (result := found.get(element)) is not None:
                    self._last_line = max(self._last_line, result.line)
                    yield RowFinished(result=located(result, self._files))
                continue
            if isinstance(element, Progress):
                for event in self._waits(element):
                    yield event
            yield element

    def _waits(self, progress: Progress) -> list[Waiting]:
        """Return what has changed about the lanes that send nothing."""
        before, self._blocked = self._blocked, progress.pace.blocked
        now = self._blocked
        # the words change with each second of the wait
        begun = [Waiting(model=model, reason=reason) for model, reason in now.items() if model not in before]
        return begun + [Waiting(model=model, reason=None) for model in before.keys() - now.keys()]


def _failed(attempt: Attempt) -> AttemptFailed:
    return AttemptFailed(
        id=row_of(attempt.key),
        attempt=attempt.number,
        error_code=attempt.error_code,
        error=attempt.error,
        answer_number=number_of(attempt.key),
    )


def _run(ready: Ready | None, number: int) -> Run:
    assert ready is not None
    with StoreReader(ready.store) as reader:
        return reader.run(number, counted=False)
