"""What the two APIs of batches share on their HTTP side."""

import asyncio
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any, Protocol, TypeVar

import msgspec
from aiohttp import web

from runner.simulator.batch_behaviour import BatchBehaviour
from runner.simulator.dialect import Dialect, Refusal
from runner.simulator.play import reset

_T = TypeVar("_T")


class BatchAPI(Protocol):
    """The API of a dialect for batches."""

    dialect: Dialect

    async def answer(self, request: web.Request, headers: Mapping[str, str]) -> web.StreamResponse:
        """Answer a request. headers: of every answer. Raises Refusal."""
        ...

    async def close(self) -> None:
        """End all batches."""
        ...


def document(value: Any, headers: Mapping[str, str]) -> web.Response:
    """Return an answer with a JSON document."""
    return web.Response(body=msgspec.json.encode(value), headers={"content-type": "application/json", **headers})


def account_of(request: web.Request) -> str:
    """Return whose request it is: a hash of its key. Requests without one have an account in common."""
    key = request.headers.get("x-api-key") or request.headers.get("authorization", "").partition(" ")[2]
    return blake2b(key.strip().encode(), digest_size=16).hexdigest()


def page_size(request: web.Request, usual: int, most: int) -> int:
    """Return how many entries of a list are asked for. Raises Refusal (400)."""
    given = request.query.get("limit", str(usual))
    if not given.isdecimal() or not 1 <= int(given) <= most:
        raise Refusal(400, f"Invalid 'limit': it must be a number from 1 to {most}.", param="limit")
    return int(given)


def after(entries: Sequence[_T], ids: Sequence[str], cursor: str | None, name: str) -> Sequence[_T]:
    """Return the entries behind the one with an id; all if there is no such id. Raises Refusal (400) for an unknown one."""
    if cursor is None:
        return entries
    if cursor not in ids:
        raise Refusal(400, f"Invalid '{name}': there is no entry with the id {cursor!r}.", param=name)
    return entries[ids.index(cursor) + 1 :]


class Disturbances:
    """What goes wrong with requests about batches, in the order of their arrival."""

    def __init__(self, behaviour: BatchBehaviour) -> None:
        self._behaviour = behaviour
        self._requests = 0
        self._made = 0
        self._uploads = 0

    def check(self) -> None:
        """Raise the Refusal (503) of every so many-th request."""
        self._requests += 1
        every = self._behaviour.batch_503_every
        if every and self._requests % every == 0:
            raise Refusal(503, cause="outage")

    async def after_upload(self, request: web.Request) -> None:
        """Lose the answer to an upload, if it is one of the first so many."""
        self._uploads += 1
        if self._uploads <= self._behaviour.batch_lost_uploads:
            reset(request)

    async def after_create(self, request: web.Request) -> None:
        """Let the answer to a request that has made a batch wait, or lose it."""
        if self._behaviour.batch_create_s:
            await asyncio.sleep(self._behaviour.batch_create_s)
        self._made += 1
        if self._made <= self._behaviour.batch_lost:
            reset(request)
