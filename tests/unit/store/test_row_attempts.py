"""The attempts of one row: all that the store has, without reading those of other rows."""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from filling import done, filled, saved
from msgspec import structs

from runner.model import Attempt, Entry, Outcome
from runner.several import key_of
from runner.store import database
from runner.store.schema import attempts
from runner.store.story import story

TABLES = ("attempts", "items", "replaced", "reused")


def failure(key: str, number: int) -> Attempt:
    return Attempt(key=key, number=number, started_at=float(number), duration_s=1.0, error_code="cut", error="cut")


def answer(key: str, position: int, number: int, **changes: Any) -> Outcome:
    """Return an answer, after attempts that have failed."""
    found = done(key, position)
    assert found.attempt is not None
    sent = structs.replace(found.attempt, number=number)
    return structs.replace(found, attempts=number, attempt=sent, **changes)


def numbers(store: Path, key: str) -> list[tuple[int, list[int]]]:
    return [(one.answer_number, [sent.number for sent in one.attempts]) for one in story(store, 1, key)]


@pytest.fixture
def read() -> Iterator[list[str]]:
    """What is said of how each statement finds its rows."""
    plans: list[str] = []

    def explain(connection: sa.Connection, cursor: Any, statement: str, values: Any, context: Any, many: bool) -> None:
        if statement.startswith("SELECT"):
            plans.extend(one[3] for one in connection.connection.execute(f"EXPLAIN QUERY PLAN {statement}", values))

    sa.event.listen(sa.Engine, "before_cursor_execute", explain)
    yield plans
    sa.event.remove(sa.Engine, "before_cursor_execute", explain)


def test_all_attempts_are_found_and_only_those_of_the_row_are_read(tmp_path: Path, read: list[str]) -> None:
    further = key_of("b", 2)
    entries: list[Entry] = [
        *(failure("b", number) for number in (1, 2, 3)),
        answer("a", 1, 1), answer("b", 2, 4), failure(further, 1), answer(further, 2, 2), failure("open", 1), answer("ab", 3, 1),
    ]  # fmt: skip
    store = filled(tmp_path / "runner.db", *entries)
    read.clear()
    assert numbers(store, "b") == [(1, [1, 2, 3, 4]), (2, [1, 2])]
    assert (numbers(store, "a"), numbers(store, "2"), numbers(store, "none")) == ([(1, [1])], numbers(store, "b"), [])
    # a row that is still to be answered
    assert numbers(store, "open") == [(1, [1])]
    assert not [
        plan for plan in read if plan.startswith("SCAN") and plan.split()[1] in ("attempts", "items", "replaced", "reused")
    ]
    assert [plan for plan in read if plan.startswith("SEARCH attempts USING INTEGER PRIMARY KEY")]


def test_an_answer_that_no_outcome_names_any_more_is_found_by_its_number(tmp_path: Path, read: list[str]) -> None:
    store = filled(tmp_path / "runner.db", answer("a", 1, 1), answer("b", 2, 1))
    # as a version did that kept no answers that were replaced
    saved(store, answer("a", 1, 2, fingerprint=5))
    assert numbers(store, "a") == [(1, [1, 2])]
    assert [plan for plan in read if plan.startswith("SCAN attempts")]


@pytest.mark.parametrize("seed", range(2))
def test_it_is_what_reading_all_attempts_finds(tmp_path: Path, seed: int) -> None:
    draw, store, sent, entries = random.Random(seed), tmp_path / "runner.db", dict[str, int](), list[Entry]()
    for _ in range(40):
        key = key_of(draw.choice("abc"), draw.randint(1, 2))
        sent[key] = sent.get(key, 0) + 1
        entries.append(answer(key, 1, sent[key], fingerprint=sent[key]) if draw.random() < 0.3 else failure(key, sent[key]))
    filled(store, *entries)
    with database.transaction(store, write=False) as connection:
        every = list(connection.execute(sa.select(attempts.c.item_key, attempts.c.number)))
    for key in "abc":
        found = [(key_of(key, number), one) for number, sent_for in numbers(store, key) for one in sent_for]
        assert sorted(found) == sorted((of, number) for of, number in every if of in (key, key_of(key, 2)))
