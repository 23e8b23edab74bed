"""What the routes that read answer: runs, rows, errors, figures, history. The JSON is that of the commands with ``--json``."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from runner import api
from runner.errors import UsageError
from runner.model import Run
from runner.origin import files_in
from runner.session import in_json, mending
from runner.store import database, early
from runner.store.over_time import OverTime, over_time
from runner.store.reader import StoreReader
from runner.store.runs import KnownRun, known_run
from runner.store.spending import Fetch
from runner.store.steered import Steered, steered_of
from runner.web.events import EventStream, stream
from runner.web.hub import ALL
from runner.web.reads import Reads, reads_of
from runner.web.replies import ApiError, reply
from runner.web.rows import page_of

MOST_IDS = 1_000
"""Ids of a cause that are told; its count tells how many there are."""


async def runs(request: Request) -> Response:
    """Answer as ``runner list --json``, with what each run has cost."""
    reads = reads_of(request)
    if not reads.is_there:
        return reply([])
    found = await reads.kept("runs", lambda: api.runs(db=reads.store))
    return reply(await reads.now(lambda: request.app.state.costs.beside(found)))


async def run(request: Request) -> Response:
    """Answer as ``runner status --json``."""
    reads, number = reads_of(request), await run_of(request)

    def read() -> dict[str, Any]:
        return in_json.status(*api.status(number, db=reads.store))

    return reply(await reads.kept(("run", number), read))


async def rows(request: Request) -> Response:
    """Answer with a page of rows."""
    reads, number = reads_of(request), await run_of(request)
    query, indexing = request.query_params.multi_items(), request.app.state.indexing
    # whoever looks at rows may search among them next
    indexing.wanted()
    known = await known_of(reads, number)
    return reply(await reads.now(lambda: page_of(reads.store, known, query, indexing.index)))


async def row(request: Request) -> Response:
    """Answer as ``runner show --json``."""
    reads, number, key = reads_of(request), await run_of(request), request.path_params["row"]

    def usual(fetch: Fetch, of: int) -> early.Usual | None:
        return reads.kept_in_thread(("usual", of), lambda: early.usual(fetch, of))

    def read_run() -> Run:
        with StoreReader(reads.store) as reader:
            return reader.run(number, counted=False)

    try:
        # its settings alone are needed, which change when a session begins
        of = await reads.kept(("settings", number), read_run)
        files = files_in(of.settings)
        told = await reads.now(lambda: [in_json.row(of, one, files) for one in in_json.stories(reads.store, of, key, usual)])
        return reply(told if len(told) > 1 else told[0])
    except UsageError as error:
        raise ApiError(404, "no_row", str(error)) from error


async def errors(request: Request) -> Response:
    """Answer as ``runner errors --json``, with the first ids of each cause."""
    reads, number = reads_of(request), await run_of(request)
    return reply(await reads.kept(("errors", number), lambda: _errors(reads.store, number)))


def _errors(store: Path, number: int) -> list[dict[str, Any]]:
    told = []
    with api.errors(number, db=store) as found:
        for cause in (*found.failed, *found.answered):
            ids = [one for one, _ in zip(found.reader.ids(cause), range(MOST_IDS), strict=False)]
            told.append({**mending.told(cause, found, str(store)), "ids": ids})
    return told


async def figures(request: Request) -> Response:
    """Answer with what happened over time."""
    reads, number = reads_of(request), await run_of(request)

    def read() -> OverTime:
        with StoreReader(reads.store) as reader, reader.snapshot():
            try:
                return over_time(reader.fetch, number)
            except OverflowError as error:
                raise database.store_error(reads.store, "read", error) from error

    return reply(await reads.kept(("figures", number), read))


async def history(request: Request) -> Response:
    """Answer with what was asked of the sessions of a run, oldest first."""
    reads, number = reads_of(request), await run_of(request)

    def read() -> Sequence[Steered]:
        with StoreReader(reads.store) as reader:
            return steered_of(reader.fetch, number)

    return reply(await reads.now(read))


async def events(request: Request) -> EventStream:
    """Answer with the stream of one run."""
    return stream(request.app.state.hub, await run_of(request), request.headers.get("last-event-id"))


async def all_events(request: Request) -> EventStream:
    """Answer with the stream of all runs."""
    return stream(request.app.state.hub, ALL, request.headers.get("last-event-id"))


async def run_of(request: Request) -> int:
    """Return the number of the run that a path names. Raises ApiError if there is none."""
    reads, number = reads_of(request), request.path_params["run"]
    if not reads.is_there or number >= 1 << 62:
        raise ApiError(404, "no_run", f"there is no run {number}")
    await known_of(reads, number)
    return int(number)


async def known_of(reads: Reads, number: int) -> KnownRun:
    """Return what the store has of a run. Raises ApiError if there is none."""
    try:
        return await reads.kept(("known", number), lambda: known_run(reads.store, number))
    except UsageError as error:
        raise ApiError(404, "no_run", f"there is no run {number}") from error
