"""One endpoint, model and API key: combines slots, rates, pause and outage into one admission, first come, first served."""

from collections.abc import Iterable

from msgspec import structs

from runner.admission import Permit, Standing
from runner.engine.clock import Clock
from runner.engine.limits import waiting
from runner.engine.limits.headers import Kind
from runner.engine.limits.outage import soft
from runner.engine.limits.pause import PauseBackoff
from runner.engine.limits.permits import Permits
from runner.engine.limits.places import Places
from runner.engine.limits.slots import Slots
from runner.errors import AttemptError
from runner.model import Attempt, Usage
from runner.pace import LaneState

UNREACHED = ("connect", "timeout_connect", "timeout_first_byte")
"""Errors that fewer requests at a time may prevent, but that do not show how many the server had accepted."""


class Lane(Permits):
    """Admits requests, subject to these in order: pause and outage, slot, requests per minute, tokens per minute.

    places: shared by all lanes of a session. per_minute: limits of the job, by kind.
    """

    def __init__(
        self,
        model: str,
        slots: Slots,
        places: Places,
        per_minute: dict[Kind, float],
        clock: Clock,
    ) -> None:
        super().__init__(slots, places, per_minute, clock)
        self.model = model
        self._wall, self._random = clock.wall, clock.random
        self._backoff = PauseBackoff(clock.random)
        # the last answer of the server that was a failure, to be shown
        self._words: str | None = None

    # -- results of attempts

    def release(self, permit: Permit, attempt: Attempt | None = None, *, unused: bool = False) -> None:
        """Release a permit: after its attempt has been saved, or because no attempt was made (``unused``)."""
        if unused:
            self.told_nothing(permit)
            self._rates.unused(permit)
        self._pool(permit).give_back(permit)
        self._line(permit).gave_back(permit, attempt, out_of_service=self._outage.since is not None)
        self._places.give_back()

    def heard(self, permit: Permit, status: int, raw: Iterable[tuple[bytes, bytes]]) -> None:
        """Record that an answer has begun. raw: its headers."""
        good = 200 <= status <= 299
        self._rates.hear(raw, self._wall(), always=not good)
        if good:
            self._accept(permit)
            if (
                permit.probe
                and self._outage.since is not None
                and not self._outage.late
                and self._outage.answered(permit, success=False)
            ):
                self._reopen()

    def succeeded(self, permit: Permit, usage: Usage | None) -> None:
        """Record a completion."""
        if self.succeeded_at < 0:
            self._streak.succeeded()
        self.succeeded_at = self._clock()
        self._accept(permit)
        self._backoff.succeeded()
        self._rates.used(permit, usage, complete=True)
        if self._streak.watching:
            self._holding.answered(permit)
        if self._outage.answered(permit, success=True):
            self._reopen()

    def failed(self, permit: Permit, error: AttemptError, usage: Usage | None, *, throttled: bool, retried: bool) -> None:
        """Record a failed attempt. throttled: refused by a rate limit. retried: another attempt may follow."""
        self._words = permit.words
        self._streak.ended(permit)
        if not error.sent:
            self._rates.unused(permit)
        elif throttled:
            self._rates.refused(permit)
        else:
            self._rates.used(permit, usage, complete=False)
        if throttled or not retried:
            if error.verdict == "fail" and error.sent and not throttled:
                self._accept(permit)
            # an error about the request shows that the endpoint works
            if error.sent and not (throttled and self._outage.refusing) and self._outage.answered(permit, success=False):
                self._reopen()
            self._outage.lost(permit)
        else:
            # also those that wait for an amount of a budget
            unsent = sum(standing.ended is None and standing.admitted_at is None for standing in self._standings)
            census = self._outage.census(self._standings, unsent)
            if self._outage.failed(permit, error.code, census, soft=soft(error), out=self._out):
                self._places.notify()
        if self._outage.since is not None:
            # failures during an outage show nothing about the slots
            return
        if error.code == "overloaded":
            self._pool(permit).refuse(permit)
        elif error.code in UNREACHED:
            self._pool(permit).overload(permit)

    def refused(self, standing: Standing, permit: Permit, attempt: Attempt) -> float:
        """Hold a row whose refusal may be the endpoint's; ``fate`` tells what becomes of it.

        Return for how many seconds the endpoint has refused all rows; 0 if it does not, or if an open request may be answered.
        """
        self._words = attempt.error
        self._rates.used(permit, attempt.usage, complete=False)
        late = permit.accepted or 200 <= (attempt.status or 0) <= 299
        self._accept(permit)
        if self._holding.refused(standing, permit, attempt, late=late):
            self._reopen()
        self._places.notify()
        return self.out_of_service_s if self._outage.refusing and not self._streak.others_open else 0.0

    def told_nothing(self, permit: Permit) -> None:
        """Record an attempt that shows nothing about the server. Its reservation stays, because it may have been used."""
        self._streak.ended(permit)
        self._outage.lost(permit)

    def throttle(self, permit: Permit, hint_s: float | None, status: int | None) -> None:
        """React to a rate limit: reduce the slots, and pause the lane. Without a hint the pause grows from episode to episode."""
        words = str(status or 429)
        own_s = self._backoff.pause_s(hint_s, first=self._pool(permit).refuse(permit))
        if hint_s is not None:
            self.pause(hint_s + self._random.uniform(0, min(0.25, hint_s / 4)), words, asked=True)
        self.pause(own_s, words)

    def pause(self, seconds: float, reason: str, *, asked: bool = False) -> None:
        """Send no new request for ``seconds``. asked: the server asked for the wait. reason: if no answer can be quoted."""
        reason = waiting.shown(self._words, reason)
        if self._pause.extend(seconds, f"{reason}, asked by the server" if asked else reason, asked=asked):
            self._reopens = "pause"
            for slots in self._pools:
                slots.paused(seconds)

    # -- display

    def state(self) -> LaneState:
        """Return what the lane is doing now."""
        state = waiting.state(
            self.model, self._slots, self._pause, self._outage, self._rates, self._words, clock=self._clock(), wall=self._wall()
        )
        if self._fallback is not None:
            more = min(self._fallback.slots.limit, self._fallback.slots.out + self._fallback.waiting)
            slots = min(state.slots + more, state.ceiling)
            state = structs.replace(state, slots=slots, in_flight=self._out)
        if state.waiting is None:
            now = self._clock()
            words = waiting.full(self._standings, self._fallback, now)
            words = words or waiting.quiet(self._standings, self.succeeded_at, now)
            state = structs.replace(state, waiting=words)
        if not self._rates.limited:
            return state
        return waiting.with_needs(state, self._rates, self._standings, self._savers, self._streak.held)
