"""A hostile server: every answer is endless. It shares no code with ``runner``."""

import asyncio
import json
import zlib
from collections.abc import Iterator
from contextlib import suppress
from itertools import repeat
from types import TracebackType
from typing import Self

_OK = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n"
_PLAIN = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n"
_ERROR = b"HTTP/1.1 500 Internal Server Error\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n"
_PACKED = b"content-encoding: gzip\r\n"
_GZIP_HEAD = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def _event(text: str) -> bytes:
    return b"data: %b\n\n" % json.dumps({"choices": [{"index": 0, "delta": {"content": text}}]}, ensure_ascii=False).encode()


def _packed(data: bytes) -> Iterator[bytes]:
    """Yield endless gzip: one self-contained block, again and again."""
    squeeze = zlib.compressobj(9, zlib.DEFLATED, -15)
    block = squeeze.compress(data) + squeeze.flush(zlib.Z_FULL_FLUSH)
    yield _chunk(_GZIP_HEAD)
    yield from repeat(_chunk(block))


def _answer(kind: str) -> tuple[bytes, Iterator[bytes]]:
    """Return the head of an answer, and its endless rest."""
    match kind:
        case "compressed bomb":
            return _OK + _PACKED + b"\r\n", _packed(_event("x" * 500_000) * 4)
        case "compressed bomb, one line":
            return _OK + _PACKED + b"\r\n", _packed(b"x" * 10_000_000)
        case "compressed JSON":
            return _PLAIN + _PACKED + b"\r\n", _packed(b"x" * 10_000_000)
        case "endless JSON":
            return _PLAIN + b"\r\n", repeat(_chunk(b"x" * 65536))
        case "compressed error":
            return _ERROR + _PACKED + b"\r\n", _packed(b"x" * 10_000_000)
        case "endless error":
            return _ERROR + b"\r\n", repeat(_chunk(b"x" * 65536))
        case "endless text":
            return _OK + b"\r\n", repeat(_chunk(_event("x" * 60_000)))
        case "endless emoji":
            return _OK + b"\r\n", repeat(_chunk(_event("\N{GRINNING FACE}" * 5000)))
        case "endless drops":
            return _OK + b"\r\n", repeat(_chunk(_event("é") * 500))
        case "10 MB lines":
            return _OK + b"\r\n", repeat(_chunk(b"data: " + b"x" * 10_000_000 + b"\n\n"))
        case "endless pings":
            return _OK + b"\r\n", repeat(_chunk(b": ping\n\nevent: ping\ndata: {}\n\n" * 500))
        case "giant header":
            return b"HTTP/1.1 200 OK\r\nx-a: ", repeat(b"x" * 65536)
        case "endless headers":
            return b"HTTP/1.1 200 OK\r\n", repeat(b"x-a: some value\r\n" * 1000)
    raise ValueError(kind)


KINDS = (
    "compressed bomb", "compressed bomb, one line", "compressed JSON", "compressed error", "endless JSON", "endless error",
    "endless text", "endless emoji", "endless drops", "10 MB lines", "endless pings", "giant header", "endless headers",
)  # fmt: skip


class HostileServer:
    """Listens on a free loopback port; sends every request the same kind of answer until the client disconnects.

    together: no request is answered before this many have arrived.
    """

    def __init__(self, kind: str, *, together: int) -> None:
        self._kind = kind
        self._together = together
        self._enough = asyncio.Event()
        self._open: set[asyncio.Task[None]] = set()
        self.requests = 0

    @property
    def base_url(self) -> str:
        """The base URL for the OpenAI dialect."""
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/v1"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        task.add_done_callback(self._open.discard)
        try:
            with suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
                await _read(reader)
                self.requests += 1
                if self.requests >= self._together:
                    self._enough.set()
                await self._enough.wait()
                head, rest = _answer(self._kind)
                writer.write(head)
                for data in rest:
                    writer.write(data)
                    await writer.drain()
        finally:
            writer.transport.abort()


async def _read(reader: asyncio.StreamReader) -> None:
    """Read one request."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
    await reader.readexactly(int(length.partition(b":")[2]))
