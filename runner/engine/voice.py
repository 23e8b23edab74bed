"""What an attempt has said so far, told piece by piece without the secrets in it."""

from collections.abc import Callable
from typing import Literal, TypeAlias

from runner.passing import Growth
from runner.text import Redactor

Kind: TypeAlias = Literal["text", "reasoning"]


class Voice:
    """What an attempt has said of one kind. What is told lacks the end that may belong to a secret.

    say: called with the kind, a piece, and how many characters of this kind came before it; fewer than were told: the text starts
    over there.
    """

    def __init__(
        self,
        kind: Kind,
        say: Callable[[Kind, str, int], None],
        redactor: Redactor,
    ) -> None:
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
