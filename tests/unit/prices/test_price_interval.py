"""Totals from a sample: exact where the values are a line of the sizes, and honest where they are not."""

import math
import random

import pytest

from runner.prices.interval import Population, positions, rare, sampled, total


def draw(rows: list[tuple[int, float]], number: int, seed: int = 1) -> tuple[Population, list[tuple[int, float]]]:
    population = Population(rows=len(rows), size=sum(size for size, _ in rows))
    return population, list(sampled(((row, row[0]) for row in rows), population, positions(population, number, seed)))


def test_a_line_of_the_size_is_estimated_exactly() -> None:
    rows = [(size, 30.0 + 0.25 * size) for size in range(10, 2_000)]
    population, sample = draw(rows, 50)
    found = total(sample, population)
    truth = sum(value for _, value in rows)
    assert abs(found.mid - truth) < 1e-6 * truth
    assert found.high - found.low < 1e-6 * truth


def test_rows_of_one_size_are_a_plain_mean() -> None:
    rows = [(100, float(value % 7)) for value in range(700)]
    population, sample = draw(rows, 49)
    found = total(sample, population)
    assert abs(found.mid - 700 / 49 * sum(value for _, value in sample)) < 1e-6
    assert found.low <= 2_100 <= found.high


def test_a_row_larger_than_the_rest_is_always_in_the_sample_and_once() -> None:
    rows = [(10, 1.0)] * 500 + [(1_000_000, 7.0)] + [(10, 1.0)] * 500
    for seed in range(20):
        _, sample = draw(rows, 10, seed)
        assert sum(size == 1_000_000 for size, _ in sample) == 1


def test_a_sample_of_a_seed_is_always_the_same_and_of_the_size_that_was_asked_for() -> None:
    chance = random.Random(3)
    rows = [(chance.randint(50, 150), 1.0) for _ in range(1_000)]
    assert draw(rows, 50, 5)[1] == draw(rows, 50, 5)[1]
    assert len(draw(rows, 50, 5)[1]) == 50


def test_the_interval_is_no_less_than_what_the_sample_cost() -> None:
    rows = [(10, 100.0 if number < 3 else 0.0) for number in range(5)]
    population, sample = draw(rows, 4)
    found = total(sample, population)
    assert sum(value for _, value in sample) <= found.low <= found.mid <= found.high


def test_what_no_row_of_a_sample_has_may_be_there_all_the_same() -> None:
    found = rare([], 7.0)
    # the exact bound of a Poisson number of which none came is 3.69
    assert (found.low, found.mid) == (0, 0)
    assert found.high == pytest.approx(3.69 * 7, rel=0.01)


@pytest.mark.parametrize(("number", "low", "high"), [(1, 0.025, 5.57), (3, 0.62, 8.77), (9, 4.12, 17.08)])
def test_a_few_equal_amounts_have_the_interval_of_their_number(number: int, low: float, high: float) -> None:
    found = rare([2.0] * number, 2.0)
    assert found.mid == 2 * number
    assert found.low == pytest.approx(2 * low, rel=0.03, abs=0.05)
    assert found.high == pytest.approx(2 * high, rel=0.02)


def test_what_may_be_more_raises_the_high_bound_alone_and_may_have_no_limit() -> None:
    known, more = rare([2.0, 3.0], 2.0), rare([2.0, 3.0], 2.0, [4.0, 3.0])
    assert (more.low, more.mid) == (known.low, known.mid)
    assert more.high > known.high
    assert math.isinf(rare([0.0], 2.0, [math.inf]).high)
