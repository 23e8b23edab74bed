"""The events that an observer receives during a session, and the summary at its end. Durations are float seconds."""

from collections.abc import Mapping
from typing import TypeAlias

from msgspec import Struct

from runner.model import Outcome
from runner.pace import Pace

INPUT_CHANGED = "the prompt file changed while it was read"
LIMITED = "as asked by --limit"
"""What the store keeps as the stop reason of a session that ended where --limit asked it to. A summary has ``limit`` for that."""
"""The stop reason of a session that ended early although no stop was requested."""


class Quantiles(Struct, frozen=True, kw_only=True):
    """Median and 95th percentile of a duration, in seconds; None if nothing was measured."""

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
    # rows with an outcome from earlier sessions that were not sent again
    skipped: int
    # of this session
    done_now: int
    failed_now: int
    # of failed_now: changed rows that were sent again; they stay done and keep their earlier answers
    kept: int
    attempts_now: int
    # tokens of this session as far as they were reported, failed attempts included; None: no attempt reported any
    input_tokens: int | None
    output_tokens: int | None
    time_to_first_token: Quantiles
    duration: Quantiles
    elapsed_s: float
    # rows of the run that are no longer among the rows of the input
    missing: int
    # finished rows that have changed since: their result belongs to the earlier prompt
    changed: int
    # why the session ended early, one sentence; None if it did not
    stop_reason: str | None
    # the same command would continue this run: False after --new, which starts another, and --limit, which adds no rows
    same_command: bool = True
    # answers of this session whose finish reason is unknown, by reason; they are among the done
    unknown_finish: Mapping[str, int] = {}
    # rows of the input without an outcome, beyond --limit too
    left: int = 0
    # the session was asked to use only so many rows; None: all
    limit: int | None = None
    # the rows of the input are those that ``where`` or ``sample`` choose
    chosen: bool = False
    # the error code that stopped the session, "deadline" among them; None if none did
    stop_code: str | None = None
    # failed rows of the whole run by error code, broken ones too
    causes: Mapping[str, int] = {}

    @property
    def settled_rows(self) -> tuple[int, int]:
        """The rows of the input that are done, and those that failed; with ``left`` they add up to ``rows``."""
        settled = self.rows - self.left
        failed = min(self.failed, settled)
        return settled - failed, failed


class Started(Struct, frozen=True, kw_only=True):
    """A session begins."""

    run: int
    input: str
    # rows that will have an outcome if the session is not stopped
    rows: int
    # those of them that have an outcome from earlier sessions
    restored: int
    # what a person should know before the session begins, one sentence each
    notes: tuple[str, ...]
    # of the restored: rows that failed and are not sent again
    restored_failed: int = 0


class Saved(Struct, frozen=True, kw_only=True):
    """Outcomes have been saved."""

    outcomes: tuple[Outcome, ...]


class Noted(Struct, frozen=True, kw_only=True):
    """Something was learned about the endpoint, which a person should know; one sentence."""

    note: str


class Progress(Struct, frozen=True, kw_only=True):
    """How far the session is. Sent about twice a second."""

    rows: int
    restored: int
    # saved in this session
    done: int
    failed: int
    in_flight: int
    output_tokens: int
    elapsed_s: float
    pace: Pace
    # of the restored: rows that failed in earlier sessions and are not sent again
    restored_failed: int = 0
    # of the failed: changed rows that were sent again; they stay done and keep their earlier answers
    kept: int = 0
    # rates per second of the last half minute: of rows with an outcome, of requests, and of output tokens; None before the first,
    # and in an outage or a long pause
    rows_per_s: float | None = None
    requests_per_s: float | None = None
    tokens_per_s: float | None = None
    # seconds until the last row has its outcome, pauses included; during an outage it counts from the end of the outage; None if
    # nothing can be said yet
    left_s: float | None = None

    @property
    def settled_rows(self) -> tuple[int, int, int]:
        """Rows that are done, failed, and left; they add up to ``rows``."""
        failed = self.restored_failed + self.failed - self.kept
        done = self.restored - self.restored_failed + self.done + self.kept
        return done, failed, max(0, self.rows - done - failed)


class Stopping(Struct, frozen=True, kw_only=True):
    """The session ends early. Open requests may still finish within ``grace_s``."""

    reason: str
    in_flight: int
    grace_s: float
    # the error code that stops it; None for any other reason, such as Ctrl-C
    code: str | None = None


class Finished(Struct, frozen=True, kw_only=True):
    """The session has ended."""

    summary: Summary


Event: TypeAlias = Started | Saved | Noted | Progress | Stopping | Finished
"""Everything that an observer receives."""
