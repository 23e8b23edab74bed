"""A client whose exchanges are made by a worker at the other end of a real socket pair, in the same event loop."""

import asyncio
import socket
from collections.abc import Sequence
from contextlib import suppress
from typing import Self

from runner.engine.stop import Stop
from runner.entries import LateUsage
from runner.frames import join
from runner.interfaces import Decoder, Heard
from runner.model import HttpCall
from runner.providers.http import Caps, Timeouts
from runner.workers import process
from runner.workers.client import RemoteClient
from runner.workers.crew import Crew
from runner.workers.member import Member
from runner.workers.protocol import Setup
from runner.workers.trial import Refuse, RemoteExchange
from runner.workers.work import Work

KEY = "a-test-key"
"""The key of ``asking.provider``."""


async def booked(_: Sequence[LateUsage]) -> None:
    """Write nothing down: there is no store."""


class OneWorker:
    """What ``HttpClient`` is to a test, with a worker behind it. dialect: that of the answers."""

    def __init__(self, timeouts: Timeouts, caps: Caps | None = None, *, dialect: str = "openai") -> None:
        self._timeouts, self._caps, self._dialect = timeouts, caps, dialect
        self._told: list[str] = []

    async def __aenter__(self) -> Self:
        setup = Setup(self._dialect, ("http://127.0.0.1",), {}, self._timeouts, self._timeouts, direct=True)
        crew = Crew(Work(setup, {"TEST_KEY": KEY}), 0, self._told.append, Stop(), booked, invites=True)
        self._client = await RemoteClient(crew).__aenter__()
        here, there = socket.socketpair()
        self._worker = process.Worker({"TEST_KEY": KEY}, None, "")
        await join(self._worker.link, there)
        self._working = asyncio.get_running_loop().create_task(self._worker.work())
        self.member = Member(1, "worker 1", crew.work, crew)
        await join(self.member.link, here)
        crew.add(self.member)
        await self._client._crew.freed()
        if self._caps is not None and self._worker.ends is not None:
            self._worker.ends.first.client._caps = self._caps
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.__aexit__(None, None, None)
        with suppress(asyncio.CancelledError):
            await self._working

    def exchange(self, *, fresh: bool = False, heard: Heard | None = None, fallback: bool = False) -> RemoteExchange:
        return self._client.exchange(fresh=fresh, heard=heard, fallback=fallback)

    async def stream(self, call: HttpCall, decoder: Decoder, exchange: RemoteExchange, refuse: Refuse) -> None:
        await self._client.stream(call, decoder, exchange, refuse)
