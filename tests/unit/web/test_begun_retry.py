"""A retry that the page starts: what it says beforehand, and that the command gets the rows which were named, and no others."""

import asyncio
import sys
from pathlib import Path

import pytest
from filling import done, failed, filled
from msgspec import structs
from webbing import served

from runner.control.messages import Continue, Pause, Stop
from runner.model import Attempt, Outcome, Usage
from runner.money import Price, Rates
from runner.web.replies import ApiError, refused
from runner.web.retrying import begin, foreseen
from runner.web.steering import PLAIN

RATES = Rates(input=10**10, output=10**10, cached_input=0, cache_write=0, reasoning=10**10, cache_write_1h=0)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    (tmp_path / "p.jsonl").write_text("".join(f'{{"id": "{name}", "prompt": "x"}}\n' for name in "abcd"))
    rows = [priced(done(name, at)) for at, name in enumerate("ab", 1)] + [failed(name, at) for at, name in enumerate("cd", 3)]
    return filled(tmp_path / "runner.db", *rows)


def priced(outcome: Outcome) -> Outcome:
    """Have an answer cost a dime."""
    assert isinstance(outcome.attempt, Attempt)
    price = Price(model="m", tier="standard", rates=RATES)
    usage = Usage(input_tokens=7, output_tokens=3, reasoning_tokens=0)
    return structs.replace(outcome, attempt=structs.replace(outcome.attempt, usage=usage, price=price))


def test_what_a_retry_may_cost_is_that_of_an_answer_for_each_row(store: Path) -> None:
    found = [foreseen(store, 1, ids, classes) for ids, classes in ((["a", "b", "c"], ()), (None, ("cut",)), (None, ()))]
    assert [(one.rows, one.cost) for one in found] == [(3, pytest.approx(0.3)), (2, pytest.approx(0.2)), (2, pytest.approx(0.2))]
    assert found[0].sentence.startswith("sends 3 rows of run 1 again; about $0.3")


@pytest.mark.parametrize(
    ("ids", "classes", "words", "given"),
    [
        (["b", "c\nd"], (), "--ids -", '{"id": "b"}\n{"id": "c\\nd"}\n'),
        (None, ("cut", "server"), "--class cut,server", ""),
        (None, (), "", ""),
    ],
)
def test_the_command_gets_what_was_named(
    store: Path, ids: list[str] | None, classes: tuple[str, ...], words: str, given: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = store.parent / "told"
    command = store.parent / "command"
    # in place of the interpreter, something that tells what it was given
    command.write_text(f'#!/bin/sh\n(echo "$@"; cat) > {told}\n')
    command.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(command))
    assert "has ended already" in asyncio.run(begin(store, 1, ids, classes, ("--max-tokens", "9")))
    line, _, rest = told.read_text().partition("\n")
    assert (line.split("--quiet")[1].split(), rest) == ([*words.split(), "--max-tokens", "9"], given)
    assert line.split()[:5] == ["-P", "-m", "runner", "retry", "1"]


def test_no_error_tells_a_key() -> None:
    answer = refused(ApiError(409, "refused", "the server said: wrong key sk-0123456789abcdefghij"))
    assert b"sk-0123" not in answer.body


def test_a_variable_that_was_left_empty_is_no_wish_for_all_that_failed(store: Path) -> None:
    with served(store) as page, page.client() as client:
        for empty in ({"class": ""}, {"class": " , "}, {"ids": []}):
            nothing = client.post("/api/runs/1/retry", json={"confirm": True, **empty})
            assert (nothing.status_code, "names no" in nothing.json()["error"]) == (400, True)


def test_each_word_of_a_path_asks_for_what_it_says() -> None:
    assert {"pause": Pause(), "continue": Continue(), "stop": Stop()} == PLAIN
