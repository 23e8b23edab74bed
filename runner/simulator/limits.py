"""Rate limits as the providers apply them: buckets that refill evenly over a minute, and a ceiling on answers at once.

Nothing waits here: a request is admitted or refused at once. The clock is an argument.
"""

import math
import time
from collections.abc import Callable

from runner.simulator.dialect import Kind, Refusal, Window
from runner.simulator.stats import Flight

# An exact wait must be enough, whatever the last bit of the refill says.
_ROUNDING = 1e-6
_SHORT = {"requests": "RPM", "tokens": "TPM"}


class Bucket:
    """One limit per minute; it may go into debt by what turned out larger than expected."""

    def __init__(self, kind: Kind, limit: int, clock: Callable[[], float], *, fill: float) -> None:
        self._kind = kind
        self._limit = limit
        self._clock = clock
        self._level = limit * fill
        self._seen = clock()

    def change(self, limit: int) -> None:
        """Another limit from now on; what the bucket holds stays, as far as there is room for it."""
        self._refill()
        self._limit = limit
        self._level = min(self._level, limit)

    def lack_s(self, amount: int) -> float:
        """Seconds until this amount may go; 0 is now. More than the bucket holds may go when it is full."""
        self._refill()
        missing = min(amount, self._limit) - self._level
        return 0.0 if missing <= _ROUNDING else missing * 60 / self._limit

    def take(self, amount: int) -> None:
        """Take the amount, into debt if need be."""
        self._refill()
        self._level -= amount

    def refusal(self, wait_s: float) -> Refusal:
        """The answer to a request that would have to wait this long."""
        return Refusal(
            429,
            f"Rate limit reached on {self._kind} per min ({_SHORT[self._kind]}): Limit {self._limit}. "
            f"Please try again in {wait_s:.3f}s.",
            cause="limit",
            limit=self._kind,
            retry_after_s=max(1, math.ceil(wait_s)),
        )

    def window(self) -> Window:
        """State as the headers tell it."""
        self._refill()
        return Window(
            kind=self._kind,
            limit=self._limit,
            remaining=max(0, math.floor(self._level + _ROUNDING)),
            reset_s=(self._limit - self._level) * 60 / self._limit,
        )

    def _refill(self) -> None:
        now = self._clock()
        self._level = min(self._limit, self._level + (now - self._seen) * self._limit / 60)
        self._seen = now


class Limits:
    """All limits of one simulator. A request that is refused takes nothing."""

    def __init__(
        self,
        *,
        rpm: int | None,
        tpm: int | None,
        max_in_flight: int | None,
        fill: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._fill = fill
        self._clock = clock
        self._requests: Bucket | None = None
        self._tokens: Bucket | None = None
        self.flight = Flight(clock)
        self.change(rpm=rpm, tpm=tpm, max_in_flight=max_in_flight)

    def change(self, *, rpm: int | None, tpm: int | None, max_in_flight: int | None) -> None:
        """Other limits from now on; answers under way go on, also above the ceiling."""
        self._requests = self._changed(self._requests, "requests", rpm)
        self._tokens = self._changed(self._tokens, "tokens", tpm)
        self._ceiling = max_in_flight

    def admit(self, input_tokens: int) -> None:
        """Let a request in, or raise the Refusal; whoever is let in must leave."""
        if self._ceiling is not None and self.flight.now >= self._ceiling:
            raise Refusal(
                429,
                f"Number of requests at once is above the limit of {self._ceiling}.",
                cause="limit",
                limit="requests",
                retry_after_s=1,
            )
        asked = [(bucket, amount) for bucket, amount in ((self._requests, 1), (self._tokens, input_tokens)) if bucket is not None]
        for bucket, amount in asked:
            if wait_s := bucket.lack_s(amount):
                raise bucket.refusal(wait_s)
        for bucket, amount in asked:
            bucket.take(amount)
        self.flight.begin()

    def leave(self) -> None:
        """An admitted request has ended, however it did."""
        self.flight.end()

    def spend(self, output_tokens: int) -> None:
        """Count the tokens of an answer against the limit."""
        if self._tokens is not None:
            self._tokens.take(output_tokens)

    def windows(self) -> list[Window]:
        """State of every limit that is set."""
        return [bucket.window() for bucket in (self._requests, self._tokens) if bucket is not None]

    def _changed(self, bucket: Bucket | None, kind: Kind, limit: int | None) -> Bucket | None:
        if limit is None:
            return None
        if bucket is None:
            return Bucket(kind, limit, self._clock, fill=self._fill)
        bucket.change(limit)
        return bucket
