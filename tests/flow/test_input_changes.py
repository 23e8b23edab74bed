"""A prompt file that changes between a run and the next: no unchanged row is bought again, and changed ones are asked about."""

import json
import random
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from desk import ROWS, Asked, Desk, numbered
from processes import count
from raw_server import RawServer, Received, Reply, in_thread

import runner


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    asked = Asked()
    with in_thread(RawServer(asked)) as server:
        yield Desk(tmp_path, server, asked)


def appended(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [*lines, {"prompt": "new 1"}, {"prompt": "new 2"}]


def inserted(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"prompt": "new 1"}, *lines[:5], {"prompt": "new 2"}, *lines[5:]]


def deleted(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [*lines[1:4], *lines[6:]]


def shuffled(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return random.Random(4).sample(lines, len(lines))


def all_at_once(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return shuffled(inserted(deleted(lines)))


EDITS = [appended, inserted, deleted, shuffled, all_at_once]


@pytest.mark.parametrize(
    ("edit", "ids"),
    [*((edit, True) for edit in EDITS), (all_at_once, False)],
    ids=[*(edit.__name__ for edit in EDITS), "all_at_once without ids"],
)
def test_x13_rows_that_come_go_and_move_buy_nothing_unchanged(desk: Desk, edit: Any, ids: bool) -> None:
    lines = numbered(ids=ids)
    desk.write(lines)
    # some are still to be done when the file changes
    desk.run("--limit", "8")
    assert desk.asked.total() == 8
    changed = edit(lines)
    desk.write(changed)
    said = desk.run()
    there = {line["prompt"] for line in changed}
    done = {f"prompt {one}" for one in range(8)}
    assert desk.asked == Counter(there | done)
    gone = len(done - there)
    words = "1 row is no longer in the file; its result" if gone == 1 else f"{gone} rows are no longer in the file; their results"
    assert (words in said) == ("no longer in the file" in said) == (gone > 0)
    assert "changed since;" not in said
    # the export follows the file, and what is gone is still there
    texts = [text for text in desk.exported() if text.removeprefix("echo ") in there]
    assert texts == [f"echo {line['prompt']}" for line in changed]
    assert len(desk.exported()) == len(there | done)
    # and once more nothing is sent
    assert "nothing is sent" in desk.run()
    assert desk.asked.total() == len(there | done)


def test_x13_changed_rows_keep_their_answers_until_that_is_asked_for(desk: Desk) -> None:
    lines = numbered(ids=True)
    desk.write(lines)
    desk.run("--limit", "8")
    lines[2]["prompt"], lines[5]["prompt"], lines[10]["prompt"] = "other 2", "other 5", "other 10"
    desk.write(shuffled(lines))
    for _ in range(2):
        # said each time, also when there is nothing else to do
        said = desk.run()
        sentence = "2 finished rows have changed since; their old results are kept, and --accept-changes sends them again"
        assert said.count(sentence) == 1
    # the third of them had not been answered yet
    assert desk.asked == Counter([f"prompt {one}" for one in range(ROWS) if one != 10] + ["other 10"])
    assert desk.answers()["row-2"] == "echo prompt 2"
    said = desk.run("--accept-changes")
    assert "2 finished rows have changed since; --accept-changes sends them again" in said
    assert "12 rows, 10 already done" in said
    assert desk.asked == Counter([f"prompt {one}" for one in range(ROWS) if one != 10] + ["other 10", "other 2", "other 5"])
    assert desk.answers() == {f"row-{one}": f"echo {'other' if one in (2, 5, 10) else 'prompt'} {one}" for one in range(ROWS)}
    assert "changed since;" not in desk.run("--accept-changes")
    assert "nothing is sent" in desk.run()
    assert desk.asked.total() == ROWS + 2 == count(desk.store, "attempts")


def test_x13_resume_accepts_changes_too(desk: Desk) -> None:
    lines = numbered(ids=True)
    desk.write(lines)
    desk.run()
    lines[7]["prompt"] = "other 7"
    desk.write(lines)
    assert "1 finished row has changed since; its old result is kept" in desk.run(command=("resume", "1"))
    assert desk.asked.total() == ROWS
    desk.run("--accept-changes", command=("resume", "1"))
    assert desk.asked["other 7"] == 1
    assert desk.asked.total() == ROWS + 1
    assert desk.answers()["row-7"] == "echo other 7"


def test_x13_a_changed_row_without_an_id_is_a_new_row(desk: Desk) -> None:
    lines = numbered(ids=False)
    desk.write(lines)
    desk.run()
    lines[3]["prompt"] = "other 3"
    desk.write(lines)
    said = desk.run()
    assert "1 row is no longer in the file; its result is kept" in said
    assert desk.asked == Counter([f"prompt {one}" for one in range(ROWS)] + ["other 3"])


def test_x13_changed_fields_of_ones_own_buy_nothing(desk: Desk) -> None:
    lines = numbered(ids=True)
    desk.write(lines)
    desk.run()
    desk.write([{**line, "topic": "another"} for line in lines])
    assert "changed since;" not in desk.run()
    assert desk.asked.total() == ROWS


def test_x14_what_comes_behind_the_end_during_a_run_is_for_the_next_one(desk: Desk) -> None:
    """Also half a line, as of somebody who is still writing it."""
    lines = numbered(ids=True)
    desk.write(lines)
    more = [{"id": "late-1", "prompt": "late 1"}, {"id": "late-2", "prompt": "late 2"}]
    answer = desk.server.answers
    assert callable(answer)

    def growing(request: Received) -> Reply:
        if not desk.asked:
            with desk.prompts.open("a") as file:
                file.write(json.dumps(more[0]) + "\n" + json.dumps(more[1])[:20])
        reply: Reply = answer(request)
        return reply

    desk.server.answers = growing
    desk.run()
    assert desk.asked == Counter(f"prompt {one}" for one in range(ROWS))
    desk.write([*lines, *more])
    desk.run()
    assert desk.asked == Counter([f"prompt {one}" for one in range(ROWS)] + ["late 1", "late 2"])
    assert count(desk.store) == count(desk.store, where="status = 'done'") == ROWS + 2


def finished(desk: Desk) -> bool:
    """As ``runner list`` has it."""
    (state,) = (run["finished_at"] is not None for run in json.loads(desk.run(command=("list", "--json"))))
    return state


def test_a_limit_leaves_a_finished_run_finished(desk: Desk) -> None:
    lines = [*numbered(ids=True), {"id": "odd"}]
    desk.write(lines)
    desk.run(code=1)
    lines[2]["prompt"], lines[7]["prompt"] = "other 2", "other 7"
    desk.write(lines)
    said = desk.run("--limit", "4", code=1)
    assert "run 1 finished: 12 done, 1 failed of 13 rows" in said
    assert finished(desk)
    said = desk.run("--limit", "4", "--accept-changes", code=1)
    assert "run 1 finished: 12 done, 1 failed of 13 rows" in said
    assert "12 rows were already done or failed" in said
    assert finished(desk)
    assert desk.asked.total() == ROWS + 1
    # what is behind the limit was not forgotten
    assert "1 finished row has changed since; its old result is kept, and --accept-changes sends it again" in desk.run(code=1)
    desk.run("--accept-changes", code=1)
    assert desk.answers()["row-7"] == "echo other 7"


def test_a_limit_before_open_rows_leaves_the_run_unfinished(desk: Desk) -> None:
    lines: list[dict[str, Any]] = [*numbered(ids=True), {"id": "odd"}]
    desk.write(lines)
    desk.run(code=1)
    # as many rows as before: one has gone, one is new
    desk.write([*lines[1:], {"prompt": "new"}])
    assert "run 1: 11 done, 1 failed, 1 left of 13 rows, as asked by --limit" in desk.run("--limit", "4", code=1)
    assert not finished(desk)
    desk.run(code=1)
    assert finished(desk)
    # a broken row that was mended is open
    lines[-1]["prompt"] = "mended"
    desk.write([*lines[1:], {"prompt": "new"}])
    desk.run("--limit", "4", code=1)
    assert not finished(desk)
    desk.run()
    assert desk.asked == Counter([*(f"prompt {one}" for one in range(ROWS)), "new", "mended"])


def test_a_limit_on_a_shuffled_file_does_not_settle_the_order(desk: Desk) -> None:
    lines = numbered(ids=True)
    desk.write(lines)
    desk.run()
    desk.write(lines[::-1])
    desk.run("--limit", "4")
    assert finished(desk)
    desk.run()
    assert desk.exported() == [f"echo prompt {one}" for one in reversed(range(ROWS))]


def test_a_file_that_changes_while_it_is_read_is_told_with_what_to_do(desk: Desk) -> None:
    """Cut off in place, as by an editor: behind what was read ahead there is nothing more."""
    lines = [{"id": f"row-{one}", "prompt": f"{one} {'x' * 400_000}"} for one in range(50)]
    desk.write(lines)
    answer = desk.server.answers
    assert callable(answer)

    def cutting(request: Received) -> Reply:
        with desk.prompts.open("r+") as file:
            file.truncate(400_000)
        reply: Reply = answer(request)
        return reply

    desk.server.answers = cutting
    said = desk.run("--concurrency", "1", code=1)
    assert "run 1 not finished" in said
    assert "the prompt file changed while it was read, so some rows were not seen" in said
    # how many rows had been read ahead is a matter of time
    assert re.search(r"next: runner resume 1\n      \(when nothing writes to the file any more; sends the (other|last) ", said)
    assert "stopped       the prompt file changed while it was read" in desk.run(command=("status", "1"))
    # and so it goes on
    desk.server.answers = answer
    desk.write(lines)
    said = desk.run()
    assert ("run 1 finished" in said, "the prompt file changed" in said) == (True, False)
    assert desk.asked.total() == len(lines)


def test_changes_behind_a_limit_are_told_before_the_next_session_sends_anything(desk: Desk) -> None:
    lines = numbered(ids=True)
    desk.write(lines)
    desk.run()
    lines[7]["prompt"] = "other 7"
    desk.write([*lines, {"prompt": "new"}])
    assert "changed since;" not in desk.run("--limit", "4")
    said = desk.run()
    assert "1 finished row has changed since; its old result is kept, and --accept-changes sends it again" in said
    assert "13 rows, 12 already done" in said


def test_numbers_that_pandas_has_written_again_change_no_row(desk: Desk) -> None:
    desk.write([{"id": str(one), "prompt": f"prompt {one}", "params": {"max_tokens": 50}} for one in range(4)])
    desk.run()
    desk.write([{"id": str(one), "prompt": f"prompt {one}", "params": {"max_tokens": 50.0, "seed": None}} for one in range(4)])
    said = desk.run("--accept-changes")
    assert "changed since;" not in said.replace("input has changed since", "")
    assert desk.asked.total() == 4


@pytest.mark.parametrize("part", [{"where": "kind == 'a'"}, {"sample": 2, "sample_seed": 3}], ids=str)
def test_broken_rows_that_are_not_chosen_are_kept(desk: Desk, part: dict[str, Any]) -> None:
    """What lies between the chosen rows has not left the file. A broken row has whose line is read, and is another row now."""
    lines = [{"id": str(number), "kind": "ab"[number % 2], "prompt": "" if number % 2 else f"p {number}"} for number in range(6)]
    desk.write(lines)
    settings = {"db": desk.store, "model": "m", "base_url": desk.server.base_url}
    assert runner.run(desk.prompts, **settings).broken == 3
    runner.run(desk.prompts, **settings, **part)
    assert (count(desk.store), count(desk.store, where="error_code = 'bad_row'")) == (6, 3)
    # a line that was broken is another row now, which is read
    lines[1] = {"id": "new", "kind": "a", "prompt": "p new"}
    desk.write(lines)
    runner.run(desk.prompts, **settings, where="kind == 'a'")
    assert count(desk.store, where="key = 'new' AND status = 'done'") == 1
    assert {one.id for one in runner.results(db=desk.store) if one.status == "failed"} == {"3", "5"}
