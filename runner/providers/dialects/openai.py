"""The Chat Completions dialect: defined by OpenAI, implemented by many servers with differences.

This module encodes requests; ``runner.providers.chat_completions`` decodes the answers.
"""

import time
from collections.abc import Callable, Mapping
from urllib.parse import urlsplit

from runner.answer_shape import SHAPE_NAME, AnswerShape, How
from runner.errors import AttachmentError, ProviderError
from runner.interfaces import Provider
from runner.media import Media, MediaLimits
from runner.model import SYSTEM_ROLES, HttpCall, Json, Message, Request
from runner.providers import plain
from runner.providers.chat_completions import OpenAIDecoder
from runner.providers.classify import MONEY_CODES, Names
from runner.providers.completeness import Habits
from runner.providers.lenient_json import encode_json, join_url, merged, request_headers
from runner.providers.refusal import from_status
from runner.several import SEED_NAMES
from runner.text import clean

DEFAULT_BASE_URL = "https://api.openai.com/v1"
"""Includes the version, as in the official SDK."""

KEY_ENV = "OPENAI_API_KEY"
"""The environment variable that holds the key."""

BASE_URL_ENV = "OPENAI_BASE_URL"
"""The environment variable that holds the base URL."""

TIERS = None
"""The service tiers that can be asked for: any, as the servers of this dialect have many names."""

SCHEMA_MODES: tuple[How, ...] = ("response_format", "tool", "guided")
"""How a schema can be sent, the usual way first: most servers of this dialect know the first, vLLM all of them."""

CONTENT_PARTS = frozenset({"image_url", "input_audio", "file"})
"""The types of the content parts of this dialect that hold a file."""

MEDIA_LIMITS = MediaLimits(pdfs=50_000_000, request=512_000_000)
"""What the API documents. Its limit for pictures counts pixels as it scales them, which nobody can know beforehand."""

_SEED_OF = {"mistral.ai": "random_seed", "generativelanguage.googleapis.com": None, "anthropic.com": None}
"""Hosts whose seed has another name, or that have none: Gemini refuses a request with one, and Anthropic ignores it."""

_AUDIO_FORMATS = {"audio/wav": "wav", "audio/mpeg": "mp3"}


def content_part(media: Media) -> Json:
    """Return the content part for a file. Raises AttachmentError for a kind that Chat Completions does not take.

    What else the user has written in a part of this dialect (``detail``) is kept.
    """
    if media.url and media.kind != "image":
        what = "a PDF" if media.kind == "pdf" else "a recording"
        raise AttachmentError(f"{clean(media.url, 80)}: Chat Completions takes {what} only as data; name a file of this computer")
    if media.kind == "image":
        word, inner = "image_url", {"url": media.url or media.data_uri}
    elif media.kind == "audio":
        word, inner = "input_audio", {"data": media.data, "format": _AUDIO_FORMATS.get(media.media_type, "wav")}
    else:
        word, inner = "file", {"filename": media.name or "file.pdf", "file_data": media.data_uri}
    given = media.part if media.part is not None and media.part.get("type") == word else {}
    before = given.get(word)
    return {**given, "type": word, word: {**(before if isinstance(before, dict) else {}), **inner}}


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
    return _OpenAI(base_url, key, request_headers(version, stream=stream), names, clock, stream=stream)


def _shaped(shape: AnswerShape) -> dict[str, Json]:
    """Return the parameters that ask for an answer of a shape."""
    if shape.how == "guided":
        return {"structured_outputs": {"json": shape.schema}}
    if shape.how == "response_format":
        named = {"name": SHAPE_NAME, "schema": shape.schema, "strict": shape.strict}
        return {"response_format": {"type": "json_schema", "json_schema": named}}
    tool = {"name": SHAPE_NAME, "description": "Gives the answer.", "parameters": shape.schema, "strict": shape.strict}
    called = {"type": "function", "function": {"name": SHAPE_NAME}}
    return {"tools": [{"type": "function", "function": tool}], "tool_choice": called}


class _OpenAI:
    __slots__ = ("_clock", "_habits", "_headers", "_max_tokens", "_names", "_seed", "_stream", "_url")
    # for the answers of batches, which come by the thousand
    plain = staticmethod(plain.chat)

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
        self._url = join_url(base_url, "/chat/completions")
        self._headers = headers
        self._stream = stream
        self._habits = Habits()
        if key is not None:
            self._headers["authorization"] = f"Bearer {key}"
        host = urlsplit(self._url).hostname or ""
        # OpenAI's newer models reject the old name of the parameter, and most other servers do not know the new one
        is_openai = host == "api.openai.com" or host.endswith(".api.openai.com")
        self._max_tokens = "max_completion_tokens" if is_openai else "max_tokens"
        self._seed = next((name for end, name in _SEED_OF.items() if host == end or host.endswith(f".{end}")), "seed")
        self._names = names
        self._clock = clock

    def encode(self, request: Request) -> HttpCall:
        """Build the POST for a request."""
        params = request.params
        messages: list[Message] = list(request.messages)
        if request.system and not any(message.get("role") in SYSTEM_ROLES for message in messages):
            messages.insert(0, {"role": "system", "content": request.system})
        made_seed, name_of_seed = self._made_seed(request), self._seed or "seed"
        settings = {
            self._max_tokens: params.max_tokens,
            "temperature": params.temperature,
            "top_p": params.top_p,
            "stop": params.stop,
            name_of_seed: params.seed if made_seed is None else made_seed,
        }
        body: dict[str, Json] = {
            "model": request.model,
            "messages": messages,
            **{name: value for name, value in settings.items() if value is not None},
            "stream": self._stream,
        }
        if self._stream:
            body["stream_options"] = {"include_usage": True}
        if request.tier is not None:
            body["service_tier"] = request.tier
        if request.shape is not None:
            body |= _shaped(request.shape)
        encoded = encode_json(merged(body, params.extra_body))
        return HttpCall(url=self._url, headers=self._headers, body=encoded, made_seed=made_seed)

    def _made_seed(self, request: Request) -> int | None:
        """Return the made-up seed of a request; None where the server has no seeds, or the user has said something of them."""
        if request.made_seed is None or self._seed is None:
            return None
        own = request.params.seed is not None or any(name in (request.params.extra_body or ()) for name in SEED_NAMES)
        return None if own else request.made_seed

    def decoder(self) -> OpenAIDecoder:
        """Return a decoder for one attempt."""
        return OpenAIDecoder(self._names, self._habits)

    def error(self, status: int, headers: Mapping[str, str], body: bytes) -> ProviderError:
        """Classify an answer whose status is not 2xx."""
        return from_status(status, headers, body, now=self._clock(), names=self._names)
