"""What a row of a batch comes to in the store when it fails, and what of its attempt is not known."""

from msgspec import structs

from runner.batches import BatchRow
from runner.model import Attempt, Completion, Item, Outcome, Request, Usage


def bounded(attempt: Attempt, row: BatchRow) -> Attempt:
    """Return an attempt with the most tokens that it can have had."""
    return structs.replace(attempt, input_bound=row.input_bound, output_bound=row.output_bound, cache_1h_bound=row.cache_1h_bound)


def unsplit(usage: Usage | None, row: BatchRow) -> int | None:
    """Return what was written to caches that may be kept for an hour, where the usage does not tell for how long."""
    if usage is None or row.cache_1h_bound is None or not usage.cache_write_tokens or usage.cache_write_1h_tokens is not None:
        return None
    return usage.cache_write_tokens


def outcome_of(row: BatchRow, attempt: Attempt, answer: Completion | None) -> Outcome:
    """Return the outcome of a row that fails with an attempt. answer: what came, None: nothing that is kept."""
    return Outcome(
        key=row.key,
        position=row.position,
        status="failed",
        metadata=row.metadata,
        fingerprint=row.fingerprint,
        completion=answer,
        error_code=attempt.error_code,
        error=attempt.error,
        attempt=attempt,
        attempts=row.number,
        kept=row.answered,
        made_seed=row.made_seed,
    )


def item_of(row: BatchRow, model: str) -> Item:
    """Return a row as the judge looks at it."""
    return Item(
        key=row.key,
        position=row.position,
        request=Request(model=model, messages=()),
        metadata=row.metadata,
        fingerprint=row.fingerprint,
    )
