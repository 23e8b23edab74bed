"""``POST /api/stream`` asks one prompt and streams what comes of it; ``DELETE /api/stream/ID`` ends it.

Whoever serves these routes lets in only those who may ask: they check no token themselves.
"""

import logging
from collections import Counter
from collections.abc import AsyncGenerator

import msgspec
from sse_starlette.sse import EventSourceResponse, SendTimeoutError
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from runner.errors import RunLockedError, RunnerError, StoreError
from runner.web.ask_events import encoded
from runner.web.ask_limits import OPEN, OPEN_IN_ALL, Window
from runner.web.asking import Asked, Asker, Stream

MOST_BYTES = 4 << 20
"""Bytes of a request, at most."""
HEARTBEAT_S = 15
"""Seconds between two heartbeats of a stream, which are comments."""
SEND_S = 60.0
"""Seconds for which a client may take nothing of what is sent. Then it is taken for gone, and its request is ended."""
BUSY_S = 1
"""Seconds after which a client may ask again that has too many open streams."""

logger = logging.getLogger("runner")


class AskRoutes:
    """The routes. window: how often a client may ask. heartbeat_s, send_s: as the constants of these names."""

    def __init__(
        self, asker: Asker, window: Window | None = None, *, heartbeat_s: float = HEARTBEAT_S, send_s: float = SEND_S
    ) -> None:
        self._asker, self._window = asker, window or Window()
        self._heartbeat_s, self._send_s = heartbeat_s, send_s
        # how many streams each client has open
        self._open: Counter[str] = Counter()

    @property
    def routes(self) -> list[Route]:
        """The routes, for an application."""
        return [
            Route("/api/stream", self._ask, methods=["POST"]),
            Route("/api/stream/{id}", self._cancel, methods=["DELETE"]),
        ]

    async def _ask(self, request: Request) -> Response:
        try:
            asked = await _read(request)
        except _RefusedError as refused:
            return _error(*refused.args)
        client = request.client.host if request.client is not None else ""
        if self._open[client] >= OPEN or self._open.total() >= OPEN_IN_ALL:
            return _later(BUSY_S, f"{self._open[client]} of your streams are open, and {OPEN} may be; end one of them")
        if wait_s := self._window.ask(client):
            return _later(wait_s, f"too many prompts in a short time; ask again in {wait_s} s")
        self._open[client] += 1
        try:
            stream = await self._asker.open(asked)
        except BaseException as error:
            self._left(client)
            if not isinstance(error, RunnerError):
                raise
            return _refused(error)
        return _Events(self._told(stream, client), ping=self._heartbeat_s, send_timeout=self._send_s, sep="\n")

    async def _told(self, stream: Stream, client: str) -> AsyncGenerator[dict[str, str], None]:
        number, events = 0, stream.events()
        try:
            async for name, data in events:
                number += 1
                yield {"event": name, "id": f"{stream.id}-{number}", "data": encoded(data)}
        finally:
            self._left(client)
            await events.aclose()

    def _left(self, client: str) -> None:
        self._open[client] -= 1
        if not self._open[client]:
            del self._open[client]

    async def _cancel(self, request: Request) -> Response:
        stream = self._asker.streams.get(request.path_params["id"])
        if stream is None:
            return _error(404, "not_found", "there is no such open stream; it may have ended by itself")
        stream.cancel("cancelled by the one who asked")
        return JSONResponse({"id": stream.id, "cancelled": True})


class _Events(EventSourceResponse):
    """A stream of events, whose end is none of the server's errors where its reader takes nothing any more."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events."""
        try:
            await super().__call__(scope, receive, send)
        except SendTimeoutError:
            logger.info("a stream was ended: its reader took nothing for %g s", self.send_timeout or 0)


class _RefusedError(Exception):
    """A request that is none: status, code and sentence."""


async def _read(request: Request) -> Asked:
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise _RefusedError(415, "usage", "send JSON, with the header Content-Type: application/json")
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > MOST_BYTES:
                raise _RefusedError(413, "usage", f"the request is larger than {MOST_BYTES >> 20} MiB")
    except ClientDisconnect:
        raise _RefusedError(400, "usage", "the request has broken off") from None
    try:
        asked = msgspec.json.decode(bytes(body), type=Asked)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise _RefusedError(400, "usage", f"this is no prompt: {error}") from None
    if asked.given != 1:
        raise _RefusedError(400, "usage", "send one of prompt, messages and row")
    return asked


def _refused(error: RunnerError) -> Response:
    if isinstance(error, RunLockedError):
        return _error(409, "locked", str(error))
    return _error(500, "store", str(error)) if isinstance(error, StoreError) else _error(400, "usage", str(error))


def _later(wait_s: int, sentence: str) -> Response:
    return _error(429, "too_many", sentence, {"Retry-After": str(wait_s)})


def _error(status: int, code: str, sentence: str, headers: dict[str, str] | None = None) -> Response:
    return JSONResponse({"error": sentence, "code": code}, status_code=status, headers=headers)
