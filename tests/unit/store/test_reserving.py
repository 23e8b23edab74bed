"""Reservations on real files: written before, deleted with their attempts; what is left may have been billed."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from runner.admission import Amounts, Reservation
from runner.errors import StoreError
from runner.model import Attempt, Outcome, Usage
from runner.money import Price, Rates
from runner.session.books import Books
from runner.store import database
from runner.store.changes import Changes
from runner.store.checkpoint import RunStore
from runner.store.reader import StoreReader
from runner.store.runs import open_run
from runner.store.spending import Used

pytestmark = pytest.mark.anyio

ANSWER = {"model": "m", "provider": "openai"}
RATES = Rates(input=2, output=5, cached_input=1, cache_write=3, reasoning=5, cache_write_1h=7)
PRICE = Price(model="m", tier="standard", rates=RATES)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A store with run 1 in it."""
    found = tmp_path / "runner.db"
    database.prepare(found, create=True)
    open_run(found, tmp_path / "p.jsonl", ANSWER, ANSWER, new=False)
    return found


def reserved(key: str, number: int = 1) -> Reservation:
    return Reservation(key, number, 1e9, Amounts(80, 20), 10, 10, PRICE)


def asks_for_hour(key: str, number: int = 1) -> Reservation:
    return Reservation(key, number, 1e9, Amounts(120, 20), 10, 10, PRICE, cache_1h_bound=10)


def attempt(key: str, number: int = 1, **more: Any) -> Attempt:
    fields = {
        "status": 200,
        "usage": Usage(input_tokens=4, output_tokens=6, reasoning_tokens=0),
        "price": PRICE,
        "model": "m",
        **more,
    }
    return Attempt(key=key, number=number, started_at=1e9, duration_s=1.0, **fields)


def rows(path: Path, statement: str) -> list[Any]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(statement).fetchall()


KEPT = "SELECT item_key, number FROM reservations ORDER BY id"


async def test_an_attempt_takes_its_reservation_with_it(path: Path) -> None:
    async with RunStore.own(path, 1) as store:
        await store.save([], [reserved("a"), reserved("b"), reserved("b", 2)])
        assert rows(path, KEPT) == [("a", 1), ("b", 1), ("b", 2)]
        await store.save([attempt("b")], [reserved("c")])
        assert rows(path, KEPT) == [("a", 1), ("b", 2), ("c", 1)]
        void = reserved("c")
        void.void = True
        await store.save([attempt("b", 2), attempt("a")], [void])
        assert rows(path, KEPT) == []
    # nothing was left, so nothing has become an attempt
    async with RunStore.own(path, 1) as store:
        assert await store.used() == Used(cost=3 * (4 * 2 + 6 * 5), tokens=30)


async def test_what_a_killed_session_left_counts_as_the_most_that_it_can_have_cost(path: Path) -> None:
    async with RunStore.own(path, 1, changes=Changes(variant={"model": "other"})) as store:
        await store.save([], [reserved("a"), reserved("b", 3)])
        await store.save([attempt("a")])
    async with RunStore.own(path, 1) as store:
        assert rows(path, KEPT) == []
        # 10 tokens at 3, the rate of a cache that is written, and 10 at 5
        assert await store.used() == Used(cost=38 + 80, tokens=10 + 20)
        money = await store.money()
        assert (money.spent, money.perhaps, money.unpriced) == (38, 80, 0)
        assert await store.tried(["b"]) == {"b": 3}
    assert rows(path, "SELECT error_code, sent, status, variant_id FROM attempts WHERE item_key = 'b'") == [
        ("killed", 1, None, 1)
    ]
    with StoreReader(path) as reader:
        assert reader.totals(1).perhaps_billed == 1


async def test_what_has_no_limit_or_no_price_is_not_counted_but_told(path: Path) -> None:
    free, unlimited = {"price": None}, {"usage": None, "error_code": "cut", "error": "cut", "input_bound": 7}
    async with RunStore.own(path, 1) as store:
        await store.save([attempt("a"), attempt("b", **free), attempt("c", **unlimited), attempt("d", status=500, usage=None)])
        assert await store.used() == Used(cost=38 + 7 * 3, tokens=10 + 10 + 7, unknown=2)


async def test_a_failed_batch_that_is_tried_again_leaves_no_reservation_behind(path: Path) -> None:
    async with RunStore.own(path, 1) as store:
        await store.save([], [reserved("a"), reserved("b")])
        late = reserved("c")
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("CREATE TRIGGER t BEFORE INSERT ON attempts BEGIN SELECT RAISE(ABORT, 'on fire'); END")
            with pytest.raises(StoreError):
                await store.save([attempt("a")], [late])
            other.execute("DROP TRIGGER t")
        assert rows(path, KEPT) == [("a", 1), ("b", 1)]
        # the worker that waited for it has been cancelled meanwhile
        late.void = True
        await store.save([attempt("a")], [late])
        assert rows(path, KEPT) == [("b", 1)]


async def test_a_batch_that_failed_behind_its_commit_is_written_once(path: Path) -> None:
    async with RunStore.own(path, 1) as store:
        await store.save([attempt("a")], [reserved("b")])
        # it is missed only once the batch is in the store
        path.with_name("runner.db-shm").unlink()
        for _ in range(2):
            with pytest.raises(StoreError):
                await store.save([attempt("b")])
    assert rows(path, "SELECT item_key, number FROM attempts ORDER BY id") == [("a", 1), ("b", 1)]
    assert rows(path, KEPT) == []


SPEND = "SELECT cause, attempts, perhaps_billed, cost * 1e12, cost_perhaps * 1e12, unpriced FROM spend ORDER BY cause"


async def test_what_is_open_counts_at_once_and_not_from_the_next_session_on(path: Path) -> None:
    async with RunStore.own(path, 1) as store:
        await store.save([], [reserved("a"), reserved("b"), asks_for_hour("c")])
        failed = Outcome(
            key="b",
            position=1,
            status="failed",
            metadata={},
            fingerprint=1,
            attempts=1,
            attempt=attempt("b", error_code="bad", error="bad"),
        )
        await store.save([structs.replace(failed, error_code="bad", error="bad")], [reserved("b", 2)])
        with StoreReader(path) as reader:
            alive = reader.totals(1)
    with StoreReader(path) as reader:
        left, money = reader.totals(1), reader.money(1)
        (row,) = reader.results(1)
    # 10 tokens at 3 or 7, and 10 at 5
    held = 80 + 80 + 120
    for books in (alive, left):
        assert (books.cost, books.open_requests) == (38e-12, 3)
        assert (books.cost_perhaps, books.cost_open_requests) == (held * 1e-12, held * 1e-12)
    assert (money.spent, money.perhaps, money.held, money.open_requests, money.unpriced) == (38, held, held, 3, 0)
    # the request that was open for a row with an outcome
    assert (row.cost, row.cost_perhaps) == (38e-12, 80e-12)
    assert rows(path, SPEND) == [("bad", 1, 0, 38, 0, 0), ("open", 3, 3, 0, held, 0)]
    async with RunStore.own(path, 1) as store:
        assert await store.used() == Used(cost=38 + held, tokens=10 + 60)
    with StoreReader(path) as reader:
        after = reader.totals(1)
        (row,) = reader.results(1)
    assert (after.cost, after.cost_perhaps, after.open_requests, after.cost_open_requests) == (left.cost, left.cost_perhaps, 0, 0)
    assert row.cost_perhaps == 80e-12


async def test_open_requests_without_a_price_are_counted_and_never_free(path: Path) -> None:
    free = structs.replace(PRICE, rates=None)
    async with RunStore.own(path, 1) as store:
        await store.save([], [Reservation("a", 1, 1e9, Amounts(0, 20), 10, 10, free)])
    with StoreReader(path) as reader:
        books = reader.totals(1)
    assert (books.cost, books.cost_perhaps, books.unpriced_attempts, books.open_requests) == (None, None, 1, 1)


async def test_what_is_open_for_a_run_counts_for_no_other(path: Path) -> None:
    open_run(path, path.with_name("q.jsonl"), ANSWER, ANSWER, new=True)
    async with RunStore.own(path, 1) as store:
        await store.save([], [reserved("a")])
    async with RunStore.own(path, 2) as store:
        assert await store.used() == Used()
        await store.save([], [reserved("a")])
        await store.save([attempt("a")])
    with StoreReader(path) as reader:
        assert [reader.totals(run).open_requests for run in (1, 2)] == [1, 0]
        assert [reader.money(run).perhaps for run in (1, 2)] == [80, 0]


USAGES = [
    Usage(input_tokens=9, output_tokens=6),
    Usage(input_tokens=9, output_tokens=6, reasoning_tokens=2),
    Usage(input_tokens=9, output_tokens=6, cached_tokens=1, cache_write_tokens=6, cache_write_1h_tokens=4),
    Usage(input_tokens=9, output_tokens=6, reasoning_tokens=8, cache_write_tokens=6, cache_write_1h_tokens=8),
    Usage(input_tokens=9),
    Usage(output_tokens=6),
    None,
]
BOUNDS = [
    {},
    {"input_bound": 12, "output_bound": 8},
    {"input_bound": 12, "output_bound": 8, "cache_1h_bound": 12},
    {"input_bound": 12},
    # a server that reports more than can be
    {"input_bound": 5, "output_bound": 3},
]


TOP = Rates(input=4, output=10, cached_input=2, cache_write=6, reasoning=9, cache_write_1h=14)


@pytest.mark.parametrize("most", [None, TOP])
@pytest.mark.parametrize("dear", [5, 9, 3])
async def test_sql_and_python_agree_on_what_attempts_cost(path: Path, dear: int, most: Rates | None) -> None:
    price = structs.replace(PRICE, rates=structs.replace(RATES, reasoning=dear), most=most)
    every = [
        attempt(f"{at}-{number}", usage=usage, price=price, **bound)
        for at, usage in enumerate(USAGES)
        for number, bound in enumerate(BOUNDS)
        if usage is not None or bound
    ]
    async with RunStore.own(path, 1) as store:
        for one in every:
            outcome = Outcome(key=one.key, position=1, status="done", metadata={}, fingerprint=1, attempt=one)
            await store.save([outcome])
        used = await store.used()
    books = Books()
    books.add(every)
    with StoreReader(path) as reader:
        money = reader.money(1)
        by_row = {row.id: (row.cost, row.cost_perhaps) for row in reader.results(1)}
    assert money == books.now
    assert money.perhaps is None
    limited = [one for one in every if one.input_bound is None or one.output_bound is not None]
    books = Books()
    books.add(limited)
    assert books.now.perhaps == round(sum((by_row[one.key][1] or 0) * 1e12 for one in limited))
    assert money.spent == round(sum((cost or 0) * 1e12 for cost, _ in by_row.values()))
    ((spent,),) = rows(path, "SELECT round(sum(cost) * 1e12) FROM spend")
    assert spent == money.spent
    ((unlimited,),) = rows(path, "SELECT cost_perhaps FROM spend")
    assert unlimited is None
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DELETE FROM attempts WHERE input_bound IS NOT NULL AND output_bound IS NULL")
    ((perhaps,),) = rows(path, "SELECT round(cost_perhaps * 1e12) FROM spend")
    assert perhaps == books.now.perhaps
    assert used.cost >= money.spent + (books.now.perhaps or 0)
