"""Amounts of money as a person reads them: one rule for sums, and another for what the person has typed."""

from decimal import Decimal
from pathlib import Path

import pytest
from msgspec import structs

from runner.cli import money
from runner.config.job import STORED, load_job
from runner.money import PICO, exact, picodollars, shown
from runner.session import budgeting


@pytest.mark.parametrize(
    ("dollars", "said"),
    [
        ("0", "$0.00"),
        ("0.000000000001", "$0.000000000001"),
        ("0.0000000123", "$0.000000012"),
        ("0.00035", "$0.00035"),
        ("0.0002", "$0.0002"),
        ("0.004", "$0.004"),
        ("0.00999", "$0.01"),
        ("0.01", "$0.01"),
        ("0.0123", "$0.012"),
        ("0.05", "$0.05"),
        ("0.0999", "$0.10"),
        ("0.1", "$0.10"),
        ("0.994", "$0.99"),
        ("0.996", "$1.00"),
        ("5", "$5.00"),
        ("12.3456", "$12.35"),
        ("1204", "$1,204.00"),
        ("1234567.891", "$1,234,567.89"),
    ],
)
def test_a_sum_is_rounded_and_ends_at_the_cent_or_at_its_last_digit(dollars: str, said: str) -> None:
    amount = int(Decimal(dollars) * PICO)
    assert shown(amount) == money.amount(float(dollars)) == said


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (0.01, "$0.01"),
        (5, "$5.00"),
        (5.0, "$5.00"),
        (0.0125, "$0.0125"),
        (1.005, "$1.005"),
        (0.1, "$0.10"),
        (1e-05, "$0.00001"),
        (0, "$0.00"),
        (1234567.5, "$1,234,567.50"),
    ],
)
def test_an_amount_is_repeated_as_it_was_typed(typed: float, said: str) -> None:
    assert exact(picodollars(typed)) == money.typed(typed) == said


def test_a_budget_of_earlier_sessions_is_said_as_it_was_typed(tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_text('{"prompt": "a"}\n')
    job = load_job(tmp_path / "p.jsonl", {"model": "m", "max_cost": 1234567.125, "max_tokens_total": 20_000}, {})
    assert budgeting.kept(job) == ""
    names = ("max_cost", "max_tokens_total")
    job = structs.replace(job, sources={**job.sources, **dict.fromkeys(names, STORED)})
    said = "a budget of $1,234,567.125 (--max-cost) and of 20,000 tokens (--max-tokens-total)"
    assert budgeting.kept(job) == said
