"""``--dedupe``: a request that several rows make is sent once, in every order of events, and the books have it once."""

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from desk import Desk
from processes import assert_clean, count, rows, run
from processes import runner as started
from raw_server import DONE, FIN, HANG, USAGE, RawServer, Received, Reply, delta, finish, in_thread, openai_answer, stream, whole

import runner
from runner.errors import UsageError

REFUSED = whole("400 Bad Request", {"error": {"message": "too odd", "type": "invalid_request_error"}})
CUT = stream(delta("beg"), end=(FIN,))
SAME = [{"id": one, "prompt": "same"} for one in "abcd"]


class Counted(Counter[str]):
    """A server no two of whose answers are alike. replies: by prompt, given how often it has been asked before."""

    def __init__(self) -> None:
        super().__init__()
        self.replies: dict[str, Callable[[int], Reply | None]] = {}

    def __call__(self, request: Received) -> Reply:
        content = request.json["messages"][-1]["content"]
        prompt = content if isinstance(content, str) else json.dumps(content)
        before = self[prompt]
        self[prompt] += 1
        reply = self.replies[prompt](before) if prompt in self.replies else None
        return reply or openai_answer(f"{self.total()}: {prompt}")


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    asked = Counted()
    with in_thread(RawServer(asked)) as server:
        desk = Desk(tmp_path, server, asked)  # type: ignore[arg-type]
        desk.write([*SAME, {"id": "z", "prompt": "other"}])
        yield desk


def job(desk: Desk, **more: Any) -> dict[str, Any]:
    return {"db": desk.store, "model": "m", "base_url": desk.server.base_url, "dedupe": True, **more}


def exported(desk: Desk, number: int = 1) -> list[dict[str, Any]]:
    runner.export(desk.folder / "out.jsonl", db=desk.store, run_id=number)
    return [json.loads(line) for line in (desk.folder / "out.jsonl").read_text().splitlines()]


def test_status_counts_the_rows_that_have_the_answer_of_another(desk: Desk) -> None:
    desk.write([{"id": one, "prompt": one} for one in "abcd"])
    run(*desk.command, "--dedupe", cwd=desk.folder)
    assert "asks the same" not in run("status", "1", cwd=desk.folder).out
    desk.write([{**one, "id": f"{one['id']}2"} for one in SAME])
    run(*desk.command, "--dedupe", "--new", cwd=desk.folder)
    said = run("status", "2", cwd=desk.folder).out
    assert "4 done, 0 failed, 0 left of 4; 3 rows got their answers from another one that asks the same\n" in said


def test_the_same_request_is_sent_once(desk: Desk) -> None:
    said = run(*desk.command, "--dedupe", cwd=desk.folder)
    assert_clean(said)
    assert "3 of 5 rows ask the same as an earlier one: sent once" in said.out
    assert "3 rows ask the same as another one: they got their answers from that, and nothing was sent" in said.out
    assert desk.asked == Counter({"same": 1, "other": 1})
    found = exported(desk)
    assert [line["same_as"] for line in found] == [None, "a", "a", "a", None]
    assert len({line["text"] for line in found}) == 2
    state, books = runner.status(db=desk.store)
    assert (state.done, books.attempts, books.input_tokens) == (5, 2, sum(line["input_tokens"] or 0 for line in found))
    assert [line["attempts"] for line in found] == [1, 0, 0, 0, 1]
    # nothing is left to do, however often it is asked for
    assert runner.run(desk.prompts, **job(desk)).attempts_now == 0


def test_without_it_each_row_is_sent_and_it_is_advised(desk: Desk) -> None:
    desk.write([{"prompt": "same"}, {"prompt": "same"}])
    said = run(*desk.command, cwd=desk.folder)
    assert "1 row without an id is identical to an earlier one; each gets its own answer (--dedupe sends them once)" in said.out
    assert desk.asked == Counter({"same": 2})


def test_other_settings_are_another_request(desk: Desk) -> None:
    desk.write([*SAME[:2], {**SAME[2], "temperature": 0.5}, {**SAME[3], "model": "n"}])
    assert runner.run(desk.prompts, **job(desk)).attempts_now == 3


def test_a_template_makes_rows_the_same(desk: Desk) -> None:
    desk.write([{"id": one, "word": word, "own": one} for one, word in (("a", "x"), ("b", "y"), ("c", "x"))])
    runner.run(desk.prompts, **job(desk, prompt="say {{ word }}"))
    assert desk.asked == Counter({"say x": 1, "say y": 1})
    assert [(line["id"], line["own"], line["same_as"]) for line in exported(desk)] == [
        ("a", "a", None), ("b", "b", None), ("c", "c", "a")
    ]  # fmt: skip


def test_several_answers_of_each_request(desk: Desk) -> None:
    ended = runner.run(desk.prompts, **job(desk, answers=2))
    assert (ended.attempts_now, ended.done, ended.shared) == (4, 10, 6)
    found = [line for line in exported(desk) if line["id"] != "z"]
    assert [(line["answer_number"], line["same_as"]) for line in found] == [(1, None), (2, None)] + [(1, "a"), (2, "a")] * 3
    assert [line["text"] for line in found] == [line["text"] for line in found[:2]] * 4
    assert found[0]["text"] != found[1]["text"]


@pytest.mark.parametrize("extra", [{}, {"seed": 3}, {"top_k": 1}])
def test_several_answers_with_a_seed(desk: Desk, extra: dict[str, Any]) -> None:
    desk.write([{"id": one, "prompt": "same", "seed": 7, "extra_body": extra} for one in "abcd"])
    ended = runner.run(desk.prompts, **job(desk, answers=2))
    assert (ended.attempts_now, ended.done, ended.shared) == (2, 8, 6)


def test_a_refusal_of_the_request_is_that_of_all_and_one_is_retried(desk: Desk) -> None:
    desk.asked.replies["same"] = lambda before: REFUSED if before == 0 else None  # type: ignore[attr-defined]
    ended = runner.run(desk.prompts, **job(desk))
    assert (ended.attempts_now, ended.failed, ended.causes) == (2, 4, {"bad_request": 4})
    assert [line["same_as"] for line in exported(desk)] == [None, "a", "a", "a", None]
    again = runner.retry(db=desk.store)
    assert (again.attempts_now, again.done, again.failed) == (1, 5, 0)
    assert desk.asked == Counter({"same": 2, "other": 1})


def test_a_failure_of_the_connection_is_not_that_of_the_others(desk: Desk) -> None:
    desk.asked.replies["same"] = lambda before: CUT if before < 2 else None  # type: ignore[attr-defined]
    ended = runner.run(desk.prompts, **job(desk, attempts=1))
    assert (ended.done, ended.failed, desk.asked["same"]) == (3, 2, 3)
    assert [line["same_as"] for line in exported(desk)] == [None, None, None, "c", None]
    # what failed gets the answer that there is
    again = runner.retry(db=desk.store)
    assert (again.attempts_now, again.done) == (0, 5)


def test_after_three_failures_the_others_fail_alike(desk: Desk) -> None:
    desk.write([{"id": str(one), "prompt": "same"} for one in range(20)] + [{"id": "z", "prompt": "other"}])
    desk.asked.replies["same"] = lambda _: CUT  # type: ignore[attr-defined]
    ended = runner.run(desk.prompts, **job(desk, attempts=1))
    assert (ended.done, ended.failed, desk.asked["same"]) == (1, 20, 3)
    del desk.asked.replies["same"]  # type: ignore[attr-defined]
    again = runner.retry(db=desk.store)
    assert (again.attempts_now, again.done, again.failed) == (1, 21, 0)


def test_an_answer_that_counts_as_a_failure_is_that_of_all_and_paid_once(desk: Desk) -> None:
    cut_off = stream(delta("beg"), finish("length"), USAGE, DONE)
    desk.asked.replies["same"] = lambda _: cut_off  # type: ignore[attr-defined]
    ended = runner.run(desk.prompts, **job(desk, finish_fail=["length"]))
    assert (ended.done, ended.failed, desk.asked["same"]) == (1, 4, 1)
    assert [line["same_as"] for line in exported(desk)] == [None, "a", "a", "a", None]


def test_after_a_kill_nothing_is_bought_twice(desk: Desk) -> None:
    desk.asked.replies["other"] = lambda before: Reply((HANG,)) if before == 0 else None  # type: ignore[attr-defined]
    with started(*desk.command, "--dedupe", cwd=desk.folder) as process:
        # the copies wait until all that was sent has an outcome
        process.until(lambda: count(desk.store, where="status = 'done'") == 1 and desk.asked["other"], "the one answer")
        process.killed()
    assert_clean(run(*desk.command, "--dedupe", cwd=desk.folder))
    assert desk.asked == Counter({"same": 1, "other": 2})
    assert [line["same_as"] for line in exported(desk)] == [None, "a", "a", "a", None]


def test_rows_that_come_later_get_the_answer_that_there_is(desk: Desk) -> None:
    runner.run(desk.prompts, **job(desk, limit=1))
    # also in front of the row that bought it
    desk.write([{"id": "new", "prompt": "same"}, *SAME])
    ended = runner.run(desk.prompts, **job(desk))
    assert (ended.attempts_now, ended.done) == (0, 5)
    assert exported(desk)[0]["same_as"] == "a"
    # and behind a beginning of the file that is not read again otherwise
    desk.write([{"id": "new", "prompt": "same"}, *SAME, {"id": "last", "prompt": "same"}])
    ended = runner.run(desk.prompts, **job(desk))
    assert (ended.attempts_now, ended.done) == (0, 6)


def test_a_changed_row_is_another_request(desk: Desk) -> None:
    runner.run(desk.prompts, **job(desk))
    desk.write([{**SAME[0], "prompt": "changed"}, *SAME[1:3], {**SAME[3], "prompt": "changed"}])
    ended = runner.run(desk.prompts, **job(desk, accept_changes=True))
    assert ended.attempts_now == 1
    found = exported(desk)
    assert [line["text"].partition(": ")[2] for line in found] == ["changed", "same", "same", "changed", "other"]
    assert [line["same_as"] for line in found] == [None, "a", "a", "a", None]


def test_a_change_that_fails_keeps_the_answers(desk: Desk) -> None:
    runner.run(desk.prompts, **job(desk))
    desk.write([{**row, "prompt": "changed"} for row in SAME[:2]] + SAME[2:])
    desk.asked.replies["changed"] = lambda _: REFUSED  # type: ignore[attr-defined]
    ended = runner.run(desk.prompts, **job(desk, accept_changes=True))
    assert (ended.done, ended.kept) == (5, 2)
    assert [line["text"].partition(": ")[2] for line in exported(desk)][:4] == ["same"] * 4


@pytest.mark.parametrize(("reply", "asked"), [(REFUSED, 1), (CUT, 3)], ids=["refused", "cut off"])
def test_a_change_that_fails_is_sent_as_often_as_any_other(desk: Desk, reply: Reply, asked: int) -> None:
    """The rows keep their answers, so that the store cannot tell that the change has failed."""
    rows_of = [{"id": str(one), "prompt": "same"} for one in range(20)]
    desk.write(rows_of)
    runner.run(desk.prompts, **job(desk))
    desk.asked.replies["changed"] = lambda _: reply  # type: ignore[attr-defined]
    # one of them has no answer that it could keep, and gets the failure
    desk.write([{**row, "prompt": "changed"} for row in [*rows_of, {"id": "new"}]])
    ended = runner.run(desk.prompts, **job(desk, accept_changes=True, attempts=1))
    assert (desk.asked["changed"], ended.attempts_now) == (asked, asked)
    assert (ended.done, ended.failed, ended.kept, ended.failed_now) == (20, 1, 20, 21)
    assert [line["text"].partition(": ")[2] for line in exported(desk) if line["status"] == "done"] == ["same"] * 20
    # after another change of mind of the server, all get its answer
    del desk.asked.replies["changed"]  # type: ignore[attr-defined]
    again = runner.run(desk.prompts, **job(desk, accept_changes=True))
    assert (again.attempts_now, again.kept) == (1, 0)
    assert len({line["text"] for line in exported(desk) if line["status"] == "done"}) == 1


def test_a_row_fails_once_in_a_retry(desk: Desk) -> None:
    desk.write([{"id": str(one), "prompt": "same"} for one in range(20)])
    desk.asked.replies["same"] = lambda _: CUT  # type: ignore[attr-defined]
    assert runner.run(desk.prompts, **job(desk, attempts=1)).failed_now == 20
    again = runner.retry(db=desk.store)
    assert (again.failed_now, again.attempts_now) == (20, 3)


def test_copies_are_no_answers_for_another_run(desk: Desk) -> None:
    runner.run(desk.prompts, prompt="{{ prompt }}", **job(desk))
    new = runner.run(desk.prompts, prompt="{{ prompt }}{{ '' }}", **job(desk, dedupe=False))
    # one bought answer is one answer
    assert (new.run, new.reused, new.attempts_now) == (2, 2, 3)


def test_rows_that_are_not_kept_and_files_go_by_name(desk: Desk) -> None:
    (desk.folder / "one.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(20))
    desk.write([{"id": one, "prompt": "what?", "images": "one.png"} for one in "ab"])
    ended = runner.run(desk.prompts, **job(desk, keep_rows=False))
    assert (ended.attempts_now, ended.done) == (1, 2)


def test_an_iterator_of_results_has_each_row_once(desk: Desk) -> None:
    async def read() -> list[Any]:
        return [result.id async for result in runner.stream(desk.prompts, **job(desk))]

    assert sorted(asyncio.run(read())) == ["a", "b", "c", "d", "z"]


def test_a_run_without_equal_requests_stores_nothing_more(desk: Desk) -> None:
    desk.write([{"id": one, "prompt": one} for one in "abc"])
    runner.run(desk.prompts, **job(desk))
    assert rows(desk.store, "SELECT count(*) FROM items WHERE same_as IS NOT NULL") == [(0,)]
    assert "same_as" not in exported(desk)[0]


def test_a_session_of_asks_refuses_it(desk: Desk) -> None:
    with pytest.raises(UsageError, match="dedupe is for the rows of an input"), runner.Session(**job(desk)):
        pass
