"""Reads the parts of an answer that are not stream events: the tail after the answer, JSON in one piece, error bodies.

``Body`` counts the bytes.
"""

from collections.abc import AsyncIterator, Iterable
from contextlib import suppress

import aiohttp
import anyio
import httpx

from runner.errors import AttemptTimeoutError, StreamError, TransportError
from runner.interfaces import Decoder
from runner.providers.http.body import Body
from runner.providers.http.timeouts import Watch
from runner.providers.sse import SSEDecoder

TAIL_S = 5.0
"""Seconds after the finish reason in which the usage and the end mark must arrive."""
ERROR_BODY_S = 3.0
"""Seconds that an error body may take."""
END_S = 0.5
"""Seconds after the end mark in which the body must end, so that the connection can be reused."""
ERROR_BODY_BYTES = 64 * 1024
"""Bytes of an error body that are read."""

_BROKEN = (httpx.HTTPError, aiohttp.ClientError, OSError, StreamError, TransportError, AttemptTimeoutError)
"""Errors that end a body which need not be read completely. A timeout may have expired just before it was closed."""


async def error_body(chunks: AsyncIterator[bytes], encoding: str, most: int, limit_s: float) -> bytes:
    """Return the beginning of an error body. Failures to read it are ignored, as the status has arrived and is enough."""
    head = bytearray()
    with anyio.move_on_after(limit_s):
        try:
            await _gather(chunks, Body(encoding, most), head)
        except _BROKEN:
            return bytes(head)
    return bytes(head)


async def tail(chunks: AsyncIterator[bytes], body: Body, sse: SSEDecoder, decoder: Decoder, most_chars: int) -> bool:
    """Read usage and end mark after a complete answer; return True if all of them arrived.

    The answer is paid for: nothing may discard it now, not even a second Ctrl-C.
    """
    ended = decoder.ended
    with anyio.move_on_after(END_S if ended else TAIL_S, shield=True) as limit:
        try:
            async for chunk in chunks:
                for piece in body.pieces(chunk):
                    decoder.feed_all(sse.feed(piece))
                    if decoder.text_chars > most_chars:
                        return decoder.ended
                if decoder.ended and not ended:
                    ended, limit.deadline = True, anyio.current_time() + END_S
            else:
                feed_unfinished(sse, decoder)
                return True
        except _BROKEN:
            return decoder.ended
    return decoder.ended


def feed_unfinished(sse: SSEDecoder, decoder: Decoder) -> None:
    """Feed the last event, which some servers end without a blank line. Ignore it if it is invalid."""
    last = sse.flush()
    if last is not None:
        with suppress(StreamError):
            decoder.feed(last)


async def whole(chunks: AsyncIterator[bytes], body: Body, decoder: Decoder, watch: Watch, most: int) -> None:
    """Feed the decoder with JSON in one piece instead of a stream. most: the size limit in bytes."""
    data = bytearray()
    first_byte_seen = False
    async for chunk in chunks:
        if not first_byte_seen:
            first_byte_seen = True
            watch.began()
        watch.beat()
        for piece in body.pieces(chunk):
            data += piece
            if len(data) > most:
                raise StreamError(f"the answer in one piece is larger than {most} bytes", code="size_cap", verdict="fail")
    if not data.strip():
        raise StreamError("the answer is empty", code="truncated")
    decoder.whole(bytes(data))
    if not decoder.complete:
        raise StreamError("the answer has no finish reason", code="truncated")


def no_api(kind: str, head: bytes) -> StreamError:
    """Return the error for a 200 that is neither a stream nor JSON. head: the beginning of the body, which is quoted."""
    if not head.strip():
        return StreamError("the answer is empty", code="truncated")
    quoted = head[:200].decode("utf-8", "replace")
    return StreamError(
        f"the endpoint answered {kind or 'no content type'} and not an event stream: {quoted!r}",
        code="not_an_api",
        verdict="stop",
    )


async def head_of(chunks: AsyncIterator[bytes], body: Body) -> bytes:
    """Return the beginning of a body that is not an answer of an API."""
    head = bytearray()
    await _gather(chunks, body, head)
    return bytes(head)


async def _gather(chunks: AsyncIterator[bytes], body: Body, head: bytearray) -> None:
    async for chunk in chunks:
        for piece in body.pieces(chunk):
            head += piece
            if len(head) >= ERROR_BODY_BYTES:
                del head[ERROR_BODY_BYTES:]
                return


def content_of(raw: Iterable[tuple[bytes, bytes]]) -> tuple[str, str]:
    """Return the content type, without parameters, and the encoding. httpx's own lookup would decode every header first."""
    kind = encoding = ""
    for name, value in raw:
        lower = name.lower()
        if lower == b"content-type":
            kind = value.decode("latin-1").partition(";")[0].strip().lower()
        elif lower == b"content-encoding":
            encoding = value.decode("latin-1")
    return kind, encoding
