"""Serves the page of one store, until it is asked to stop or until the run that has started it is gone."""

import asyncio
import gc
import os
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import anyio
import uvicorn

from runner.web.access import access
from runner.web.app import make_app, make_hub
from runner.web.ask_routes import AskRoutes
from runner.web.asking import Asker
from runner.web.hub import Hub
from runner.web.listening import Listening
from runner.web.uvicorn_internals import MOST_HEAD, LimitedProtocol, Server

_IDLE_S = 30
"""Seconds for which a connection is kept that asks for nothing."""
_END_S = 2
"""Seconds in which answers that are under way must have ended when the server ends."""
_LAST_WORDS_S = 0.3
_NICE = 5
_FILES = 4_096


async def serve(
    store: Path,
    listening: Listening,
    until: Callable[[], Awaitable[None]],
    hub: Hub | None = None,
    asks: AskRoutes | None = None,
) -> None:
    """Serve at a socket that listens, which is closed at the end.

    until: returns when it is time to end. asks: what asks prompts; None: with the settings of the store's runs.
    """
    hub, asks = make_hub(store) if hub is None else hub, asks or AskRoutes(Asker(store))
    app = make_app(store, access(listening.token, listening.host, listening.port), hub, asks)
    config = uvicorn.Config(
        app,
        http=LimitedProtocol,
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="critical",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=_IDLE_S,
        timeout_graceful_shutdown=_END_S,
        h11_max_incomplete_event_size=MOST_HEAD,
    )
    server = Server(config)
    ending = asyncio.create_task(_end(server, hub, asks.asker, until))
    try:
        await server.serve(sockets=[listening.end])
    finally:
        ending.cancel()
        with suppress(asyncio.CancelledError):
            await ending
        await asks.asker.aclose()
        await hub.aclose()


async def _end(server: Server, hub: Hub, asker: Asker, until: Callable[[], Awaitable[None]]) -> None:
    await until()
    # streams are answers that do not end by themselves
    asker.end()
    await hub.aclose()
    server.should_exit = True


def lower() -> None:
    """Let runs go first where the processor is scarce, and allow as many open files as there may be viewers.

    What was imported stays to the end: where garbage is looked for, it is left out: that
    takes a few ms in place of a tenth of a second.
    """
    gc.freeze()
    with suppress(OSError, AttributeError):
        os.nice(_NICE)
    with suppress(ImportError, ValueError, OSError):
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        most = _FILES if hard == resource.RLIM_INFINITY else min(_FILES, hard)
        if soft != resource.RLIM_INFINITY and soft < most:
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


async def gone(end: int) -> None:
    """Return when the other side of a tie is closed: the process that held it has ended, however it did."""
    while True:
        await anyio.wait_readable(end)
        if not os.read(end, 4096):
            # what its session has said last is on its way to those who look on
            await asyncio.sleep(_LAST_WORDS_S)
            return
