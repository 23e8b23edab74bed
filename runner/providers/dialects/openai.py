"""The Chat Completions dialect: defined by OpenAI, implemented by many servers with differences.

One rule: only the fields that we need are required; others may be missing, null or malformed, and are ignored.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Literal
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct

from runner.errors import ProviderError
from runner.interfaces import Provider
from runner.model import HttpCall, Json, Message, Request, ServerSentEvent, Usage
from runner.providers.classify import MONEY_CODES, Names
from runner.providers.decoder import BaseDecoder
from runner.providers.lenient_json import (
    NOT_PLAIN,
    count,
    encode_json,
    join_url,
    json_text,
    malformed,
    merged,
    stream_headers,
    table,
    word,
)
from runner.providers.refusal import from_status, from_stream

DEFAULT_BASE_URL = "https://api.openai.com/v1"
"""Includes the version, as in the official SDK."""

KEY_ENV = "OPENAI_API_KEY"
"""The environment variable that holds the key."""

BASE_URL_ENV = "OPENAI_BASE_URL"
"""The environment variable that holds the base URL."""

_SYSTEM_ROLES = ("system", "developer")


def make(
    base_url: str,
    key: str | None,
    *,
    version: str,
    money_codes: frozenset[str] = MONEY_CODES,
    rate_codes: frozenset[str] = frozenset(),
    secrets: frozenset[str] = frozenset(),
    clock: Callable[[], float] = time.time,
) -> Provider:
    """Return the dialect for one endpoint.

    version: of this program, for the user agent. money_codes: error names that mean "out of credit". rate_codes: error names of
    plain rate limits, although they mention money. secrets: further texts that no message may quote. clock: seconds since the
    epoch, for servers that send no ``date`` header.
    """
    names = Names(key=key, secrets=secrets, money_codes=money_codes, rate_codes=rate_codes)
    return _OpenAI(base_url, key, version, names, clock)


class _OpenAI:
    __slots__ = ("_clock", "_headers", "_max_tokens", "_names", "_url")

    def __init__(self, base_url: str, key: str | None, version: str, names: Names, clock: Callable[[], float]) -> None:
        self._url = join_url(base_url, "/chat/completions")
        self._headers = stream_headers(version)
        if key is not None:
            self._headers["authorization"] = f"Bearer {key}"
        host = urlsplit(self._url).hostname or ""
        # OpenAI's newer models reject the old name of the parameter, and most other servers do not know the new one
        is_openai = host == "api.openai.com" or host.endswith(".api.openai.com")
        self._max_tokens = "max_completion_tokens" if is_openai else "max_tokens"
        self._names = names
        self._clock = clock

    def encode(self, request: Request) -> HttpCall:
        """Build the POST for a request."""
        params = request.params
        messages: list[Message] = list(request.messages)
        if request.system and not any(message.get("role") in _SYSTEM_ROLES for message in messages):
            messages.insert(0, {"role": "system", "content": request.system})
        settings = {
            self._max_tokens: params.max_tokens,
            "temperature": params.temperature,
            "top_p": params.top_p,
            "stop": params.stop,
            "seed": params.seed,
        }
        body: dict[str, Json] = {
            "model": request.model,
            "messages": messages,
            **{name: value for name, value in settings.items() if value is not None},
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        return HttpCall(url=self._url, headers=self._headers, body=encode_json(merged(body, params.extra_body)))

    def decoder(self) -> "OpenAIDecoder":
        """Return a decoder for one attempt."""
        return OpenAIDecoder(self._names)

    def error(self, status: int, headers: Mapping[str, str], body: bytes) -> ProviderError:
        """Classify an answer other than 200."""
        return from_status(status, headers, body, now=self._clock(), names=self._names)


class _Delta(Struct, gc=False):
    content: str
    role: str | None = None
    reasoning_content: None = None
    reasoning: None = None
    refusal: None = None
    tool_calls: None = None
    function_call: None = None


class _Choice(Struct, gc=False):
    delta: _Delta
    index: Literal[0] | None = 0
    finish_reason: None = None


class _Plain(Struct, gc=False):
    """A chunk that contains a piece of text and nothing else, as nearly all do: it is decoded directly into this struct."""

    choices: tuple[_Choice]
    usage: None = None
    error: None = None


_decode_plain = msgspec.json.Decoder(_Plain).decode


class OpenAIDecoder(BaseDecoder):
    """Decodes one answer. Only choice 0 counts."""

    __slots__ = ("_last_tool", "_named", "_names")

    def __init__(self, names: Names | None = None) -> None:
        super().__init__()
        self._names = names or Names()
        # True once id and model are known: from then on, the text is all that a plain chunk adds
        self._named = False
        # the key of the latest tool call: a piece with neither index nor id is added to that call
        self._last_tool: object = 0

    def feed_all(self, events: Sequence[ServerSentEvent]) -> None:
        """Take the events of one read. Raises as ``feed``."""
        for event in events:
            # nearly all events are pieces of text: append each here, without a function call
            if self._named and not self.ended and event.event != "error":
                try:
                    piece = _decode_plain(event.data).choices[0].delta.content
                except NOT_PLAIN:
                    piece = ""
                if piece:
                    self._text.append(piece)
                    self.text_chars += len(piece)
                    self.started = True
                    continue
            self.feed(event)

    def feed(self, event: ServerSentEvent) -> None:
        """Take one event. Raises ProviderError, StreamError."""
        if self.ended:
            return
        data = event.data
        if len(data) < 16 and data.strip() == b"[DONE]":
            self.ended = True
            return
        if event.event == "error":
            raise from_stream(data, names=self._names)
        chunk = self._object(data)
        if chunk.get("error"):
            raise from_stream(chunk, names=self._names)
        if self._id is None:
            self._id = word(chunk.get("id"))
        if self._model is None:
            self._model = word(chunk.get("model"))
        self._named = self._id is not None and self._model is not None
        choices = chunk.get("choices")
        if choices and type(choices) is list:
            for position, choice in enumerate(choices):
                if type(choice) is dict and choice.get("index", position) in (0, None):
                    self._choice(choice, choice.get("delta"))
        usage = chunk.get("usage")
        if usage is not None:
            self._usage = _usage(usage) or self._usage

    def whole(self, body: bytes) -> None:
        """Take a completion that was not streamed. Raises as ``feed``."""
        answer = self._object(body)
        if answer.get("error"):
            raise from_stream(answer, names=self._names)
        choices = answer.get("choices")
        first = table(choices[0]) if isinstance(choices, list) and choices else {}
        if not isinstance(first.get("message"), dict):
            raise malformed("JSON that is not a completion: it has no choice with a message")
        self._id = word(answer.get("id"))
        self._model = word(answer.get("model"))
        self._usage = _usage(answer.get("usage"))
        self._choice(first, first["message"])
        self.ended = True

    def _choice(self, choice: Mapping[str, Json], delta: Json) -> None:
        if type(delta) is dict:
            content = delta.get("content")
            if type(content) is str and content:
                self._text.append(content)
                self.text_chars += len(content)
                self.started = True
            if len(delta) > 1 or type(content) is not str:
                self._rarer(delta)
        reason = choice.get("finish_reason")
        if reason is not None:
            if choice.get("error"):
                raise from_stream(choice, names=self._names)
            self._finished(reason)
            # some servers report the usage only here
            self._usage = _usage(choice.get("usage")) or self._usage

    def _rarer(self, delta: Mapping[str, Json]) -> None:
        content = delta.get("content")
        if type(content) is list:
            self._parts(content)
        # servers that renamed the field send both names, with the same text
        self._gather(self._reasoning, delta.get("reasoning_content") or delta.get("reasoning"))
        self._gather(self._refusal, delta.get("refusal"))
        calls = delta.get("tool_calls")
        if type(calls) is list:
            for call in calls:
                if type(call) is dict:
                    self._call(call)
        call = delta.get("function_call")
        if type(call) is dict:
            self._call({"index": -1, "function": call})

    def _parts(self, parts: list[Json]) -> None:
        for part in parts:
            if isinstance(part, str):
                self._gather(self._text, part)
                continue
            part = table(part)
            kind = part.get("type")
            if kind in ("text", "output_text", None):
                self._gather(self._text, part.get("text"))
            elif kind == "refusal":
                self._gather(self._refusal, part.get("refusal"))
            elif kind in ("thinking", "reasoning"):
                inner = part.get("thinking") or part.get("reasoning") or part.get("text")
                for piece in inner if isinstance(inner, list) else [inner]:
                    self._gather(self._reasoning, table(piece).get("text") or piece)

    def _call(self, call: Mapping[str, Json]) -> None:
        index, id_ = call.get("index"), word(call.get("id"))
        # servers that omit the index send each call in one piece, with its own id
        key = index if isinstance(index, int) else id_ or self._last_tool
        self._last_tool = key
        tool = self._tool(key)
        function = table(call.get("function"))
        tool.id = tool.id or id_
        tool.name = tool.name or word(function.get("name"))
        arguments = function.get("arguments")
        if arguments is not None:
            self._gather(tool.arguments, json_text(arguments))


def _usage(value: Json) -> Usage | None:
    if type(value) is not dict:
        return None
    cached = count(table(value.get("prompt_tokens_details")).get("cached_tokens"))
    usage = Usage(
        input_tokens=count(value.get("prompt_tokens")),
        output_tokens=count(value.get("completion_tokens")),
        # prompt_cache_hit_tokens is DeepSeek's name
        cached_tokens=count(value.get("prompt_cache_hit_tokens")) if cached is None else cached,
        reasoning_tokens=count(table(value.get("completion_tokens_details")).get("reasoning_tokens")),
    )
    return None if usage == Usage() else usage
