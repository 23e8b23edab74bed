"""One item -> one outcome. Holds the only retry loop.

An answer is paid for when it is complete, so it is returned even if the run ends in that instant; a failed attempt is with
the writer before the next one begins. A permit goes back to its lane when its attempt is saved, so that a kill never costs more
requests than there are places.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial
from typing import Generic, TypeVar

import anyio
from msgspec import Struct, structs

from runner.admission import Failure, Permit, Standing
from runner.durations import format_span
from runner.engine.clock import Clock
from runner.engine.judge import OUTAGE_S, Judge
from runner.engine.limits.pause import PARKED_S
from runner.engine.outcomes import conceal, done, failed, partial_of, record
from runner.engine.retry import RetryPolicy
from runner.engine.stop import Stop
from runner.errors import AttemptError, AttemptTimeoutError, ProviderError, RunStoppedError, StreamError, TransportError, advice
from runner.interfaces import Client, Decoder, Emit, Exchange, Lane, Lanes, Provider
from runner.model import Attempt, Completion, Entry, HttpCall, Item, Outcome
from runner.text import Redactor

FATAL_GRACE_S = 10.0
"""What is in flight when the run must stop is paid for in part, and most of it ends within this."""

E = TypeVar("E", bound=Exchange)
X = TypeVar("X", bound=AttemptError)


class _Try(Struct):
    """One item's way through its lane."""

    item: Item
    call: HttpCall
    lane: Lane
    standing: Standing
    # the next attempt needs a connection that has not served before: the last one's was stale
    fresh: bool = False


class Attempts(Generic[E]):
    """Turns items into outcomes; ``handle`` is what the engine calls.

    redactor: takes secrets out of foreign words and out of answers before they are kept.
    """

    def __init__(
        self,
        provider: Provider,
        client: Client[E],
        lanes: Lanes,
        policy: RetryPolicy,
        judge: Judge,
        stop: Stop,
        *,
        redactor: Redactor | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._provider, self._client, self._lanes = provider, client, lanes
        self._policy, self._judge, self._stop = policy, judge, stop
        self._redactor = redactor or Redactor()
        clock = clock or Clock()
        self._clock, self._wall, self._sleep, self._draw = clock.monotonic, clock.wall, clock.sleep, clock.random
        # attempts that are made and not saved: whose permit, and which
        self._out: dict[tuple[str, int], tuple[Lane, Permit]] = {}
        # items that wait for a retry, by the number of the attempt that comes
        self._retrying: Counter[int] = Counter()

    def saved(self, entry: Entry) -> None:
        """Give the permit of an entry's attempt back: it is on the disk."""
        attempt = entry if isinstance(entry, Attempt) else entry.attempt
        if attempt is not None and (held := self._out.pop((attempt.key, attempt.number), None)) is not None:
            lane, permit = held
            lane.release(permit)

    def retrying(self) -> str | None:
        """Say what waits for another attempt, the furthest first, in one phrase; None when nothing does."""
        # a first attempt that comes again was excused
        waiting = sorted(((number, count) for number, count in self._retrying.items() if count > 0 and number > 1), reverse=True)
        if not waiting:
            return None
        words = [f"{count:,} on attempt {number} of {self._policy.attempts}" for number, count in waiting[:2]]
        first, *others = words
        return ", ".join([first.replace(" on", " item on" if waiting[0][1] == 1 else " items on", 1), *others])

    async def handle(self, item: Item, emit: Emit) -> Outcome | None:
        """Send the item until it has an outcome; None when the run stops first."""
        try:
            call = self._provider.encode(item.request)
        except Exception as error:  # noqa: BLE001 - one odd row must not end the run
            words = self._redactor(f"the request could not be built: {error!r}")
            return failed(item, item.attempts_before, None, "internal", words)
        lane = self._lanes.of(item.request.model)
        standing = lane.enter(item.attempts_before)
        try:
            return await self._work(_Try(item, call, lane, standing), emit)
        finally:
            lane.leave(standing)

    async def _work(self, one: _Try, emit: Emit) -> Outcome | None:
        item, standing = one.item, one.standing
        wait_s: float | None = None
        while True:
            permit = await self._admitted(one, wait_s)
            if permit is None:
                return None
            attempt, result = await self._attempt(one, permit, emit)
            if isinstance(result, Completion):
                one.lane.succeeded(permit, result.usage)
                self._judge.success(item.request.model)
                return done(item, standing.number, attempt, result)
            if isinstance(result, TransportError) and result.stale and not one.fresh:
                one.fresh, wait_s = True, self._replaced(one, permit)
                await emit(attempt)
                continue
            one.fresh = False
            verdict = self._judge.verdict(result, item.request.model, self._clock())
            wait_s = self._after(one, permit, attempt, result, retried=verdict == "retry")
            reason = self._stops(one, verdict, wait_s)
            if reason is not None:
                attempt = structs.replace(attempt, error=f"{attempt.error}{reason}")
                # nothing may go out while the writer is waited for
                self._stop_run(attempt)
                await emit(attempt)
                return None
            if wait_s is None:
                return failed(item, standing.number, attempt, attempt.error_code, attempt.error)
            await emit(attempt)

    async def _admitted(self, one: _Try, wait_s: float | None) -> Permit | None:
        """Sleep off a retry's delay, and wait for the lane; None when the run stops first."""
        size, most = len(one.call.body), one.item.request.params.max_tokens
        permit: Permit | None = None
        number = self._counted(one) + 1
        if wait_s is not None:
            self._retrying[number] += 1
        try:
            with self._stop.interrupts():
                if wait_s:
                    await self._sleep(wait_s)
                permit = await one.lane.acquire(one.standing, size, most)
        finally:
            if wait_s is not None:
                self._retrying[number] -= 1
        if permit is not None and self._stop.requested:
            one.lane.release(permit, unused=True)
            return None
        return permit

    async def _attempt(self, one: _Try, permit: Permit, emit: Emit) -> tuple[Attempt, Completion | AttemptError]:
        """Make one attempt."""
        item, standing = one.item, one.standing
        standing.number += 1
        self._out[(item.key, standing.number)] = one.lane, permit
        started_at, start = self._wall(), self._clock()
        if standing.ended is not None and not (one.fresh or standing.asked):
            standing.waited_s = start - standing.ended
        heard: Callable[[int, Iterable[tuple[bytes, bytes]]], None] = partial(one.lane.heard, permit)
        decoder, exchange = self._provider.decoder(), self._client.exchange(fresh=one.fresh, heard=heard)
        attempt = Attempt(key=item.key, number=standing.number, started_at=started_at, duration_s=0.0)
        result: Completion | AttemptError
        try:
            await self._client.stream(one.call, decoder, exchange, self._provider.error)
            result = conceal(decoder.completion(), self._redactor)
            if exchange.tail_lost:
                result = structs.replace(result, notes=(*result.notes, "tail_lost"))
        except AttemptError as error:
            result = _bare(error)
        except anyio.get_cancelled_exc_class():
            one.lane.told_nothing(permit)
            cancelled = AttemptError("the run was stopped", code="cancelled", sent=exchange.connected)
            await emit(self._record(attempt, start, exchange, decoder, cancelled))
            raise
        except Exception as error:  # noqa: BLE001 - one odd answer must not end the run
            result = AttemptError(f"{type(error).__name__}: {error}", code="internal", verdict="fail")
        return self._record(attempt, start, exchange, decoder, result), result

    def _record(
        self, attempt: Attempt, start: float, exchange: E, decoder: Decoder, result: Completion | AttemptError
    ) -> Attempt:
        known = result if isinstance(result, Completion) else conceal(partial_of(decoder), self._redactor)
        return record(attempt, self._clock() - start, exchange, known, result, self._redactor)

    # -- what a failure means

    def _replaced(self, one: _Try, permit: Permit) -> float:
        """Let a stale connection's attempt count against nothing but the books: the server may have taken it all the same."""
        one.standing.ended = self._clock()
        one.lane.told_nothing(permit)
        return 0.0

    def _after(self, one: _Try, permit: Permit, attempt: Attempt, error: AttemptError, *, retried: bool) -> float | None:
        """Book a failure; give the seconds until the next attempt, None when there is none."""
        standing, lane, now = one.standing, one.lane, self._clock()
        throttled = isinstance(error, ProviderError) and error.throttled
        hint_s = error.retry_after_s if isinstance(error, ProviderError) else None
        counts = retried and error.sent and not throttled
        standing.ended, standing.asked = now, hint_s is not None
        if counts:
            # what such a fault looks like is the server's doing, and the same each time where the request brings it about
            fixed = isinstance(error, StreamError) or error.code == "bad_http"
            looks = (error.code, attempt.bytes_received) if fixed else None
            standing.failures.append(Failure(began=now - attempt.duration_s, ended=now, looks=looks))
        lane.failed(permit, error, attempt.usage, throttled=throttled, retried=retried)
        if throttled:
            lane.throttle(permit, hint_s, attempt.status)
        if not retried:
            return None
        if not counts:
            standing.refusals += 1
        if throttled:
            return self._put_off(standing, hint_s, now)
        if not error.sent:
            return self._policy.unreached_delay(standing.refusals, draw=self._draw)
        standing.refusals, standing.refused_since = 0, None
        if hint_s is not None:
            lane.pause(hint_s, str(attempt.status or error.code), asked=True)
        if self._alike(one):
            return None
        hung_up = isinstance(error, AttemptTimeoutError)
        return self._policy.delay(
            max(1, self._counted(one)), draw=self._draw, hint_s=hint_s, last_s=standing.waited_s, hung_up=hung_up
        )

    def _put_off(self, standing: Standing, hint_s: float | None, now: float) -> float | None:
        """Give the wait behind a rate limit, None when the item's patience has run out."""
        if standing.refused_since is None:
            standing.refused_since = now
        wait_s = self._policy.throttled_delay(
            standing.refusals, waited_s=now - standing.refused_since, draw=self._draw, hint_s=hint_s, last_s=standing.waited_s
        )
        if hint_s is not None and hint_s > PARKED_S:
            standing.refused_since += hint_s
        return wait_s

    def _counted(self, one: _Try) -> int:
        """Count the failures that are the item's own."""
        return one.lane.counted(one.standing)

    def _alike(self, one: _Try) -> bool:
        """Tell whether the same request has met the same fault so often that it always will, while others were answered."""
        last = one.standing.failures[-self._policy.alike :]
        if len(last) < self._policy.alike or last[0].looks is None or any(failure.looks != last[0].looks for failure in last):
            return False
        return one.lane.singled_out(one.standing, last[0].ended) and not any(map(one.lane.excused, last))

    def _stops(self, one: _Try, verdict: str, wait_s: float | None) -> str | None:
        """Tell whether the run has to stop, as words to add to the error's own; None to go on."""
        if verdict != "retry":
            return "" if verdict == "stop" else None
        now, since = self._clock(), one.standing.refused_since
        refused_all = wait_s is None and since is not None and self._lanes.succeeded_at < since
        out = one.lane.out_of_service_s > OUTAGE_S and now - self._lanes.succeeded_at > OUTAGE_S
        return f" (and nothing else for {format_span(OUTAGE_S)})" if refused_all or out else None

    def _stop_run(self, attempt: Attempt) -> None:
        code = attempt.error_code or "internal"
        sentence = f"{(attempt.error or '').rstrip('.')}. {advice(code)}"
        self._stop.request(sentence, grace_s=FATAL_GRACE_S, error=RunStoppedError(sentence, code=code))


def _bare(error: X) -> X:
    """Let go of the frames that an error knows: they hold all that was read, and one of them, in a circle, holds the error."""
    error.__cause__ = error.__context__ = None
    return error.with_traceback(None)
