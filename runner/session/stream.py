"""Results and events of a run as they come: ``stream`` and ``events``, for ``async for``.

The session runs in a task of its own. What it announces goes through a ``Backlog``; the results come from the store, where they
lie before they are announced. Whoever leaves the loop stops the session.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, Self, TypeVar, Unpack

from runner.config.keywords import StreamSettings
from runner.event_types import RowFinished, StreamEvent
from runner.model import Result
from runner.session import arguments
from runner.session.asynchronous import leave, run_of
from runner.session.backlog import OnSlow
from runner.session.naming import DEFAULT_STORE
from runner.session.reading_along import Along
from runner.session.results import RunSummary
from runner.session.sources import Source
from runner.session.stopping import StopHandle

T = TypeVar("T")


def stream(
    source: Source,
    *,
    db: str | Path = DEFAULT_STORE,
    limit: int | None = None,
    new: bool = False,
    accept_changes: bool = False,
    stop: StopHandle | str | Sequence[str] | None = None,
    **settings: Unpack[StreamSettings],
) -> "Stream[Result]":
    """Run a source of prompts and yield the result of each row once it is saved, done or failed, in an ``async for``.

    The arguments and the errors are those of ``run``. Each row of the run comes once: first those that earlier sessions have
    finished (with ``accept_changes`` last), then the others as they are finished. A slow reader slows the run: no more than 1,000
    rows are begun whose results it has not taken. Leaving the loop stops the run as Ctrl-C does, and a later call continues it;
    ``async with`` around the loop waits for that. An error of the run comes behind the results.
    """
    given: dict[str, Any] = {**settings}
    handle = arguments.handle(stop, given) or StopHandle()
    prepare = run_of(source, db, limit, new=new, accept_changes=accept_changes, settings=given)
    return Stream(Along(prepare, handle, None), handle, _result, "results")


def events(
    source: Source,
    *,
    db: str | Path = DEFAULT_STORE,
    limit: int | None = None,
    new: bool = False,
    accept_changes: bool = False,
    on_slow: OnSlow = "wait",
    stop: StopHandle | str | Sequence[str] | None = None,
    **settings: Unpack[StreamSettings],
) -> "Stream[StreamEvent]":
    """Run a source of prompts and yield what happens, in an ``async for``. As ``stream``, with events in place of results.

    The events are classes of ``runner``: ``Started``, ``RowStarted``, ``FirstToken``, ``Token``, ``PartialValue`` (of an answer
    with a schema), ``AttemptFailed``, ``RowFinished`` with the result, ``Waiting``, ``Noted``, ``Progress``, ``Stopping``,
    ``Dropped`` and ``Finished``.
    on_slow: with "wait" a slow reader slows the run and misses nothing, although pieces of an answer may come joined. With "drop"
    pieces of answers are left out while 10,000 events wait, and ``Dropped`` counts them; results are never left out.
    """
    arguments.check(on_slow=on_slow)
    given: dict[str, Any] = {**settings}
    handle = arguments.handle(stop, given) or StopHandle()
    prepare = run_of(source, db, limit, new=new, accept_changes=accept_changes, settings=given)
    return Stream(Along(prepare, handle, on_slow), handle, _itself, "events")


def _result(event: StreamEvent) -> Result | None:
    return event.result if isinstance(event, RowFinished) else None


def _itself(event: StreamEvent) -> StreamEvent:
    return event


class Stream(AsyncIterator[T], Generic[T]):
    """What ``stream`` and ``events`` return: an async iterator, and a context manager that ends the run and waits for that."""

    def __init__(self, along: Along, handle: StopHandle, chosen: Callable[[StreamEvent], T | None], noun: str) -> None:
        """noun: what it yields, in the plural."""
        self._along, self._handle, self._noun = along, handle, noun
        self._walk = _chosen(along.events(), chosen)

    def __repr__(self) -> str:
        if self.summary is not None:
            state = str(self.summary)
        elif self._along.task is None:
            state = "not begun; async for begins it"
        else:
            state = "ended" if self._along.task.done() else "begun"
        return f"<Stream of {self._noun}: {state}>"

    @property
    def summary(self) -> RunSummary | None:
        """How the session ended; None before that, and if it ended with an error."""
        return self._along.summary

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        return await anext(self._walk)

    async def aclose(self) -> None:
        """Stop the run, unless it has ended, and wait for its end."""
        await self._walk.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.aclose()

    def __del__(self) -> None:
        """Stop the run of a loop that was left with ``break``: the next call must find it ending."""
        if self._along.task is not None:
            # its loop may be closed
            with suppress(RuntimeError):
                leave(self._along.task, self._handle)


async def _chosen(
    events: AsyncGenerator[StreamEvent, None], chosen: Callable[[StreamEvent], T | None]
) -> AsyncGenerator[T, None]:
    try:
        async for event in events:
            if (element := chosen(event)) is not None:
                yield element
    finally:
        await events.aclose()
