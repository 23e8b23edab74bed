"""The client of a driver: gives every request to a worker, and waits for what comes of it."""

from collections.abc import Sequence
from types import TracebackType
from typing import Self

import anyio

from runner.interfaces import Decoder, Heard
from runner.model import HttpCall
from runner.pace import WorkerCounts
from runner.workers.crew import Crew
from runner.workers.hosting import Hosting
from runner.workers.trial import Refuse, RemoteExchange, Trial

LAST_S = 7.0
"""Seconds that a request which is cancelled has to tell what has come of it: the tail of a complete answer takes up to five."""


class RemoteClient:
    """A client whose exchanges are made by workers. An asynchronous context manager.

    hosting: lets workers of other machines join; None: there are local ones alone.
    """

    def __init__(self, crew: Crew, hosting: Hosting | None = None) -> None:
        self._crew, self._hosting = crew, hosting

    async def __aenter__(self) -> Self:
        try:
            await self._crew.begin()
            if self._hosting is not None:
                await self._hosting.begin()
        except BaseException:
            await self.__aexit__(None, None, None)
            raise
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with anyio.CancelScope(shield=True):
            await self._crew.end()
            if self._hosting is not None:
                await self._hosting.end()

    def reach(self, base_urls: Sequence[str]) -> None:
        """Send to several endpoints. base_urls: by the number of the endpoint; there may be more later."""
        self._crew.work.base_urls = base_urls

    def tell_texts(self, *, wanted: bool) -> None:
        """Have the workers tell what open answers say, or no longer: with the next sign of life, so within a second."""
        self._crew.work.texts = wanted

    @property
    def senders(self) -> Crew:
        """Who sends the requests: none is to have a permit while they cannot."""
        return self._crew

    @property
    def missing(self) -> str | None:
        """Why no request goes out, if no worker is at work, a phrase."""
        if self._crew.counts.live:
            return None
        how = self._hosting.command if self._hosting is not None else None
        return f"waiting for workers: {how}" if how is not None else "waiting for workers"

    @property
    def workers(self) -> WorkerCounts:
        """How many workers there are, by state."""
        return self._crew.counts

    def exchange(self, *, fresh: bool = False, heard: Heard | None = None, fallback: bool = False) -> RemoteExchange:
        """Return the record for one exchange."""
        return RemoteExchange(fresh=fresh, heard=heard, fallback=fallback)

    async def stream(self, call: HttpCall, decoder: Decoder, exchange: RemoteExchange, refuse: Refuse) -> None:
        """Have a worker send the call, and put its answer into the decoder. Raises AttemptError, also if no worker is left."""
        trial = Trial(call, decoder, exchange)
        worker = self._crew.free() or await self._crew.freed()
        worker.give(trial)
        try:
            await trial.over()
        except anyio.get_cancelled_exc_class():
            worker.cancel(trial)
            with anyio.CancelScope(shield=True, deadline=anyio.current_time() + LAST_S):
                await trial.over()
            worker.forget(trial)
            # a complete answer has been paid for
            if not trial.whole:
                raise
        trial.result(refuse)
