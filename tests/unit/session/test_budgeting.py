"""What a budget counts: what earlier sessions have used, what an attempt may have cost, and what is asked for to finish."""

import re
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from runner.admission import Amounts, Reservation
from runner.config.job import Job, load_job
from runner.engine.bounds import Bounds
from runner.engine.limits.budget import Budget, Pot
from runner.engine.stop import Stop
from runner.model import Attempt, Usage
from runner.money import PICO, Price
from runner.prices.book import PriceBook
from runner.prices.interval import Interval
from runner.session import budgeting
from runner.session.budgeting import Purse
from runner.session.reached import Likely, Progress, reached
from runner.store.spending import Used

BOOK = PriceBook(None, {"m": {"input": 1, "output": 4, "cache_write": 1.25, "reasoning": 4, "flex": 0.5}})
NOTHING = Used()
BEFORE = Used(cost=3 * PICO, tokens=700)


@pytest.fixture
def job(tmp_path: Path) -> Job:
    (tmp_path / "p.jsonl").write_text('{"prompt": "a"}\n')
    return load_job(tmp_path / "p.jsonl", {"model": "m", "max_cost": 5.0}, {})


def purse(job: Job, book: PriceBook | None = BOOK, before: Used = NOTHING, said: list[str] | None = None) -> Purse:
    told = said if said is not None else []
    return Purse(job, book, before, Stop(), lambda: Progress(0, 0, 0), told.append)


def test_a_budget_of_the_run_counts_earlier_sessions_and_one_of_the_session_does_not(job: Job) -> None:
    all_ = structs.replace(job, max_cost_session=4.0, max_tokens_total=1_000)
    pots = {pot.setting: (pot.limit, pot.used) for pot in purse(all_, before=BEFORE).budget.pots}
    assert pots == {
        "max_cost": (5 * PICO, 3 * PICO),
        "max_cost_session": (4 * PICO, 0),
        "max_tokens_total": (1_000, 700),
    }
    assert budgeting.dollars_left(all_, BEFORE) == 2.0
    # more may have been used than a lower limit allows now
    assert budgeting.dollars_left(structs.replace(job, max_cost=1.0), BEFORE) == 0.0


def test_attempts_whose_cost_is_not_known_are_told_where_dollars_count(job: Job) -> None:
    said: list[str] = []
    purse(job, before=Used(unknown=2), said=said)
    assert said == ["the cost of 2 attempts of earlier sessions is not known, so they are not part of the budget"]
    purse(structs.replace(job, max_cost=None, max_tokens_total=9), before=Used(unknown=2), said=said)
    assert len(said) == 1


def test_a_request_holds_its_bounds_at_the_highest_rates(job: Job) -> None:
    quote = purse(job).quote("m", Bounds(100, 10, None), 1e9)
    assert (quote.amounts, quote.output_bound) == (Amounts(100 * 1_250_000 + 10 * 4_000_000, 110), 10)
    hour = purse(job).quote("m", Bounds(100, 10, "flex", hour=60), 1e9)
    assert hour.amounts == Amounts(40 * 1_250_000 + 60 * 2_000_000 + 10 * 4_000_000, 110)


MOST = Amounts(165_000_000, 110)


@pytest.mark.parametrize(
    ("fields", "cost", "tokens"),
    [
        pytest.param({"usage": Usage(input_tokens=9, output_tokens=6)}, 33_000_000, 15, id="known"),
        pytest.param({"usage": None, "input_bound": 100, "output_bound": 10}, 165_000_000, 110, id="not known"),
        pytest.param(
            {"usage": Usage(input_tokens=9, output_tokens=6), "input_bound": 9, "output_bound": 10}, 51_250_000, 19, id="cut"
        ),
        pytest.param({"usage": Usage(input_tokens=9, output_tokens=6), "price": None}, 165_000_000, 15, id="without a price"),
        pytest.param({"usage": None, "status": 429, "input_bound": 9, "output_bound": 9}, 0, 0, id="refused"),
        pytest.param({"usage": None, "sent": False}, 0, 0, id="not sent"),
    ],
)
def test_an_attempt_has_used_what_it_may_have_cost(job: Job, fields: dict[str, Any], cost: int, tokens: int) -> None:
    rates = BOOK.highest("m", 1e9, None, 100)
    price = Price(model="m", tier="standard", rates=rates)
    reserved = Reservation("a", 1, 1e9, MOST, 100, 10, price)
    given = {"status": 200, "model": "m", "price": price, **fields}
    attempt = Attempt(key="a", number=1, started_at=1e9, duration_s=1.0, **given)
    assert purse(job).used(attempt, reserved) == Amounts(cost, tokens)
    counted = structs.replace(job, max_cost=None, max_tokens_total=9)
    assert purse(counted, None).used(attempt, reserved) == Amounts(0, tokens)


def test_the_limit_that_finishes_a_run_has_room_for_the_other_rows_and_for_the_largest_request() -> None:
    budget = Budget(
        [Pot("max_cost", "cost", PICO, PICO * 901 // 1000), Pot("max_tokens_total", "tokens", 100, 40)], lambda _: None
    )
    assert not budget.take(Amounts(PICO // 5, 20))
    progress = Progress(PICO * 901 // 1000, 3, 7)
    said = reached(budget, Amounts(PICO // 5, 20), progress)
    # $0.901 is used by 3 rows, so 7 more use about $2.1023, and the last one may need $0.20; too few rows tell that they do
    assert said.endswith("Raise it to $3.21 and 153 tokens to go on: `runner resume --max-cost 3.21 --max-tokens-total 153`.")
    alike = [Interval(low=0.9 * mid, mid=mid, high=1.1 * mid) for mid in (0.7 * PICO, 28)]
    said = reached(budget, Amounts(PICO // 5, 20), progress._replace(likely=Likely(*alike, 1.0, 0, 40)))
    # seven of the largest requests are $1.40 and 140 tokens, which is less than the bound with failed attempts
    assert said.endswith("Raise it to $2.51 and 200 tokens to finish: `runner resume --max-cost 2.51 --max-tokens-total 200`.")
    # where an attempt in three has been lost, and counts as the most that it can have used, as many more are expected
    lost = progress._replace(spent=PICO * 700 // 1000, likely=Likely(*alike, 4 / 3, 1, 20))
    said = reached(budget, Amounts(PICO // 5, 20), lost)
    assert "Raise it to $2.97 and 247 tokens to finish" in said


def test_what_was_open_when_sessions_ended_is_used_and_not_expected_of_the_other_rows() -> None:
    progress = Progress(PICO * 100 // 1000, 10, 30)
    largest, alike = Amounts(PICO // 20, 40), [Interval(low=mid, mid=mid, high=mid) for mid in (0.3 * PICO, 300)]

    def raised(at_ends: Amounts, progress: Progress) -> tuple[float, int]:
        """Return the limits that are advised where $0.10 and 100 tokens are known, and so much is used beside them."""
        pots = [Pot("max_cost", "cost", PICO // 10, PICO // 10 + at_ends.cost)]
        pots.append(Pot("max_tokens_total", "tokens", 100, 100 + at_ends.tokens))
        budget = Budget(pots, lambda _: None)
        assert not budget.take(largest)
        dollars, tokens = re.findall(r"--max-cost ([\d.]+) --max-tokens-total (\d+)", reached(budget, largest, progress))[0]
        return float(dollars), int(tokens)

    ends = Amounts(PICO * 800 // 1000, 800)
    for likely in (None, Likely(*alike, 1.0, 0, 100)):
        clean = progress._replace(likely=likely)
        dollars, tokens = raised(Amounts(), clean)
        assert raised(ends, clean._replace(at_ends=ends)) == (pytest.approx(dollars + 0.8), tokens + 800)
        # as an attempt of unknown usage that is expected again, it counts for the others too
        lost = clean._replace(likely=likely._replace(unknown=4)) if likely is not None else clean
        assert raised(ends, lost)[0] > dollars + 0.85
