"""What each request passes before a route sees it: who asks, from where, and how much it sends. No state changes by GET."""

from collections.abc import Awaitable, Callable
from urllib.parse import parse_qs, urlencode

import anyio
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request, cookie_parser
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from runner.web import peers
from runner.web.access import Access, is_own_origin
from runner.web.replies import ApiError, refused

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; worker-src 'self'; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)
"""The Content-Security-Policy of all answers."""
MOST_BODY = 4 << 20
"""Bytes of the body of a request, at most."""
BODY_S = 10.0
"""Seconds in which it must have come."""
_HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}
_SAFE = ("GET", "HEAD")
_NO_ACCESS = "no access: open the address that `runner` printed, or send its token as `Authorization: Bearer TOKEN`"
_BY_TOKEN = ("/", "/metrics")
"""Paths that take the token from the address."""
_SHELL, _STATIC = ("/", "/openapi.json"), "/static/"
"""What a browser gets for its cookie alone: it says nothing about runs."""


class Guard:
    """An ASGI application around another one, which sees only requests that may be answered.

    It sets ``scope["state"]["by"]``: "page" for a browser with a cookie, "api" for a program with the token.
    """

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app, self._access = app, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or have it answered."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        guarded = _guarded(send)
        if scope["type"] != "http":
            await _refuse(ApiError(400, "not_http", "this server speaks no WebSocket"), scope, receive, guarded)
            return
        try:
            entry = self._checked(scope)
            if entry is not None:
                await entry(scope, receive, guarded)
                return
            body = await _body(scope, receive) if scope["method"] not in _SAFE else b""
        except ApiError as error:
            await _refuse(error, scope, receive, guarded)
            return
        await self._app(scope, _again(body, receive), guarded)

    def _checked(self, scope: Scope) -> Response | None:
        """Return the answer to a browser that comes with the token, None for all else that may pass. Raises ApiError."""
        headers, reached = Headers(scope=scope), (scope.get("server") or ("",))[0]
        host = headers.get("host")
        if len(headers.getlist("host")) != 1 or not self._access.is_own_host(host, reached):
            raise ApiError(421, "host", "this server is not reached under the name in the header Host; use the printed address")
        assert host is not None
        origin, site = headers.get("origin"), headers.get("sec-fetch-site", "none")
        is_own = (origin is None or is_own_origin(origin, host)) and site in ("none", "same-origin")
        path, given = scope["path"], _token_in(scope)
        if given is not None and path in _BY_TOKEN and scope["method"] in _SAFE:
            if not self._access.is_token(given):
                raise ApiError(401, "no_access", "the token in the address is not that of this server; open the one it printed")
            if path == "/":
                return self._entered(scope)
            scope.setdefault("state", {})["by"] = "api"
            return None
        if self._access.is_bearer(headers.get("authorization")):
            if origin is not None and not is_own:
                raise ApiError(403, "origin", "pages of other sites may not use this server")
            scope.setdefault("state", {})["by"] = "api"
        elif self._access.has_cookie(cookie_parser(headers.get("cookie", ""))):
            self._check_page(scope, headers, is_own=is_own)
            scope.setdefault("state", {})["by"] = "page"
        else:
            raise ApiError(401, "no_access", _NO_ACCESS, {"WWW-Authenticate": "Bearer"})
        return None

    def _check_page(self, scope: Scope, headers: Headers, *, is_own: bool) -> None:
        """Raise ApiError for what a browser sends without the page having asked for it."""
        # a link in another page may lead here; nothing else of another page may
        is_link = scope["path"] == "/" and scope["method"] in _SAFE and headers.get("sec-fetch-mode") == "navigate"
        if not is_own and not (is_link and headers.get("origin") is None):
            raise ApiError(403, "origin", "pages of other sites may not use this server")
        holds_nothing = scope["method"] in _SAFE and (scope["path"] in _SHELL or scope["path"].startswith(_STATIC))
        given = headers.get("x-runner")
        if holds_nothing or self._access.is_proof(given):
            return
        # browsers send a cookie to all ports of a machine, so another user of it may have been sent this one
        if not peers.is_own(scope.get("client"), scope.get("server")):
            raise ApiError(401, "no_access", _NO_ACCESS, {"WWW-Authenticate": "Bearer"})
        if scope["method"] not in _SAFE and given != "1":
            raise ApiError(403, "header", "what changes something needs the header `X-Runner: 1`, or the token as Bearer")

    def _entered(self, scope: Scope) -> Response:
        """Return the answer that gives a browser its cookie and the page its proof, and takes the token out of the address."""
        query = [(name, one) for name, values in _query(scope).items() if name not in ("token", "proof") for one in values]
        found = RedirectResponse(f"/?{urlencode([*query, ('proof', self._access.proof)])}", 303)
        found.set_cookie(self._access.cookie, self._access.mark, path="/", httponly=True, samesite="strict")
        found.headers["Cache-Control"] = "no-store"
        return found


def _query(scope: Scope) -> dict[str, list[str]]:
    return parse_qs(scope["query_string"].decode("latin-1"), keep_blank_values=True, max_num_fields=100)


def _token_in(scope: Scope) -> str | None:
    if b"token=" not in scope["query_string"]:
        return None
    try:
        return next(iter(_query(scope).get("token", [])), None)
    except ValueError:
        return None


async def _body(scope: Scope, receive: Receive) -> bytes:
    """Return the body of a request that is JSON. Raises ApiError if it is too large, too slow, or something else."""
    headers = Headers(scope=scope)
    length = headers.get("content-length", "0")
    if not length.isdecimal() or int(length) > MOST_BODY:
        raise _too_large()
    parts, size = list[bytes](), 0
    with anyio.move_on_after(BODY_S) as limit:
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ApiError(400, "body", "the body of the request has not come")
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            more = message.get("more_body", False)
            if size > MOST_BODY:
                raise _too_large()
    if limit.cancelled_caught:
        raise ApiError(408, "slow", f"the body of the request has not come within {BODY_S:g} s", {"Connection": "close"})
    if size and headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise ApiError(415, "json", "the body of a request must be JSON, with `Content-Type: application/json`")
    return b"".join(parts)


def _too_large() -> ApiError:
    return ApiError(413, "large", f"the body of a request has at most {MOST_BODY >> 20} MB", {"Connection": "close"})


def _again(body: bytes, receive: Receive) -> Receive:
    """Return what gives the body that was read, and then what comes."""
    given: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def next_message() -> Message:
        return given.pop() if given else await receive()

    return next_message


def _guarded(send: Send) -> Callable[[Message], Awaitable[None]]:
    """Return what sends an answer with the headers that all answers have."""

    async def guarded(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(raw=list(message.get("headers", [])))
            for name, value in _HEADERS.items():
                headers[name] = value
            message = {**message, "headers": headers.raw}
        await send(message)

    return guarded


async def _refuse(error: ApiError, scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008})
        return
    wants_page = scope["path"] == "/" and error.status == 401
    plain = PlainTextResponse(f"{error}\n", error.status, {"Cache-Control": "no-store"})
    await (plain if wants_page else refused(error))(Request(scope).scope, receive, send)
