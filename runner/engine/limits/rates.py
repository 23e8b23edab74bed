"""All limits per minute of a lane: their values, the reservation for each request, and its correction afterwards."""

import asyncio
import math
from collections.abc import Callable, Iterable, Mapping, Sequence

from runner.admission import Permit, Standing
from runner.engine.limits import headers
from runner.engine.limits.bucket import Rate
from runner.engine.limits.estimate import Estimate, amount
from runner.engine.limits.gate import Gate
from runner.engine.limits.headers import Kind, Seen
from runner.model import Usage

HEADERS_S = 0.1
"""Shortest interval, in seconds, at which the headers of good answers are read."""
DRAIN_S = 1.0
"""Shortest interval, in seconds, at which the reported rest is used: answers that come together report the same rest."""
DRAINS = 3
"""How many times in a row the same rest is used; a rest that never changes is not a real count."""
SPARE_TOKENS = 100_000
"""Input tokens that a request may use beyond its size in bytes: for an image given by URL, or a provider's own prompt."""
PATIENCE_S = 30.0
"""Seconds for which a request as large as a limit always lets others go first."""
MOST_TOKENS = 1_000_000
"""Maximum number of output tokens that is believed if the request sets no limit."""
SAMPLE = 200
"""How many of the waiting items are looked at, at the least, to tell what all of them need."""
GUESSED = 0.2
"""Share of output tokens in what items need up to which that is told although no answer has shown yet how long answers are."""


class Rates:
    """Limits by kind: those of the job, those that the server reports, and the smaller one if there are both.

    told: called when a request waits for a limit, and with None when it has waited.
    """

    def __init__(
        self,
        configured: dict[Kind, float],
        clock: Callable[[], float],
        told: Callable[[Permit, Kind | None], None] = lambda _permit, _kind: None,
    ) -> None:
        self._configured, self._clock, self.told = configured, clock, told
        self._rates: dict[Kind, Rate] = {kind: Rate(amount) for kind, amount in configured.items()}
        self._estimate = Estimate()
        self._next_headers = self._next_drain = float("-inf")
        self._drained: dict[Kind, tuple[float, int]] = {}
        # True for a limit whose value in force is the one that the server reports
        self.reported: dict[Kind, bool] = {}
        # what the server reports, whether it is in force or not
        self.reports: dict[Kind, float] = {}
        # what the last request took that did not save up, by limit; a request that saves may then take as much
        self.shares: Mapping[str, float] = {}
        # rows that fell back from flex have a queue of their own; the heads of both take turns
        self._turn = asyncio.Lock()
        # what requests wait for now, and how much of it; the debt of the limit contains that
        self._claims: dict[Permit, tuple[Kind, float]] = {}

    @property
    def waits_for(self) -> Kind | None:
        """The limit for which a request waits now."""
        return next((kind for kind, _ in self._claims.values()), None)

    @property
    def limited(self) -> bool:
        """True if there is a limit."""
        return bool(self._rates)

    @property
    def per_minute(self) -> dict[Kind, float]:
        """The limits in force."""
        return {kind: rate.per_minute for kind, rate in self._rates.items()}

    def holds_back(self, permit: Permit) -> bool:
        """Return True if a limit would let a request wait now."""
        self._expect(permit)
        return any(rate.waits(_due(kind, permit)) for kind, rate in self._rates.items())

    def longest(self, permit: Permit) -> tuple[float, Kind | None]:
        """Return for how many seconds a request would wait now, at most, and for which limit; 0 and None if it would not wait."""
        self._expect(permit)
        waits = [(rate.span_s(due), kind) for kind, rate in self._rates.items() if rate.waits(due := _due(kind, permit))]
        return max(waits, default=(0.0, None))

    def per_second(self, permit: Permit) -> float:
        """Return how many requests like this one the limits let through in a second; infinity without limits."""
        self._expect(permit)
        paces = [rate.per_minute / 60 / due for kind, rate in self._rates.items() if (due := _due(kind, permit)) > 0]
        return min(paces, default=math.inf)

    def postpones(self, permit: Permit) -> bool:
        """Return True if a request would hold others up for long. It is to save up, and its patience begins.

        The patience is the time for which it always lets others go first: half of the time that it takes by itself if it is as
        large as a limit, next to none for a small one. The larger it is, the more the others gain by it.
        """
        share = 0.0
        self._expect(permit)
        # no limit counts more than this sum
        most = permit.input_tokens + permit.output_tokens
        for kind, rate in self._rates.items():
            # a request is one request: none is larger than another
            if kind != "rpm" and rate.holds_up(most) and rate.holds_up(due := _due(kind, permit)):
                share = max(share, due / rate.per_minute)
        if share:
            permit.patient_until = self._clock() + PATIENCE_S * share**3
        return share > 0

    async def reserve(self, permit: Permit) -> None:
        """Wait until all limits allow a request, and store the reserved amounts in its permit."""
        if not self._rates:
            return
        if not permit.input_tokens:
            self._expect(permit)
        try:
            # a copy: a limit that is learned in the meantime applies to the next request
            for kind, rate in tuple(self._rates.items()):
                due = _due(kind, permit)
                if rate.waits(due):
                    self.told(permit, kind)
                    async with self._turn:
                        self._claims[permit] = kind, due
                        await rate.acquire(due)
                    del self._claims[permit]
                    self.told(permit, None)
                else:
                    await rate.take(due)
                permit.reserved[kind] = due
        except BaseException:
            self.unused(permit)
            raise
        finally:
            self._claims.pop(permit, None)

    def _expect(self, permit: Permit) -> None:
        permit.input_tokens = self._estimate.input_tokens(permit.size)
        permit.output_tokens = self._estimate.output_tokens(permit.most)

    async def save_up(self, permit: Permit, gate: Gate) -> bool:
        """Save for a request that would hold others up, slice by slice; what is saved is in the permit's reservation.

        Return False to let others at the gate go first; True once everything is saved. When its patience is over, it saves as
        much in each turn as the request before it took. So it gets half of the limit, and the others are never held up.
        """
        self._expect(permit)
        overdue = permit.patient_until is not None and self._clock() >= permit.patient_until
        try:
            for kind, rate in tuple(self._rates.items()):
                due = _due(kind, permit)
                share = self.shares.get(kind, 0.0) if overdue else 0.0
                while (left := due - permit.reserved.get(kind, 0.0)) > 0:
                    if wanted := gate.wanted:
                        if share <= 0:
                            return False
                        left = min(left, share)
                    self._claims[permit] = kind, 0.0
                    self.told(permit, kind)
                    async with self._turn:
                        saved = await rate.save(left)
                    permit.reserved[kind] = permit.reserved.get(kind, 0.0) + saved
                    share -= saved if wanted else 0.0
        except BaseException:
            self.unused(permit)
            raise
        finally:
            self._claims.pop(permit, None)
        return True

    def needs(self, waiting: Sequence[Standing], savers: Iterable[Permit]) -> dict[Kind, float]:
        """Return what items that wait still have to get of each limit of tokens; empty if nothing tells how much that is.

        savers: the permits of those that save up. The debt is included: it is paid before the next request goes.
        """
        kinds = [kind for kind in self._rates if kind != "rpm"]
        if not kinds:
            return {}
        # of many, some tell about all
        step = max(1, len(waiting) // SAMPLE)
        some = waiting[::step]
        many = len(waiting) / max(1, len(some))
        into = many * sum(self._estimate.input_tokens(standing.size) for standing in some)
        out = many * sum(self._estimate.output_tokens(standing.most) for standing in some)
        if not self._estimate.learned and out > GUESSED * (into + out):
            return {}
        needs: dict[Kind, float] = {}
        for kind in kinds:
            saved = sum(permit.reserved.get(kind, 0.0) for permit in savers)
            # the debt contains what requests wait for at this moment
            claimed = sum(due for limit, due in self._claims.values() if limit == kind)
            needs[kind] = max(0.0, amount(kind, into, out) - saved - claimed + self._rates[kind].debt)
        return needs

    def saving(self, permit: Permit) -> tuple[float, float]:
        """Return the tokens of a request that saves up, and how many seconds of a limit it still has to get."""
        left_s = (
            60 * (_due(kind, permit) - permit.reserved.get(kind, 0.0) + max(0.0, rate.debt)) / rate.per_minute
            for kind, rate in self._rates.items()
        )
        return permit.input_tokens + permit.output_tokens, max(0.0, *left_s)

    def unused(self, permit: Permit) -> None:
        """Return the whole reservation: nothing reached the server."""
        self._settle(permit, lambda _kind: 0.0)

    def refused(self, permit: Permit) -> None:
        """Correct the reservation after a rate limit: the server counted the request, but not its tokens."""
        self._settle(permit, lambda kind: 1.0 if kind == "rpm" else 0.0)

    def used(self, permit: Permit, usage: Usage | None, *, complete: bool) -> None:
        """Correct the reservation to what the request used. Unknown amounts may have been used, so their estimate stays."""
        if not self._rates:
            return
        usage = _possible(usage, permit) if usage is not None else None
        if usage is not None and complete:
            self._estimate.learn(permit.size, usage)
        if not permit.reserved:
            return
        into = permit.input_tokens if usage is None or usage.input_tokens is None else float(usage.input_tokens)
        out = permit.output_tokens if usage is None or usage.output_tokens is None else float(usage.output_tokens)
        # Anthropic does not count tokens read from its cache as input tokens per minute
        cached = float(usage.cached_tokens or 0) if usage is not None else 0.0
        self._settle(permit, lambda kind: amount(kind, into - cached if kind == "input_tpm" else into, out))

    def hear(self, raw: Iterable[tuple[bytes, bytes]], wall: float, *, always: bool) -> None:
        """Learn limits from the headers of an answer. wall: when it came. always: even if others were read a moment ago."""
        now = self._clock()
        if not always and now < self._next_headers:
            return
        if not (raw := list(raw)):
            # a worker sends those of a part of the answers
            return
        self._next_headers = now + HEADERS_S
        if headers.speaks(raw):
            for kind, seen in headers.read(raw, wall).items():
                self.learn(kind, seen)

    def learn(self, kind: Kind, seen: Seen) -> None:
        """Apply a limit that the server reports."""
        if (reported := seen.per_minute) is None:
            return
        self.reports[kind] = reported
        limit = min(reported, self._configured.get(kind, reported))
        self.reported[kind] = limit == reported
        if kind in self._rates:
            self._rates[kind].change(limit)
        else:
            self._rates[kind] = Rate(limit)
        # another client may use the same limit, or the server may count differently from us
        now = self._clock()
        if seen.remaining is None or seen.remaining >= limit / 60 or now < self._next_drain:
            return
        last, times = self._drained.get(kind, (-1.0, 0))
        times = times + 1 if last == seen.remaining else 1
        self._drained[kind] = seen.remaining, times
        if times <= DRAINS:
            self._next_drain = now + DRAIN_S
            self._rates[kind].drain(seen.remaining)

    def configure(self, configured: dict[Kind, float]) -> None:
        """Replace the limits of the job. Those that the server reports stay, and so does what is owed to each limit."""
        self._configured = configured
        for kind in {*self._rates, *configured}:
            known = [limits[kind] for limits in (configured, self.reports) if kind in limits]
            if not known:
                self._rates.pop(kind).lift()
            elif kind in self._rates:
                self._rates[kind].change(min(known))
            else:
                self._rates[kind] = Rate(min(known))
        self.reported = {kind: rate.per_minute == self.reports.get(kind) for kind, rate in self._rates.items()}

    def _settle(self, permit: Permit, used: Callable[[Kind], float]) -> None:
        for kind, rate in self._rates.items():
            if (reserved := permit.reserved.pop(kind, None)) is not None:
                rate.settle(reserved, used(kind))


def _due(kind: Kind, permit: Permit) -> float:
    return amount(kind, permit.input_tokens, permit.output_tokens)


def _possible(usage: Usage, permit: Permit) -> Usage:
    """Cap a reported usage at what is possible: a single absurd number must not block the lane for days."""
    most_in = permit.size + SPARE_TOKENS
    most_out = MOST_TOKENS if permit.most is None else 2 * permit.most + SPARE_TOKENS
    if (usage.input_tokens or 0) <= most_in and (usage.output_tokens or 0) <= most_out and not usage.cached_tokens:
        return usage
    return Usage(
        input_tokens=None if usage.input_tokens is None else min(usage.input_tokens, most_in),
        output_tokens=None if usage.output_tokens is None else min(usage.output_tokens, most_out),
        cached_tokens=None if usage.cached_tokens is None else min(usage.cached_tokens, usage.input_tokens or 0, most_in),
    )
