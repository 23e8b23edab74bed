"""A decoder whose answer is looked at while it comes, so that one that is of no use can be ended."""

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

from runner.interfaces import Decoder
from runner.passing import Growth, PassingDecoder

Look: TypeAlias = Callable[[str, int], None]
"""Called with all that has come so far, and how many characters of it are new. Raises what ends the answer."""


class Watch(NamedTuple):
    """What looks at one answer. text: at its text. called: at the arguments with which the model calls ``tool``; None: nobody."""

    text: Look
    called: Look | None = None
    tool: str = ""


class WatchedDecoder(PassingDecoder):
    """A decoder that shows its answer as it grows.

    A decoder without pieces of text, an answer in one piece, and one that is complete, are not looked at.
    """

    def __init__(self, decoder: Decoder, watch: Watch) -> None:
        super().__init__(decoder)
        self._watch, self._chars = watch, 0
        self._text, self._called = _Shown(watch.text), _Shown(watch.called) if watch.called is not None else None

    def _taken(self) -> None:
        if self._decoder.complete or self._decoder.text_chars == self._chars:
            return
        self._chars = self._decoder.text_chars
        if self.pieces is not None:
            self._text.show(self.pieces()[0])
        if self._called is not None and self.arguments is not None:
            arguments = self.arguments(self._watch.tool)
            if arguments is not None:
                self._called.show([arguments])


class _Shown:
    """Shows one text as it grows."""

    def __init__(self, look: Look) -> None:
        self._look, self._growth, self._whole = look, Growth(), ""

    def show(self, lists: Sequence[list[str]]) -> None:
        """Show the pieces if there are new ones."""
        new, again = self._growth.new(list(lists))
        # a text to which nothing else refers grows where it is, and is not copied for each piece
        whole, self._whole = "" if again else self._whole, ""
        whole += new
        self._whole = whole
        if new:
            self._look(whole, len(new))
