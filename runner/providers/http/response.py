"""Reading what came back: the tail of a stream, plain JSON, an error's words. The body's bytes are counted by ``Body``."""

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
"""After the finish reason: how long the usage and the end mark may still take."""
ERROR_BODY_S = 3.0
"""How long an error's body may take."""
END_S = 0.5
"""After the end mark: how long the body may take to end, so that the connection can be used again."""
ERROR_BODY_BYTES = 64 * 1024
"""How much of an error's body is read."""


_BROKEN = (httpx.HTTPError, aiohttp.ClientError, OSError, StreamError, TransportError, AttemptTimeoutError)
"""What may end a body that need not be read to its end; a clock may have run out in the moment before."""


async def error_body(chunks: AsyncIterator[bytes], encoding: str, most: int, limit_s: float) -> bytes:
    """Read what an error says; whatever goes wrong with its body, the status has arrived and counts."""
    head = bytearray()
    with anyio.move_on_after(limit_s):
        try:
            await _gather(chunks, Body(encoding, most), head)
        except _BROKEN:
            return bytes(head)
    return bytes(head)


async def tail(chunks: AsyncIterator[bytes], body: Body, sse: SSEDecoder, decoder: Decoder, most_chars: int) -> bool:
    """Read usage and end mark behind a complete answer; True when all of it came.

    The answer is paid for: nothing may throw it away now, not even a second Ctrl-C.
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
    """Some servers close right behind their last data line: it counts if it can be read."""
    last = sse.flush()
    if last is not None:
        with suppress(StreamError):
            decoder.feed(last)


async def whole(chunks: AsyncIterator[bytes], body: Body, decoder: Decoder, watch: Watch, most: int) -> None:
    """Take plain JSON of ``most`` bytes at most in place of a stream."""
    data = bytearray()
    watching_silence = False
    async for chunk in chunks:
        if not watching_silence:
            watching_silence = True
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
    """Make the error for a 200 that is neither a stream nor JSON, quoting its beginning."""
    if not head.strip():
        return StreamError("the answer is empty", code="truncated")
    quoted = head[:200].decode("utf-8", "replace")
    return StreamError(
        f"the endpoint answered {kind or 'no content type'} and not an event stream: {quoted!r}",
        code="not_an_api",
        verdict="stop",
    )


async def head_of(chunks: AsyncIterator[bytes], body: Body) -> bytes:
    """Read the beginning of an answer that is none."""
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
    """Give the content's type, without parameters, and its encoding; httpx's own look-up decodes every header first."""
    kind = encoding = ""
    for name, value in raw:
        lower = name.lower()
        if lower == b"content-type":
            kind = value.decode("latin-1").partition(";")[0].strip().lower()
        elif lower == b"content-encoding":
            encoding = value.decode("latin-1")
    return kind, encoding
