"""Builds what is stored of an attempt: its record, with secrets removed, and the outcome of its item. Pure."""

from msgspec import structs

from runner.errors import AttemptError
from runner.interfaces import Decoder, Exchange
from runner.model import Attempt, Completion, Item, Outcome
from runner.text import Redactor

_ECHOED = ("text", "finish_reason", "served_model", "tier", "response_id", "extra")
"""The parts of an answer that may repeat what was sent."""


def conceal(completion: Completion, redactor: Redactor) -> Completion:
    """Remove our own secrets from an answer. Searches each text of the answer once for each secret."""
    if not redactor.hides:
        return completion
    if not completion.extra:
        # most answers: one search for all of them
        names = f"{completion.finish_reason}\n{completion.served_model}\n{completion.tier}\n{completion.response_id}"
        texts = f"{completion.text}\n{names}"
        if redactor.answer(texts) == texts:
            return completion
    hidden = {name: redactor.answer(getattr(completion, name)) for name in _ECHOED}
    return structs.replace(completion, **hidden)


def partial_of(decoder: Decoder) -> Completion:
    """Return what is known of a failed attempt's answer. Usage, model name and response id are useful; the text is not."""
    try:
        return decoder.completion()
    except Exception:  # noqa: BLE001 - the decoder itself may have caused the failure
        return Completion(text="", finish_reason="")


def record(
    attempt: Attempt,
    took_s: float,
    exchange: Exchange,
    answer: Completion,
    result: Completion | AttemptError,
    redactor: Redactor,
) -> Attempt:
    """Return the attempt with its result filled in. answer: what was decoded, complete or not."""
    error = result if isinstance(result, AttemptError) else None
    # the time of a complete answer ends at its finish reason, not with a slow end of the stream
    answered_s = exchange.answered_s if error is None else None
    first_s = exchange.time_to_first_token_s
    return structs.replace(
        attempt,
        duration_s=round(took_s if answered_s is None else answered_s, 6),
        time_to_first_token_s=round(first_s, 6) if first_s is not None else None,
        status=exchange.status,
        sent=error.sent if error is not None else True,
        bytes_received=exchange.bytes_received,
        usage=answer.usage,
        served_model=answer.served_model,
        tier=answer.tier,
        response_id=answer.response_id,
        error_code=error.code if error is not None else None,
        error=redactor(str(error)) if error is not None else None,
    )


def done(item: Item, number: int, attempt: Attempt, completion: Completion) -> Outcome:
    """Return the outcome of an item that was answered. number: its attempts over all sessions."""
    return Outcome(
        key=item.key,
        position=item.position,
        status="done",
        metadata=item.metadata,
        fingerprint=item.fingerprint,
        completion=completion,
        attempt=attempt,
        attempts=number,
        made_seed=attempt.made_seed,
    )


def failed(
    item: Item,
    number: int,
    attempt: Attempt | None,
    code: str | None,
    error: str | None,
    answer: Completion | None = None,
) -> Outcome:
    """Return the outcome of an item that failed. A changed row that was sent again keeps its earlier answer (``kept``).

    answer: what arrived, if the user's setting finish made a failure of it.
    """
    return Outcome(
        key=item.key,
        position=item.position,
        status="failed",
        metadata=item.metadata,
        fingerprint=item.fingerprint,
        completion=answer,
        error_code=code,
        error=error,
        attempt=attempt,
        attempts=number,
        kept=item.answered,
        made_seed=attempt.made_seed if attempt is not None else None,
    )


def refused(item: Item, number: int, attempt: Attempt) -> Outcome:
    """Return the outcome of an item that was held, and whose attempt has been saved already."""
    outcome = failed(item, number, None, attempt.error_code, attempt.error)
    return structs.replace(outcome, booked=True, made_seed=attempt.made_seed)
