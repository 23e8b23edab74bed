"""The text of open answers, looked at from outside: what their decoders have collected since the last look, without secrets.

A look costs a comparison for each open answer, and beyond that what is new. It begins when somebody wants texts, in the middle of
answers too.
"""

from collections.abc import Callable, Iterable
from typing import Any

from runner.engine.open_attempts import OpenAttempt
from runner.engine.voice import Kind, Voices
from runner.model import Completion
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

    def end(self, one: OpenAttempt, answer: Completion, *, failed: bool = False) -> None:
        """Tell what is left of an answer that has ended."""
        known = self._answers.pop(one.item.key, None)
        # of one that failed, it may not be known what had come: then what was told stays
        if known is not None and (answer.text or answer.extra or not failed):
            known.voices.finish(answer)

    def look(self) -> None:
        """See what is new of all."""
        for answer in self._answers.values():
            answer.voices.look()

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
            else so_far(one, answer.voices.text.ending(most), answer.voices.reasoning.ending(most))
            for one, answer in found
        ]


class _Answer:
    """One answer that is looked at."""

    __slots__ = ("_tell", "_which", "voices")

    def __init__(self, one: OpenAttempt, redactor: Redactor, tell: Callable[[TextPiece], None]) -> None:
        self._which: dict[str, Any] = which(one)
        self._tell = tell
        self.voices = Voices(one.decoder, self._say, redactor)

    @property
    def size(self) -> int:
        return self.voices.text.size + self.voices.reasoning.size

    def _say(self, kind: Kind, text: str, at: int) -> None:
        if not text:
            # it starts over with nothing
            self._tell(TextPiece(**self._which, kind=kind, at=at, text=text))
        for start in range(0, len(text), LONGEST):
            self._tell(TextPiece(**self._which, kind=kind, at=at + start, text=text[start : start + LONGEST]))
