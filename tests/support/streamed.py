"""The routes of streamed prompts, on a real server in the event loop of a test."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from httpx_sse import aconnect_sse
from processes import HANG_S
from starlette.applications import Starlette
from starlette.routing import BaseRoute

from runner.web.ask_routes import AskRoutes
from runner.web.asking import Asker

Events = list[tuple[str, dict[str, Any]]]


class Desk:
    """A server, and a client of it."""

    def __init__(self, asker: Asker, port: int, client: httpx.AsyncClient) -> None:
        self.asker, self.port, self.client = asker, port, client

    async def ask(self, seen: Callable[[str, dict[str, Any]], Any] = lambda *_: None, **body: Any) -> Events:
        """Ask, and return all events. seen: called with each; True ends the reading."""
        found: Events = []
        async with aconnect_sse(self.client, "POST", "/api/stream", json=body) as source:
            assert source.response.status_code == 200, await source.response.aread()
            assert source.response.headers["x-accel-buffering"] == "no"
            async for event in source.aiter_sse():
                data = event.json()
                assert event.id == f"{data.get('id', event.id.rpartition('-')[0])}-{len(found) + 1}"
                found.append((event.event, data))
                if seen(event.event, data):
                    break
        return found


@asynccontextmanager
async def serving(
    store: Path, *, routes: Sequence[BaseRoute] = (), sndbuf: int | None = None, how: dict[str, Any] | None = None, **asker: Any
) -> AsyncIterator[Desk]:
    """Serve the routes. how: arguments of ``AskRoutes``; further ones are those of ``Asker``. sndbuf: bytes that the system keeps."""
    listener = socket.socket()
    if sndbuf is not None:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, sndbuf)
    listener.bind(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    asks = Asker(store, **asker)
    app = Starlette(routes=[*AskRoutes(asks, **(how or {})).routes, *routes])
    server = uvicorn.Server(uvicorn.Config(app, log_level="critical", lifespan="off", timeout_graceful_shutdown=1))
    task = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        async with asyncio.timeout(HANG_S):
            while not server.started:  # noqa: ASYNC110 - it sets no event
                await asyncio.sleep(0.01)
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=HANG_S) as client:
                yield Desk(asks, port, client)
            await asks.aclose()
    finally:
        server.should_exit = True
        with suppress(asyncio.CancelledError):
            await task


def text_of(events: Events, kind: str = "text") -> str:
    """Return what the pieces say, by the place at which each begins."""
    text = ""
    for name, data in events:
        if name == "token" and data["kind"] == kind:
            assert data["at"] <= len(text), "a piece is missing"
            text = text[: data["at"]] + data["text"]
    return text


async def until(condition: Callable[[], Any]) -> None:
    """Wait until something is so."""
    async with asyncio.timeout(HANG_S):
        while not condition():  # noqa: ASYNC110 - what is waited for sets no event
            await asyncio.sleep(0.01)
