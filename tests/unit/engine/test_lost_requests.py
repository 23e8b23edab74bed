"""An answer that comes late to a request which was lost with its worker, wherever its row is by then."""

from collections.abc import Callable
from typing import Any

import anyio
import pytest
from fleets import Fleet
from test_attempt import BUSY, HANG, HELLO, Answer, Bench, Client, an_item, settled
from test_budget import Purse
from virtual import BACKEND
from world import Decoder, Exchange, Provider

from runner.admission import Amounts, Permit, Reservation
from runner.engine.attempt import Attempts
from runner.engine.clock import Clock
from runner.engine.exchanging import send
from runner.engine.judge import Judge
from runner.engine.lost import Came, Lost
from runner.engine.member_judge import MemberJudge
from runner.engine.open_attempts import OpenAttempt
from runner.engine.retry import RetryPolicy
from runner.engine.stop import Stop
from runner.engine.way import Way
from runner.errors import AttemptError, InvalidAnswerError, ProviderError, StreamError
from runner.model import Attempt, Completion, HttpCall, Outcome, Usage

pytestmark = pytest.mark.anyio

REFUSED = ProviderError("400: your prompt", code="bad_request", verdict="fail", status=400)
LATE = Completion(text="late", finish_reason="stop", usage=Usage(input_tokens=8, output_tokens=2), served_model="m-late")


@pytest.fixture
def anyio_backend() -> object:
    return BACKEND


class Loss:
    """What a client raises whose worker is lost, and what of its requests comes late. used: what became of that."""

    def __init__(self) -> None:
        self._offers: list[Callable[..., bool]] = []
        self.used: list[bool] = []

    @property
    def error(self) -> AttemptError:
        error = AttemptError("its worker was lost", code="worker_lost")
        error.mended, error.booked = True, lambda key, number, offer: self._offers.append(offer)
        return error

    def comes(self, answer: Completion = LATE, number: int = 1) -> bool:
        """Have the answer to a lost request come. Return True if its row takes it."""
        decoder = Decoder()
        decoder.gathered = answer
        exchange = Exchange(status=200, connected=True, bytes_received=77, time_to_first_token_s=0.5, answered_s=3.5)
        return self._offers[number - 1](decoder, exchange, self.used.append)


async def late_at(bench: Bench, loss: Loss, after_s: float, *, taken: bool = True, **more: Any) -> Outcome:
    """Handle an item, and have the answer to its lost request come after so many seconds."""
    found: list[Outcome | None] = []

    async def handle() -> None:
        with anyio.fail_after(3_600):
            found.append(await bench.attempts.handle(an_item(), bench.emit))

    async with anyio.create_task_group() as group:
        group.start_soon(handle)
        await anyio.sleep(after_s)
        assert not found
        assert loss.comes(**more) is taken
        # of two that come at once, the first counts: nobody would book it if the second one took its place
        assert not (taken and loss.comes(**more))
    # at once: whatever the row waited for
    assert not taken or anyio.current_time() - bench.start < after_s + 1
    outcome = settled(found[0])
    # it is on the books of the lost attempt until it is saved as another one
    assert True not in loss.used
    bench.attempts.saved(outcome)
    assert (bench.lanes.in_flight, bench.lane.waiting_items) == (0, 0)
    # nothing is taken any more
    before = [*loss.used]
    assert loss.comes(**more) is False
    assert loss.used == before
    return outcome


def numbered(outcome: Outcome) -> tuple[int | None, Completion | None, Usage | None]:
    attempt = outcome.attempt
    return attempt and attempt.number, outcome.completion, attempt and attempt.usage


async def test_a_row_that_waits_for_a_pause_takes_it_and_sends_nothing_more() -> None:
    loss = Loss()
    bench = Bench(loss.error, Answer())
    bench.lanes.of("m").pause(1.0, "503")
    async with anyio.create_task_group() as group:

        async def pause() -> None:
            await anyio.sleep(2.5)
            bench.lane.pause(500, "503", asked=True)

        group.start_soon(pause)
        outcome = await late_at(bench, loss, 10.0)
    assert numbered(outcome) == (2, LATE, LATE.usage)
    assert (outcome.status, outcome.attempts, len(bench.client.calls), bench.codes) == ("done", 2, 1, ["worker_lost"])
    assert outcome.attempt is not None
    told = outcome.attempt
    assert (told.started_at, told.duration_s, told.status) == (bench.emitted[0].started_at, 3.5, 200)
    assert (told.bytes_received, told.served_model, told.input_bound, told.error_code) == (77, "m-late", None, None)
    assert loss.used == [True]


async def test_a_row_that_waits_for_its_retry_takes_it() -> None:
    loss = Loss()
    bench = Bench(loss.error, BUSY, Answer(), policy=RetryPolicy(attempts=3))
    outcome = await late_at(bench, loss, 4.1)
    assert numbered(outcome) == (3, LATE, LATE.usage)
    assert (bench.codes, loss.used) == (["worker_lost", "server_error"], [True])


async def test_a_row_that_is_held_for_its_refusal_takes_it() -> None:
    loss = Loss()
    bench = Bench(loss.error, REFUSED, policy=RetryPolicy(refused_s=600))
    bench.judge.success("m", 1)
    # others come, so that it is not known yet whose refusal it is
    others = [bench.lane.enter(0, str(number)) for number in range(5)]
    found: list[Outcome | None] = []

    async def handle() -> None:
        with anyio.fail_after(3_600):
            found.append(await bench.attempts.handle(an_item(), bench.emit))

    async with anyio.create_task_group() as group:
        group.start_soon(handle)
        await anyio.sleep(4.5)
        assert (bench.codes, found) == (["worker_lost", "bad_request"], [])
        assert loss.comes()
    assert anyio.current_time() - bench.start < 6
    assert numbered(settled(found[0])) == (3, LATE, LATE.usage)
    for one in others:
        bench.lane.leave(one)


class Watching:
    """Whoever is told of attempts."""

    def __init__(self) -> None:
        self.told: list[tuple[str, int, str | None, str]] = []

    def opened(self, one: OpenAttempt) -> None:
        self.told.append(("opened", one.attempt.number, None, ""))

    def closed(self, one: OpenAttempt, attempt: Attempt, answer: Completion) -> None:
        assert one.attempt.number == attempt.number
        self.told.append(("closed", attempt.number, attempt.error_code, answer.text))


async def test_a_request_that_is_out_by_then_is_ended_and_recorded() -> None:
    loss = Loss()
    bench = Bench(loss.error, HANG)
    bench.attempts.open.watcher = watching = Watching()
    outcome = await late_at(bench, loss, 60.0)
    # the answer is told with the attempt that has it
    lost, cancelled, late = (watching.told[place : place + 2] for place in (0, 2, 4))
    assert lost == [("opened", 1, None, ""), ("closed", 1, "worker_lost", "")]
    assert cancelled == [("opened", 2, None, ""), ("closed", 2, "cancelled", "")]
    assert (late, len(watching.told)) == ([("opened", 3, None, ""), ("closed", 3, None, "late")], 6)
    assert len(bench.attempts.open) == 0
    assert numbered(outcome) == (3, LATE, LATE.usage)
    assert (bench.codes, [attempt.sent for attempt in bench.emitted]) == (["worker_lost", "cancelled"], [True, True])
    # perhaps billed
    assert bench.emitted[1].input_bound is not None
    assert "was answered meanwhile" in (bench.emitted[1].error or "")
    # it shows nothing of the server
    assert not bench.lane._outage.likely
    assert loss.used == [True]


async def test_one_that_is_answered_itself_when_it_is_ended_is_the_answer_and_the_late_one_is_booked() -> None:
    class Quick(Client):
        async def stream(self, call: HttpCall, decoder: Decoder, exchange: Exchange, refuse: object) -> None:
            try:
                await super().stream(call, decoder, exchange, refuse)
            except anyio.get_cancelled_exc_class():
                exchange.status, decoder.gathered = 200, HELLO

    loss = Loss()
    bench = Bench()
    bench.client = bench.attempts._client = Quick([loss.error, HANG])
    outcome = await late_at(bench, loss, 30.0)
    assert numbered(outcome) == (2, HELLO, HELLO.usage)
    assert loss.used == [False]


async def test_one_that_fails_for_good_meanwhile_is_recorded_too() -> None:
    class Failing(Client):
        async def stream(self, call: HttpCall, decoder: Decoder, exchange: Exchange, refuse: object) -> None:
            try:
                await super().stream(call, decoder, exchange, refuse)
            except anyio.get_cancelled_exc_class():
                raise REFUSED from None

    loss = Loss()
    bench = Bench(policy=RetryPolicy(refused_s=0))
    bench.judge.success("m", 1)
    bench.client = bench.attempts._client = Failing([loss.error, HANG])
    outcome = await late_at(bench, loss, 30.0)
    assert numbered(outcome) == (3, LATE, LATE.usage)
    assert bench.codes == ["worker_lost", "bad_request"]


async def test_of_two_lost_requests_the_first_that_is_answered_counts() -> None:
    loss = Loss()
    bench = Bench(loss.error, loss.error, HANG)
    outcome = await late_at(bench, loss, 30.0, number=2)
    assert numbered(outcome) == (4, LATE, LATE.usage)
    assert outcome.attempt is not None
    assert outcome.attempt.started_at == bench.emitted[1].started_at
    assert loss.comes(number=1) is False


async def test_a_refusal_that_was_saved_when_the_answer_came_is_saved_once() -> None:
    """The answer comes while the writer has no room for the refused attempt."""
    loss = Loss()
    bench = Bench(loss.error, REFUSED, policy=RetryPolicy(refused_s=600))
    bench.judge.success("m", 1)

    async def emit(entry: Any) -> None:
        await bench.emit(entry)
        if entry.error_code == "bad_request":
            assert loss.comes()

    with anyio.fail_after(3_600):
        outcome = await bench.attempts.handle(an_item(), emit)
    assert numbered(settled(outcome)) == (3, LATE, LATE.usage)
    assert bench.codes == ["worker_lost", "bad_request"]


async def test_a_row_that_is_answered_takes_nothing_any_more() -> None:
    """What it took then would be neither its answer nor on the books."""
    loss = Loss()
    outcome = await Bench(loss.error, Answer()).handle()
    assert (numbered(settled(outcome))[0], loss.comes(), loss.used) == (2, False, [])


async def test_an_answer_that_does_not_count_leaves_the_row_where_it_is() -> None:
    class Particular(Provider):
        def judged(self, completion: Completion) -> Completion | AttemptError:
            return StreamError("it gave up", code="gave_up") if completion is LATE else completion

    loss = Loss()
    outcome = await late_at(Bench(loss.error, Answer(), provider=Particular()), loss, 3.0, taken=False)
    assert (numbered(outcome), loss.used) == ((2, HELLO, HELLO.usage), [])


async def test_an_answer_to_other_words_is_not_taken() -> None:
    """The row was asked again because an answer did not fit."""
    loss = Loss()
    odd = InvalidAnswerError("it does not fit", text="odd")
    bench = Bench(loss.error, odd, Answer(), policy=RetryPolicy(repairs=1))
    outcome = await late_at(bench, loss, 5.0, taken=False)
    assert (numbered(outcome), bench.codes) == ((3, HELLO, HELLO.usage), ["worker_lost", "invalid_output"])


async def test_a_stop_does_not_lose_it() -> None:
    """It comes while the request that is out is ended with the run."""
    loss = Loss()
    bench = Bench(loss.error, HANG)
    found: list[Outcome | None] = []

    async def handle() -> None:
        with anyio.fail_after(3_600):
            found.append(await bench.attempts.handle(an_item(), bench.emit))

    async with anyio.create_task_group() as group:
        group.start_soon(handle)
        await anyio.sleep(5)
        assert loss.comes()
        group.cancel_scope.cancel()
    assert numbered(settled(found[0])) == (3, LATE, LATE.usage)
    assert bench.codes == ["worker_lost", "cancelled"]


class Counting(Purse):
    """A purse that corrects what it has counted."""

    def correct(self, was: Attempt, now: Attempt) -> None:
        before, known = (Amounts(3 if one.usage else 50) if one.sent else Amounts() for one in (was, now))
        self.budget.correct(before, known)


async def test_a_row_that_waits_for_the_budget_takes_it_and_the_budget_has_both_until_the_lost_one_is_given_back() -> None:
    loss = Loss()
    bench = Bench(loss.error, Answer())
    purse = Counting(100, bench)  # type: ignore[arg-type]
    bench.attempts.afford(purse)
    found: list[Outcome | None] = []

    async def emit(entry: Any) -> None:
        if isinstance(entry, Reservation):
            entry.written.set()
        else:
            await bench.emit(entry)

    async def handle() -> None:
        with anyio.fail_after(3_600):
            found.append(await bench.attempts.handle(an_item(), emit))

    async with anyio.create_task_group() as group:
        group.start_soon(handle)
        await anyio.sleep(1)
        # another request, which may use up what is left
        assert purse.budget.take(Amounts(50))
        await anyio.sleep(60)
        assert (bench.codes, purse.budget.waiting) == (["worker_lost"], 1)
        assert loss.comes()
    bench.attempts.saved(settled(found[0]))
    assert (numbered(settled(found[0])), loss.used, purse.budget.waiting) == ((2, LATE, LATE.usage), [True], 0)
    assert (purse.budget.pots[0].used, purse.budget.pots[0].held) == (50 + 3, 50)


@pytest.mark.parametrize("rpm", [1.0, None])
async def test_with_several_endpoints_it_is_recorded_with_its_own_and_the_other_request_with_its(rpm: float | None) -> None:
    """It waits in the queue for a limit of its endpoints, or is out at the other one."""
    loss = Loss()
    fleet = Fleet({"weight": 1.0}, {"weight": 1.0}, each=1, **({"rpm": rpm} if rpm else {}))
    if rpm:
        # the first endpoint has used up its minute; the row is for the second
        fleet.answered(await fleet.go())
    client, saved = Client([loss.error, HANG]), list[Attempt]()
    clock = Clock(monotonic=anyio.current_time, wall=anyio.current_time)
    attempts: Attempts[Exchange] = Attempts(Provider(), client, fleet.lanes, RetryPolicy(), Judge(), Stop(), clock=clock)
    ways = [Way(Provider(), Judge(), number, f"e{number}", ("m", f"m{number}")) for number in range(2)]
    attempts.go_by(ways, client)
    found: list[Outcome | None] = []

    async def emit(attempt: Any) -> None:
        saved.append(attempt)
        attempts.saved(attempt)

    async def handle() -> None:
        with anyio.fail_after(3_600):
            found.append(await attempts.handle(an_item(), emit))

    async with anyio.create_task_group() as group:
        group.start_soon(handle)
        await anyio.sleep(5)
        assert len(client.calls) == (1 if rpm else 2)
        assert loss.comes()
    outcome = settled(found[0])
    attempts.saved(outcome)
    assert outcome.attempt is not None
    assert outcome.completion == LATE
    (first, *others), last = saved, outcome.attempt
    assert (last.endpoint, last.model) == (first.endpoint, first.model)
    # it shows that this one can be asked, and nothing of the other
    assert [way.endpoint for way in ways if way.judge.answered] == [first.endpoint]
    assert [(one.endpoint, one.error_code) for one in others] == ([] if rpm else [("e1", "cancelled")])
    assert (loss.used, fleet.lanes.in_flight, fleet.lane.waiting_items) == ([True], 0, 0)


async def test_one_that_was_refused_for_its_content_and_is_out_at_the_fallback_takes_it_once() -> None:
    """The lost request went to the first endpoint, which refuses the row when it is asked again."""
    loss, lanes_on = Loss(), frozenset({"content_policy"})
    fleet = Fleet({}, {"fallback": True}, each=1, on=lanes_on)
    refused = ProviderError("400: the prompt was refused", code="content_policy", verdict="fail", status=400)
    client, saved = Client([loss.error, refused, HANG]), list[Attempt]()
    clock = Clock(monotonic=anyio.current_time, wall=anyio.current_time)
    attempts: Attempts[Exchange] = Attempts(Provider(), client, fleet.lanes, RetryPolicy(), Judge(), Stop(), clock=clock)
    peers: list[MemberJudge] = []
    judges = [MemberJudge(one, fleet.roster, peers, lambda _: None, model="m") for one in fleet.roster.members]
    attempts.go_by(
        [Way(Provider(), judge, number, f"e{number}", ("m", f"m{number}")) for number, judge in enumerate(judges)], client
    )
    found: list[Outcome | None] = []

    async def emit(attempt: Any) -> None:
        saved.append(attempt)
        attempts.saved(attempt)

    async def handle() -> None:
        found.append(await attempts.handle(an_item(), emit))

    async with anyio.create_task_group() as group:
        group.start_soon(handle)
        await anyio.sleep(30)
        assert (len(client.calls), [one.endpoint for one in saved]) == (3, ["e0", "e0"])
        assert loss.comes()
    outcome = settled(found[0])
    attempts.saved(outcome)
    assert numbered(outcome) == (4, LATE, LATE.usage)
    assert [(one.endpoint, one.error_code) for one in saved] == [
        ("e0", "worker_lost"),
        ("e0", "content_policy"),
        ("e1", "cancelled"),
    ]
    assert (loss.used, loss.comes(), fleet.lanes.in_flight) == ([True], False, 0)


async def test_a_request_that_is_about_to_go_out_when_the_answer_comes_is_ended_at_once() -> None:
    """It comes while files of the row are read: nothing else would end it."""
    lost, client, exchange, way = Lost(), Client([HANG]), Exchange(), Way(Provider(), Judge())
    answered = Attempt(key="k", number=1, started_at=0.0, duration_s=1.0, model="m")
    lost.take(Came(answered, LATE, way, Decoder(), lambda _: None))
    call, permit = HttpCall(url="http://127.0.0.1:9", headers={}, body=b""), Permit(admitted_at=0.0)
    with anyio.fail_after(3_600), pytest.raises(AttemptError, match="answered meanwhile") as raised:
        await send(client, call, Decoder(), exchange, way, permit, anyio.current_time, lost)
    assert (raised.value.code, raised.value.mended) == ("cancelled", True)
