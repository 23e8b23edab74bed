"""What an attempt has said so far, told piece by piece without the secrets in it."""

from collections.abc import Callable
from typing import Literal, TypeAlias

from runner.interfaces import Decoder
from runner.model import Completion
from runner.passing import Growth, Pieces
from runner.text import Redactor

Kind: TypeAlias = Literal["text", "reasoning"]
Say: TypeAlias = Callable[[Kind, str, int], None]
"""Called with a kind, a piece, and how many characters of that kind came before it: fewer than were told if it starts over."""


class Voice:
    """What an attempt has said of one kind. What is told lacks the end that may belong to a secret."""

    def __init__(self, kind: Kind, say: Say, redactor: Redactor) -> None:
        self._kind, self._say, self._redactor = kind, say, redactor
        self._growth, self._held = Growth(), ""
        self._told: list[str] = []
        self._at = 0

    def look(self, lists: list[list[str]]) -> None:
        """Tell what has come since the last look."""
        new, again = self._growth.new(lists)
        if again:
            self._restart()
        if new:
            self._add(new)

    def ending(self, most: int) -> tuple[int, str]:
        """Return the last characters that were told, at most so many, and how many came before them."""
        parts: list[str] = []
        left = most
        for piece in reversed(self._told):
            if left <= 0:
                break
            parts.append(piece[-left:])
            left -= len(piece)
        text = "".join(reversed(parts))
        return self._at - len(text), text

    @property
    def size(self) -> int:
        """Characters that were told."""
        return self._at

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


class Voices:
    """What an attempt has said, of both kinds, looked at from outside: what its decoder has collected since the last look."""

    __slots__ = ("_chars", "_decoder", "_pieces", "reasoning", "text")

    def __init__(self, decoder: Decoder, say: Say, redactor: Redactor) -> None:
        self._decoder, self._chars = decoder, -1
        self.text, self.reasoning = Voice("text", say, redactor), Voice("reasoning", say, redactor)
        # a plug-in's decoder may have none; to ask for those of an answer that a worker decodes would have all of it sent here
        self._pieces: Callable[[], Pieces | None] | None
        self._pieces = getattr(decoder, "so_far", None) or getattr(decoder, "pieces", None)

    def look(self) -> None:
        """Tell what is new. What is not told is told at the end."""
        if self._pieces is None:
            return
        try:
            if self._chars == (chars := self._decoder.text_chars):
                return
            self._chars, pieces = chars, self._pieces()
        except Exception:  # noqa: BLE001 - the decoder of a plug-in must not end the run
            self._pieces = None
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
