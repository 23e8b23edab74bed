"""The benchmarks of money say which figure was missed, and end with an error then."""

from typing import Any

import pytest
from budgeted import Result

from benchmarks import budget, estimates, invoices
from runner.money import Money

RUN = Result(budget=1_000, billed=970, answered=960, low=900, high=1_000, reached=True)
BOOKS = invoices.Compared(
    seed=1,
    money=Money(spent=10, perhaps=5),
    certain=10,
    reported=10,
    billed=12,
    dearest=15,
    others={"view": (10, 5)},
    kinds=invoices.KINDS,
)


KILLED = RUN._replace(kills=2)


def of_budget(*, first: Any = RUN, second: Any = KILLED, third: Any = RUN) -> list[str]:
    return budget.missed([first], [second], [third], 2)


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ({"first": RUN._replace(billed=1_001, high=1_001)}, "cost more than their budget, by up to 1 picodollars"),
        ({"third": RUN._replace(billed=1_001, high=1_001)}, "cost more than their budget"),
        ({"second": KILLED._replace(high=969)}, "the books of 1 runs do not contain the bill"),
        ({"first": RUN._replace(low=971)}, "the books of 1 runs do not contain the bill"),
        ({"second": KILLED._replace(kills=1)}, "1 runs were not killed 2 times"),
        ({"third": RUN._replace(reached=False)}, "1 runs with ordinary answers did not reach their budget"),
        ({"third": RUN._replace(answered=949)}, "in 1 runs with ordinary answers less than 95% of the budget became answers"),
    ],
)
def test_a_figure_of_the_budget_is_missed(found: dict[str, Any], said: str) -> None:
    assert of_budget() == []
    (one,) = of_budget(**found)
    assert said in one


def test_a_budget_that_ends_no_run_is_no_figure() -> None:
    free = KILLED._replace(reached=False)
    assert of_budget(first=free, second=free) == ["the budget ended fewer than 25% of the runs with faults"]


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ({"certain": 9}, "not known: "),
        ({"money": Money(spent=10, perhaps=4), "others": {"view": (10, 4)}}, "not contained: "),
        ({"billed": 9}, "not contained: "),
        ({"others": {"view": (10, 5), "rows": (10, 6)}}, "not agreed: "),
        ({"kinds": invoices.KINDS - {"flex"}}, "no invoice has flex: "),
        ({"money": Money(spent=10), "billed": 10, "dearest": 10, "others": {"view": (10, 0)}}, "no run had attempts of unknown"),
    ],
)
def test_a_figure_of_the_invoice_is_missed(found: dict[str, Any], said: str) -> None:
    assert invoices.missed([BOOKS]) == []
    (one,) = invoices.missed([BOOKS._replace(**found)])
    assert one.startswith(said)


def test_a_figure_of_the_estimate_is_missed() -> None:
    assert estimates.missed([True] * 19 + [False], [0.1], faults=False) == []
    assert estimates.missed([True] * 18 + [False] * 2, [0.1], faults=True) == ["0.900 of the intervals hold, not 0.95"]
    assert estimates.missed([True], [0.11], faults=False) == ["the half-width is 0.110 in the median, more than 0.1"]
    assert estimates.missed([True], [0.11], faults=True) == []
    assert estimates.missed([True], [], faults=False) == ["no set varies so little that its width counts: more sets are needed"]
