"""Tells an outage of the endpoint from trouble of single items: the retry quota, and the probes while it is spent.

The quota follows gRPC's retry throttling (proposal A6: failures take from a bucket, successes put back, an empty one ends the
retries), but what is ended here is all sending, and one request at a time goes out to see whether the endpoint is back.
"""

import random
from collections import deque
from collections.abc import Callable, Sequence

from msgspec import Struct

from runner.admission import Failure, Permit, Standing
from runner.errors import AttemptError, ProviderError

QUOTA = 20.0
"""Failures without a success that spend it, or half of what is out where that is more, as failures come sooner than successes;
each success puts one back."""
DOUBT_S = 660.0
"""After this long with nothing but failures, what had begun before counts too, to tell whose trouble it is; and it is the items'
own where no more than ``FEW`` are left."""
FEW = 4
"""So few items may have used up their attempts before the quota is spent."""
TRIALS = 2.0
"""Failures for each failing item that begin an outage where the endpoint had answered before and no item waits to be sent."""
FIRST_PROBE_S = 1.0
PROBE_FACTOR = 1.5
LAST_PROBE_S = 15.0
"""The wait before a probe grows up to this, so that a long outage is left no later than this after its end."""
SOFT_PROBE_S = 5.0
"""... and up to this where the requests may have brought the failures about: then other items are to be tried soon."""
INNOCENT = 2
"""So many items that have not failed while others succeeded must be in trouble; one alone may be its own."""
_NEVER = float("-inf")


class Past(Struct, frozen=True):
    """An outage: from, to; soft: the requests may have brought it about."""

    begin: float
    end: float
    soft: bool


class Here(Struct, frozen=True, kw_only=True):
    """Who is in the lane, counted."""

    # items that have not failed while others succeeded, and those of them that have failed
    innocent: int
    failing: int
    # items of which nothing has come back yet, and those of them that wait to be sent
    untried: int
    unsent: int


class Outage:
    """One lane's view of its endpoint.

    since: when the present outage began, on ``clock``; None while there is none. reason: the code of its last failure.
    """

    def __init__(self, clock: Callable[[], float], draw: random.Random) -> None:
        self._clock, self._draw = clock, draw
        self.since: float | None = None
        self.reason = ""
        # failures, less successes
        self._spent = 0
        # when the last success was accepted, and when the last one was complete, be it one that had begun before an outage
        self._opened = self._good = self._good_late = _NEVER
        self._first_failure: float | None = None
        # failures since a request was accepted that was then answered, and when the first of them was sent
        self._alone = 0
        self._alone_from: float | None = None
        self._wait_s = FIRST_PROBE_S
        self._probe_at = _NEVER
        self._probe_out = False
        # the requests may have brought it about
        self.soft = False
        # its last failure came when an answer had begun already, so the beginning of one proves nothing
        self.late = False
        # outages that are over
        self._past: deque[Past] = deque(maxlen=64)

    @property
    def likely(self) -> bool:
        """There is one, or this may be the beginning of one: who has been tried already tells little more of it."""
        return self.since is not None or self._first_failure is not None

    @property
    def probe_in_s(self) -> float | None:
        """Seconds until a probe may go out; None while one is out. Ask only during an outage."""
        return None if self._probe_out else max(0.0, self._probe_at - self._clock())

    def send_probe(self, permit: Permit) -> None:
        """Make a permit the probe."""
        permit.probe = self._probe_out = True

    def lost(self, permit: Permit) -> None:
        """A probe ended without telling anything."""
        if permit.probe:
            self._probe_out = False

    def answered(self, permit: Permit, *, success: bool) -> bool:
        """Note that the endpoint works: a completion, or a refusal that is about the request. True when an outage is over."""
        now = self._clock()
        self._good_late = now if success else self._good_late
        if self.since is not None:
            self.lost(permit)
            # an answer that had begun before says nothing about now
            if permit.admitted_at < self._opened:
                return False
            self._past.append(Past(self.since, now, soft=self.soft))
            self._end()
            self._good = now if success else self._good
            return True
        if success:
            self._spent, self._first_failure = max(0, self._spent - 1), None
            # an answer that had begun before says nothing of how a request fares that is sent now
            accepted_at = now if permit.accepted_at is None else permit.accepted_at
            self._good = max(self._good, accepted_at)
            if self._alone_from is None or accepted_at >= self._alone_from:
                self._alone, self._alone_from = 0, None
        return False

    def failed(self, permit: Permit, reason: str, here: Here, *, soft: bool, out: int = 0) -> bool:
        """Note a failure that may be the endpoint's; True when an outage begins.

        here: who is in the lane. soft: the request may have brought it about. out: requests that are out.
        """
        now = self._clock()
        self.late = permit.accepted
        if self.since is None:
            self._spent += 1
            self._alone += 1
            self._first_failure = permit.admitted_at if self._first_failure is None else self._first_failure
            self._alone_from = permit.admitted_at if self._alone_from is None else self._alone_from
            last = self._last(here, soft=soft)
            if not (last or self._spent >= max(QUOTA, out / 2)) or not self._believable(here, soft=soft):
                return False
            begin = self._alone_from if last else self._first_failure
            self.since, self._opened, self.reason, self.soft = max(begin, self._good), now, reason, soft
            self._wait_s = FIRST_PROBE_S
            self._probe_at = now + self._draw.uniform(0.5, 1.0) * self._wait_s
            return True
        self.reason = reason
        if permit.probe:
            self._probe_out = False
            self._wait_s = min(self._wait_s * PROBE_FACTOR, SOFT_PROBE_S if self.soft else LAST_PROBE_S)
            self._probe_at = now + self._draw.uniform(0.8, 1.0) * self._wait_s
            if (doubted := self._doubted(here)) or not self._believable(here, soft=self.soft):
                self._past.append(Past(self.since, now, soft=self.soft) if self.soft else Past(now, now, soft=False))
                # or they would begin the next one
                self._good = now if doubted else self._good
                self._end()
        return False

    def _last(self, here: Here, *, soft: bool) -> bool:
        """Tell whether the last items of a run have failed often enough: they are too few for the whole quota."""
        ripe = here.failing >= INNOCENT and self._alone >= TRIALS * here.failing
        return ripe and not soft and here.unsent == 0 and self._good_late > _NEVER

    def _doubted(self, here: Here) -> bool:
        """Tell whether the last few items have met nothing but failures for so long that it must be them."""
        long = self.since is not None and self._clock() - self.since > DOUBT_S
        return long and not self.soft and here.unsent == 0 and here.innocent <= FEW and self._good_late > _NEVER

    def _believable(self, here: Here, *, soft: bool) -> bool:
        """Tell whether it can be the endpoint: items are there that could show the opposite."""
        return here.untried > 0 if soft else here.innocent >= INNOCENT

    def counted(self, failures: Sequence[Failure]) -> int:
        """Count the failures that are an item's own: none of an outage, one of each that the requests may have brought about."""
        own, soft = 0, set()
        for failure in failures:
            past = self._outage_of(failure)
            if past is None:
                own += 1
            elif past.soft:
                soft.add(past.begin)
        return own + len(soft)

    def excuses(self, failure: Failure) -> bool:
        """Tell whether a failure fell into an outage."""
        return self._outage_of(failure) is not None

    def suspects(self, standing: Standing) -> bool:
        """Tell whether an item has failed while others succeeded."""
        if self.since is not None and self._clock() - self.since > DOUBT_S:
            return any(failure.ended < self._good_late for failure in standing.failures)
        return any(failure.ended < self._good and not self.excuses(failure) for failure in standing.failures)

    def _outage_of(self, failure: Failure) -> Past | None:
        if self.since is not None and failure.ended >= self.since:
            return Past(self.since, self._clock(), soft=self.soft)
        return next((past for past in self._past if failure.ended >= past.begin and failure.began <= past.end), None)

    def _end(self) -> None:
        self.since, self._probe_out, self._spent, self._first_failure = None, False, 0, None
        self._alone, self._alone_from = 0, None


def soft(error: AttemptError) -> bool:
    """Tell whether a prompt may bring such a failure about: a plain 500, or an answer that broke off."""
    status = error.status if isinstance(error, ProviderError) else None
    down = not error.sent or error.code in ("overloaded", "closed", "timeout_first_byte") or (status or 0) > 500
    return not down
