"""What several answers of each row, and requests that are sent once, cost: foreseen, told, bounded, never more than was sent."""

import json
import re
import shlex
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from bought import MOST, PRICES, ROWS, Desk
from processes import count, rows, run
from raw_server import RawServer, in_thread

import runner
from runner.errors import RunStoppedError
from runner.event_types import Progress, Started
from runner.money import PICO, shown


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path)
    with in_thread(RawServer(desk)) as server:
        desk.url = server.base_url
        desk.write([f"{number} " + "x" * (10 + number * 7 % 90) for number in range(ROWS)])
        yield desk


def mids(found: runner.Estimate) -> list[float]:
    assert found.cost is not None
    return [found.cost.mid, found.input_tokens.mid, found.output_tokens.mid]


def test_three_answers_are_estimated_at_three_times_one(desk: Desk) -> None:
    one, three = desk.estimated(), desk.estimated(answers=3)
    assert (three.rows, three.answers, three.rows_left) == (ROWS, 3, 3 * ROWS)
    assert mids(three) == pytest.approx([3 * value for value in mids(one)])
    assert "300 answers of 100 rows, about $" in str(three)
    assert not desk.asked


def test_a_request_that_two_rows_make_is_estimated_once(desk: Desk) -> None:
    desk.write([f"{number // 2} " + "x" * 40 for number in range(ROWS)])
    each, once = desk.estimated(), desk.estimated(dedupe=True)
    assert (once.rows, once.rows_left) == (ROWS, ROWS // 2)
    assert mids(once) == pytest.approx([value / 2 for value in mids(each)])
    assert mids(desk.estimated(dedupe=True, answers=3)) == pytest.approx([1.5 * value for value in mids(each)])


@pytest.mark.parametrize(("more", "requests"), [({"answers": 2}, 2 * ROWS), ({"dedupe": True}, ROWS // 2)])
def test_a_sample_tells_what_is_then_bought_and_none_of_it_twice(desk: Desk, more: dict[str, Any], requests: int) -> None:
    if "dedupe" in more:
        desk.write([f"{number // 2} " + "x" * (10 + number // 2 * 7 % 90) for number in range(ROWS)])
    found = desk.estimated(sample=20, **more)
    assert (found.basis, found.rows_sent, found.rows_left) == ("sample", 20, requests - 20)
    assert desk.asked.total() == 20
    assert desk.estimated(**more) == found
    assert found.cost is not None
    assert found.cost_spent == pytest.approx(desk.cost)
    seen: list[Progress] = []
    end = desk.run(observe=lambda event: seen.append(event) if isinstance(event, Progress) else None, **more)
    assert (end.finished, desk.asked.total(), count(desk.store)) == (True, requests, ROWS * more.get("answers", 1))
    assert end.cost == pytest.approx(desk.cost)
    # tokens are a line of the size, which 20 requests tell
    assert found.cost.mid == pytest.approx(desk.cost, rel=1e-3)
    assert seen
    assert [event.cost_projected for event in seen] == pytest.approx([desk.cost] * len(seen), rel=0.02)
    last = desk.estimated(**more)
    assert (last.rows_left, last.cost_spent) == (0, pytest.approx(desk.cost))


def test_a_sample_of_a_run_that_is_under_way_tells_what_all_of_it_costs(desk: Desk) -> None:
    desk.run(limit=20)
    found = desk.estimated(sample=45)
    assert (found.basis, found.rows_left, found.cost_spent) == ("sample", 35, pytest.approx(desk.cost))
    # most of what was left is known by now, and is the sample itself
    assert desk.estimated() == found
    desk.run()
    assert found.cost is not None
    assert found.cost.mid == pytest.approx(desk.cost, rel=1e-3)


@pytest.mark.parametrize("more", [{"limit": 60}, {"where": "row['id'] > '4'"}, {"answers": 2}], ids=lambda more: next(iter(more)))
def test_a_sample_tells_of_a_part_of_its_rows_and_of_more_answers(desk: Desk, more: dict[str, Any]) -> None:
    desk.estimated(sample=20)
    found, before, seen = desk.estimated(**more), desk.cost, list[Started]()
    desk.run(observe=lambda one: seen.append(one) if isinstance(one, Started) else None, **more)
    assert (found.basis, found.rows_sent, found.cost_spent is not None) == ("like_sample", 20, True)
    assert found.cost_left is not None
    # tokens are a line of the size, which 20 rows tell
    assert found.cost_left.mid == pytest.approx(desk.cost - before, rel=1e-3)
    (said,) = [note for note in seen[0].notes if note.startswith("expected cost of ")]
    assert said.startswith(f"expected cost of {found.rows_left} ")
    assert f": about {shown(round(found.cost_left.mid * PICO))} (" in said
    assert said.endswith(f"), if they are like the 20 {'answers' if 'answers' in more else 'rows'} of the sample")


def test_a_sample_tells_of_other_rows_where_all_of_its_own_were_drawn(desk: Desk) -> None:
    desk.estimated(sample=15, limit=15)
    found = desk.estimated()
    assert (found.basis, found.rows_left) == ("like_sample", ROWS - 15)
    desk.run()
    assert found.cost is not None
    assert found.cost.low <= desk.cost <= (found.cost.high or 0.0)


def test_a_retry_is_not_expected_to_cost_what_a_sample_says_of_other_rows(desk: Desk) -> None:
    desk.estimated(sample=20, finish_fail="stop")
    spent, seen = desk.cost, list[Started]()
    runner.retry(db=desk.store, finish_fail="length", observe=lambda one: seen.append(one) if isinstance(one, Started) else None)
    assert desk.cost == pytest.approx(2 * spent)
    (said,) = [note for note in seen[0].notes if note.startswith("expected cost of 20 rows: ")]
    assert "from a sample" not in said


@pytest.mark.parametrize(("answers", "left"), [(1, "20 rows"), (3, "60 answers")])
def test_broken_rows_that_are_settled_make_what_is_left_no_cheaper(desk: Desk, answers: int, left: str) -> None:
    lines = ["{broken"] * 25 + [json.dumps({"id": str(number), "prompt": "x" * 40}) for number in range(25)]
    desk.prompts.write_text("".join(f"{line}\n" for line in lines))
    desk.run(limit=30, answers=answers)
    seen = list[Started]()
    desk.run(answers=answers, observe=lambda one: seen.append(one) if isinstance(one, Started) else None)
    assert desk.asked.total() == 25 * answers
    assert [note.partition(":")[0] for note in seen[0].notes if "cost" in note] == [f"expected cost of {left}"]


def test_more_answers_are_estimated_beside_those_that_there_are(desk: Desk) -> None:
    desk.run(limit=40)
    spent = desk.cost
    found = desk.estimated(answers=3)
    assert (found.run, found.rows_left, found.cost_spent) == (1, 3 * ROWS - 40, pytest.approx(spent))
    assert found.cost is not None
    desk.run(answers=3)
    assert desk.asked.total() == 3 * ROWS
    assert found.cost.low <= desk.cost
    assert found.cost.high is not None
    assert found.cost.high >= desk.cost
    # and of those that are not wanted any more, none is left
    assert desk.estimated(answers=1).rows_left == 0


def test_answers_that_are_not_wanted_any_more_count_for_no_other_row(desk: Desk) -> None:
    desk.run(limit=50, answers=2)
    desk.run(limit=60, answers=1)
    state, books = runner.status(db=desk.store)
    assert (state.done, state.answers, books.attempts) == (60, 1, 110)
    assert books.cost_projected == pytest.approx(desk.cost * 150 / 110)


def test_the_next_command_says_how_many_lines_an_export_has(desk: Desk) -> None:
    desk.write([f"{number} Where?" for number in range(10)])
    desk.job(confirm_above=1000)
    assert run("run", "p.jsonl", "--answers", "3", cwd=desk.folder).code == 0
    fewer = run("run", "p.jsonl", "--answers", "1", cwd=desk.folder)
    said = "next: runner export 1 -o answers.csv   (writes 30 answers)"
    assert said in fewer.out
    assert said in run("status", cwd=desk.folder).out
    written = run("export", "-o", "-", "--format", "jsonl", cwd=desk.folder).out
    assert (len(written.splitlines()), desk.asked.total()) == (30, 30)


def test_a_retry_with_more_answers_says_how_many_of_them_it_leaves(desk: Desk) -> None:
    desk.write([f"{number} Where?" for number in range(10)])
    desk.job()
    desk.refuses = True
    assert run("run", "p.jsonl", "--limit", "2", "--answers", "2", cwd=desk.folder).code != 0
    desk.refuses = False
    retried = run("retry", "1", "--answers", "3", cwd=desk.folder).out
    assert ", 4 of 30 answers of 10 rows" in retried
    assert ": 4 done, 0 failed, 26 left of 30 answers of 10 rows in " in retried


@pytest.mark.parametrize(("number", "told"), [(9, False), (10, True)])
def test_no_cost_is_projected_from_fewer_rows_than_an_estimate_trusts(desk: Desk, number: int, told: bool) -> None:
    seen: list[Progress] = []
    end = desk.run(limit=number, observe=lambda event: seen.append(event) if isinstance(event, Progress) else None)
    _, books = runner.status(db=desk.store)
    assert [end.cost_projected is None, books.cost_projected is None] == [not told, not told]
    assert told or all(event.cost_projected is None for event in seen)
    assert desk.estimated().basis == ("answers" if told else "sizes")


def test_no_cost_is_projected_where_no_row_was_answered(desk: Desk) -> None:
    desk.refuses = True
    with suppress(RunStoppedError):
        desk.run(limit=19)
    state, books = runner.status(db=desk.store)
    assert (state.done, state.failed >= 10, books.cost, books.cost_projected) == (0, True, 0.0, None)
    assert "when all rows are done" not in run("status", cwd=desk.folder).out


@pytest.mark.parametrize("more", [("--answers", "3"), ("--dedupe",)], ids=["answers", "dedupe"])
def test_a_reached_budget_names_what_finishes_the_run(desk: Desk, more: tuple[str, ...]) -> None:
    desk.write([f"{number // (2 if '--dedupe' in more else 1):3} " + "x" * 40 for number in range(20)])
    requests = 10 if "--dedupe" in more else 60
    words = ["run", "p.jsonl", "--model", "m", "--base-url", desk.url, "--prices", json.dumps(PRICES), "--max-tokens", str(MOST)]
    ended = run(*words, "--concurrency", "2", "--max-cost", str(requests * 0.000_124 / 2 + 0.000_2), *more, cwd=desk.folder)
    assert ended.code == 5, ended
    assert 0 < desk.asked.total() < requests
    (command,) = re.findall(r"`runner (resume [^`]*)`", ended.err)
    assert run(*shlex.split(command), cwd=desk.folder).code == 0
    assert (desk.asked.total(), count(desk.store, "reservations")) == (requests, 0)
    assert count(desk.store, where="status = 'done'") == (20 if "--dedupe" in more else 60)
    # what is asked for is a high bound of what is sent, which is wide for a budget of so few requests, and what one may cost
    assert desk.cost <= float(shlex.split(command)[-1]) < 1.6 * desk.cost + 0.000_3


def test_a_session_that_leaves_rows_with_dedupe_projects_no_cost(desk: Desk) -> None:
    desk.write([f"{number // 2} " + "x" * 40 for number in range(ROWS)])
    end = desk.run(dedupe=True, limit=20)
    # whether the other rows make requests of their own, nobody has looked
    assert (end.cost, end.cost_projected) == (pytest.approx(desk.cost), None)
    assert runner.status(db=desk.store)[1].cost_projected is None
    end = desk.run(dedupe=True)
    assert (end.cost_projected, desk.asked.total()) == (pytest.approx(desk.cost), ROWS // 2)


@pytest.mark.parametrize("sample", [0, 12])
def test_a_session_that_stops_early_with_dedupe_leaves_a_projection(desk: Desk, sample: int) -> None:
    desk.write([f"{number // 4:3} " + "x" * 40 for number in range(ROWS)])
    each, requests = (44 + 4 * MOST) / 1e6, ROWS // 4
    if sample:
        desk.estimated(dedupe=True, sample=sample)
        assert runner.status(db=desk.store)[1].cost_projected == pytest.approx(requests * each)
    with pytest.raises(RunStoppedError):
        desk.run(dedupe=True, max_cost=18 * each + 0.000_2)
    assert 0 < desk.asked.total() < requests
    state, books = runner.status(db=desk.store)
    assert (state.pace, books.cost_projected) == (None, pytest.approx(requests * each))
    # a retry sends other rows than those that are left
    runner.retry(1, db=desk.store, progress=False, max_cost=1.0)
    assert runner.status(db=desk.store)[1].cost_projected is None
    assert desk.run(dedupe=True, max_cost=1.0).cost == pytest.approx(requests * each)
    assert rows(desk.store, "SELECT pace FROM runs") == [(None,)]


def test_several_answers_of_equal_requests_are_expected_once(desk: Desk) -> None:
    desk.write([f"{number // 2:3} " + "x" * 40 for number in range(20)])
    seen: list[Started] = []
    end = desk.run(observe=lambda one: seen.append(one) if isinstance(one, Started) else None, dedupe=True, answers=3)
    assert (end.done, desk.asked.total()) == (60, 30)
    (begun,) = seen
    assert [note.partition(":")[0] for note in begun.notes if "cost" in note] == ["expected cost of 30 requests"]


def test_rows_that_wait_for_a_prefix_and_for_the_same_request_are_all_answered(desk: Desk) -> None:
    head = "The same beginning. " * 20
    desk.write([f"{head}{number // 3}" for number in range(12)])
    end = desk.run(dedupe=True, warm_prefix=True, answers=2, max_cost=1.0, stream=True)
    assert (end.done, end.shared, end.left) == (24, 16, 0)
    assert (set(desk.asked.values()), len(desk.asked)) == ({2}, 4)
    assert count(desk.store, "reservations") == 0


def test_each_answer_holds_its_own_part_of_a_budget(desk: Desk) -> None:
    desk.write(["one"])
    with pytest.raises(RunStoppedError, match="the budget of"):
        desk.run(answers=9, max_cost=0.000_8)
    attempts = rows(desk.store, "SELECT item_key, number FROM attempts")
    assert 1 < len(attempts) == len(set(attempts)) < 9
    assert desk.cost <= 0.000_8
