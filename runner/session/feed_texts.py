"""The text of open answers, looked at from outside: what their decoders have collected since the last look, without secrets.

A look costs a comparison for each open answer, and beyond that what is new. It begins when somebody wants texts, in the middle of
answers too.
"""

from collections.abc import Iterable
from functools import partial

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
        # what was never looked at, and the others
        self._new: dict[str, OpenAttempt] = {}
        self._answers: dict[str, _Answer] = {}
        self._pieces: list[TextPiece] = []

    def begin(self, one: OpenAttempt) -> None:
        """Look at an answer from now on."""
        self._new[one.item.key] = one

    def end(self, one: OpenAttempt, answer: Completion, *, failed: bool = False) -> None:
        """Tell what is left of an answer that has ended."""
        unseen, known = self._new.pop(one.item.key, None), self._answers.pop(one.item.key, None)
        if failed and not (answer.text or answer.extra):
            # it may not be known what had come: then what was told stays
            return
        if known is not None:
            known.voices.finish(answer)
        elif unseen is not None:
            reasoning = answer.extra.get("reasoning")
            if reasoning and isinstance(reasoning, str):
                tell(self._pieces, one, "reasoning", reasoning, 0)
            if answer.text:
                tell(self._pieces, one, "text", answer.text, 0)

    def look(self) -> None:
        """See what is new of all."""
        for key, one in self._new.items():
            self._answers[key] = _Answer(one, self._redactor, self._pieces)
        self._new.clear()
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
    """One answer that is looked at. pieces: where what is new goes."""

    __slots__ = ("voices",)

    def __init__(self, one: OpenAttempt, redactor: Redactor, pieces: list[TextPiece]) -> None:
        self.voices = Voices(one.decoder, partial(tell, pieces, one), redactor)

    @property
    def size(self) -> int:
        return self.voices.text.size + self.voices.reasoning.size


def tell(pieces: list[TextPiece], one: OpenAttempt, kind: Kind, text: str, at: int) -> None:
    """Add what an answer has said. at: characters before it. An empty text: it starts over with nothing."""
    names, starts = which(one), range(0, len(text) or 1, LONGEST)
    pieces += [TextPiece(**names, kind=kind, at=at + start, text=text[start : start + LONGEST]) for start in starts]
