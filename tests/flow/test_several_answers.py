"""``--answers N``: N answers of each row, each bought once, resumed by itself, and shown with its number."""

import json
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from itertools import count as counting
from pathlib import Path
from typing import Any

import anyio
import pytest
from desk import Asked, Desk, opened
from processes import assert_clean, count, rows, run
from processes import runner as started
from raw_server import HANG, Received, Reply, openai_answer, whole

import runner
from runner.config.job import load_job
from runner.errors import UsageError
from runner.session import prepare
from runner.session.foreseen import changes_of
from runner.session.options import SessionOptions
from runner.several import MARK
from runner.store.checkpoint import RunStore

REFUSED = whole("400 Bad Request", {"error": {"message": "too odd", "type": "invalid_request_error"}})
SILENT = Reply((HANG,))
ROWS = [{"id": "a", "prompt": "one"}, {"id": 7, "prompt": "two"}, {"prompt": "three"}]


class Numbered(Asked):
    """A server no two of whose answers are alike. fails: requests, counted from 1, that it refuses."""

    def __init__(self) -> None:
        super().__init__()
        self.number, self.fails, self.seeds, self.reply = counting(1), set[int](), list[Any](), REFUSED

    def __call__(self, request: Received) -> Reply:
        prompt, number = request.json["messages"][-1]["content"], next(self.number)
        self.seeds.append(request.json.get("seed"))
        if number in self.fails:
            return self.reply
        self[prompt] += 1
        return openai_answer(f"{number}: {prompt}")


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with opened(tmp_path, Numbered(), ROWS) as desk:
        yield desk


def exported(desk: Desk, number: int = 1) -> list[dict[str, Any]]:
    runner.export(desk.folder / "out.jsonl", db=desk.store, run_id=number)
    return [json.loads(line) for line in (desk.folder / "out.jsonl").read_text().splitlines()]


def test_fewer_answers_of_a_finished_run_are_counted_and_the_others_are_kept(desk: Desk) -> None:
    runner.run(desk.prompts, **desk.job(4))
    fewer = runner.run(desk.prompts, **desk.job(2))
    assert (fewer.answers, fewer.done, fewer.finished, fewer.attempts_now) == (2, 6, True, 0)
    run_, books = runner.status(db=desk.store)
    assert (run_.answers, run_.done, books.attempts, books.finish_reasons) == (2, 6, 12, {"stop": 6})
    shown = run("status", "--db", str(desk.store), cwd=desk.folder).out
    assert "answers       6 done, 0 failed, 0 left of 6 answers of 3 rows" in shown
    assert len(exported(desk)) == 12
    # without the option the run keeps that number, and all of before are wanted again where it is said
    assert runner.run(desk.prompts, **desk.job(None)).done == 6
    again = runner.run(desk.prompts, **desk.job(4))
    assert (again.done, again.attempts_now, desk.asked.total()) == (12, 0, 12)
    assert rows(desk.store, "SELECT what, old, new FROM history") == [("answers", "4", "2"), ("answers", "2", "4")]


def test_more_answers_are_more_of_the_same_run_and_only_the_missing_are_bought(desk: Desk) -> None:
    first = runner.run(desk.prompts, **desk.job(2))
    assert (first.rows, first.answers, first.done, first.finished) == (3, 2, 6, True)
    # without the option a run keeps its number
    for same in (None, 2):
        assert runner.run(desk.prompts, **desk.job(same)).attempts_now == 0
    more = runner.run(desk.prompts, **desk.job(4))
    assert (more.run, more.attempts_now, more.done, more.left) == (1, 6, 12, 0)
    assert desk.asked == Counter({"one": 4, "two": 4, "three": 4})
    found = exported(desk)
    assert [(line["id"], line["answer_number"]) for line in found] == [
        (id_, number) for id_ in ("a", 7, found[-1]["id"]) for number in (1, 2, 3, 4)
    ]
    assert found[-1]["id"].startswith("row-")
    assert MARK not in found[-1]["id"]
    assert len({line["text"] for line in found}) == 12
    assert list(found[0]).index("answer_number") == list(found[0]).index("text") + 1
    assert [result.answer_number for result in runner.results(db=desk.store)][:4] == [1, 2, 3, 4]


def test_fewer_answers_keep_what_there_is_and_buy_no_more(desk: Desk) -> None:
    runner.run(desk.prompts, limit=1, **desk.job(3))
    ended = runner.run(desk.prompts, **desk.job(2))
    assert (ended.run, ended.attempts_now, ended.done, ended.left, ended.finished) == (1, 4, 6, 0, True)
    assert Counter(line["id"] for line in exported(desk)) == Counter({"a": 3, 7: 2, exported(desk)[-1]["id"]: 2})
    state, books = runner.status(db=desk.store)
    assert (state.done, state.failed, state.answers, books.attempts) == (6, 0, 2, 7)
    found = runner.results(db=desk.store)
    assert len(found) == len(list(found)) == 7


def test_one_answer_leaves_an_export_as_it_was(desk: Desk) -> None:
    runner.run(desk.prompts, **desk.job(None))
    assert "answer_number" not in exported(desk)[0]
    assert "same_as" not in exported(desk)[0]


def test_an_answer_that_fails_is_retried_alone(desk: Desk) -> None:
    # for what it says: a refusal without a reason may be that of the seed, and is tried without it
    blocked = {"error": {"message": "blocked by the content policy", "code": "content_policy_violation"}}
    desk.asked.fails, desk.asked.reply = {2}, whole("400 Bad Request", blocked)  # type: ignore[attr-defined]
    said = run(*desk.command, "--answers", "3", "--concurrency", "1", cwd=desk.folder)
    assert "8 done, 1 failed of 9 answers of 3 rows" in said.out
    errors = run("errors", cwd=desk.folder).out
    assert "run 1: 1 failed answer of 9 (11.1 %)\n" in errors
    assert "example   a (answer 2): " in errors
    shown = json.loads(run("show", "1", "a", "--json", cwd=desk.folder).out)
    assert [(one["key"], one["answer_number"], one["status"]) for one in shown] == [
        ("a", 1, "done"), ("a", 2, "failed"), ("a", 3, "done")
    ]  # fmt: skip
    again = runner.retry(db=desk.store)
    assert (again.attempts_now, again.done, again.failed, again.left) == (1, 9, 0, 0)
    assert [line["status"] for line in exported(desk)] == ["done"] * 9


def test_a_killed_run_goes_on_with_the_answers_that_are_missing(desk: Desk) -> None:
    # two requests never end before the kill
    desk.asked.fails, desk.asked.reply = {4, 7}, SILENT  # type: ignore[attr-defined]
    with started(*desk.command, "--answers", "3", "--concurrency", "4", cwd=desk.folder) as process:
        process.until(lambda: count(desk.store, where="status = 'done'") == 7, "seven answers")
        process.killed()
    desk.asked.fails = set()  # type: ignore[attr-defined]
    assert_clean(run(*desk.command, cwd=desk.folder))
    assert desk.asked == Counter({"one": 3, "two": 3, "three": 3})
    assert [line["answer_number"] for line in exported(desk)] == [1, 2, 3] * 3


def test_a_kill_right_after_more_were_asked_for_forgets_none(desk: Desk) -> None:
    runner.run(desk.prompts, **desk.job(1))
    options = {key: value for key, value in desk.job(2).items() if key != "db"}

    async def begun(answers: int) -> None:
        before = runner.status(db=desk.store)[0]
        plan = await prepare.prepare(load_job(desk.prompts, {**options, "answers": answers}), desk.store, SessionOptions())
        assert isinstance(plan, prepare.Plan)
        # before the session begins, nothing is changed; then nothing else happens any more
        assert runner.status(db=desk.store)[0] == before
        async with RunStore.own(desk.store, plan.run.id, changes=changes_of(plan)):
            pass

    anyio.run(begun, 2)
    ended = runner.run(desk.prompts, **desk.job(None))
    assert (ended.attempts_now, ended.done, ended.finished) == (3, 6, True)
    anyio.run(begun, 3)
    # new rows behind a beginning that is no longer settled
    desk.write([*ROWS, {"id": "d", "prompt": "four"}])
    ended = runner.run(desk.prompts, **desk.job(None))
    assert (ended.done, ended.finished) == (12, True)
    assert desk.asked == Counter({"one": 3, "two": 3, "three": 3, "four": 3})


def test_seeds_are_those_of_the_user_each_with_its_number(desk: Desk) -> None:
    desk.write([{"prompt": "one"}, {"prompt": "two", "seed": 100}, {"prompt": "three", "extra_body": {"seed": 7}}])
    runner.run(desk.prompts, **desk.job(3, seed=5, concurrency=1))
    assert desk.asked.seeds == [5, 6, 7, 100, 101, 102, 7, 8, 9]  # type: ignore[attr-defined]


def test_an_id_of_a_user_is_never_an_answer_of_another_row(desk: Desk) -> None:
    desk.write([{"id": "a", "prompt": "one"}, {"id": "a#2", "prompt": "two"}, {"id": f"a{MARK}2", "prompt": "three"}])
    ended = runner.run(desk.prompts, **desk.job(2))
    assert (ended.done, ended.broken) == (4, 2)
    assert desk.asked == Counter({"one": 2, "two": 2})
    assert {line["error_code"] for line in exported(desk)} == {None, "bad_row"}


def test_a_new_run_takes_answers_over_number_by_number(desk: Desk) -> None:
    runner.run(desk.prompts, prompt="{{ prompt }}", **desk.job(2))
    new = runner.run(desk.prompts, prompt="{{ prompt }}{{ '' }}", **desk.job(3))
    assert (new.run, new.reused, new.attempts_now, new.done) == (2, 6, 3, 9)
    texts = [line["text"] for line in exported(desk, 2)]
    assert len(set(texts)) == 9
    assert [(line["answer_number"], line["reused_from"]) for line in exported(desk, 2)[:3]] == [(1, 1), (2, 1), (3, None)]


def test_the_answers_of_a_run_are_rows_for_the_next_one(desk: Desk) -> None:
    runner.run(desk.prompts, **desk.job(1))
    chained = {**desk.job(None), "prompt": "judge {{ answer }} {{ answer_number | default(1) }}"}
    runner.run("run:1", **chained)
    before = desk.asked.total()
    runner.run(desk.prompts, **desk.job(2))
    judged = runner.run("run:1", **chained)
    # the first answers keep their ids, and are not judged again
    assert (judged.run, judged.attempts_now, judged.done) == (2, 3, 6)
    assert desk.asked.total() == before + 6
    assert [line["id"] for line in exported(desk, 2)][:4] == ["a", "a#2", 7, "7#2"]


def test_an_id_that_is_the_name_of_an_answer_is_refused_as_an_input(desk: Desk) -> None:
    desk.write([*ROWS[:2], {"id": "a#2", "prompt": "four"}])
    runner.run(desk.prompts, **desk.job(2))
    chained = desk.job(None, prompt="Right? {{ answer }}", model="judge")
    with pytest.raises(
        UsageError, match=r"duplicate id 'a#2' .*\. Answer 2 of a row a is called a#2 here, and a row has that id"
    ):
        runner.run("run:1", **chained)
    assert runner.run("run:1", where="answer_number == 1", **chained).attempts_now == 3


def test_texts_and_sentences_tell_the_answers_of_a_row_apart(desk: Desk) -> None:
    async def read(transform: Any) -> dict[Any, str]:
        found = dict[Any, str]()
        async with runner.events(desk.prompts, **desk.job(3)) as events:
            async for row, text in transform(events):
                found[row] = text
        return found

    desk.write(ROWS[:2])
    whole_texts = anyio.run(read, runner.texts)
    expected = {("a", 1): "a", ("a", 2): ("a", 2), ("a", 3): ("a", 3), ("7", 1): 7, ("7", 2): (7, 2), ("7", 3): (7, 3)}
    results = {expected[str(one.id), one.answer_number]: one.text for one in runner.results(db=desk.store)}
    assert whole_texts == results
    assert len(set(results.values())) == 6
    # those of earlier sessions too
    assert anyio.run(read, runner.sentences) == results


def test_a_changed_row_gets_new_answers_of_every_number(desk: Desk) -> None:
    runner.run(desk.prompts, **desk.job(2))
    desk.write([{**ROWS[0], "prompt": "changed"}, *ROWS[1:]])
    ended = runner.run(desk.prompts, accept_changes=True, **desk.job(None))
    assert (ended.attempts_now, ended.done) == (2, 6)
    assert desk.asked["changed"] == 2


def test_the_limit_counts_rows(desk: Desk) -> None:
    ended = runner.run(desk.prompts, limit=2, **desk.job(3))
    assert (ended.done, ended.left) == (6, 3)


def test_equal_answers_are_warned_of(desk: Desk) -> None:
    for more in ((), ("--seed", "5")):
        said = run("check", "prompts.jsonl", "--model", "m", "--answers", "3", "--temperature", "0", *more, cwd=desk.folder).out
        assert "temperature is 0, where a seed changes nothing: the 3 answers of a row are likely to be equal" in said


def test_a_session_of_asks_refuses_it(desk: Desk) -> None:
    with pytest.raises(UsageError, match="an ask has one answer"), runner.Session(**desk.job(2)):
        pass
    assert not desk.store.exists()


def test_the_views_show_the_id_and_the_number(desk: Desk) -> None:
    runner.run(desk.prompts, limit=1, **desk.job(2))
    assert rows(desk.store, "SELECT key, answer_number FROM answers ORDER BY 2") == [("a", 1), ("a", 2)]
    with closing(sqlite3.connect(desk.store)) as store:
        assert store.execute("SELECT rows, answers, done FROM overview").fetchall() == [(3, 2, 2)]
