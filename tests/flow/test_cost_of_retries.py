"""The line before a retry, and its question: at the prices, with the settings and up to the limit of what is asked now."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from raw_server import RawServer, in_thread
from retried import Answering, Bench
from test_confirming import Desk

import runner
from runner.event_types import Started

ROWS = 24
CHEAP = {"input": 1, "output": 1}
DEAR = {"input": 1000, "output": 1000}


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """Rows of which one in two is cut; each answer has 7 tokens of input and 3 of output."""
    asked = Answering({f"r{one}": ["cut"] for one in range(0, ROWS, 2)})
    with in_thread(RawServer(asked)) as server:
        bench = Bench(tmp_path, server, asked, rows=ROWS)
        bench.run(prices={"m": CHEAP})
        yield bench


def begun(bench: Bench, **more: Any) -> list[str]:
    """Retry, and return what was said before."""
    notes: list[str] = []
    bench.retry(observe=lambda event: notes.extend(event.notes) if isinstance(event, Started) else None, **more)
    return notes


def expected(bench: Bench, **more: Any) -> tuple[float, float, str]:
    """Retry, and return what the line before said that it costs and may cost, and from what it was told."""
    (line,) = (note for note in begun(bench, **more) if note.startswith("expected cost"))
    found = re.search(r"about \$(\S+) \(\$\S+ to \$(\S+)\), (.*)", line)
    assert found is not None, line
    return float(found[1]), float(found[2]), found[3]


def spent(bench: Bench) -> float:
    cost = runner.status(db=bench.store)[1].cost
    assert cost is not None
    return cost


def test_another_model_costs_what_it_costs(bench: Bench) -> None:
    like_before, _, basis = expected(bench, classes="length")
    assert (like_before, basis) == (pytest.approx(120e-6), "if they are like the 24 rows answered last")
    before = spent(bench)
    about, most, basis = expected(bench, classes="length", model="big", prices={"big": DEAR})
    assert basis == "by sizes alone"
    assert spent(bench) - before < 2 * about < 4 * most
    # and back: the rows that the dear one has answered tell nothing of it
    assert expected(bench, classes="length")[0] < 0.001
    # what goes on with it has its prices as well
    assert expected(bench, all_rows=True, model="big")[0] > 0.1


@pytest.mark.parametrize(
    "more", [{"prices": {"m": DEAR}}, {"tier": "priority", "prices": {"m": {**CHEAP, "priority": 1000}}}], ids=["prices", "tier"]
)
def test_the_same_tokens_have_the_prices_of_now(bench: Bench, more: dict[str, Any]) -> None:
    about, _, basis = expected(bench, classes="length", **more)
    assert (about, basis) == (pytest.approx(0.12), "if they are like the 24 rows answered last")


def test_a_longer_system_prompt_and_a_higher_limit_are_counted(bench: Bench) -> None:
    assert expected(bench, classes="length", system="word " * 4_000)[0] > 12 * 4_000e-6
    # a cut answer needs more than it had: 3 tokens, as far as the limit goes
    about, most, _ = expected(bench, classes="length", max_tokens=5)
    assert about > 12 * (3 + 2) * 1e-6
    assert most < expected(bench, classes="length", max_tokens=5_000)[1]


def test_a_model_without_a_price_has_an_unknown_cost(bench: Bench) -> None:
    notes = begun(bench, model="new", all_rows=True)
    assert any(note.startswith("cost unknown: no price is known for new") for note in notes)
    assert not any(note.startswith("expected cost") for note in notes)


def test_a_dear_retry_is_asked_about(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    with in_thread(desk.server):
        desk.job(above=1)
        runner.run(tmp_path / "p.jsonl", db=desk.store)
        dear = '{"big": {"input": 1000, "output": 4000}}'
        words = ("retry", "--all", "--model", "big", "--prices", dear, "--confirm-above", "1")
        code, said = desk.asked(*words, answer=b"n\r")
        assert (code, len(desk.server.requests), "Start?" in said) == (2, 20, True), said
        # the price of before would not be asked about, and is not
        code, said = desk.asked("retry", "--all", "--confirm-above", "1", answer=b"")
        assert (code, len(desk.server.requests), "Start?" in said) == (0, 40, False), said


def test_answers_that_newer_ones_replaced_cost_the_rows_that_are_left_nothing(tmp_path: Path) -> None:
    with in_thread(RawServer(Answering({}))) as server:
        bench = Bench(tmp_path, server, Answering({}), rows=ROWS)
        bench.run(prices={"m": CHEAP}, limit=12)
        progress: list[runner.Progress] = []
        for _ in range(2):
            ended = bench.retry(
                all_rows=True,
                model="big",
                prices={"big": DEAR},
                observe=lambda event: progress.append(event) if isinstance(event, runner.Progress) else None,
            )
        # 12 rows at 10 tokens, and 24 answers at a thousand times as much
        every = 24 * 10e-6 + 24 * 10e-3
        assert ended.cost_projected == pytest.approx(every)
        assert runner.status(db=bench.store)[1].cost_projected == pytest.approx(every)
        # so far, a retry tells of its own rows alone
        assert {one.cost_projected is None or one.cost_projected > 0.1 for one in progress} == {True}
        assert runner.resume(db=bench.store).cost == pytest.approx(every)
