"""A session that is declined at the question about its cost leaves the store as it was; later ones do what they would have."""

import sqlite3
from contextlib import closing
from typing import Any

import anyio
import pytest
from desk import Desk
from processes import run
from raw_server import whole

import runner
from runner import api
from runner.config.job import load_job
from runner.engine.stop import Stop
from runner.errors import RunStoppedError, UsageError
from runner.inputs import source
from runner.model import Run
from runner.session.expecting import Expected
from runner.session.options import SessionOptions
from runner.session.restoring import resumed, retried
from runner.store.checkpoint import RunStore

PRICES = {"m": {"input": 1, "output": 4}}
FAILED = whole("400 Bad Request", {"error": {"message": "no", "type": "invalid_request_error"}})
EDITED = [{"id": f"row-{one}", "prompt": f"another {one}"} for one in reversed(range(11))]


def given(desk: Desk, **more: Any) -> dict[str, Any]:
    return {"model": "m", "base_url": desk.server.base_url, "prices": PRICES, "max_tokens": 100, **more}


def first(desk: Desk, **more: Any) -> runner.RunSummary:
    return runner.run(desk.prompts, db=desk.store, **given(desk, **more))


def whole_store(desk: Desk) -> list[str]:
    """Everything that is in the store."""
    with closing(sqlite3.connect(desk.store)) as connection:
        return sorted(connection.iterdump())


def decline(desk: Desk, command: str = "run", *, by: type[BaseException] = UsageError, **more: Any) -> Expected:
    """Start a session and refuse what it will cost, which is returned. more: settings, and options of the session."""
    options = {name: more.pop(name) for name in ("new", "accept_changes", "limit", "sample") if name in more}
    if command == "run":
        job, session = load_job(desk.prompts, given(desk, **more)), SessionOptions(**options)
    else:
        job, session = (resumed if command == "resume" else retried)(desk.store, 1, more, **options)
    asked = list[Expected]()

    def refuse(cost: Expected) -> bool:
        asked.append(cost)
        raise by("no")

    with pytest.raises(by):
        anyio.run(api.execute, job, desk.store, session, Stop(), None, None, refuse)
    (cost,) = asked
    return cost


def declined(desk: Desk, command: str = "run", **more: Any) -> Expected:
    """Refuse a session, and check that the store is as before and that nothing was sent."""
    sent, before = desk.asked.total(), whole_store(desk)
    cost = decline(desk, command, **more)
    assert whole_store(desk) == before
    assert desk.asked.total() == sent
    return cost


def state(desk: Desk) -> Run:
    return runner.status(db=desk.store)[0]


@pytest.mark.parametrize("by", [UsageError, KeyboardInterrupt, SystemExit])
def test_a_first_run_leaves_none(desk: Desk, by: type[BaseException]) -> None:
    decline(desk, by=by)
    assert runner.runs(db=desk.store) == []
    ended = run("status", cwd=desk.folder)
    assert (ended.code, "there is no run in" in ended.err) == (2, True)
    # whoever has said no and then yes has run 1
    assert (first(desk).run, desk.asked.total()) == (1, 12)


def test_more_answers_of_a_finished_run_are_still_to_be_bought(desk: Desk) -> None:
    first(desk, answers=2)
    for command in ("run", "resume"):
        declined(desk, command, answers=5)
    assert (state(desk).finished_at is not None, first(desk).attempts_now) == (True, 0)
    ended = first(desk, answers=5)
    assert (ended.finished, ended.done, ended.attempts_now) == (True, 60, 36)


@pytest.mark.parametrize("command", ["run", "resume"])
def test_a_budget_that_is_not_raised_holds(desk: Desk, command: str) -> None:
    with pytest.raises(RunStoppedError):
        first(desk, max_cost=0.0005)
    reached, sent = state(desk).stop_reason, desk.asked.total()
    declined(desk, command, max_cost=99.0)
    assert (state(desk).stop_reason, state(desk).settings["max_cost"]) == (reached, 0.0005)
    with pytest.raises(RunStoppedError, match="budget"):
        first(desk)
    assert desk.asked.total() == sent < 12


def test_what_the_budget_leaves_is_told(desk: Desk) -> None:
    spent = first(desk, limit=5, max_cost=1.0).cost or 0.0
    assert declined(desk).most == pytest.approx(1.0 - spent)
    assert declined(desk, "resume", max_cost_session=0.25).most == 0.25
    assert declined(desk, "resume", max_cost=spent / 2).most == 0.0
    desk.write(EDITED)
    assert declined(desk, new=True, limit=3).most is None


def test_settings_address_and_variant_of_a_retry(desk: Desk) -> None:
    desk.asked.refused["prompt 3"] = FAILED
    first(desk, concurrency=3)
    declined(desk, "retry", temperature=0.5, headers={"X-One": "1"}, base_url=desk.server.base_url + "/")
    desk.asked.refused.clear()
    assert runner.retry(db=desk.store, temperature=0.5).done == 12


def test_changes_of_the_input_wait_for_the_session_that_accepts_them(desk: Desk) -> None:
    first(desk)
    desk.write(EDITED)
    for command in ("run", "resume"):
        declined(desk, command, accept_changes=True)
    assert desk.exported() == [f"echo prompt {one}" for one in range(12)]
    assert first(desk).changed == 11
    ended = runner.run(desk.prompts, db=desk.store, accept_changes=True, **given(desk))
    assert (ended.attempts_now, ended.missing) == (11, 1)


def test_a_new_run_and_a_moved_file(desk: Desk) -> None:
    first(desk)
    declined(desk, new=True)
    desk.write([*EDITED, {"prompt": "one more"}])
    desk.prompts = desk.prompts.rename(desk.folder / "moved.jsonl")
    declined(desk, accept_changes=True)
    assert [one.id for one in runner.runs(db=desk.store)] == [1]


def test_files_that_come_before_others(desk: Desk) -> None:
    """The rows get other numbers for their files, and only once the session begins."""
    others = desk.folder / "others.jsonl"
    desk.prompts.rename(others)
    desk.prompts = desk.folder / "*.jsonl"
    first(desk)
    (desk.folder / "a.jsonl").write_text('{"id": "new", "prompt": "new"}\n')
    declined(desk)
    ended = first(desk)
    assert (ended.attempts_now, ended.done) == (1, 13)
    assert desk.exported() == ["echo new", *(f"echo prompt {one}" for one in range(12))]


def test_rows_that_were_found_on_the_lines_of_another_file(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """They were looked up while the files had other numbers."""
    monkeypatch.setattr(source, "BATCH", 6)
    others, lines = desk.folder / "others.jsonl", desk.prompts.read_text()
    desk.prompts.rename(others)
    desk.prompts = desk.folder / "*.jsonl"
    first(desk)
    (desk.folder / "a.jsonl").write_text(lines)
    others.write_text('{"id": "new", "prompt": "new"}\n')
    assert first(desk).attempts_now == 1
    assert desk.exported() == [*(f"echo prompt {one}" for one in range(12)), "echo new"]


@pytest.mark.parametrize("begun", [False, True], ids=["new", "unfinished"])
def test_answers_that_were_taken_over_are_given_back(desk: Desk, begun: bool) -> None:
    first(desk, prompt="{{ prompt }}", limit=8)
    if begun:
        # it has compared one row so far
        first(desk, prompt="{{ prompt }}{# mended #}", limit=1)
    declined(desk, prompt="{{ prompt }}{# mended #}")
    ended = first(desk, prompt="{{ prompt }}{# mended #}")
    assert (ended.reused, ended.attempts_now, ended.done) == (7 if begun else 8, 4, 12)


def test_equal_requests_and_the_rows_of_a_sample(desk: Desk) -> None:
    desk.write([{"id": str(one), "prompt": "same"} for one in range(12)] + [{"id": "z", "prompt": "other"}])
    first(desk, limit=3)
    declined(desk, dedupe=True)
    declined(desk, sample=10)
    ended = first(desk, dedupe=True)
    assert (ended.attempts_now, ended.shared) == (1, 9)


def test_what_a_price_was_not_known_for(desk: Desk) -> None:
    first(desk, limit=5, prices=None)
    declined(desk)
    assert runner.status(db=desk.store)[1].cost is None
    assert first(desk).cost


def test_a_run_whose_session_was_killed(desk: Desk) -> None:
    first(desk, limit=5)
    with closing(sqlite3.connect(desk.store)) as connection, connection:
        connection.execute("UPDATE runs SET pace = '{}', pid = 1, host = 'elsewhere', stop_reason = NULL")
    declined(desk)


def test_the_number_of_a_run_that_went_is_not_taken_for_another(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between finding its run and taking its lock, the run is declined in another process, and a third one begins run 1."""
    other, own = desk.folder / "other.jsonl", RunStore.own
    other.write_text('{"id": "row-1", "prompt": "another"}\n')

    def late(*words: Any, **more: Any) -> RunStore:
        monkeypatch.undo()
        with closing(sqlite3.connect(desk.store)) as connection, connection:
            connection.execute("DELETE FROM runs")
        runner.run(other, db=desk.store, **given(desk))
        return own(*words, **more)

    monkeypatch.setattr(RunStore, "own", late)
    with pytest.raises(UsageError, match=r"run 1 of .* was deleted"):
        first(desk)
    assert (state(desk).input, state(desk).done, desk.asked.total()) == (str(other), 1, 1)
