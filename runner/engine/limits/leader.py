"""What a lane asks and tells where its limits are shared with other runs (``runner.sharing``)."""

from collections.abc import Iterable, Mapping
from typing import Protocol

from runner.admission import Permit
from runner.model import Usage


class Leader(Protocol):
    """Gives a lane a ticket for each request, and learns what the server says to it."""

    @property
    def per_minute(self) -> Mapping[str, float]:
        """The limits per minute that hold for all runs together."""
        ...

    @property
    def cause(self) -> str:
        """What requests wait for, as the ledger names it."""
        ...

    def ready(self, *, standard: bool) -> bool:
        """Return True if there is a ticket that nobody has taken. standard: for a row that fell back from flex."""
        ...

    def wanted(self) -> None:
        """Look how many tickets the rows want that wait."""
        ...

    def take(self, permit: Permit) -> None:
        """Give a request its ticket. One that has none goes out all the same, and is counted."""
        ...

    def gave_back(self, permit: Permit, *, unused: bool) -> None:
        """Record that a request has ended. unused: none was sent."""
        ...

    def accepted(self, permit: Permit) -> None:
        """Record that an answer has begun."""
        ...

    def refused(self, permit: Permit) -> None:
        """Record that the server had too many requests."""
        ...

    def overloaded(self, permit: Permit) -> None:
        """Record a sign of overload."""
        ...

    def hear(self, raw: Iterable[tuple[bytes, bytes]], *, always: bool) -> None:
        """Pass on the headers of an answer. always: it is a refusal."""
        ...

    def used(self, permit: Permit, usage: Usage | None, *, complete: bool) -> None:
        """Record what a request has used of the limits per minute."""
        ...

    def uncounted(self, permit: Permit, *, requests: bool) -> None:
        """Record that a request has used no tokens. requests: it counts as a request."""
        ...

    def throttle(self, permit: Permit, hint_s: float | None, status: int | None, words: str | None) -> None:
        """Record a rate limit. words: what the server said."""
        ...

    def pause(self, seconds: float, reason: str, *, asked: bool) -> None:
        """Have all runs send nothing for so long."""
        ...
