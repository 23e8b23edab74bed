"""What rows that were sent tell of others: attempts of unknown usage count as answers, and no bound is beyond all limits."""

import math
import sqlite3
from pathlib import Path

import anyio
import pytest
from msgspec import structs

from runner.model import Attempt, Outcome, Status, Usage
from runner.money import Price
from runner.prices.book import PriceBook
from runner.prices.interval import Interval
from runner.prices.sample import Drawn, Most, Taken
from runner.session.learned import Now, at_tier, capped, most_of, rest_like, taken
from runner.session.rest import answered
from runner.store import database
from runner.store.checkpoint import RunStore
from runner.store.samples import RowSpent, Spent

BOOK = PriceBook(None, {"m": {"input": 1, "output": 4, "flex": 0.5}})
ANSWER = Spent(100, 10, 140)
DONE = RowSpent(attempts=1, billed=1, last=ANSWER, told=True)


def test_an_attempt_of_unknown_usage_counts_as_the_answer_of_its_row_or_as_the_mean_of_the_others() -> None:
    cut = RowSpent(attempts=2, billed=2, last=Spent(200, 20, 280), told=True, unknown=1, perhaps=9_000)
    lost = RowSpent(done=False, attempts=2, billed=2, unknown=2, perhaps=None)
    found = taken({"a": DONE, "b": cut, "c": lost}, "cost")
    assert found == {"a": Taken(140), "b": Taken(280, 0, 280), "c": Taken(0, 0, 2 * 210)}
    assert taken({"a": DONE, "b": cut}, "input_tokens")["b"] == Taken(200, 0, 200)
    # no more than its limit, and in no bound where only what is certain is asked for
    assert taken({"b": RowSpent(last=ANSWER, told=True, unknown=1, perhaps=50)}, "cost")["b"].perhaps == 50
    assert taken({"b": cut}, "cost", certain=True)["b"].perhaps == 0
    # what is not told apart of known tokens may cost more, and is no more tokens
    untold = {"u": RowSpent(last=ANSWER, told=True, unsure=7)}
    assert (taken(untold, "cost")["u"], taken(untold, "output_tokens")["u"]) == (Taken(140, 0, 7), Taken(10, 0, 0))
    # a server that reports no usage at all leaves the limits, or nothing
    assert taken({"c": RowSpent(unknown=1, perhaps=500)}, "cost")["c"] == Taken(0, 0, 500)
    assert math.isinf(taken({"c": lost}, "cost")["c"].perhaps)
    assert math.isinf(taken({"c": lost}, "output_tokens")["c"].perhaps)


def test_rows_that_are_like_the_answered_ones_may_fail_as_these_did_not() -> None:
    rows = {str(number): DONE for number in range(50)}
    found = rest_like(rows, "cost", 100)
    assert found.low == pytest.approx(14_000)
    assert found.mid == 14_000
    # 3.7 of 50 rows
    assert found.high == pytest.approx(14_000 * 1.074, rel=0.01)
    rows["0"] = RowSpent(attempts=2, billed=2, last=ANSWER, told=True, unknown=1, perhaps=10**9)
    assert found.high < rest_like(rows, "cost", 100).high < 14_000 * 1.2
    assert rest_like(rows, "cost", 100, certain=True).high == pytest.approx(found.high)


def test_rows_take_no_more_than_their_limits_at_the_dearest_tier_that_may_serve_them() -> None:
    limits = {"m": Most(input=1_000, output=50, tiers=["flex"])}
    assert most_of(limits, Now(BOOK, 0.0, "flex"), read=600, sent=1.5) == (75, 600 * 10**6 + 75 * 4 * 10**6)
    hour = {"m": structs.replace(limits["m"], hour=True)}
    assert most_of(hour, Now(BOOK, 0.0, "flex"), read=600, sent=1.5)[1] == 600 * 2 * 10**6 + 75 * 4 * 10**6
    assert most_of({}, Now(BOOK, 0.0, None), 600, 1.0) == (math.inf, math.inf)
    assert most_of({"m": Most(input=1, output=None, tiers=[])}, Now(BOOK, 0.0, None), 600, 1.0) == (math.inf, math.inf)
    assert capped(Interval(low=1, mid=5, high=90), 20) == Interval(low=1, mid=5, high=20)
    assert capped(Interval(low=1, mid=5, high=90), 4) == Interval(low=1, mid=5, high=5)


def test_what_is_left_is_converted_to_the_tier_that_is_asked_for_now() -> None:
    limits = {"m": Most(input=1, output=1, tiers=["flex"])}
    drawn = Drawn(
        number=10, input=("", 1), settled=0, cost=0, input_tokens=0, output_tokens=0, strata=[], most=limits, tier="flex"
    )
    cost = Interval(low=8, mid=10, high=12)
    assert at_tier(cost, drawn, Now(BOOK, 0.0, "flex")) == cost
    assert at_tier(cost, drawn, Now(BOOK, 0.0, None)) == Interval(low=8, mid=20, high=24)
    assert at_tier(cost, drawn, Now(None, 0.0, None)) == cost


def test_failed_rows_do_not_tell_what_they_will_cost_when_they_are_sent_again(tmp_path: Path) -> None:
    database.prepare(tmp_path / "s.db", create=True)
    price = Price(model="m", tier="standard", rates=BOOK.highest("m", 0.0, None, 9))
    dear, cheap = Usage(input_tokens=9_000, output_tokens=9), Usage(input_tokens=10, output_tokens=0)
    with sqlite3.connect(tmp_path / "s.db") as driver:
        driver.execute(
            "INSERT INTO runs (id, created_at, input, input_relative, settings, fingerprint) VALUES (1, 1e9, 'x', 'x', '{}', 'f')"
        )
    driver.close()

    async def fill() -> None:
        async with RunStore.own(tmp_path / "s.db", 1) as store:
            for at in range(16):
                failed = {"error_code": "bad", "error": "bad"} if at >= 12 else {}
                usage = dear if failed else cheap
                one = Attempt(
                    key=str(at),
                    number=1,
                    started_at=1e9,
                    duration_s=1.0,
                    status=200,
                    usage=usage,
                    price=price,
                    model="m",
                    **failed,
                )
                status: Status = "failed" if failed else "done"
                outcome = Outcome(key=one.key, position=1, status=status, metadata={}, fingerprint=1, attempt=one, attempts=1)
                await store.save([structs.replace(outcome, **failed)])

    anyio.run(fill)
    found = [answered(tmp_path / "s.db", 1, "m", 4, Now(BOOK, 0.0, None), again=again) for again in (False, True)]
    assert [one.learned for one in found if one is not None] == [16, 12]
    again = found[1]
    assert again is not None
    assert again.cost is not None
    assert again.cost.mid == pytest.approx(4 * 10 * 10**6)
