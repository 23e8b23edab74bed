"""The Messages dialect of Anthropic.

This module encodes requests; ``runner.providers.messages`` decodes the answers.
"""

import time
from collections.abc import Callable, Mapping

from runner.answer_shape import SHAPE_NAME, AnswerShape, How
from runner.errors import AttachmentError, ProviderError
from runner.interfaces import Provider
from runner.media import Media, MediaLimits
from runner.model import SYSTEM_ROLES, HttpCall, Json, Request
from runner.providers import plain
from runner.providers.cache_marks import is_marked, marked, system_of
from runner.providers.classify import MONEY_CODES, Names
from runner.providers.completeness import Habits
from runner.providers.lenient_json import encode_json, join_url, merged, request_headers
from runner.providers.messages import AnthropicDecoder
from runner.providers.refusal import from_status
from runner.text import clean

DEFAULT_BASE_URL = "https://api.anthropic.com"
"""Does not include the version, as in the official SDK."""

KEY_ENV = "ANTHROPIC_API_KEY"
"""The environment variable that holds the key."""

BASE_URL_ENV = "ANTHROPIC_BASE_URL"
"""The environment variable that holds the base URL."""

DEFAULT_MAX_TOKENS = 4096
"""Sent if the job sets no max_tokens: the API requires a number."""

TIERS = ("auto", "standard_only")
"""The service tiers that can be asked for."""

CACHE_MARKS = True
"""What a cache is to keep has to be marked."""

SCHEMA_MODES: tuple[How, ...] = ("response_format", "tool")
"""How a schema can be sent: as ``output_config.format``, or as a tool that the model has to call."""

CONTENT_PARTS = frozenset({"image", "document"})
"""The types of the content parts of this dialect that hold a file."""

MEDIA_LIMITS = MediaLimits(image=10 << 20, request=32 << 20)
"""What the API documents: 10 MB for a picture as base64, 32 MB for a request."""

_API_VERSION = "2023-06-01"


def content_part(media: Media) -> Json:
    """Return the content part for a file. Raises AttachmentError for a kind that the Messages API does not take.

    What else the user has written in a part of this dialect (``cache_control``, ``citations``) is kept.
    """
    if media.kind == "audio":
        name = clean(media.source, 80) or "a part"
        raise AttachmentError(f"{name}: the Messages API takes no recordings, only pictures and PDFs")
    word = "image" if media.kind == "image" else "document"
    source = {"type": "base64", "media_type": media.media_type, "data": media.data}
    given = media.part if media.part is not None and media.part.get("type") == word else {}
    return {**given, "type": word, "source": {"type": "url", "url": media.url} if media.url else source}


def make(
    base_url: str,
    key: str | None,
    *,
    version: str,
    money_codes: frozenset[str] = MONEY_CODES,
    rate_codes: frozenset[str] = frozenset(),
    secrets: frozenset[str] = frozenset(),
    clock: Callable[[], float] = time.time,
    stream: bool = True,
) -> Provider:
    """Return the dialect for one endpoint.

    version: of this program, for the user agent. money_codes: error names that mean "out of credit". rate_codes: error names of
    plain rate limits, although they mention money. clock: seconds since the epoch, for servers that send no ``date`` header.
    stream: False asks for each answer in one piece. secrets: further texts that no message may quote.
    """
    names = Names(key=key, secrets=secrets, money_codes=money_codes, rate_codes=rate_codes)
    return _Anthropic(base_url, key, request_headers(version, stream=stream), names, clock, stream=stream)


def _shaped(shape: AnswerShape) -> dict[str, Json]:
    """Return the parameters that ask for an answer of a shape."""
    if shape.how == "tool":
        tool = {"name": SHAPE_NAME, "description": "Gives the answer.", "input_schema": shape.schema}
        return {"tools": [tool], "tool_choice": {"type": "tool", "name": SHAPE_NAME}}
    return {"output_config": {"format": {"type": "json_schema", "schema": shape.schema}}}


def _joined(body: Mapping[str, Json], extra: Mapping[str, Json] | None) -> Mapping[str, Json] | None:
    """Return what a user adds to a body, with the schema beside other parts of ``output_config``, such as ``effort``."""
    own = extra.get("output_config") if extra is not None else None
    if extra is None or not isinstance(own, dict) or "output_config" not in body:
        return extra
    return {**extra, "output_config": {**body["output_config"], **own}}


class _Anthropic:
    __slots__ = ("_clock", "_habits", "_headers", "_names", "_stream", "_url")
    # for the answers of batches, which come by the thousand
    plain = staticmethod(plain.message)

    def __init__(
        self,
        base_url: str,
        key: str | None,
        headers: dict[str, str],
        names: Names,
        clock: Callable[[], float],
        *,
        stream: bool,
    ) -> None:
        head, mark, query = base_url.strip().partition("?")
        self._url = join_url(head.rstrip("/").removesuffix("/v1") + mark + query, "/v1/messages")
        self._headers = {**headers, "anthropic-version": _API_VERSION}
        self._stream = stream
        self._habits = Habits()
        if key is not None:
            self._headers["x-api-key"] = key
        self._names = names
        self._clock = clock

    def encode(self, request: Request) -> HttpCall:
        """Build the POST for a request. This dialect has no parameter for a seed, be it the user's or made up."""
        params = request.params
        body: dict[str, Json] = {
            "model": request.model,
            "max_tokens": DEFAULT_MAX_TOKENS if params.max_tokens is None else params.max_tokens,
        }
        row_system = [m for m in request.messages if m.get("role") in SYSTEM_ROLES]
        system = system_of(row_system) if row_system else request.system
        if system:
            body["system"] = system
        body["messages"] = [m for m in request.messages if m.get("role") not in SYSTEM_ROLES]
        if params.stop is not None:
            body["stop_sequences"] = [params.stop] if isinstance(params.stop, str) else params.stop
        if params.temperature is not None:
            body["temperature"] = params.temperature
        if params.top_p is not None:
            body["top_p"] = params.top_p
        body["stream"] = self._stream
        if request.tier is not None:
            body["service_tier"] = request.tier
        if request.shape is not None:
            body |= _shaped(request.shape)
        extra = _joined(body, params.extra_body) if request.shape is not None else params.extra_body
        encoded = encode_json(merged(body, extra))
        if request.prefixes and not is_marked(encoded):
            encoded = encode_json(merged({**body, **marked(request, body)}, extra))
        return HttpCall(url=self._url, headers=self._headers, body=encoded)

    def decoder(self) -> AnthropicDecoder:
        """Return a decoder for one attempt."""
        return AnthropicDecoder(self._names, self._habits)

    def error(self, status: int, headers: Mapping[str, str], body: bytes) -> ProviderError:
        """Classify an answer whose status is not 2xx."""
        return from_status(status, headers, body, now=self._clock(), names=self._names)
