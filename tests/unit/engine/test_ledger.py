"""Where the time of all slots goes, in virtual time: scenarios whose division is known by construction, and random ones."""

import random
from collections.abc import AsyncGenerator, Callable

import anyio
import pytest
from msgspec import structs
from virtual import BACKEND
from world import REFUSED, USAGE, Decoder, Exchange, Server, World, an_item, busy, limited

from runner.admission import Permit
from runner.engine.clock import Clock
from runner.engine.limits import Lanes, Limits
from runner.engine.limits.first_tokens import BLOCK, FirstTokens
from runner.engine.limits.ledger import FULL, Ledger, Reading
from runner.engine.prefixes import only_head
from runner.engine.warming import Warming
from runner.errors import AttemptError, ProviderError
from runner.interfaces import Handle, Items
from runner.model import Completion, Entry, Item, Outcome
from runner.time_ledger import PARTS, TimeLedger, ledger_of

pytestmark = pytest.mark.anyio
FLEX_FULL = ProviderError("full", code="no_capacity", verdict="retry", status=429, throttled=True)


@pytest.fixture
def anyio_backend() -> object:
    return BACKEND


class Paced(Server):
    """Answers after a time to the first token, and more for the rest. first_s: of a request, by the seconds since the start."""

    def __init__(self, first_s: Callable[[float], float], rest_s: float, **more: object) -> None:
        super().__init__(**more)  # type: ignore[arg-type]
        self.first_s, self.rest_s = first_s, rest_s

    async def _serve(self, item: str, decoder: Decoder, exchange: Exchange) -> None:
        self.in_flight += 1
        try:
            first_s = self.first_s(self.since)
            await anyio.sleep(first_s)
            exchange.status, exchange.connected, exchange.time_to_first_token_s = 200, True, first_s
            if exchange.heard is not None:
                exchange.heard(200, ())
            await anyio.sleep(self.rest_s)
        finally:
            self.in_flight -= 1
        if (error := self.fault(item, self.since)) is not None:
            raise error
        decoder.gathered = Completion(text="x", finish_reason="stop", usage=USAGE)


class Measured(World):
    """A world that counts, and whose writer takes its time."""

    save_s = 0.0

    async def save(self, entries: list[Entry]) -> None:
        if self.save_s:
            await anyio.sleep(self.save_s)
        await super().save(entries)

    async def measured(self, items: int | list[Item] | AsyncGenerator[Item | Outcome, None]) -> TimeLedger:
        self.lanes.ledger.begin()
        await self.work(items)
        return adds_up(self.lanes.ledger.read())


def adds_up(reading: Reading) -> TimeLedger:
    """Return the ledger, whose parts add up to the number of slots over time, which is counted by itself."""
    found = ledger_of(reading.causes, reading.total_s, elapsed_s=reading.at_s)
    assert sum(getattr(found, part) for part in PARTS) == pytest.approx(found.total_s, rel=1e-4, abs=1e-4)
    assert min(getattr(found, part) for part in PARTS) >= -1e-6
    return found


def divided(found: TimeLedger, **seconds: float) -> None:
    """Assert that each part is as it should be, within 1 % of the whole; parts that are not named are nothing."""
    whole = sum(seconds.values())
    assert found.total_s == pytest.approx(whole, rel=0.01)
    for part in PARTS:
        assert getattr(found, part) == pytest.approx(seconds.get(part.removesuffix("_s"), 0.0), abs=0.01 * whole), part


# -- divisions that are known


async def test_a_limit_of_requests_holds_slots_back() -> None:
    """60 a minute: one begins each second and takes two, so two of ten slots are in use, until the last."""
    world = Measured(Paced(lambda _: 1.0, 1.0), ceiling=10, tuned=False, per_minute={"rpm": 60})
    found = await world.measured(200)
    # the last begins at 199; before, fewer rows wait than slots are free: seven, six, ...
    divided(found, answering=400, limits=8 * 199 - 28, idle=28 + 8 + 9)
    assert found.causes["rpm"] == pytest.approx(found.limits_s)


async def test_a_limit_of_tokens_holds_slots_back() -> None:
    """6,000 tokens a minute, and each request counts 150 once answers have shown it, so one goes each 1.5 seconds."""
    world = Measured(Paced(lambda _: 1.0, 2.0), ceiling=10, tuned=False, per_minute={"tpm": 6_000})
    found = await world.measured(300)
    idle = 1.5 * (28 + 8 + 9)
    divided(found, answering=900, limits=10 * (world.server.times[-1] + 3) - 900 - idle, idle=idle)
    assert found.causes["tpm"] == pytest.approx(found.limits_s)


async def test_a_pause_that_the_server_asks_for_is_a_limit() -> None:
    """All is refused from second 20 on, until second 50, and each refusal asks to wait that long."""

    def fault(_item: str, since: float) -> AttemptError | None:
        return limited(50 - since) if 20 <= since < 50 else None

    world = Measured(Paced(lambda _: 0.4, 0.6, fault=fault, late=False), ceiling=8, tuned=False)
    found = await world.measured(600)
    # each slot waits from then until one of the first eight requests after it
    after = [at for at in world.server.times if at >= 50][:8]
    divided(found, answering=600, limits=sum(at - 20 for at in after), idle=found.idle_s)
    assert found.idle_s < 8


async def test_an_outage_is_told_from_retries() -> None:
    """No connection from second 10 to 110; probes find the end of it at most 15 seconds later."""

    def fault(_item: str, since: float) -> AttemptError | None:
        return REFUSED if 10 <= since < 110 else None

    world = Measured(Paced(lambda _: 0.4, 0.6, fault=fault, late=False), ceiling=8, tuned=False)
    found = await world.measured(1000)
    after = [at for at in world.server.times if at >= 110][:8]
    assert after[0] < 125
    divided(found, answering=1000, outage=sum(at - 10 for at in after), idle=found.idle_s)
    assert found.idle_s < 8


async def test_a_server_that_cannot_be_reached_is_down_though_few_rows_show_it() -> None:
    world = Measured(Paced(lambda _: 0.4, 0.6, fault=lambda _, since: REFUSED if since < 5 else None), ceiling=3, tuned=False)
    found = await world.measured(3)
    divided(found, answering=3, outage=found.total_s - 3 - found.idle_s, idle=found.idle_s)
    assert found.outage_s > 3 * 5


async def test_an_outage_with_errors_of_the_server() -> None:
    def fault(_item: str, since: float) -> AttemptError | None:
        return busy() if 10 <= since < 110 else None

    world = Measured(Paced(lambda _: 0.4, 0.6, fault=fault, late=False), ceiling=32, tuned=False)
    found = await world.measured(1500)
    after = [at for at in world.server.times if at >= 110][:32]
    divided(found, answering=1500, outage=sum(at - 10 for at in after), idle=found.idle_s)
    assert found.idle_s < 32


async def test_a_slow_server_queue_is_what_lies_beyond_its_best() -> None:
    """0.4 s to the first token at first, 3 s later, 0.6 s for the rest; all slots are always in use."""
    world = Measured(Paced(lambda since: 0.4 if since < 30 else 3.0, 0.6), ceiling=8, tuned=False)
    found = await world.measured(8 * 30 + 8 * 100)
    reading = world.lanes.ledger.read()
    assert (reading.best_first_token_s, reading.streamed) == (pytest.approx(0.4), 1040)
    divided(found, answering=1040 * 1.0, server_queue=800 * 2.6)


async def test_waits_for_a_retry_when_no_other_row_can_go() -> None:
    """Four rows, four slots; each fails twice. What is no answer and no failed attempt is the wait."""
    tried: dict[str, int] = {}

    def fault(item: str, _since: float) -> AttemptError | None:
        tried[item] = tried.get(item, 0) + 1
        return busy() if tried[item] <= 2 else None

    world = Measured(Paced(lambda _: 4.0, 6.0, fault=fault, late=False), ceiling=4, tuned=False)
    found = await world.measured(4)
    assert found.answering_s == pytest.approx(4 * 10 + 8 * 0.02, rel=0.01)
    assert found.retry_wait_s == pytest.approx(found.total_s - found.answering_s - found.idle_s, rel=0.01)
    assert found.retry_wait_s > 1


async def test_the_tail_of_a_run_is_idle() -> None:
    """One long answer and nine short ones in ten slots."""
    world = Measured(Paced(lambda since: 0.5, 0.5, fault=lambda item, since: None), ceiling=10, tuned=False)
    first = iter([99.5] + [0.5] * 9)
    world.server.first_s = lambda _: next(first)  # type: ignore[attr-defined]
    found = await world.measured(10)
    divided(found, answering=109, idle=9 * 99)
    assert found.causes["end"] == found.idle_s


async def test_slots_that_are_always_full() -> None:
    world = Measured(Paced(lambda _: 0.5, 0.5), ceiling=16, tuned=False)
    divided(await world.measured(16 * 50), answering=800)


async def test_saving_is_ours() -> None:
    """Answers of 0.9 s, each saved in 0.1: all of a wave come at once."""
    world = Measured(Paced(lambda _: 0.5, 0.4), ceiling=8, tuned=False)
    world.save_s = 0.1
    divided(await world.measured(8 * 40), answering=8 * 40 * 0.9, runner=8 * 40 * 0.1)


async def test_slow_reading_is_ours_and_the_slots_that_tune_themselves_are_counted_as_they_are() -> None:
    """A row comes each second, and takes half of one: of eight slots, half of one is in use."""

    async def slow() -> AsyncGenerator[Item | Outcome, None]:
        for number in range(200):
            await anyio.sleep(1.0)
            yield an_item(number)

    world = Measured(Paced(lambda _: 0.2, 0.3), ceiling=64, tuned=True)
    found = await world.measured(slow())
    divided(found, answering=100, runner=8 * 200 - 99.5, idle=7 * 0.5)
    assert found.causes["reading"] == pytest.approx(found.runner_s)


async def test_two_models_one_of_which_is_paused() -> None:
    """Places for eight requests: while one model is paused, the other may use all of them."""
    world = Measured(Paced(lambda _: 0.5, 0.5), ceiling=8, tuned=False)
    world.lanes.of("n").pause(100, "429")
    items = [an_item(f"{model}{number}", model=model) for number in range(80) for model in "mn"]
    found = await world.measured(items)
    # 80 of the one in 10 seconds, then the pause alone, then the rest; the workers are shared, so the first takes some longer
    assert found.answering_s == pytest.approx(160, rel=0.01)
    assert found.causes["pause"] + found.causes.get("end", 0) == pytest.approx(found.total_s - 160, rel=0.02)
    assert found.causes["pause"] > 8 * 80
    assert found.total_s == pytest.approx(8 * found.elapsed_s, rel=0.001)


async def test_a_row_that_comes_alone_and_waits_is_counted() -> None:
    """One row in eight slots: it waits ten seconds for a pause, the next one a second for a limit, and the last is cancelled."""
    lanes = Lanes(Limits(ceiling=8, tuned=False, per_minute={"rpm": 60}), Clock(monotonic=anyio.current_time))
    lane, ledger = lanes.of("m"), lanes.ledger
    lanes.last()
    ledger.begin()
    lane.pause(10, "429")
    lane.release(await lane.acquire(lane.enter(0), 100, None), unused=True)
    lane.release(await lane.acquire(lane.enter(0), 100, None))
    lane.release(await lane.acquire(lane.enter(0), 100, None))
    lane.pause(20, "429")
    with anyio.move_on_after(5):
        await lane.acquire(lane.enter(0), 100, None)
    # nothing waits any more
    await anyio.sleep(5)
    found = adds_up(ledger.read())
    divided(found, limits=10 + 1 + 5, idle=7 * 16 + 8 * 5)
    assert (found.causes["pause"], found.causes["rpm"]) == (pytest.approx(15, rel=1e-3), pytest.approx(1, rel=1e-3))


async def test_a_stop_ends_the_count_of_what_waits() -> None:
    world = Measured(Paced(lambda _: 0.5, 9.5), ceiling=8, tuned=False, per_minute={"rpm": 600})

    async def stop() -> None:
        await anyio.sleep(100)
        world.stop.request("Ctrl-C", grace_s=5.0)

    world.lanes.ledger.begin()
    async with anyio.create_task_group() as group:
        group.start_soon(stop)
        await world.work(10_000)
    found = adds_up(world.lanes.ledger.read())
    assert found.total_s == pytest.approx(8 * found.elapsed_s, rel=0.001)
    assert 100 <= found.elapsed_s <= 105.2


async def test_a_cancelled_session_adds_up() -> None:
    world = Measured(Paced(lambda _: 0.5, 9.5), ceiling=8, tuned=False)
    world.lanes.ledger.begin()
    with anyio.move_on_after(95):
        await world.work(10_000)
    found = adds_up(world.lanes.ledger.read())
    divided(found, answering=8 * 95)
    assert found.causes["failed"] == pytest.approx(8 * 5, rel=0.05)


# -- whatever happens


async def test_rows_that_fall_back_from_flex_add_up() -> None:
    """Flex has no capacity for an hour; after ten minutes each row goes to the standard tier, which has slots of its own."""

    def fault(_item: str, since: float) -> AttemptError | None:
        return FLEX_FULL if since < 595 else None

    world = Measured(Paced(lambda _: 0.5, 0.5, fault=fault, late=False), ceiling=8, tuned=True)
    items = [structs.replace(one, request=structs.replace(one.request, tier="flex")) for one in map(an_item, range(30))]
    found = await world.measured(items)
    assert world.failed == []
    assert found.causes["capacity"] > 0.9 * found.total_s
    assert found.answering_s == pytest.approx(30, rel=0.01)


async def test_rows_of_a_prefix_that_wait_until_it_is_warm_are_ours() -> None:
    """Twenty rows share a prefix: one goes alone for the four seconds until its answer begins."""

    class Warmed(Measured):
        def around(self, items: Items, handle: Handle) -> tuple[Items, Handle]:
            head = (0, 10)
            warming = Warming(only_head(head), anyio.current_time, shared=True)
            self.attempts.begun, warming.holds = warming.begun, self.lanes.ledger.holds
            return warming.items(items), warming.handle(handle)

    world = Warmed(Paced(lambda _: 4.0, 1.0), ceiling=20, tuned=False)
    found = await world.measured([an_item(f"the same head {number}") for number in range(20)])
    # the slot of the first is free while the others are answered
    divided(found, answering=20 * 5, runner=19 * 4, idle=4)
    assert found.causes["warming"] == pytest.approx(19 * 4, rel=0.01)


async def test_rows_that_wait_for_a_budget_are_held_by_a_limit_and_no_row_by_who_gives_none() -> None:
    lanes = Lanes(Limits(ceiling=8, tuned=False), Clock(monotonic=anyio.current_time))
    lane, ledger = lanes.of("m"), lanes.ledger
    ledger.begin()
    with lane.resting(lane.enter(0), "budget"), lane.resting(lane.enter(0), "budget"):
        await anyio.sleep(10)
    ledger.asks(True)
    await anyio.sleep(5)
    ledger.asks(False)
    with ledger.resting("reader"):
        await anyio.sleep(1)
    divided(adds_up(ledger.read()), limits=2 * 10, runner=6 * 10 + 7, idle=8 * 5 + 1)


@pytest.mark.parametrize("seed", range(20))
async def test_the_parts_add_up_whatever_happens(seed: int) -> None:
    draw = random.Random(seed)
    chance = draw.choice([0.0, 0.05, 0.4])
    down = draw.uniform(5, 40)

    def fault(item: str, since: float) -> AttemptError | None:
        if down <= since < down + draw.choice([0, 0, 25]):
            return draw.choice([REFUSED, busy(), busy(529)])
        if draw.random() < chance:
            return draw.choice([limited(), limited(3.0), busy(), busy(529), REFUSED, FLEX_FULL])
        return None

    server = Server(draw.choice([6, 40, 10_000]), service=(0.1, draw.choice([0.5, 6.0])), fault=fault, seed=seed)
    per_minute = draw.choice([{}, {"rpm": 300.0}, {"tpm": 20_000.0}, {"rpm": 900.0, "tpm": 60_000.0}])
    world = Measured(server, ceiling=draw.choice([1, 8, 32]), tuned=draw.random() < 0.5, per_minute=per_minute, seed=seed)
    world.save_s = draw.choice([0.0, 0.05])
    models = draw.choice([["m"], ["m", "n", "o"]])
    items = [an_item(number, model=draw.choice(models)) for number in range(draw.choice([3, 100, 200]))]
    if draw.random() < 0.3:
        items = [structs.replace(one, request=structs.replace(one.request, tier="flex")) for one in items]
    if draw.random() < 0.3:
        world.lanes.ledger.begin()
        with anyio.move_on_after(draw.uniform(1, 30)):
            await world.work(items)
        adds_up(world.lanes.ledger.read())
    else:
        await world.measured(items)


# -- the best time to the first token


def test_the_best_is_no_single_answer_and_is_not_forgotten() -> None:
    tokens = FirstTokens()
    for _ in range(BLOCK - 1):
        tokens.add(0.4)
    assert (tokens.best_s, tokens.beyond_s()) == (None, 0.0)
    tokens.add(0.01)
    assert tokens.best_s == 0.4
    for _ in range(10 * BLOCK):
        tokens.add(2.0)
    assert tokens.best_s == 0.4
    assert tokens.beyond_s() == pytest.approx(10 * BLOCK * 1.6)
    assert tokens.count == 11 * BLOCK


def test_before_it_begins_nothing_counts() -> None:
    now = [0.0]
    ledger = Ledger(lambda: now[0], 8, 8)
    now[0] = 50.0
    ledger.begin()
    now[0] = 60.0
    ledger.end()
    now[0] = 90.0
    reading = ledger.read()
    assert (reading.total_s, reading.causes["reading"]) == (80.0, 80.0)


def test_after_its_end_nothing_counts_of_a_request_that_is_open_then() -> None:
    now = [0.0]
    ledger = Ledger(lambda: now[0], 8, 8)
    ledger.begin()
    permit = Permit(admitted_at=0.0)
    ledger.wait(FULL, 1)
    ledger.hold(permit, FULL)
    now[0] = 5.0
    ledger.end()
    at_end = ledger.read()
    # long enough for the clock of the processor
    sum(range(100_000))
    now[0] = 10.0
    assert ledger.read() == at_end
    permit.sent_at = 8.0
    ledger.release(permit, None, out_of_service=False)
    assert ledger.read() == at_end
    assert (at_end.at_s, at_end.total_s, at_end.causes["answering"]) == (5.0, 40.0, 5.0)
    adds_up(at_end)


def test_what_ends_at_once_ends_at_one_instant_and_adds_up() -> None:
    now = [0.0]

    def clock() -> float:
        # each look takes time
        now[0] += 0.5
        return now[0]

    ledger = Ledger(clock, 8, 8)
    ledger.begin()
    permits = []
    for _ in range(3):
        ledger.wait(FULL, 1)
        permits.append(Permit(admitted_at=clock()))
        ledger.hold(permits[-1], FULL)
    with ledger.at_once():
        at = now[0]
        for permit in permits:
            ledger.release(permit, None, out_of_service=False)
    assert now[0] == at
    reading = ledger.read()
    assert reading.held_s == sum(at - permit.admitted_at for permit in permits)
    assert reading.total_s == pytest.approx(8 * reading.at_s)


def test_rows_that_wait_for_slots_of_their_own_model_leave_the_others_without_a_row() -> None:
    now = [0.0]
    ledger = Ledger(lambda: now[0], 8, 8)
    ledger.begin()
    now[0] = 1.0
    ledger.wait(FULL, 3)
    now[0] = 2.0
    ledger.rest("program")
    now[0] = 3.0
    assert {cause: seconds for cause, seconds in ledger.read().free.items() if seconds} == {"reading": 8, "end": 8, "program": 8}
