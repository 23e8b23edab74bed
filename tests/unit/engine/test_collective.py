"""Reservations for all requests that are open: when there is room, when they are written again, and what they say then."""

import random
from typing import Any

import anyio
import pytest

from runner.admission import TOGETHER, Reservation, Standing
from runner.engine.collective import IDLE_S, MOST_KINDS, QUOTE_S, Collective
from runner.engine.task import Task
from runner.model import Attempt, Item, Params, Request
from runner.money import Rates
from runner.providers.dialects import anthropic, openai

pytestmark = pytest.mark.anyio


def rates(each: int) -> Rates:
    return Rates(input=each, output=each, cached_input=each, cache_write=each, reasoning=each, cache_write_1h=2 * each)


class List:
    """Prices of the models "m" and "same" (1), "dear" (3, and 9 for more than 1,000 tokens of input), "1" (100), "2" (200) ..."""

    def __init__(self) -> None:
        self.asked, self.times = 0, 1

    def highest(self, model: str, at: float, tier: str | None, input_tokens: int) -> Rates | None:
        self.asked += 1
        if model.isdecimal():
            return rates(100 * int(model))
        cheap = rates(self.times)
        return {"m": cheap, "same": cheap, "dear": rates(9 if input_tokens > 1000 else 3)}.get(model)

    def limit(self, model: str) -> int | None:
        return 500 if model == "dear" else None


class Written:
    """Takes what is to be written, and says that it is, at once or when it is told to."""

    def __init__(self, *, at_once: bool = True) -> None:
        self.all: list[Reservation] = []
        self._at_once = at_once

    async def __call__(self, entry: Attempt | Reservation) -> None:
        assert isinstance(entry, Reservation)
        self.all.append(entry)
        if self._at_once:
            entry.written.set()

    def commit(self) -> None:
        for one in self.all:
            one.written.set()

    @property
    def last(self) -> Reservation:
        return self.all[-1]

    @property
    def rows(self) -> dict[int, Reservation]:
        """What the store has once all is written, by number."""
        found = {one.number: one for one in self.all}
        return {number: one for number, one in found.items() if not one.void}


class Clock:
    def __init__(self) -> None:
        self.now = 1e9

    def __call__(self) -> float:
        return self.now


PROVIDER = openai.make("http://127.0.0.1:1/v1", None, version="1")


def task(text: str = "hi", model: str = "m", **more: Any) -> Task:
    messages, provider = more.pop("messages", ({"role": "user", "content": text},)), more.pop("provider", PROVIDER)
    request = Request(model=model, messages=messages, params=Params(**{"max_tokens": 10, **more}))
    item = Item(key="k", position=1, request=request, metadata={}, fingerprint=1)
    nothing: Any = None
    return Task(item, provider.encode(request), nothing, Standing(), 0, nothing)


async def admitted(collective: Collective, one: Task, emit: Written) -> Task:
    while not collective.take(one):
        await collective.widen(one, emit)
    return one


def size(*tasks: Task) -> int:
    return sum(len(one.call.body) for one in tasks)


def end(one: Task) -> None:
    assert one.share is not None
    one.share.end()


async def test_there_is_room_for_all_that_are_open_and_none_is_given_away_twice() -> None:
    collective, emit, tasks = Collective(List(), 100, None, Clock()), Written(), [task("x" * n) for n in range(40)]
    for number, one in enumerate(tasks, 1):
        await admitted(collective, one, emit)
        assert emit.last.requests >= number
        assert emit.last.input_bound >= size(*tasks[:number])
        assert emit.last.output_bound is not None
        assert emit.last.output_bound >= 10 * number
    last = emit.last
    assert (last.key, last.number, last.price.rates, last.price.model, last.cache_1h_bound) == (TOGETHER, 0, rates(1), "m", None)
    # at most half as much again
    assert last.requests < 1.5 * 40
    assert last.input_bound < 1.5 * size(*tasks)
    # what has ended makes room for others
    before = len(emit.all)
    for one in tasks:
        end(one)
    for one in tasks:
        assert collective.take(one)
        assert not collective.take(task("x" * 4000))
    assert len(emit.all) == before


async def test_it_is_written_seldom() -> None:
    prices, emit = List(), Written()
    collective = Collective(prices, 1000, None, Clock())
    tasks = [task("x" * (n % 50)) for n in range(500)]
    for one in tasks:
        await admitted(collective, one, emit)
    # 500 is nine times twice as much, with two steps each
    assert len(emit.all) < 60
    written, asked = len(emit.all), prices.asked
    for _ in range(5):
        for one in tasks:
            end(one)
            assert collective.take(one)
    assert (len(emit.all), prices.asked) == (written, asked)


async def test_requests_that_come_together_wait_for_one_commit() -> None:
    collective, emit, out = Collective(List(), 100, None, Clock()), Written(at_once=False), list[Task]()

    async def one_more() -> None:
        out.append(await admitted(collective, task(), emit))

    async with anyio.create_task_group() as group:
        for _ in range(30):
            group.start_soon(one_more)
        await anyio.wait_all_tasks_blocked()
        # nothing goes out before it is in the store
        assert out == []
        written = len(emit.all)
        emit.commit()
    assert len(out) == 30
    assert len(emit.all) == written
    assert emit.last.requests == 32


async def test_no_more_are_open_than_there_are_slots() -> None:
    collective, emit = Collective(List(), 5, None, Clock()), Written()
    for _ in range(5):
        await admitted(collective, task(), emit)
    assert emit.last.requests == 5


async def test_a_longer_input_raises_the_price_of_its_kind_alone() -> None:
    collective, emit = Collective(List(), 100, None, Clock()), Written()
    await admitted(collective, task(), emit)
    end(await admitted(collective, task(model="dear"), emit))
    assert (emit.last.number, emit.last.price.rates, emit.last.price.model) == (-1, rates(3), "dear")
    # also while there is room for one more
    end(await admitted(collective, task("x" * 3000, model="dear"), emit))
    assert emit.last.price.rates == rates(9)
    written = len(emit.all)
    assert collective.take(task(model="dear"))
    assert collective.take(task()) is False
    assert len(emit.all) == written
    await admitted(collective, task("x" * 3000), emit)
    assert [one.price.rates for one in emit.rows.values()] == [rates(1), rates(9)]


async def test_kinds_with_the_same_rates_share_one() -> None:
    prices, clock, emit = List(), Clock(), Written()
    collective = Collective(prices, 3, None, clock)
    for model in ("m", "same", "m"):
        await admitted(collective, task(model=model), emit)
    assert [(one.requests, one.price.model) for one in emit.rows.values()] == [(3, "")]
    # once they have others, it has the highest
    clock.now += QUOTE_S
    prices.times = 2
    end(await admitted(collective, task(model="same"), emit))
    assert [one.price.rates for one in emit.rows.values()] == [rates(2)]


async def test_a_dear_request_costs_the_others_nothing() -> None:
    collective, emit = Collective(List(), 20, None, Clock()), Written()
    end(await admitted(collective, task(model="1"), emit))
    cheap = [await admitted(collective, task(), emit) for _ in range(20)]
    most = sum(one.price.rates.most(one.input_bound, one.output_bound or 0) for one in emit.rows.values() if one.price.rates)
    assert most <= 1.5 * (size(*cheap) + 20 * 10) + 150 * (size(task(model="1")) + 10)


async def test_each_request_has_room_whatever_the_kinds_and_whatever_is_given_up() -> None:
    chance, clock, emit = random.Random(7), Clock(), Written()
    collective, out = Collective(List(), 30, None, clock), list[Task]()
    models = [str(number) for number in range(1, MOST_KINDS + 8)] + ["m", "same", "dear", "none", "nothing"]
    most, given_up = 0, 0
    for _ in range(3000):
        while len(out) == 30 or (out and chance.random() < 0.4):
            end(out.pop(chance.randrange(len(out))))
        clock.now += chance.choice([0, 0, 0, 1, 40, QUOTE_S if chance.random() < 0.01 else 0])
        # some kinds come seldom
        model = chance.choice(models if chance.random() < 0.1 else models[: chance.randint(1, 6)])
        out.append(await admitted(collective, task("x" * chance.randint(1, 200), model=model), emit))
        if emit.all[-1].void or len(emit.rows) != most:
            covers(emit.rows, out)
            given_up, most = sum(one.void for one in emit.all), len(emit.rows)
    covers(emit.rows, out)
    assert given_up > 50
    # no number is used again once it is given up
    over = set[int]()
    for one in emit.all:
        assert one.void or one.number not in over or emit.rows.get(one.number) is one
        over |= {one.number} if one.void else set()


def covers(rows: dict[int, Reservation], out: list[Task]) -> None:
    """Check that reservations have room for all open requests: those of one model, and all together."""
    assert len(rows) <= MOST_KINDS + 2
    assert sum(one.requests for one in rows.values()) >= len(out)
    unpriced = [one for one in out if one.item.request.model.startswith("no")]
    assert sum(one.requests for one in rows.values() if one.price.rates is None) >= len(unpriced)
    own = {one.price.model: one for one in rows.values() if one.price.model}
    for model, row in own.items():
        mine = [one for one in out if one.item.request.model == model]
        assert row.requests >= len(mine)
    priced = [one for one in rows.values() if one.price.rates is not None]
    held = sum(one.price.rates.most(one.input_bound, one.output_bound or 0) for one in priced if one.price.rates)
    need = 0
    for one in out:
        found = List().highest(one.item.request.model, 0, None, len(one.call.body))
        need += found.most(len(one.call.body), 10) if found is not None else 0
    assert held >= need


async def test_what_nothing_needs_any_more_is_given_up() -> None:
    clock, emit = Clock(), Written()
    collective = Collective(List(), 20, None, clock)
    await admitted(collective, task(), emit)
    dear = await admitted(collective, task(model="dear"), emit)
    clock.now += IDLE_S
    await admitted(collective, task(), emit)
    # it is open
    assert len(emit.rows) == 2
    end(dear)
    written = len(emit.all)
    clock.now += IDLE_S - 1
    await admitted(collective, task(), emit)
    clock.now += 1
    await admitted(collective, task(), emit)
    assert [one.price.model for one in emit.rows.values()] == ["m"]
    assert len(emit.all) >= written + 1
    # a later request waits until it has one again, of another number
    assert not collective.take(task(model="dear"))
    await admitted(collective, task(model="dear"), emit)
    assert [(one.number, one.price.model) for one in emit.rows.values()] == [(0, "m"), (-2, "dear")]


async def test_what_was_used_lately_is_kept() -> None:
    clock, emit = Clock(), Written()
    collective = Collective(List(), 20, None, clock)
    for _ in range(20):
        for model in ("m", "dear"):
            end(await admitted(collective, task(model=model), emit))
            clock.now += IDLE_S / 3
    assert len(emit.all) == 2


async def test_what_a_request_waits_for_is_not_given_up() -> None:
    clock, emit = Clock(), Written(at_once=False)
    collective = Collective(List(), 20, None, clock)
    async with anyio.create_task_group() as group:
        group.start_soon(admitted, collective, task(model="dear"), emit)
        await anyio.wait_all_tasks_blocked()
        clock.now += 2 * IDLE_S
        group.start_soon(admitted, collective, task(), emit)
        await anyio.wait_all_tasks_blocked()
        emit.commit()
    assert not any(one.void for one in emit.all)
    assert len(emit.rows) == 2


async def test_what_has_no_price_is_held_apart_and_what_has_no_limit_has_none() -> None:
    collective, emit = Collective(List(), 100, None, Clock()), Written()
    await admitted(collective, task(model="other"), emit)
    assert (emit.last.number, emit.last.price.rates, emit.last.price.model) == (0, None, "other")
    await admitted(collective, task(model="another"), emit)
    assert (emit.last.number, emit.last.price.rates, emit.last.price.model) == (-1, None, "another")
    await admitted(collective, task(), emit)
    assert (emit.last.number, emit.last.requests, emit.last.price.rates) == (-2, 1, rates(1))
    # the limit of the model counts where none is set
    await admitted(collective, task(model="dear", max_tokens=None), emit)
    assert emit.last.output_bound is not None
    assert 500 <= emit.last.output_bound < 1000
    await admitted(collective, task(max_tokens=None), emit)
    assert emit.last.output_bound is None
    # and it stays so
    await admitted(collective, task("x" * 5000), emit)
    assert emit.last.output_bound is None
    free = Collective(None, 100, None, Clock())
    await admitted(free, task(), emit)
    assert (emit.last.number, emit.last.price.model, emit.last.price.rates) == (0, "m", None)


@pytest.mark.parametrize(
    ("extra", "most"), [({"n": 3}, 30), ({"max_tokens": 70}, 70), ({"user": "u"}, 10), ({"max_completion_tokens": 40}, 40)]
)
@pytest.mark.parametrize("of_the_job", [True, False])
async def test_what_the_body_says_counts(extra: dict[str, Any], most: int, of_the_job: bool) -> None:
    collective, emit = Collective(List(), 100, extra if of_the_job else None, Clock()), Written()
    end(await admitted(collective, task(extra_body=extra), emit))
    assert emit.last.output_bound is not None
    assert most <= emit.last.output_bound <= 1.5 * most
    # a row with one of its own among others
    end(await admitted(collective, task(extra_body={"n": 50}), emit))
    assert emit.last.output_bound >= 500


async def test_caches_of_an_hour_count_for_requests_that_ask_for_them() -> None:
    collective, emit = Collective(List(), 100, None, Clock()), Written()
    mark = {"type": "text", "text": "hi", "cache_control": {"type": "ephemeral", "ttl": "1h"}}
    await admitted(collective, task(), emit)
    assert emit.last.cache_1h_bound is None
    marked = task(messages=({"role": "user", "content": [mark]},))
    await admitted(collective, marked, emit)
    assert emit.last.cache_1h_bound is not None
    assert size(marked) <= emit.last.cache_1h_bound <= 1.5 * size(marked)
    of_job = Collective(List(), 100, extra := {"cache_control": {"type": "ephemeral", "ttl": "1h"}}, Clock())
    for _ in range(3):
        await admitted(of_job, task(extra_body=extra), emit)
    assert (emit.last.cache_1h_bound or 0) >= 3 * size(task(extra_body=extra))


async def test_prices_are_looked_up_again_in_time() -> None:
    prices, clock, emit = List(), Clock(), Written()
    collective = Collective(prices, 100, None, clock)
    for model in ("m", "dear"):
        end(await admitted(collective, task(model=model), emit))
    asked, written = prices.asked, len(emit.all)
    clock.now += IDLE_S - 1
    for model in ("m", "dear"):
        await admitted(collective, task(model=model), emit)
    assert prices.asked == asked
    # those of each kind
    clock.now += QUOTE_S
    for model in ("m", "dear"):
        asked = prices.asked
        end(await admitted(collective, task(model=model), emit))
        assert prices.asked > asked
    # more were open, and the prices are the same
    assert [one.requests for one in emit.all[written:]] == [2, 2]
    assert [one.price.rates for one in emit.rows.values()] == [rates(1), rates(3)]


async def test_a_price_that_has_risen_is_in_the_store_before_the_next_request() -> None:
    prices, clock, emit = List(), Clock(), Written()
    collective = Collective(prices, 100, None, clock)
    end(await admitted(collective, task(), emit))
    clock.now += QUOTE_S
    prices.times, later = 2, Written(at_once=False)
    async with anyio.create_task_group() as group:
        group.start_soon(collective.widen, task(), later)
        await anyio.wait_all_tasks_blocked()
        assert not collective.take(task())
        later.commit()
    assert later.last.price.rates == rates(2)
    assert collective.take(task())


async def test_a_request_that_is_stopped_while_it_waits_leaves_room_for_others() -> None:
    collective, emit = Collective(List(), 100, None, Clock()), Written(at_once=False)
    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as group:
            group.start_soon(collective.widen, task("x" * 900), emit)
            await anyio.wait_all_tasks_blocked()
            scope.cancel()
    emit.commit()
    await admitted(collective, task("y"), emit)
    assert emit.last.requests == 1


async def test_a_dialect_has_its_own_limit() -> None:
    collective, emit = Collective(List(), 100, None, Clock()), Written()
    await admitted(collective, task(max_tokens=None, provider=anthropic.make("http://127.0.0.1:1", None, version="1")), emit)
    assert emit.last.output_bound is not None
    assert emit.last.output_bound >= anthropic.DEFAULT_MAX_TOKENS
