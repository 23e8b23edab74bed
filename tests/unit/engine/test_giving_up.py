"""A row that a person gives up, wherever it is by then: what was paid for is kept or booked, and nothing is held any more."""

from typing import Any

import anyio
import pytest
from test_attempt import BUSY, HANG, HELLO, Answer, Bench, Client, an_item, settled
from test_budget import Purse
from test_lost_requests import REFUSED, Loss
from virtual import BACKEND
from world import Decoder, Exchange

from runner.admission import Reservation, Standing
from runner.engine.collective import Collective
from runner.engine.giving_up import CANCELLED, GivingUp
from runner.engine.retry import RetryPolicy
from runner.errors import TransportError
from runner.model import HttpCall, Item, Outcome, Stage

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> object:
    return BACKEND


class Staged(Client):
    """An answer that has come as far as a stage, and whose body goes on."""

    stage = Stage.OPEN

    async def stream(self, call: HttpCall, decoder: Decoder, exchange: Exchange, refuse: object) -> None:
        decoder.stage, decoder.complete, decoder.gathered = self.stage, self.stage > Stage.OPEN, HELLO
        await super().stream(call, decoder, exchange, refuse)


async def given_up(bench: Bench) -> Outcome:
    """Handle an item, and give it up after a second."""
    found: list[Outcome | None] = []

    async def handle() -> None:
        found.append(await bench.handle())

    async with anyio.create_task_group() as group:
        group.start_soon(handle)
        await anyio.sleep(1)
        bench.attempts.rows.give_up("k")
    return settled(found[0])


@pytest.mark.parametrize("stage", Stage)
async def test_an_answer_counts_if_no_text_can_be_missing(stage: Stage) -> None:
    bench, client = Bench(), Staged([HANG])
    client.stage = stage
    bench.client = bench.attempts._client = client
    outcome = await given_up(bench)
    assert outcome.attempt is not None
    if stage < Stage.WHOLE:
        assert (outcome.status, outcome.error_code, outcome.attempt.error_code) == ("failed", CANCELLED, "cancelled")
    else:
        assert (outcome.status, outcome.attempt.error_code) == ("done", None)
        assert outcome.completion is not None
        assert "tail_lost" in outcome.completion.notes


async def test_what_is_heard_later_of_a_request_whose_worker_was_lost_in_that_moment_is_booked() -> None:
    class Losing(Client):
        async def stream(self, call: HttpCall, decoder: Decoder, exchange: Exchange, refuse: object) -> None:
            try:
                await super().stream(call, decoder, exchange, refuse)
            except anyio.get_cancelled_exc_class():
                raise loss.error from None

    loss, bench = Loss(), Bench()
    bench.client = bench.attempts._client = Losing([HANG])
    outcome = await given_up(bench)
    assert outcome.attempt is not None
    assert (outcome.error_code, outcome.attempt.error_code) == (CANCELLED, "worker_lost")
    # there is one who can be told, and the row takes nothing any more
    assert loss.comes() is False


async def test_a_refused_row_that_is_given_up_while_its_attempt_waits_for_the_writer_waits_for_no_other_row() -> None:
    bench = Bench(REFUSED, policy=RetryPolicy(refused_s=600))
    bench.judge.success("m", 1)
    # others come, so that it is not known yet whose refusal it is
    others = [bench.lane.enter(0, str(number)) for number in range(5)]

    async def emit(entry: Any) -> None:
        bench.attempts.rows.give_up("k")
        await bench.emit(entry)

    outcome = None
    with anyio.move_on_after(60):
        outcome = await bench.attempts.handle(an_item(), emit)
    assert settled(outcome).error_code == CANCELLED
    for one in others:
        bench.lane.leave(one)
    assert (bench.lanes.in_flight, bench.lane.waiting_items) == (0, 0)


async def test_a_session_that_is_cancelled_while_it_is_paused_leaves_no_reservation() -> None:
    bench, reserved = Bench(Answer()), list[tuple[Reservation, bool]]()
    bench.attempts.afford(Purse(100, bench))  # type: ignore[arg-type]
    bench.attempts.obey(bench.lanes.halt)

    async def emit(entry: Any) -> None:
        # the pause comes while the store has it written
        bench.lanes.pause("paused", 0.0)
        reserved.append((entry, entry.void))
        entry.written.set()

    with anyio.move_on_after(10):
        await bench.attempts.handle(an_item(), emit)
    assert (bench.client.calls, [void for _, void in reserved]) == ([], [False, True])


async def test_a_row_that_is_sent_again_twice_before_its_files_are_read_is_sent_once() -> None:
    bench = Bench(Answer())
    encoded = bench.attempts._sender.encoded

    async def slowly(item: Item) -> Any:
        await anyio.sleep(1)
        return await encoded(item)

    bench.attempts._sender.encoded = slowly  # type: ignore[method-assign]
    found = list[Outcome | None]()

    async def handle(item: Item) -> None:
        found.append(await bench.attempts.handle(item, bench.emit))

    async with anyio.create_task_group() as group:
        for _ in range(2):
            bench.attempts.rows.send_again(item := an_item())
            group.start_soon(handle, item)
            await anyio.sleep(0.5)
    assert len(bench.client.calls) == 1
    assert [one and one.status for one in found] == [None, "done"]


@pytest.mark.parametrize("stale", [False, True])
async def test_a_probe_that_shows_nothing_makes_room_for_another(stale: bool) -> None:
    """Its row is given up, or its connection was stale. Else no row of the lane would go out any more."""
    steps = [TransportError("closed", code="closed", stale=True)] if stale else []
    bench = Bench(*steps, HANG)
    bench.lane.enter(0), bench.lane.enter(0)
    for _ in range(20):
        permit = await bench.lane.acquire(Standing(), 400, None)
        bench.lane.failed(permit, BUSY, None, throttled=False, retried=True)
        bench.lane.release(permit)
    found: list[Outcome | None] = []

    async def handle() -> None:
        found.append(await bench.attempts.handle(an_item(), bench.emit))

    async with anyio.create_task_group() as group:
        group.start_soon(handle)
        # the row is the probe; where its connection was stale, it is the next one too
        await anyio.sleep(600)
        assert len(bench.client.calls) == 1 + stale
        bench.attempts.rows.give_up("k")
    bench.attempts.saved(settled(found[0]))
    with anyio.fail_after(600):
        assert (await bench.lane.acquire(Standing(), 400, None)).probe


@pytest.mark.parametrize("stopped", [False, True])
async def test_a_row_is_at_work_until_its_outcome_is_saved_or_there_is_none(stopped: bool) -> None:
    bench = Bench(Answer())
    if stopped:
        bench.stop.request("Ctrl-C", grace_s=0)
    outcome = await bench.attempts.handle(an_item(), bench.emit)
    assert bench.attempts.rows.at_work("k") is not stopped
    if not stopped:
        bench.attempts.saved(settled(outcome))
    assert not bench.attempts.rows.at_work("k")


def test_a_row_that_was_given_up_ahead_may_be_asked_again() -> None:
    rows = GivingUp()
    rows.give_up_ahead("k")
    assert [rows.is_given_up("k") for _ in range(2)] == [True, False]
    rows.give_up_ahead("k")
    rows.send_again(an_item())
    assert not rows.ahead


async def test_a_row_that_is_given_up_while_its_attempt_waits_for_the_writer_is_not_sent_again() -> None:
    bench = Bench(BUSY, Answer())

    async def emit(entry: Any) -> None:
        bench.attempts.rows.give_up("k")
        await bench.emit(entry)

    outcome = settled(await bench.attempts.handle(an_item(), emit))
    # its wait for the retry is none of which the end was asked for
    assert (outcome.error_code, len(bench.client.calls), bench.slept) == (CANCELLED, 1, [])


@pytest.mark.parametrize("budget", [False, True])
@pytest.mark.parametrize("stopped", [False, True])
async def test_a_request_gives_back_its_part_once_it_is_saved_or_is_not_sent_after_all(stopped: bool, budget: bool) -> None:
    """Else rows would wait for a budget that nobody uses, or the store say after a kill that more requests had been open."""
    bench, collective = Bench(Answer()), Collective(None, 100, None, lambda: 0.0)
    purse = Purse(100, bench)  # type: ignore[arg-type]
    bench.attempts.reserve(collective)
    bench.attempts.obey(bench.lanes.halt)
    if budget:
        bench.attempts.afford(purse)

    reserved: list[Reservation] = []

    async def emit(entry: Any) -> None:
        entry.written.set()
        reserved.append(entry)
        if stopped:
            # it waits for the end of a pause, and holds all that it needs
            bench.lanes.pause("paused", 0.0)

    def held() -> int:
        return purse.budget.pots[0].held if budget else sum(row.open.requests for row in collective._rows)

    found: list[Outcome | None] = []

    async def handle() -> None:
        found.append(await bench.attempts.handle(an_item(), emit))

    async with anyio.create_task_group() as group:
        group.start_soon(handle)
        await anyio.sleep(10)
        assert held() > 0
        if stopped:
            bench.stop.request("Ctrl-C", grace_s=0)
    if not stopped:
        bench.attempts.saved(settled(found[0]))
    assert (held(), len(bench.client.calls), bench.lanes.in_flight) == (0, 0 if stopped else 1, 0)
    # the store has it no more, either; what is held together is written anew as a whole
    assert not budget or reserved[-1].void == stopped


async def test_a_stop_in_the_moment_in_which_the_store_has_a_reservation_takes_it_out_again() -> None:
    bench, reserved = Bench(Answer()), list[bool]()
    bench.attempts.afford(Purse(100, bench))  # type: ignore[arg-type]

    async def emit(entry: Any) -> None:
        reserved.append(entry.void)
        entry.written.set()
        if not entry.void:
            bench.stop.request("Ctrl-C", grace_s=0)

    assert await bench.attempts.handle(an_item(), emit) is None
    assert (reserved, bench.client.calls, bench.lanes.in_flight) == ([False, True], [], 0)
