"""What a lane gives to an item: a permit for one attempt, and a standing in which it keeps how the item has fared."""

from msgspec import Struct, field


class Permit(Struct, eq=False):
    """The right to make one attempt; the lane that gave it gets it back."""

    # on the lane's clock
    admitted_at: float
    # bytes of the request, by which input tokens are estimated
    size: int = 0
    # output tokens that its answer may have; None where no one has said
    most: int | None = None
    # tokens expected, and what was set aside of each limit
    input_tokens: float = 0.0
    output_tokens: float = 0.0
    reserved: dict[str, float] = field(default_factory=dict)
    # which state of the slots it was given under, and how many were out with it
    epoch: int = 0
    level: int = 0
    # sent to see whether an outage is over
    probe: bool = False
    # its answer has begun, and when
    accepted: bool = False
    accepted_at: float | None = None
    # refused, and its slot not given back yet
    refused: bool = False


class Failure(Struct, frozen=True):
    """One failed attempt, in seconds of the lane's clock."""

    began: float
    ended: float
    # how it looked: code and bytes received; None where it may look different next time
    looks: tuple[str, int] | None = None


class Standing(Struct, eq=False):
    """How an item has fared in its lane."""

    # attempts on the books, over all sessions
    number: int = 0
    # attempts of this session that count, unless an outage excuses them
    failures: list[Failure] = field(default_factory=list)
    # when its last attempt ended, on the lane's clock; None before a second one
    ended: float | None = None
    # the last wait whose length was ours to choose, 0 when there was none; and whether the present one is the server's
    waited_s: float = 0.0
    asked: bool = False
    # times in a row that it was put off at no cost: rate limit, or server out of reach
    refusals: int = 0
    # since when rate limits have put it off; None when they have not
    refused_since: float | None = None
