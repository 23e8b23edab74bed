"""The endpoints of a job that has several: which of them get requests, and what is known of them beyond one model."""

from collections.abc import Callable, Sequence

from msgspec import Struct

ROOM = frozenset({"outage", "rate_limited", "content_policy"})
"""Reasons for which a fallback may get requests."""


class Member(Struct, eq=False):
    """One endpoint with one key. number: among those of the job. name: as it is shown, without secrets.

    weight: its share of the requests; None: they go to who answers first. fallback: it gets requests only where the others
    cannot have them.
    """

    number: int
    name: str
    weight: float | None = None
    fallback: bool = False
    # why it gets no request any more; None: it may get some
    out: str | None = None


class Roster:
    """The endpoints of a session. fallback_on: the reasons for which fallbacks get requests, of ``ROOM``."""

    def __init__(self, members: Sequence[Member], fallback_on: frozenset[str] = frozenset()) -> None:
        self.members, self.fallback_on = list(members), fallback_on
        # called when the members have changed
        self.changed: list[Callable[[], None]] = []

    @property
    def weighted(self) -> bool:
        """True if the user has given a weight to an endpoint."""
        return any(member.weight is not None for member in self.members)

    def serving(self) -> list[Member]:
        """Return the endpoints that may get requests now or later."""
        spare = "outage" in self.fallback_on
        return [one for one in self.members if one.out is None and (spare or not one.fallback)]

    def others(self, member: Member) -> bool:
        """Return True if another endpoint can take the rows of one."""
        return any(one is not member for one in self.serving())

    def passes_on(self, member: Member) -> bool:
        """Return True if a row that an endpoint refuses for its content is to be asked of a fallback."""
        if "content_policy" not in self.fallback_on or member.fallback:
            return False
        return any(one.fallback and one.out is None for one in self.members)

    def take_out(self, member: Member, why: str) -> None:
        """Send nothing to an endpoint any more. why: in words."""
        member.out = why
        self.tell()

    def take_back(self, member: Member) -> None:
        """Send to an endpoint again."""
        member.out = None
        self.tell()

    def join(self, member: Member) -> None:
        """Add an endpoint."""
        self.members.append(member)
        self.tell()

    def tell(self) -> None:
        """Say that the members have changed."""
        for call in self.changed:
            call()
