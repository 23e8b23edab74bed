"""The events of one streamed prompt, of one shape for every provider.

    metadata   what is known of the request: its id, model, attempt, why it waits, about how many tokens have come
    token      a piece of the text or of the reasoning; ``at`` says how many characters come before it
    done       the whole answer, its usage and its cost
    error      why there is none, and what to do

``done`` or ``error`` is the last event.
"""

import json
import math
from collections.abc import Iterable
from typing import Any

from runner.engine.limits.estimate import BYTES_PER_TOKEN
from runner.errors import RunnerError, RunStoppedError, StoreError, UsageError
from runner.model import Result
from runner.remedies import OF_A_PROMPT, OTHERWISE
from runner.row_events import RowEvent, RowStarted, Token
from runner.session.naming import without_a_run
from runner.text import encodable_tree

Data = dict[str, Any]

_PASSING = frozenset({
    *("bad_http", "closed", "connect", "cut", "dns", "malformed_stream", "no_capacity", "overloaded", "rate_limited"),
    *("server_error", "timeout_attempt", "timeout_connect", "timeout_first_byte", "timeout_silence", "truncated"),
})  # fmt: skip
"""Codes of errors that may be over the next time."""


def encoded(data: Data) -> str:
    """Return the data of an event as one line of JSON."""
    return json.dumps(encodable_tree(data), ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def tokens(events: Iterable[RowEvent]) -> list[Data]:
    """Return the pieces among what was told; those that follow on each other are one."""
    told: list[Data] = []
    for event in events:
        if not isinstance(event, Token):
            continue
        last = told[-1] if told else None
        follows = last is not None and (last["kind"], last["attempt"]) == (event.kind, event.attempt)
        if last is not None and follows and last["at"] + len(last["text"]) == event.at:
            last["text"] += event.text
        else:
            told.append({"kind": event.kind, "text": event.text, "at": event.at, "attempt": event.attempt})
    return told


def started(events: Iterable[RowEvent]) -> RowStarted | None:
    """Return the newest attempt among what was told."""
    return next((event for event in reversed(list(events)) if isinstance(event, RowStarted)), None)


def about_tokens(chars: int) -> int:
    """Return about how many tokens a text has, as the limits estimate it."""
    return math.ceil(chars / BYTES_PER_TOKEN)


def ended(result: Result, *, shown: bool) -> tuple[str, Data]:
    """Return the last event of a prompt that has an outcome. shown: some of its text was told."""
    common = {**_used(result), "id": str(result.id), "attempts": result.attempts}
    if result.status == "done":
        about = {"text": result.text, "finish_reason": result.finish_reason, "model": result.served_model}
        return "done", {**about, **common}
    return "error", {**_error(result.error_code or "internal", result.error or "", shown=shown), **common}


def failed(error: RunnerError, own: str) -> tuple[str, Data]:
    """Return the last event of a prompt that has no outcome. own: the id of its stream."""
    code = error.code if isinstance(error, RunStoppedError) else "usage" if isinstance(error, UsageError) else "internal"
    code = "store" if isinstance(error, StoreError) else code
    # the advice behind the sentence is about a run
    words = without_a_run(str(error).partition(". ")[0])
    if code == "budget":
        words = "what prompts may cost is used up, or this one could cost more than what is left"
    return "error", {**_error(code, words, shown=False), "usage": None, "cost": None, "id": own, "attempts": 0}


def _error(code: str, words: str, *, shown: bool) -> Data:
    todo = OF_A_PROMPT.get(code, OTHERWISE)
    return {"code": code, "error": words, "todo": todo, "retry": code in _PASSING and not shown}


def _used(result: Result) -> Data:
    names = ("input_tokens", "output_tokens", "cached_tokens", "reasoning_tokens")
    usage = {name: getattr(result, name) for name in names}
    return {
        "usage": usage if any(count is not None for count in usage.values()) else None,
        "cost": result.cost,
        "cost_perhaps": result.cost_perhaps,
        "duration_s": result.duration_s,
        "time_to_first_token_s": result.time_to_first_token_s,
    }
