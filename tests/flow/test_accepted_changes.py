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
