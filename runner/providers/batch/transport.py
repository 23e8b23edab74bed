"""The requests of a batch API: JSON calls, a file that goes up, and one that comes down. Over ``httpx.AsyncClient``.

These are a few requests an hour. The client of live runs only sends POSTs whose answer is a completion, so it does not fit;
decision 0002 says why that one has no ``AsyncClient``. No cookies, no environment, no retries but of a download.
"""

import os
import secrets
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

import anyio
import httpx
from msgspec import Struct

from runner.errors import ProviderError, StoreError, StreamError, TransportError
from runner.interfaces import Provider
from runner.model import Json
from runner.providers.batch.errors import Deed, broken, no_json, refusal
from runner.providers.batch.remotes import http_date
from runner.providers.lenient_json import decode_json, join_url

GONE = (404, 410)
"""Statuses of what is not there."""
_CHUNK = 1 << 20
_MOST_JSON = 64 << 20
_ERROR_BYTES = 64 << 10
_KEPT_S = 4.0


def segment(name: str) -> str:
    """Return the id that a provider has given as one segment of a path, whatever characters it has."""
    return quote(name, safe="") if name.strip(".") else name.replace(".", "%2E")


class Way(Struct, frozen=True, kw_only=True):
    """How requests go: what a job and the environment say about them. version: of this program."""

    version: str
    proxy: str | None = None
    # what a job adds to each request; a header replaces one of the dialect
    headers: Mapping[str, str] = {}
    query: Mapping[str, str] = {}
    connect_s: float = 10.0
    # how long nothing may come: of an answer, and behind an upload
    silence_s: float = 60.0
    first_byte_s: float = 300.0

    def __repr__(self) -> str:
        return "Way()"


class Around(Struct, frozen=True, kw_only=True):
    """What stands around a file in a body. kind: content type of the body. joined: its lines become entries of a JSON list."""

    before: bytes
    after: bytes
    kind: str
    joined: bool = False


class Transport:
    """Sends the requests of one account. An asynchronous context manager. clock: seconds since the epoch."""

    def __init__(
        self, base_url: str, headers: Mapping[str, str], provider: Provider, way: Way, clock: Callable[[], float]
    ) -> None:
        added = {name.lower() for name in way.headers}
        self._headers = {**{name: value for name, value in headers.items() if name.lower() not in added}, **way.headers}
        self._base_url, self._provider, self._way, self._clock = base_url, provider, way, clock
        self._client: httpx.AsyncClient | None = None
        # seconds by which the server's clock is ahead of ours, by its last Date header
        self.ahead_s = 0.0

    async def __aenter__(self) -> Self:
        way = self._way
        try:
            self._client = httpx.AsyncClient(
                verify=httpx.create_ssl_context(),
                trust_env=False,
                proxy=way.proxy,
                headers=httpx.Headers(self._headers, encoding="latin-1"),
                timeout=httpx.Timeout(way.silence_s, connect=way.connect_s, pool=way.connect_s),
                limits=httpx.Limits(keepalive_expiry=_KEPT_S),
            )
        except ValueError:
            # from None: the cause may show a password
            raise TransportError(
                "the proxy or a header of the job cannot be used", code="address", verdict="stop", sent=False
            ) from None
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._client is not None:
            with anyio.CancelScope(shield=True):
                await self._client.aclose()

    @property
    def client(self) -> httpx.AsyncClient:
        """The client, inside ``async with``."""
        assert self._client is not None
        return self._client

    def url(self, path: str, query: Mapping[str, str | int] | None = None) -> str:
        """Return the address of a path below the base URL, with the query of the base URL, of the job, and this one."""
        head, _, own = join_url(self._base_url, path).partition("?")
        given = {**self._way.query, **{name: str(value) for name, value in (query or {}).items()}}
        kept = [pair for pair in parse_qsl(own, keep_blank_values=True) if pair[0] not in given]
        whole = urlencode([*kept, *given.items()], quote_via=quote)
        return f"{head}?{whole}" if whole else head

    async def call(
        self, deed: Deed, method: str, path: str, *, json: Json = None, query: Mapping[str, str | int] | None = None
    ) -> Json:
        """Send a request and return the JSON of its answer. Raises AttemptError."""
        body = {"json": json} if json is not None else {}
        return await self._answered(deed, self._request(method, self.url(path, query), **body))

    async def delete(self, path: str) -> None:
        """Delete a file of requests. One that is gone is no error. Raises AttemptError."""
        try:
            await self.call("file", "DELETE", path)
        except ProviderError as error:
            if error.status not in GONE:
                raise

    async def upload(self, deed: Deed, path: str, file: Path, around: "Around") -> Json:
        """Send a file in constant memory, and return the JSON of the answer. Its length goes along, as providers ask for it.

        Raises FileNotFoundError, before anything is sent, for a file that is not there; StoreError for one that cannot be read.
        """
        with _reading(file):
            size = _size(file, around)
        length = len(around.before) + size + len(around.after)
        request = self._request(
            "POST",
            self.url(path),
            content=_pieces(file, around, size),
            headers={"content-type": around.kind, "content-length": str(length)},
            timeout=httpx.Timeout(
                self._way.silence_s, connect=self._way.connect_s, pool=self._way.connect_s, read=self._way.first_byte_s
            ),
        )
        return await self._answered(deed, request)

    async def upload_form(self, path: str, file: Path, name: str, fields: Mapping[str, str]) -> Json:
        """Upload a file as a form with some fields before it. name: of the file, for the server."""
        boundary = f"runner-{secrets.token_hex(16)}"
        parts = [
            f'--{boundary}\r\ncontent-disposition: form-data; name="{key}"\r\n\r\n{value}\r\n' for key, value in fields.items()
        ]
        head = f'--{boundary}\r\ncontent-disposition: form-data; name="file"; filename="{name}"\r\n'
        before = "".join([*parts, head, "content-type: application/jsonl\r\n\r\n"]).encode()
        after = f"\r\n--{boundary}--\r\n".encode()
        around = Around(before=before, after=after, kind=f"multipart/form-data; boundary={boundary}")
        return await self.upload("upload", path, file, around)

    async def begin(self, url: str, headers: Mapping[str, str]) -> httpx.Response:
        """Begin to download results; the answer is to be closed. Raises AttemptError unless its status is 2xx or 416."""
        request = self._request("GET", url, headers=dict(headers))
        if _origin(url) != _origin(self._base_url):
            # a store of files to which the provider has sent us: our key and headers are none of its business
            for name in self._headers:
                request.headers.pop(name, None)
        response = await self._head(request)
        if response.status_code == 416 or response.is_success or response.has_redirect_location:
            return response
        raise await self._refused("results", response)

    def _request(self, method: str, url: str, **parts: Any) -> httpx.Request:
        try:
            return self.client.build_request(method, url, **parts)
        except (httpx.InvalidURL, ValueError) as error:
            raise broken(error, begun=False) from error

    async def _answered(self, deed: Deed, request: httpx.Request) -> Json:
        response = await self._head(request)
        if not response.is_success:
            raise await self._refused(deed, response)
        try:
            body = await _body(response, _MOST_JSON)
        except (httpx.HTTPError, OSError) as error:
            raise broken(error, begun=True) from error
        finally:
            await response.aclose()
        try:
            return decode_json(body)[0] if body.strip() else {}
        except StreamError:
            raise no_json(deed, body) from None

    async def _head(self, request: httpx.Request) -> httpx.Response:
        try:
            response = await self.client.send(request, stream=True)
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
            # those of our own file are no OSError here
            raise broken(error, begun=False) from error
        now = http_date(response.headers.get("date"))
        if now is not None:
            self.ahead_s = now - self._clock()
        return response

    async def _refused(self, deed: Deed, response: httpx.Response) -> Exception:
        body = b""
        try:
            body = await _body(response, _ERROR_BYTES)
        except (httpx.HTTPError, OSError):
            # the status alone says enough
            body = b""
        finally:
            await response.aclose()
        return refusal(self._provider, deed, response.status_code, dict(response.headers), body)


async def _body(response: httpx.Response, most: int) -> bytes:
    pieces, size = [], 0
    async for piece in response.aiter_bytes():
        pieces.append(piece)
        size += len(piece)
        if size >= most:
            break
    return b"".join(pieces)


def _size(file: Path, around: Around) -> int:
    """Return how many bytes of a file belong into a body: not the end of the last line, which would become a comma."""
    size = file.stat().st_size
    if not around.joined or size == 0:
        return size
    with file.open("rb") as opened:
        opened.seek(-1, os.SEEK_END)
        return size - (opened.read() == b"\n")


async def _pieces(file: Path, around: Around, left: int) -> AsyncIterator[bytes]:
    """Yield the pieces of a body. left: bytes of the file that belong into it."""
    yield around.before
    with _reading(file):
        opened = await anyio.open_file(file, "rb")
    async with opened:
        while left > 0:
            with _reading(file):
                piece = await opened.read(min(_CHUNK, left))
            if not piece:
                break
            left -= len(piece)
            # a line end within a line would be an escape
            yield piece.replace(b"\n", b",") if around.joined else piece
    yield around.after


@contextmanager
def _reading(file: Path) -> Iterator[None]:
    """Raise StoreError for a file of ours that cannot be read. One that is gone can be written again."""
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        raise StoreError(f"the requests in {file} cannot be read: {error.strerror or error}") from error


def _origin(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    return parts.scheme, parts.netloc
