"""Decodes the answers of the Messages dialect.

One rule: a message has a grammar (start, blocks, end). Unknown events are ignored; a violation of the grammar is an error.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Literal

import msgspec
from msgspec import Struct

from runner.model import Completion, Json, ServerSentEvent
from runner.providers.classify import Names
from runner.providers.completeness import Habits
from runner.providers.decoder import BaseDecoder
from runner.providers.lenient_json import NOT_PLAIN, json_text, malformed, other_dialect, table, word
from runner.providers.refusal import from_stream
from runner.providers.shapes import is_error, is_heartbeat
from runner.providers.usage import MessagesUsage
from runner.providers.verbatim import inputs

_THINKING = ("thinking", "redacted_thinking")
_TOOL_BLOCKS = ("tool_use", "server_tool_use", "mcp_tool_use")


class _Block:
    __slots__ = ("citations", "index", "kind", "reasoning", "stopped", "text")

    def __init__(self, index: int, kind: str) -> None:
        self.index = index
        self.kind = kind
        self.stopped = False
        self.text: list[str] = []
        self.reasoning: list[str] = []
        self.citations: list[Json] = []


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

    __slots__ = ("_all", "_begun", "_blocks", "_figures", "_names")

    def __init__(self, names: Names | None = None, habits: Habits | None = None) -> None:
        super().__init__(habits)
        self._names = names or Names()
        self._begun = False
        # the latest block of each index; a server may use an index again when its block has stopped
        self._blocks: dict[int, _Block] = {}
        self._all: list[_Block] = []
        self._figures = MessagesUsage()

    def feed_all(self, events: Sequence[ServerSentEvent]) -> None:
        """Take the events of one read. Raises as ``feed``."""
        for event in events:
            if not self._open or event.event != "content_block_delta" or not self._take_text(event.data):
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
        piece = plain.delta.text
        if piece:
            block.text.append(piece)
            self.text_chars += len(piece)
            self.started = True
        return True

    def feed(self, event: ServerSentEvent) -> None:
        """Take one event. Raises ProviderError, StreamError."""
        if self.ended:
            return
        data = event.data
        # the end mark of Chat Completions; gateways that serve both dialects send it here too
        if len(data) < 16 and data.strip() == b"[DONE]":
            self._mark_ended()
            return
        if event.event == "error":
            raise from_stream(data, names=self._names)
        if is_heartbeat(event):
            return
        body = self._object(data)
        kind = body.get("type") or event.event
        if kind == "content_block_delta":
            self._delta(body)
        elif kind == "content_block_start":
            self._block_start(body)
        elif kind == "content_block_stop":
            self._block_stop(body)
        elif kind == "message_start":
            self._message_start(table(body.get("message")))
        elif kind == "message_delta":
            self._must_have_begun(kind)
            self._finished(table(body.get("delta")).get("stop_reason"), behind_text=self._all_stopped())
            self._count(body.get("usage"))
        elif kind == "message_stop":
            self._must_have_begun(kind)
            self._mark_ended()
        elif is_error(body):
            raise from_stream(body, names=self._names)
        elif body.get("choices") and kind == "message":
            raise other_dialect("openai")

    def whole(self, body: bytes) -> None:
        """Take a message that was not streamed. Raises as ``feed``."""
        answer = self._read_answer(body, self._names)
        content = answer.get("content")
        if isinstance(content, str) and answer.get("type") == "message":
            content = [{"type": "text", "text": content}]
        if content is None and answer.get("choices"):
            raise other_dialect("openai")
        if not isinstance(content, list):
            raise malformed("JSON that is not a message: it has no list of content blocks")
        self._message_start(answer)
        for index, block in enumerate(inputs(body, content)):
            self._block_start({"index": index, "content_block": block})
        self._count(answer.get("usage"))
        self._finished(answer.get("stop_reason"))
        self._mark_ended()

    def pieces(self) -> tuple[list[list[str]], list[list[str]]]:
        """Return the pieces so far, block by block, in the order in which the blocks began."""
        return [block.text for block in self._all], [block.reasoning for block in self._all]

    def completion(self) -> Completion:
        """Return what has been collected, with the blocks in the order of their indexes."""
        order = sorted(range(len(self._all)), key=lambda number: self._all[number].index)
        self._text = [piece for number in order for piece in self._all[number].text]
        self._reasoning = [piece for number in order for piece in self._all[number].reasoning]
        self._tools = {number: self._tools[number] for number in order if number in self._tools}
        self._citations = list(_placed(self._all[number] for number in order))
        return super().completion()

    def _must_have_begun(self, kind: str) -> None:
        if not self._begun:
            raise malformed(f"a {kind} before any message_start")

    def _message_start(self, message: Mapping[str, Json]) -> None:
        if self._begun:
            raise malformed("a second message_start")
        self._begun = True
        self._id = self._keep_name(message.get("id"))
        self._model = self._keep_name(message.get("model"))
        # output_tokens is not the final count here; message_delta brings it
        self._count({name: value for name, value in table(message.get("usage")).items() if name != "output_tokens"})

    def _block_start(self, body: Mapping[str, Json]) -> None:
        self._must_have_begun("content_block_start")
        index = _index(body)
        if index in self._blocks and not self._blocks[index].stopped:
            raise malformed(f"a second content_block_start for block {index}")
        content = table(body.get("content_block"))
        kind = word(content.get("type")) or "text"
        self._limit_parts(len(self._all), "content blocks")
        block = self._blocks[index] = _Block(index, kind)
        self._all.append(block)
        if not self._open:
            self._mark_reopened()
        if kind == "text":
            self._gather(block.text, content.get("text"))
            self._cite(content.get("citations"), block.citations)
        elif kind == "thinking":
            self._gather(block.reasoning, content.get("thinking"))
        elif kind in _TOOL_BLOCKS:
            tool = self._tool(len(self._all) - 1)
            tool.id, tool.name = self._keep_name(content.get("id")), self._keep_name(content.get("name"))
            # empty in a stream, where the pieces follow; complete in a message that was not streamed
            if content.get("input"):
                self._gather(tool.arguments, json_text(content["input"]))

    def _block_stop(self, body: Mapping[str, Json]) -> None:
        index = body.get("index") or 0
        if type(index) is int and index in self._blocks:
            self._blocks[index].stopped = True

    def _all_stopped(self) -> bool:
        """Return True if each block that was begun is whole, and the answer is more than thinking."""
        return all(block.stopped for block in self._all) and not all(block.kind in _THINKING for block in self._all)

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
        elif kind == "citations_delta":
            self._cite([delta.get("citation")], block.citations)
        elif kind == "thinking_delta":
            self._gather(block.reasoning, delta.get("thinking"))
        elif kind == "input_json_delta" and block.kind in _TOOL_BLOCKS:
            self._gather(self._tool(self._all.index(block)).arguments, delta.get("partial_json"))

    def _count(self, usage: Json) -> None:
        figures = table(usage)
        self._keep_tier(figures.get("service_tier"))
        self._usage = self._figures.update(figures)


def _placed(blocks: Iterable[_Block]) -> Iterator[Json]:
    """Yield the citations of blocks, each with the place in the whole text of what it is for, as OpenAI's have it."""
    start = 0
    for block in blocks:
        end = start + sum(map(len, block.text))
        yield from ({**table(one), "start_index": start, "end_index": end} for one in block.citations)
        start = end


def _index(body: Mapping[str, Json]) -> int:
    index = body.get("index")
    if index is None:
        return 0
    if type(index) is not int:
        raise malformed("a content block whose index is not a whole number")
    return index
