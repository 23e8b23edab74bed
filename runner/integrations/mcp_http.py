"""The server over HTTP, on this machine only: a token, and no request from a page of another origin or by another name."""

import asyncio
import os
import secrets
import socket
import sys
from typing import Any
from urllib.parse import urlsplit

import uvicorn
from mcp.server.mcpserver import MCPServer
from mcp.server.transport_security import TransportSecuritySettings
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from runner.errors import UsageError
from runner.session.signals import STOP_SIGNALS, exit_code, on_signals
from runner.web.uvicorn_internals import MOST_HEAD, LimitedProtocol

PATH = "/mcp"
TOKEN = "RUNNER_MCP_TOKEN"  # noqa: S105 - the name of a variable
"""The environment variable of a token that stays the same; without it, each start has a new one."""
_LEAST = 20
"""Characters of such a token, at the least."""
_GRACE_S = 1


def token_in(environment: Any) -> str:
    """Return the token of a server. Raises UsageError for one that is too short to be a secret."""
    given = environment.get(TOKEN, "")
    if given and (len(given) < _LEAST or not given.isascii() or not given.isprintable()):
        raise UsageError(f"{TOKEN} must have {_LEAST} or more printable characters; leave it unset for a new token at each start")
    return given or secrets.token_urlsafe(32)


class _Door:
    """Lets in who has the token and comes by a name of this machine."""

    def __init__(self, app: ASGIApp, token: str, names: tuple[str, ...]) -> None:
        self._app, self._token, self._names = app, f"Bearer {token}".encode(), names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] == "http" and (refusal := self._refusal(dict(scope["headers"]))) is not None:
            status, words = refusal
            headers = {"WWW-Authenticate": "Bearer"} if status == 401 else {}
            await PlainTextResponse(words, status_code=status, headers=headers)(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _refusal(self, headers: dict[bytes, bytes]) -> tuple[int, str] | None:
        # the name first: a page that reaches this server by another name is told nothing about tokens
        if headers.get(b"host", b"").decode("latin-1").lower() not in self._names:
            return 421, "this server answers only by the address that it has printed"
        origin = headers.get(b"origin")
        if origin is not None and urlsplit(origin.decode("latin-1").lower()).netloc not in self._names:
            return 403, "no requests from pages of another origin"
        if not secrets.compare_digest(headers.get(b"authorization", b""), self._token):
            return 401, "the token is missing or wrong: send the header Authorization: Bearer TOKEN"
        return None


def listening(port: int) -> socket.socket:
    """Return a socket that listens on this machine. port: 0 takes a free one. Raises UsageError for one that is taken."""
    end = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    end.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        end.bind(("127.0.0.1", port))
        end.listen()
    except OSError as error:
        end.close()
        raise UsageError(
            f"port {port} cannot be used: {error.strerror}; name another one with --port, or 0 for a free one"
        ) from None
    return end


def configured(app: ASGIApp) -> uvicorn.Config:
    """Return how an application is served: heads of requests, and connections, are limited as those of the page."""
    return uvicorn.Config(
        app,
        http=LimitedProtocol,
        ws="none",
        log_level="error",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=_GRACE_S,
        h11_max_incomplete_event_size=MOST_HEAD,
    )


def serve(server: MCPServer[Any], port: int) -> int:
    """Serve until a signal comes, and return the exit code."""
    end, token = listening(port), token_in(os.environ)
    number = end.getsockname()[1]
    names = tuple(f"{host}:{number}" for host in ("127.0.0.1", "localhost"))
    security = TransportSecuritySettings(allowed_hosts=[*names], allowed_origins=[f"http://{name}" for name in names])
    app = _Door(server.streamable_http_app(streamable_http_path=PATH, transport_security=security), token, names)
    listener = uvicorn.Server(configured(app))

    def leave(_: int) -> None:
        listener.should_exit = True

    # uvicorn raises what it has caught once more when it has ended, so that all of them come here
    with on_signals(STOP_SIGNALS, leave) as caught:
        shown = "the token in " + TOKEN if os.environ.get(TOKEN) else f"Bearer {token}"
        print(f"runner mcp: http://{names[0]}{PATH}\nAuthorization: {shown}", file=sys.stderr, flush=True)
        asyncio.run(listener.serve(sockets=[end]))
    return exit_code(caught[0]) if caught else 0
