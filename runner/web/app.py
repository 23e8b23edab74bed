"""The application: its routes, its files, and what becomes of errors."""

import sys
from importlib.resources import files
from pathlib import Path

from starlette.applications import Starlette
from starlette.convertors import IntegerConvertor, register_url_convertor
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from runner.errors import RunnerError
from runner.text import clean, redact
from runner.web import routes, steering
from runner.web.access import Access
from runner.web.ask_routes import AskRoutes
from runner.web.costs import Costs
from runner.web.guard import Guard
from runner.web.hub import Hub
from runner.web.indexing import Indexing
from runner.web.metrics import metrics
from runner.web.openapi import openapi
from runner.web.reads import Reads
from runner.web.replies import ApiError, of_runner, refused
from runner.web.running import running

_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".txt": "text/plain; charset=utf-8",
    ".json": "application/json",
}
_WORDS = {404: ("no_route", "there is nothing at this address"), 405: ("method", "this address does not take this method")}


class _RunNumber(IntegerConvertor):
    """A number of so few digits that it can be one: Python refuses to read thousands of them."""

    regex = "[0-9]{1,1000}"


register_url_convertor("run", _RunNumber())


def static_files() -> dict[str, Path]:
    """Return the files of the page by their names. Nothing else is ever read for an address under ``/static``."""
    root = Path(str(files("runner"))) / "web" / "static"
    return {
        path.relative_to(root).as_posix(): path for path in sorted(root.rglob("*")) if path.is_file() and path.suffix in _TYPES
    }


def make_hub(store: Path) -> Hub:
    """Return what follows the runs of a store. It is closed when the server ends, before the answers that are streams."""
    hub = Hub(store, lambda where: running(where, frozenset(hub.followed)))
    return hub


def make_app(store: Path, access: Access, hub: Hub, asks: AskRoutes) -> ASGIApp:
    """Return the application for one store. asks: what asks prompts."""
    app = Starlette(
        routes=[*_routes(), *asks.routes],
        exception_handlers={ApiError: _refused, RunnerError: _refused, HTTPException: _refused, Exception: _failed},
    )
    app.router.redirect_slashes = False
    app.state.files, app.state.hub, app.state.reads = static_files(), hub, Reads(store)
    app.state.indexing, app.state.costs = Indexing(app.state.reads), Costs(store)
    return Guard(app, access)


def _routes() -> list[Route]:
    of_run = "/api/runs/{run:run}"
    return [
        Route("/", _page),
        Route("/static/{path:path}", _static),
        Route("/api/runs", routes.runs),
        Route("/api/events", routes.all_events),
        Route(of_run, routes.run),
        Route(f"{of_run}/rows", routes.rows),
        Route(f"{of_run}/rows/{{row:path}}", routes.row),
        Route(f"{of_run}/errors", routes.errors),
        Route(f"{of_run}/figures", routes.figures),
        Route(f"{of_run}/history", routes.history),
        Route(f"{of_run}/events", routes.events),
        *(Route(f"{of_run}/{what}", steering.plain, methods=["POST"]) for what in steering.PLAIN),
        *(Route(f"{of_run}/{what}", steering.rows, methods=["POST"]) for what in steering.OF_ROWS),
        Route(f"{of_run}/set", steering.limits, methods=["POST"]),
        Route(f"{of_run}/retry", steering.retry, methods=["POST"]),
        Route(f"{of_run}/resume", steering.resume, methods=["POST"]),
        Route("/metrics", metrics),
        Route("/openapi.json", openapi),
    ]


async def _page(request: Request) -> Response:
    return _file(request, "index.html")


async def _static(request: Request) -> Response:
    return _file(request, request.path_params["path"])


def _file(request: Request, name: str) -> Response:
    found = request.app.state.files.get(name)
    if found is None:
        raise ApiError(404, "no_file", "there is no such file")
    return FileResponse(found, headers={"Cache-Control": "no-cache"}, media_type=_TYPES[found.suffix])


async def _refused(_: Request, error: Exception) -> Response:
    if isinstance(error, HTTPException):
        code, words = _WORDS.get(error.status_code, ("http", str(error.detail)))
        return refused(ApiError(error.status_code, code, words, error.headers))
    if isinstance(error, RunnerError):
        return refused(of_runner(error))
    assert isinstance(error, ApiError)
    return refused(error)


async def _failed(request: Request, error: Exception) -> Response:
    where = clean(request.scope["path"], 200)
    print(
        f"runner: internal error at {where}, {type(error).__name__}: {clean(redact(str(error)), 500)}",
        file=sys.stderr,
        flush=True,
    )
    return refused(ApiError(500, "internal", "internal error of the server; this is a bug, and its terminal says more"))
