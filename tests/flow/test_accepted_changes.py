"""``--accept-changes``: what is sent again has an answer, and keeps it and its place in the books until a new one comes."""

import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from desk import Asked, Desk, numbered
from processes import assert_clean, count, rows, runner
from raw_server import RawServer, in_thread, whole

import runner as api

BUSY = whole("500 Internal Server Error", {"error": {"message": "busy"}}, retry_after="600")


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    """A finished run in which the prompts of two rows have changed since."""
    asked = Asked()
    with in_thread(RawServer(asked)) as server:
        desk = Desk(tmp_path, server, asked)
        lines = numbered(ids=True)
        desk.write(lines)
        desk.run()
        lines[2]["prompt"], lines[5]["prompt"] = "other 2", "other 5"
        desk.write(lines)
        yield desk


def interrupted(desk: Desk) -> None:
    """Send the changed rows again, and press Ctrl-C when both have failed once and wait for another attempt."""
    before = count(desk.store, "attempts")
    with runner(*desk.command, "--accept-changes", cwd=desk.folder) as process:
        process.until(lambda: count(desk.store, "attempts") == before + 2, "two failures")
        process.signal(signal.SIGINT)
        ended = process.ended()
    assert_clean(ended)
    assert ended.code == 130, ended


def numbers(desk: Desk) -> list[int]:
    return [number for (number,) in rows(desk.store, "SELECT number FROM attempts WHERE item_key = 'row-2' ORDER BY id")]


def test_attempts_are_numbered_on_however_often_it_is_interrupted(desk: Desk) -> None:
    desk.asked.refused = {"other 2": BUSY, "other 5": BUSY}
    for sessions in (1, 2):
        interrupted(desk)
        assert numbers(desk) == list(range(1, 2 + sessions))
        books = api.status(db=desk.store)[1]
        # each row's last failure waits for what comes of the change
        assert (books.failed_attempts, books.deciding) == ({"server_error": 2 * sessions}, {})
        assert books.retries == ({"server_error": 2 * (sessions - 1)} if sessions > 1 else {})
    desk.asked.refused = {}
    desk.run("--accept-changes")
    assert numbers(desk) == [1, 2, 3, 4]
    assert rows(desk.store, "SELECT attempts FROM items WHERE key IN ('row-2', 'row-5')") == [(4,), (4,)]
    books = api.status(db=desk.store)[1]
    assert (books.retries, books.deciding) == ({"server_error": 4}, {})
    assert desk.asked == Counter({**{f"prompt {one}": 1 for one in range(12)}, "other 2": 3, "other 5": 3})


def test_a_change_that_fails_leaves_the_answer_that_was_paid_for(desk: Desk) -> None:
    desk.asked.refused = {"other 5": whole("400 Bad Request", {"error": {"message": "too odd", "type": "invalid_request_error"}})}
    for sent in (1, 2):
        said = desk.run("--accept-changes", code=1)
        failed = "1 answered row failed when sent again; its old answer is kept; `runner status 1` counts the causes"
        assert failed in said
        assert "1 finished row has changed since; its old result is kept, and --accept-changes sends it again" in said
        assert "run 1 finished" in said
        assert desk.asked["other 5"] == sent
        assert (desk.answers()["row-2"], desk.answers()["row-5"]) == ("echo other 2", "echo prompt 5")
        run, books = api.status(db=desk.store)
        assert (run.done, run.failed, run.finished_at is not None) == (12, 0, True)
        assert (books.attempts, sum(books.failed_attempts.values()), books.deciding) == (13 + sent, sent, {})
        assert rows(desk.store, "SELECT attempts FROM items WHERE key = 'row-5'") == [(1 + sent,)]
    # a later session asks about it again, and sends nothing by itself
    assert "1 finished row has changed since; its old result is kept" in desk.run()
    assert len(desk.exported()) == 12
    assert desk.asked["other 5"] == 2
    desk.asked.refused = {}
    assert "failed when sent again" not in desk.run("--accept-changes")
    assert desk.answers()["row-5"] == "echo other 5"
    assert "nothing is sent" in desk.run()


def test_a_failed_row_that_has_changed_has_no_answer_to_keep(tmp_path: Path) -> None:
    asked = Asked()
    refused = whole("400 Bad Request", {"error": {"message": "too odd", "type": "invalid_request_error"}})
    asked.refused = {"prompt 3": refused, "other 3": refused}
    with in_thread(RawServer(asked)) as server:
        desk = Desk(tmp_path, server, asked)
        lines = numbered(ids=True)
        desk.write(lines)
        desk.run(code=1)
        lines[3]["prompt"] = "other 3"
        desk.write(lines)
        said = desk.run("--accept-changes", code=1)
        assert "failed when sent again" not in said
        assert "1 row failed" in said
        assert api.status(db=desk.store)[0].failed == 1


def test_python_tells_of_kept_answers_too(desk: Desk) -> None:
    desk.asked.refused = {"other 5": whole("400 Bad Request", {"error": {"message": "too odd"}})}
    summary = api.run(desk.prompts, db=desk.store, model="m", base_url=desk.server.base_url, accept_changes=True)
    assert (summary.done, summary.failed, summary.done_now, summary.failed_now, summary.kept) == (12, 0, 1, 1, 1)
    assert (summary.changed, summary.finished, summary.stop_reason) == (1, True, None)
