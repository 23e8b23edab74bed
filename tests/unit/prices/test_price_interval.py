"""Totals from a sample: exact where the values are a line of the sizes, and honest where they are not."""

import random

from runner.prices.interval import Population, positions, sampled, total


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
    assert found.low >= 0
    assert found.low <= found.mid <= found.high
