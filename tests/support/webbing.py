"""The server of the page in this process, over real sockets, and sessions whose frames a test makes."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx

from runner.control.messages import Feed, Hello, Reply, Request
from runner.control.place import listen as listen_beside
from runner.control.server import ControlServer
from runner.session.feed_ring import Ring
from runner.web.app import make_hub
from runner.web.hub import Hub
from runner.web.listening import listen
from runner.web.serve import serve

GUARD_S = 60.0
TOKEN = "t" * 43
JSON = {"Content-Type": "application/json"}
BEARER = {"Authorization": f"Bearer {TOKEN}"}


class Page(NamedTuple):
    """A server. url: its address, without the token. hub: what it knows, which belongs to its thread."""

    url: str
    port: int
    hub: Hub

    def client(self, **headers: str) -> httpx.Client:
        """Return a client with the token, or with these headers alone."""
        return httpx.Client(base_url=self.url, headers=headers or BEARER, timeout=GUARD_S)


@contextmanager
def served(store: Path, host: str = "127.0.0.1") -> Iterator[Page]:
    """Serve a store in a thread of its own."""
    listening = listen(host, 0, TOKEN)
    begun: list[tuple[asyncio.AbstractEventLoop, asyncio.Event, Hub]] = []
    there = threading.Event()

    async def main() -> None:
        end, hub = asyncio.Event(), make_hub(store)
        begun.append((asyncio.get_running_loop(), end, hub))
        there.set()
        await serve(store, listening, _until(end), hub)

    thread = threading.Thread(target=lambda: asyncio.run(main()))
    thread.start()
    assert there.wait(GUARD_S)
    ((loop, end, hub),) = begun
    try:
        yield Page(listening.origin, listening.port, hub)
    finally:
        loop.call_soon_threadsafe(end.set)
        thread.join(GUARD_S)
        assert not thread.is_alive(), "the server has not ended"


def _until(end: asyncio.Event) -> Callable[[], Awaitable[None]]:
    async def until() -> None:
        await end.wait()

    return until


@asynccontextmanager
async def served_here(store: Path, port: int = 0) -> AsyncIterator[Page]:
    """Serve a store in this event loop."""
    listening, end, hub = listen("127.0.0.1", port, TOKEN), asyncio.Event(), make_hub(store)
    task = asyncio.create_task(serve(store, listening, _until(end), hub))
    try:
        yield Page(listening.origin, listening.port, hub)
    finally:
        end.set()
        async with asyncio.timeout(GUARD_S):
            await task


async def until(is_so: Callable[[], bool]) -> None:
    """Return when something is so."""
    while not is_so():  # noqa: ASYNC110 - what is looked at tells nobody
        await asyncio.sleep(0.005)


class Told:
    """The feed of a session whose frames a test makes."""

    def __init__(self, run: int, session: int = 1) -> None:
        self.run, self.session = run, session
        self.ring = Ring()
        self.watchers: list[Callable[[Feed], bool]] = []
        self.subscribed = 0

    @property
    def newest(self) -> int:
        return self.ring.newest

    def subscribe(self, after: int | None, texts: bool, put: Callable[[Feed], bool]) -> Callable[[], None]:
        self.subscribed += 1
        missed = self.ring.since(after, texts=texts) if after is not None else None
        state = {"run": self.run, "session": self.session, "answers": [], "upto": self.newest}
        for frame in missed if missed is not None else [Feed(number=self.newest, kind="state", data=json.dumps(state).encode())]:
            put(frame)
        self.watchers.append(put)
        return lambda: self.watchers.remove(put) if put in self.watchers else None

    def tell(self, kind: str = "note", **data: Any) -> None:
        frame = self.ring.add(kind, json.dumps(data or {"note": str(self.newest + 1)}).encode())
        for put in [*self.watchers]:
            put(frame)

    def close(self) -> None:
        self.watchers.clear()


@asynccontextmanager
async def session_of(store: Path, run: int, session: int = 1, replies: Mapping[str, Reply] | None = None) -> AsyncIterator[Told]:
    """Be the session of a run: a socket beside its store, with a feed that a test tells."""
    feed, asked = Told(run, session), replies or {}
    feed.asked = []  # type: ignore[attr-defined]

    async def answer(request: Request, by: str) -> Reply:
        feed.asked.append((request, by))  # type: ignore[attr-defined]
        return asked.get(type(request).__name__, Reply(number=0, done=f"{type(request).__name__} by {by}"))

    server = ControlServer(listen_beside(store, run), Hello(run=run, session=session, pid=1), answer, feed)
    server.begin()
    try:
        yield feed
    finally:
        await server.aclose()


class Event(NamedTuple):
    """A server-sent event."""

    id: str
    kind: str
    data: Any


async def events(page: Page, path: str = "/api/events", last: str | None = None) -> AsyncIterator[Event]:
    """Yield the events of a stream, with the id that a browser would send after each."""
    headers = BEARER if last is None else {**BEARER, "Last-Event-ID": last}
    async with (
        httpx.AsyncClient(base_url=page.url, headers=headers, timeout=GUARD_S) as client,
        client.stream("GET", path) as answer,
    ):
        assert answer.status_code == 200, await answer.aread()
        seen, kind, data = last or "", "", ""
        async for line in answer.aiter_lines():
            name, _, value = line.partition(": ")
            if name == "id":
                seen = value
            elif name == "event":
                kind = value
            elif name == "data":
                data = value
            elif line == "" and kind:
                yield Event(seen, kind, json.loads(data))
                kind = data = ""
