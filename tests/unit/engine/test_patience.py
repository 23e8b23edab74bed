"""Waits that use up no attempt, in virtual time: capacity of the flex tier, and how a row falls back to the standard tier."""

from typing import Any

import anyio
import pytest
from msgspec import structs
from test_attempt import BUSY, HANG, Answer, Bench, Client, Highest, an_item
from virtual import BACKEND
from world import Decoder, Exchange, Provider

from runner.engine.clock import Clock
from runner.engine.limits import Lanes, Limits
from runner.engine.retry import RetryPolicy
from runner.errors import ProviderError
from runner.model import HttpCall, Params, Request
from runner.providers.informed import Informed

pytestmark = pytest.mark.anyio

FULL = ProviderError("429 resource_unavailable", code="no_capacity", verdict="retry", status=429, throttled=True)
LIMITED = ProviderError("429", code="rate_limited", verdict="retry", status=429, throttled=True)


@pytest.fixture
def anyio_backend() -> object:
    return BACKEND


class Tiers(Provider):
    """The body names the tier."""

    def encode(self, request: Request) -> HttpCall:
        return HttpCall(url="http://x", headers={}, body=str(request.tier).encode())


class Full(Client):
    """A server whose flex tier is full for ever."""

    async def stream(self, call: HttpCall, decoder: Decoder, exchange: Exchange, refuse: object) -> None:
        self.steps = [FULL if call.body == b"flex" else Answer()]
        await super().stream(call, decoder, exchange, refuse)


def a_bench(*steps: object, patience_s: float = 600.0, attempts: int = 3) -> Bench:
    return Bench(*steps, policy=RetryPolicy(attempts=attempts, flex_patience_s=patience_s), provider=Tiers())


def tiers(bench: Bench) -> list[str]:
    return [call.body.decode() for call in bench.client.calls]


async def test_a_row_waits_for_capacity_and_uses_no_attempt() -> None:
    bench = a_bench(*[FULL] * 6, Answer(), attempts=1)
    outcome = await bench.handle(tier="flex")
    assert outcome is not None
    assert (outcome.status, outcome.attempts) == ("done", 7)
    assert tiers(bench) == ["flex"] * 7
    assert bench.codes == ["no_capacity"] * 6
    # as long as for a rate limit, and longer each time
    assert bench.slept[0] == 2.0
    assert bench.slept == sorted(bench.slept)


async def test_the_slots_of_the_lane_stay_and_it_is_not_paused() -> None:
    bench = a_bench(FULL, Answer())
    await bench.handle(tier="flex")
    assert bench.lane.paused_s == 0
    # a rate limit is another thing
    limited = a_bench(LIMITED, Answer())
    seen: list[float] = []
    limited._sleep = lambda s: _seeing(seen, limited, s)
    await limited.handle(tier="flex")
    assert max(seen) > 0


async def _seeing(seen: list[float], bench: Bench, seconds: float) -> None:
    seen.append(bench.lane.paused_s)
    await anyio.sleep(seconds)


async def test_a_row_goes_to_the_standard_tier_when_its_patience_is_over() -> None:
    bench = a_bench(patience_s=60.0)
    bench.attempts._client = bench.client = Full([])
    outcome = await bench.handle(tier="flex")
    assert outcome is not None
    assert outcome.status == "done"
    *flex, last = tiers(bench)
    assert (set(flex), last) == ({"flex"}, "None")
    # from the first refusal, two seconds after the start, and two more for the answer
    assert bench.took_s == pytest.approx(2 + 60 + 2, abs=0.1)
    # rows that fell back have timeouts of their own
    assert bench.client.fallbacks == [False] * len(flex) + [True]


async def test_without_patience_a_row_goes_there_at_once() -> None:
    bench = a_bench(FULL, Answer(), patience_s=0.0)
    outcome = await bench.handle(tier="flex")
    assert outcome is not None
    assert tiers(bench) == ["flex", "None"]
    assert (outcome.status, bench.took_s) == ("done", pytest.approx(4.0, abs=0.1))


async def test_patience_that_becomes_shorter_holds_for_rows_that_wait_already() -> None:
    bench = a_bench(patience_s=3600.0)
    bench.attempts._client = bench.client = Full([])

    async def shorter() -> None:
        await anyio.sleep(100)
        bench.attempts.go_flex(20.0)

    async with anyio.create_task_group() as group:
        group.start_soon(shorter)
        outcome = await bench.handle(tier="flex")
    assert outcome is not None
    assert (outcome.status, tiers(bench)[-1]) == ("done", "None")
    assert 120 < bench.took_s < 200
    # no time is left for flex at all
    bench.attempts.go_flex(None)
    asked = len(tiers(bench))
    await bench.handle(tier="flex")
    assert tiers(bench)[asked:] == ["None"]
    bench.attempts.go_flex(20.0)
    await bench.handle(tier="flex")
    assert tiers(bench)[asked + 1] == "flex"


async def test_a_tier_that_nobody_asked_for_is_left_out_where_there_is_none() -> None:
    refusal = ProviderError("400 no tier flex", code="unsupported_tier", verdict="stop", status=400)
    policy = RetryPolicy(attempts=1, flex_is_asked_for=False)
    bench = Bench(refusal, Answer(), Answer(), policy=policy, provider=Tiers())
    outcome = await bench.handle(tier="flex")
    assert outcome is not None
    assert (outcome.status, bench.attempts._stop.requested) == ("done", False)
    bench.attempts.go_flex(60.0)
    await bench.handle(tier="flex")
    assert tiers(bench) == ["flex", "None", "None"]


async def test_a_rate_limit_of_the_standard_tier_has_its_own_patience() -> None:
    bench = a_bench(FULL, LIMITED, LIMITED, Answer(), patience_s=0.0)
    outcome = await bench.handle(tier="flex")
    assert outcome is not None
    assert (outcome.status, tiers(bench)) == ("done", ["flex", "None", "None", "None"])
    # as if nothing had been before
    assert bench.slept[0] == 2.0


async def test_a_row_at_the_standard_tier_is_no_longer_told_to_wait_for_flex() -> None:
    bench = a_bench(FULL, HANG, patience_s=0.0)
    async with anyio.create_task_group() as group:
        group.start_soon(bench.attempts.handle, an_item(tier="flex"), bench.emit)
        await anyio.sleep(45)
        (standing,) = bench.lane._standings
        group.cancel_scope.cancel()
    assert (standing.slow, standing.flex_until) == (False, None)


async def test_a_tier_of_the_rows_own_waits_as_for_a_rate_limit_and_keeps_its_tier() -> None:
    bench = a_bench(FULL, patience_s=0.0)
    outcome = await bench.handle()
    assert outcome is None or outcome.status == "failed"
    assert bench.took_s == pytest.approx(3600, rel=0.05)
    assert bench.codes[-1] == "no_capacity"


async def test_the_lane_tells_what_rows_wait_for() -> None:
    bench = a_bench(FULL, FULL, Answer(), patience_s=90.0)
    seen: list[str | None] = []

    async def sleep(seconds: float) -> None:
        seen.append(bench.lane.state().waiting)
        assert not bench.lane.state().blocked
        await anyio.sleep(seconds)

    bench._sleep = sleep
    await bench.handle(tier="flex")
    assert seen[0] == "flex has no capacity for 1 row; the first goes to the standard tier in 90 s"
    assert bench.lane.state().waiting is None


@pytest.mark.parametrize(("tier", "words"), [("flex", ", as is usual at the flex tier"), (None, "")])
async def test_a_slow_tier_does_not_look_like_a_hang(tier: str | None, words: str) -> None:
    bench = a_bench(HANG)
    async with anyio.create_task_group() as group:
        group.start_soon(bench.attempts.handle, an_item(tier=tier), bench.emit)
        await anyio.sleep(40)
        shown = bench.lane.state().waiting
        group.cancel_scope.cancel()
    assert shown == f"no answer for 40 s; the oldest request has been open for 40 s{words}"


@pytest.mark.parametrize(
    ("tier", "status", "code"),
    [
        ("flex", 503, "no_capacity"),
        ("flex", 500, "server_error"),
        ("priority", 503, "server_error"),
        (None, 503, "server_error"),
    ],
)
def test_a_503_of_the_flex_tier_is_a_lack_of_capacity(tier: str | None, status: int, code: str) -> None:
    error = ProviderError("busy", code=BUSY.code, verdict="retry", status=status)
    request = Request(model="m", messages=({"role": "user", "content": "Hi"},), tier=tier)
    informed = Informed(Tiers())
    explained = informed.explained(error, request, informed.encode(request))
    assert (explained.code, error.throttled) == (code, code == "no_capacity")


@pytest.mark.parametrize(
    ("tier", "own", "status", "code", "throttled"),
    [
        ("flex", {}, 429, "no_capacity", True),
        ("priority", {}, 498, "no_capacity", True),
        (None, {"service_tier": "flex"}, 429, "no_capacity", True),
        (None, {}, 429, "rate_limited", True),
        (None, {}, None, "rate_limited", True),
        (None, {}, 498, "overloaded", False),
        (None, {"service_tier": None}, 498, "overloaded", False),
    ],
)
def test_without_a_tier_it_is_the_endpoint_that_has_no_capacity(
    tier: str | None, own: dict[str, Any], status: int | None, code: str, throttled: bool
) -> None:
    error = ProviderError("full", code="no_capacity", verdict="retry", status=status, throttled=True)
    params = Params(extra_body=own)
    request = Request(model="m", messages=({"role": "user", "content": "Hi"},), tier=tier, params=params)
    informed = Informed(Tiers())
    explained = informed.explained(error, request, informed.encode(request))
    assert (explained.code, explained.verdict, error.throttled) == (code, "retry", throttled)


async def test_a_row_that_failed_in_another_way_does_not_wait_for_capacity() -> None:
    bench = a_bench(FULL, BUSY, Answer(), patience_s=90.0)
    seen: list[str | None] = []

    async def sleep(seconds: float) -> None:
        seen.append(bench.lane.state().waiting)
        await anyio.sleep(seconds)

    bench._sleep = sleep
    await bench.handle(tier="flex")
    assert seen == ["flex has no capacity for 1 row; the first goes to the standard tier in 90 s", None]


# -- slow requests of the flex tier hold the slots


class Slow(Client):
    """A server whose flex tier refuses each second row, and answers the others after an hour. standard_s: until other answers."""

    standard_s = 2.0

    async def stream(self, call: HttpCall, decoder: Decoder, exchange: Exchange, refuse: object) -> None:
        tier, number = call.body.decode().split()
        if tier == "flex" and int(number) % 2 == 0:
            await anyio.sleep(3600.0)
            self.steps = [Answer()]
        else:
            await anyio.sleep(0.0 if tier == "flex" else self.standard_s - 2)
            self.steps = [FULL if tier == "flex" else Answer()]
        await super().stream(call, decoder, exchange, refuse)


class Numbered(Provider):
    """The body names the tier and the row."""

    def encode(self, request: Request) -> HttpCall:
        return HttpCall(url="http://x", headers={}, body=f"{request.tier} {request.messages[0]['content']}".encode())


class Rows:
    """Rows of one lane, each with a worker. done: when each had its answer, by number."""

    def __init__(self, ceiling: int, *, tuned: bool, patience_s: float = 60.0) -> None:
        self.bench = bench = Bench(policy=RetryPolicy(flex_patience_s=patience_s), provider=Numbered())
        bench.lanes = Lanes(Limits(ceiling=ceiling, tuned=tuned), Clock(monotonic=anyio.current_time, random=Highest()))
        bench.lane = bench.lanes.of("m")
        bench.attempts._lanes = bench.lanes
        bench.attempts._client = bench.client = Slow([])
        self.done: dict[int, float] = {}

    async def one(self, number: int) -> None:
        item = an_item(key=str(number), tier="flex")
        request = structs.replace(item.request, messages=({"role": "user", "content": str(number)},))
        outcome = await self.bench.attempts.handle(structs.replace(item, request=request), self.bench.emit)
        assert outcome is not None
        self.bench.attempts.saved(outcome)
        self.done[number] = self.bench.took_s

    @property
    def refused(self) -> set[int]:
        """The rows that flex had no capacity for."""
        return {int(attempt.key) for attempt in self.bench.emitted if attempt.error_code == "no_capacity"}


async def test_a_row_whose_patience_is_over_waits_for_no_slot_of_slow_requests() -> None:
    rows = Rows(64, tuned=True)
    async with anyio.create_task_group() as group:
        for number in range(40):
            group.start_soon(rows.one, number)
        await anyio.sleep(50)
        # all eight slots are taken by slow requests
        assert (rows.bench.lanes.in_flight, rows.done) == (8, {})
        shown = rows.bench.lane.state()
        assert (shown.in_flight, shown.slots) == (8, 8)
        assert shown.waiting == "flex has no capacity for 7 rows; the first goes to the standard tier in 13 s"
        refused = rows.refused
        # patience, and the answer of the standard tier
        await anyio.sleep(60 + 3)
        group.cancel_scope.cancel()
    assert len(refused) == 7
    assert rows.done.keys() >= refused


@pytest.mark.parametrize("ceiling", [2, 8])
async def test_with_a_fixed_number_of_slots_some_are_left_to_such_rows(ceiling: int) -> None:
    rows = Rows(ceiling, tuned=False)
    async with anyio.create_task_group() as group:
        for number in range(1, 40):
            group.start_soon(rows.one, number)
        await anyio.sleep(50)
        assert rows.bench.lanes.in_flight == ceiling - 1
        refused = rows.refused
        # the one place that is kept may be needed for all of them, one after the other
        await anyio.sleep(60 + 2 * len(refused))
        assert rows.bench.lanes.in_flight <= ceiling
        group.cancel_scope.cancel()
    assert rows.done.keys() >= refused
    assert len(refused) >= ceiling // 2


async def test_with_one_slot_such_rows_are_the_next_ones() -> None:
    rows = Rows(1, tuned=False)
    async with anyio.create_task_group() as group:
        for number in (1, 3, 5, 2, 4, 6):
            group.start_soon(rows.one, number)
        await anyio.sleep(100)
        assert rows.bench.lane.state().waiting == "3 rows go to the standard tier, and must wait until an open request ends"
        await anyio.sleep(3600)
        group.cancel_scope.cancel()
    assert sorted(rows.done) == [1, 2, 3, 5]
    assert [call.body for call in rows.bench.client.calls[-3:]] == [b"None 1", b"None 3", b"None 5"]


async def test_rows_that_fell_back_wait_for_slots_of_their_own_and_it_is_said() -> None:
    rows = Rows(64, tuned=True, patience_s=0.0)
    rows.bench.client.standard_s = 100.0
    async with anyio.create_task_group() as group:
        for number in range(1, 22, 2):
            group.start_soon(rows.one, number)
        await anyio.sleep(11)
        state = rows.bench.lane.state()
        group.cancel_scope.cancel()
    assert state.waiting == "3 rows go to the standard tier, and must wait for a slot"
