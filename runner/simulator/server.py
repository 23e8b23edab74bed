"""The simulator's HTTP server. It listens on 127.0.0.1 only, and releases everything when it is closed.

Its behaviour can be changed while it runs: the limits, an outage, and a closed port.
"""

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Self

from aiohttp import web
from msgspec import UNSET, UnsetType

from runner.errors import UsageError
from runner.simulator.aiohttp_internals import connection_task
from runner.simulator.behaviour import Behaviour
from runner.simulator.faults import OUTAGES
from runner.simulator.invoice import Statement
from runner.simulator.service import MAX_BODY, Service
from runner.simulator.stats import Stats

HOST = "127.0.0.1"
_PATHS = {"openai": "/v1", "anthropic": ""}
# A benchmark opens a thousand connections at once; with a full backlog each late one would wait a second.
_BACKLOG = 4096
# All connections are aborted before this time starts to run; it covers a request that arrives in between.
_CLOSING_S = 0.5


class Simulator:
    """A simulated provider that runs as long as its ``async with`` block. port: 0 takes a free one."""

    def __init__(self, behaviour: Behaviour, port: int = 0) -> None:
        if not 0 <= port <= 65535:
            raise UsageError(f"the simulator's port must be from 0 to 65535, not {port}")
        self._wanted = port
        self._port: int | None = None
        self._service = Service(behaviour)
        self._runner: web.AppRunner | None = None
        # None while the port is closed.
        self._site: web.TCPSite | None = None
        # Bound to the port, without listening, while the port is closed, so that no other program can take it.
        self._held: socket.socket | None = None
        self._connections: dict[asyncio.Task[None], asyncio.Transport] = {}

    @property
    def port(self) -> int:
        """The port of the server. Known once the block has been entered."""
        if self._port is None:
            raise RuntimeError("the simulator has not been started")
        return self._port

    @property
    def url(self) -> str:
        """The URL of the server, without a path."""
        return f"http://{HOST}:{self.port}"

    def base_url(self, provider: str) -> str:
        """Return the base URL for a provider's client: with ``/v1`` for openai, without it for anthropic."""
        if provider not in _PATHS:
            raise UsageError(f"the simulator speaks {' and '.join(_PATHS)}, not {provider!r}")
        return self.url + _PATHS[provider]

    def stats(self) -> Stats:
        """Return the counts so far; they can still be read after the block has ended."""
        return self._service.stats()

    def invoice(self, *, lines: bool = False) -> Statement:
        """Return what has been billed so far, also after the block has ended; lines: request by request, the last 100,000."""
        return self._service.invoice(lines=lines)

    def limit(
        self,
        *,
        rpm: int | UnsetType | None = UNSET,
        tpm: int | UnsetType | None = UNSET,
        max_in_flight: int | UnsetType | None = UNSET,
    ) -> None:
        """Change the given limits from now on; None removes a limit. Answers in flight continue."""
        changes = {"rpm": rpm, "tpm": tpm, "max_in_flight": max_in_flight}
        self._service.limit({name: value for name, value in changes.items() if not isinstance(value, UnsetType)})

    def outage(self, status: int | None) -> None:
        """Refuse every request with a status (429, 500, 503, 529) from now on; None ends this. Answers in flight continue."""
        if status is not None and status not in OUTAGES:
            raise UsageError(f"the status of an outage must be one of {', '.join(map(str, OUTAGES))}, not {status}")
        self._service.outage = status

    async def close_port(self) -> None:
        """Abort every connection, including answers in flight, and refuse new connections until ``open_port``."""
        site, self._site = self._site, None
        if site is None:
            raise RuntimeError("the simulator's port is already closed")
        await site.stop()
        self._held = socket.socket()
        self._held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._held.bind((HOST, self.port))
        self._abort()

    async def open_port(self) -> None:
        """Listen again on the same port."""
        if self._runner is None or self._site is not None:
            raise RuntimeError("the simulator is not running" if self._runner is None else "the simulator's port is already open")
        self._release_port()
        await self._listen(self._runner, self.port)

    async def __aenter__(self) -> Self:
        if self._runner is not None:
            raise RuntimeError("the simulator is already running")
        app = web.Application(client_max_size=MAX_BODY)
        app.router.add_route("*", r"/{path:[\s\S]*}", self._handle)
        app.on_shutdown.append(self._cut)
        # Cancelling the handler ends a stalled stream when its client disconnects.
        self._runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=_CLOSING_S)
        await self._runner.setup()
        try:
            await self._listen(self._runner, self._wanted)
        except UsageError:
            await self._close()
            raise
        self._port = self._runner.addresses[0][1]
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        closing = asyncio.ensure_future(self._close())
        cancelled: asyncio.CancelledError | None = None
        # A cancelled caller must wait too, or the socket would outlive the block. anyio repeats the cancellation in every cycle.
        while not closing.done():
            try:
                await asyncio.wait({closing})
            except asyncio.CancelledError as error:
                cancelled = error
        closing.result()
        if cancelled is not None:
            raise cancelled

    async def _listen(self, runner: web.AppRunner, port: int) -> None:
        site = self._site = web.TCPSite(runner, HOST, port, backlog=_BACKLOG)
        try:
            await site.start()
        except OSError as error:
            self._site = None
            await site.stop()
            reason = os.strerror(error.errno) if error.errno else str(error)
            raise UsageError(f"the simulator cannot listen on {HOST}:{port}: {reason}") from None

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        task = connection_task(request)
        if task not in self._connections and request.transport is not None:
            self._connections[task] = request.transport
            task.add_done_callback(self._connections.pop)
        if self._site is None and request.transport is not None:
            # The client connected before the port was closed, and sends its request only now.
            request.transport.abort()
            return web.Response(status=503)
        return await self._service.answer(request)

    async def _cut(self, _app: web.Application) -> None:
        self._abort()

    def _abort(self) -> None:
        for transport in self._connections.values():
            transport.abort()

    def _release_port(self) -> None:
        held, self._held = self._held, None
        if held is not None:
            held.close()

    async def _close(self) -> None:
        self._release_port()
        runner, self._runner, self._site = self._runner, None, None
        if runner is None:
            return
        await runner.cleanup()
        # aiohttp cancels its tasks but does not wait for them; an event loop that ended now would log errors.
        if self._connections:
            await asyncio.wait(set(self._connections))
        await self._service.close()
        await asyncio.sleep(0)


@asynccontextmanager
async def serve(provider: str) -> AsyncIterator[str]:
    """Run a simulator with the default behaviour, and yield the base URL for a provider's client."""
    async with Simulator(Behaviour()) as simulator:
        yield simulator.base_url(provider)
