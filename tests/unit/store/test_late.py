"""What attempts have used, where that is known only after they were given up."""

from pathlib import Path

import pytest
from msgspec import structs

from runner.engine.stop import Stop
from runner.entries import LateUsage
from runner.model import Attempt, Completion, Usage
from runner.money import Money, Price, Rates
from runner.prices.book import PriceBook
from runner.session.books import Books
from runner.session.budgeting import Purse
from runner.session.late import LateUsages
from runner.session.sources import job_without_rows
from runner.session.stats import SessionStats
from runner.store import database
from runner.store.changes import Changes
from runner.store.checkpoint import RunStore
from runner.store.runs import open_run
from runner.store.spending import Used

pytestmark = pytest.mark.anyio

ANSWER = {"model": "m", "provider": "openai"}
PRICE = Price(
    model="m", tier="standard", rates=Rates(input=2, output=5, cached_input=2, cache_write=2, reasoning=5, cache_write_1h=2)
)

FLEX = Price(model="m", tier="flex", rates=Rates(input=1, output=2, cached_input=1, cache_write=1, reasoning=2, cache_write_1h=1))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    found = tmp_path / "runner.db"
    database.prepare(found, create=True)
    open_run(found, tmp_path / "p.jsonl", ANSWER, ANSWER, new=False)
    return found


def lost(key: str, code: str = "worker_lost") -> Attempt:
    return Attempt(
        key=key, number=1, started_at=1e9, duration_s=5.0, model="m", error_code=code, error="lost", input_bound=100,
        output_bound=50, price=PRICE,
    )  # fmt: skip


async def money(store: RunStore) -> tuple[int, int | None]:
    found: Money = await store.money()
    return found.spent, found.perhaps


def known(key: str, code: str = "worker_lost", price: Price = PRICE) -> Attempt:
    """Return an attempt as it is known late."""
    usage = Usage(input_tokens=10, output_tokens=4)
    return structs.replace(lost(key, code), usage=usage, input_bound=None, output_bound=None, tier=price.tier, price=price)


async def test_usage_that_is_known_late_takes_the_place_of_what_was_perhaps_billed(path: Path) -> None:
    async with RunStore.own(path, 1, changes=Changes()) as store:
        await store.save([lost("a"), lost("b"), lost("c", "cut"), lost("e")])
        before = await money(store)
        assert before == (0, 4 * (100 * 2 + 50 * 5))
        # c was no loss of a worker, and there is no d
        await store.book_late([known("a"), known("c"), known("d")])
        assert await money(store) == (10 * 2 + 4 * 5, 3 * (100 * 2 + 50 * 5))
        await store.book_late([structs.replace(lost("b"), sent=False, input_bound=None, output_bound=None)])
        assert await money(store) == (10 * 2 + 4 * 5, 2 * (100 * 2 + 50 * 5))
        # the tier that has answered has a price of its own
        await store.book_late([known("e", price=FLEX)])
        assert await money(store) == (10 * 2 + 4 * 5 + 10 * 1 + 4 * 2, 100 * 2 + 50 * 5)
        # once is enough
        await store.book_late([known("a", price=FLEX)])
        assert (await money(store))[0] == 10 * 2 + 4 * 5 + 10 * 1 + 4 * 2


class NoBook(PriceBook):
    """Prices of two tiers."""

    def __init__(self) -> None:
        super().__init__(None, {})

    def price(self, attempt: Attempt) -> Price:
        return FLEX if attempt.tier == "flex" else PRICE


async def test_the_sums_and_the_budget_of_the_session_take_it_up_too(path: Path) -> None:
    async with RunStore.own(path, 1, changes=Changes()) as store:
        late = LateUsages(store, stats := SessionStats())
        late.books = Books(NoBook())
        job = structs.replace(job_without_rows([], {"model": "m"}, trust=False), max_cost=1.0)
        late.purse = Purse(job, late.books._book, Used(0, 0, 0), Stop(), lambda: pytest.fail("reached"), lambda _: None)
        whole = 100 * 2 + 50 * 5
        answer = Completion(text="Hi", finish_reason="stop", usage=Usage(input_tokens=10, output_tokens=4), tier="flex")
        # what is told of b comes before it is on the books
        await late.book([LateUsage("b", 1, answer)])
        for key in "abc":
            await store.save([lost(key)])
            late.books.add([lost(key)])
            late.purse.budget.pots[0].used += whole
            await late.saved([lost(key)])
        assert (late.books.now.spent, late.books.now.perhaps) == (10 * 1 + 4 * 2, 2 * whole)
        await late.book([LateUsage("a", 1, None), LateUsage("c", 1, structs.replace(answer, usage=Usage(input_tokens=10)))])
        # c has not told all, and a was never sent
        assert (late.books.now.spent, late.books.now.perhaps) == (10 * 1 + 4 * 2, whole)
        assert late.purse.budget.pots[0].used == 10 * 1 + 4 * 2 + whole
        assert await money(store) == (late.books.now.spent, late.books.now.perhaps)
        assert (stats.input_tokens, stats.output_tokens) == (10, 4)
