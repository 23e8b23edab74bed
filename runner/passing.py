"""A decoder that passes everything on to another one, for those that look at an answer while it comes; and what of it is new."""

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeAlias

from runner.interfaces import Decoder
from runner.model import Completion, ServerSentEvent, Stage

Pieces: TypeAlias = tuple[list[list[str]], list[list[str]]]
"""The pieces of text and those of reasoning: lists that only grow. Another list in the place of one replaces it."""


class PassingDecoder:
    """A decoder that passes everything on. It is one for each attempt.

    pieces: returns the pieces so far. arguments: returns those of the arguments of the first call of a tool; None if that was not
    called. Both are None where the other decoder has no such function, as that of a plug-in may.
    room: waits until whoever is told has room for more; None: nobody holds up the reading.
    """

    room: Callable[[], Awaitable[None]] | None = None

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder
        self.pieces: Callable[[], Pieces] | None = getattr(decoder, "pieces", None)
        self.arguments: Callable[[str], list[str] | None] | None = getattr(decoder, "arguments", None)

    @property
    def inner(self) -> Decoder:
        """The decoder to which everything comes in the end."""
        return self._decoder.inner if isinstance(self._decoder, PassingDecoder) else self._decoder

    def _taken(self) -> None:
        """Look at what events have brought."""

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
        """Take one event, and look at what it has brought."""
        self._decoder.feed(event)
        self._taken()

    def feed_all(self, events: Sequence[ServerSentEvent]) -> None:
        """Take the events of one read, and look at what they have brought."""
        self._decoder.feed_all(events)
        self._taken()

    def whole(self, body: bytes) -> None:
        """Take a plain JSON answer."""
        self._decoder.whole(body)

    def completion(self) -> Completion:
        """As the other decoder."""
        return self._decoder.completion()


class Growth:
    """Tells what of growing lists of pieces is new. What was seen before is not read again."""

    def __init__(self) -> None:
        self._lists: list[list[str]] = []
        # how many pieces of each list have been seen
        self._counts: list[int] = []

    def new(self, lists: list[list[str]]) -> tuple[str, bool]:
        """Return the text that has come since the last call, and True if it starts over: then it is the whole text."""
        known = self._lists
        if len(lists) < len(known) or any(now is not then for now, then in zip(lists, known, strict=False)):
            return self._replaced(lists)
        added = []
        for number, pieces in enumerate(lists):
            if number == len(known):
                known.append(pieces)
                self._counts.append(0)
            count = self._counts[number]
            if len(pieces) > count:
                self._counts[number] = len(pieces)
                added.append(pieces[count] if len(pieces) == count + 1 else "".join(pieces[count:]))
        return "".join(added), False

    def _replaced(self, lists: list[list[str]]) -> tuple[str, bool]:
        """Return what is new if the pieces begin with those before; otherwise all of them."""
        before = "".join("".join(pieces[:count]) for pieces, count in zip(self._lists, self._counts, strict=True))
        whole = "".join(map("".join, lists))
        self._lists, self._counts = list(lists), [len(pieces) for pieces in lists]
        return (whole[len(before) :], False) if whole.startswith(before) else (whole, True)
