"""The wait of an item for its admission, against what its place in the queue should cost. See ``benchmarks/README.md``."""

from collections.abc import Sequence

from benchmarks.books import Tried


class Waited:
    """One item in the queue; times are seconds since the epoch."""

    def __init__(self, tokens: int, arrived: float, admitted: float) -> None:
        self.tokens = tokens
        self.arrived = arrived
        self.admitted = admitted


def workers(slots: int) -> int:
    """How many items runner holds at once: ``docs/architecture.md``, "The engine"."""
    return slots + max(16, slots)


def queue(tried: Sequence[Tried], *, slots: int) -> list[Waited]:
    """All items in the order of the input, with the moment at which a worker took each of them.

    A worker takes the next row when it is done with one, so item number ``workers + n`` arrives with the n-th end.
    """
    first = min(attempt.started_at for attempt in tried)
    ends = sorted(attempt.started_at + attempt.duration_s for attempt in tried)
    arrivals = [first] * workers(slots) + ends
    in_order = sorted(tried, key=lambda attempt: int(attempt.key.removeprefix("row-")))
    return [Waited(one.tokens, arrived, one.started_at) for one, arrived in zip(in_order, arrivals, strict=False)]


def slowest(tried: Sequence[Tried], *, per_second: float, slots: int, large: int) -> float:
    """Largest wait of a large item as a multiple of its fair share.

    The fair share is the time in which the limit lets through the tokens of the item and of those that had arrived
    before it and were still waiting when it came.
    """
    items = queue(tried, slots=slots)
    worst = 0.0
    for place, item in enumerate(items):
        if item.tokens < large:
            continue
        ahead = sum(other.tokens for other in items[:place] if other.admitted > item.arrived)
        worst = max(worst, (item.admitted - item.arrived) / ((ahead + item.tokens) / per_second))
    return worst
