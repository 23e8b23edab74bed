"""A budget and batches: what a batch can use counts as used before it is sent, and is corrected as its rows settle."""

import shutil
from pathlib import Path

import pytest
from batching import Calls, Killed, Scripted, items_of, said, session

from runner.admission import Amounts, Reservation
from runner.batches import Fault, Remote
from runner.engine.admitting import Quote
from runner.engine.bounds import Bounds
from runner.engine.limits.budget import Budget, Pot
from runner.errors import ProviderError
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
        if not attempt.sent:
            return Amounts()
        usage = attempt.usage
        return Amounts(0, reserved.amounts.tokens if usage is None else (usage.input_tokens or 0) + (usage.output_tokens or 0))

    def correct(self, was: Attempt, now: Attempt) -> None:
        raise AssertionError("batches are corrected as a whole")


async def test_a_batch_waits_for_what_others_give_back_and_files_are_cut_by_what_is_left(tmp_path: Path) -> None:
    provider = Scripted(lambda name, _: said(name, "yes"))
    items = items_of(8, params=Params(max_tokens=50))
    # two rows can use some 320 tokens, and use 56: there is room for a batch, then for some of a single row
    purse = Tokens(325)
    async with session(tmp_path, "http://provider", "openai", items, service=provider, rows=2, purse=purse) as one:
        purse.stop = lambda: one.stop.request("the budget is reached", grace_s=0.0)
        assert (await one.run()).why == "stopped"
        asked = [list(rows) for rows in provider.asked]
        keys = [item.key for item in items]
        assert asked == [keys[:2], *([key] for key in keys[2 : len(asked) + 1])]
        sent = len(asked) + 1
        assert 4 < sent < 8
        (pot,) = purse.budget.pots
        assert (pot.used, pot.held, purse.reached) == (sent * 28, 0, 1)
        # what does not fit was written, and is taken back
        assert await one.store.batches.batches() == []
        assert [item.key async for item in one.source()] == keys[sent:]


async def test_what_a_batch_holds_comes_back_if_it_was_not_taken(tmp_path: Path) -> None:
    provider = Scripted(lambda name, _: said(name, "yes"))
    items, look = items_of(3, params=Params(max_tokens=50)), provider.look

    async def faulty(remote_id: str) -> Remote:
        if len(provider.asked) > 1:
            return await look(remote_id)
        return Remote(id=remote_id, phase="ended", end="failed", faults=(Fault(line=1, code="bad", message="no"),))

    provider.look = faulty  # type: ignore[method-assign]
    # there is room for three rows, once
    purse = Tokens(500)
    async with session(tmp_path, "http://provider", "openai", items, service=provider, purse=purse) as one:
        purse.stop = lambda: one.stop.request("the budget is reached", grace_s=0.0)
        assert (await one.run()).why == "done"
        assert [list(rows) for rows in provider.asked] == [["row-0", "row-1", "row-2"], ["row-1", "row-2"]]
        (pot,) = purse.budget.pots
        assert (pot.used, pot.held, purse.reached) == (2 * 28, 0, 0)


async def test_what_a_batch_holds_comes_back_if_its_creation_is_refused(tmp_path: Path) -> None:
    provider = Scripted(lambda name, _: said(name, "yes"))
    items, create = items_of(3, params=Params(max_tokens=50)), provider.create
    refused: list[Path] = []

    async def once(path: Path, upload_id: str | None, token: str) -> Remote:
        if refused:
            return await create(path, upload_id, token)
        refused.append(path)
        raise ProviderError("requests.0.params: no", code="bad_request", verdict="fail", status=400)

    provider.create = once  # type: ignore[method-assign]
    purse = Tokens(500)
    async with session(tmp_path, "http://provider", "openai", items, service=provider, purse=purse) as one:
        purse.stop = lambda: one.stop.request("the budget is reached", grace_s=0.0)
        assert (await one.run()).why == "done"
        assert [list(rows) for rows in provider.asked] == [["row-1", "row-2"]]
        (pot,) = purse.budget.pots
        assert (pot.used, pot.held, purse.reached) == (2 * 28, 0, 0)


async def test_what_an_earlier_session_did_not_send_holds_nothing(tmp_path: Path) -> None:
    provider = Scripted(lambda name, _: said(name, "yes"))
    items, calls = items_of(3, params=Params(max_tokens=50)), Calls()

    async def killed(path: Path, token: str) -> str:
        raise Killed

    upload, provider.upload = provider.upload, killed  # type: ignore[method-assign]
    with pytest.raises(Killed):
        async with session(tmp_path, "http://provider", "openai", items, service=provider, kill=calls) as one:
            await one.run()
    shutil.rmtree(tmp_path / "runner.db.batches")
    provider.upload = upload  # type: ignore[method-assign]
    purse = Tokens(500)
    async with session(tmp_path, "http://provider", "openai", items, service=provider, purse=purse) as one:
        purse.stop = lambda: one.stop.request("the budget is reached", grace_s=0.0)
        purse.budget.pots[0].used = (await one.store.used()).tokens
        assert purse.budget.pots[0].used > 300
        assert (await one.run()).why == "done"
        assert (purse.budget.pots[0].used, purse.reached) == (3 * 28, 0)
