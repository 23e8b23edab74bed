"""``retry`` and ``resume``: what they send, and which settings they may change."""

import json
import signal
from collections import Counter
from typing import Any

import pytest
from desk import ROWS, Desk, numbered
from processes import count, rows, run, runner
from raw_server import RawServer, in_thread, whole

import runner as api

FAULTY = whole("400 Bad Request", {"error": {"message": "too odd", "type": "invalid_request_error"}})
BUSY = whole("500 Internal Server Error", {"error": {"message": "busy"}}, retry_after="600")


@pytest.fixture
def failed(desk: Desk) -> Desk:
    """Eight rows were sent, of which two failed; four were not."""
    desk.asked.refused = {"prompt 2": FAULTY, "prompt 5": FAULTY}
    desk.run("--limit", "8", code=1)
    return desk


def models(desk: Desk) -> Counter[str]:
    return Counter(request.json["model"] for request in desk.server.requests)


# --- retry sends failed rows and nothing else


@pytest.mark.parametrize("edit", ["", "appended", "inserted"])
def test_retry_leaves_what_was_never_sent_to_resume(failed: Desk, edit: str) -> None:
    desk, lines, late = failed, numbered(ids=True), {"id": "late", "prompt": "late"}
    if edit:
        desk.write([*lines, late] if edit == "appended" else [late, *lines])
    desk.asked.refused = {}
    before = Counter(desk.asked)
    said = desk.run(command=("retry", "1"))
    assert Counter(desk.asked) - before == Counter(["prompt 2", "prompt 5"])
    assert "run 1: retrying 2 failed rows" in said
    assert "8 rows, 6 already done" in said
    assert "run 1 not finished: 8 done, 0 failed, " in said
    assert "6 rows were already done" in said
    assert "next: runner resume 1   (sends the other " in said
    assert "the prompt file changed" not in said
    (found,) = api.runs(db=desk.store)
    assert (found.finished_at, found.stop_reason, found.done, found.failed) == (None, None, 8, 0)
    # nothing failed: a further retry sends nothing
    desk.run(command=("retry", "1"))
    assert desk.asked.total() == 10
    desk.run(command=("resume", "1"))
    assert desk.asked.total() == 2 + ROWS + bool(edit)
    assert api.runs(db=desk.store)[0].finished_at is not None


def test_retry_of_a_run_that_has_sent_all_finishes_it(desk: Desk) -> None:
    desk.asked.refused = {"prompt 2": FAULTY}
    desk.run(code=1)
    desk.asked.refused = {}
    assert "run 1 finished: 12 done, 0 failed of 12 rows" in desk.run(command=("retry", "1"))


def test_rows_of_an_interrupted_session_are_left_too_though_they_have_attempts(desk: Desk) -> None:
    # the answer to prompt 3 shows that the refusal was the row's own
    desk.asked.refused = {"prompt 2": FAULTY, "prompt 4": BUSY}
    with runner(*desk.command, "--concurrency", "1", cwd=desk.folder) as process:
        process.until(lambda: count(desk.store, "attempts", where="status = 500") == 1, "a failed attempt")
        process.signal(signal.SIGINT)
        process.ended()
    sent = Counter(desk.asked)
    desk.asked.refused = {}
    desk.run(command=("retry", "1"))
    assert Counter(desk.asked) - sent == Counter(["prompt 2"])
    desk.run(command=("resume", "1"))
    assert api.runs(db=desk.store)[0].done == ROWS


@pytest.mark.parametrize("kind", [signal.SIGKILL, signal.SIGINT])
def test_a_retry_that_is_cut_short_still_sends_failed_rows_only(failed: Desk, kind: signal.Signals) -> None:
    desk = failed
    desk.asked.refused = {"prompt 2": BUSY, "prompt 5": BUSY}
    before = count(desk.store, "attempts")
    with runner("retry", "1", cwd=desk.folder) as process:
        process.until(lambda: count(desk.store, "attempts") == before + 2, "two failures")
        process.signal(kind)
        process.ended()
    desk.asked.refused = {}
    sent = Counter(desk.asked)
    desk.run(command=("retry", "1"))
    assert Counter(desk.asked) - sent == Counter(["prompt 2", "prompt 5"])
    assert rows(desk.store, "SELECT attempts FROM items WHERE key IN ('row-2', 'row-5')") == [(3,), (3,)]


def test_retry_does_not_send_a_broken_line_that_has_another_key_now(desk: Desk) -> None:
    desk.prompts.write_text(desk.prompts.read_text() + "{broken\n")
    desk.run(code=1)
    desk.prompts.write_text(desk.prompts.read_text().replace("{broken", '{"prompt": "mended"}'))
    desk.run(command=("retry", "1"))
    assert desk.asked["mended"] == 0
    desk.run()
    assert desk.asked["mended"] == 1


# --- which settings may change


def test_retry_with_another_model_is_for_the_rows_that_it_sends_and_is_kept_with_them(failed: Desk) -> None:
    desk = failed
    desk.asked.refused = {"prompt 5": FAULTY}
    said = desk.run(command=("retry", "1", "--model", "larger", "--max-tokens", "50"), code=1)
    assert "the rows that are retried get model larger (the run: m), max_tokens 50 (the run: unset)" in said
    assert models(desk) == Counter({"m": 8, "larger": 2})
    assert [request.json["max_tokens"] for request in desk.server.requests[-2:]] == [50, 50]
    made_by = "SELECT v.settings FROM items i JOIN attempts a ON a.id = i.attempt_id LEFT JOIN variants v ON v.id = a.variant_id"
    ((settings,),) = rows(desk.store, f"{made_by} WHERE i.key = 'row-2'")
    assert (json.loads(settings)["model"], json.loads(settings)["max_tokens"]) == ("larger", 50)
    assert rows(desk.store, f"{made_by} WHERE i.key = 'row-3'") == [(None,)]
    # the run itself is as it was: later sessions use its own settings, and the same command continues it
    assert api.runs(db=desk.store)[0].settings["model"] == "m"
    desk.asked.refused = {}
    desk.run(command=("retry", "1"))
    desk.run()
    assert models(desk) == Counter({"m": 13, "larger": 2})
    assert [one.id for one in api.runs(db=desk.store)] == [1]
    # the same settings once more are the same entry
    assert count(desk.store, "variants") == 1


def test_python_retries_with_other_settings_too(failed: Desk) -> None:
    failed.asked.refused = {}
    api.retry(1, db=failed.store, model="larger", temperature=0.5)
    assert models(failed)["larger"] == 2
    assert rows(failed.store, "SELECT count(*) FROM attempts WHERE variant_id IS NOT NULL") == [(2,)]


@pytest.mark.parametrize("name", ["resume", "retry"])
def test_the_server_and_the_key_move_and_stay_so(failed: Desk, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    desk = failed
    desk.asked.refused = {}
    with in_thread(RawServer(desk.asked)) as other:
        options = ("--base-url", other.base_url, "--api-key-env", "OTHER_KEY")
        ended = run(name, "1", *options, cwd=desk.folder, env={"OTHER_KEY": "sk-other-1"})
        assert ended.code == (1 if name == "resume" else 0), ended
        ended = run("resume" if name == "retry" else "retry", "1", cwd=desk.folder, env={"OTHER_KEY": "sk-other-1"})
        assert ended.code == 0, ended
        assert len(other.requests) == 6
        assert {request.headers["authorization"] for request in other.requests} == {"Bearer sk-other-1"}
    noted = rows(desk.store, "SELECT what, old, new FROM history ORDER BY id")
    assert noted == [("base_url", desk.server.base_url, other.base_url), ("api_key_env", None, "OTHER_KEY")]
    settings = api.runs(db=desk.store)[0].settings
    assert (settings["base_url"], settings["api_key_env"]) == (other.base_url, "OTHER_KEY")


def test_resume_takes_another_model_while_nothing_is_answered(desk: Desk) -> None:
    answer = desk.server.answers
    desk.server.answers = lambda _: whole("404 Not Found", {"error": {"message": "no such model", "code": "model_not_found"}})
    assert run(*desk.command, cwd=desk.folder).code == 3
    desk.server.answers = answer
    said = desk.run(command=("resume", "1", "--model", "right"))
    assert "run 1 goes on with model right (before: m)" in said
    assert api.runs(db=desk.store)[0].settings["model"] == "right"
    assert "nothing is sent" in desk.run(command=tuple("right" if word == "m" else word for word in desk.command))
    assert (len(api.runs(db=desk.store)), desk.asked.total()) == (1, ROWS)


def test_resume_takes_no_other_model_when_rows_are_answered(failed: Desk) -> None:
    before = len(failed.server.requests)
    ended = run("resume", "1", "--model", "other model", cwd=failed.folder)
    assert (ended.code, ended.out) == (2, "")
    assert "`runner retry 1 --model 'other model'` uses it for the failed rows alone" in ended.err
    assert (
        f"`runner run {failed.prompts} --model 'other model' --base-url {failed.server.base_url}` starts a new run" in ended.err
    )
    # the same value is no change
    failed.run(command=("resume", "1", "--model", "m"), code=1)
    assert len(failed.server.requests) == before + 4


def test_a_run_keeps_its_provider(failed: Desk) -> None:
    ended = run("retry", "1", "--provider", "anthropic", cwd=failed.folder, env={"ANTHROPIC_API_KEY": "sk-1"})
    assert ended.code == 2
    assert "run 1 keeps its provider, openai; to use anthropic, start a new run: `runner run" in ended.err


# --- changed rows are reported until they are dealt with


def changed(desk: Desk) -> None:
    lines: list[dict[str, Any]] = numbered(ids=True)
    lines[2]["prompt"] = "other 2"
    desk.write([*lines, {"id": "late", "prompt": "late"}])


SENTENCE = "1 finished row has changed since; its old result is kept, and --accept-changes sends it again"


def test_an_interrupted_session_with_changed_rows_reports_them_again_in_the_next(desk: Desk) -> None:
    desk.run()
    changed(desk)
    desk.asked.refused = {"late": BUSY}
    with runner(*desk.command, cwd=desk.folder) as process:
        process.until(lambda: count(desk.store, "attempts", where="item_key = 'late'") == 1, "a failed attempt")
        process.signal(signal.SIGKILL)
        process.ended()
    desk.asked.refused = {}
    # before it sends anything
    assert desk.run().count(SENTENCE) == 1


def test_a_limit_before_changed_rows_leaves_them_to_the_next_session_however_it_ends(desk: Desk) -> None:
    desk.run()
    lines: list[dict[str, Any]] = numbered(ids=True)
    lines[7]["prompt"] = "other 7"
    desk.write([{"id": "late", "prompt": "late"}, *lines])
    desk.asked.refused = {"late": BUSY}
    with runner(*desk.command, "--limit", "4", cwd=desk.folder) as process:
        process.until(lambda: count(desk.store, "attempts", where="item_key = 'late'") == 1, "a failed attempt")
        process.signal(signal.SIGINT)
        process.ended()
    desk.asked.refused = {}
    assert desk.run().count(SENTENCE) == 1
