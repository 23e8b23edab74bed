"""Which worker gets the next request: the one with the fewest. Asked for each request, and looks at all of them now and then."""

from collections.abc import Sequence

from runner.workers.member import Member


class Fewest:
    """Knows the workers with the fewest requests. members: all workers; the list may change."""

    def __init__(self, members: Sequence[Member]) -> None:
        self._members = members
        # those that had the fewest when all were looked at, and have got none since; the last one is the next
        self._found: list[Member] = []

    def look_again(self) -> None:
        """Have all workers looked at: others may have the fewest by now."""
        self._found.clear()

    @property
    def any(self) -> bool:
        """True if a worker may have another request."""
        # a generator for each request would cost more than the look
        for member in self._members:  # noqa: SIM110
            if member.free:
                return True
        return False

    def take(self) -> Member | None:
        """Return the worker with the fewest requests that may have another one, which it gets; None if there is none now."""
        while self._found:
            if (member := self._found.pop()).free:
                return member
        free = [member for member in self._members if member.free]
        if not free:
            return None
        least = min(len(member.trials) for member in free)
        self._found = [member for member in reversed(free) if len(member.trials) == least]
        return self._found.pop()
