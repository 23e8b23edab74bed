"""Decodes the answers of the Chat Completions dialect.

One rule: only the fields that we need are required; others may be missing, null or malformed, and are ignored.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec
from msgspec import Struct

from runner.model import Json, ServerSentEvent
from runner.providers.classify import Names
from runner.providers.completeness import Habits
from runner.providers.decoder import BaseDecoder
from runner.providers.lenient_json import NOT_PLAIN, json_text, malformed, other_dialect, table, word
from runner.providers.refusal import from_stream
from runner.providers.retold import Retold, is_bare
from runner.providers.shapes import LONGEST_HEARTBEAT, is_error, is_heartbeat
from runner.providers.usage import chat_usage

_CROWDED = 50
"""Characters that a piece beyond the first of its event counts in addition, as that is what it takes in memory."""


class _Delta(Struct, gc=False):
    content: str
    role: str | None = None
    reasoning_content: None = None
    reasoning: None = None
    refusal: None = None
    tool_calls: None = None
    function_call: None = None
    annotations: None = None
    finish_reason: None = None


class _Choice(Struct, gc=False):
    delta: _Delta
    index: Literal[0] | None = 0
    finish_reason: None = None
    logprobs: None = None
    error: None = None


class _Plain(Struct, gc=False):
    """A chunk that contains a piece of text and nothing else, as nearly all do: it is decoded directly into this struct."""

    choices: tuple[_Choice]
    citations: None = None
    usage: None = None
    error: None = None


_decode_plain = msgspec.json.Decoder(_Plain).decode


class OpenAIDecoder(BaseDecoder):
    """Decodes one answer. Choice 0 counts; until it has been seen, the first other choice does."""

    __slots__ = ("_by_id", "_calls", "_index", "_named", "_names", "_plain", "_retold")

    def __init__(self, names: Names | None = None, habits: Habits | None = None) -> None:
        super().__init__(habits)
        self._names = names or Names()
        # True once id and model are known: from then on, the text is all that a plain chunk adds
        self._named = False
        # True while a plain chunk can be taken the short way: also, choice 0 counts and no finish reason has come
        self._plain = False
        # the index of the choice that counts; None before the first choice
        self._index: int | None = None
        # what messages in place of deltas have brought, by field
        self._retold: dict[str, Retold] = {}
        self._forget_calls()

    def _forget_calls(self) -> None:
        # the key of the latest tool call at each index, and by None that of the latest one of all
        self._calls: dict[int | None, int] = {}
        self._by_id: dict[tuple[int | None, str], int] = {}

    def feed_all(self, events: Sequence[ServerSentEvent]) -> None:
        """Take the events of one read. Raises as ``feed``."""
        for event in events:
            # nearly all events are pieces of text: append each here, without a function call
            if self._plain and event.event != "error":
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
        if event.event == "error":
            raise from_stream(event.data, names=self._names)
        data = event.data
        if len(data) > LONGEST_HEARTBEAT:
            self._chunk(self._object(data))
        elif data.strip() == b"[DONE]":
            self._mark_ended()
        elif not is_heartbeat(event):
            self._chunk(self._object(data))
        self._plain = self._open and self._named and self._index == 0

    def _chunk(self, chunk: dict[str, Json]) -> None:
        choices = chunk.get("choices")
        usage = chunk.get("usage")
        if (chunk.get("error") or not (choices or usage)) and is_error(chunk):
            raise from_stream(chunk, names=self._names)
        if not (choices or usage) and chunk.get("type") == "message_start":
            raise other_dialect("anthropic")
        if not self._named:
            self._identify(chunk)
        if "service_tier" in chunk:
            self._keep_tier(chunk["service_tier"])
        # of Perplexity; others put annotations into the message
        self._cite(chunk.get("citations"))
        if choices and type(choices) is list:
            for position, choice in enumerate(choices):
                if type(choice) is dict and self._counts(choice.get("index", position), position):
                    delta = choice.get("delta")
                    if type(delta) is not dict or ("message" in choice and is_bare(delta)):
                        delta = self._delta_of(choice)
                    self._choice(choice, delta)
        if usage is None and "x_groq" in chunk:
            usage = table(chunk["x_groq"]).get("usage")
        if usage is not None:
            before, self._usage = self._usage, chat_usage(usage, self._usage)
            if not choices and self._usage is not before:
                self._mark_counted()

    def whole(self, body: bytes) -> None:
        """Take a completion that was not streamed. Raises as ``feed``."""
        answer = self._read_answer(body, self._names)
        if answer.get("type") == "message" and "choices" not in answer:
            raise other_dialect("anthropic")
        self._identify(answer)
        self._keep_tier(answer.get("service_tier"))
        choices = answer.get("choices")
        found = [table(choice) for choice in choices] if isinstance(choices, list) else []
        choice = next((one for one in found if one.get("index") == 0), found[0] if found else {})
        message = choice.get("message")
        if not isinstance(message, dict):
            if not isinstance(choice.get("text"), str):
                raise malformed("JSON that is not a completion: it has no choice with a message")
            message = {"content": choice["text"]}
        self._cite(answer.get("citations"))
        self._usage = chat_usage(answer.get("usage"))
        self._choice(choice, message, streamed=False)
        self._mark_ended()

    def _identify(self, chunk: Mapping[str, Json]) -> None:
        if self._id is None:
            self._id = self._keep_name(chunk.get("id"))
        if self._model is None:
            self._model = self._keep_name(chunk.get("model"))
        self._named = self._id is not None and self._model is not None

    def _counts(self, index: Json, position: int) -> bool:
        """Return True if the choice with this index is the answer. Choice 0 replaces one that stood in for it."""
        if index == self._index and index is not None:
            return True
        if type(index) is not int:
            index = position
        if self._index is None:
            self._index = index
        elif index == 0 != self._index:
            self._index = 0
            self._forget_pieces()
            self._forget_calls()
            self._retold = {}
        return bool(index == self._index)

    def _delta_of(self, choice: Mapping[str, Json]) -> Mapping[str, Json]:
        """Return the new pieces of a choice without a delta: in ``message``, or, in the old dialect, in ``text``."""
        message = choice.get("message")
        if type(message) is not dict:
            return {"content": choice.get("text")}
        delta, last = dict(message), choice.get("finish_reason") is not None
        thought = message.get("reasoning_content") or message.get("reasoning")
        self._rewrites = True
        fields = (("content", self._text, message.get("content")), ("reasoning_content", self._reasoning, thought))
        for name, pieces, said in fields:
            retold = self._retold.setdefault(name, Retold())
            if not retold.in_pieces and (said is None or type(said) is str):
                before = sum(map(len, pieces))
                delta[name] = retold.added(pieces, said or "", last=last)
                self.text_chars += max(0, sum(map(len, pieces)) - before)
        calls = message.get("tool_calls")
        if self._tools and type(calls) is list and self._calls_again(calls):
            self._tools = {}
            self._forget_calls()
        return delta

    def _calls_again(self, calls: list[Json]) -> bool:
        """Return True if tool calls in a message are the whole so far: those that have come, perhaps with longer arguments."""
        known = ["".join(tool.arguments) for tool in self._tools.values()]
        said = [json_text(table(table(call).get("function")).get("arguments") or "") for call in calls]
        return len(said) >= len(known) and all(new.startswith(old) for new, old in zip(said, known, strict=False))

    def _choice(self, choice: Mapping[str, Json], delta: Mapping[str, Json], *, streamed: bool = True) -> None:
        if choice.get("error"):
            raise from_stream(choice, names=self._names)
        self._touched = False
        content = delta.get("content")
        if type(content) is str and content:
            self._gather(self._text, content)
        if len(delta) > (type(content) is str):
            self._rarer(delta, content, streamed=streamed)
        self._keep_logprobs(choice.get("logprobs"))
        reason = choice.get("finish_reason") or delta.get("finish_reason")
        if reason is not None:
            seen = bool(self._text or self._refusal or self._tools)
            self._finished(reason, behind_text=seen and not self._touched)
        if choice.get("usage") is not None:
            self._usage = chat_usage(choice["usage"], self._usage)

    def _rarer(self, delta: Mapping[str, Json], content: Json, *, streamed: bool) -> None:
        if type(content) is list:
            self._parts(content)
        # servers that renamed the field send both names, with the same text
        self._gather(self._reasoning, delta.get("reasoning_content") or delta.get("reasoning"))
        self._gather(self._refusal, delta.get("refusal"))
        self._cite(delta.get("annotations"))
        calls = delta.get("tool_calls")
        if type(calls) is list:
            slots: set[Json] = set()
            for call in calls:
                if type(call) is dict:
                    self.text_chars += _CROWDED if slots else 0
                    slot = call.get("index") if isinstance(call.get("index"), int) else None
                    # without ids, two names at one index are two calls
                    unnamed = not call.get("id") and bool(table(call.get("function")).get("name"))
                    self._call(call, anew=not streamed or (slot in slots and unnamed))
                    slots.add(slot)
        call = delta.get("function_call")
        if type(call) is dict:
            self._call({"index": -1, "function": call}, anew=not streamed)

    def _parts(self, parts: list[Json]) -> None:
        for position, part in enumerate(parts):
            self.text_chars += _CROWDED if position else 0
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
                    self.text_chars += _CROWDED if piece is not inner else 0
                    self._gather(self._reasoning, table(piece).get("text") or piece)

    def _call(self, call: Mapping[str, Json], *, anew: bool) -> None:
        """Take a piece of a tool call. anew: it begins a call, whatever its index and id are."""
        index, id_ = call.get("index"), word(call.get("id"))
        function = table(call.get("function"))
        name = word(function.get("name"))
        slot = index if isinstance(index, int) else None
        key = None if anew else self._begun(slot, id_, name)
        if key is None:
            key = len(self._tools)
            if id_ is not None:
                self._by_id[slot, id_] = self._by_id[None, id_] = key
        self._calls[slot] = self._calls[None] = key
        tool = self._tool(key)
        if tool.id is None and id_ is not None:
            tool.id = self._keep_name(id_)
        if tool.name is None and name is not None:
            tool.name = self._keep_name(name)
        arguments = function.get("arguments")
        if arguments is not None:
            self._gather(tool.arguments, json_text(arguments))

    def _begun(self, slot: int | None, id_: str | None, name: str | None) -> int | None:
        """Return the key of the call that a piece continues, None if it begins one.

        It is the latest call at the index, without an index the latest of all, unless id or name show that it is another one:
        some servers give every call the index 0.
        """
        key = self._calls.get(slot)
        latest = None if key is None else self._tools[key]
        if id_ is not None and (latest is None or latest.id not in (None, id_)):
            return self._by_id.get((slot, id_))
        if latest is not None and id_ is None and name is not None and latest.name not in (None, name):
            return None
        return key
