"""One item -> one outcome. Contains the only retry loop.

A complete answer has been paid for, so it is returned even if the run stops at that moment. A failed attempt is passed to the
writer before the next attempt begins. A permit is released when its attempt has been saved, so that a kill never loses more
requests than there are slots.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Generic, TypeVar

import anyio
from msgspec import structs

from runner.admission import Permit, Reservation
from runner.durations import format_span
from runner.engine import unseeded
from runner.engine.admitting import Admitting, Purse
from runner.engine.answers import InformedProvider, judged, without_frames
from runner.engine.bounds import bounded
from runner.engine.clock import Clock
from runner.engine.collective import Collective
from runner.engine.exchanging import send
from runner.engine.judge import UNREACHED_S, Judge
from runner.engine.open_attempts import OpenAttempts
from runner.engine.outcomes import conceal, done, failed, partial_of, record, refused
from runner.engine.patience import refused_wait, why_no_further
from runner.engine.repair import answer_of, repaired
from runner.engine.retry import RetryPolicy
from runner.engine.sending import Sender
from runner.engine.stop import Stop
from runner.engine.task import Share, Task, attempt_of, failure_of, repeats
from runner.engine.way import Way
from runner.errors import (
    AttachmentError,
    AttemptError,
    AttemptTimeoutError,
    ProviderError,
    RunStoppedError,
    TransportError,
    Verdict,
    advice,
)
from runner.interfaces import Client, Decoder, Emit, Exchange, Lane, Lanes
from runner.model import Attempt, Completion, Entry, Item, Outcome
from runner.money import FLEX
from runner.text import Redactor

FATAL_GRACE_S = 10.0
"""Seconds that open requests get when an error stops the run: they are partly paid for, and most of them end within this time."""

E = TypeVar("E", bound=Exchange)


class Attempts(Generic[E]):
    """Turns items into outcomes. The pipeline calls ``handle`` for each. redactor: removes secrets before anything is stored."""

    def __init__(
        self,
        provider: InformedProvider,
        client: Client[E],
        lanes: Lanes,
        policy: RetryPolicy,
        judge: Judge,
        stop: Stop,
        *,
        redactor: Redactor | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._provider, self._client, self._lanes, self._sender = provider, client, lanes, Sender(provider)
        self._policy, self._stop = policy, stop
        self._ways: Sequence[Way] = [Way(provider, judge)]
        self._redactor, clock = redactor or Redactor(), clock or Clock()
        self._clock, self._wall, self._draw = clock.monotonic, clock.wall, clock.random
        self._repaired = partial(repaired, clock=self._clock, most=policy.repairs)
        self._decoder: Callable[[Task], Decoder] = lambda task: task.way.provider.decoder()
        self.begun: Callable[[Item], None] = lambda _: None  # called when the answer to an item begins
        # what attempts hold that have not been saved yet, by key and number
        self._unsaved: dict[tuple[str, int], tuple[Lane, Permit, Reservation | None, Share | None]] = {}
        self._admitting = Admitting(self._sender, self._ways, stop, clock, getattr(client, "senders", None))
        self.open = OpenAttempts()

    def saved(self, entry: Entry) -> None:
        """Release the permit of an attempt that has been saved."""
        attempt = entry if isinstance(entry, Attempt) else entry.attempt
        if attempt is not None and (held := self._unsaved.pop((attempt.key, attempt.number), None)) is not None:
            lane, permit, reserved, share = held
            lane.release(permit, attempt)
            if share is not None:
                share.end()
            if reserved is not None:
                self._admitting.settle(reserved, attempt)

    def retrying(self) -> str | None:
        """Return a phrase about the rows that wait for a retry; None if there are none."""
        return self._admitting.retrying(self._policy.attempts)

    def afford(self, purse: Purse, passed: Callable[[Item], None] | None = None) -> None:
        """Keep a budget. passed: called with a row that cannot go out any more, since too little of the budget is left for it."""
        self._admitting.purse = purse
        self._admitting.passed = passed or self._admitting.passed

    def reserve(self, collective: Collective) -> None:
        """Have a reservation in the store for all requests that are open, in place of one for each."""
        self._admitting.collective = collective

    def go_by(self, ways: Sequence[Way], client: Client[E]) -> None:
        """Send to several endpoints. ways: by the number that a permit has; there may be more later."""
        self._ways, self._client = ways, client
        self._admitting.ways, self._provider, self._sender.provider = ways, ways[0].provider, ways[0].provider

    def avoid(self, seeds: Sequence[int]) -> None:
        """Make up none of these seeds. seeds: in rising order."""
        self._sender.used_seeds = seeds

    @property
    def all_saved(self) -> bool:
        """True if each attempt that was begun has been saved."""
        return not self._unsaved

    async def handle(self, item: Item, emit: Emit) -> Outcome | None:
        """Send the item until it has an outcome. Return None if the run stops first."""
        revision = self._provider.revision
        try:
            item, call, files = await self._sender.encoded(item)
        except AttachmentError as error:
            return failed(item, item.attempts_before, None, error.code, self._redactor(str(error)))
        except Exception as error:  # noqa: BLE001 - one unusual row must not end the run
            words = self._redactor(f"the request could not be built: {error!r}")
            return failed(item, item.attempts_before, None, "internal", words)
        lane = self._lanes.of(item.request.model)
        standing = lane.enter(item.attempts_before, item.key)
        standing.slow = item.request.tier == FLEX
        try:
            return await self._work(Task(item, call, lane, standing, revision, self._ways[0], files=files), emit)
        except AttemptError as error:
            # nobody knows what it can use of the budget
            return failed(item, standing.number, None, error.code, self._redactor(str(error)))
        finally:
            lane.leave(standing)

    async def _work(self, task: Task, emit: Emit) -> Outcome | None:
        item, standing = task.item, task.standing
        wait_s: float | None = None
        while True:
            permit = await self._admitting.admitted(task, wait_s, emit)
            if permit is None:
                return None
            attempt, result = await self._attempt(task, permit, emit)
            if isinstance(result, Completion):
                task.lane.succeeded(permit, result.usage)
                task.way.judge.success(item.request.model, task.size)
                unseeded.answered(task, task.way.provider)
                return done(item, standing.number, attempt, result)
            if self._costs_nothing(task, permit, result) or self._repaired(task, permit, attempt, result):
                wait_s = 0.0
                await emit(attempt)
                continue
            task.fresh = False
            verdict = self._verdict(task, result)
            patient = self._policy.refused_s > 0
            if verdict == "fail" and task.way.judge.holds(result, item.request.model, task.size, patient=patient):
                fate, wait_s = await self._held(task, permit, attempt, emit), 0.0
                if fate == "again":
                    continue
                return refused(item, standing.number, attempt) if fate == "fail" else None
            wait_s = self._failed(task, permit, attempt, result, retried=verdict == "retry")
            reason = why_no_further(task, verdict, wait_s, self._clock(), self._lanes.succeeded_at)
            if reason is not None:
                attempt = structs.replace(attempt, error=f"{attempt.error}{reason}")
                # stop first: no request may be sent while this task waits for the writer
                self._stop_run(attempt, code=result.code, todo=task.way.judge.advice(result, item, attempt.error))
                await emit(attempt)
                return None
            if wait_s is None:
                return failed(item, standing.number, attempt, attempt.error_code, attempt.error, answer_of(task, result))
            await emit(attempt)

    async def _attempt(self, task: Task, permit: Permit, emit: Emit) -> tuple[Attempt, Completion | AttemptError]:
        """Make one attempt."""
        item, standing = task.item, task.standing
        standing.number += 1
        self._unsaved[(item.key, standing.number)] = task.lane, permit, task.reserved, task.share
        task.share = None
        started_at, start = self._wall(), self._clock()
        if standing.ended is not None and not (task.fresh or standing.asked):
            standing.waited_s = start - standing.ended
        heard: Callable[[int, Iterable[tuple[bytes, bytes]]], None] = partial(self._heard, task, permit)
        decoder, exchange = self._decoder(task), self._client.exchange(fresh=task.fresh, heard=heard, fallback=standing.standard)
        attempt, way = attempt_of(task, started_at), task.way
        self.open.begin(item, attempt, decoder)
        result: Completion | AttemptError
        try:
            call = None if task.files is None else self._sender.whole(task.files, way.provider)
            await send(self._client, await call if call else task.call, decoder, exchange, way, permit, self._clock)
            result, task.answer = judged(way.provider, decoder, exchange, self._redactor)
        except anyio.get_cancelled_exc_class():
            task.lane.told_nothing(permit)
            cancelled = AttemptError("the run was stopped", code="cancelled", sent=exchange.connected)
            await emit(self._record(attempt, task, start, exchange, decoder, cancelled))
            raise
        except AttemptError as error:
            result = without_frames(way.provider.explained(error, item.request, task.call))
            task.answer = conceal(partial_of(decoder), self._redactor) if result.early else None
        except Exception as error:  # noqa: BLE001 - one unusual answer must not end the run
            result = AttemptError(f"{type(error).__name__}: {error}", code="internal", verdict="fail")
        finally:
            self._sender.leave(task)
        return self._record(attempt, task, start, exchange, decoder, result), result

    def _record(
        self, attempt: Attempt, task: Task, start: float, exchange: E, decoder: Decoder, result: Completion | AttemptError
    ) -> Attempt:
        answer = result if isinstance(result, Completion) else conceal(partial_of(decoder), self._redactor)
        attempt = record(attempt, self._clock() - start, exchange, answer, result, self._redactor)
        self.open.end(task.item.key, attempt, answer)
        return bounded(attempt, task, decoder, kept=isinstance(result, AttemptError) and result.kept and not result.early)

    def _heard(self, task: Task, permit: Permit, status: int, raw: Iterable[tuple[bytes, bytes]]) -> None:
        task.lane.heard(permit, status, raw)
        if 200 <= status <= 299:
            self.begun(task.item)

    # -- what a failure means

    def _verdict(self, task: Task, error: AttemptError) -> Verdict:
        """Return what to do about an error. To the judge, an answer that only the user counts as a failure is an answer."""
        model = task.item.request.model
        if not error.kept:
            return task.way.judge.verdict(error, model, self._clock())
        task.way.judge.success(model)
        return error.verdict

    def _costs_nothing(self, task: Task, permit: Permit, result: Completion | AttemptError) -> bool:
        """Return True for an attempt that counts neither against the item nor the server; the item is sent again at once.

        That is one on a stale connection or a lost worker, or one whose request had a parameter or a seed that is left out now.
        """
        stale = isinstance(result, TransportError) and result.stale and not task.fresh
        if not stale and not (isinstance(result, AttemptError) and (result.mended or unseeded.tries(task, result))):
            return False
        task.fresh, task.standing.ended = stale, self._clock()
        task.lane.told_nothing(permit)
        if isinstance(result, AttemptError) and result.booked is not None:
            result.booked(task.item.key, task.standing.number)
        return True

    def _failed(self, task: Task, permit: Permit, attempt: Attempt, error: AttemptError, *, retried: bool) -> float | None:
        """Record a failure. Return the seconds until the next attempt; None if there is none."""
        standing, lane, now = task.standing, task.lane, self._clock()
        throttled = isinstance(error, ProviderError) and error.throttled
        hint_s = error.retry_after_s if isinstance(error, ProviderError) else None
        counts = retried and error.sent and not throttled
        standing.ended, standing.asked = now, hint_s is not None
        if counts:
            standing.failures.append(failure_of(attempt, error, now, permit.endpoint))
        permit.words = attempt.error
        if error.kept:
            lane.succeeded(permit, attempt.usage)
        else:
            lane.failed(permit, error, attempt.usage, throttled=throttled, retried=retried)
        if throttled and error.code != "no_capacity":
            lane.throttle(permit, hint_s, attempt.status)
        if not retried:
            return None
        if not counts:
            standing.refusals += 1
        if throttled:
            return refused_wait(task, error, self._policy, now, self._draw)
        if not error.sent:
            return self._policy.unreached_delay(standing.refusals, draw=self._draw)
        standing.refusals, standing.refused_since, standing.flex_until = 0, None, None
        if hint_s is not None:
            lane.pause(hint_s, str(attempt.status or error.code), asked=True)
        if repeats(task, self._policy.alike):
            return None
        counted = lane.counted(standing)
        if standing.elsewhere and not counted:
            # another endpoint takes it, and this one was down: no attempt is used up
            return 0.0
        hung_up = isinstance(error, AttemptTimeoutError)
        return self._policy.delay(max(1, counted), draw=self._draw, hint_s=hint_s, last_s=standing.waited_s, hung_up=hung_up)

    async def _held(self, task: Task, permit: Permit, attempt: Attempt, emit: Emit) -> str | None:
        """Hold an item whose refusal may be the endpoint's: "fail" or "again". None: the run stops, and the item stays open."""
        task.standing.ended, task.standing.asked = self._clock(), False
        refusing_s = task.lane.refused(task.standing, permit, attempt)
        patience_s = self._policy.refused_s if task.way.judge.answered else min(self._policy.refused_s, UNREACHED_S)
        if refusing_s > patience_s and self._clock() - self._lanes.succeeded_at > patience_s:
            attempt = structs.replace(attempt, error=f"{attempt.error} (every row was refused for {format_span(patience_s)})")
            self._stop_run(attempt, code="refused", todo=advice("refused"))
        await emit(attempt)
        with self._stop.interrupts():
            return await task.lane.fate(task.standing)
        return None

    def _stop_run(self, attempt: Attempt, *, code: str, todo: str) -> None:
        sentence = f"{(attempt.error or '').rstrip('.')}. {todo}"
        self._stop.request(sentence, grace_s=FATAL_GRACE_S, error=RunStoppedError(sentence, code=code))
