"""One item to one outcome: scripted client, provider, lane and clock, all passed in."""

import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

import anyio
import pytest
from anyio.lowlevel import checkpoint

from runner.attempt import Attempts
from runner.errors import AttemptError, AttemptTimeoutError, ProviderError, RunStoppedError, StreamError, TransportError
from runner.judge import UNREACHED_S, Judge
from runner.model import Attempt, Completion, HttpCall, Item, Outcome, Request, ServerSentEvent, Usage
from runner.retry import RetryPolicy
from runner.stop import Stop

pytestmark = pytest.mark.anyio

WALL_S = 1_700_000_000.0
CUT = TransportError("the connection broke", code="cut")
BUSY = ProviderError("500", code="server_error", verdict="retry", status=500)
REFUSED = TransportError("no connection", code="connect", sent=False)
STALE = TransportError("closed", code="closed", stale=True)
BAD = ProviderError("400: no such field", code="bad_request", verdict="fail", status=400)
HELLO = Completion(text="Hello", finish_reason="stop", usage=Usage(input_tokens=7, output_tokens=3))
AUTH = ProviderError("401: Incorrect API key provided: sk-secret", code="auth", verdict="stop", status=401)


def limited(hint_s: float | None = None) -> ProviderError:
    return ProviderError("429", code="rate_limited", verdict="retry", status=429, throttled=True, retry_after_s=hint_s)


# -- the fakes


class Highest(random.Random):
    """Draws the upper bound, so that every wait is known."""

    def uniform(self, a: float, b: float) -> float:
        return b


class Clock:
    """Time that passes only while somebody sleeps or an exchange takes it."""

    def __init__(self) -> None:
        self.now = 500.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    def wall(self) -> float:
        return WALL_S + self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds
        await checkpoint()


@dataclass
class Exchange:
    status: int | None = None
    connected: bool = False
    bytes_received: int = 0
    time_to_first_token_s: float | None = None
    answered_s: float | None = None
    tail_lost: bool = False


class Decoder:
    """Gives what the client put there."""

    started = complete = ended = False
    text_chars = 0

    def __init__(self) -> None:
        self.gathered = Completion(text="", finish_reason="")

    def feed(self, event: ServerSentEvent) -> None: ...

    def whole(self, body: bytes) -> None: ...

    def completion(self) -> Completion:
        return self.gathered


@dataclass
class Provider:
    broken: Exception | None = None

    def encode(self, request: Request) -> HttpCall:
        if self.broken is not None:
            raise self.broken
        return HttpCall(url="http://x", headers={}, body=request.messages[0]["content"].encode())

    def decoder(self) -> Decoder:
        return Decoder()

    def error(self, status: int, headers: Mapping[str, str], body: bytes) -> ProviderError:
        raise AssertionError("the scripted client raises its errors itself")


@dataclass(frozen=True)
class Answer:
    """A complete answer."""

    completion: Completion = HELLO
    tail_lost: bool = False


@dataclass(frozen=True)
class Partial:
    """An error that comes after some of the answer."""

    error: AttemptError
    known: Completion


HANG = "HANG"
HANG_UNCONNECTED = "HANG_UNCONNECTED"


@dataclass
class Client:
    """Plays its script, one step per exchange; the last one is for all that follow."""

    clock: Clock
    steps: list[object]
    calls: list[HttpCall] = field(default_factory=list)
    exchanges: list[Exchange] = field(default_factory=list)

    def exchange(self, *, fresh: bool = False) -> Exchange:
        self.exchanges.append(Exchange())
        return self.exchanges[-1]

    async def stream(self, call: HttpCall, decoder: Decoder, exchange: Exchange, refuse: Callable[..., ProviderError]) -> None:
        step = self.steps[min(len(self.calls), len(self.steps) - 1)]
        self.calls.append(call)
        exchange.connected = step is not HANG_UNCONNECTED
        if step in (HANG, HANG_UNCONNECTED):
            await anyio.sleep_forever()
        await checkpoint()
        self.clock.now += 2.0
        match step:
            case Answer():
                exchange.status, exchange.time_to_first_token_s, exchange.bytes_received = 200, 0.25, 111
                exchange.tail_lost = step.tail_lost
                decoder.gathered = step.completion
            case Partial():
                exchange.status, exchange.bytes_received = 200, 55
                decoder.gathered = step.known
                raise step.error
            case Exception():
                exchange.status = getattr(step, "status", None)
                raise step


@dataclass
class Lane:
    """Keeps books; never makes anybody wait, unless it is shut."""

    shut: bool = False
    in_flight: int = 0
    acquired: int = 0
    pauses: list[tuple[float, str]] = field(default_factory=list)

    async def acquire(self) -> None:
        await checkpoint()
        if self.shut:
            await anyio.sleep_forever()
        self.acquired += 1
        self.in_flight += 1

    def release(self) -> None:
        self.in_flight -= 1
        assert self.in_flight >= 0

    def pause(self, seconds: float, reason: str) -> None:
        assert seconds >= 0
        self.pauses.append((seconds, reason))


class Bench:
    """Everything an item needs, and what came of it."""

    def __init__(
        self,
        *steps: object,
        attempts: int = 3,
        provider: Provider | None = None,
        shut: bool = False,
        sleep: Callable[[float], Awaitable[None]] | None = None,
    ) -> None:
        self.clock, self.lane, self.judge, self.stop = Clock(), Lane(shut=shut), Judge(), Stop()
        self.client = Client(self.clock, list(steps))
        self.emitted: list[Attempt] = []
        self.attempts = Attempts(
            provider or Provider(),
            self.client,
            self.lane,
            RetryPolicy(attempts=attempts),
            self.judge,
            self.stop,
            redact=lambda words: words.replace("sk-secret", "[redacted]"),
            draw=Highest(),
            clock=self.clock,
            wall=self.clock.wall,
            sleep=sleep or self.clock.sleep,
        )

    async def emit(self, attempt: Attempt) -> None:
        """Save at once, as the writer does, who gives the place back."""
        self.emitted.append(attempt)
        self.lane.release()

    async def handle(self, attempts_before: int = 0) -> Outcome | None:
        outcome = await self.attempts.handle(an_item(attempts_before), self.emit)
        # what is decided holds its place until it is saved
        if outcome is not None and outcome.attempt is not None:
            self.lane.release()
        assert self.lane.in_flight == 0
        return outcome

    @property
    def codes(self) -> list[str | None]:
        return [attempt.error_code for attempt in self.emitted]


def an_item(attempts_before: int = 0) -> Item:
    request = Request(model="m", messages=({"role": "user", "content": "Hi"},))
    return Item(key="k", position=4, request=request, metadata={"lang": "en"}, fingerprint=9, attempts_before=attempts_before)


def settled(outcome: Outcome | None) -> Outcome:
    assert outcome is not None
    return outcome


# -- answers


async def test_an_answer_is_an_outcome_with_its_attempt() -> None:
    bench = Bench(Answer())
    outcome = settled(await bench.handle())
    assert (outcome.key, outcome.position, outcome.status, outcome.attempts) == ("k", 4, "done", 1)
    assert (outcome.metadata, outcome.fingerprint) == ({"lang": "en"}, 9)
    assert outcome.completion == HELLO
    assert (outcome.error_code, outcome.error) == (None, None)
    assert outcome.attempt == Attempt(
        key="k",
        number=1,
        started_at=WALL_S + 500.0,
        duration_s=2.0,
        time_to_first_token_s=0.25,
        status=200,
        bytes_received=111,
        usage=Usage(input_tokens=7, output_tokens=3),
    )
    assert (bench.emitted, bench.clock.slept, bench.lane.pauses) == ([], [], [])


async def test_names_of_the_answer_are_kept_with_the_attempt() -> None:
    bench = Bench(Answer(Completion(text="x", finish_reason="stop", served_model="m-2026", response_id="r-1")))
    attempt = settled(await bench.handle()).attempt
    assert attempt is not None
    assert (attempt.served_model, attempt.response_id, attempt.usage) == ("m-2026", "r-1", None)


async def test_a_lost_tail_is_noted_behind_the_notes_there_are() -> None:
    odd = Completion(text="", finish_reason="stop", notes=("empty",))
    for answer, notes in ((Answer(tail_lost=True), ("tail_lost",)), (Answer(odd, tail_lost=True), ("empty", "tail_lost"))):
        completion = settled(await Bench(answer).handle()).completion
        assert completion is not None
        assert completion.notes == notes


# -- retries


async def test_a_retry_and_then_an_answer() -> None:
    bench = Bench(CUT, BUSY, Answer())
    outcome = settled(await bench.handle())
    assert (outcome.status, outcome.attempts) == ("done", 3)
    assert outcome.attempt is not None
    assert outcome.attempt.number == 3
    assert bench.codes == ["cut", "server_error"]
    assert [attempt.number for attempt in bench.emitted] == [1, 2]
    assert [attempt.status for attempt in bench.emitted] == [None, 500]
    assert bench.clock.slept == [0.5, 1.0]
    assert bench.lane.acquired == 3
    assert bench.lane.pauses == []


async def test_attempts_are_used_up() -> None:
    bench = Bench(BUSY, attempts=4)
    outcome = settled(await bench.handle())
    assert (outcome.status, outcome.error_code, outcome.attempts) == ("failed", "server_error", 4)
    assert outcome.completion is None
    assert outcome.attempt is not None
    # the last one rides with the outcome, the others went before it
    assert (outcome.attempt.number, len(bench.emitted), len(bench.client.calls)) == (4, 3, 4)


async def test_a_refusal_for_good_is_not_tried_again() -> None:
    bench = Bench(BAD)
    outcome = settled(await bench.handle())
    assert (outcome.status, outcome.error_code, outcome.error) == ("failed", "bad_request", "400: no such field")
    assert (outcome.attempts, bench.emitted, bench.clock.slept) == (1, [], [])


async def test_text_and_usage_of_a_failed_attempt() -> None:
    """Its tokens are spend; its text is never joined with the next one's."""
    half = Completion(text="Hel", finish_reason="", usage=Usage(input_tokens=7), served_model="m-2", response_id="r-0")
    bench = Bench(Partial(CUT, half), Answer())
    outcome = settled(await bench.handle())
    assert outcome.completion == HELLO
    (failed,) = bench.emitted
    assert (failed.usage, failed.served_model, failed.response_id) == (Usage(input_tokens=7), "m-2", "r-0")
    assert (failed.status, failed.bytes_received) == (200, 55)


async def test_numbers_go_on_from_earlier_sessions() -> None:
    bench = Bench(BUSY, Answer())
    outcome = settled(await bench.handle(attempts_before=7))
    assert outcome.attempts == 9
    assert outcome.attempt is not None
    assert [*(attempt.number for attempt in bench.emitted), outcome.attempt.number] == [8, 9]


async def test_earlier_sessions_use_up_no_attempt_of_this_one() -> None:
    bench = Bench(BUSY, attempts=2)
    assert settled(await bench.handle(attempts_before=7)).attempts == 9
    assert len(bench.client.calls) == 2


# -- throttled and unreached


async def test_throttled_answers_use_up_no_attempt_and_pause_the_lane_with_the_hint() -> None:
    bench = Bench(*[limited(30.0)] * 10, BUSY, BUSY, Answer(), attempts=3)
    outcome = settled(await bench.handle())
    assert (outcome.status, outcome.attempts) == ("done", 13)
    assert bench.lane.pauses == [(30.0, "rate_limited")] * 10
    assert bench.clock.slept[:10] == [32.0] * 10
    assert bench.codes == ["rate_limited"] * 10 + ["server_error"] * 2


async def test_without_a_hint_the_lane_pauses_for_the_wait() -> None:
    bench = Bench(limited(), limited(), limited(), Answer())
    await bench.handle()
    assert bench.lane.pauses == [(2.0, "rate_limited"), (4.0, "rate_limited"), (8.0, "rate_limited")]
    assert bench.clock.slept == [2.0, 4.0, 8.0]


async def test_a_hint_of_a_server_error_pauses_the_lane_and_uses_an_attempt() -> None:
    busy = ProviderError("503", code="server_error", verdict="retry", status=503, retry_after_s=12.0)
    bench = Bench(busy, attempts=2)
    outcome = settled(await bench.handle())
    assert outcome.attempts == 2
    assert bench.lane.pauses == [(12.0, "server_error")]
    assert bench.clock.slept == [12.5]


async def test_patience_with_rate_limits_ends() -> None:
    bench = Bench(limited(600.0))
    outcome = settled(await bench.handle())
    assert (outcome.status, outcome.error_code) == ("failed", "rate_limited")
    # an hour, in waits of ten minutes
    assert 6 <= outcome.attempts <= 8


async def test_a_real_attempt_in_between_renews_the_patience() -> None:
    bench = Bench(*[limited(600.0)] * 4, BUSY, *[limited(600.0)] * 4, Answer())
    assert settled(await bench.handle()).status == "done"


async def test_unreached_ones_use_up_no_attempt() -> None:
    bench = Bench(REFUSED, REFUSED, REFUSED, BUSY, BUSY, Answer(), attempts=3)
    outcome = settled(await bench.handle())
    assert (outcome.status, outcome.attempts) == ("done", 6)
    assert [attempt.sent for attempt in bench.emitted] == [False, False, False, True, True]
    assert [reason for _, reason in bench.lane.pauses] == ["connect"] * 3


async def test_a_connect_timeout_is_unreached_and_any_other_timeout_is_not() -> None:
    connect = AttemptTimeoutError("no connection", clock="connect", sent=False)
    bench = Bench(connect, connect, Answer(), attempts=1)
    assert settled(await bench.handle()).status == "done"
    bench = Bench(AttemptTimeoutError("stalled", clock="silence"), attempts=1)
    assert settled(await bench.handle()).error_code == "timeout_silence"


async def test_an_endpoint_never_reached_stops_the_run() -> None:
    bench = Bench(REFUSED)
    assert await bench.handle() is None
    assert bench.stop.error is not None
    assert bench.stop.error.code == "connect"
    assert bench.clock.now >= 500 + UNREACHED_S
    assert len(bench.emitted) == len(bench.client.calls)


# -- stops


async def test_a_stop_verdict_ends_the_run_and_leaves_the_item_open() -> None:
    bench = Bench(AUTH)
    assert await bench.handle() is None
    assert isinstance(bench.stop.error, RunStoppedError)
    assert bench.stop.error.code == "auth"
    assert bench.stop.reason == str(bench.stop.error)
    # the provider's words without the key, and what to do
    assert "401" in bench.stop.reason
    assert "environment" in bench.stop.reason
    assert "sk-secret" not in bench.stop.reason
    assert bench.stop.grace_s > 0
    assert bench.codes == ["auth"]
    assert len(bench.client.calls) == 1


async def test_the_judge_has_the_last_word() -> None:
    missing = ProviderError("404", code="not_found", verdict="stop", status=404)
    bench = Bench(Answer(), missing)
    await bench.handle()
    outcome = settled(await bench.handle())
    assert (outcome.status, outcome.error_code, bench.stop.requested) == ("failed", "not_found", False)


async def test_nothing_is_sent_once_the_run_is_to_end() -> None:
    bench = Bench(Answer())
    bench.stop.request("enough", grace_s=30)
    assert await bench.handle() is None
    assert (bench.client.calls, bench.emitted, bench.lane.in_flight) == ([], [], 0)


async def test_a_stop_ends_the_wait_for_the_lane_at_once() -> None:
    bench = Bench(Answer(), shut=True)
    outcomes: list[Outcome | None] = []

    async def work() -> None:
        outcomes.append(await bench.handle())

    async with anyio.create_task_group() as group:
        group.start_soon(work)
        await anyio.wait_all_tasks_blocked()
        bench.stop.request("enough", grace_s=30)
    assert outcomes == [None]
    assert (bench.client.calls, bench.lane.in_flight) == ([], 0)


async def test_a_stop_ends_the_wait_for_a_retry_at_once() -> None:
    asleep = anyio.Event()

    async def sleep(_: float) -> None:
        asleep.set()
        await anyio.sleep_forever()

    bench = Bench(BUSY, Answer(), sleep=sleep)
    outcomes: list[Outcome | None] = []

    async def work() -> None:
        outcomes.append(await bench.handle())

    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            group.start_soon(work)
            await asleep.wait()
            assert bench.codes == ["server_error"]
            bench.stop.request("enough", grace_s=30)
    assert outcomes == [None]
    assert len(bench.client.calls) == 1


async def test_a_stop_lets_an_answer_in_flight_come_in() -> None:
    bench = Bench(Answer())

    async def handle() -> None:
        assert settled(await bench.handle()).status == "done"

    async with anyio.create_task_group() as group:
        group.start_soon(handle)
        while not bench.client.calls:
            await checkpoint()
        bench.stop.request("Ctrl-C", grace_s=30)


async def test_a_failure_in_flight_while_the_run_ends_is_on_the_books_and_not_tried_again() -> None:
    bench = Bench(BUSY, sleep=lambda _: anyio.sleep_forever())
    outcomes: list[Outcome | None] = []

    async def work() -> None:
        outcomes.append(await bench.handle())

    async with anyio.create_task_group() as group:
        group.start_soon(work)
        while not bench.client.calls:
            await checkpoint()
        bench.stop.request("Ctrl-C", grace_s=30)
    assert outcomes == [None]
    assert bench.codes == ["server_error"]


@pytest.mark.parametrize(("step", "sent"), [(HANG, True), (HANG_UNCONNECTED, False)])
async def test_one_cancelled_in_flight_is_on_the_books(step: object, sent: bool) -> None:
    bench = Bench(step)
    async with anyio.create_task_group() as group:
        group.start_soon(bench.handle)
        while not bench.client.calls:
            await checkpoint()
        group.cancel_scope.cancel()
    (attempt,) = bench.emitted
    assert (attempt.number, attempt.error_code, attempt.sent) == (1, "cancelled", sent)
    assert bench.lane.in_flight == 0


# -- stale connections


async def test_a_stale_connection_is_replaced_quietly_once() -> None:
    bench = Bench(STALE, Answer())
    outcome = settled(await bench.handle())
    assert (outcome.status, outcome.attempts, bench.emitted, bench.clock.slept) == ("done", 1, [], [])
    assert (len(bench.client.calls), bench.lane.acquired) == (2, 1)
    # a record of its own for each, so that nothing of the first one shines through
    assert len(bench.client.exchanges) == 2


async def test_the_second_stale_connection_is_a_failure_that_counts() -> None:
    bench = Bench(STALE, attempts=2)
    outcome = settled(await bench.handle())
    assert (outcome.status, outcome.error_code, outcome.attempts) == ("failed", "closed", 2)
    assert len(bench.client.calls) == 4


# -- our own faults


@pytest.mark.parametrize("broken", [ValueError("odd row: sk-secret"), RecursionError(), TypeError("not JSON")])
async def test_a_request_that_cannot_be_built_fails_its_row(broken: Exception) -> None:
    bench = Bench(Answer(), provider=Provider(broken))
    outcome = settled(await bench.handle(attempts_before=2))
    assert (outcome.status, outcome.error_code, outcome.attempt, outcome.attempts) == ("failed", "internal", None, 2)
    assert bench.client.calls == []


async def test_words_about_a_request_that_cannot_be_built_are_redacted() -> None:
    bench = Bench(Answer(), provider=Provider(ValueError("odd header: sk-secret")))
    assert "sk-secret" not in (settled(await bench.handle()).error or "")


async def test_a_bug_in_an_exchange_fails_its_row() -> None:
    bench = Bench(KeyError("choices sk-secret"))
    outcome = settled(await bench.handle())
    assert (outcome.status, outcome.error_code, outcome.attempts) == ("failed", "internal", 1)
    assert "KeyError" in (outcome.error or "")
    assert "sk-secret" not in (outcome.error or "")


async def test_foreign_words_are_redacted_everywhere() -> None:
    words = StreamError("answered 'sk-secret'", code="truncated")
    bench = Bench(words, attempts=2)
    outcome = settled(await bench.handle())
    assert outcome.attempt is not None
    assert [outcome.error, outcome.attempt.error, bench.emitted[0].error] == ["answered '[redacted]'"] * 3
