"""``POST /api/stream`` asks one prompt and streams what comes of it; ``DELETE /api/stream/ID`` ends it."""

import logging
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import suppress

import msgspec
from msgspec import structs
from sse_starlette.sse import AppStatus, EventSourceResponse, SendTimeoutError
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from runner.errors import RunLockedError, RunnerError, StoreError
from runner.inputs.broken_lines import reason
from runner.inputs.json_rows import DEPTH, UNREADABLE, is_deeper
from runner.web.ask_events import encoded
from runner.web.ask_limits import OPEN, OPEN_IN_ALL, Window
from runner.web.asking import Asked, Asker, Stream
from runner.web.replies import ApiError, reply
from runner.web.uvicorn_internals import abort

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
        self.asker, self._window = asker, window or Window()
        self._heartbeat_s, self._send_s = heartbeat_s, send_s
        # how many streams each client has open
        self._open: Counter[str] = Counter()

    @property
    def routes(self) -> list[Route]:
        """The routes, for an application that lets in only those who may ask."""
        return [
            Route("/api/stream", self._ask, methods=["POST"]),
            Route("/api/stream/{id}", self._cancel, methods=["DELETE"]),
        ]

    async def _ask(self, request: Request) -> Response:
        asked = _asked(await request.body())
        client = request.client.host if request.client is not None else ""
        if self._open[client] >= OPEN or self._open.total() >= OPEN_IN_ALL:
            raise _later(BUSY_S, f"{self._open[client]} of your streams are open, and {OPEN} may be; end one of them")
        if wait_s := self._window.ask(client):
            raise _later(wait_s, f"too many prompts in a short time; ask again in {wait_s} s")
        self._open[client] += 1
        try:
            stream = await self.asker.open(asked)
        except BaseException as error:
            self._left(client)
            if isinstance(error, RunnerError):
                raise _refused(error) from error
            raise
        return _Events(self._told(stream, client), self._heartbeat_s, self._send_s)

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
        own = request.path_params["id"]
        stream = self.asker.streams.get(own)
        if stream is not None:
            stream.cancel("cancelled by the one who asked")
        elif own not in self.asker.ended:
            raise ApiError(404, "no_stream", "there is no such stream")
        return reply({"id": own, "cancelled": stream is not None})


class _Events(EventSourceResponse):
    """The answer that is a stream. A client that does not read is dropped, and its request at the provider with it."""

    def __init__(self, told: AsyncGenerator[dict[str, str], None], heartbeat_s: float, send_s: float) -> None:
        # the streams end with those who ask
        AppStatus.enable_automatic_graceful_drain = False
        super().__init__(told, ping=heartbeat_s, send_timeout=send_s, sep="\n")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events until the last one, or until the client has left."""
        with suppress(SendTimeoutError):
            await super().__call__(scope, receive, send)
            return
        logger.info("a stream was ended: its client took nothing for %g s", self.send_timeout or 0)
        abort(scope["client"])


def _asked(body: bytes) -> Asked:
    try:
        asked = msgspec.json.decode(body or b"{}", type=Asked)
    except msgspec.ValidationError as error:
        raise ApiError(400, "usage", f"this is no prompt: {error}") from error
    except UNREADABLE as error:
        raise ApiError(400, "usage", f"this is no prompt: {reason(body)}") from error
    if is_deeper(structs.asdict(asked), DEPTH):
        raise ApiError(400, "usage", f"this is no prompt: it is nested more than {DEPTH} deep")
    if asked.given != 1:
        raise ApiError(400, "usage", "send one of prompt, messages and row")
    return asked


def _refused(error: RunnerError) -> ApiError:
    if isinstance(error, RunLockedError):
        return ApiError(409, "locked", str(error))
    return ApiError(503, "store", str(error)) if isinstance(error, StoreError) else ApiError(400, "usage", str(error))


def _later(wait_s: int, sentence: str) -> ApiError:
    return ApiError(429, "too_many", sentence, {"Retry-After": str(wait_s)})
