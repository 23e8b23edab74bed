"""The base class of decoders: collects the pieces of an answer and joins them once, into a Completion.

Two rules: text, reasoning, refusal, tool calls and what comes with them are never mixed; and whatever is kept of an answer counts
towards its size.
"""

from abc import ABC, abstractmethod
from collections.abc import Hashable, Sequence

from runner.errors import StreamError
from runner.model import Completion, Json, ServerSentEvent, Stage, Usage
from runner.providers.classify import Names
from runner.providers.completeness import Completeness, Habits
from runner.providers.lenient_json import decode_json, json_text, malformed, table
from runner.providers.refusal import from_stream
from runner.providers.shapes import is_error

MOST_PARTS = 1000
"""Tool calls, or blocks of content, of one answer. Models make up to some dozens."""

LOGPROBS_SHARE = 16
"""So many characters of probabilities count as one of text: with 20 for each token they are 300 times as long as the text."""

FREE_CHARS = 1000
"""Characters of names (model, ids, tools, finish reasons) that are kept without counting as text."""


class ToolCall:
    """A tool call, while its pieces arrive."""

    __slots__ = ("arguments", "id", "name")

    def __init__(self) -> None:
        self.id: str | None = None
        self.name: str | None = None
        self.arguments: list[str] = []


class BaseDecoder(ABC):
    """The state of a decoder. A dialect subclasses it; the public attributes are those of ``interfaces.Decoder``.

    stage: how far the answer has come. ended: the dialect's end mark has arrived. started: the first piece of any kind has
    arrived. text_chars: characters collected so far, of every kind; names count beyond the first ``FREE_CHARS``.
    """

    __slots__ = (
        "_citations",
        "_finish",
        "_id",
        "_logprobs",
        "_model",
        "_name_chars",
        "_notes",
        "_open",
        "_progress",
        "_reasoning",
        "_refusal",
        "_rewrites",
        "_text",
        "_tier",
        "_tools",
        "_touched",
        "_usage",
        "ended",
        "stage",
        "started",
        "text_chars",
    )

    def __init__(self, habits: Habits | None = None) -> None:
        """habits: what earlier answers of the endpoint have taught."""
        self._progress = Completeness(habits)
        # True while a piece of text changes no stage
        self._open = True
        # pieces that have come may be replaced in their list
        self._rewrites = False
        # a piece has come since the subclass last set this to False
        self._touched = False
        self.ended = False
        self.started = False
        self.text_chars = 0
        self._name_chars = 0
        self._usage: Usage | None = None
        self._model: str | None = None
        self._id: str | None = None
        self._tier: str | None = None
        self._notes: dict[str, None] = {}
        self._forget_pieces()

    def _forget_pieces(self) -> None:
        """Forget the pieces, but not what they have cost."""
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._refusal: list[str] = []
        self._tools: dict[Hashable, ToolCall] = {}
        self._citations: list[Json] = []
        # by the name of the list: OpenAI has content and refusal
        self._logprobs: dict[str, list[Json]] = {}
        self._finish = ""
        self._progress.restart()
        # a copy of the progress's, because it is looked at after each read
        self.stage, self._open = Stage.OPEN, True

    @property
    def complete(self) -> bool:
        """True if the answer may be stored when its body ends in good order now."""
        return self.stage is not Stage.OPEN

    @abstractmethod
    def feed(self, event: ServerSentEvent) -> None:
        """Take one event. Implemented by the dialect."""

    def feed_all(self, events: Sequence[ServerSentEvent]) -> None:
        """Take the events of one read. Raises as ``feed``."""
        for event in events:
            self.feed(event)
        if self.ended:
            self._mark_ended()

    def pieces(self) -> tuple[list[list[str]], list[list[str]]]:
        """Return the pieces of text and of reasoning so far: lists that grow, unless another one takes the place of one."""
        if self._rewrites:
            return [self._text[:]], [self._reasoning[:]]
        return [self._text], [self._reasoning]

    def arguments(self, name: str) -> list[str] | None:
        """Return the pieces of the arguments of the first call of a tool so far; None if it was not called."""
        return next((call.arguments for call in self._tools.values() if call.name == name), None)

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
        if self._citations:
            extra["citations"] = list(self._citations)
        if self._logprobs:
            extra["logprobs"] = {name: list(values) for name, values in self._logprobs.items()}
        notes = dict(self._notes)
        if self.complete and not text and not self._refusal and not self._tools:
            notes["empty"] = None
        return Completion(
            text=text,
            finish_reason=self._finish,
            usage=self._usage,
            served_model=self._model,
            tier=self._tier,
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

    def _read_answer(self, body: bytes, names: Names) -> dict[str, Json]:
        """Decode an answer in one piece. Raises ProviderError if it is an error, or a list of errors, whatever follows it."""
        try:
            value, notes = decode_json(body)
        except StreamError:
            # an error in a line of its own, in front of events
            value, notes = _first_line(body)
            if not is_error(table(value)):
                raise
        if isinstance(value, list) and value and is_error(table(value[0])):
            value = value[0]
        if not isinstance(value, dict):
            raise malformed("JSON that is not an object")
        if is_error(value):
            raise from_stream(value, names=names)
        self._notes.update(dict.fromkeys(notes))
        return value

    def _gather(self, pieces: list[str], piece: Json) -> None:
        """Append a piece to ``pieces`` if it is a string and not empty."""
        if type(piece) is str and piece:
            pieces.append(piece)
            self.text_chars += len(piece)
            self.started = self._touched = True
            if not self._open:
                self._mark_reopened()

    def _mark_reopened(self) -> None:
        """Record that a piece comes behind a finish reason."""
        self._progress.text(self._model)
        self.stage, self._open = Stage.OPEN, True

    def _tool(self, key: Hashable) -> ToolCall:
        """Return the tool call with this key; create it if there is none. Raises StreamError if there are too many."""
        self.started = self._touched = True
        if not self._open:
            self._mark_reopened()
        call = self._tools.get(key)
        if call is None:
            self._limit_parts(len(self._tools), "tool calls")
            call = self._tools[key] = ToolCall()
        return call

    def _cite(self, citations: Json, into: list[Json] | None = None) -> None:
        """Keep the citations of a list, as the server words them. One that has come before is not kept again."""
        kept = self._citations if into is None else into
        for one in citations if type(citations) is list else ():
            if type(one) in (dict, str) and one not in kept:
                self.text_chars += len(json_text(one))
                kept.append(one)

    def _keep_logprobs(self, logprobs: Json) -> None:
        """Keep the next pieces of the probabilities of tokens: lists by name."""
        for name, values in table(logprobs).items():
            if type(values) is list and values:
                self.text_chars += len(json_text(values)) // LOGPROBS_SHARE
                self._logprobs.setdefault(name, []).extend(values)

    def _limit_parts(self, number: int, what: str) -> None:
        """Raise StreamError if there are so many parts that another one is too many."""
        if number >= MOST_PARTS:
            raise StreamError(f"the answer holds more than {MOST_PARTS} {what}", code="size_cap", verdict="fail")

    def _keep_name(self, value: Json) -> str | None:
        """Return a name that is kept, None if the value is none."""
        if type(value) is not str or not value:
            return None
        self._count_kept(value)
        return value

    def _keep_tier(self, value: Json) -> None:
        """Keep the name of the service tier, if the value is one. The last one counts.

        ``auto`` is none: it asks the server to choose, and a gateway may answer with it.
        """
        if type(value) is str and value not in ("", "auto", self._tier):
            self._tier = self._keep_name(value)

    def _count_kept(self, name: str) -> None:
        self._name_chars += len(name)
        if self._name_chars > FREE_CHARS:
            self.text_chars += min(len(name), self._name_chars - FREE_CHARS)

    def _finished(self, reason: Json, *, behind_text: bool = True) -> None:
        """Store a finish reason if it is a string and not empty. behind_text: see ``Completeness.reason``."""
        if type(reason) is str and reason:
            if reason != self._finish:
                self._count_kept(reason)
                self._finish = reason
            self._progress.reason(self._model, behind_text=behind_text)
            self.stage, self._open = self._progress.stage, False

    def _mark_counted(self) -> None:
        """Record that the usage of the whole answer has come."""
        self._progress.usage(self._model)
        self.stage = self._progress.stage

    def _mark_ended(self) -> None:
        """Record the end mark. A subclass may set ``ended`` instead."""
        self.ended, self._open = True, False
        self.stage = Stage.ENDED if self._progress.reasoned else Stage.OPEN


def _first_line(body: bytes) -> tuple[Json, tuple[str, ...]]:
    try:
        return decode_json(body.strip().partition(b"\n")[0])
    except StreamError:
        return None, ()
