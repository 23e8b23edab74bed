"""Answers requests: checks route, outage, key, credit, form and limits, in this order, then draws, sends and bills an answer."""

import asyncio
import time
import uuid
from collections.abc import Mapping
from typing import NamedTuple

import msgspec
from aiohttp import web

from runner.simulator.answering import Answers, Shared
from runner.simulator.anthropic import Anthropic
from runner.simulator.batch_anthropic import AnthropicBatches
from runner.simulator.batch_api import BatchAPI, Disturbances
from runner.simulator.batch_files import Files
from runner.simulator.batch_lots import Lots
from runner.simulator.batch_openai import OpenAIBatches
from runner.simulator.behaviour import Behaviour
from runner.simulator.cache import Cache, Cacheable
from runner.simulator.dialect import Answer, Ask, Dialect, Refusal, output_tokens
from runner.simulator.draw import Chance, Draw
from runner.simulator.faults import HARMLESS, STATUSES
from runner.simulator.invoice import Invoice, Statement, Used
from runner.simulator.limits import Limits
from runner.simulator.openai import OpenAI
from runner.simulator.play import Progress, play
from runner.simulator.prompt import BYTES_PER_TOKEN
from runner.simulator.script import Script, ending, made, script
from runner.simulator.stats import Counters, Stats

MAX_BODY = 64 * 1024 * 1024
MODEL = "simulated-model"
_OPENAI = OpenAI()
_ANTHROPIC = Anthropic()
_DIALECTS: Mapping[str, Dialect] = {_OPENAI.path: _OPENAI, _ANTHROPIC.path: _ANTHROPIC}


class _Admitted(NamedTuple):
    """A request that no check has refused."""

    number: int
    id: str
    dialect: Dialect
    body: bytes
    ask: Ask
    input_tokens: int
    cacheable: Cacheable | None


class Service:
    """Answers the requests of one simulator, counts and bills them."""

    def __init__(self, behaviour: Behaviour) -> None:
        self._behaviour = behaviour
        self._chance = Chance(behaviour)
        self._counters = Counters()
        self._limits = Limits(rpm=behaviour.rpm, tpm=behaviour.tpm, max_in_flight=behaviour.max_in_flight, fill=behaviour.fill)
        self._cache = Cache(behaviour.cache, lifetime_s=behaviour.cache_s)
        self._invoice = Invoice(behaviour.prices)
        self._answers = Answers(behaviour, self._cache)
        shared = Shared(behaviour, self._chance, self._counters, self._cache, self._invoice, self._answers)
        self._files, lots, disturbances = Files(), Lots(behaviour, behaviour.seed), Disturbances(behaviour)
        self._disturbances = disturbances
        self._openai_batches = OpenAIBatches(shared, self._files, lots, _OPENAI, disturbances)
        self._anthropic_batches = AnthropicBatches(shared, self._files, lots, _ANTHROPIC, disturbances)
        # Status with which every request is refused; None if there is no outage.
        self.outage: int | None = None

    def stats(self) -> Stats:
        """Return the counts so far."""
        return self._counters.stats(self._limits.flight)

    def invoice(self, *, lines: bool) -> Statement:
        """Return the invoice so far. lines: with one line for each of the last 100,000 billed requests."""
        return self._invoice.statement(lines=lines, open_requests=self._limits.flight.now)

    def limit(self, changes: Mapping[str, int | None]) -> None:
        """Change the given limits. Raises UsageError, and changes nothing, if a value is invalid."""
        self._behaviour = msgspec.structs.replace(self._behaviour, **changes)
        self._limits.change(rpm=self._behaviour.rpm, tpm=self._behaviour.tpm, max_in_flight=self._behaviour.max_in_flight)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Answer one request to any path."""
        dialect = _DIALECTS.get(request.path)
        if dialect is not None and request.method == "POST":
            return await self._complete(request, dialect)
        if (api := self._batch_api(request.path)) is not None:
            return await self._about_batches(request, api)
        if request.method == "GET" and request.path == "/stats":
            return _json(msgspec.json.encode(self.stats()))
        if request.method == "GET" and request.path == "/invoice":
            return _json(msgspec.json.encode(self.invoice(lines=request.query.get("lines", "0") not in ("", "0"))))
        return self._answer_other(request, dialect or _guess_dialect(request))

    async def close(self) -> None:
        """End all batches, and delete their files."""
        try:
            await self._openai_batches.close()
            await self._anthropic_batches.close()
        finally:
            self._files.close()

    def _batch_api(self, path: str) -> BatchAPI | None:
        parts = path.split("/")
        if parts[1:2] != ["v1"]:
            return None
        if parts[2:3] in (["files"], ["batches"]):
            return self._openai_batches
        return self._anthropic_batches if parts[2:4] == ["messages", "batches"] else None

    async def _about_batches(self, request: web.Request, api: BatchAPI) -> web.StreamResponse:
        request_id = _request_id()
        try:
            self._check_outage()
            self._check_key(request)
            self._disturbances.check()
            if request.method == "POST" and not request.path.endswith("/cancel"):
                self._check_credit(api.dialect)
            return await api.answer(request, {api.dialect.request_id_header: request_id})
        except Refusal as refusal:
            return self._refuse(api.dialect, refusal, request_id)

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
        number = self._counters.number
        request_id = _request_id()
        try:
            body = await _body(request)
            self._check_outage()
            self._check_key(request)
            self._check_credit(dialect)
            ask = dialect.read(body, request.headers)
            cacheable = self._cache.read(ask.model, body)
            input_tokens = max(1, len(body) // BYTES_PER_TOKEN)
            self._limits.admit(input_tokens)
        except Refusal as refusal:
            self._counters.refused[refusal.cause] += 1
            return self._refuse(dialect, refusal, request_id)
        self._counters.input_tokens += input_tokens
        try:
            return await self._serve(request, _Admitted(number, request_id, dialect, body, ask, input_tokens, cacheable))
        finally:
            self._limits.leave()

    async def _serve(self, request: web.Request, admitted: _Admitted) -> web.StreamResponse:
        """Answer an admitted request as chance decides, and bill it unless it is refused."""
        draw = self._chance.draw(admitted.body)
        if draw.fault is not None:
            self._counters.faults[draw.fault] += 1
            if draw.fault in STATUSES:
                return self._refuse(admitted.dialect, _refusal(draw.fault), admitted.id)
        if admitted.ask.tier == "flex" and draw.flex_full:
            self._counters.refused["capacity"] += 1
            return self._refuse(admitted.dialect, _no_capacity(self._behaviour.flex_status), admitted.id)
        whole = self._answer(admitted, draw)
        self._limits.spend(output_tokens(whole))
        self._counters.output_tokens += output_tokens(whole)
        prepared = script(admitted.dialect, admitted.ask, draw, whole, admitted.id)
        wait_s = draw.wait_s + (self._behaviour.flex_delay_s if whole.tier == "flex" else 0)
        progress = Progress()
        try:
            if wait_s > 0:
                await asyncio.sleep(wait_s)
            if admitted.cacheable is not None:
                self._cache.keep(admitted.cacheable)
            headers = {"cache-control": "no-cache", **self._headers(admitted.dialect, admitted.id)}
            response = web.StreamResponse(headers={"content-type": prepared.content_type, **headers})
            await play(request, response, prepared, self._behaviour.chunk_s, progress)
            self._counters.completions += progress.complete and (draw.fault is None or draw.fault in HARMLESS)
            return response
        finally:
            # also if the client is gone, which cancels this
            self._bill(admitted, whole, prepared, progress)

    def _answer(self, admitted: _Admitted, draw: Draw) -> Answer:
        """Return the answer as it would be sent without a fault, with what the cache and the tier make of it."""
        tier = admitted.ask.tier
        if tier == "flex" and draw.flex_downgrade:
            tier = admitted.dialect.standard_tier
        return self._answers.make(
            admitted.ask,
            draw,
            body=admitted.body,
            input_tokens=admitted.input_tokens,
            tier=tier,
            cacheable=admitted.cacheable,
        )

    def _bill(self, admitted: _Admitted, whole: Answer, prepared: Script, progress: Progress) -> None:
        begun = progress.sent > 0
        cached = whole.cached_tokens or 0
        written = whole.written_tokens or 0 if begun else 0
        # what was to be thought was thought before the first word
        reasoning = whole.reasoning_tokens or 0 if begun or not prepared.streamed else 0
        used = Used(
            fresh=whole.input_tokens - cached - written,
            cached=cached,
            written=written,
            written_1h=whole.written_1h_tokens if begun else 0,
            output=reasoning + made(prepared, progress.sent),
            reasoning=reasoning,
        )
        self._invoice.bill(
            admitted.number,
            admitted.body,
            used,
            model=whole.model,
            tier=whole.tier or admitted.dialect.standard_tier,
            dialect=admitted.dialect.name,
            reported=progress.complete and prepared.with_usage,
            ending=ending(prepared, progress.sent, complete=progress.complete),
        )

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


def _no_capacity(status: int) -> Refusal:
    """Return the refusal of a flex request: OpenAI's (429), which tells no wait, or Groq's (498)."""
    if status == 498:
        return Refusal(status, cause="capacity")
    message = "Flex processing does not have sufficient resources at the moment. Please try again later."
    return Refusal(status, message, cause="capacity", kind="resource_unavailable", code="resource_unavailable")


def _request_id() -> str:
    return f"req_{uuid.uuid4().hex}"


def _json(body: bytes, *, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    return web.Response(body=body, status=status, headers={"content-type": "application/json", **(headers or {})})


async def _body(request: web.Request) -> bytes:
    try:
        return await request.read()
    except web.HTTPRequestEntityTooLarge:
        raise Refusal(413) from None
