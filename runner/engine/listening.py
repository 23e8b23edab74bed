"""Tells a listener of the pieces of answers as they come. A session without a listener uses none of this."""

from collections.abc import Callable
from typing import Any, Protocol, TypeAlias, TypeVar, cast

from runner.admission import Permit
from runner.answer_shape import SHAPE_NAME
from runner.engine.attempt import Attempts
from runner.engine.task import Task
from runner.engine.voice import Kind, Voice
from runner.errors import AttemptError
from runner.interfaces import Decoder, Emit, Exchange
from runner.model import Attempt, Completion, Item, Json, Outcome
from runner.passing import PassingDecoder
from runner.row_events import FirstToken, PartialValue, RowEvent, RowStarted, Token
from runner.several import number_of, row_of
from runner.text import Redactor

Hear: TypeAlias = Callable[[RowEvent], None]
"""Called in the event loop, so it must not block. It raises nothing."""

E = TypeVar("E", bound=Exchange)


class Following(Protocol):
    """Reads the JSON of one answer while it comes."""

    def take(self, piece: str, at: int) -> Json:
        """Take a piece. Return the value so far; None if it is the same as before, or is not looked at yet."""
        ...

    def last(self, text: str) -> Json:
        """Return the value of the whole text; None if it is the same as before."""
        ...


class HeardAttempts(Attempts[E]):
    """Attempts that can have a listener."""

    _hear: Hear
    _listens: Callable[[Item], bool] | None = None
    _values: Callable[[], Following] | None = None

    def tell(
        self, hear: Hear, listens: Callable[[Item], bool] | None = None, values: Callable[[], Following] | None = None
    ) -> None:
        """Tell a listener of each attempt. listens: tells of which rows; None: of all.

        values: makes for each attempt what reads its answer as JSON; None: no values are told.
        """
        self._hear, self._listens, self._values, self._decoder = hear, listens, values, self._telling

    def _telling(self, task: Task) -> Decoder:
        """Return a decoder that tells what it takes."""
        item, number = task.item, task.standing.number
        if self._listens is not None and not self._listens(item):
            return task.way.provider.decoder()
        which: dict[str, Any] = {"id": row_id(item), "attempt": number, "answer_number": number_of(item.key)}
        self._hear(RowStarted(**which, line=item.position, model=item.request.model))
        telling = TellingDecoder(task.way.provider.decoder(), item, number, self._hear, self._redactor, self._clock)
        if self._values is not None:
            telling.follow(self._values())
        task.heard = telling
        return telling

    async def _attempt(self, task: Task, permit: Permit, emit: Emit) -> tuple[Attempt, Completion | AttemptError]:
        attempt, result = await super()._attempt(task, permit, emit)
        if isinstance(result, Completion) and isinstance(task.heard, TellingDecoder):
            task.heard.finish(result)
        task.heard = None
        return attempt, result


def row_id(item: Item | Outcome) -> str | int | float:
    """Return the id of a row as its result has it."""
    own = item.metadata.get("id")
    return cast("str | int | float", row_of(item.key) if own is None else own)


class TellingDecoder(PassingDecoder):
    """A decoder that tells what another one has taken. It is one for each attempt.

    redactor: removes secrets from what is told; what may be the beginning of one is held back until more has come. A plug-in's
    decoder may have no pieces: its answers are told when they are complete.
    """

    def __init__(
        self, decoder: Decoder, item: Item, attempt: int, hear: Hear, redactor: Redactor, clock: Callable[[], float]
    ) -> None:
        super().__init__(decoder)
        self._which: dict[str, Any] = {"id": row_id(item), "attempt": attempt, "answer_number": number_of(item.key)}
        self._hear, self._redactor = hear, redactor
        self._clock, self._start = clock, clock()
        self._first = True
        self._text, self._reasoning = Voice("text", self._say, redactor), Voice("reasoning", self._say, redactor)
        # what reads the answer as JSON; and what the model says to the tool of the schema, once it has called that
        self._following: Following | None = None
        self._called: Voice | None = None

    def follow(self, following: Following) -> None:
        """Tell the JSON of the answer too."""
        self._following = following

    def whole(self, body: bytes) -> None:
        """Take a plain JSON answer, and tell it."""
        super().whole(body)
        self._taken()

    def finish(self, completion: Completion) -> None:
        """Tell what is left, so that what was told is what the answer says."""
        reasoning = completion.extra.get("reasoning")
        self._reasoning.finish(reasoning if isinstance(reasoning, str) else "")
        self._text.finish(completion.text)
        if self._following is not None:
            self._tell_value(self._following.last(completion.text))

    def _taken(self) -> None:
        if self.pieces is not None:
            text, reasoning = self.pieces()
            # what a model thinks comes before what it says
            self._reasoning.look(reasoning)
            self._text.look(text)
        if self._following is not None and self.arguments is not None:
            arguments = self.arguments(SHAPE_NAME)
            if arguments is not None:
                if self._called is None:
                    self._called = Voice("text", self._say_to_tool, self._redactor)
                self._called.look([arguments])

    def _say_to_tool(self, _: Kind, text: str, at: int) -> None:
        if self._following is not None:
            self._tell_value(self._following.take(text, at))

    def _tell_value(self, value: Json) -> None:
        if value is not None:
            self._hear(PartialValue(**self._which, value=value))

    def _say(self, kind: Kind, text: str, at: int) -> None:
        if self._first:
            self._first = False
            self._hear(FirstToken(**self._which, after_s=self._clock() - self._start))
        self._hear(Token(**self._which, kind=kind, text=text, at=at))
        if kind == "text" and self._following is not None and self._called is None:
            self._tell_value(self._following.take(text, at))
