"""A budget in virtual time: who gets an amount when, when it is reached, and real lanes under it."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import aclosing, nullcontext
from typing import Any

import anyio
import pytest
from msgspec import structs
from virtual import BACKEND
from world import REFUSED, USAGE, Server, World, an_item, busy, limited

from runner.admission import Amounts, Reservation
from runner.engine.admitting import Quote
from runner.engine.bounds import Bounds
from runner.engine.limits.budget import QUIET_S, Budget, Pot
from runner.engine.prefixes import whole_texts
from runner.engine.warming import Warming
from runner.errors import AttemptError, ProviderError
from runner.interfaces import Handle, Items
from runner.model import Attempt, Entry, HttpCall, Item, Outcome
from runner.money import Price
from runner.session import backlog

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> object:
    return BACKEND


class Scene:
    """A budget of 10, and what became of those who asked."""

    def __init__(self, *pots: Pot) -> None:
        self.reached: list[Amounts] = []
        self.budget = Budget(pots or (Pot("max_cost", "cost", 10),), self.reached.append)
        self.got: list[str] = []

    async def asks(self, name: str, cost: int) -> None:
        await self.budget.wait(Amounts(cost))
        self.got.append(name)


async def test_amounts_are_given_in_the_order_in_which_they_are_asked_for() -> None:
    scene = Scene()
    assert scene.budget.take(Amounts(8))
    async with anyio.create_task_group() as group:
        group.start_soon(scene.asks, "large", 5)
        await anyio.sleep(1)
        group.start_soon(scene.asks, "small", 1)
        await anyio.sleep(1)
        # it would fit, but the other has asked before
        assert (scene.got, scene.budget.take(Amounts(1)), scene.budget.waiting) == ([], False, 2)
        scene.budget.settle(Amounts(8), Amounts(2))
        await anyio.sleep(1)
    assert (scene.got, scene.budget.pots[0].used, scene.budget.pots[0].held) == (["large", "small"], 2, 6)
    assert scene.reached == []


async def test_a_request_that_no_refund_makes_room_for_lets_the_others_pass() -> None:
    scene = Scene()
    assert scene.budget.take(Amounts(4))
    async with anyio.create_task_group() as group:
        group.start_soon(scene.asks, "too large", 11)
        await anyio.sleep(1)
        group.start_soon(scene.asks, "small", 5)
        await anyio.sleep(1)
        assert scene.got == ["small"]
        assert scene.budget.take(Amounts(1))
        group.cancel_scope.cancel()
    assert scene.budget.waiting == 0


async def test_what_is_known_late_makes_room_unless_a_request_was_passed() -> None:
    scene = Scene(Pot("max_cost", "cost", 10, used=6))
    async with anyio.create_task_group() as group:
        scene.budget.take(Amounts(4))
        group.start_soon(scene.asks, "waits", 3)
        await anyio.sleep(1)
        scene.budget.correct(Amounts(6), Amounts(2))
        await anyio.sleep(1)
        assert scene.got == ["waits"]
        # this one was passed: its row is out of its lane, and room for it would come too late
        group.start_soon(scene.asks, "too large", 9)
        await anyio.sleep(1)
        scene.budget.correct(Amounts(2), Amounts(0))
        await anyio.sleep(1)
        assert (scene.got, scene.budget.pots[0].used) == (["waits"], 2)
        scene.budget.correct(Amounts(0), Amounts(1))
        assert scene.budget.pots[0].used == 3
        group.cancel_scope.cancel()


async def test_it_is_reached_once_nothing_is_held_and_not_even_the_smallest_fits() -> None:
    scene = Scene()
    assert scene.budget.take(Amounts(9))
    async with anyio.create_task_group() as group:
        group.start_soon(scene.asks, "large", 6)
        group.start_soon(scene.asks, "smaller", 5)
        await anyio.sleep(100)
        assert scene.reached == []
        scene.budget.settle(Amounts(9), Amounts(6))
        await anyio.sleep(QUIET_S / 2)
        assert scene.reached == []
        await anyio.sleep(QUIET_S)
        assert (scene.reached, scene.got) == ([Amounts(5)], [])
        group.cancel_scope.cancel()


async def test_a_row_that_comes_a_moment_later_may_still_fit() -> None:
    scene = Scene()
    async with anyio.create_task_group() as group:
        group.start_soon(scene.asks, "too large", 11)
        await anyio.sleep(QUIET_S / 2)
        assert scene.budget.take(Amounts(10))
        await anyio.sleep(100)
        assert scene.reached == []
        scene.budget.settle(Amounts(10), Amounts(1))
        await anyio.sleep(QUIET_S * 2)
        assert scene.reached == [Amounts(11)]
        group.cancel_scope.cancel()


async def test_a_row_that_was_read_a_moment_ago_may_still_find_a_worker() -> None:
    async def rows() -> AsyncGenerator[Item | Outcome, None]:
        await anyio.sleep(QUIET_S * 0.7)
        yield an_item(1)
        await anyio.sleep_forever()

    scene = Scene()
    async with anyio.create_task_group() as group, aclosing(scene.budget.items(rows(), lambda: True)) as items:
        group.start_soon(scene.asks, "too large", 11)
        await anext(items)
        await anyio.sleep(QUIET_S * 0.6)
        assert scene.reached == []
        group.cancel_scope.cancel()


def test_a_request_that_costs_more_by_now_counts_for_the_largest_one() -> None:
    scene = Scene()
    assert scene.budget.take(Amounts(3, 1))
    assert scene.budget.change(Amounts(3, 1), Amounts(7, 2))
    assert not scene.budget.change(Amounts(7, 2), Amounts(11, 1))
    # by it, the limit is said with which the run finishes
    assert scene.budget.largest == Amounts(11, 2)
    assert scene.budget.pots[0].held == 7


async def test_who_stops_waiting_gives_back_what_it_got_in_that_instant() -> None:
    scene = Scene()
    assert scene.budget.take(Amounts(10))
    asking = asyncio.ensure_future(scene.asks("gone", 10))
    await anyio.sleep(1)
    scene.budget.settle(Amounts(10), Amounts())
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert (scene.budget.pots[0].held, scene.budget.holders, scene.budget.waiting) == (0, 0, 0)
    assert scene.budget.take(Amounts(10))


async def test_all_limits_hold_together() -> None:
    scene = Scene(
        Pot("max_cost", "cost", 100), Pot("max_cost_session", "cost", 10), Pot("max_tokens_total", "tokens", 50, used=20)
    )
    assert not scene.budget.take(Amounts(11, 1))
    assert not scene.budget.take(Amounts(1, 31))
    assert scene.budget.take(Amounts(10, 30))
    assert [pot.held for pot in scene.budget.pots] == [10, 10, 30]


TOO_LARGE = 1_000_000
"""More than any budget here."""


class Purse:
    """Each request costs 50 at most, and 3 in fact; one whose usage is not known may have cost all."""

    def __init__(self, limit: int, stop: World) -> None:
        # what a request costs at most, by its model and the time
        self.costs: Callable[[str, float], int] = lambda model, _: TOO_LARGE if model == "large" else 50
        self.quoted: list[float] = []
        self.budget = Budget([Pot("max_cost", "cost", limit)], lambda _: stop.stop.request("reached", grace_s=0.0))

    def quote(self, model: str, bound: Bounds, at: float) -> Quote:
        if model == "unknown":
            raise AttemptError("no price", code="unpriced", verdict="fail", sent=False)
        self.quoted.append(at)
        return Quote(Amounts(self.costs(model, at)), 1, Price(model=model, tier="standard", rates=None))

    def used(self, attempt: Attempt, reserved: Reservation) -> Amounts:
        if attempt.status is not None and attempt.status >= 300:
            return Amounts()
        return Amounts(3) if attempt.usage == USAGE else Amounts(50)


class Bounded(World):
    """A world with a budget. It ends within a day of virtual time, or the test fails.

    asked: a program gives the rows, and waits for their answers before it gives more.
    """

    def __init__(self, server: Server, limit: int, *, asked: bool = False, **more: Any) -> None:
        super().__init__(server, **{"ceiling": 20, "tuned": False, **more})
        self._asked = asked
        self.purse = Purse(limit, self)
        self.attempts.afford(self.purse)
        self.written: set[tuple[str, int]] = set()

    def around(self, items: Items, handle: Handle) -> tuple[Items, Handle]:
        return self.purse.budget.items(items, lambda: not self._asked), self.purse.budget.handle(handle)

    async def work(self, items: int | Iterable[Item] | Items) -> None:
        with anyio.fail_after(86_400):
            await super().work(items)

    async def save(self, entries: list[Entry | Reservation]) -> None:  # type: ignore[override]
        for one in entries:
            if isinstance(one, Reservation):
                (self.written.discard if one.void else self.written.add)((one.key, one.number))
                one.written.set()
        saved = [one for one in entries if not isinstance(one, Reservation)]
        await super().save(saved)
        for entry in saved:
            attempt = entry if isinstance(entry, Attempt) else entry.attempt
            if attempt is not None:
                # nothing goes out before it is written
                self.written.remove((attempt.key, attempt.number))
        (pot,) = self.purse.budget.pots
        assert pot.used + pot.held <= pot.limit


async def test_a_budget_becomes_answers_but_for_the_last_request() -> None:
    world = Bounded(Server(), 1000)
    await world.work(2000)
    assert (world.stop.reason, world.written) == ("reached", set())
    # 3 for each answer, until there is no room for 50 any more
    assert len(world.outcomes) == (1000 - 50) // 3 + 1
    assert world.purse.budget.pots[0].held == 0


async def test_failures_give_back_what_they_cannot_have_cost() -> None:
    world = Bounded(Server(fault=lambda item, since: busy() if int(item) % 3 == 0 and since < 5 else None), 400)
    await world.work(90)
    assert (world.stop.reason, len(world.outcomes), world.purse.budget.pots[0].used) == (None, 90, 270)


async def test_a_row_whose_cost_nobody_knows_fails_and_is_not_sent() -> None:
    world = Bounded(Server(), 1000)
    await world.work([an_item(1), an_item(2, model="unknown"), an_item(3)])
    assert [(outcome.key, outcome.error_code, outcome.attempts) for outcome in world.failed] == [("2", "unpriced", 0)]
    assert (world.stop.reason, world.server.requests) == (None, 2)


async def test_a_lane_that_waits_does_not_hold_slots_of_another() -> None:
    """A refused model, tried again and again, and one that answers share a budget that is always short."""
    world = Bounded(Server(fault=lambda item, _: busy(503) if item.startswith("9") else None), 160)
    items = [an_item(f"9{number}", model="ill") for number in range(5)] + [an_item(number) for number in range(1, 9)]
    await world.work(items)
    assert {outcome.key for outcome in world.outcomes if outcome.status == "done"} == {str(number) for number in range(1, 9)}


# -- a row that is too large for what is left, and others that hold nothing at the moment


def around_a_large_one(number: int = 30) -> list[Item]:
    return [an_item(one, model="large" if one == 3 else "m") for one in range(number)]


FULL = ProviderError("full", code="no_capacity", verdict="retry", status=429, throttled=True)


@pytest.mark.parametrize(
    ("fault", "more"),
    [
        pytest.param(lambda item, since: None, {"per_minute": {"rpm": 30}}, id="a limit per minute"),
        pytest.param(lambda item, since: limited(20) if since < 10 else None, {}, id="a pause"),
        pytest.param(lambda item, since: busy() if since < 5 else None, {"attempts": 9}, id="a retry"),
        pytest.param(lambda item, since: FULL if since < 60 else None, {}, id="capacity"),
        pytest.param(lambda item, since: REFUSED if since < 10 else None, {}, id="an outage"),
        pytest.param(lambda item, since: REFUSED if 1 < since < 90 else None, {"ceiling": 2}, id="an outage later"),
        pytest.param(lambda item, since: None, {"ceiling": 1}, id="a permit"),
    ],
)
async def test_it_is_not_reached_while_another_row_may_go_out(
    fault: Callable[[str, float], AttemptError | None], more: dict[str, Any]
) -> None:
    world = Bounded(Server(fault=fault), 5000, **more)
    await world.work(around_a_large_one())
    assert world.stop.reason == "reached"
    assert {outcome.key for outcome in world.outcomes if outcome.status == "done"} == {str(one) for one in range(30) if one != 3}


async def test_it_is_not_reached_while_rows_are_read() -> None:
    async def slowly() -> AsyncGenerator[Item | Outcome, None]:
        for item in around_a_large_one(8):
            await anyio.sleep(60)
            yield item

    world = Bounded(Server(), 5000)
    await world.work(slowly())
    assert (world.stop.reason, len(world.outcomes)) == ("reached", 7)


async def test_it_is_reached_when_a_program_waits_for_the_row_that_is_too_large() -> None:
    async def asked() -> AsyncGenerator[Item | Outcome, None]:
        for item in around_a_large_one(4):
            yield item
        await anyio.sleep_forever()

    world = Bounded(Server(), 5000, asked=True)
    await world.work(asked())
    assert (world.stop.reason, len(world.outcomes)) == ("reached", 3)


async def test_it_is_not_reached_while_rows_wait_for_a_slow_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backlog, "AHEAD", 4)
    read = backlog.Backlog()

    class Read(Bounded):
        def around(self, items: Items, handle: Handle) -> tuple[Items, Handle]:
            return super().around(read.items(items), read.handle(handle, self.stop, nullcontext()))

    world = Read(Server(), 5000)
    read.begin()
    async with anyio.create_task_group() as group:
        group.start_soon(world.work, around_a_large_one())
        await anyio.sleep(600)
        assert (world.stop.reason, len(world.outcomes)) == (None, 3)
        read.leave()
    assert (world.stop.reason, len(world.outcomes)) == ("reached", 29)


async def test_it_is_reached_when_no_worker_is_free_for_a_smaller_row() -> None:
    world = Bounded(Server(), 5000)
    read = 0

    def rows() -> Iterable[Item]:
        nonlocal read
        for read in range(1, 1_000_000):
            yield an_item(read, model="large")

    await world.work(rows())
    assert (world.stop.reason, world.outcomes) == ("reached", [])
    # those that the workers have, and the queue
    assert read <= 100


async def test_a_refused_row_does_not_wait_for_one_that_cannot_go_out() -> None:
    """Whose refusal it is is decided when all rows of the lane are refused, and so not with one that says nothing."""
    refusal = ProviderError("no", code="bad_request", verdict="fail", status=403)
    world = Bounded(Server(fault=lambda _, since: refusal), 5000)
    # both are of one lane
    world.purse.costs = lambda _, __: 50 if not world.purse.quoted[1:] else TOO_LARGE
    await world.work(2)
    assert (world.stop.reason, [outcome.key for outcome in world.failed]) == ("reached", ["0"])


async def test_a_row_whose_amount_another_one_got_waits() -> None:
    world = Bounded(Server(service=(60, 60)), 106, per_minute={"rpm": 30})
    async with anyio.create_task_group() as group:
        # two of them see room for one while they wait for the limit
        group.start_soon(world.work, 3)
        await anyio.sleep(30)
        # else the lane would show it as open for long
        assert sorted(standing.waits for standing in world.lane._standings) == [False, False, True]
    assert len(world.outcomes) == 3


async def test_a_cancelled_request_leaves_no_reservation() -> None:
    """Else the next session takes it for one that was open when the process was killed."""

    class Slow(Bounded):
        async def save(self, entries: list[Entry | Reservation]) -> None:  # type: ignore[override]
            await anyio.sleep(5)
            await super().save(entries)

    world = Slow(Server(), 5000)
    with anyio.move_on_after(1):
        await world.work(3)
    assert (world.server.requests, world.written) == (0, set())


async def test_another_row_warms_a_prefix_if_the_first_is_too_large() -> None:
    class Warmed(Bounded):
        def around(self, items: Items, handle: Handle) -> tuple[Items, Handle]:
            warming = Warming(whole_texts(None, 0), anyio.current_time)
            self.attempts.begun = warming.begun
            self.attempts.afford(self.purse, warming.let_go)
            return super().around(warming.items(items), warming.handle(handle))

    def row(number: int) -> Item:
        item = an_item(number, model="large" if number < 2 else "m")
        shared = {"role": "system", "content": "the same for all"}
        messages = ({"role": "user", "content": str(number)}, shared)
        return structs.replace(item, request=structs.replace(item.request, messages=(shared, *messages)))

    world = Warmed(Server(), 5000)
    await world.work([row(number) for number in range(9)])
    assert (world.stop.reason, len(world.outcomes)) == ("reached", 7)


@pytest.mark.parametrize(("limit", "done"), [(5000, 3), (96, 3), (80, 0)])
async def test_a_row_that_waits_for_its_permit_for_long_holds_what_it_may_cost_by_then(limit: int, done: int) -> None:
    """The server asks for a long pause at once, and the price has risen when that is over."""
    held = []

    def fault(_: str, since: float) -> AttemptError | None:
        held.append(world.purse.budget.pots[0].held)
        return limited(2000) if since < 1900 else None

    world = Bounded(Server(fault=fault), limit, ceiling=1)
    risen = anyio.current_time() + 1900
    world.purse.costs = lambda _, at: 50 if at < risen else 90
    await world.work(3)
    assert (len(world.outcomes), world.stop.reason) == (done, None if done else "reached")
    assert held == [50] + [90] * 2 * done


async def test_a_row_whose_price_ends_while_it_waits_for_its_permit_gives_back_what_it_holds() -> None:
    world = Bounded(Server(fault=lambda _, since: limited(2000) if since < 1900 else None), 96, ceiling=1)
    ends = anyio.current_time() + 1900

    def cost(_: str, at: float) -> int:
        if at < ends:
            return 50
        raise AttemptError("no price any more", code="unpriced", verdict="fail", sent=False)

    world.purse.costs = cost
    await world.work(3)
    assert [outcome.error_code for outcome in world.failed] == ["unpriced"] * 3
    assert (world.stop.reason, world.purse.budget.holders, world.purse.budget.pots[0].held) == (None, 0, 0)


async def test_a_request_goes_out_as_it_was_when_its_amount_was_held_and_is_learned_anew_before() -> None:
    """A parameter is learned each time that a reservation is written: between what a request holds and when it goes out."""
    bounds: list[tuple[int, int | None]] = []

    class Learning(Bounded):
        async def save(self, entries: list[Entry | Reservation]) -> None:  # type: ignore[override]
            for one in entries:
                if isinstance(one, Reservation):
                    bounds.append((one.input_bound, one.cache_1h_bound))
                    provider.revision += 1
            await super().save(entries)

    world = Learning(Server(), 5000, ceiling=1)
    provider: Any = world.attempts._provider
    provider.encode = lambda _: HttpCall(url="http://x", headers={}, body=b'"1h"' + b"x" * (6 + provider.revision))
    await world.work(3)
    assert [len(body) for body in world.server.by_item] == [10, 11, 12]
    # all of the input may be written to a cache of an hour
    assert bounds == [(10, 10), (11, 11), (12, 12)]
