"""One item -> one outcome. Holds the only retry loop.

An answer is paid for when it is complete, so it is returned even if the run ends in that instant; a failed attempt is with
the writer before the next one begins. A place in the lane is given back by whoever saves the attempt, so that a kill never
costs more requests than there are places.
"""

import random
import time
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

import anyio
import msgspec
from msgspec import Struct, structs

from runner.advice import advice
from runner.errors import AttemptError, ProviderError, RunStoppedError, TransportError
from runner.interfaces import Client, Decoder, Emit, Exchange, Lane, Provider
from runner.judge import Judge
from runner.model import Attempt, Completion, HttpCall, Item, Outcome
from runner.retry import RetryPolicy
from runner.stop import Stop
from runner.text import REDACTED

SHORTEST_SECRET = 8
"""A shorter key ("EMPTY", "x") guards nothing, and would be found in ordinary words."""
FATAL_GRACE_S = 10.0
"""What is in flight when the run must stop is paid for in part, and most of it ends within this."""

E = TypeVar("E", bound=Exchange)


class _Tally(Struct):
    """How an item has fared so far."""

    number: int
    # attempts that count against the policy
    failures: int = 0
    # refusals that do not
    refusals: int = 0
    refused_since: float | None = None


class Attempts(Generic[E]):
    """Turns items into outcomes; ``handle`` is what the engine calls.

    redact: takes secrets out of foreign words before they are kept. secrets: what must be in no answer that is kept, should a
    server echo it. clock: monotonic seconds. wall: UTC seconds since the epoch.
    """

    def __init__(
        self,
        provider: Provider,
        client: Client[E],
        lane: Lane,
        policy: RetryPolicy,
        judge: Judge,
        stop: Stop,
        *,
        redact: Callable[[str], str] = str,
        secrets: tuple[str, ...] = (),
        draw: random.Random | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
    ) -> None:
        self._provider, self._client, self._lane = provider, client, lane
        self._policy, self._judge, self._stop = policy, judge, stop
        self._redact = redact
        self._secrets = tuple(secret for secret in secrets if len(secret) >= SHORTEST_SECRET)
        self._draw = draw or random.Random()  # noqa: S311 - jitter, not a secret
        self._clock, self._wall, self._sleep = clock, wall, sleep

    async def handle(self, item: Item, emit: Emit) -> Outcome | None:
        """Send the item until it has an outcome; None when the run stops first."""
        tally = _Tally(number=item.attempts_before)
        try:
            call = self._provider.encode(item.request)
        except Exception as error:  # noqa: BLE001 - one odd row must not end the run
            words = self._redact(f"the request could not be built: {error!r}")
            return _failed(item, tally, None, "internal", words)
        while await self._admitted():
            attempt, result = await self._attempt(call, item, tally, emit)
            if isinstance(result, Completion):
                self._judge.success(item.request.model)
                return _done(item, tally, attempt, result)
            verdict = self._judge.verdict(result, item.request.model, self._clock())
            hint_s = result.retry_after_s if isinstance(result, ProviderError) else None
            if verdict == "retry" and hint_s is not None and hint_s > self._policy.patience_s:
                # nobody waits for that with a process open
                verdict = "stop"
                attempt = structs.replace(attempt, error=f"{attempt.error} (it asks to wait {hint_s / 3600:.1f} hours)")
            wait_s = self._wait_s(tally, result) if verdict == "retry" else None
            if verdict == "stop":
                await emit(attempt)
                self._stop_run(attempt)
                return None
            if wait_s is None:
                return _failed(item, tally, attempt, attempt.error_code, attempt.error)
            await emit(attempt)
            if not await self._waited(wait_s):
                return None
        return None

    async def _admitted(self) -> bool:
        """Wait for the lane; False when the run stops first."""
        with self._stop.interrupts() as scope:
            await self._lane.acquire()
        if scope.cancelled_caught:
            return False
        if self._stop.requested:
            self._lane.release()
            return False
        return True

    async def _waited(self, wait_s: float) -> bool:
        """Sleep off a retry's delay; False when the run stops first."""
        with self._stop.interrupts():
            await self._sleep(wait_s)
        return not self._stop.requested

    async def _attempt(self, call: HttpCall, item: Item, tally: _Tally, emit: Emit) -> tuple[Attempt, Completion | AttemptError]:
        """Make one attempt; a connection gone stale between two requests is replaced once, quietly."""
        tally.number += 1
        started_at, start = self._wall(), self._clock()
        stale = False
        while True:
            decoder, exchange = self._provider.decoder(), self._client.exchange(fresh=stale)
            attempt = Attempt(key=item.key, number=tally.number, started_at=started_at, duration_s=0.0)
            result: Completion | AttemptError
            try:
                await self._client.stream(call, decoder, exchange, self._provider.error)
                result = self._concealed(decoder.completion())
                if exchange.tail_lost:
                    result = structs.replace(result, notes=(*result.notes, "tail_lost"))
            except TransportError as error:
                if error.stale and not stale:
                    stale = True
                    continue
                result = error
            except AttemptError as error:
                result = error
            except anyio.get_cancelled_exc_class():
                cancelled = AttemptError("the run was stopped", code="cancelled", sent=exchange.connected)
                await emit(self._record(attempt, start, exchange, decoder, cancelled))
                raise
            except Exception as error:  # noqa: BLE001 - one odd answer must not end the run
                result = AttemptError(f"{type(error).__name__}: {error}", code="internal", verdict="fail")
            return self._record(attempt, start, exchange, decoder, result), result

    def _concealed(self, completion: Completion) -> Completion:
        """Take our own key out of an answer; costs a look at each of its texts."""
        for secret in self._secrets:
            parts = (completion.text, completion.finish_reason, completion.served_model, completion.response_id)
            if any(part is not None and secret in part for part in parts) or secret in str(completion.extra):
                hidden = msgspec.json.encode(completion).decode().replace(secret, REDACTED)
                completion = msgspec.json.decode(hidden, type=Completion)
        return completion

    def _record(
        self, attempt: Attempt, start: float, exchange: E, decoder: Decoder, result: Completion | AttemptError
    ) -> Attempt:
        known = result if isinstance(result, Completion) else self._concealed(_partial(decoder))
        # a tail that is slow to come is not the answer's time
        answered_s = exchange.answered_s if isinstance(result, Completion) else None
        failed = isinstance(result, AttemptError)
        return structs.replace(
            attempt,
            duration_s=round(self._clock() - start if answered_s is None else answered_s, 6),
            time_to_first_token_s=round(first, 6) if (first := exchange.time_to_first_token_s) is not None else None,
            status=exchange.status,
            sent=result.sent if isinstance(result, AttemptError) else True,
            bytes_received=exchange.bytes_received,
            usage=known.usage,
            served_model=known.served_model,
            response_id=known.response_id,
            error_code=result.code if isinstance(result, AttemptError) else None,
            error=self._redact(str(result)) if failed else None,
        )

    def _wait_s(self, tally: _Tally, error: AttemptError) -> float | None:
        """Seconds until the next attempt, None to give up; cools the lane where the cause is not this item's."""
        hint_s = error.retry_after_s if isinstance(error, ProviderError) else None
        throttled = isinstance(error, ProviderError) and error.throttled
        wait_s: float | None
        if not error.sent:
            tally.refusals += 1
            wait_s = self._policy.unreached_delay(tally.refusals, draw=self._draw)
        elif throttled:
            now = self._clock()
            tally.refusals += 1
            tally.refused_since = now if tally.refused_since is None else tally.refused_since
            waited_s = now - tally.refused_since
            wait_s = self._policy.throttled_delay(tally.refusals, waited_s=waited_s, draw=self._draw, hint_s=hint_s)
        else:
            tally.failures += 1
            tally.refusals, tally.refused_since = 0, None
            wait_s = self._policy.delay(tally.failures, draw=self._draw, hint_s=hint_s)
        if wait_s is not None and (throttled or not error.sent or hint_s is not None):
            self._lane.pause(hint_s if hint_s is not None else wait_s, error.code)
        return wait_s

    def _stop_run(self, attempt: Attempt) -> None:
        code = attempt.error_code or "internal"
        sentence = f"{(attempt.error or '').rstrip('.')}. {advice(code)}"
        self._stop.request(sentence, grace_s=FATAL_GRACE_S, error=RunStoppedError(sentence, code=code))


def _partial(decoder: Decoder) -> Completion:
    """Give what a failed attempt showed: usage and names are worth having, its text is not."""
    try:
        return decoder.completion()
    except Exception:  # noqa: BLE001 - the decoder may be what failed
        return Completion(text="", finish_reason="")


def _done(item: Item, tally: _Tally, attempt: Attempt, completion: Completion) -> Outcome:
    return Outcome(
        key=item.key,
        position=item.position,
        status="done",
        metadata=item.metadata,
        fingerprint=item.fingerprint,
        completion=completion,
        attempt=attempt,
        attempts=tally.number,
    )


def _failed(item: Item, tally: _Tally, attempt: Attempt | None, code: str | None, error: str | None) -> Outcome:
    return Outcome(
        key=item.key,
        position=item.position,
        status="failed",
        metadata=item.metadata,
        fingerprint=item.fingerprint,
        error_code=code,
        error=error,
        attempt=attempt,
        attempts=tally.number,
    )
