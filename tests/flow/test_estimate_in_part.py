"""Estimates of some rows of a run: what is left of them, what they have cost, and what the whole run will have cost."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bought import MOST, ROWS, Desk
from processes import rows
from raw_server import RawServer, in_thread

import runner

LIMIT = 30


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path)
    with in_thread(RawServer(desk)) as server:
        desk.url = server.base_url
        desk.write(prompts())
        yield desk


def prompts(*, twice: bool = False) -> list[str]:
    numbers = [number // 2 if twice else number for number in range(ROWS)]
    return [f"{number} " + "x" * (10 + number * 7 % 90) for number in numbers]


def dollars(some: list[str]) -> float:
    """Return what these prompts cost, each once."""
    return sum(len(prompt) + 4 * MOST for prompt in some) / 1e6


def spent_on(desk: Desk, some: list[str]) -> float:
    """Return what was sent for these prompts."""
    return dollars([prompt for prompt in some for _ in range(desk.asked[prompt])])


def projected(desk: Desk) -> float | None:
    return runner.status(db=desk.store)[1].cost_projected


def test_a_limit_behind_a_sample_counts_its_own_rows(desk: Desk) -> None:
    first = prompts()[:LIMIT]
    desk.estimated(sample=40)
    told = projected(desk)
    sent = sum(prompt in desk.asked for prompt in first)
    found = desk.estimated(limit=LIMIT)
    assert (found.rows, found.rows_left, found.cost_spent) == (LIMIT, LIMIT - sent, pytest.approx(spent_on(desk, first)))
    # a sample of these rows alone
    found = desk.estimated(limit=LIMIT, sample=10)
    assert (found.basis, found.rows_left) == ("sample", LIMIT - sent - 10)
    assert found.cost_spent == pytest.approx(spent_on(desk, first))
    assert found.cost is not None
    assert found.cost.mid == pytest.approx(dollars(first), rel=1e-3)
    # what the first sample said of the whole run stays: it tells of more rows
    assert told == pytest.approx(dollars(prompts()), rel=1e-3)
    assert projected(desk) == pytest.approx(told, rel=0.02)
    end = desk.run(limit=LIMIT)
    assert end.attempts_now == found.rows_left
    assert end.cost_projected == projected(desk) == pytest.approx(told, rel=0.02)
    last = desk.estimated(limit=LIMIT)
    assert (last.rows_left, last.cost_spent) == (0, pytest.approx(dollars(first)))
    assert last.cost is not None
    assert last.cost.low == last.cost.high == last.cost_spent


def test_a_sample_behind_a_limit_tells_of_the_whole_run(desk: Desk) -> None:
    desk.estimated(limit=LIMIT, sample=10)
    assert projected(desk) == pytest.approx(dollars(prompts()), rel=0.05)
    end = desk.run(limit=LIMIT)
    assert end.cost_projected == projected(desk) == pytest.approx(dollars(prompts()), rel=0.05)
    # rows beyond the limit tell nothing of those that it leaves
    desk.run(where="id | int > 89")
    found = desk.estimated(limit=LIMIT)
    assert (found.rows_left, found.cost_spent) == (0, pytest.approx(dollars(prompts()[:LIMIT])))


def test_requests_that_are_sent_once_are_counted_for_the_whole_run(desk: Desk) -> None:
    desk.write(prompts(twice=True))
    once = dollars(sorted(set(prompts(twice=True))))
    found = desk.estimated(dedupe=True, limit=2 * LIMIT, sample=10)
    assert (found.rows, found.rows_left) == (2 * LIMIT, LIMIT - 10)
    assert projected(desk) == pytest.approx(once, rel=0.1)
    end = desk.run(dedupe=True, limit=2 * LIMIT)
    assert end.attempts_now == LIMIT - 10
    last = desk.estimated(dedupe=True, limit=2 * LIMIT)
    assert (last.rows_left, last.cost_spent) == (0, pytest.approx(desk.cost))


@pytest.mark.parametrize("more", [{}, {"limit": 30}])
def test_rows_that_are_chosen_have_cost_what_was_sent_for_them(desk: Desk, more: dict[str, Any]) -> None:
    desk.run(where="id | int > 49", limit=20)
    desk.run(where="id | int < 50", limit=10)
    found = desk.estimated(where="id | int < 50", **more)
    chosen = more.get("limit", 50)
    assert (found.rows, found.rows_left) == (chosen, chosen - 10)
    assert found.cost_spent == pytest.approx(dollars(prompts()[:10]))
    found = desk.estimated(where="id | int < 50", sample=10, **more)
    assert (found.basis, found.rows_left) == ("sample", chosen - 20)
    assert found.cost_spent == pytest.approx(spent_on(desk, prompts()[:50]))


def test_of_fewer_answers_what_is_left_and_spent_is_theirs(desk: Desk) -> None:
    desk.run(limit=20, answers=3)
    first = prompts()[:20]
    found = desk.estimated(answers=1)
    assert (found.rows_left, found.cost_spent) == (ROWS - 20, pytest.approx(dollars(first)))
    two = desk.estimated(answers=2, limit=LIMIT)
    assert (two.rows_left, two.cost_spent) == (2 * (LIMIT - 20), pytest.approx(2 * dollars(first)))
    found = desk.estimated(answers=2, limit=LIMIT, sample=10)
    assert (found.basis, found.rows_left) == ("sample", 2 * (LIMIT - 20) - 10)
    assert found.cost_spent == pytest.approx(dollars(bought_of(desk, number=2)))


def bought_of(desk: Desk, *, number: int) -> list[str]:
    """Return the prompt of each answer that was bought, of the first answers of each row."""
    asked = prompts()
    found = rows(desk.store, f"SELECT position FROM items WHERE answer_number <= {number} ORDER BY position")
    return [asked[position - 1] for (position,) in found]
