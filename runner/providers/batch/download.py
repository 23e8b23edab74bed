"""Downloads results to a file: goes on behind a break, and returns only once all of it is there.

The bytes lie as they came in ``PATH.part``, with what is known of them in ``PATH.part.json``: by that a later process goes on.
The file gets its own name when it is whole, so that a file of that name is always whole.
"""

import os
import re
import zlib
from collections.abc import Mapping
from pathlib import Path

import anyio
import anyio.to_thread
import httpx
import msgspec
from msgspec import Struct

from runner.errors import AttemptError, ProviderError, StoreError, TransportError
from runner.providers.batch.errors import broken
from runner.providers.batch.transport import Transport

MOST_IDLE = 4
"""Tries in a row that bring no byte more than any before, after which the error is raised."""
_REDIRECTS = 3
_CHUNK = 1 << 20
PAUSE_S = 0.5
"""Seconds before the second try in a row that brings nothing; each further one takes about twice as long."""
_LONGEST_PAUSE_S = 20.0
_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")
_GZIP = b"\x1f\x8b"


class _Known(Struct):
    """What is known of a part. encoding: its content encoding. tag: names this version, strong. total: bytes of the whole.

    marked: its end is marked, so that a body that was read to its end is whole.
    """

    encoding: str = ""
    tag: str | None = None
    total: int | None = None
    marked: bool = False


async def download(transport: Transport, url: str, path: Path) -> None:
    """Download an address to a file.

    Raises AttemptError, after ``MOST_IDLE`` tries without progress or at once if hopeless. Raises StoreError for a file that
    cannot be written.
    """
    try:
        if not await anyio.to_thread.run_sync(path.exists):
            await _download(transport, url, path)
    except OSError as error:
        raise StoreError(f"the results cannot be written to {path}: {error.strerror or error}") from error


async def _download(transport: Transport, url: str, path: Path) -> None:
    part = path.with_name(f"{path.name}.part")
    most, idle = 0, 0
    while True:
        try:
            known = await _go_on(transport, url, part)
            if known is not None and await anyio.to_thread.run_sync(_unpacked, part, known, path):
                return
            _forget(part)
            error: AttemptError = TransportError("the results came, but not whole", code="cut")
        except AttemptError as failed:
            error = failed
        size = _size(part)
        idle = 0 if size > most else idle + 1
        most = max(most, size)
        if error.verdict != "retry" or idle >= MOST_IDLE:
            raise error
        asked = error.retry_after_s if isinstance(error, ProviderError) else None
        await anyio.sleep(min(asked if asked is not None else PAUSE_S * (2**idle - 1), _LONGEST_PAUSE_S))


async def _go_on(transport: Transport, url: str, part: Path) -> _Known | None:
    """Fetch what is missing of a part. Return what is known of it once it is whole; None: it has to begin anew."""
    known, have = _known(part), _size(part)
    headers = {"accept": "*/*", "accept-encoding": "identity"}
    if have and (known.tag is not None or known.total is not None):
        headers["range"] = f"bytes={have}-"
        if known.tag is not None:
            headers["if-range"] = known.tag
    response = await _followed(transport, url, headers)
    try:
        if response.status_code == 416:
            return known if known.total == have else None
        goes_on = response.status_code == 206
        if goes_on and not _fits(response.headers, known, have):
            return None
        if not goes_on:
            have, known = 0, _told(response.headers)
            await anyio.to_thread.run_sync(_note, part, known)
        await _save(response, part, have)
    finally:
        await response.aclose()
    if known.total is not None and _size(part) != known.total:
        raise TransportError("the connection broke in the middle of the results", code="cut")
    return known


async def _followed(transport: Transport, url: str, headers: Mapping[str, str]) -> httpx.Response:
    for _ in range(_REDIRECTS):
        response = await transport.begin(url, headers)
        if not response.has_redirect_location:
            return response
        await response.aclose()
        target = httpx.URL(url).join(response.headers["location"])
        if target.scheme != "https" and url.startswith("https:"):
            raise TransportError("the results are at an address without TLS", code="address", verdict="stop")
        url = str(target)
    raise TransportError("the address of the results redirects again and again", code="bad_http")


def _fits(headers: httpx.Headers, known: _Known, have: int) -> bool:
    """Return whether the bytes of a 206 go on with ours."""
    found = _RANGE.fullmatch(headers.get("content-range", "").strip())
    if found is None or int(found[1]) != have or headers.get("content-encoding", "").lower() != known.encoding:
        return False
    if found[3] == "*":
        return True
    same = known.total in (None, int(found[3]))
    known.total = int(found[3])
    return same


def _told(headers: httpx.Headers) -> _Known:
    tag, length = headers.get("etag"), headers.get("content-length", "")
    return _Known(
        encoding=headers.get("content-encoding", "").strip().lower().replace("identity", ""),
        tag=tag if tag and tag.startswith('"') else None,
        total=int(length) if length.isdecimal() else None,
        marked="chunked" in headers.get("transfer-encoding", "").lower(),
    )


async def _save(response: httpx.Response, part: Path, begin: int) -> None:
    async with await anyio.open_file(part, "r+b" if begin else "wb") as file:
        await file.seek(begin)
        await file.truncate()
        try:
            # as they come: a size would hold back what came before a break
            async for piece in response.aiter_raw():
                await file.write(piece)
        except httpx.HTTPError as error:
            raise broken(error, begun=True) from error


def _unpacked(part: Path, known: _Known, path: Path) -> bool:
    """Give a whole part its own name, unpacked if it is packed. False: it is not whole after all."""
    with part.open("rb") as file:
        packed = known.encoding in ("gzip", "x-gzip", "deflate") or file.read(2) == _GZIP
        file.seek(0)
        if known.encoding and not packed:
            raise TransportError(f"the results are packed as nobody asked for: {known.encoding[:20]}", code="bad_http")
        if packed:
            done = part.with_name(f"{part.name}.out")
            with done.open("wb") as out:
                if not _inflate(file, out):
                    return False
                _sync(out)
        else:
            if known.total is None and not known.marked and not _ends_a_line(part):
                return False
            done = part
            with part.open("r+b") as out:
                _sync(out)
    done.replace(path)
    _forget(part)
    return True


def _inflate(file, out) -> bool:  # type: ignore[no-untyped-def]
    unpacker = zlib.decompressobj(47)
    try:
        while piece := file.read(_CHUNK):
            while piece:
                if unpacker.eof:
                    unpacker = zlib.decompressobj(47)
                data = unpacker.decompress(piece, _CHUNK)
                out.write(data)
                piece = unpacker.unused_data if unpacker.eof else unpacker.unconsumed_tail
    except zlib.error:
        return False
    out.write(unpacker.flush())
    return unpacker.eof


def _ends_a_line(part: Path) -> bool:
    """Return whether a body that has neither a length nor a mark of its end seems to be whole."""
    with part.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 1))
        return size == 0 or file.read(1) == b"\n"


def _sync(file) -> None:  # type: ignore[no-untyped-def]
    file.flush()
    os.fsync(file.fileno())


def _size(part: Path) -> int:
    try:
        return part.stat().st_size
    except FileNotFoundError:
        return 0


def _note_of(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _note(part: Path, known: _Known) -> None:
    # first, so that no note speaks of bytes of another version
    part.unlink(missing_ok=True)
    _note_of(part).write_bytes(msgspec.json.encode(known))


def _known(part: Path) -> _Known:
    try:
        return msgspec.json.decode(_note_of(part).read_bytes(), type=_Known)
    except (OSError, msgspec.DecodeError):
        return _Known()


def _forget(part: Path) -> None:
    for file in (part, _note_of(part), part.with_name(f"{part.name}.out")):
        file.unlink(missing_ok=True)
