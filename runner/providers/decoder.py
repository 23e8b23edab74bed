"""The base class of decoders: collects the pieces of an answer and joins them once, into a Completion.

One rule: text, reasoning, refusal and tool calls are never mixed.
"""

from abc import ABC, abstractmethod
from collections.abc import Hashable, Sequence

from runner.model import Completion, Json, ServerSentEvent, Usage
from runner.providers.lenient_json import decode_json, malformed


class ToolCall:
    """A tool call, while its pieces arrive."""

    __slots__ = ("arguments", "id", "name")

    def __init__(self) -> None:
        self.id: str | None = None
        self.name: str | None = None
        self.arguments: list[str] = []


class BaseDecoder(ABC):
    """The state of a decoder. A dialect subclasses it; the public attributes are those of ``interfaces.Decoder``.

    complete: a finish reason has arrived. ended: the dialect's end mark has arrived.
    started: the first piece of any kind has arrived. text_chars: characters collected so far, of every kind.
    """

    __slots__ = (
        "_finish",
        "_id",
        "_model",
        "_notes",
        "_reasoning",
        "_refusal",
        "_text",
        "_tools",
        "_usage",
        "complete",
        "ended",
        "started",
        "text_chars",
    )

    def __init__(self) -> None:
        self.complete = False
        self.ended = False
        self.started = False
        self.text_chars = 0
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._refusal: list[str] = []
        self._tools: dict[Hashable, ToolCall] = {}
        self._finish = ""
        self._usage: Usage | None = None
        self._model: str | None = None
        self._id: str | None = None
        self._notes: dict[str, None] = {}

    @abstractmethod
    def feed(self, event: ServerSentEvent) -> None:
        """Take one event. Implemented by the dialect."""

    def feed_all(self, events: Sequence[ServerSentEvent]) -> None:
        """Take the events of one read. Raises as ``feed``."""
        for event in events:
            self.feed(event)

    def completion(self) -> Completion:
        """Return what has been collected."""
        text = "".join(self._text)
        extra: dict[str, Json] = {}
        if self._reasoning:
            extra["reasoning"] = "".join(self._reasoning)
        if self._refusal:
            extra["refusal"] = "".join(self._refusal)
        if self._tools:
            extra["tool_calls"] = [
                {"id": call.id, "name": call.name, "arguments": "".join(call.arguments)} for call in self._tools.values()
            ]
        notes = dict(self._notes)
        if self.complete and not text and not self._refusal and not self._tools:
            notes["empty"] = None
        return Completion(
            text=text,
            finish_reason=self._finish,
            usage=self._usage,
            served_model=self._model,
            response_id=self._id,
            extra=extra,
            notes=tuple(notes),
        )

    def _object(self, data: bytes) -> dict[str, Json]:
        """Decode the data of an event. Raises StreamError if it is not a JSON object."""
        value, notes = decode_json(data)
        if notes:
            self._notes.update(dict.fromkeys(notes))
        if type(value) is not dict:
            raise malformed("JSON that is not an object")
        return value

    def _gather(self, pieces: list[str], piece: Json) -> None:
        """Append a piece to ``pieces`` if it is a string and not empty."""
        if type(piece) is str and piece:
            pieces.append(piece)
            self.text_chars += len(piece)
            self.started = True

    def _tool(self, key: Hashable) -> ToolCall:
        """Return the tool call with this key; create it if there is none."""
        self.started = True
        return self._tools.setdefault(key, ToolCall())

    def _finished(self, reason: Json) -> None:
        """Store a finish reason if it is a string and not empty."""
        if type(reason) is str and reason:
            self._finish = reason
            self.complete = True
