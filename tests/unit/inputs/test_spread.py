"""Rows that are kept as examples of all: few, and from everywhere."""

from itertools import pairwise

import pytest

from runner.inputs.spread import Spread
from runner.model import Row


def kept(number: int, size: int = 10) -> list[int]:
    spread = Spread()
    for line in range(1, number + 1):
        if line == spread.due:
            spread.add(Row(line=line, fields={}, size=size))
    return [row.line for row in spread.rows]


@pytest.mark.parametrize("number", [1, 255, 256, 257, 300, 5_000, 100_000])
def test_they_are_equally_far_apart(number: int) -> None:
    lines = kept(number)
    steps = {after - before for before, after in pairwise(lines)}
    assert min(number, 128) <= len(lines) <= 256
    assert len(steps) <= 1
    assert lines[-1] > number - 2 * max(steps, default=1)


def test_large_rows_are_kept_in_smaller_numbers() -> None:
    assert len(kept(1_000, 4 << 20)) <= 4
    assert kept(1, 1 << 30) == [1]
