"""What an observer is told while a session goes on, and the summary at its end. Durations are float seconds."""

from typing import TypeAlias

from msgspec import Struct

from runner.model import Outcome, Pace

INPUT_CHANGED = "the prompt file changed while it was read"
"""The stop reason of a session that nobody has asked to stop."""


class Quantiles(Struct, frozen=True, kw_only=True):
    """Median and 95th percentile of a duration, in seconds; None when nothing was measured."""

    p50: float | None
    p95: float | None


class Summary(Struct, frozen=True, kw_only=True):
    """How a session of a run ended."""

    run: int
    # every row of the input has an outcome
    finished: bool
    # rows of the input
    rows: int
    # of the whole run; broken rows are among the failed
    done: int
    failed: int
    broken: int
    # settled in earlier sessions and not sent again
    skipped: int
    # of this session
    done_now: int
    failed_now: int
    # of failed_now: rows that had changed and were sent again; they stay done, with their earlier answers
    kept: int
    attempts_now: int
    # tokens of this session where they are known, failed attempts included; None: no usage was reported
    input_tokens: int | None
    output_tokens: int | None
    time_to_first_token: Quantiles
    duration: Quantiles
    elapsed_s: float
    # rows of the run that are no longer in the input, and rows whose answer is to what they asked before they changed
    missing: int
    changed: int
    # why it ended early, one sentence; None when it did not
    stop_reason: str | None
    # the same command would go on with this run: not so after --new, and not further after --limit
    same_command: bool = True


class Started(Struct, frozen=True, kw_only=True):
    """A session begins."""

    run: int
    input: str
    # rows to be settled by the end of this session, and how many are already
    rows: int
    restored: int
    # what a person should know first: one sentence each
    notes: tuple[str, ...]


class Saved(Struct, frozen=True, kw_only=True):
    """Outcomes that are on the disk now."""

    outcomes: tuple[Outcome, ...]


class Progress(Struct, frozen=True, kw_only=True):
    """Where the session stands; comes about twice a second."""

    rows: int
    restored: int
    # of this session, on the disk
    done: int
    failed: int
    in_flight: int
    output_tokens: int
    elapsed_s: float
    pace: Pace


class Stopping(Struct, frozen=True, kw_only=True):
    """The session ends early; what is in flight may still finish."""

    reason: str
    in_flight: int
    grace_s: float


class Finished(Struct, frozen=True, kw_only=True):
    """The session ended."""

    summary: Summary


Event: TypeAlias = Started | Saved | Progress | Stopping | Finished
"""What an observer is told."""
