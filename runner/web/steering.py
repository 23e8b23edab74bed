"""What the routes that change something do: they ask the session of a run, or start a session of one that is not running."""

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

import msgspec
from msgspec import UNSET, Struct, UnsetType
from starlette.requests import Request
from starlette.responses import Response

from runner.control.client import By, connect
from runner.control.messages import NONE, Cancel, Continue, Pause, Reply, Requeue, Set, Stop
from runner.control.messages import Request as Asked
from runner.errors import NotRunningError
from runner.session import only
from runner.text import clean
from runner.web.reads import reads_of
from runner.web.replies import ApiError, reply
from runner.web.retrying import Foreseen, begin, foreseen, foreseen_rest
from runner.web.routes import run_of
from runner.web.starting import start

T = TypeVar("T")

MOST_IDS = 100_000
"""Rows that one request names, at most."""
PLAIN: dict[str, Asked] = {"pause": Pause(), "continue": Continue(), "stop": Stop()}
"""By the last word of a path, what needs to be told nothing more."""
OF_ROWS: dict[str, type[Cancel | Requeue]] = {"cancel": Cancel, "requeue": Requeue}
"""The same for what is about rows."""


class _Nothing(Struct, forbid_unknown_fields=True):
    """No body is needed."""


class _Rows(Struct, forbid_unknown_fields=True):
    """ids: of rows, as results have them."""

    ids: list[str | int | float]


class _Limits(Struct, forbid_unknown_fields=True):
    """rpm, tpm: None takes the limit away."""

    concurrency: int | UnsetType = UNSET
    rpm: float | UnsetType | None = UNSET
    tpm: float | UnsetType | None = UNSET
    max_cost: float | UnsetType = UNSET


class _Resume(Struct, forbid_unknown_fields=True):
    """confirm: start it."""

    confirm: bool = False


class _Retry(Struct, forbid_unknown_fields=True):
    """Which rows, by ids or by what ``runner retry --class`` takes; neither: those that failed. confirm: start it."""

    ids: list[str | int | float] | None = None
    class_: str | None = msgspec.field(default=None, name="class")
    confirm: bool = False


async def plain(request: Request) -> Response:
    """Pause a session, let it go on, or end it."""
    await _body(request, _Nothing)
    return await _asked(request, PLAIN[_last(request)])


async def rows(request: Request) -> Response:
    """Give rows up, or send rows again that have failed."""
    named = _ids((await _body(request, _Rows)).ids)
    if not named:
        raise ApiError(400, "body", "`ids` names no row")
    return await _asked(request, OF_ROWS[_last(request)](ids=named))


async def limits(request: Request) -> Response:
    """Change the limits of a session."""
    given = await _body(request, _Limits)
    named = {name: value for name in _Limits.__struct_fields__ if (value := getattr(given, name)) is not UNSET}
    if not named:
        raise ApiError(400, "body", "name at least one of concurrency, rpm, tpm and max_cost")
    wanted: dict[str, Any] = {name: NONE if value is None else value for name, value in named.items()}
    return await _asked(request, Set(**wanted))


async def retry(request: Request) -> Response:
    """Start a retry of a run that is not running; without ``confirm``, say what it sends and may cost."""
    given, number, reads = await _body(request, _Retry), await run_of(request), reads_of(request)
    if given.ids is not None and given.class_ is not None:
        raise ApiError(400, "body", "name rows by `ids` or by `class`, not by both")
    ids = None if given.ids is None else _ids(given.ids)
    if ids == ():
        raise ApiError(400, "body", "`ids` names no row")
    # a class that names nothing is no wish for all that failed
    classes = tuple(only.listed(given.class_, "class"))
    found = await reads.now(lambda: foreseen(reads.store, number, ids, classes))
    return await _started(given, found, lambda: begin(reads.store, number, ids, classes, found.options))


async def resume(request: Request) -> Response:
    """Start what is left of a run that is not running; without ``confirm``, say what it sends and may cost."""
    given, number, reads = await _body(request, _Resume), await run_of(request), reads_of(request)
    found = await reads.now(lambda: foreseen_rest(reads.store, number))
    return await _started(given, found, lambda: start(reads.store, number, "resume"))


async def _started(given: _Retry | _Resume, found: Foreseen, begun: Callable[[], Awaitable[str]]) -> Response:
    """Answer with what a session would send, and start it if that was asked. begun: starts it."""
    if given.confirm and found.rows == 0:
        raise ApiError(409, "refused", found.sentence)
    done = await begun() if given.confirm else ""
    told = {"started": given.confirm, "rows": found.rows, "cost": found.cost, "sentence": found.sentence, "done": done}
    return reply(told, 202 if given.confirm else 200)


async def _asked(request: Request, what: Asked) -> Response:
    """Ask the session of a run for something, and answer with what came of it."""
    number, store = await run_of(request), reads_of(request).store
    try:
        told = await ask(store, number, what, cast("By", request.scope["state"]["by"]))
    except NotRunningError as error:
        raise ApiError(409, "not_running", str(error)) from error
    if told.error is not None:
        raise ApiError(409, "refused", told.error)
    return reply({"done": told.done, "rows": told.rows})


async def ask(store: Path, number: int, what: Asked, by: By) -> Reply:
    """Ask the session of a run for something. Raises NotRunningError."""
    connection = await connect(store, number)
    try:
        return await connection.ask(what, by)
    finally:
        await connection.aclose()


async def _body(request: Request, kind: type[T]) -> T:
    """Return the body of a request. Raises ApiError for what is none, or has something that nobody knows."""
    try:
        return msgspec.json.decode(await request.body() or b"{}", type=kind)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise ApiError(400, "body", f"the body is not what is expected here: {clean(str(error), 200)}") from error


def _last(request: Request) -> str:
    return str(request.url.path.rpartition("/")[2])


def _ids(given: Sequence[Any]) -> tuple[str, ...]:
    if len(given) > MOST_IDS:
        raise ApiError(413, "large", f"`ids` names more than {MOST_IDS:,} rows; name them in several requests")
    return tuple(dict.fromkeys(one if isinstance(one, str) else str(one) for one in given))
