"""Distinguishes an outage of the endpoint from failures of single items: a quota of failures, and probes once it is used up.

The quota follows gRPC's retry throttling (proposal A6: failures take tokens from a bucket, successes return them, and an empty
bucket ends the retries). Here an empty bucket ends all sending, and one request at a time probes whether the endpoint is back.
"""

import random
from collections import deque
from collections.abc import Callable, Iterable, Sequence

from msgspec import Struct

from runner.admission import Failure, Permit, Standing
from runner.errors import AttemptError, ProviderError

QUOTA = 20.0
"""Failures that use up the quota. It is half of the open requests if that is more, since failures come sooner than successes.

Each success gives one back."""
DOUBT_S = 660.0
"""Seconds. In an outage longer than this, answers that had begun before it are evidence against the failing items too.

And if no more than ``FEW`` items are left, they are taken for the cause, not the endpoint."""
FEW = 4
"""So few items may use up their attempts before they use up the quota."""
TRIALS = 2.0
"""Failures per failing item that begin an outage if the endpoint has answered before and no item waits to be sent."""
FIRST_PROBE_S = 1.0
PROBE_FACTOR = 1.5
LAST_PROBE_S = 15.0
"""Longest wait before a probe, in seconds. The end of a long outage is noticed no later than this."""
REFUSED_PROBE_S = 2.0
"""The same in an outage of refusals: probes cost nothing, and other rows may be accepted ..."""
REFUSED_OFTEN_S = 60.0
"""... for so many seconds; then ``SOFT_PROBE_S`` applies."""
SOFT_PROBE_S = 5.0
"""Longest wait if the requests may have caused the failures: other items should be tried soon."""
INNOCENT = 2
"""An outage needs at least this many items that have not failed while others succeeded; a single one may itself be the cause."""
_NEVER = float("-inf")


class PastOutage(Struct, frozen=True):
    """An outage that is over. soft: the requests may have caused it."""

    begin: float
    end: float
    soft: bool


class Census(Struct, frozen=True, kw_only=True):
    """Numbers of items in the lane."""

    # items that have not failed while others succeeded
    innocent: int
    # those of them that have failed
    failing: int
    # items without a finished attempt
    untried: int
    # those of them that wait to be sent
    unsent: int


class Outage:
    """One lane's view of its endpoint.

    since: when the present outage began, by ``clock``; None if there is none. reason: the error code of its last failure.
    refusing: the endpoint refuses all rows, as ``streak`` has found; such an outage ends with an answer only.
    """

    def __init__(self, clock: Callable[[], float], draw: random.Random) -> None:
        self._clock, self._draw = clock, draw
        # failures that the request cannot have caused use up the quota sooner where another endpoint is there, which also tells
        # whether an item is innocent
        self.quota, self.innocent = QUOTA, INNOCENT
        self.since: float | None = None
        self.reason = ""
        # failures minus successes, not below 0
        self._spent = 0
        # when the present outage was declared, at or after ``since``
        self._declared_at = _NEVER
        # when the answer of the last success began; successes of requests from before an outage do not count during it
        self._success_at = _NEVER
        # when the last success was complete, whenever its request was sent
        self._completed_at = _NEVER
        # when the request of the first failure since the last success was sent
        self._failing_since: float | None = None
        # failures since the beginning of the last answer that became a success, and when the request of the first was sent
        self._streak = 0
        self._streak_from: float | None = None
        self._wait_s = FIRST_PROBE_S
        self._probe_at = _NEVER
        self._probe_out = False
        # True if the requests may have caused the present outage
        self.soft = self.refusing = False
        # True if the last failure came after its answer had begun, so that the beginning of an answer proves nothing
        self.late = False
        # outages that are over
        self._past: deque[PastOutage] = deque(maxlen=64)

    @property
    def likely(self) -> bool:
        """True during an outage and at its possible beginning: another attempt of a tried item shows little then."""
        return self.since is not None or self._failing_since is not None

    @property
    def probe_in_s(self) -> float | None:
        """Seconds until a probe may be sent; None while one is open. Valid only during an outage."""
        return None if self._probe_out else max(0.0, self._probe_at - self._clock())

    def send_probe(self, permit: Permit) -> None:
        """Mark a permit as the probe."""
        permit.probe = self._probe_out = True

    def lost(self, permit: Permit) -> None:
        """Record that a probe, if the permit is one, ended without a result."""
        if permit.probe:
            self._probe_out = False

    def answered(self, permit: Permit, *, success: bool) -> bool:
        """Record that the endpoint works: a completion, or an error about the request. Return True if this ends an outage."""
        now = self._clock()
        self._completed_at = now if success else self._completed_at
        if self.since is not None:
            self.lost(permit)
            # a request that was sent before the outage was declared shows nothing about the present
            if permit.admitted_at < self._declared_at:
                return False
            self._past.append(PastOutage(self.since, now, soft=self.soft))
            self._end()
            self._success_at = now if success else self._success_at
            return True
        if success:
            self._spent, self._failing_since = max(0, self._spent - 1), None
            # the time when the answer began counts: its end shows nothing about requests that are sent now
            accepted_at = now if permit.accepted_at is None else permit.accepted_at
            self._success_at = max(self._success_at, accepted_at)
            if self._streak_from is None or accepted_at >= self._streak_from:
                self._streak, self._streak_from = 0, None
        return False

    def refuse(self, since: float, reason: str, *, late: bool) -> None:
        """Begin an outage of refusals. since: when the first of them came; requests that were sent later may end it.

        late: such a refusal comes after an answer has begun, so that only a completion ends the outage.
        """
        self._begin(since, since, reason, soft=False)
        self.refusing, self.late = True, late

    def fall_silent(self, since: float) -> None:
        """Begin an outage, if there is none, in which nothing is heard. since: when the first such request was sent."""
        if self.since is None:
            self._begin(max(since, self._success_at), self._clock(), "timeout_first_byte", soft=False)

    def _begin(self, since: float, declared_at: float, reason: str, *, soft: bool) -> None:
        self.since, self._declared_at, self.reason, self.soft = since, declared_at, reason, soft
        self._wait_s = FIRST_PROBE_S
        self._probe_at = self._clock() + self._draw.uniform(0.5, 1.0) * self._wait_s

    def refused(self, permit: Permit) -> None:
        """Record a refusal during an outage of refusals."""
        if permit.probe:
            self._next_probe()

    def _next_probe(self) -> None:
        assert self.since is not None
        now, longest = self._clock(), SOFT_PROBE_S if self.soft else LAST_PROBE_S
        if self.refusing:
            longest = REFUSED_PROBE_S if now - self.since < REFUSED_OFTEN_S else SOFT_PROBE_S
        self._probe_out = False
        self._wait_s = min(self._wait_s * PROBE_FACTOR, longest)
        self._probe_at = now + self._draw.uniform(0.8, 1.0) * self._wait_s

    def failed(self, permit: Permit, reason: str, census: Census, *, soft: bool, out: int = 0) -> bool:
        """Record a failure that the endpoint may have caused. Return True if this begins an outage.

        census: the items in the lane. soft: the request may have caused the failure. out: number of open requests.
        """
        now = self._clock()
        self.late = permit.accepted or (self.refusing and self.late)
        if self.since is None:
            self._spent += 1
            self._streak += 1
            self._failing_since = permit.admitted_at if self._failing_since is None else self._failing_since
            self._streak_from = permit.admitted_at if self._streak_from is None else self._streak_from
            last_items = self._last_items_fail(census, soft=soft)
            if not (last_items or self._spent >= max(QUOTA if soft else self.quota, out / 2)) or not self._plausible(
                census, soft=soft
            ):
                return False
            begin = self._streak_from if last_items else self._failing_since
            self._begin(max(begin, self._success_at), now, reason, soft=soft)
            return True
        self.reason = reason
        if permit.probe:
            self._next_probe()
            if self.refusing:
                return False
            if (doubted := self._doubtful(census)) or not self._plausible(census, soft=self.soft):
                self._past.append(PastOutage(self.since, now, soft=self.soft) if self.soft else PastOutage(now, now, soft=False))
                # the failures so far now count against their items, which therefore cannot begin the next outage
                self._success_at = now if doubted else self._success_at
                self._end()
        return False

    def census(self, standings: Iterable[Standing], unsent: int) -> Census:
        """Count the items of the lane. unsent: those that wait for their first permit."""
        standings = list(standings)
        innocent = [standing for standing in standings if not self.suspects(standing)]
        return Census(
            innocent=len(innocent),
            failing=sum(standing.ended is not None for standing in innocent),
            untried=sum(standing.ended is None for standing in standings),
            unsent=unsent,
        )

    def _last_items_fail(self, census: Census, *, soft: bool) -> bool:
        """Return True if the last items of a run have failed often enough: they are too few to use up the whole quota."""
        enough = census.failing >= INNOCENT and self._streak >= TRIALS * census.failing
        return enough and not soft and census.unsent == 0 and self._completed_at > _NEVER

    def _doubtful(self, census: Census) -> bool:
        """Return True if the last few items have failed for so long that they must be the cause."""
        long = self.since is not None and self._clock() - self.since > DOUBT_S
        return long and not self.soft and census.unsent == 0 and census.innocent <= FEW and self._completed_at > _NEVER

    def _plausible(self, census: Census, *, soft: bool) -> bool:
        """Return True if the endpoint may be the cause: there are enough items that could prove the opposite."""
        return census.untried > 0 if soft else census.innocent >= self.innocent

    def counted(self, failures: Sequence[Failure]) -> int:
        """Return how many failures count against an item: none of an outage, but one of each soft outage."""
        own, soft = 0, set()
        for failure in failures:
            past = self._outage_of(failure)
            if past is None:
                own += 1
            elif past.soft:
                soft.add(past.begin)
        return own + len(soft)

    def excuses(self, failure: Failure) -> bool:
        """Return True if a failure fell into an outage."""
        return self._outage_of(failure) is not None

    def beginning(self, failure: Failure) -> float | None:
        """Return when the outage began into which a failure fell; None for one that fell into none."""
        outage = self._outage_of(failure)
        return None if outage is None else outage.begin

    def suspects(self, standing: Standing) -> bool:
        """Return True if an item has failed while others succeeded."""
        if self.since is not None and self._clock() - self.since > DOUBT_S:
            return any(failure.ended < self._completed_at for failure in standing.failures)
        return any(failure.ended < self._success_at and not self.excuses(failure) for failure in standing.failures)

    def _outage_of(self, failure: Failure) -> PastOutage | None:
        if self.since is not None and failure.ended >= self.since:
            return PastOutage(self.since, self._clock(), soft=self.soft)
        return next((past for past in self._past if failure.ended >= past.begin and failure.began <= past.end), None)

    def _end(self) -> None:
        self.since, self._probe_out, self._spent, self._failing_since = None, False, 0, None
        self.refusing = False
        self._streak, self._streak_from = 0, None


def soft(error: AttemptError) -> bool:
    """Return True if the prompt may have caused the failure: a plain 500, or an answer that broke off."""
    status = error.status if isinstance(error, ProviderError) else None
    down = not error.sent or error.code in ("overloaded", "closed", "timeout_first_byte") or (status or 0) > 500
    return not down
