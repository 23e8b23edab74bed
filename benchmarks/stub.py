"""A server that needs hardly any CPU: every request gets the same small answer, or none. It shares no code with ``runner``."""

import asyncio
import json
import threading
import time
from types import TracebackType
from typing import Self, cast

import uvloop

_WORDS = ("Every ", "number ", "has ", "a ", "story ", "to ", "tell.")


def _event(**choice: object) -> bytes:
    whole = {"id": "chatcmpl-0123456789abcdef01234567", "object": "chat.completion.chunk", "model": "m-1", "choices": [choice]}
    return b"data: %b\n\n" % json.dumps(whole).encode()


def _answer() -> bytes:
    events = [_event(index=0, delta={"content": word}) for word in _WORDS]
    usage = {"choices": [], "usage": {"prompt_tokens": 15, "completion_tokens": len(_WORDS)}}
    end = _event(index=0, delta={}, finish_reason="stop") + b"data: %b\n\n" % json.dumps(usage).encode() + b"data: [DONE]\n\n"
    body = b"".join(events) + end
    return b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)


class Stub:
    """Listens on a free loopback port, in its own thread. silent: accept requests and answer none.

    first_at: the time of the first request, in seconds of the monotonic clock; None before it. requests: how many have arrived.
    """

    def __init__(self, *, silent: bool = False) -> None:
        self.first_at: float | None = None
        self.requests = 0
        self._answer = b"" if silent else _answer()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    @property
    def base_url(self) -> str:
        """The base URL for the OpenAI dialect."""
        return f"http://127.0.0.1:{self._port}/v1"

    def forget(self) -> None:
        """Take the next request for the first one."""
        self.first_at = None

    def count(self) -> bytes:
        """Count a request; return the bytes of its answer."""
        if self.first_at is None:
            self.first_at = time.monotonic()
        self.requests += 1
        return self._answer

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(self, exc_type: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join()

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        self._loop, self._end = asyncio.get_running_loop(), asyncio.Event()
        server = await self._loop.create_server(lambda: _Counted(self), "127.0.0.1", 0, backlog=1024)
        self._port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._end.wait()
        server.close()


class Connection(asyncio.Protocol):
    """A connection on which requests of known length arrive one after the other."""

    def __init__(self) -> None:
        self._held = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way back."""
        # uvloop's own is no subclass
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Collect bytes, and call ``requested`` for each complete request among them."""
        self._held += data
        while (end := self._held.find(b"\r\n\r\n")) >= 0:
            head = self._held[:end].lower()
            at = head.find(b"content-length:")
            size = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
            if len(self._held) < end + 4 + size:
                return
            self._held = self._held[end + 4 + size :]
            self.requested()

    def requested(self) -> None:
        """Answer a complete request."""
        raise NotImplementedError


class _Counted(Connection):
    def __init__(self, stub: Stub) -> None:
        super().__init__()
        self._stub = stub

    def requested(self) -> None:
        self.transport.write(self._stub.count())
