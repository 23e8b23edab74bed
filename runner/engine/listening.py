"""Tells a listener of the pieces of answers as they come. A session without a listener uses none of this."""

from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeAlias, TypeVar, cast

from runner.admission import Permit
from runner.engine.attempt import Attempts
from runner.engine.task import Task
from runner.errors import AttemptError
from runner.event_types import FirstToken, RowEvent, RowStarted, Token
from runner.interfaces import Decoder, Emit, Exchange
from runner.model import Attempt, Completion, Item, ServerSentEvent, Stage
from runner.several import number_of, row_of
from runner.text import Redactor

Hear: TypeAlias = Callable[[RowEvent], None]
"""Called in the event loop, so it must not block. It raises nothing."""

Pieces: TypeAlias = tuple[list[list[str]], list[list[str]]]
"""The pieces of text and those of reasoning: lists that only grow. Another list in the place of one replaces it."""

Kind: TypeAlias = Literal["text", "reasoning"]

E = TypeVar("E", bound=Exchange)


class HeardAttempts(Attempts[E]):
    """Attempts that can have a listener."""

    _hear: Hear
    _listens: Callable[[Item], bool] | None = None

    def tell(self, hear: Hear, listens: Callable[[Item], bool] | None = None) -> None:
        """Tell a listener of each attempt. listens: tells of which rows; None: of all."""
        self._hear, self._listens, self._decoder = hear, listens, self._telling

    def _telling(self, task: Task) -> Decoder:
        """Return a decoder that tells what it takes."""
        item, number = task.item, task.standing.number
        if self._listens is not None and not self._listens(item):
            return self._provider.decoder()
        which: dict[str, Any] = {"id": row_id(item), "attempt": number, "answer_number": number_of(item.key)}
        self._hear(RowStarted(**which, line=item.position, model=item.request.model))
        task.heard = TellingDecoder(self._provider.decoder(), item, number, self._hear, self._redactor, self._clock)
        return task.heard

    async def _attempt(self, task: Task, permit: Permit, emit: Emit) -> tuple[Attempt, Completion | AttemptError]:
        attempt, result = await super()._attempt(task, permit, emit)
        if isinstance(result, Completion) and isinstance(task.heard, TellingDecoder):
            task.heard.finish(result)
        task.heard = None
        return attempt, result


def row_id(item: Item) -> str | int | float:
    """Return the id of a row as its result has it."""
    own = item.metadata.get("id")
    return cast("str | int | float", row_of(item.key) if own is None else own)


class TellingDecoder:
    """A decoder that tells what another one has taken. It is one for each attempt.

    redactor: removes secrets from what is told; what may be the beginning of one is held back until more has come.
    """

    def __init__(
        self, decoder: Decoder, item: Item, attempt: int, hear: Hear, redactor: Redactor, clock: Callable[[], float]
    ) -> None:
        self._decoder = decoder
        # a plug-in's decoder may have none: its answers are told when they are complete
        self._pieces: Callable[[], Pieces] | None = getattr(decoder, "pieces", None)
        self._which: dict[str, Any] = {"id": row_id(item), "attempt": attempt, "answer_number": number_of(item.key)}
        self._hear = hear
        self._clock, self._start = clock, clock()
        self._first = True
        self._text, self._reasoning = _Voice("text", self._say, redactor), _Voice("reasoning", self._say, redactor)

    @property
    def stage(self) -> Stage:
        """As the other decoder."""
        return self._decoder.stage

    @property
    def complete(self) -> bool:
        """As the other decoder."""
        return self._decoder.complete

    @property
    def ended(self) -> bool:
        """As the other decoder."""
        return self._decoder.ended

    @property
    def started(self) -> bool:
        """As the other decoder."""
        return self._decoder.started

    @property
    def text_chars(self) -> int:
        """As the other decoder."""
        return self._decoder.text_chars

    def feed(self, event: ServerSentEvent) -> None:
        """Take one event, and tell what it has brought."""
        self._decoder.feed(event)
        self._look()

    def feed_all(self, events: Sequence[ServerSentEvent]) -> None:
        """Take the events of one read, and tell what they have brought."""
        self._decoder.feed_all(events)
        self._look()

    def whole(self, body: bytes) -> None:
        """Take a plain JSON answer, and tell it."""
        self._decoder.whole(body)
        self._look()

    def completion(self) -> Completion:
        """As the other decoder."""
        return self._decoder.completion()

    def finish(self, completion: Completion) -> None:
        """Tell what is left, so that what was told is what the answer says."""
        reasoning = completion.extra.get("reasoning")
        self._reasoning.finish(reasoning if isinstance(reasoning, str) else "")
        self._text.finish(completion.text)

    def _look(self) -> None:
        if self._pieces is not None:
            text, reasoning = self._pieces()
            # what a model thinks comes before what it says
            self._reasoning.look(reasoning)
            self._text.look(text)

    def _say(self, kind: Kind, text: str, at: int) -> None:
        if self._first:
            self._first = False
            self._hear(FirstToken(**self._which, after_s=self._clock() - self._start))
        self._hear(Token(**self._which, kind=kind, text=text, at=at))


class _Voice:
    """What an attempt has said of one kind.

    heard: from the decoder. told: to the listener, which lacks the end that may belong to a secret.
    """

    def __init__(
        self,
        kind: Kind,
        say: Callable[[Kind, str, int], None],
        redactor: Redactor,
    ) -> None:
        self._kind, self._say, self._redactor = kind, say, redactor
        self._lists: list[list[str]] = []
        # how many pieces of each list have been heard
        self._counts: list[int] = []
        self._held = ""
        self._told: list[str] = []
        self._at = 0

    def look(self, lists: list[list[str]]) -> None:
        """Tell what has come since the last look."""
        known = self._lists
        if len(lists) < len(known) or any(now is not then for now, then in zip(lists, known, strict=False)):
            self._replaced(lists)
            return
        for number, pieces in enumerate(lists):
            if number == len(known):
                known.append(pieces)
                self._counts.append(0)
            count = self._counts[number]
            if len(pieces) > count:
                self._counts[number] = len(pieces)
                self._add(pieces[count] if len(pieces) == count + 1 else "".join(pieces[count:]))

    def _replaced(self, lists: list[list[str]]) -> None:
        """Tell what is new if the pieces begin with those before; otherwise start over."""
        before = "".join("".join(pieces[:count]) for pieces, count in zip(self._lists, self._counts, strict=True))
        whole = "".join(map("".join, lists))
        self._lists, self._counts = list(lists), [len(pieces) for pieces in lists]
        if whole.startswith(before):
            self._add(whole[len(before) :])
        else:
            self._restart()
            self._add(whole)

    def _add(self, text: str) -> None:
        self._held += text
        sure = self._redactor.settled(self._held)
        if sure:
            shown, self._held = self._redactor.answer(self._held[:sure]), self._held[sure:]
            self._tell(shown)

    def _tell(self, text: str) -> None:
        at, self._at = self._at, self._at + len(text)
        self._told.append(text)
        self._say(self._kind, text, at)

    def _restart(self) -> None:
        self._held, self._at, self._told = "", 0, []

    def finish(self, text: str) -> None:
        """Tell the rest of the whole text, in which secrets have been replaced."""
        told = "".join(self._told)
        again = not text.startswith(told)
        if again:
            self._restart()
        if again or len(text) > len(told):
            self._tell(text[self._at :])
