"""What a lane hands out: a permit for each attempt, and a standing that records an item's failures; and what a budget does."""

from collections.abc import Callable
from typing import NamedTuple

import anyio
from msgspec import Struct, field

from runner.money import Price


class Permit(Struct, eq=False):
    """The right to make one attempt. It is released to the lane that issued it."""

    # when it was issued, by the lane's clock
    admitted_at: float
    # bytes of the request, from which input tokens are estimated
    size: int = 0
    # output tokens that the answer may have; None if neither the row nor the job limits them
    most: int | None = None
    # tokens expected, and the amount reserved of each limit
    input_tokens: float = 0.0
    output_tokens: float = 0.0
    reserved: dict[str, float] = field(default_factory=dict)
    # until when a request that saves up lets all others go first, by the lane's clock; None if it does not save
    patient_until: float | None = None
    # when its attempt began, by the lane's clock; None: there is none
    sent_at: float | None = None
    # the state of the slots when it was issued, and how many permits were in use then, this one included
    epoch: int = 0
    level: int = 0
    # the row fell back from the flex tier to the standard one, which has slots of its own
    standard: bool = False
    # the request tests whether an outage is over
    probe: bool = False
    # its answer has begun, and when, by the lane's clock
    accepted: bool = False
    accepted_at: float | None = None
    # what its failure said, without secrets, to be shown
    words: str | None = None
    # True from a refusal until the permit is released
    refused: bool = False
    # the ticket that it has where limits are shared, by its number; 0: it has none
    ticket: int = 0
    # where its attempt goes, by its number among the endpoints of the job
    endpoint: int = 0
    # ends its attempt before its time, where the job has several endpoints
    give_up: Callable[[], None] | None = None


class Failure(Struct, frozen=True):
    """One failed attempt; times are seconds of the lane's clock."""

    began: float
    ended: float
    # code and bytes received, to recognize the same failure again; None if a repetition may look different
    looks: tuple[str, int] | None = None
    # where it happened, by its number among the endpoints of the job
    endpoint: int = 0


class Standing(Struct, eq=False):
    """What has happened to an item in its lane."""

    # the row, to be shown
    key: str = ""
    # bytes of its request, limit of its output tokens, and when its last permit was issued, by the lane's clock
    size: int = 0
    most: int | None = None
    admitted_at: float | None = None
    # attempts made so far, over all sessions
    number: int = 0
    # failures of this session that count against the item, unless they fell into an outage
    failures: list[Failure] = field(default_factory=list)
    # when the last failed attempt ended, by the lane's clock; None before the first
    ended: float | None = None
    # seconds of the last wait whose length we chose, 0 if there was none; True if the server chose the current wait
    waited_s: float = 0.0
    asked: bool = False
    # refusals in a row that use up no attempt: rate limits, or a server that cannot be reached
    refusals: int = 0
    # when rate limits began to refuse it, by the lane's clock; None if they do not
    refused_since: float | None = None
    # its tier answers late; and until when it waits for capacity there, by the lane's clock: None before the first such refusal
    slow: bool = False
    flex_until: float | None = None
    # it fell back to the standard tier
    standard: bool = False
    # how its last refusal looked that an outage excused, and the number of that outage in its lane
    excused: str | None = None
    excused_in: int = 0
    # another endpoint can take it now, so that nothing has to be waited for
    elsewhere: bool = False

    def excuse(self, seconds: float, now: float) -> None:
        """Count so much less of the time for which it has waited for the server."""
        if self.refused_since is not None:
            self.refused_since = min(now, self.refused_since + seconds)
        if self.flex_until is not None:
            self.flex_until += seconds

    @property
    def waits(self) -> bool:
        """True if no attempt is being made."""
        return self.admitted_at is None or (self.ended is not None and self.ended >= self.admitted_at)


class Amounts(NamedTuple):
    """What requests use of a budget: picodollars, and tokens of input and output together."""

    cost: int = 0
    tokens: int = 0


TOGETHER = ""
"""The key of a reservation for all open requests of a session. No row has it."""


class Reservation(Struct, eq=False):
    """What one attempt may use of a budget at most. It is in the store from before its request goes out until it is saved.

    Without a budget there is one for all requests that are open at once (``engine.collective``).
    """

    # the item, the number of the attempt, and the instant
    key: str
    number: int
    started_at: float
    amounts: Amounts
    # the most tokens that the request and its answer can have (None: no limit is known), and the highest rates that can be
    input_bound: int
    output_bound: int | None
    price: Price
    # of input_bound: tokens that may be written to a cache that is kept for an hour; None: the request asks for none
    cache_1h_bound: int | None = None
    # for how many requests it is, which may use so much together
    requests: int = 1
    # no request went out for it, and none will
    void: bool = False
    # set once it is in the store
    written: anyio.Event = field(default_factory=anyio.Event)
