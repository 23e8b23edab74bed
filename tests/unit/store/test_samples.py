"""What single rows have cost, from which an estimate learns: the attempt that decided a row, and the others beside it."""

from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from runner.model import Attempt, Outcome, Usage
from runner.money import Price, Rates
from runner.session.books import Books
from runner.store import database
from runner.store.checkpoint import RunStore
from runner.store.reader import StoreReader
from runner.store.runs import open_run
from runner.store.samples import RowSpent, Spent, so_far, spent_on
from runner.store.spending import AtEnds

pytestmark = pytest.mark.anyio

RATES = Rates(input=2, output=5, cached_input=1, cache_write=3, reasoning=7, cache_write_1h=7)
PRICE = Price(model="m", tier="standard", rates=RATES)
TOLD = Usage(input_tokens=4, output_tokens=6, reasoning_tokens=0)
HOUR: dict[str, Any] = {"cache_1h_bound": 3, "price": structs.replace(PRICE, most=structs.replace(RATES, cache_write=7))}
CUT: dict[str, Any] = {"usage": None, "error_code": "cut", "error": "cut", "input_bound": 10}


def attempt(key: str, number: int = 1, **more: Any) -> Attempt:
    fields = {"status": 200, "usage": TOLD, "price": PRICE, "model": "m", **more}
    return Attempt(key=key, number=number, started_at=1e9, duration_s=1.0, **fields)


def outcome(last: Attempt) -> Outcome:
    status = "done" if last.error_code is None else "failed"
    return Outcome(
        key=last.key,
        position=1,
        status=status,
        metadata={},
        fingerprint=1,
        attempt=last,
        attempts=last.number,
        error_code=last.error_code,
        error=last.error,
    )


async def test_what_a_row_took_is_that_of_its_last_attempt_and_of_the_others(tmp_path: Path) -> None:
    path, answer = tmp_path / "runner.db", Spent(4, 6, 38)
    database.prepare(path, create=True)
    open_run(path, tmp_path / "p.jsonl", {"model": "m"}, {"model": "m"}, new=False)
    bad = {"error_code": "bad", "error": "bad"}
    untold = Usage(input_tokens=4, output_tokens=6)
    async with RunStore.own(path, 1) as store:
        await store.save([outcome(attempt("plain")), outcome(attempt("untold", usage=untold))])
        await store.save([attempt("again", **CUT, output_bound=8), outcome(attempt("again", 2))])
        await store.save([attempt("twice", **bad), outcome(attempt("twice", 2))])
        await store.save([attempt("worse", **bad), outcome(attempt("worse", 2, **bad))])
        await store.save([attempt("refused", status=429, error_code="x", error="x"), outcome(attempt("refused", 2))])
        await store.save([attempt("open", **CUT), outcome(attempt("open", 2))])
        await store.save([outcome(attempt("lost", **CUT, output_bound=8))])
        await store.save([attempt("unpriced", price=None, error_code="x", error="x"), outcome(attempt("unpriced", 2))])
    one = RowSpent(attempts=1, billed=1, seconds=1.0, last=answer, told=True)
    both = RowSpent(attempts=2, billed=2, seconds=2.0, last=answer, told=True)
    found = spent_on(path, 1, ["plain", "untold", "again", "twice", "worse", "refused", "open", "lost", "unpriced", "other"])
    assert found == {
        "plain": one,
        # 6 tokens at 5 or 7
        "untold": structs.replace(one, unsure=12),
        # 10 tokens at 3, and 8 at 7
        "again": structs.replace(both, unknown=1, perhaps=86),
        "twice": structs.replace(both, others=answer),
        "worse": structs.replace(both, done=False, others=answer),
        "refused": structs.replace(both, billed=1, others=Spent(4, 6, 0)),
        "open": structs.replace(both, unknown=1, perhaps=None),
        "lost": structs.replace(one, done=False, last=Spent(), unknown=1, perhaps=86, told=False),
        "unpriced": structs.replace(both, others=Spent(4, 6, 0), priced=False),
    }
    with StoreReader(path) as reader:
        by_row = {row.id: (row.cost, row.cost_perhaps) for row in reader.results(1)}
    assert by_row["twice"] == by_row["worse"] == (76e-12, 0.0)
    assert by_row["again"] == (38e-12, 86e-12)
    assert by_row["open"] == (38e-12, None)
    assert by_row["unpriced"] == (None, None)


async def test_an_answer_that_does_not_tell_for_how_long_a_cache_is_kept_is_no_attempt_of_unknown_usage(tmp_path: Path) -> None:
    path, usage = tmp_path / "runner.db", structs.replace(TOLD, cache_write_tokens=3)
    database.prepare(path, create=True)
    open_run(path, tmp_path / "p.jsonl", {"model": "m"}, {"model": "m"}, new=False)
    answer, cut = attempt("answer", usage=usage, **HOUR), attempt("cut", **CUT, output_bound=8)
    failed = attempt("failed", usage=usage, **HOUR, error_code="bad", error="bad")
    half = attempt("half", usage=Usage(input_tokens=4), input_bound=10, output_bound=8)
    every = [answer, failed, cut, half]
    async with RunStore.own(path, 1) as store:
        await store.save([outcome(one) for one in every])
    found = spent_on(path, 1, ["answer", "failed"])
    # certain is 1 at 2, 3 at 3 and 6 at 5; and 3 may be at 7
    known = RowSpent(attempts=1, billed=1, seconds=1.0, last=Spent(4, 6, 41), told=True, unsure=12)
    assert found["answer"] == known
    assert found["failed"] == structs.replace(known, done=False)
    total = so_far(path, 1)
    assert (total.unknown, total.money.unsure) == (2, 24)
    books = Books()
    books.add(every)
    assert total.money == books.now


async def test_what_was_open_when_a_session_ended_tells_nothing_of_its_row_and_counts_once(tmp_path: Path) -> None:
    path = tmp_path / "runner.db"
    database.prepare(path, create=True)
    open_run(path, tmp_path / "p.jsonl", {"model": "m"}, {"model": "m"}, new=False)
    killed = {**CUT, "error_code": "killed", "error": "killed", "output_bound": 8}
    dropped = {**killed, "error_code": "cancelled", "error": "stopped"}
    endless = {**dropped, "output_bound": None, "usage": Usage(input_tokens=4, output_tokens=1, reasoning_tokens=0)}
    open_ = [attempt("killed", **killed), attempt("killed", 2, **dropped), attempt("endless", **endless)]
    cut = attempt("killed", 3, **CUT, output_bound=8)
    async with RunStore.own(path, 1) as store:
        await store.save([*open_, cut, outcome(attempt("killed", 4)), outcome(attempt("endless", 2))])
    found, answer = spent_on(path, 1, ["killed", "endless"]), Spent(4, 6, 38)
    one = RowSpent(attempts=1, billed=1, seconds=1.0, last=answer, told=True)
    assert found["killed"] == structs.replace(one, attempts=2, billed=2, seconds=2.0, unknown=1, perhaps=86)
    # what it has cost for certain is what the row has cost
    assert found["endless"] == structs.replace(one, others=Spent(4, 1, 13))
    total = so_far(path, 1)
    # 10 tokens at 3 and 8 at 7, twice; then 10 at 3 and 1 at 7 less the 13 that are known
    assert (total.unknown, total.at_ends) == (1, AtEnds(number=3, cost=2 * 86 + 24, tokens=2 * 18 + 6, unlimited=1))
    assert so_far(path, 1, ["killed"]).at_ends == AtEnds(number=2, cost=172, tokens=36)
