"""What the failure of an attempt means for its item, its lane and the run. The base class of ``Attempts``."""

from msgspec import structs

from runner.admission import Permit
from runner.durations import format_span
from runner.engine import unseeded
from runner.engine.clock import Clock
from runner.engine.judge import UNREACHED_S
from runner.engine.late import offer
from runner.engine.lost import interrupts
from runner.engine.patience import fall_back, refused_wait
from runner.engine.retry import RetryPolicy
from runner.engine.stop import Stop
from runner.engine.task import Task, failure_of, repeats
from runner.errors import AttemptError, AttemptTimeoutError, ProviderError, RunStoppedError, TransportError, Verdict, advice
from runner.interfaces import Emit, Lanes
from runner.model import Attempt, Completion
from runner.text import Redactor

FATAL_GRACE_S = 10.0
"""Seconds that open requests get when an error stops the run: they are partly paid for, and most of them end within this time."""


class Failing:
    """Decides what follows when an attempt has failed."""

    def __init__(self, lanes: Lanes, policy: RetryPolicy, stop: Stop, clock: Clock, redactor: Redactor) -> None:
        self._lanes, self._policy, self._stop, self._redactor = lanes, policy, stop, redactor
        self._clock, self._wall, self._draw = clock.monotonic, clock.wall, clock.random
        # the model has no flex tier, for which the user did not ask
        self.lacks_flex = False

    def _verdict(self, task: Task, error: AttemptError) -> Verdict:
        """Return what to do about an error. To the judge, an answer that only the user counts as a failure is an answer."""
        model = task.item.request.model
        if not error.kept:
            return task.way.judge.verdict(error, model, self._clock())
        task.way.judge.success(model)
        return error.verdict

    def _costs_nothing(self, task: Task, permit: Permit, attempt: Attempt, result: Completion | AttemptError) -> bool:
        """Return True for an attempt that counts neither against the item nor the server; the item is sent again at once.

        That is one on a stale connection or a lost worker, or one whose request had a parameter or a seed that is left out now.
        """
        stale = isinstance(result, TransportError) and result.stale and not task.fresh
        if isinstance(result, AttemptError) and result.code == "unsupported_tier" and not self._policy.flex_is_asked_for:
            # nobody insists on it, so it is asked for no more
            self.lacks_flex, result.mended = True, True
            self._policy = structs.replace(self._policy, flex=False)
            fall_back(task)
        if not stale and not (isinstance(result, AttemptError) and (result.mended or unseeded.tries(task, result))):
            return False
        task.fresh, task.standing.ended = stale, self._clock()
        task.lane.told_nothing(permit)
        self._expect_late(task, attempt, result)
        return True

    def _expect_late(self, task: Task, attempt: Attempt, result: Completion | AttemptError) -> None:
        """Have what is heard later of a request that was lost with its worker offered to its item, or booked with its attempt."""
        if isinstance(result, AttemptError) and result.booked is not None:
            result.booked(attempt.key, attempt.number, offer(task, attempt, self._redactor, self._wall))

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
        counted = max(1, counted + task.failed_before)
        return self._policy.delay(counted, draw=self._draw, hint_s=hint_s, last_s=standing.waited_s, hung_up=hung_up)

    async def _held(self, task: Task, permit: Permit, attempt: Attempt, emit: Emit) -> str | None:
        """Hold an item whose refusal may be the endpoint's: "fail" or "again". None: nothing more is to be sent."""
        task.standing.ended, task.standing.asked = self._clock(), False
        refusing_s = task.lane.refused(task.standing, permit, attempt)
        patience_s = self._policy.refused_s if task.way.judge.answered else min(self._policy.refused_s, UNREACHED_S)
        if refusing_s > patience_s and self._clock() - self._lanes.succeeded_at > patience_s:
            attempt = structs.replace(attempt, error=f"{attempt.error} (every row was refused for {format_span(patience_s)})")
            self._stop_run(attempt, code="refused", todo=advice("refused"))
        await emit(attempt)
        if task.given_up:
            # while the writer had no room
            return None
        with self._stop.interrupts() as task.wait, interrupts(task.lost):
            return await task.lane.fate(task.standing)
        return None

    def _stop_run(self, attempt: Attempt, *, code: str, todo: str) -> None:
        sentence = f"{(attempt.error or '').rstrip('.')}. {todo}"
        self._stop.request(sentence, grace_s=FATAL_GRACE_S, error=RunStoppedError(sentence, code=code))
