"""How long an item waits for admission, relative to its fair share. See ``benchmarks/README.md``."""

from collections.abc import Sequence

from benchmarks.books import StoredAttempt


class Waited:
    """An item of the queue; times are seconds since the epoch."""

    def __init__(self, tokens: int, arrived: float, admitted: float) -> None:
        self.tokens = tokens
        self.arrived = arrived
        self.admitted = admitted


def workers(slots: int) -> int:
    """Return how many items runner processes at once: ``docs/architecture.md``, "The engine"."""
    return slots + max(16, slots)


def queue(attempts: Sequence[StoredAttempt], *, slots: int) -> list[Waited]:
    """Return all items in input order, with the time at which a worker took each of them.

    A worker takes the next row when it has finished one, so item number ``workers + n`` arrives when the n-th attempt ends.
    """
    first = min(attempt.started_at for attempt in attempts)
    ends = sorted(attempt.started_at + attempt.duration_s for attempt in attempts)
    arrivals = [first] * workers(slots) + ends
    in_order = sorted(attempts, key=lambda attempt: int(attempt.key.removeprefix("row-")))
    return [Waited(attempt.tokens, arrived, attempt.started_at) for attempt, arrived in zip(in_order, arrivals, strict=False)]


def slowest(attempts: Sequence[StoredAttempt], *, per_second: float, slots: int, large: int) -> float:
    """Return the longest wait of a large item, as a multiple of its fair share.

    The fair share is the time in which the limit admits the tokens of the item, and of the items that arrived before it and were
    still waiting when it arrived.
    """
    items = queue(attempts, slots=slots)
    worst = 0.0
    for place, item in enumerate(items):
        if item.tokens < large:
            continue
        ahead = sum(other.tokens for other in items[:place] if other.admitted > item.arrived)
        worst = max(worst, (item.admitted - item.arrived) / ((ahead + item.tokens) / per_second))
    return worst
