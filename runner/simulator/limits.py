"""Rate limits as the providers apply them: token buckets that refill evenly over a minute, and a cap on requests in flight.

Nothing waits here: a request is admitted or refused immediately. The clock is an argument.
"""

import math
import time
from collections.abc import Callable

from runner.simulator.dialect import Kind, Refusal, Window
from runner.simulator.stats import Flight

# Tolerance for floating-point errors of the refill, so that waiting exactly as long as told is enough.
_ROUNDING = 1e-6
_SHORT = {"requests": "RPM", "tokens": "TPM"}


class Bucket:
    """One limit per minute. Its level can become negative, if an answer turns out larger than expected."""

    def __init__(self, kind: Kind, limit: int, clock: Callable[[], float], *, fill: float) -> None:
        self._kind = kind
        self._limit = limit
        self._clock = clock
        self._level = limit * fill
        self._seen = clock()

    def change(self, limit: int) -> None:
        """Change the limit from now on. The bucket keeps its level, up to the new limit."""
        self._refill()
        self._limit = limit
        self._level = min(self._level, limit)

    def lack_s(self, amount: int) -> float:
        """Return the seconds until this amount may be taken; 0 is now. From a full bucket any amount may be taken."""
        self._refill()
        missing = min(amount, self._limit) - self._level
        return 0.0 if missing <= _ROUNDING else missing * 60 / self._limit

    def take(self, amount: int) -> None:
        """Take the amount, even if the level becomes negative."""
        self._refill()
        self._level -= amount

    def refusal(self, wait_s: float) -> Refusal:
        """Return the refusal of a request that would have to wait this long."""
        return Refusal(
            429,
            f"Rate limit reached on {self._kind} per min ({_SHORT[self._kind]}): Limit {self._limit}. "
            f"Please try again in {wait_s:.3f}s.",
            cause="limit",
            limit=self._kind,
            retry_after_s=max(1, math.ceil(wait_s)),
        )

    def window(self) -> Window:
        """Return the state of the limit for the headers."""
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
    """All limits of one simulator. A refused request takes nothing from any of them."""

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
        """Change the limits from now on. Answers in flight continue, even if there are more than the new cap."""
        self._requests = self._changed(self._requests, "requests", rpm)
        self._tokens = self._changed(self._tokens, "tokens", tpm)
        self._cap = max_in_flight

    def admit(self, input_tokens: int) -> None:
        """Admit a request, or raise a Refusal. The caller must call ``leave`` for every admitted request."""
        if self._cap is not None and self.flight.now >= self._cap:
            raise Refusal(
                429,
                f"Number of requests at once is above the limit of {self._cap}.",
                cause="limit",
                limit="requests",
                retry_after_s=1,
            )
        amounts = [
            (bucket, amount) for bucket, amount in ((self._requests, 1), (self._tokens, input_tokens)) if bucket is not None
        ]
        for bucket, amount in amounts:
            if wait_s := bucket.lack_s(amount):
                raise bucket.refusal(wait_s)
        for bucket, amount in amounts:
            bucket.take(amount)
        self.flight.begin()

    def leave(self) -> None:
        """Record that an admitted request has ended, well or badly."""
        self.flight.end()

    def spend(self, output_tokens: int) -> None:
        """Take the tokens of an answer from the token limit."""
        if self._tokens is not None:
            self._tokens.take(output_tokens)

    def windows(self) -> list[Window]:
        """Return the state of every limit that is set."""
        return [bucket.window() for bucket in (self._requests, self._tokens) if bucket is not None]

    def _changed(self, bucket: Bucket | None, kind: Kind, limit: int | None) -> Bucket | None:
        if limit is None:
            return None
        if bucket is None:
            return Bucket(kind, limit, self._clock, fill=self._fill)
        bucket.change(limit)
        return bucket
