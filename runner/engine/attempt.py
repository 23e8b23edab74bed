"""One item -> one outcome. Contains the only retry loop.

A complete answer has been paid for, so it is returned even if the run stops at that moment. A failed attempt is passed to the
writer before the next attempt begins. A permit is released when its attempt has been saved, so that a kill never loses more
requests than there are slots.
"""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from typing import Generic, TypeVar

import anyio
from msgspec import structs

from runner.admission import Permit
from runner.engine import unseeded
from runner.engine.admitting import Admitting, Purse
from runner.engine.answers import InformedProvider, judged, without_frames
from runner.engine.bounds import bounded
from runner.engine.clock import Clock
from runner.engine.collective import Collective
from runner.engine.exchanging import send
from runner.engine.failing import Failing
from runner.engine.giving_up import CANCELLED, WORDS, GivingUp, cut, given_up, is_cut
from runner.engine.judge import Judge
from runner.engine.late import settled
from runner.engine.limits.halt import Halt
from runner.engine.lost import Came
from runner.engine.open_attempts import OpenAttempts
from runner.engine.outcomes import conceal, done, failed, partial_of, record, refused
from runner.engine.patience import fall_back, why_no_further
from runner.engine.repair import answer_of, repaired
from runner.engine.retry import RetryPolicy
from runner.engine.sending import Sender
from runner.engine.stop import Stop
from runner.engine.task import Task, attempt_of
from runner.engine.unsaved import Unsaved
from runner.engine.way import Way
from runner.errors import (
    AttachmentError,
    AttemptError,
)
from runner.interfaces import Client, Decoder, Emit, Exchange, Lanes
from runner.model import Attempt, Completion, Entry, Item, Outcome
from runner.money import FLEX
from runner.text import Redactor

E = TypeVar("E", bound=Exchange)


class Attempts(Failing, Generic[E]):
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
        clock = clock or Clock()
        super().__init__(lanes, policy, stop, clock, redactor or Redactor())
        self._provider, self._client, self._sender = provider, client, Sender(provider)
        self._ways: Sequence[Way] = [Way(provider, judge)]
        self._repaired = partial(repaired, clock=self._clock, most=policy.repairs)
        self._decoder: Callable[[Task], Decoder] = lambda task: task.way.provider.decoder()
        self.begun: Callable[[Item], None] = lambda _: None  # called when the answer to an item begins
        # returns an item as it is asked by what batches have answered, how often that was mended, and how often it has failed
        # there; None: as it is
        self.asked_before: Callable[[Item], Awaitable[tuple[Item, int, int]]] | None = None
        self._admitting = Admitting(self._sender, self._ways, stop, clock, getattr(client, "senders", None))
        self._unsaved = Unsaved(self._admitting)
        self.open = OpenAttempts()
        # the rows at work, which a person may give up
        self.rows = GivingUp()

    def saved(self, entry: Entry) -> None:
        """Release the permit of an attempt that has been saved, and forget an item whose outcome has been."""
        if isinstance(entry, Outcome):
            self.rows.settled(entry.key)
        self._unsaved.saved(entry)

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

    def obey(self, halt: Halt) -> None:
        """Send nothing while a person has paused the session."""
        self._admitting.halt = halt

    def go_flex(self, patience_s: float | None) -> None:
        """Change how many seconds rows wait for capacity of the flex tier; None: rows that begin ask for the standard tier."""
        flex = patience_s is not None and not self.lacks_flex
        self._policy = structs.replace(self._policy, flex_patience_s=patience_s or 0.0, flex=flex)

    def avoid(self, seeds: Sequence[int]) -> None:
        """Make up none of these seeds. seeds: in rising order."""
        self._sender.used_seeds = seeds

    @property
    def all_saved(self) -> bool:
        """True if each attempt that was begun has been saved."""
        return not self._unsaved

    async def handle(self, item: Item, emit: Emit) -> Outcome | None:
        """Send the item until it has an outcome. Return None if the run stops first."""
        revision, given = self._provider.revision, item
        if self.rows.comes_twice(item):
            return None
        item, repairs, failures = (item, 0, 0) if self.asked_before is None else await self.asked_before(item)
        try:
            item, call, files = await self._sender.encoded(item)
        except AttachmentError as error:
            return failed(item, item.attempts_before, None, error.code, self._redactor(str(error)))
        except Exception as error:  # noqa: BLE001 - one unusual row must not end the run
            words = self._redactor(f"the request could not be built: {error!r}")
            return failed(item, item.attempts_before, None, "internal", words)
        if self.rows.comes_twice(given):
            # it was asked for once more while its files were looked at
            return None
        if self.rows.is_given_up(item.key):
            return failed(item, item.attempts_before, None, CANCELLED, WORDS)
        lane = self._lanes.of(item.request.model)
        standing = lane.enter(item.attempts_before, item.key)
        standing.slow = item.request.tier == FLEX
        outcome = None
        task = Task(item, call, lane, standing, revision, self._ways[0], files=files, repairs=repairs, failed_before=failures)
        task.asked = given.request.messages if repairs else None
        self.rows.begin(task)
        if standing.slow and not self._policy.flex:
            fall_back(task)
        try:
            outcome = await settled(self._work(task, emit), task, emit, self._answered_late)
        except AttemptError as error:
            # nobody knows what it can use of the budget
            outcome = failed(item, standing.number, None, error.code, self._redactor(str(error)))
        finally:
            lane.leave(standing)
            if outcome is None:
                self.rows.settled(item.key)
        return outcome

    def _answered_late(self, task: Task, came: Came) -> Outcome:
        """Return the outcome of an item to which an answer came late."""
        task.standing.number += 1
        attempt = structs.replace(came.attempt, number=task.standing.number)
        self._unsaved.came(attempt, came.used)
        self.open.came(task.item, attempt, came.decoder, came.completion)
        came.way.judge.success(task.item.request.model, task.size)
        return done(task.item, attempt.number, attempt, came.completion)

    async def _work(self, task: Task, emit: Emit) -> Outcome | None:
        item, standing = task.item, task.standing
        wait_s: float | None = None
        while True:
            permit = await self._admitting.admitted(task, wait_s, emit)
            if permit is None:
                return given_up(task, None)
            attempt, result = await self._attempt(task, permit, emit)
            if isinstance(result, Completion):
                task.lane.succeeded(permit, result.usage)
                task.way.judge.success(item.request.model, task.size)
                unseeded.answered(task, task.way.provider)
                return done(item, standing.number, attempt, result)
            if task.given_up:
                task.lane.told_nothing(permit)
                self._expect_late(task, attempt, result)
                return given_up(task, attempt)
            if self._costs_nothing(task, permit, attempt, result) or self._repaired(task, permit, attempt, result):
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
                return refused(item, standing.number, attempt) if fate == "fail" else given_up(task, None)
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
        self._unsaved.hold(task, permit)
        started_at, start = self._wall(), self._clock()
        if standing.ended is not None and not (task.fresh or standing.asked):
            standing.waited_s = start - standing.ended
        heard: Callable[[int, Iterable[tuple[bytes, bytes]]], None] = partial(self._heard, task, permit)
        decoder, exchange = self._decoder(task), self._client.exchange(fresh=task.fresh, heard=heard, fallback=standing.standard)
        attempt, way = attempt_of(task, started_at), task.way
        self.open.begin(item, attempt, decoder)
        result: Completion | AttemptError
        try:
            ended = False
            with task.can_be_cut():
                call = None if task.files is None else self._sender.whole(task.files, way.provider)
                lost, clock = task.lost, self._clock
                await send(self._client, await call if call else task.call, decoder, exchange, way, permit, clock, lost)
                ended = True
            if not ended and is_cut(decoder, exchange):
                result, task.answer = cut(sent=exchange.connected), None
            else:
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
