"""A budget and batches: what a batch can use counts as used before it is sent, and is corrected as its rows settle."""

from pathlib import Path

import pytest
from batching import Scripted, items_of, said, session

from runner.admission import Amounts, Reservation
from runner.engine.admitting import Quote
from runner.engine.bounds import Bounds
from runner.engine.limits.budget import Budget, Pot
from runner.model import Attempt, Params
from runner.money import Price

pytestmark = pytest.mark.anyio


class Tokens:
    """A purse that counts tokens."""

    def __init__(self, limit: int) -> None:
        self.reached = 0
        self.budget = Budget([Pot("max_tokens_total", "tokens", limit)], self._reach)
        self.stop = lambda: None

    def _reach(self, _: Amounts) -> None:
        self.reached += 1
        self.stop()

    def quote(self, model: str, bound: Bounds, at: float) -> Quote:
        assert bound.output is not None
        return Quote(Amounts(0, bound.input + bound.output), bound.output, Price(model=model, tier="batch", rates=None))

    def used(self, attempt: Attempt, reserved: Reservation) -> Amounts:
        usage = attempt.usage
        return Amounts(0, reserved.amounts.tokens if usage is None else (usage.input_tokens or 0) + (usage.output_tokens or 0))

    def correct(self, was: Attempt, now: Attempt) -> None:
        raise AssertionError("batches are corrected as a whole")


async def test_a_batch_waits_for_what_others_give_back_and_the_run_stops_where_nothing_does(tmp_path: Path) -> None:
    provider = Scripted(lambda name, _: said(name, "yes"))
    items = items_of(6, params=Params(max_tokens=50))
    # two rows can use some 320 tokens, and use 56: there is room for two batches of three, one after the other
    purse = Tokens(400)
    async with session(tmp_path, "http://provider", "openai", items, service=provider, rows=2, purse=purse) as one:
        purse.stop = lambda: one.stop.request("the budget is reached", grace_s=0.0)
        assert (await one.run()).why == "stopped"
        assert [list(rows) for rows in provider.asked] == [["row-0", "row-1"], ["row-2", "row-3"]]
        (pot,) = purse.budget.pots
        assert (pot.used, pot.held, purse.reached) == (4 * 28, 0, 1)
        # what does not fit was written, and is taken back
        assert await one.store.batches.batches() == []
        assert [item.key async for item in one.source()] == ["row-4", "row-5"]
