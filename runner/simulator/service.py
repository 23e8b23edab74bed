"""Answers requests: checks route, outage, key, credit, form and limits, in this order, then draws and sends an answer."""

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
    """Answers the requests of one simulator, and counts them."""

    def __init__(self, behaviour: Behaviour) -> None:
        self._behaviour = behaviour
        self._chance = Chance(behaviour)
        self._counters = Counters()
        self._limits = Limits(rpm=behaviour.rpm, tpm=behaviour.tpm, max_in_flight=behaviour.max_in_flight, fill=behaviour.fill)
        # Status with which every request is refused; None if there is no outage.
        self.outage: int | None = None

    def stats(self) -> Stats:
        """Return the counts so far."""
        return self._counters.stats(self._limits.flight)

    def limit(self, changes: Mapping[str, int | None]) -> None:
        """Change the given limits. Raises UsageError, and changes nothing, if a value is invalid."""
        self._behaviour = msgspec.structs.replace(self._behaviour, **changes)
        self._limits.change(rpm=self._behaviour.rpm, tpm=self._behaviour.tpm, max_in_flight=self._behaviour.max_in_flight)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Answer one request to any path."""
        dialect = _DIALECTS.get(request.path)
        if dialect is not None and request.method == "POST":
            return await self._complete(request, dialect)
        if request.method == "GET" and request.path == "/stats":
            return _json(msgspec.json.encode(self.stats()))
        return self._answer_other(request, dialect or _guess_dialect(request))

    def _answer_other(self, request: web.Request, dialect: Dialect) -> web.Response:
        request_id = _request_id()
        try:
            _check_route(request)
            self._check_key(request)
        except Refusal as refusal:
            return self._refuse(dialect, refusal, request_id)
        return _json(dialect.models(MODEL), headers={dialect.request_id_header: request_id})

    async def _complete(self, request: web.Request, dialect: Dialect) -> web.StreamResponse:
        self._counters.requests += 1
        request_id = _request_id()
        try:
            body = await _body(request)
            self._check_outage()
            self._check_key(request)
            self._check_credit(dialect)
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
            echoed = echo(body) if self._behaviour.echo else None
            whole = answer(ask, draw, input_tokens=input_tokens, created=int(time.time()), echoed=echoed)
            self._limits.spend(len(whole.chunks))
            self._counters.output_tokens += len(whole.chunks)
            prepared = script(dialect, ask, draw, whole, request_id)
            if draw.wait_s > 0:
                await asyncio.sleep(draw.wait_s)
            headers = {"cache-control": "no-cache", **self._headers(dialect, request_id)}
            response = web.StreamResponse(headers={"content-type": prepared.content_type, **headers})
            complete = await play(request, response, prepared, self._behaviour.chunk_s)
            self._counters.completions += complete and (draw.fault is None or draw.fault in HARMLESS)
            return response
        finally:
            self._limits.leave()

    def _check_outage(self) -> None:
        if self.outage is not None:
            raise Refusal(self.outage, cause="outage")

    def _check_credit(self, dialect: Dialect) -> None:
        if self._behaviour.broke:
            raise dialect.out_of_credit()

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
        raise Refusal(404, f"There is nothing at this path; the simulator answers POST {' and POST '.join(_DIALECTS)}.")


def _guess_dialect(request: web.Request) -> Dialect:
    """Return the likely dialect of a request whose path belongs to neither: only Anthropic's clients send these headers."""
    is_anthropic = "anthropic-version" in request.headers or "x-api-key" in request.headers
    return _ANTHROPIC if is_anthropic else _OPENAI


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
