"""Statistics of the entries that a session has saved, in constant memory."""

import math

from msgspec import Struct, field

from runner.batches import BATCH_TIER
from runner.errors import BAD_ROW
from runner.event_types import Quantiles
from runner.model import Attempt, Entry, Outcome, Usage
from runner.money import FLEX, STANDARD, tier_of
from runner.providers.finish import doubt
from runner.session.forecast import Sent
from runner.store.early import CODES


class Histogram:
    """Counts durations in buckets 2 % wide (as HdrHistogram does), so that quantiles are accurate to 1 %."""

    def __init__(self) -> None:
        self._counts: dict[int, int] = {}
        self._total = 0

    def add(self, seconds: float) -> None:
        """Count one duration."""
        bucket = round(math.log(seconds / _SMALLEST_S) / _STEP) if seconds > _SMALLEST_S else 0
        self._counts[bucket] = self._counts.get(bucket, 0) + 1
        self._total += 1

    def quantile(self, share: float) -> float | None:
        """Return the duration below which ``share`` (0..1) of all durations lie, in seconds; None if there are none."""
        if not self._total:
            return None
        rank = max(1, math.ceil(share * self._total))
        for bucket in sorted(self._counts):
            rank -= self._counts[bucket]
            if rank <= 0:
                return _SMALLEST_S * math.exp(bucket * _STEP)
        return None


class SessionStats(Struct):
    """Counts of one session. Token counts are None until an attempt reports usage."""

    done: int = 0
    failed: int = 0
    # of the failed: changed rows that keep their earlier answer and stay done
    kept: int = 0
    # of the failed: broken rows, which are settled without a request
    broken: int = 0
    attempts: int = 0
    # rows for which an answer was taken over; they are neither done nor sent in this session
    reused: int = 0
    # of the done and failed: rows that got the outcome of another row with the same request
    shared: int = 0
    input_tokens: int | None = None
    output_tokens: int | None = None
    # answers that the standard tier gave
    standard_tier: int = 0
    # True if an answer may have been ended before its end
    ended_early: bool = False
    # finish reasons that nobody knows, with the number of their answers
    unknown_finish: dict[str, int] = field(default_factory=dict)
    # answers that are cut, filtered or empty, by what ``--class`` calls them
    doubtful: dict[str, int] = field(default_factory=dict)
    first_token: Histogram = field(default_factory=Histogram)
    duration: Histogram = field(default_factory=Histogram)
    # of live requests alone: what waits in a batch takes as long as that does
    live: Histogram = field(default_factory=Histogram)
    # how many of these the flex tier gave, and the others
    live_flex: int = 0
    live_standard: int = 0

    def add(self, entry: Entry) -> None:
        """Count one entry."""
        attempt = entry if isinstance(entry, Attempt) else entry.attempt
        if isinstance(entry, Outcome):
            self.done += entry.status == "done"
            self.failed += entry.status == "failed"
            self.kept += entry.kept
            self.broken += entry.error_code == BAD_ROW
            self.shared += entry.same_as is not None
            if entry.completion is not None and "unknown_finish" in entry.completion.notes:
                self._add_unknown(entry.completion.finish_reason)
            if entry.completion is not None and entry.status == "done" and (name := doubt(entry.completion)) is not None:
                self.doubtful[name] = self.doubtful.get(name, 0) + 1
        if attempt is None:
            return
        self.attempts += 1
        self.add_usage(attempt.usage)
        if attempt.error_code is None:
            tier = tier_of(attempt.tier or attempt.asked_tier)
            self.standard_tier += tier == STANDARD
            self.duration.add(attempt.duration_s)
            if attempt.tier != BATCH_TIER:
                self.live.add(attempt.duration_s)
                self.live_flex += tier == FLEX
                self.live_standard += tier != FLEX
            if attempt.time_to_first_token_s is not None:
                self.first_token.add(attempt.time_to_first_token_s)
        elif attempt.error_code in CODES:
            self.ended_early = True

    def _add_unknown(self, reason: str) -> None:
        # a server that invents reasons must not fill the memory
        reason = reason[:80] if reason in self.unknown_finish or len(self.unknown_finish) < _MOST_REASONS else "..."
        self.unknown_finish[reason] = self.unknown_finish.get(reason, 0) + 1

    def add_usage(self, usage: Usage | None) -> None:
        """Count what an attempt has used."""
        if usage is not None and usage.input_tokens is not None:
            self.input_tokens = (self.input_tokens or 0) + usage.input_tokens
        if usage is not None and usage.output_tokens is not None:
            self.output_tokens = (self.output_tokens or 0) + usage.output_tokens

    def sent(self) -> Sent:
        """Return what the time left is estimated from."""
        return Sent(
            rows=self.done + self.failed - self.broken,
            requests=self.attempts,
            input_tokens=self.input_tokens,
            output_tokens=self.output_tokens,
            usual_s=self.live.quantile(0.5) or 0.0,
            longest_s=self.live.quantile(0.95) or 0.0,
        )

    def quantiles(self) -> tuple[Quantiles, Quantiles]:
        """Return the quantiles of time to first token and of duration, over the successful attempts."""
        first, whole = (
            Quantiles(p50=durations.quantile(0.5), p95=durations.quantile(0.95))
            for durations in (self.first_token, self.duration)
        )
        return first, whole


_MOST_REASONS = 20
_STEP = math.log(1.02)


_SMALLEST_S = 1e-4
