"""Answers requests: route, outage, key, money, form, limits, chance, script, in this order. It owns no socket."""

import asyncio
import time
import uuid
from collections.abc import Mapping

import msgspec
from aiohttp import web

from runner.simulator.anthropic import Anthropic
from runner.simulator.behaviour import Behaviour
from runner.simulator.dialect import Dialect, Refusal
from runner.simulator.draw import Chance
from runner.simulator.faults import HARMLESS, STATUSES
from runner.simulator.limits import Limits
from runner.simulator.openai import OpenAI
from runner.simulator.play import play
from runner.simulator.script import answer, script
from runner.simulator.stats import Counters, Stats
from runner.simulator.text import echo

MAX_BODY = 64 * 1024 * 1024
MODEL = "simulated-model"
_BYTES_PER_TOKEN = 4
_OPENAI = OpenAI()
_ANTHROPIC = Anthropic()
_DIALECTS: Mapping[str, Dialect] = {_OPENAI.path: _OPENAI, _ANTHROPIC.path: _ANTHROPIC}


class Service:
    """All answers of one simulator, and the counts."""

    def __init__(self, behaviour: Behaviour) -> None:
        self._behaviour = behaviour
        self._chance = Chance(behaviour)
        self._counters = Counters()
        self._limits = Limits(rpm=behaviour.rpm, tpm=behaviour.tpm, max_in_flight=behaviour.max_in_flight, fill=behaviour.fill)
        # Status of every request at present; None is no outage.
        self.outage: int | None = None

    def stats(self) -> Stats:
        """The counts so far."""
        return self._counters.stats(self._limits.flight)

    def limit(self, changes: Mapping[str, int | None]) -> None:
        """Change the limits that are named; nonsense is a UsageError and changes nothing."""
        self._behaviour = msgspec.structs.replace(self._behaviour, **changes)
        self._limits.change(rpm=self._behaviour.rpm, tpm=self._behaviour.tpm, max_in_flight=self._behaviour.max_in_flight)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Answer one request, whatever it asks for."""
        dialect = _DIALECTS.get(request.path)
        if dialect is not None and request.method == "POST":
            return await self._exchange(request, dialect)
        if request.method == "GET" and request.path == "/stats":
            return _json(msgspec.json.encode(self.stats()))
        return self._aside(request, dialect or _guess(request))

    def _aside(self, request: web.Request, dialect: Dialect) -> web.Response:
        request_id = _request_id()
        try:
            _check_route(request)
            self._check_key(request)
        except Refusal as refusal:
            return self._refuse(dialect, refusal, request_id)
        return _json(dialect.models(MODEL), headers={dialect.request_id_header: request_id})

    async def _exchange(self, request: web.Request, dialect: Dialect) -> web.StreamResponse:
        self._counters.requests += 1
        request_id = _request_id()
        try:
            body = await _body(request)
            self._check_outage()
            self._check_key(request)
            self._check_money(dialect)
            ask = dialect.read(body, request.headers)
            input_tokens = max(1, len(body) // _BYTES_PER_TOKEN)
            self._limits.admit(input_tokens)
        except Refusal as refusal:
            self._counters.refused[refusal.cause] += 1
            return self._refuse(dialect, refusal, request_id)
        self._counters.input_tokens += input_tokens
        try:
            draw = self._chance.draw(body)
            if draw.fault is not None:
                self._counters.faults[draw.fault] += 1
                if draw.fault in STATUSES:
                    return self._refuse(dialect, _refusal(draw.fault), request_id)
            said = echo(body) if self._behaviour.echo else None
            whole = answer(ask, draw, input_tokens=input_tokens, created=int(time.time()), said=said)
            self._limits.spend(len(whole.chunks))
            self._counters.output_tokens += len(whole.chunks)
            played = script(dialect, ask, draw, whole, request_id)
            if draw.wait_s > 0:
                await asyncio.sleep(draw.wait_s)
            headers = {"cache-control": "no-cache", **self._headers(dialect, request_id)}
            response = web.StreamResponse(headers={"content-type": played.content_type, **headers})
            ended = await play(request, response, played, self._behaviour.chunk_s)
            self._counters.completions += ended and (draw.fault is None or draw.fault in HARMLESS)
            return response
        finally:
            self._limits.leave()

    def _check_outage(self) -> None:
        if self.outage is not None:
            raise Refusal(self.outage, cause="outage")

    def _check_money(self, dialect: Dialect) -> None:
        if self._behaviour.broke:
            raise dialect.broke()

    def _check_key(self, request: web.Request) -> None:
        key = self._behaviour.key
        if key is None:
            return
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        bearer = token.strip() if scheme.lower() == "bearer" else None
        if key not in (bearer, request.headers.get("x-api-key")):
            raise Refusal(401, cause="key")

    def _refuse(self, dialect: Dialect, refusal: Refusal, request_id: str) -> web.Response:
        headers = self._headers(dialect, request_id)
        if refusal.retry_after_s is not None and self._behaviour.hints:
            headers["retry-after"] = str(refusal.retry_after_s)
        return _json(dialect.error(refusal, request_id), status=refusal.status, headers=headers)

    def _headers(self, dialect: Dialect, request_id: str) -> dict[str, str]:
        windows = self._limits.windows() if self._behaviour.hints else ()
        limits = dialect.limit_headers(windows, time.time())
        return {dialect.request_id_header: request_id, **limits}


def _check_route(request: web.Request) -> None:
    if (request.method, request.path) != ("GET", "/v1/models"):
        raise Refusal(404, f"There is nothing here; the simulator answers POST {' and POST '.join(_DIALECTS)}.")


def _guess(request: web.Request) -> Dialect:
    """The dialect of somebody who asks for a path that belongs to neither, by the headers only one of them has."""
    named = "anthropic-version" in request.headers or "x-api-key" in request.headers
    return _ANTHROPIC if named else _OPENAI


def _refusal(fault: str) -> Refusal:
    return Refusal(STATUSES[fault], retry_after_s=1 if fault == "429" else None)


def _request_id() -> str:
    return f"req_{uuid.uuid4().hex}"


def _json(body: bytes, *, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    return web.Response(body=body, status=status, headers={"content-type": "application/json", **(headers or {})})


async def _body(request: web.Request) -> bytes:
    try:
        return await request.read()
    except web.HTTPRequestEntityTooLarge:
        raise Refusal(413) from None
