"""What an attempt leaves behind: its record, without our key, and its item's outcome. Pure."""

import msgspec
from msgspec import structs

from runner.errors import AttemptError
from runner.interfaces import Decoder, Exchange
from runner.model import Attempt, Completion, Item, Outcome
from runner.text import REDACTED, Redactor


def conceal(completion: Completion, redactor: Redactor) -> Completion:
    """Take our own key out of an answer; costs a look at each of its texts."""
    for secret in redactor.secrets:
        parts = (completion.text, completion.finish_reason, completion.served_model, completion.response_id)
        if any(part is not None and secret in part for part in parts) or secret in str(completion.extra):
            hidden = msgspec.json.encode(completion).decode().replace(secret, REDACTED)
            completion = msgspec.json.decode(hidden, type=Completion)
    return completion


def partial_of(decoder: Decoder) -> Completion:
    """Give what a failed attempt showed: usage and names are worth having, its text is not."""
    try:
        return decoder.completion()
    except Exception:  # noqa: BLE001 - the decoder may be what failed
        return Completion(text="", finish_reason="")


def record(
    attempt: Attempt,
    took_s: float,
    exchange: Exchange,
    known: Completion,
    result: Completion | AttemptError,
    redactor: Redactor,
) -> Attempt:
    """Fill in how an attempt ended. known: what its answer showed, complete or not."""
    error = result if isinstance(result, AttemptError) else None
    # a tail that is slow to come is not the answer's time
    answered_s = exchange.answered_s if error is None else None
    first_s = exchange.time_to_first_token_s
    return structs.replace(
        attempt,
        duration_s=round(took_s if answered_s is None else answered_s, 6),
        time_to_first_token_s=round(first_s, 6) if first_s is not None else None,
        status=exchange.status,
        sent=error.sent if error is not None else True,
        bytes_received=exchange.bytes_received,
        usage=known.usage,
        served_model=known.served_model,
        response_id=known.response_id,
        error_code=error.code if error is not None else None,
        error=redactor(str(error)) if error is not None else None,
    )


def done(item: Item, number: int, attempt: Attempt, completion: Completion) -> Outcome:
    """Give the outcome of an item that was answered. number: its attempts over all sessions."""
    return Outcome(
        key=item.key,
        position=item.position,
        status="done",
        metadata=item.metadata,
        fingerprint=item.fingerprint,
        completion=completion,
        attempt=attempt,
        attempts=number,
    )


def failed(item: Item, number: int, attempt: Attempt | None, code: str | None, error: str | None) -> Outcome:
    """Give the outcome of an item that was not; an answer from before a change outlives it."""
    return Outcome(
        key=item.key,
        position=item.position,
        status="failed",
        metadata=item.metadata,
        fingerprint=item.fingerprint,
        error_code=code,
        error=error,
        attempt=attempt,
        attempts=number,
        kept=item.answered,
    )
