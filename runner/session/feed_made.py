"""Makes what the frames of a feed hold out of events, attempts and outcomes."""

from typing import Any

from msgspec import structs

from runner.engine.listening import row_id
from runner.engine.open_attempts import OpenAttempt
from runner.event_types import Finished, Progress, Stopping
from runner.model import Attempt, Completion, Outcome
from runner.money import PICO
from runner.prices.rates import cost_of
from runner.session.feed_frames import (
    AnswerSoFar,
    ClosedAnswer,
    FinishedFrame,
    OpenAnswer,
    ProgressFrame,
    SettledRow,
    StoppingFrame,
)
from runner.several import number_of
from runner.text import redact
from runner.time_ledger import TimeLedger


def progress_frame(event: Progress, input_tokens: int | None, time: TimeLedger | None, *, paused: bool) -> ProgressFrame:
    """Return how far a session is, with the rest that a watcher needs."""
    done, failed, left = event.settled_rows
    more: dict[str, Any] = {"all_done": done, "all_failed": failed, "left": left, "input_tokens": input_tokens}
    return ProgressFrame(**structs.asdict(event), **more, time=time, paused=paused)


def open_answer(one: OpenAttempt) -> OpenAnswer:
    """Return what is told of an attempt that has begun."""
    return OpenAnswer(**_opened(one))


def so_far(one: OpenAttempt, text: tuple[int, str] | None, reasoning: tuple[int, str] | None) -> AnswerSoFar:
    """Return the same with what has come. text, reasoning: how many characters are left out, and the others; None: not wanted."""
    return AnswerSoFar(
        **_opened(one),
        text=text[1] if text is not None else None,
        reasoning=reasoning[1] if reasoning is not None else None,
        text_at=text[0] if text is not None else 0,
        reasoning_at=reasoning[0] if reasoning is not None else 0,
    )


def _opened(one: OpenAttempt) -> dict[str, Any]:
    item, attempt = one.item, one.attempt
    return {
        **which(one),
        "line": item.position,
        "model": attempt.model,
        "endpoint": attempt.endpoint,
        "since": attempt.started_at,
    }


def which(one: OpenAttempt) -> dict[str, Any]:
    """Return what names an attempt in all frames."""
    if one.names is None:
        one.names = {"id": row_id(one.item), "attempt": one.attempt.number, "answer_number": number_of(one.item.key)}
    return one.names


def closed_answer(one: OpenAttempt, attempt: Attempt, answer: Completion) -> ClosedAnswer:
    """Return what is told of an attempt that has ended."""
    return ClosedAnswer(
        **which(one),
        error_code=attempt.error_code,
        finish_reason=answer.finish_reason or None,
        tokens=attempt.usage.output_tokens if attempt.usage is not None else None,
        duration_s=attempt.duration_s,
    )


def settled_row(outcome: Outcome) -> SettledRow:
    """Return what is told of an outcome that was saved."""
    attempt, completion = outcome.attempt, outcome.completion
    usage = attempt.usage if attempt is not None else None
    rates = attempt.price.rates if attempt is not None and attempt.price is not None else None
    cost = cost_of(usage, rates) if rates is not None else None
    return SettledRow(
        id=row_id(outcome),
        line=outcome.position,
        answer_number=number_of(outcome.key),
        status=outcome.status,
        kept=outcome.kept,
        error_code=outcome.error_code,
        finish_reason=completion.finish_reason if completion is not None else None,
        attempts=outcome.attempts,
        input_tokens=usage.input_tokens if usage is not None else None,
        output_tokens=usage.output_tokens if usage is not None else None,
        duration_s=attempt.duration_s if attempt is not None else None,
        cost=None if cost is None else cost / PICO,
        endpoint=attempt.endpoint if attempt is not None else None,
    )


def stopping_frame(event: Stopping) -> StoppingFrame:
    """Return that a session ends early."""
    return StoppingFrame(reason=redact(event.reason), in_flight=event.in_flight, grace_s=event.grace_s, code=event.code)


def finished_frame(event: Finished) -> FinishedFrame:
    """Return that a session has ended."""
    return FinishedFrame(**structs.asdict(event.summary))
