"""One endpoint, model and API key: combines slots, rates, pause and outage into one admission, first come, first served."""

from collections.abc import Iterable

from msgspec import structs

from runner.admission import Permit, Standing
from runner.engine.clock import Clock
from runner.engine.limits import waiting
from runner.engine.limits.gate import Gate
from runner.engine.limits.headers import Kind
from runner.engine.limits.members import Members
from runner.engine.limits.outage import soft
from runner.engine.limits.pause import PauseBackoff
from runner.engine.limits.places import Places
from runner.engine.limits.rates import Rates
from runner.engine.limits.slots import Slots
from runner.errors import AttemptError
from runner.model import Attempt, Usage
from runner.pace import LaneState

RECHECK_S = 1.0
"""Longest sleep, in seconds, before checking whether the end of a pause or the next probe has moved."""
OPENING_S = 0.005
"""Interval of checks, in seconds, while slots open by the passing of time."""
UNREACHED = ("connect", "timeout_connect", "timeout_first_byte")
"""Errors that fewer requests at a time may prevent, but that do not show how many the server had accepted."""


class Lane(Members):
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
        super().__init__(slots, places, clock)
        self.model = model
        self._wall, self._sleep, self._random = clock.wall, clock.sleep, clock.random
        self._rates = Rates(per_minute, clock.monotonic, self._waits_for)
        self._backoff = PauseBackoff(clock.random)
        self._gate = Gate()
        # the last answer of the server that was a failure, to be shown
        self._words: str | None = None

    # -- admission

    async def acquire(self, standing: Standing, size: int, most: int | None) -> Permit:
        """Wait for a permit, which the caller must release.

        size: bytes of the request. most: limit of the answer's output tokens, None if unknown.
        """
        standing.size, standing.most = size, most
        permit = Permit(admitted_at=0.0, size=size, most=most, standard=standing.standard)
        if standing.standard:
            with self._falling_back.waits():
                await self._queue(permit, standing, self._falling_back.gate)
        else:
            await self._queue(permit, standing, self._gate)
        standing.admitted_at = permit.admitted_at
        return permit

    async def _queue(self, permit: Permit, standing: Standing, gate: Gate) -> None:
        tried = standing.ended is not None
        unsent = not tried
        self._unsent += unsent
        line = self._line(permit)
        line.join(at_once=not gate.busy)
        try:
            while True:
                await gate.enter(again=tried)
                try:
                    admitted = await self._admitted(permit, gate, tried=tried)
                finally:
                    gate.leave()
                if admitted:
                    break
                if permit.patient_until is not None:
                    self._unsent -= unsent
                    unsent = False
                    await self._save_up(permit, standing, gate, tried=tried)
                    break
                # back to the end of the queue
        finally:
            self._unsent -= unsent
            line.leave()

    async def _save_up(self, permit: Permit, standing: Standing, gate: Gate, *, tried: bool) -> None:
        """Wait for the permit of a request that would hold others up: they go first, and as long as it is patient always."""
        assert permit.patient_until is not None
        self._savers[permit] = standing
        back = False
        try:
            while True:
                await gate.enter_last(permit.patient_until, back=back)
                try:
                    if await self._admitted(permit, gate, tried=tried):
                        return
                finally:
                    gate.leave()
                back = True
        except BaseException:
            # what is saved is there for others; a row that falls back from flex is cancelled here
            self._rates.unused(permit)
            raise
        finally:
            del self._savers[permit]

    async def _admitted(self, permit: Permit, gate: Gate, *, tried: bool) -> bool:
        """Wait for a permit at the head of the queue. Return False to let another item go first.

        In an outage, the first attempt of an untried item shows more than another attempt of a failed one. A request that would
        hold others up for long saves up for its tokens.
        """
        saves = permit.patient_until is not None
        while True:
            await self._open(permit)
            # rows of the standard tier have a queue of their own, and none of them is untried
            if tried and self._unsent and self._outage.likely and not saves and not permit.standard:
                return False
            limited = saves or self._rates.limited
            if saves:
                if not await self._rates.save_up(permit, gate):
                    return False
            elif limited:
                if self._rates.postpones(permit):
                    return False
                await self._rates.reserve(permit)
            # the wait for the rates may have been long, so check again
            if limited and (self._closed() or not self._free(permit)):
                if not saves:
                    self._rates.unused(permit)
                continue
            if self._savers and not saves:
                self._rates.shares = dict(permit.reserved)
                gate.take_turns(self._clock())
            self._let(permit)
            return True

    def _let(self, permit: Permit) -> None:
        """Let a request go out."""
        permit.admitted_at = self._clock()
        if self._outage.since is not None:
            self._outage.send_probe(permit)
        if self._streak.watching:
            self._streak.sent(permit)
        self._pool(permit).take(permit)
        self._places.take()
        self._line(permit).took(permit)

    async def _open(self, permit: Permit) -> None:
        """Wait until a request may be sent, except for the rates."""
        while True:
            probe_s = self._outage.probe_in_s if self._outage.since is not None else None
            if (wait_s := max(self._pause.left_s, probe_s or 0.0)) > 0:
                self._waits_for(permit, self._barrier(permit))
                await self._sleep(min(wait_s, RECHECK_S))
            elif self._closed() or not self._free(permit) or self._goes_after(permit):
                self._waits_for(permit, self._barrier(permit))
                if self._pool(permit).opening and not self._closed():
                    await self._sleep(OPENING_S)
                elif permit.standard:
                    with self._falling_back.held_up(closed=self._closed() or self._goes_after(permit)):
                        await self._places.change(RECHECK_S)
                else:
                    await self._places.change(RECHECK_S)
            else:
                self._waits_for(permit, None)
                return

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
