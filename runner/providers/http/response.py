"""What can be said of an answer before it is decoded: its head, its shape, the body of an error."""

from collections.abc import AsyncIterator, Iterable
from enum import Enum

import aiohttp
import anyio
import httpx
from msgspec import Struct

from runner.errors import AttemptTimeoutError, StreamError, TransportError
from runner.providers.http.body import Body

ERROR_BODY_S = 3.0
"""Seconds that an error body may take."""
ERROR_BODY_BYTES = 64 * 1024
"""Bytes of an error body that are read."""

_BROKEN = (httpx.HTTPError, aiohttp.ClientError, OSError, StreamError, TransportError, AttemptTimeoutError)
"""Errors that end a body which need not be read completely. A timeout may have expired just before it was closed."""

_BOM = b"\xef\xbb\xbf"
_FIELDS = (b"data", b"event", b"id", b"retry", b"error", b"")
_LONGEST_FIELD = max(map(len, _FIELDS))


class Shape(Enum):
    """What a body is."""

    EVENTS = "server-sent events"
    JSON = "JSON in one piece"
    OTHER = "a page, or a text"


class Head(Struct, frozen=True):
    """What the headers of an answer say about its body."""

    # the content type without parameters, lower case; empty if there is none
    kind: str = ""
    encoding: str = ""
    # False: the body ends where the connection ends, so its end cannot be told from a break
    framed: bool = False


def head_of(raw: Iterable[tuple[bytes, bytes]]) -> Head:
    """Return what we need of the headers. httpx's own lookup would decode every header first."""
    kind = encoding = ""
    framed = False
    for name, value in raw:
        match name.lower():
            case b"content-type":
                kind = value.decode("latin-1").partition(";")[0].strip().lower()
            case b"content-encoding":
                encoding = value.decode("latin-1")
            case b"content-length" | b"transfer-encoding":
                framed = True
    return Head(kind, encoding, framed)


def shape_of(kind: str, begun: bytes) -> Shape | None:
    """Return the shape of a body that begins with these bytes; None if more bytes are needed.

    The bytes decide. The content type, which many servers get wrong, decides where they do not.
    """
    text = begun.removeprefix(_BOM).lstrip()
    if not text or (len(begun) < len(_BOM) and _BOM.startswith(begun)):
        return None
    if text[:1] in b"{[":
        return Shape.JSON
    if text[:1] == b"<":
        return Shape.OTHER
    if kind == "text/event-stream":
        return Shape.EVENTS
    field = text[: _LONGEST_FIELD + 1].replace(b"\r", b":").replace(b"\n", b":")
    name, end, _ = field.partition(b":")
    if end and name in _FIELDS:
        return Shape.EVENTS
    if not end and any(one.startswith(name) for one in _FIELDS):
        return None
    return Shape.JSON if kind == "application/json" or kind.endswith("+json") else Shape.OTHER


async def error_body(chunks: AsyncIterator[bytes], encoding: str, most: int, limit_s: float) -> bytes:
    """Return the beginning of an error body. Failures to read it are ignored, as the status has arrived and is enough."""
    head = bytearray()
    with anyio.move_on_after(limit_s):
        try:
            body = Body(encoding, most)
            async for chunk in chunks:
                for piece in body.pieces(chunk):
                    head += piece
                    if len(head) >= ERROR_BODY_BYTES:
                        return bytes(head[:ERROR_BODY_BYTES])
        except _BROKEN:
            return bytes(head)
    return bytes(head)


def no_api(kind: str, head: bytes) -> StreamError:
    """Return the error for a 2xx that is neither a stream nor JSON. head: the beginning of the body, which is quoted."""
    if not head.strip():
        return empty()
    quoted = head[:200].decode("utf-8", "replace")
    return StreamError(
        f"the endpoint answered {kind or 'no content type'} and not an event stream: {quoted!r}",
        code="not_an_api",
        verdict="stop",
    )


def empty() -> StreamError:
    """Return the error for an answer without a body."""
    return StreamError("the answer is empty", code="truncated")
