"""Reservations on real files: written before, deleted with their attempts; what is left may have been billed."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from runner.admission import Amounts, Reservation
from runner.errors import StoreError
from runner.model import Attempt, Usage
from runner.money import Price, Rates
from runner.store import database
from runner.store.changes import Changes
from runner.store.checkpoint import RunStore
from runner.store.reader import StoreReader
from runner.store.runs import open_run
from runner.store.spending import Used

pytestmark = pytest.mark.anyio

ANSWER = {"model": "m", "provider": "openai"}
PRICE = Price(
    model="m", tier="standard", rates=Rates(input=2, output=5, cached_input=1, cache_write=3, reasoning=5, cache_write_1h=7)
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A store with run 1 in it."""
    found = tmp_path / "runner.db"
    database.prepare(found, create=True)
    open_run(found, tmp_path / "p.jsonl", ANSWER, ANSWER, new=False)
    return found


def reserved(key: str, number: int = 1) -> Reservation:
    return Reservation(key, number, 1e9, Amounts(80, 20), 10, 10, PRICE)


def attempt(key: str, number: int = 1, **more: Any) -> Attempt:
    fields = {"status": 200, "usage": Usage(input_tokens=4, output_tokens=6), "price": PRICE, "model": "m", **more}
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
