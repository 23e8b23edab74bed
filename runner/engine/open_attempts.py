"""The attempts that are under way, each with its decoder, so that somebody can begin to look at them at any time.

Without anybody who looks, this costs an entry in a dict for each attempt.
"""

from collections.abc import Iterator
from typing import Any, Protocol

from msgspec import Struct

from runner.interfaces import Decoder
from runner.model import Attempt, Completion, Item


class OpenAttempt(Struct, eq=False):
    """An attempt that is under way. attempt: what is known of it at its beginning. names: what a watcher has called it by."""

    item: Item
    attempt: Attempt
    decoder: Decoder
    names: dict[str, Any] | None = None


class AttemptWatcher(Protocol):
    """Whoever is told when attempts begin and end. Called in the event loop, so it must not block; it raises nothing."""

    def opened(self, one: OpenAttempt) -> None:
        """A request goes out."""
        ...

    def closed(self, one: OpenAttempt, attempt: Attempt, answer: Completion) -> None:
        """An attempt has ended. answer: what has come, complete or not, without the secrets in it."""
        ...


class OpenAttempts:
    """All attempts that are under way. watcher: None: nobody is told of them."""

    __slots__ = ("_open", "watcher")

    def __init__(self) -> None:
        # by key: an item has one at a time
        self._open: dict[str, OpenAttempt] = {}
        self.watcher: AttemptWatcher | None = None

    def __iter__(self) -> Iterator[OpenAttempt]:
        return iter(self._open.values())

    def __len__(self) -> int:
        return len(self._open)

    def begin(self, item: Item, attempt: Attempt, decoder: Decoder) -> None:
        """Take an attempt whose request goes out now."""
        one = self._open[item.key] = OpenAttempt(item, attempt, decoder)
        if self.watcher is not None:
            self.watcher.opened(one)

    def end(self, key: str, attempt: Attempt, answer: Completion) -> None:
        """Drop an attempt that has ended."""
        one = self._open.pop(key, None)
        if one is not None and self.watcher is not None:
            self.watcher.closed(one, attempt, answer)

    def came(self, item: Item, attempt: Attempt, decoder: Decoder, answer: Completion) -> None:
        """Take an attempt that has ended before it was known of: its answer came late. Its item has no other by now."""
        self.begin(item, attempt, decoder)
        self.end(item.key, attempt, answer)
