"""The Messages dialect of Anthropic.

One rule: a message has a grammar (start, blocks, end). Unknown events are ignored; a violation of the grammar is an error.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import msgspec
from msgspec import Struct

from runner.errors import ProviderError
from runner.interfaces import Provider
from runner.model import Completion, HttpCall, Json, Request, ServerSentEvent, Usage
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
    text_of,
    word,
)
from runner.providers.refusal import from_status, from_stream

DEFAULT_BASE_URL = "https://api.anthropic.com"
"""Does not include the version, as in the official SDK."""

KEY_ENV = "ANTHROPIC_API_KEY"
"""The environment variable that holds the key."""

BASE_URL_ENV = "ANTHROPIC_BASE_URL"
"""The environment variable that holds the base URL."""

DEFAULT_MAX_TOKENS = 4096
"""Sent if the job sets no max_tokens: the API requires a number."""

_API_VERSION = "2023-06-01"
_SYSTEM_ROLES = ("system", "developer")
_TOOL_BLOCKS = ("tool_use", "server_tool_use", "mcp_tool_use")
_USAGE_FIELDS = ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens", "output_tokens")


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

    version: of this program, for the user agent. money_codes: error names that mean "out of credit". rate_codes: names of plain
    rate limits. secrets: further texts that no message may quote. clock: seconds since the epoch, for answers without ``date``.
    """
    names = Names(key=key, secrets=secrets, money_codes=money_codes, rate_codes=rate_codes)
    return _Anthropic(base_url, key, version, names, clock)


class _Anthropic:
    __slots__ = ("_clock", "_headers", "_names", "_url")

    def __init__(self, base_url: str, key: str | None, version: str, names: Names, clock: Callable[[], float]) -> None:
        head, mark, query = base_url.strip().partition("?")
        self._url = join_url(head.rstrip("/").removesuffix("/v1") + mark + query, "/v1/messages")
        self._headers = {**stream_headers(version), "anthropic-version": _API_VERSION}
        if key is not None:
            self._headers["x-api-key"] = key
        self._names = names
        self._clock = clock

    def encode(self, request: Request) -> HttpCall:
        """Build the POST for a request. This dialect has no parameter for ``seed``."""
        params = request.params
        body: dict[str, Json] = {
            "model": request.model,
            "max_tokens": DEFAULT_MAX_TOKENS if params.max_tokens is None else params.max_tokens,
        }
        row_system = [m for m in request.messages if m.get("role") in _SYSTEM_ROLES]
        system = "\n\n".join(text for m in row_system if (text := text_of(m.get("content")))) if row_system else request.system
        if system:
            body["system"] = system
        body["messages"] = [m for m in request.messages if m.get("role") not in _SYSTEM_ROLES]
        if params.stop is not None:
            body["stop_sequences"] = [params.stop] if isinstance(params.stop, str) else params.stop
        if params.temperature is not None:
            body["temperature"] = params.temperature
        if params.top_p is not None:
            body["top_p"] = params.top_p
        body["stream"] = True
        return HttpCall(url=self._url, headers=self._headers, body=encode_json(merged(body, params.extra_body)))

    def decoder(self) -> "AnthropicDecoder":
        """Return a decoder for one attempt."""
        return AnthropicDecoder(self._names)

    def error(self, status: int, headers: Mapping[str, str], body: bytes) -> ProviderError:
        """Classify an answer other than 200."""
        return from_status(status, headers, body, now=self._clock(), names=self._names)


class _Block:
    __slots__ = ("kind", "reasoning", "text")

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.text: list[str] = []
        self.reasoning: list[str] = []


class _Delta(Struct, gc=False):
    type: Literal["text_delta"]
    text: str


class _Plain(Struct, gc=False):
    """An event that contains a piece of text and nothing else, as nearly all do: it is decoded directly into this struct."""

    type: Literal["content_block_delta"]
    delta: _Delta
    # any JSON here, so that 1.0 and true can be told from an index by their types
    index: Json


_decode_plain = msgspec.json.Decoder(_Plain).decode


class AnthropicDecoder(BaseDecoder):
    """Decodes one answer. The text is joined in the order of the block indexes, whatever the order of arrival."""

    __slots__ = ("_begun", "_blocks", "_counts", "_names")

    def __init__(self, names: Names | None = None) -> None:
        super().__init__()
        self._names = names or Names()
        self._begun = False
        self._blocks: dict[int, _Block] = {}
        self._counts: dict[str, int] = {}

    def feed_all(self, events: Sequence[ServerSentEvent]) -> None:
        """Take the events of one read. Raises as ``feed``."""
        for event in events:
            if self.ended or event.event != "content_block_delta" or not self._take_text(event.data):
                self.feed(event)

    def _take_text(self, data: bytes) -> bool:
        """Take a plain piece of text and return True; return False for any other event, which must then go to ``feed``."""
        try:
            plain = _decode_plain(data)
        except NOT_PLAIN:
            return False
        block = self._blocks.get(plain.index) if type(plain.index) is int else None
        if block is None or block.kind != "text":
            return False
        self._gather(block.text, plain.delta.text)
        return True

    def feed(self, event: ServerSentEvent) -> None:
        """Take one event. Raises ProviderError, StreamError."""
        if self.ended:
            return
        if event.event == "ping":
            # a ping carries no data, and some gateways send it without JSON; but a broken object means a broken stream
            if event.data.lstrip().startswith(b"{"):
                self._object(event.data)
            return
        data = event.data
        # the end mark of Chat Completions; gateways that serve both dialects send it here too
        if len(data) < 16 and data.strip() == b"[DONE]":
            self.ended = True
            return
        if event.event == "error":
            raise from_stream(data, names=self._names)
        body = self._object(data)
        kind = body.get("type") or event.event
        if kind == "content_block_delta":
            self._delta(body)
        elif kind == "content_block_start":
            self._block_start(body)
        elif kind == "message_start":
            self._message_start(table(body.get("message")))
        elif kind == "message_delta":
            self._must_have_begun(kind)
            self._finished(table(body.get("delta")).get("stop_reason"))
            self._count(body.get("usage"))
        elif kind == "message_stop":
            self._must_have_begun(kind)
            self.ended = True
        elif kind == "error" or body.get("error"):
            raise from_stream(body, names=self._names)

    def whole(self, body: bytes) -> None:
        """Take a message that was not streamed. Raises as ``feed``."""
        answer = self._object(body)
        if answer.get("error"):
            raise from_stream(answer, names=self._names)
        content = answer.get("content")
        if not isinstance(content, list):
            raise malformed("JSON that is not a message: it has no list of content blocks")
        self._message_start(answer)
        for index, block in enumerate(content):
            self._block_start({"index": index, "content_block": block})
        self._count(answer.get("usage"))
        self._finished(answer.get("stop_reason"))
        self.ended = True

    def completion(self) -> Completion:
        """Return what has been collected, with the blocks in the order of their indexes."""
        order = sorted(self._blocks)
        self._text = [piece for index in order for piece in self._blocks[index].text]
        self._reasoning = [piece for index in order for piece in self._blocks[index].reasoning]
        self._tools = {index: self._tools[index] for index in order if index in self._tools}
        return super().completion()

    def _must_have_begun(self, kind: str) -> None:
        if not self._begun:
            raise malformed(f"a {kind} before any message_start")

    def _message_start(self, message: Mapping[str, Json]) -> None:
        if self._begun:
            raise malformed("a second message_start")
        self._begun = True
        self._id = word(message.get("id"))
        self._model = word(message.get("model"))
        # output_tokens is not the final count here; message_delta brings it
        self._count({name: value for name, value in table(message.get("usage")).items() if name != "output_tokens"})

    def _block_start(self, body: Mapping[str, Json]) -> None:
        self._must_have_begun("content_block_start")
        index = _index(body)
        if index in self._blocks:
            raise malformed(f"a second content_block_start for block {index}")
        content = table(body.get("content_block"))
        kind = word(content.get("type")) or "text"
        block = self._blocks[index] = _Block(kind)
        if kind == "text":
            self._gather(block.text, content.get("text"))
        elif kind == "thinking":
            self._gather(block.reasoning, content.get("thinking"))
        elif kind in _TOOL_BLOCKS:
            tool = self._tool(index)
            tool.id, tool.name = word(content.get("id")), word(content.get("name"))
            # empty in a stream, where the pieces follow; complete in a message that was not streamed
            if content.get("input"):
                self._gather(tool.arguments, json_text(content["input"]))

    def _delta(self, body: Mapping[str, Json]) -> None:
        index = _index(body)
        block = self._blocks.get(index)
        if block is None:
            self._must_have_begun("content_block_delta")
            raise malformed(f"a content_block_delta for block {index}, which never started")
        delta = table(body.get("delta"))
        kind = delta.get("type")
        if kind == "text_delta":
            # the text of a block of an unknown kind may not be part of the answer
            if block.kind == "text":
                self._gather(block.text, delta.get("text"))
        elif kind == "thinking_delta":
            self._gather(block.reasoning, delta.get("thinking"))
        elif kind == "input_json_delta" and block.kind in _TOOL_BLOCKS:
            self._gather(self._tool(index).arguments, delta.get("partial_json"))

    def _count(self, usage: Json) -> None:
        """Update the token counts from a usage object: its numbers are running totals, and each may be missing."""
        figures = table(usage)
        for name in _USAGE_FIELDS:
            value = count(figures.get(name))
            if value is not None:
                self._counts[name] = value
        if not self._counts:
            return
        uncached = self._counts.get("input_tokens")
        read = self._counts.get("cache_read_input_tokens")
        written = self._counts.get("cache_creation_input_tokens")
        self._usage = Usage(
            # in this dialect, input_tokens does not include the cached tokens
            input_tokens=None if uncached is None else uncached + (read or 0) + (written or 0),
            output_tokens=self._counts.get("output_tokens"),
            cached_tokens=read,
        )


def _index(body: Mapping[str, Json]) -> int:
    index = body.get("index")
    if index is None:
        return 0
    if type(index) is not int:
        raise malformed("a content block whose index is not a whole number")
    return index
