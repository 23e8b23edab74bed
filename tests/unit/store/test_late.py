"""What attempts have used, where that is known only after they were given up."""

from pathlib import Path

import pytest

from runner.entries import LateUsage
from runner.model import Attempt, Usage
from runner.money import Money, Price, Rates
from runner.store import database
from runner.store.changes import Changes
from runner.store.checkpoint import RunStore
from runner.store.runs import open_run

pytestmark = pytest.mark.anyio

ANSWER = {"model": "m", "provider": "openai"}
PRICE = Price(
    model="m", tier="standard", rates=Rates(input=2, output=5, cached_input=2, cache_write=2, reasoning=5, cache_write_1h=2)
)


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


async def test_usage_that_is_known_late_takes_the_place_of_what_was_perhaps_billed(path: Path) -> None:
    async with RunStore.own(path, 1, changes=Changes()) as store:
        await store.save([lost("a"), lost("b"), lost("c", "cut")])
        before = await money(store)
        assert before == (0, 3 * (100 * 2 + 50 * 5))
        usage = Usage(input_tokens=10, output_tokens=4)
        # of b the answer has not told everything, and c was no loss of a worker
        await store.book_late(
            [
                LateUsage("a", 1, usage),
                LateUsage("b", 1, Usage(input_tokens=10)),
                LateUsage("c", 1, usage),
                LateUsage("d", 1, usage),
            ]
        )
        assert await money(store) == (10 * 2 + 4 * 5, 2 * (100 * 2 + 50 * 5))
        await store.book_late([LateUsage("b", 1, None)])
        assert await money(store) == (10 * 2 + 4 * 5, 100 * 2 + 50 * 5)
        # once is enough
        await store.book_late([LateUsage("a", 1, Usage(input_tokens=99, output_tokens=99))])
        assert (await money(store))[0] == 10 * 2 + 4 * 5
