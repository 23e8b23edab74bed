"""The events of a session: what an observer receives, what a listener hears, and the summary. Durations are float seconds."""

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from msgspec import Struct

from runner.figures import EndpointFigures
from runner.model import Attempt, Outcome, Result
from runner.money import CURRENCY
from runner.pace import Pace
from runner.row_events import RowEvent
from runner.time_ledger import TimeLedger

INPUT_CHANGED = "the prompt file changed while it was read"
"""The stop reason of a session that ended early although no stop was requested."""
WAITING = "rows wait at the provider"
"""How the stop reason begins of a session that left rows in batches although no stop was requested."""
LIMITED, SAMPLED, CHOSEN = "as asked by --limit", "after the sample of an estimate", "as asked by --where or --sample"
FETCHED = "as asked by `runner batches fetch`"
AS_ASKED = (LIMITED, SAMPLED, CHOSEN, FETCHED)
"""What the store keeps as the stop reason of a session that ended where it was asked to. A summary has ``limit`` for --limit."""


class Quantiles(Struct, frozen=True, kw_only=True):
    """Median and 95th percentile of a duration, in seconds; None if nothing was measured."""

    p50: float | None
    p95: float | None


class Summary(Struct, frozen=True, kw_only=True):
    """How a session of a run ended."""

    run: int
    # every row of the input has an outcome, and no retry has rows left
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
    # of failed_now: answered rows that were sent again; they stay done and keep their earlier answers
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
    # why it ended early, a sentence; None: it did not. Whether the same command goes on: not after --new, nor beyond --limit
    stop_reason: str | None
    same_command: bool = True
    # answers of this session whose finish reason is unknown, by reason; they are among the done
    unknown_finish: Mapping[str, int] = {}
    # answers of this session that are cut, filtered or empty, by what ``--class`` calls them; they are among the done
    doubtful: Mapping[str, int] = {}
    # rows of the input without an outcome, beyond --limit too; rows with one that an interrupted retry is still to ask again
    left: int = 0
    retry_left: int = 0
    # the session was asked to use only so many rows, None: all; the input's rows are those that ``where`` or ``sample`` choose
    limit: int | None = None
    chosen: bool = False
    # the session alone used other rows than its run (``where``, ``sample`` of a resume or a retry); ``rows`` are those of the run
    narrowed: bool = False
    # the error code that stopped the session, "deadline" among them; None if none did
    stop_code: str | None = None
    # failed rows of the whole run by error code, broken too; ok_failed, where it allows so many; outcomes no longer wanted
    causes: Mapping[str, int] = {}
    ok_failed: int | str | None = None
    beyond: int = 0
    # rows whose answers this session took over from earlier runs; it sent nothing for them, and they are among the skipped; and
    # rows that got the outcome of another row with the same request, in this session (--dedupe)
    reused: int = 0
    shared: int = 0
    # of the skipped: rows that failed
    skipped_failed: int = 0
    # of a session that asks for the flex tier: answers that the standard tier gave, at the rates of that
    standard_tier: int = 0
    # equal requests are sent once; how many go out for what is left, and again for what failed. None: as many, or not counted
    dedupe: bool = False
    requests_left: int | None = None
    requests_failed: int | None = None
    # answers that are wanted of each row; if several, done, failed, left and the like count answers
    answers: int = 1
    # dollars that the whole run has cost, on failed attempts, and perhaps in addition (None: no limit is known); and what it
    # costs when all rows are done, if those that are left cost what the others did. None: no price is known
    cost: float | None = None
    cost_failed_attempts: float | None = None
    cost_perhaps: float | None = None
    cost_projected: float | None = None
    # what tokens from caches would have cost more as other input, less what writing to caches cost more
    cost_saved_by_cache: float | None = None
    # of ``cost``, what this session has cost
    cost_now: float | None = None
    # attempts that were billed, or may have been, at prices that are not known
    unpriced_attempts: int = 0
    # requests perhaps open when earlier sessions were killed, and what of ``cost_perhaps`` is for them
    open_requests: int = 0
    cost_open_requests: float | None = None
    # of the whole run: answers that were ended before their end, and an estimate of what that saved (``store.early``)
    ended_early: int = 0
    estimated_saved_tokens: int | None = None
    estimated_saved_cost: float | None = None
    currency: str = CURRENCY
    # of the whole run: what each of several endpoints has done, the one with most answers first; empty where there is one
    endpoints: Sequence[EndpointFigures] = ()
    # where the time of this session went; None: it sent nothing
    time: TimeLedger | None = None
    # of ``left``: rows that wait in batches at the provider, those batches by their numbers, and until when the first results
    # are kept (seconds since the epoch; None: it is not known yet)
    waiting: int = 0
    batches: Sequence[int] = ()
    kept_until: float | None = None

    @property
    def wanted(self) -> int:
        """All answers that are wanted: one of each row, or several."""
        return self.rows * self.answers

    @property
    def counted(self) -> int:
        """What the counts are about: all that is wanted, and outcomes of rows that are no longer chosen or in the file."""
        # of such a row, some of several answers may be missing
        settled = min(self.wanted + self.missing * self.answers, self.done + self.failed)
        return max(self.wanted, settled)

    @property
    def settled_rows(self) -> tuple[int, int]:
        """The rows of the input that are done, and those that failed; with ``left`` they add up to ``counted``."""
        settled = self.counted - self.left
        failed = min(self.failed, settled)
        return settled - failed, failed


class Started(Struct, frozen=True, kw_only=True):
    """A session begins."""

    run: int
    input: str
    # rows that will have an outcome if the session is not stopped; those of them that have one from earlier sessions
    rows: int
    restored: int
    # what a person should know before the session begins, one sentence each
    notes: tuple[str, ...]
    # of the restored: rows that failed and are not sent again
    restored_failed: int = 0
    # where several answers of each row are wanted: their number in all (what is restored counts answers then), and that of each
    answers: int | None = None
    each: int = 1


class Saved(Struct, frozen=True, kw_only=True):
    """Outcomes have been saved."""

    outcomes: tuple[Outcome, ...]
    # failed attempts of rows that have no outcome yet
    attempts: tuple[Attempt, ...] = ()


class Noted(Struct, frozen=True, kw_only=True):
    """Something that a person should know was learned during the session; one sentence."""

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
    # of the failed: answered rows that were sent again; they stay done and keep their earlier answers
    kept: int = 0
    # rates per second of the last half minute; None before the first, and in an outage or a long pause
    rows_per_s: float | None = None
    requests_per_s: float | None = None
    tokens_per_s: float | None = None
    # seconds until the last row has its outcome, in an outage from its end on; None if nothing can be said yet
    left_s: float | None = None
    # dollars that the run has cost, and is expected to cost in all; None: not known
    cost: float | None = None
    cost_projected: float | None = None
    # where several answers of each row are wanted, their number in all; all counts but ``rows`` are of answers then
    answers: int | None = None

    @property
    def wanted(self) -> int:
        """All answers that are wanted: one of each row, or several."""
        return self.rows if self.answers is None else self.answers

    @property
    def settled_rows(self) -> tuple[int, int, int]:
        """Rows that are done, failed, and left; they add up to ``wanted``."""
        failed = self.restored_failed + self.failed - self.kept
        done = self.restored - self.restored_failed + self.done + self.kept
        return done, failed, max(0, self.wanted - done - failed)


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


class AttemptFailed(Struct, frozen=True, kw_only=True):
    """An attempt has failed, and its row has no outcome yet. The pieces of its text do not count."""

    # the row's id as text, which is the key of a row without an id
    id: str
    attempt: int
    error_code: str | None
    error: str | None
    answer_number: int = 1


class RowFinished(Struct, frozen=True, kw_only=True):
    """A row is done or failed, and its result is saved."""

    result: Result
    # True for a row that an earlier session has finished
    earlier: bool = False


class Waiting(Struct, frozen=True, kw_only=True):
    """A model sends nothing for now, or goes on again."""

    model: str
    # why it waits, one phrase; None: it goes on
    reason: str | None


class Dropped(Struct, frozen=True, kw_only=True):
    """A reader with ``on_slow="drop"`` was too slow, and pieces of answers were left out before the next event."""

    tokens: int


StreamEvent: TypeAlias = (
    Started | Noted | Progress | Stopping | Finished | RowEvent | AttemptFailed | RowFinished | Waiting | Dropped
)
"""Everything that ``runner.events`` yields."""
