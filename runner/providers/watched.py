"""A decoder whose answer is looked at while it comes, so that one that is of no use can be ended."""

from collections.abc import Callable, Sequence

from runner.interfaces import Decoder
from runner.model import Completion, ServerSentEvent, Stage


class WatchedDecoder:
    """A decoder that shows its text as it grows. It is one for each attempt.

    look: called with the whole text so far, and how much of it is new; raises what ends the answer. A decoder without pieces of
    text, and an answer that is complete, are not looked at.
    """

    def __init__(self, decoder: Decoder, look: Callable[[str, int], None]) -> None:
        self._decoder, self._look = decoder, look
        self._read: Callable[[], tuple[list[list[str]], list[list[str]]]] | None = getattr(decoder, "pieces", None)
        if self._read is not None:
            # whoever listens finds the pieces here
            self.pieces = self._read
        self._chars = self._seen = 0

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
        """Take one event, and show what it has brought."""
        self._decoder.feed(event)
        self._show()

    def feed_all(self, events: Sequence[ServerSentEvent]) -> None:
        """Take the events of one read, and show what they have brought."""
        self._decoder.feed_all(events)
        self._show()

    def whole(self, body: bytes) -> None:
        """Take a plain JSON answer. It is complete, so it is not looked at here."""
        self._decoder.whole(body)

    def completion(self) -> Completion:
        """As the other decoder."""
        return self._decoder.completion()

    def _show(self) -> None:
        if self._read is None or self._decoder.complete or self._decoder.text_chars == self._chars:
            return
        self._chars = self._decoder.text_chars
        text = "".join(map("".join, self._read()[0]))
        new, self._seen = len(text) - self._seen, len(text)
        if new > 0:
            self._look(text, new)
