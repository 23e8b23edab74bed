"""The text of open answers, looked at from outside: what their decoders have collected since the last look, without secrets.

A look costs a comparison for each open answer, and beyond that what is new. It begins when somebody wants texts, in the middle of
answers too.
"""

from collections.abc import Callable, Iterable
from typing import Any

from runner.engine.open_attempts import OpenAttempt
from runner.engine.voice import Kind, Voice
from runner.model import Completion
from runner.passing import Pieces
from runner.session.feed_frames import AnswerSoFar, TextPiece
from runner.session.feed_made import so_far, which
from runner.text import Redactor

LONGEST = 1 << 18
"""Characters of one piece; what is longer comes in several."""
AT_BEGINNING = 1 << 20
"""Characters of all open answers together that a watcher gets at its beginning."""


class Texts:
    """What open answers have said. redactor: removes secrets."""

    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor
        self._answers: dict[str, _Answer] = {}
        self._pieces: list[TextPiece] = []

    def begin(self, one: OpenAttempt) -> None:
        """Look at an answer from now on."""
        self._answers[one.item.key] = _Answer(one, self._redactor, self._pieces.append)

    def end(self, one: OpenAttempt, answer: Completion) -> None:
        """Tell what is left of an answer that has ended."""
        known = self._answers.pop(one.item.key, None)
        if known is not None:
            known.finish(answer)

    def look(self) -> None:
        """See what is new of all."""
        for answer in self._answers.values():
            answer.look()

    def taken(self) -> list[TextPiece]:
        """Return the pieces since the last call."""
        pieces, self._pieces[:] = self._pieces[:], []
        return pieces

    def so_far(self, open_: Iterable[OpenAttempt]) -> list[AnswerSoFar]:
        """Return the answers with all that was told of them."""
        found = [(one, self._answers.get(one.item.key)) for one in open_]
        sizes = sum(answer.size for _, answer in found if answer is not None)
        most = AT_BEGINNING if sizes <= AT_BEGINNING else AT_BEGINNING // (2 * len(found))
        return [
            so_far(one, (0, ""), (0, ""))
            if answer is None
            else so_far(one, answer.text.ending(most), answer.reasoning.ending(most))
            for one, answer in found
        ]


class _Answer:
    """One answer that is looked at."""

    __slots__ = ("_chars", "_decoder", "_look", "_tell", "_which", "reasoning", "text")

    def __init__(self, one: OpenAttempt, redactor: Redactor, tell: Callable[[TextPiece], None]) -> None:
        self._which: dict[str, Any] = which(one)
        self._tell, self._decoder, self._chars = tell, one.decoder, -1
        # a plug-in's decoder may have none: its answers are told when they are complete
        self._look: Callable[[], Pieces | None] | None = _looks_at(one)
        self.text, self.reasoning = Voice("text", self._say, redactor), Voice("reasoning", self._say, redactor)

    @property
    def size(self) -> int:
        return self.text.size + self.reasoning.size

    def look(self) -> None:
        """Tell what is new."""
        if self._look is None:
            return
        try:
            if self._chars == (chars := self._decoder.text_chars):
                return
            self._chars, pieces = chars, self._look()
        except Exception:  # noqa: BLE001 - the decoder of a plug-in; the answer is told when it is complete
            self._look = None
            return
        if pieces is not None:
            text, reasoning = pieces
            # what a model thinks comes before what it says
            self.reasoning.look(reasoning)
            self.text.look(text)

    def finish(self, answer: Completion) -> None:
        """Tell what is left, so that what was told is what the answer says."""
        reasoning = answer.extra.get("reasoning")
        self.reasoning.finish(reasoning if isinstance(reasoning, str) else "")
        self.text.finish(answer.text)

    def _say(self, kind: Kind, text: str, at: int) -> None:
        if not text:
            # it starts over with nothing
            self._tell(TextPiece(**self._which, kind=kind, at=at, text=text))
        for start in range(0, len(text), LONGEST):
            self._tell(TextPiece(**self._which, kind=kind, at=at + start, text=text[start : start + LONGEST]))


def _looks_at(one: OpenAttempt) -> Callable[[], Pieces | None] | None:
    # to ask for the pieces of an answer that a worker decodes would have all of it sent here
    found: Callable[[], Pieces | None] | None = getattr(one.decoder, "so_far", None) or getattr(one.decoder, "pieces", None)
    return found
