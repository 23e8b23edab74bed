"""One item to one outcome: a scripted client and provider, real lanes, and virtual time."""

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import anyio
import pytest
from anyio.lowlevel import checkpoint
from virtual import BACKEND
from world import Decoder, Exchange, Provider, Server, World, limited

from runner.admission import Standing
from runner.engine.attempt import Attempts
from runner.engine.clock import Clock
from runner.engine.judge import UNREACHED_S, Judge
from runner.engine.limits import Lanes, Limits
from runner.engine.retry import RetryPolicy
from runner.engine.stop import Stop
from runner.errors import AttemptError, AttemptTimeoutError, ProviderError, RunStoppedError, StreamError, TransportError
from runner.interfaces import Heard
from runner.model import Attempt, Completion, HttpCall, Item, Outcome, Request, Usage
from runner.text import Redactor

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> object:
    return BACKEND


WALL_S = 1_700_000_000.0
CUT = TransportError("the connection broke", code="cut")
BUSY = ProviderError("500", code="server_error", verdict="retry", status=500)
REFUSED = TransportError("no connection", code="connect", sent=False)
STALE = TransportError("closed", code="closed", stale=True)
BAD = ProviderError("400: no such field", code="bad_request", verdict="fail", status=400)
HALF = Completion(text="Hel", finish_reason="", usage=Usage(input_tokens=7), served_model="m-2", response_id="r-0")
HELLO = Completion(text="Hello", finish_reason="stop", usage=Usage(input_tokens=7, output_tokens=3))
AUTH = ProviderError("401: Incorrect API key provided: sk-secret", code="auth", verdict="stop", status=401)


# -- the fakes


class Highest(random.Random):
    """Draws the upper bound, so that every wait is known."""

    def uniform(self, a: float, b: float) -> float:
        return b


class Broken(Provider):
    """Cannot build a request."""

    def __init__(self, error: Exception) -> None:
        self.error_of_ours = error

    def encode(self, request: Request) -> HttpCall:
        raise self.error_of_ours


@dataclass(frozen=True)
class Answer:
    """A complete answer."""

    completion: Completion = HELLO
    tail_lost: bool = False


@dataclass(frozen=True)
class Partial:
    """An error that comes after part of the answer."""

    error: AttemptError
    known: Completion = HALF
    received: int = 55


HANG = "HANG"
HANG_UNCONNECTED = "HANG_UNCONNECTED"


@dataclass
class Client:
    """A client that plays a script: one step of two seconds per exchange. The last step is repeated."""

    steps: list[object]
    calls: list[HttpCall] = field(default_factory=list)
    exchanges: list[Exchange] = field(default_factory=list)
    fresh: list[bool] = field(default_factory=list)
    fallbacks: list[bool] = field(default_factory=list)

    def exchange(self, *, fresh: bool = False, heard: Heard | None = None, fallback: bool = False) -> Exchange:
        self.fresh.append(fresh)
        self.fallbacks.append(fallback)
        self.exchanges.append(Exchange(heard=heard))
        return self.exchanges[-1]

    async def stream(self, call: HttpCall, decoder: Decoder, exchange: Exchange, refuse: object) -> None:
        step = self.steps[min(len(self.calls), len(self.steps) - 1)]
        self.calls.append(call)
        exchange.connected = step is not HANG_UNCONNECTED
        if step in (HANG, HANG_UNCONNECTED):
            await anyio.sleep_forever()
        await anyio.sleep(2.0)
        match step:
            case Answer():
                exchange.status, exchange.time_to_first_token_s, exchange.bytes_received = 200, 0.25, 111
                exchange.tail_lost = step.tail_lost
                decoder.gathered = step.completion
            case Partial():
                exchange.status, exchange.bytes_received = 200, step.received
                decoder.gathered = step.known
                raise step.error
            case Exception():
                exchange.status = getattr(step, "status", None)
                raise step


class Bench:
    """Everything that an item needs, and its results."""

    def __init__(
        self,
        *steps: object,
        attempts: int = 3,
        policy: RetryPolicy | None = None,
        provider: Provider | None = None,
        sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
    ) -> None:
        self.start = anyio.current_time()
        self.lanes = Lanes(Limits(ceiling=8, tuned=False), Clock(monotonic=anyio.current_time, random=Highest()))
        self.lane, self.judge, self.stop = self.lanes.of("m"), Judge(), Stop()
        self.client = Client(list(steps))
        self.emitted: list[Attempt] = []
        self.slept: list[float] = []
        self._sleep = sleep
        self.attempts: Attempts[Exchange] = Attempts(
            provider or Provider(),
            self.client,
            self.lanes,
            policy or RetryPolicy(attempts=attempts),
            self.judge,
            self.stop,
            redactor=Redactor(["sk-secret"]),
            clock=Clock(monotonic=anyio.current_time, wall=lambda: WALL_S + self.took_s, sleep=self.sleep, random=Highest()),
        )

    @property
    def took_s(self) -> float:
        return anyio.current_time() - self.start

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        await self._sleep(seconds)

    async def emit(self, attempt: Attempt) -> None:
        """Save at once, as the writer does, which releases the permit."""
        self.emitted.append(attempt)
        self.attempts.saved(attempt)

    async def handle(self, attempts_before: int = 0, *, tier: str | None = None) -> Outcome | None:
        outcome = await self.attempts.handle(an_item(attempts_before, tier=tier), self.emit)
        if outcome is not None:
            # an outcome keeps its place until it is saved
            assert self.lanes.in_flight == (outcome.attempt is not None)
            self.attempts.saved(outcome)
        assert (self.lanes.in_flight, self.lane.waiting_items) == (0, 0)
        return outcome

    @property
    def codes(self) -> list[str | None]:
        return [attempt.error_code for attempt in self.emitted]


def an_item(attempts_before: int = 0, key: str = "k", *, tier: str | None = None) -> Item:
    request = Request(model="m", messages=({"role": "user", "content": "Hi"},), tier=tier)
    return Item(key=key, position=4, request=request, metadata={"lang": "en"}, fingerprint=9, attempts_before=attempts_before)


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
        started_at=pytest.approx(WALL_S),
        duration_s=pytest.approx(2.0, abs=1e-3),
        time_to_first_token_s=0.25,
        status=200,
        bytes_received=111,
        usage=Usage(input_tokens=7, output_tokens=3),
        model="m",
    )
    assert (bench.emitted, bench.slept, bench.lane.paused_s) == ([], [], 0)


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
    assert bench.slept == [0.5, 1.0]
    assert bench.lane.paused_s == 0


async def test_attempts_are_used_up() -> None:
    bench = Bench(BUSY, attempts=4)
    outcome = settled(await bench.handle())
    assert (outcome.status, outcome.error_code, outcome.attempts) == ("failed", "server_error", 4)
    assert outcome.completion is None
    assert outcome.attempt is not None
    # the last attempt is part of the outcome; the others were emitted before it
    assert (outcome.attempt.number, len(bench.emitted), len(bench.client.calls)) == (4, 3, 4)


async def test_a_refusal_for_good_is_not_tried_again() -> None:
    bench = Bench(BAD)
    outcome = settled(await bench.handle())
    assert (outcome.status, outcome.error_code, outcome.error) == ("failed", "bad_request", "400: no such field")
    assert (outcome.attempts, bench.emitted, bench.slept) == (1, [], [])


async def test_text_and_usage_of_a_failed_attempt() -> None:
    """Its tokens were paid for, but its text is never joined with the text of the next attempt."""
    bench = Bench(Partial(CUT), Answer())
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


async def test_throttled_answers_use_up_no_attempt_and_the_hint_is_kept() -> None:
    bench = Bench(*[limited(30.0)] * 10, BUSY, BUSY, Answer(), attempts=3)
    outcome = settled(await bench.handle())
    assert (outcome.status, outcome.attempts) == ("done", 13)
    # from the ninth refusal on, the hint alone is not enough
    assert bench.slept[:10] == [*[32.0] * 8, 34.0, 38.0]
    assert bench.codes == ["rate_limited"] * 10 + ["server_error"] * 2


async def test_one_items_hint_holds_the_whole_lane() -> None:
    bench = Bench(limited(30.0), Answer())
    async with anyio.create_task_group() as group:
        group.start_soon(bench.attempts.handle, an_item(), bench.emit)
        await anyio.sleep(3)
        assert bench.lane.paused_s == pytest.approx(29.25, abs=0.01)
        await bench.lane.acquire(Standing(), 10, None)
        assert bench.took_s >= 32


async def test_without_a_hint_the_item_backs_off_further_each_time() -> None:
    bench = Bench(limited(), limited(), limited(), Answer())
    await bench.handle()
    assert bench.slept == [2.0, 4.0, 8.0]


async def test_a_wait_that_the_server_asked_for_does_not_make_the_next_one_shorter() -> None:
    bench = Bench(BUSY, limited(0.1), BUSY, Answer(), attempts=5)

    async def pausing(seconds: float) -> None:
        await anyio.sleep(seconds)
        if len(bench.slept) == 1:
            bench.lane.pause(3.0, "another row's")

    bench._sleep = pausing
    await bench.handle()
    # the first took 3.5 s with the pause, and the third is longer
    assert bench.slept[0] == 0.5
    assert bench.slept[1] < 3
    assert bench.slept[2] >= 1.4 * 3.5


async def test_a_hint_of_a_server_error_pauses_the_lane_and_uses_an_attempt() -> None:
    busy = ProviderError("503", code="server_error", verdict="retry", status=503, retry_after_s=12.0)
    bench = Bench(busy, attempts=2)
    outcome = settled(await bench.handle())
    assert outcome.attempts == 2
    assert bench.slept == [12.5]
    assert bench.lane.paused_s == pytest.approx(12.0, abs=0.01)


async def test_a_lane_that_refuses_everything_for_an_hour_stops_the_run() -> None:
    bench = Bench(limited(300.0))
    assert await bench.handle() is None
    assert bench.stop.error is not None
    assert bench.stop.error.code == "rate_limited"
    assert "(no row was answered for 60 min)" in str(bench.stop.error)
    assert 3600 <= bench.took_s <= 3600 + 310
    # the attempt is stored with the reason of the stop
    assert (bench.emitted[-1].error or "").endswith("(no row was answered for 60 min)")


async def test_an_item_that_is_refused_for_an_hour_while_others_are_answered_fails() -> None:
    server = Server(fault=lambda item, _: limited(60.0) if item == "0" else None)
    world = World(server, tuned=False, ceiling=2, workers=2)
    await world.work(200)
    assert [(outcome.key, outcome.error_code) for outcome in world.failed] == [("0", "rate_limited")]
    assert server.since >= 3600
    assert world.stop.reason is None


async def test_a_long_wait_that_the_server_asks_for_uses_up_no_patience() -> None:
    bench = Bench(*[limited(7200.0)] * 5, Answer())
    assert settled(await bench.handle()).status == "done"


async def test_a_real_attempt_in_between_renews_the_patience() -> None:
    bench = Bench(*[limited(600.0)] * 4, BUSY, *[limited(600.0)] * 4, Answer())
    assert settled(await bench.handle()).status == "done"


async def test_unreached_ones_use_up_no_attempt() -> None:
    bench = Bench(REFUSED, REFUSED, REFUSED, BUSY, BUSY, Answer(), attempts=3)
    outcome = settled(await bench.handle())
    assert (outcome.status, outcome.attempts) == ("done", 6)
    assert [attempt.sent for attempt in bench.emitted] == [False, False, False, True, True]


async def test_a_connect_timeout_is_unreached_and_any_other_timeout_is_not() -> None:
    connect = AttemptTimeoutError("no connection", timeout="connect", sent=False)
    bench = Bench(connect, connect, Answer(), attempts=1)
    assert settled(await bench.handle()).status == "done"
    bench = Bench(AttemptTimeoutError("stalled", timeout="silence"), attempts=1)
    assert settled(await bench.handle()).error_code == "timeout_silence"


async def test_an_endpoint_never_reached_stops_the_run() -> None:
    bench = Bench(REFUSED)
    assert await bench.handle() is None
    assert bench.stop.error is not None
    assert bench.stop.error.code == "connect"
    assert bench.took_s >= UNREACHED_S
    assert len(bench.emitted) == len(bench.client.calls)


async def test_an_outage_of_an_hour_stops_the_run_and_fails_nothing() -> None:
    world = World(Server(fault=lambda _, since: BUSY if since >= 60 else None), workers=64)
    await world.work(10_000)
    assert world.failed == []
    assert "(no row was answered for 60 min)" in str(world.stop.error)
    assert 3600 <= world.server.since - 60 <= 3600 + 40


# -- the same fault again


@pytest.mark.parametrize(
    "error",
    [
        StreamError("broken", code="malformed_stream"),
        StreamError("no finish reason", code="truncated"),
        TransportError("no HTTP", code="bad_http"),
    ],
    ids=lambda error: error.code,
)
async def test_the_same_broken_answer_three_times_is_final(error: AttemptError) -> None:
    bench = Bench(Partial(error), attempts=5)
    outcome = settled(await bench.handle())
    assert (outcome.status, outcome.error_code, outcome.attempts) == ("failed", error.code, 3)


async def test_broken_answers_that_differ_are_tried_again() -> None:
    error = StreamError("no finish reason", code="truncated")
    steps = [Partial(error, received=received) for received in (10, 10, 11, 11, 10)]
    assert settled(await Bench(*steps, attempts=5).handle()).attempts == 5
    mixed = [Partial(error), Partial(error), BUSY, Partial(error), Partial(error)]
    assert settled(await Bench(*mixed, attempts=5).handle()).attempts == 5


async def test_the_same_broken_answer_of_an_outage_is_not_the_rows_own(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(*[Partial(StreamError("no finish reason", code="truncated"))] * 4, Answer(), attempts=5)
    known = bench.lane.excused
    # the first of them fell into an outage, so the three after it are the first that show anything
    monkeypatch.setattr(bench.lane, "excused", lambda failure: failure.ended - bench.start < 3.0 or known(failure))
    outcome = settled(await bench.handle())
    assert (outcome.status, outcome.attempts) == ("failed", 4)


@pytest.mark.parametrize("error", [BUSY, CUT], ids=lambda error: error.code)
async def test_what_may_look_different_next_time_is_tried_to_the_end(error: AttemptError) -> None:
    assert settled(await Bench(Partial(error), attempts=5).handle()).attempts == 5


# -- permits


async def test_a_permit_is_given_back_once_when_its_attempt_is_saved() -> None:
    bench = Bench(BUSY, Answer())
    held: list[int] = []

    async def emit(attempt: Attempt) -> None:
        held.append(bench.lanes.in_flight)
        for _ in range(2):
            bench.attempts.saved(attempt)
            held.append(bench.lanes.in_flight)

    outcome = settled(await bench.attempts.handle(an_item(), emit))
    held.append(bench.lanes.in_flight)
    for _ in range(2):
        bench.attempts.saved(outcome)
        held.append(bench.lanes.in_flight)
    assert held == [1, 0, 0, 1, 0, 0]


async def test_an_attempt_that_is_not_saved_yet_holds_its_place_through_the_retry() -> None:
    bench, unsaved = Bench(BUSY, BUSY, Answer()), list[Attempt]()

    async def emit(attempt: Attempt) -> None:
        unsaved.append(attempt)

    outcome = settled(await bench.attempts.handle(an_item(), emit))
    assert bench.lanes.in_flight == 3
    for entry in (*unsaved, outcome):
        bench.attempts.saved(entry)
    assert bench.lanes.in_flight == 0


async def test_a_broken_row_has_no_permit() -> None:
    bench = Bench(Answer())
    bench.attempts.saved(Outcome(key="k", position=1, status="failed", metadata={}, fingerprint=0))
    assert bench.lanes.in_flight == 0


# -- what waits for a retry


async def test_items_that_wait_for_a_retry_are_told() -> None:
    bench = Bench(BUSY, BUSY, Answer(), attempts=5)
    bench.lane.pause(0.001, "")
    phrases: list[str | None] = [bench.attempts.retrying()]
    async with anyio.create_task_group() as group:
        for number in range(2):
            group.start_soon(bench.attempts.handle, an_item(key=str(number)), bench.emit)
        await anyio.sleep(2.1)
        phrases.append(bench.attempts.retrying())
    phrases.append(bench.attempts.retrying())
    assert phrases == [None, "2 rows on attempt 2 of 5", None]


async def test_the_furthest_retries_are_told_first() -> None:
    asleep = Bench(BUSY, attempts=5, sleep=lambda _: anyio.sleep_forever())
    asleep.attempts._admitting._retrying.update({2: 1400, 3: 37, 5: 1})
    assert asleep.attempts.retrying() == "1 row on attempt 5 of 5, 37 on attempt 3 of 5"
    del asleep.attempts._admitting._retrying[5], asleep.attempts._admitting._retrying[3]
    assert asleep.attempts.retrying() == "1,400 rows on attempt 2 of 5"


async def test_who_gives_up_waiting_for_a_retry_is_not_told_any_more() -> None:
    bench = Bench(BUSY, sleep=lambda _: anyio.sleep_forever())
    async with anyio.create_task_group() as group:
        group.start_soon(bench.handle)
        await anyio.sleep(5)
        assert bench.attempts.retrying() == "1 row on attempt 2 of 3"
        group.cancel_scope.cancel()
    assert bench.attempts.retrying() is None
    assert bench.lane.waiting_items == 0


# -- stops


async def test_a_stop_verdict_ends_the_run_and_leaves_the_item_open() -> None:
    bench = Bench(AUTH)
    assert await bench.handle() is None
    assert isinstance(bench.stop.error, RunStoppedError)
    assert bench.stop.error.code == "auth"
    assert bench.stop.reason == str(bench.stop.error)
    # the provider's message without the key, and the advice
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
    assert (bench.client.calls, bench.emitted, bench.lanes.in_flight) == ([], [], 0)


async def test_a_stop_ends_the_wait_for_the_lane_at_once() -> None:
    bench = Bench(Answer())
    bench.lane.pause(1e6, "429")
    outcomes: list[Outcome | None] = []

    async def work() -> None:
        outcomes.append(await bench.handle())

    async with anyio.create_task_group() as group:
        group.start_soon(work)
        await anyio.wait_all_tasks_blocked()
        bench.stop.request("enough", grace_s=30)
    assert outcomes == [None]
    assert (bench.client.calls, bench.lanes.in_flight) == ([], 0)


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
    assert bench.lanes.in_flight == 0


# -- stale connections


async def test_a_stale_connection_is_replaced_at_once_on_the_books_and_counts_against_nothing() -> None:
    bench = Bench(STALE, Answer(), attempts=1)
    outcome = settled(await bench.handle())
    assert (outcome.status, outcome.attempts, bench.slept) == ("done", 2, [])
    # the server may have received the request before it closed the connection
    (attempt,) = bench.emitted
    assert (attempt.number, attempt.error_code, attempt.sent, attempt.usage) == (1, "closed", True, None)
    assert bench.client.fresh == [False, True]
    # each has a record of its own, so that nothing of the first one remains in the second
    assert len(bench.client.exchanges) == 2


async def test_the_second_stale_connection_is_a_failure_that_counts() -> None:
    bench = Bench(STALE, attempts=2)
    outcome = settled(await bench.handle())
    assert (outcome.status, outcome.error_code, outcome.attempts) == ("failed", "closed", 4)
    assert [attempt.number for attempt in bench.emitted] == [1, 2, 3]
    assert len(bench.client.calls) == 4
    assert bench.client.fresh == [False, True, False, True]
    assert len(bench.slept) == 1


# -- our own faults


@pytest.mark.parametrize("broken", [ValueError("odd row: sk-secret"), RecursionError(), TypeError("not JSON")])
async def test_a_request_that_cannot_be_built_fails_its_row(broken: Exception) -> None:
    bench = Bench(Answer(), provider=Broken(broken))
    outcome = settled(await bench.handle(attempts_before=2))
    assert (outcome.status, outcome.error_code, outcome.attempt, outcome.attempts) == ("failed", "internal", None, 2)
    assert bench.client.calls == []


async def test_words_about_a_request_that_cannot_be_built_are_redacted() -> None:
    bench = Bench(Answer(), provider=Broken(ValueError("odd header: sk-secret")))
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
