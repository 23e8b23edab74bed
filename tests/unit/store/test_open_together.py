"""What a session without a budget has open, on real files: one reservation, which stays after a kill and counts from then on."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from runner.admission import TOGETHER, Amounts, Reservation
from runner.model import Attempt, Usage
from runner.money import Price, Rates
from runner.store import database, deletion
from runner.store.checkpoint import RunStore
from runner.store.reader import StoreReader
from runner.store.runs import open_run
from runner.store.spending import Used

pytestmark = pytest.mark.anyio

RATES = Rates(input=2, output=5, cached_input=1, cache_write=3, reasoning=5, cache_write_1h=7)
PRICE = Price(model="m", tier="standard", rates=RATES)
FREE = structs.replace(PRICE, rates=None)
# 100 tokens of input, of which 10 may be kept for an hour, and 20 of output, of 4 requests
HELD = 100 * 3 + 10 * 4 + 20 * 5
KEPT = "SELECT number, requests, input_bound FROM reservations ORDER BY id"
SPEND = "SELECT cause, attempts, perhaps_billed, cost * 1e12, cost_perhaps * 1e12, unpriced FROM spend ORDER BY cause"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A store with run 1 in it."""
    found, answer = tmp_path / "runner.db", {"model": "m", "provider": "openai"}
    database.prepare(found, create=True)
    open_run(found, tmp_path / "p.jsonl", answer, answer, new=False)
    return found


def together(**more: Any) -> Reservation:
    of = Reservation(TOGETHER, 0, 1e9, Amounts(), 100, 20, PRICE, cache_1h_bound=10, requests=4)
    return structs.replace(of, **more)


def attempt(key: str) -> Attempt:
    usage = Usage(input_tokens=4, output_tokens=6, reasoning_tokens=0)
    return Attempt(key=key, number=1, started_at=1e9, duration_s=1.0, status=200, usage=usage, price=PRICE, model="m")


def rows(path: Path, statement: str) -> list[Any]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(statement).fetchall()


async def test_it_is_written_in_place_and_deleted_at_the_end(path: Path) -> None:
    async with RunStore.own(path, 1) as store:
        await store.save([], [together(requests=2), together()])
        await store.save([attempt("a")], [together(requests=6, input_bound=150)])
        assert rows(path, KEPT) == [(0, 6, 150)]
        await store.release_together()
        assert rows(path, KEPT) == []
    with StoreReader(path) as reader:
        assert (reader.money(1).perhaps, reader.totals(1).open_requests) == (0, 0)


async def test_it_counts_once_its_process_is_gone_and_for_good(path: Path) -> None:
    async with RunStore.own(path, 1) as store:
        await store.save([], [together()])
        await store.save([attempt("a")])
        with StoreReader(path) as reader:
            alive, money = reader.totals(1), reader.money(1)
            assert reader.killed(1).killed_requests == 0
        assert (alive.open_requests, alive.killed_requests, alive.cost_perhaps) == (0, 0, 0)
        assert (money.perhaps, money.open_requests) == (0, 0)
        # the view cannot know
        assert rows(path, SPEND) == [("done", 1, 0, 38, 0, 0), ("open", 4, 4, 0, HELD, 0)]
    for session in (1, 2):
        with StoreReader(path) as reader:
            left, money, killed = reader.totals(1), reader.money(1), reader.killed(1)
        assert (killed.perhaps, killed.killed_requests) == (session * HELD, 4 * session)
        assert (left.open_requests, left.killed_requests) == (4 * session, 4 * session)
        assert (left.cost, left.cost_perhaps) == (38e-12, pytest.approx(session * HELD * 1e-12))
        assert left.cost_open_requests == left.cost_perhaps
        assert (money.spent, money.perhaps, money.held, money.open_requests) == (38, session * HELD, session * HELD, 4 * session)
        async with RunStore.own(path, 1) as store:
            # it is no attempt of a row, and the next session has its own beside it
            assert [number > 0 for number, *_ in rows(path, KEPT)] == [True] * session
            assert await store.used() == Used(cost=38 + session * HELD, tokens=10 + session * 120)
            assert (await store.money()).perhaps == session * HELD
            await store.save([], [together()])
            with StoreReader(path) as reader:
                assert reader.money(1).perhaps == session * HELD
    async with RunStore.own(path, 1) as store:
        await store.release_together()
        assert len(rows(path, KEPT)) == 3
    assert rows(path, "SELECT count(*) FROM attempts") == [(1,)]
    deletion.delete(path, [1])
    assert rows(path, KEPT) == []


async def test_each_kind_has_its_own_and_those_that_are_given_up_are_deleted(path: Path) -> None:
    dear = structs.replace(PRICE, model="dear", rates=Rates(**dict.fromkeys(Rates.__struct_fields__, 100)))
    of_dear = together(number=-1, price=dear, requests=1, input_bound=10, output_bound=5, cache_1h_bound=None)
    async with RunStore.own(path, 1) as store:
        await store.save([], [together(), of_dear])
        # with the next results, and in one commit with one that comes in its place
        await store.save([attempt("a")], [structs.replace(of_dear, void=True), structs.replace(of_dear, number=-2)])
        assert [number for number, *_ in rows(path, KEPT)] == [0, -2]
    with StoreReader(path) as reader:
        left = reader.totals(1)
    assert (left.killed_requests, left.cost_perhaps) == (5, pytest.approx((HELD + 1500) * 1e-12))
    assert rows(path, SPEND)[1] == ("open", 5, 5, 0, HELD + 1500, 0)
    async with RunStore.own(path, 1) as store:
        assert len({number for number, *_ in rows(path, KEPT) if number > 0}) == 2
        assert await store.used() == Used(cost=38 + HELD + 1500, tokens=10 + 120 + 15)
        await store.save([], [together(), of_dear])
        await store.release_together()
    assert len(rows(path, KEPT)) == 2


async def test_prices_that_are_stated_later_are_those_of_each_model(path: Path) -> None:
    other = structs.replace(FREE, model="other")
    async with RunStore.own(path, 1) as store:
        await store.save([], [together(price=FREE), together(number=-1, price=other)])
    async with RunStore.own(path, 1) as store:
        await store.price_again(lambda _: FREE, lambda model, *_: RATES if model == "other" else None)
    with StoreReader(path) as reader:
        found = reader.money(1)
    assert (found.perhaps, found.unpriced, found.killed_requests) == (HELD, 4, 8)


async def test_a_declined_session_changes_nothing_that_counts(path: Path) -> None:
    async with RunStore.own(path, 1) as store:
        await store.save([attempt("a")], [together()])
    before = rows(path, SPEND)
    async with RunStore.own(path, 1, waits=True) as store:
        await store.take_back(created=False)
    assert rows(path, SPEND) == before
    with StoreReader(path) as reader:
        assert reader.money(1).perhaps == HELD


async def test_requests_of_single_rows_count_beside_it(path: Path) -> None:
    single = Reservation("b", 1, 1e9, Amounts(80, 20), 10, 10, PRICE)
    async with RunStore.own(path, 1) as store:
        await store.save([], [together()])
    async with RunStore.own(path, 1) as store:
        await store.save([attempt("a")], [single])
    with StoreReader(path) as reader:
        left = reader.totals(1)
        assert (reader.killed(1).perhaps, reader.killed(1).killed_requests) == (HELD, 4)
        assert [row.cost_perhaps for row in reader.results(1)] == []
    assert (left.open_requests, left.killed_requests, left.cost_perhaps) == (5, 4, pytest.approx((HELD + 80) * 1e-12))
    async with RunStore.own(path, 1):
        assert rows(path, "SELECT item_key, error_code FROM attempts ORDER BY id") == [("a", None), ("b", "killed")]
        assert len(rows(path, KEPT)) == 1
    with StoreReader(path) as reader:
        after = reader.totals(1)
    assert (after.open_requests, after.killed_requests, after.cost_perhaps) == (4, 4, left.cost_perhaps)


async def test_without_a_limit_there_is_no_end_of_the_interval(path: Path) -> None:
    async with RunStore.own(path, 1) as store:
        await store.save([attempt("a")], [together(output_bound=None)])
    with StoreReader(path) as reader:
        left = reader.totals(1)
    assert (left.cost, left.cost_perhaps, left.cost_open_requests, left.open_requests) == (38e-12, None, None, 4)
    assert rows(path, SPEND)[1] == ("open", 4, 4, 0, None, 0)
    async with RunStore.own(path, 1) as store:
        assert await store.used() == Used(cost=38 + 340, tokens=10 + 100, unknown=4)


async def test_what_has_no_price_is_of_unknown_cost_until_a_price_is_stated(path: Path) -> None:
    async with RunStore.own(path, 1) as store:
        await store.save([], [together(number=-1, price=FREE)])
    with StoreReader(path) as reader:
        left, money = reader.totals(1), reader.money(1)
    assert (left.cost, left.cost_perhaps, left.unpriced_attempts, left.open_requests) == (None, None, 4, 4)
    assert (money.known, money.unpriced, money.open_requests) == (False, 4, 4)
    assert rows(path, SPEND) == [("open", 4, 4, None, None, 4)]
    looks = []

    def highest(*asked: Any) -> Rates:
        looks.append(asked)
        return RATES

    async with RunStore.own(path, 1, waits=True) as store:
        assert (await store.money()).known is False
        await store.price_again(lambda _: FREE, highest)
        assert (await store.money()).perhaps == HELD
        await store.take_back(created=False)
    assert looks == [("m", 1e9, "standard", 100)]
    with StoreReader(path) as reader:
        assert reader.money(1) == money
    async with RunStore.own(path, 1) as store:
        await store.price_again(lambda _: FREE, highest)
    with StoreReader(path) as reader:
        assert (reader.money(1).perhaps, reader.money(1).unpriced) == (HELD, 0)


async def test_attempts_release_nothing_for_it(path: Path) -> None:
    """A run without a budget pays no look at the reservations for each attempt."""
    said = list[str]()
    async with RunStore.own(path, 1) as store:
        await store.save([], [together()])
        await store._writer.in_one_turn(lambda driver: driver.set_trace_callback(said.append))
        await store.save([attempt("a"), attempt("b")])
    assert any("INSERT INTO attempts" in one for one in said)
    assert not any("reservations" in one for one in said)
