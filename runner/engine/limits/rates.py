"""All limits per minute of a lane: their values, the reservation for each request, and its correction afterwards."""

from collections.abc import Callable, Iterable

from runner.admission import Permit
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
MOST_TOKENS = 1_000_000
"""Maximum number of output tokens that is believed if the request sets no limit."""


class Rates:
    """Limits by kind: those of the job, those that the server reports, and the smaller one if there are both."""

    def __init__(self, configured: dict[Kind, float], clock: Callable[[], float]) -> None:
        self._configured, self._clock = configured, clock
        self._rates: dict[Kind, Rate] = {kind: Rate(amount) for kind, amount in configured.items()}
        self._estimate = Estimate()
        self._next_headers = self._next_drain = float("-inf")
        self._drained: dict[Kind, tuple[float, int]] = {}
        # True for a limit whose value in force is the one that the server reports
        self.reported: dict[Kind, bool] = {}
        # the limit for which a request waits now
        self.waits_for: Kind | None = None

    @property
    def per_minute(self) -> dict[Kind, float]:
        """The limits in force."""
        return {kind: rate.per_minute for kind, rate in self._rates.items()}

    async def reserve(self, permit: Permit) -> None:
        """Wait until all limits allow a request, and store the reserved amounts in its permit."""
        if not self._rates:
            return
        permit.input_tokens = self._estimate.input_tokens(permit.size)
        permit.output_tokens = self._estimate.output_tokens(permit.most)
        try:
            # a copy: a limit that is learned in the meantime applies to the next request
            for kind, rate in tuple(self._rates.items()):
                due = amount(kind, permit.input_tokens, permit.output_tokens)
                if rate.waits(due):
                    self.waits_for = kind
                    await rate.acquire(due)
                else:
                    await rate.take(due)
                permit.reserved[kind] = due
        except BaseException:
            self.unused(permit)
            raise
        finally:
            self.waits_for = None

    def exceeded(self, size: int, most: int | None) -> bool:
        """Return True if a request has more tokens than a whole limit per minute. size, most: as in a permit."""
        if not self._rates:
            return False
        into, out = self._estimate.input_tokens(size), self._estimate.output_tokens(most)
        for kind, rate in self._rates.items():
            # the sum first: it is a shortcut, since no limit counts more
            if kind != "rpm" and into + out > rate.per_minute and amount(kind, into, out) > rate.per_minute:
                return True
        return False

    def _dues(self, size: int, most: int | None) -> dict[Kind, float]:
        into, out = self._estimate.input_tokens(size), self._estimate.output_tokens(most)
        return {kind: amount(kind, into, out) for kind in self._rates}

    async def save_up(self, permit: Permit, gate: Gate) -> bool:
        """Save for a request that is larger than a limit, slice by slice; what is saved is in the permit's reservation.

        Return False as soon as another request waits at the gate, to let it go first; True once everything is saved.
        """
        permit.input_tokens = self._estimate.input_tokens(permit.size)
        permit.output_tokens = self._estimate.output_tokens(permit.most)
        try:
            for kind, due in self._dues(permit.size, permit.most).items():
                while (left := due - permit.reserved.get(kind, 0.0)) > 0:
                    if gate.wanted:
                        return False
                    self.waits_for = kind
                    permit.reserved[kind] = permit.reserved.get(kind, 0.0) + await self._rates[kind].save(left)
        except BaseException:
            self.unused(permit)
            raise
        finally:
            self.waits_for = None
        return True

    def unused(self, permit: Permit) -> None:
        """Return the whole reservation: nothing reached the server."""
        self._settle(permit, lambda _kind: 0.0)

    def refused(self, permit: Permit) -> None:
        """Correct the reservation after a rate limit: the server counted the request, but not its tokens."""
        self._settle(permit, lambda kind: 1.0 if kind == "rpm" else 0.0)

    def used(self, permit: Permit, usage: Usage | None, *, complete: bool) -> None:
        """Correct the reservation to what the request used. Unknown amounts may have been used, so their estimate stays."""
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
        self._next_headers = now + HEADERS_S
        raw = list(raw)
        if headers.speaks(raw):
            for kind, seen in headers.read(raw, wall).items():
                self.learn(kind, seen)

    def learn(self, kind: Kind, seen: Seen) -> None:
        """Apply a limit that the server reports."""
        if (reported := seen.per_minute) is None:
            return
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

    def _settle(self, permit: Permit, used: Callable[[Kind], float]) -> None:
        for kind, rate in self._rates.items():
            if (reserved := permit.reserved.pop(kind, None)) is not None:
                rate.settle(reserved, used(kind))


def _possible(usage: Usage, permit: Permit) -> Usage:
    """Cap a reported usage at what is possible: a single absurd number must not block the lane for days."""
    most_in = permit.size + SPARE_TOKENS
    most_out = MOST_TOKENS if permit.most is None else 2 * permit.most + SPARE_TOKENS
    return Usage(
        input_tokens=None if usage.input_tokens is None else min(usage.input_tokens, most_in),
        output_tokens=None if usage.output_tokens is None else min(usage.output_tokens, most_out),
        cached_tokens=None if usage.cached_tokens is None else min(usage.cached_tokens, usage.input_tokens or 0, most_in),
    )
