"""What is asked of the entries that the writer saves: their attempts, and the price of each."""

from collections.abc import Iterator, Sequence
from functools import cache
from typing import NamedTuple

from runner.model import Attempt, Completion, Entry
from runner.money import Price, tier_of


class LateUsage(NamedTuple):
    """What has become of an attempt, known after it was given up. key, number: of it. answer: None: it was never sent."""

    key: str
    number: int
    answer: Completion | None


@cache
def _unpriced(model: str, tier: str | None) -> Price:
    return Price(model=model, tier=tier_of(tier), rates=None)


def price_of(attempt: Attempt) -> Price:
    """Return the price of an attempt; one without rates if nobody has looked it up."""
    return attempt.price or _unpriced(attempt.model, attempt.tier or attempt.asked_tier)


def attempts_of(entries: Sequence[Entry]) -> Iterator[Attempt]:
    """Yield the attempts among entries."""
    for entry in entries:
        attempt = entry if isinstance(entry, Attempt) else entry.attempt
        if attempt is not None:
            yield attempt
