"""The routes of streamed prompts, on a real server in the event loop of a test."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import httpx
from anyio.from_thread import start_blocking_portal
from httpx_sse import aconnect_sse
from jsonschema import validate
from processes import HANG_S

from runner.web.ask_openapi import SCHEMAS
from runner.web.ask_routes import AskRoutes
from runner.web.asking import Asker
from runner.web.listening import listen
from runner.web.serve import serve

Events: TypeAlias = list[tuple[str, dict[str, Any]]]
T = TypeVar("T")


class Desk:
    """A server, and a client of it."""

    def __init__(self, asker: Asker, port: int, client: httpx.AsyncClient, url: str) -> None:
        self.asker, self.port, self.client, self.url = asker, port, client, url

    async def ask(self, seen: Callable[[str, dict[str, Any]], Any] = lambda *_: None, **body: Any) -> Events:
        """Ask, and return all events. seen: called with each; True ends the reading."""
        found: Events = []
        async with aconnect_sse(self.client, "POST", "/api/stream", json=body) as source:
            assert source.response.status_code == 200, await source.response.aread()
            assert source.response.headers["x-accel-buffering"] == "no"
            async for event in source.aiter_sse():
                data = event.json()
                validate(data, SCHEMAS[f"Ask{event.event.capitalize()}"])
                assert event.id == f"{data.get('id', event.id.rpartition('-')[0])}-{len(found) + 1}"
                found.append((event.event, data))
                if seen(event.event, data):
                    break
        return found


@asynccontextmanager
async def serving(
    store: Path, *, sndbuf: int | None = None, how: dict[str, Any] | None = None, **asker: Any
) -> AsyncIterator[Desk]:
    """Serve a store as ``runner web`` does, to a client with the token.

    how: arguments of ``AskRoutes``; further ones are those of ``Asker``. sndbuf: bytes that the system keeps of an answer.
    """
    found = listen("127.0.0.1", 0)
    if sndbuf is not None:
        found.end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, sndbuf)
    asks, end = Asker(store, **asker), asyncio.Event()

    async def until() -> None:
        await end.wait()

    task = asyncio.create_task(serve(store, found, until, asks=AskRoutes(asks, **(how or {}))))
    headers = {"Authorization": f"Bearer {found.token}"}
    try:
        async with httpx.AsyncClient(base_url=found.origin, timeout=HANG_S, headers=headers) as client:
            yield Desk(asks, found.port, client, found.url)
    finally:
        end.set()
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


@contextmanager
def in_thread(context: AbstractAsyncContextManager[T]) -> Iterator[T]:
    """Have something run in an event loop of a thread of its own, for a test that blocks."""
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(context) as found:
        yield found
