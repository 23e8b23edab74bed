"""An outage of the endpoint does not count against items; failures of single items do."""

import random
from collections.abc import Callable

import anyio
import pytest
from virtual import BACKEND
from world import REFUSED, Server, World, an_item, busy

from runner.admission import Failure, Permit, Standing
from runner.engine.limits.outage import (
    DOUBT_S,
    FIRST_PROBE_S,
    LAST_PROBE_S,
    PROBE_FACTOR,
    QUOTA,
    REFUSED_PROBE_S,
    SOFT_PROBE_S,
    Census,
    Outage,
)
from runner.errors import AttemptError, AttemptTimeoutError, ProviderError, StreamError, TransportError
from runner.model import Attempt


class Highest(random.Random):
    """Draws the upper bound."""

    def uniform(self, a: float, b: float) -> float:
        return b


class Bench:
    """An outage with a clock that stands still until a test moves it."""

    def __init__(self) -> None:
        self.now = 100.0
        self.outage = Outage(lambda: self.now, Highest())
        self.innocent = 9
        self.unsent = 1

    def sent(self, ago: float = 0.0) -> Permit:
        return Permit(admitted_at=self.now - ago)

    def fail(self, permit: Permit | None = None, reason: str = "server_error") -> bool:
        census = Census(innocent=self.innocent, failing=self.innocent, untried=0, unsent=self.unsent)
        return self.outage.failed(permit or self.sent(), reason, census, soft=False)

    def succeed(self, permit: Permit | None = None) -> bool:
        return self.outage.answered(permit or self.sent(), success=True)

    def begin(self) -> None:
        while not self.fail():
            self.now += 0.1

    def probe(self) -> Permit:
        """Wait until a probe may be sent, and send it."""
        left = self.outage.probe_in_s
        assert left is not None
        self.now += left
        permit = self.sent()
        self.outage.send_probe(permit)
        return permit


# -- its beginning


def test_so_many_failures_in_a_row_begin_one() -> None:
    bench = Bench()
    begun = [bench.fail() for _ in range(int(QUOTA))]
    assert begun == [False] * (int(QUOTA) - 1) + [True]
    assert (bench.outage.since, bench.outage.reason) == (bench.now, "server_error")
    # it begins only once
    assert not bench.fail()


def test_a_success_puts_one_failure_back_and_no_more_than_there_were() -> None:
    bench = Bench()
    for _ in range(1000):
        bench.succeed()
    for _ in range(int(QUOTA) - 1):
        assert not bench.fail()
    bench.succeed()
    assert not bench.fail()
    assert bench.fail()


def test_failures_at_random_of_one_in_five_never_begin_one() -> None:
    bench, draw = Bench(), random.Random(1)
    for _ in range(200_000):
        bench.now += 0.01
        if draw.random() < 0.2:
            assert not bench.fail()
        else:
            bench.succeed()


def test_it_began_with_the_first_failure_and_not_before_the_last_success() -> None:
    bench = Bench()
    bench.succeed()
    bench.now += 50
    bench.fail(bench.sent(ago=10))
    first = bench.now - 10
    bench.now += 3
    bench.begin()
    assert bench.outage.since == first


def test_a_success_shows_that_it_had_not_begun() -> None:
    bench = Bench()
    slow = bench.sent()
    bench.now += 20
    bench.succeed()
    good = bench.now
    bench.fail(slow)
    bench.begin()
    assert bench.outage.since == good


def test_there_is_none_when_all_who_are_there_have_failed_while_others_succeeded() -> None:
    bench = Bench()
    bench.innocent = 0
    for _ in range(100):
        assert not bench.fail()
    bench.innocent = 9
    assert bench.fail()


# -- the probes


def test_probes_go_one_at_a_time() -> None:
    bench = Bench()
    bench.begin()
    probe = bench.probe()
    assert bench.outage.probe_in_s is None
    bench.now += 1000
    assert bench.outage.probe_in_s is None
    bench.fail(probe)
    assert bench.outage.probe_in_s is not None


def test_probes_go_at_growing_intervals_up_to_the_longest() -> None:
    bench, waits = Bench(), []
    bench.begin()
    for _ in range(12):
        left = bench.outage.probe_in_s
        assert left is not None
        waits.append(left)
        bench.fail(bench.probe())
    assert waits[:4] == pytest.approx([FIRST_PROBE_S * PROBE_FACTOR**n for n in range(4)])
    assert waits[-1] == LAST_PROBE_S
    assert max(waits) == LAST_PROBE_S


def test_the_next_outage_begins_with_short_waits_again() -> None:
    bench = Bench()
    bench.begin()
    for _ in range(10):
        bench.fail(bench.probe())
    bench.succeed(bench.probe())
    bench.begin()
    assert bench.outage.probe_in_s == FIRST_PROBE_S


def test_other_failures_do_not_put_the_next_probe_off() -> None:
    bench = Bench()
    bench.begin()
    before = bench.outage.probe_in_s
    for _ in range(50):
        bench.fail(bench.sent(ago=30))
    assert bench.outage.probe_in_s == before


def test_a_probe_that_was_given_up_makes_room_for_another() -> None:
    bench = Bench()
    bench.begin()
    bench.outage.lost(bench.probe())
    assert bench.outage.probe_in_s == 0


@pytest.mark.parametrize("success", [True, False])
def test_the_first_probe_that_is_answered_ends_it(success: bool) -> None:
    bench = Bench()
    bench.begin()
    assert bench.outage.answered(bench.probe(), success=success)
    assert bench.outage.since is None
    # the new outage needs the whole quota
    assert [bench.fail() for _ in range(int(QUOTA))].index(True) == int(QUOTA) - 1


def test_an_answer_that_had_been_asked_for_before_says_nothing_about_now() -> None:
    bench = Bench()
    old = bench.sent()
    bench.begin()
    bench.now += 5
    assert not bench.succeed(old)
    assert bench.outage.since is not None


def test_a_probe_that_only_suspects_were_left_for_ends_it() -> None:
    """Otherwise the last rows, which always fail, would be probes for ever."""
    bench = Bench()
    bench.begin()
    bench.innocent = 0
    bench.fail(bench.probe())
    assert bench.outage.since is None


# -- whose failure it was


def test_an_outage_of_refusals_ends_with_an_answer_only() -> None:
    bench = Bench()
    bench.outage.refuse(bench.now, "bad_request", late=False)
    bench.innocent, bench.unsent = 0, 0
    waits = []
    for number in range(40):
        probe = bench.probe()
        waits.append(bench.outage.probe_in_s)
        # whatever the server does in the meantime, and whoever is left
        if number % 2:
            bench.fail(probe)
        else:
            bench.outage.refused(probe)
        assert bench.outage.since is not None
        waits.append(bench.outage.probe_in_s)
    known = [wait for wait in waits if wait is not None]
    assert max(known[:20]) == REFUSED_PROBE_S
    assert known[-1] == SOFT_PROBE_S
    # a request that was sent before the first refusal proves nothing
    assert not bench.succeed(Permit(admitted_at=99.0))
    assert bench.succeed(bench.probe())
    assert (bench.outage.since, bench.outage.refusing) == (None, False)


def test_failures_inside_are_excused_and_those_that_led_to_it() -> None:
    bench = Bench()
    bench.succeed()
    before = Failure(bench.now - 5, bench.now - 1)
    bench.now += 10
    led = Failure(bench.now, bench.now + 1)
    bench.begin()
    inside = Failure(bench.now, bench.now)
    bench.now += 500
    probe = bench.probe()
    for _ in range(2):
        assert [bench.outage.excuses(failure) for failure in (before, led, inside)] == [False, True, True]
        bench.succeed(probe)
    bench.now += 100
    assert not bench.outage.excuses(Failure(bench.now - 1, bench.now))


def test_a_suspect_has_failed_while_others_succeeded() -> None:
    bench = Bench()
    bad, good = Standing(), Standing()
    bad.failures.append(Failure(bench.now - 2, bench.now - 1))
    assert not bench.outage.suspects(bad)
    bench.succeed()
    assert (bench.outage.suspects(bad), bench.outage.suspects(good)) == (True, False)


def test_an_excused_failure_makes_no_suspect() -> None:
    bench = Bench()
    bench.begin()
    standing = Standing(failures=[Failure(bench.now, bench.now)])
    bench.succeed(bench.probe())
    assert not bench.outage.suspects(standing)


# -- the whole lane before a server that goes away


BEGIN_S, END_S = 60.0, 660.0
FAULTS: dict[str, AttemptError] = {
    "500": busy(500),
    "529": busy(529),
    "connect": REFUSED,
    "first_byte": AttemptTimeoutError("no first byte", timeout="first_byte"),
    "hint": ProviderError("503", code="server_error", verdict="retry", status=503, retry_after_s=7.0),
}
LATE_FAULTS: dict[str, AttemptError] = {
    "cut": TransportError("the connection broke", code="cut"),
    "truncated": StreamError("no finish reason", code="truncated"),
}


@pytest.fixture
def anyio_backend() -> object:
    return BACKEND


def gone(error: AttemptError, poison: frozenset[str] = frozenset()) -> Callable[[str, float], AttemptError | None]:
    """Return the fault of a server that is gone for ten minutes, and answers some items with 500 at any time."""
    return lambda item, since: busy() if item in poison else error if BEGIN_S <= since < END_S else None


@pytest.mark.anyio
@pytest.mark.parametrize("tuned", [True, False])
@pytest.mark.parametrize("fault", [*FAULTS, *LATE_FAULTS])
async def test_ten_minutes_without_a_server_cost_no_item(fault: str, tuned: bool) -> None:
    error = FAULTS.get(fault) or LATE_FAULTS[fault]
    server = Server(fault=gone(error), late=fault in LATE_FAULTS)
    world = World(server, ceiling=64, tuned=tuned, workers=64)
    await world.work(4000)
    assert [outcome.error_code for outcome in world.failed] == []
    assert len(world.outcomes) == 4000
    assert world.retries < 0.1 * server.requests
    back = min(time for time in server.times if time >= END_S)
    assert back <= END_S + LAST_PROBE_S + 1
    # and then it soon is as fast as before
    before, after = (sum(at <= time < at + 10 for time in server.times) for at in (BEGIN_S - 20, back + 10))
    assert after > 0.8 * before


@pytest.mark.anyio
@pytest.mark.parametrize(("ceiling", "attempts"), [(1, 5), (2, 2), (4, 2), (16, 2)])
async def test_an_outage_that_takes_its_time_to_show_costs_no_item(ceiling: int, attempts: int) -> None:
    """With few requests at once, or slow failures, some items would use up their attempts before the outage is recognised."""
    server = Server(fault=gone(busy(503)), late=True)
    world = World(server, ceiling=ceiling, tuned=False, attempts=attempts)
    await world.work(1000)
    assert [outcome.error_code for outcome in world.failed] == []
    assert len(world.outcomes) == 1000


@pytest.mark.anyio
async def test_a_probe_on_a_stale_connection_is_not_the_last_one() -> None:
    """It shows nothing, and another probe takes its place; else the outage would never end."""
    found = 0

    def fault(_item: str, since: float) -> AttemptError | None:
        nonlocal found
        if not 20 <= since < 120:
            return None
        found += 1
        return TransportError("closed", code="closed", stale=True) if found % 3 == 1 else REFUSED

    world = World(Server(fault=fault), ceiling=16, tuned=False)
    with anyio.fail_after(3600):
        await world.work(600)
    assert (len(world.outcomes), world.failed) == (600, [])
    assert "closed" in {entry.error_code for entry in world.entries if isinstance(entry, Attempt)}


@pytest.mark.anyio
async def test_an_item_that_always_fails_does_so_by_its_own_attempts() -> None:
    poison = frozenset({"500", "1500", "3999"})
    server = Server(fault=gone(busy(503), poison))
    world = World(server, ceiling=64, workers=64)
    await world.work(4000)
    assert {outcome.key for outcome in world.failed} == poison
    assert {outcome.error_code for outcome in world.failed} == {"server_error"}
    assert [server.by_item[item] for item in poison] == [5, 5, 5]


@pytest.mark.anyio
@pytest.mark.parametrize("count", [3, 25, 30])
async def test_items_that_always_fail_at_the_end_of_a_run_fail_by_their_own_attempts(count: int) -> None:
    poison = frozenset(map(str, range(1000 - count, 1000)))
    world = World(Server(fault=gone(busy(), poison)), ceiling=64, workers=64)
    await world.work(1000)
    assert {outcome.key for outcome in world.failed} == poison
    assert world.stop.reason is None


@pytest.mark.anyio
@pytest.mark.parametrize(("ceiling", "tuned"), [(64, True), (64, False), (256, False)])
async def test_one_failure_in_five_at_random_is_never_an_outage(ceiling: int, tuned: bool) -> None:
    draw, seen = random.Random(4), set[str | None]()
    server = Server(fault=lambda _item, _since: busy() if draw.random() < 0.2 else None)
    world = World(server, ceiling=ceiling, tuned=tuned)

    async def look() -> None:
        while True:
            await anyio.sleep(0.1)
            seen.add(world.lane.state().waiting)

    async with anyio.create_task_group() as group:
        group.start_soon(look)
        await world.work(5000)
        group.cancel_scope.cancel()
    assert seen == {None}
    # five times in a row one in five
    assert len(world.failed) < 0.01 * 5000


LAST = ["503", "529", "first_byte", "connect", "closed"]
FAULTS["503"], FAULTS["closed"] = busy(503), TransportError("closed", code="closed")


@pytest.mark.anyio
@pytest.mark.parametrize("fault", LAST)
@pytest.mark.parametrize("left", [2, 3, 4, 5, 9])
async def test_ten_minutes_without_a_server_cost_none_of_the_last_items(left: int, fault: str) -> None:
    server = Server()
    server.fault = lambda _item, since: FAULTS[fault] if server.served >= 100 and since < END_S else None
    world = World(server, ceiling=4, tuned=False)
    await world.work(100 + left)
    assert [outcome.error_code for outcome in world.failed] == []
    assert len(world.outcomes) == 100 + left
    back = min(time for time in server.times if time >= END_S)
    assert back <= END_S + LAST_PROBE_S + 1


@pytest.mark.anyio
@pytest.mark.parametrize("left", [2, 3, 5, 9])
async def test_answers_that_end_in_an_outage_do_not_make_the_last_items_suspects(left: int) -> None:
    """A server that accepts no new requests finishes those that it has begun."""
    begun = set[str]()

    def draining(item: str, since: float) -> AttemptError | None:
        if item not in begun and 3 <= since < END_S:
            return busy(503)
        begun.add(item)
        return None

    server = Server(fault=draining, service=(4.0, 12.0))
    world = World(server, ceiling=20, tuned=False)
    await world.work(20 + left)
    assert [outcome.error_code for outcome in world.failed] == []
    assert len(world.outcomes) == 20 + left


@pytest.mark.anyio
@pytest.mark.parametrize("count", [2, 3, 5])
async def test_items_that_always_fail_while_others_begin_are_suspects(count: int) -> None:
    """All items are sent at once, so none is sent after their first failure."""
    poison = frozenset(str(item) for item in range(0, 60, 60 // count))
    world = World(Server(fault=lambda item, _since: busy(503) if item in poison else None), ceiling=64, tuned=False)
    await world.work(60)
    assert {outcome.key for outcome in world.failed} == poison
    assert world.server.times[-1] < 60


@pytest.mark.anyio
@pytest.mark.parametrize("left", [2, 3, 4])
async def test_the_last_few_items_that_always_fail_do_not_hold_a_run_up_much_longer(left: int) -> None:
    """One after another, so that no other item is answered after their first failure."""
    server = Server(fault=lambda item, _since: busy(503) if int(item) >= 100 else None)
    world = World(server, ceiling=1, tuned=False)
    await world.work(100 + left)
    assert {outcome.key for outcome in world.failed} == {str(item) for item in range(100, 100 + left)}
    assert {outcome.error_code for outcome in world.failed} == {"server_error"}
    assert world.stop.reason is None
    # DOUBT_S, and the few attempts before and after it
    assert server.times[-1] < 100 * 2.0 + DOUBT_S + 60


@pytest.mark.anyio
async def test_the_very_last_item_may_be_the_trouble_itself() -> None:
    server = Server(fault=lambda item, _since: busy(503) if item == "100" else None)
    world = World(server, ceiling=1, tuned=False)
    await world.work(101)
    assert [outcome.key for outcome in world.failed] == ["100"]
    assert server.by_item["100"] == 5


@pytest.mark.anyio
async def test_a_few_items_before_a_server_that_never_answered_do_not_wait() -> None:
    world = World(Server(fault=lambda _item, _since: busy(503)))
    await world.work(3)
    assert len(world.failed) == 3
    assert world.server.times[-1] < 60


@pytest.mark.anyio
async def test_one_item_that_waits_alone_through_an_outage_is_answered() -> None:
    server = Server(fault=lambda _item, since: busy(503) if since < 300 else None)
    world = World(server, workers=64)
    await world.work([an_item(number) for number in range(25)])
    assert [outcome.error_code for outcome in world.failed] == []
