"""Sends a file of results: whole or from a position, with gzip, and broken off where the behaviour says so."""

import asyncio
import zlib
from collections.abc import Iterator, Mapping

from aiohttp import web

from runner.simulator.batch_behaviour import BatchBehaviour
from runner.simulator.batch_files import StoredFile
from runner.simulator.play import BEFORE_RESET_S, reset

_CHUNK = 256 * 1024
_GZIP = 16 + zlib.MAX_WBITS


async def send(
    request: web.Request, stored: StoredFile, behaviour: BatchBehaviour, headers: Mapping[str, str]
) -> web.StreamResponse:
    """Answer a request for the content of a file.

    A Range is about the bytes of the file as they are, and is answered without gzip. It counts only if an If-Range, where
    there is one, is the ETag.
    """
    tag = f'"{stored.id}-{stored.bytes}"'
    start, stop = 0, stored.bytes
    status = 200
    sent = {"content-type": "application/octet-stream", "accept-ranges": "bytes", "etag": tag, **headers}
    if "range" in request.headers and request.headers.get("if-range", tag) == tag:
        asked = _range(request, stored.bytes)
        if asked is None:
            return web.Response(status=416, headers={**sent, "content-range": f"bytes */{stored.bytes}"})
        start, stop = asked
        status = 206
        sent["content-range"] = f"bytes {start}-{stop - 1}/{stored.bytes}"
    chunks = _chunks(stored, start, stop)
    if status == 200 and behaviour.batch_gzip:
        # other bytes are another entity, of which no part can be asked for
        sent |= {"content-encoding": "gzip", "etag": f"W/{tag}"}
        chunks = _packed(chunks)
    else:
        sent["content-length"] = str(stop - start)
    response = web.StreamResponse(status=status, headers=sent)
    left = behaviour.batch_break_bytes if stored.broken < behaviour.batch_breaks else None
    await _write(request, response, stored, chunks, left)
    return response


async def _write(
    request: web.Request, response: web.StreamResponse, stored: StoredFile, chunks: Iterator[bytes], left: int | None
) -> None:
    """Write the chunks. left: the bytes after which the connection is reset; None: it is not."""
    try:
        await response.prepare(request)
        for chunk in chunks:
            if left is not None and len(chunk) > left:
                stored.broken += 1
                await response.write(chunk[:left])
                await asyncio.sleep(BEFORE_RESET_S)
                reset(request)
                return
            left = None if left is None else left - len(chunk)
            await response.write(chunk)
        await response.write_eof()
    except ConnectionError:
        # the client is gone
        return


def _range(request: web.Request, size: int) -> tuple[int, int] | None:
    """Return where the asked part begins and ends; None if there is no such part."""
    try:
        asked = request.http_range
    except ValueError:
        return None
    start, stop, _ = asked.indices(size)
    return (start, stop) if start < stop else None


def _chunks(stored: StoredFile, start: int, stop: int) -> Iterator[bytes]:
    with stored.path.open("rb") as opened:
        opened.seek(start)
        while start < stop and (chunk := opened.read(min(_CHUNK, stop - start))):
            start += len(chunk)
            yield chunk


def _packed(chunks: Iterator[bytes]) -> Iterator[bytes]:
    packer = zlib.compressobj(level=1, wbits=_GZIP)
    for chunk in chunks:
        if packed := packer.compress(chunk):
            yield packed
    yield packer.flush()
