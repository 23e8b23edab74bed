"""Where the frames come from that a watcher gets."""

from collections.abc import Callable
from typing import Protocol

from runner.control.messages import Feed


class FeedLike(Protocol):
    """What is told of a session as it goes on."""

    @property
    def newest(self) -> int:
        """Number of the newest frame; 0: there was none yet."""
        ...

    def subscribe(self, after: int | None, texts: bool, put: Callable[[Feed], bool]) -> Callable[[], None]:
        """Give ``put`` each frame from now on. Return how to leave, which may be called twice.

        after: the newest frame that was seen. The frames behind it come first, or a ``state``, if it is None, or too old.
        put: returns False if the watcher is too slow, and has not taken the frame. Then it is offered a ``skipped`` now and then,
        and a ``state`` behind it. It may be called at once.
        """
        ...

    def close(self) -> None:
        """Tell nobody anything any more: the session has ended."""
        ...


class NoFeed:
    """Nothing happens."""

    newest = 0

    def subscribe(self, after: int | None, texts: bool, put: Callable[[Feed], bool]) -> Callable[[], None]:  # noqa: ARG002
        """Give nothing."""
        return lambda: None

    def close(self) -> None:
        """Do nothing."""
