"""An HTTP server whose bytes, pauses and kind of close a test determines. It shares no code with ``runner``.

A script is a sequence of steps: bytes are sent, a number is a pause in seconds, an event is waited for, a ``Tunnel`` joins the
connection to another one, and an ``End`` says what happens to the connection.
"""

import asyncio
import json
import os
import socket
import ssl
import struct
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Self, TypeAlias

from anyio.from_thread import start_blocking_portal


class End(Enum):
    """What happens to a connection after the bytes. A script without an end keeps it open for the next request."""

    FIN = "close it in good order"
    RST = "reset it"
    HANG = "say nothing more, and wait until the client goes away"


FIN, RST, HANG = End.FIN, End.RST, End.HANG


@dataclass(frozen=True)
class Tunnel:
    """What a proxy does after its answer to a CONNECT: it forwards bytes in both directions until one side closes."""

    port: int


Step: TypeAlias = bytes | float | asyncio.Event | Tunnel | End


@dataclass(frozen=True)
class Reply:
    """The reply to one request."""

    steps: tuple[Step, ...]


@dataclass
class Received:
    """One request as it was received. Numbers count from 1."""

    number: int
    connection: int
    # which one on its connection
    turn: int
    method: str
    path: str
    headers: dict[str, str]
    body: bytes = b""
    # when its head had come, and when its reply was over, by the monotonic clock
    at: float = field(default_factory=time.monotonic)
    over: float | None = None
    # every step of the reply was done, as far as a server can tell
    played: bool = False

    @property
    def json(self) -> Any:
        return json.loads(self.body)


Answers: TypeAlias = Reply | Sequence[Reply] | Callable[[Received], Reply]


@dataclass
class RawServer:
    """An async context manager, listening on a loopback port: a free one if none is given.

    answers: one reply for all, one per request number (the last one is for all that follow), or a function.
    greeting: steps for a connection before anything is read, by its number. early: reply before the body of a request is read.
    """

    answers: Answers
    tls: ssl.SSLContext | None = None
    greeting: Callable[[int], Sequence[Step]] = lambda _: ()
    early: bool = False
    # in the order of their heads
    requests: list[Received] = field(default_factory=list)
    # connections opened by clients so far
    connections: int = 0
    port: int = 0
    # requests whose heads have come and whose replies have not ended
    in_flight: int = 0
    _open: set[asyncio.Task[None]] = field(default_factory=set)
    _errors: list[BaseException] = field(default_factory=list)

    @property
    def origin(self) -> str:
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}"

    @property
    def open(self) -> int:
        """Number of connections that are not closed."""
        return len(self._open)

    @property
    def base_url(self) -> str:
        """The base URL as the OpenAI dialect expects it; the Anthropic dialect accepts it too."""
        return f"{self.origin}/v1"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port, ssl=self.tls, limit=1 << 24, backlog=1024)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)
        await self._server.wait_closed()
        if self._errors:
            # the function of the test itself is broken
            raise self._errors[0]

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.get_running_loop().create_task(self._serve(self.connections, reader, writer))
        self._open.add(task)
        task.add_done_callback(self._closed)

    def _closed(self, task: asyncio.Task[None]) -> None:
        self._open.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._errors.append(error)

    async def _serve(self, connection: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            # the client may disconnect at any point
            with suppress(OSError, ssl.SSLError, asyncio.IncompleteReadError):
                turn, going = 0, await self._play(self.greeting(connection), reader, writer)
                while going:
                    turn += 1
                    going = await self._exchange(connection, turn, reader, writer)
        finally:
            writer.close()
            with suppress(OSError, ssl.SSLError):
                await writer.wait_closed()

    async def _exchange(self, connection: int, turn: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = await reader.readuntil(b"\r\n\r\n")
        request = _request(head, len(self.requests) + 1, connection, turn)
        self.requests.append(request)
        length = int(request.headers.get("content-length", "0"))
        self.in_flight += 1
        try:
            if not self.early:
                request.body = await reader.readexactly(length)
            going = await self._play(self._reply(request).steps, reader, writer)
            request.played = True
            if self.early and going:
                request.body = await reader.readexactly(length)
            return going
        finally:
            self.in_flight -= 1
            request.over = time.monotonic()

    def _reply(self, request: Received) -> Reply:
        if isinstance(self.answers, Reply):
            return self.answers
        if callable(self.answers):
            return self.answers(request)
        return self.answers[min(request.number, len(self.answers)) - 1]

    async def _play(self, steps: Sequence[Step], reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Do the steps. Return False if the connection has ended."""
        for step in steps:
            match step:
                case bytes():
                    writer.write(step)
                    await writer.drain()
                case End.FIN:
                    return False
                case End.RST:
                    _reset(writer)
                    return False
                case End.HANG:
                    while await reader.read(1 << 16):
                        pass
                    return False
                case asyncio.Event():
                    await step.wait()
                case Tunnel():
                    await _tunnel(step.port, reader, writer)
                    return False
                case _:
                    await asyncio.sleep(step)
        return True


def _request(head: bytes, number: int, connection: int, turn: int) -> Received:
    first, *lines = head.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
    method, path, _ = first.split(" ")
    pairs = (line.partition(":") for line in lines)
    headers = {name.lower(): value.strip() for name, _, value in pairs}
    return Received(number=number, connection=connection, turn=turn, method=method, path=path, headers=headers)


async def _tunnel(port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)
    ways = [asyncio.ensure_future(_pump(reader, far_writer)), asyncio.ensure_future(_pump(far_reader, writer))]
    try:
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for way in ways:
            way.cancel()
        far_writer.close()


async def _pump(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await source.read(1 << 16):
            target.write(data)
            await target.drain()


def _reset(writer: asyncio.StreamWriter) -> None:
    # a duplicate of the descriptor, because the socket object of an event loop does not promise setsockopt
    with socket.socket(fileno=os.dup(writer.get_extra_info("socket").fileno())) as twin:
        twin.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


@asynccontextmanager
async def deaf(host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[int]:
    """Listen without ever accepting, with a full queue, so that a client's connect hangs. Yields the port."""
    with socket.socket() as listener:
        listener.bind((host, port))
        listener.listen(0)
        port = listener.getsockname()[1]
        fillers = [socket.socket() for _ in range(4)]
        try:
            for filler in fillers:
                filler.setblocking(False)
                filler.connect_ex((host, port))
            await asyncio.sleep(0.05)
            yield port
        finally:
            for filler in fillers:
                filler.close()


def free_port() -> int:
    """Return a port on which no process listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def in_thread(server: RawServer) -> Iterator[RawServer]:
    """Serve from a thread, for a test that blocks its own thread."""
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(server):
        yield server


# -- bytes


def head(status: str = "200 OK", headers: Mapping[str, str] | None = None, version: str = "1.1") -> bytes:
    lines = [f"HTTP/{version} {status}", *(f"{name}: {value}" for name, value in (headers or {}).items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def whole(
    status: str, body: bytes | str | Mapping[str, Any] = b"", *ends: Step, kind: str | None = None, **headers: str
) -> Reply:
    """Return a plain answer with its length. Underscores in header names become dashes."""
    if isinstance(body, Mapping):
        body, kind = json.dumps(body), kind or "application/json"
    body = body.encode() if isinstance(body, str) else body
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    if kind is not None:
        named["content-type"] = kind
    return Reply((head(status, {**named, "content-length": str(len(body))}) + body, *ends))


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


LAST = b"0\r\n\r\n"
EVENTS = {"content-type": "text/event-stream", "transfer-encoding": "chunked"}
STREAM = head(headers=EVENTS)


def sse(data: Any, event: str | None = None) -> bytes:
    """Return one event. Data that is not bytes is encoded as JSON."""
    data = data if isinstance(data, bytes) else json.dumps(data).encode()
    return (f"event: {event}\n".encode() if event else b"") + b"data: " + data + b"\n\n"


def stream(*events: Step, end: Sequence[Step] = (LAST,)) -> Reply:
    """Return a chunked event stream with each event in a chunk of its own. Pauses and ends are kept."""
    return Reply((STREAM, *(chunk(event) if isinstance(event, bytes) else event for event in events), *end))


def at_once(reply: Reply) -> Reply:
    """Return a short reply in one write, which a client reads as one: else it is chance which of its events come together."""
    parts = b"".join(step for step in reply.steps if isinstance(step, bytes))
    assert len(parts) < 1 << 15, "more than what a network carries in one piece"
    assert all(isinstance(step, bytes) for step in reply.steps[:-1]), "a step between the bytes takes them apart"
    return Reply((parts, *(step for step in reply.steps[-1:] if not isinstance(step, bytes))))


# -- the two dialects


def delta(text: str) -> bytes:
    return sse({"id": "c-1", "model": "m-1", "choices": [{"index": 0, "delta": {"content": text}}]})


def finish(reason: str = "stop") -> bytes:
    return sse({"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]})


USAGE = sse({"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 3}})
DONE = sse(b"[DONE]")


def named(kind: str, **fields: Any) -> bytes:
    """Return an event of the Anthropic dialect."""
    return sse({"type": kind, **fields}, kind)


MESSAGE_START = named("message_start", message={"id": "m-1", "model": "m-1", "usage": {"input_tokens": 7, "output_tokens": 1}})
BLOCK_START = named("content_block_start", index=0, content_block={"type": "text", "text": ""})
BLOCK_STOP = named("content_block_stop", index=0)
MESSAGE_STOP = named("message_stop")
PING = named("ping")


def block_delta(text: str) -> bytes:
    return named("content_block_delta", index=0, delta={"type": "text_delta", "text": text})


def message_delta(reason: str = "end_turn") -> bytes:
    return named("message_delta", delta={"stop_reason": reason}, usage={"output_tokens": 3})


def events(dialect: str, *texts: str) -> tuple[bytes, ...]:
    """Return the events of a whole answer whose text comes in these pieces."""
    if dialect == "openai":
        return (*map(delta, texts), finish(), USAGE, DONE)
    return (MESSAGE_START, BLOCK_START, *map(block_delta, texts), BLOCK_STOP, message_delta(), MESSAGE_STOP)


def openai_answer(text: str = "Hello") -> Reply:
    return stream(*events("openai", text))


def anthropic_answer(text: str = "Hello") -> Reply:
    return stream(*events("anthropic", text))
