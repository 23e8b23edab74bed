"""Items that come from elsewhere than the source of a round, while it goes on: a person has a failed row sent again."""

from collections.abc import AsyncGenerator, Callable, Sequence

from runner.model import Item, Outcome


class More:
    """Takes items at any time. They begin at once, or with the next round if none goes on.

    last: called when no item of the source is left that no worker has taken.
    """

    def __init__(self, last: Callable[[], None] = lambda: None) -> None:
        self.last = last
        self._begin: Callable[[Item], object] | None = None
        self._waiting: list[Item] = []

    @property
    def waiting(self) -> bool:
        """True if there are items for which another round is needed."""
        return bool(self._waiting)

    def add(self, items: Sequence[Item]) -> None:
        """Take items."""
        self._waiting += items
        self._let_in()

    def begin(self, begin: Callable[[Item], object]) -> None:
        """Have items begin at once, from now on. begin: raises RuntimeError when the round is over."""
        self._begin = begin
        self._let_in()

    def _let_in(self) -> None:
        while self._begin is not None and self._waiting:
            try:
                self._begin(self._waiting[0])
            except RuntimeError:
                self._begin = None
            else:
                del self._waiting[0]


async def nothing() -> AsyncGenerator[Item | Outcome, None]:
    """Yield nothing: a round has no source."""
    for none in tuple[Outcome, ...]():
        yield none
