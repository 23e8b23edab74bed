"""How many rows were already done: the start and the summary of a session say the same, also of one that stops early."""

import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from raw_server import DONE, RawServer, Received, Reply, delta, finish, in_thread, sse, stream, whole

import runner
from runner.cli import ending
from runner.errors import RunStoppedError
from runner.event_types import Finished, Started, Summary
from runner.progress import words

ROWS = 40
MOST = 10
REFUSED = whole("400 Bad Request", {"error": {"message": "too odd", "type": "invalid_request_error"}})


class Desk:
    """A file of rows, and a server that refuses some of them; 20 tokens for each answer."""

    def __init__(self, folder: Path) -> None:
        self.store, self.prompts, self.url = folder / "runner.db", folder / "p.jsonl", ""
        self.refuses: set[str] = set()

    def __call__(self, request: Received) -> Reply:
        if request.json["messages"][-1]["content"] in self.refuses:
            return REFUSED
        usage = {"prompt_tokens": 10, "completion_tokens": MOST}
        return stream(delta("Rome"), finish(), sse({"id": "c", "model": "m", "choices": [], "usage": usage}), DONE)

    def write(self, numbers: range, same: int = 1) -> None:
        lines = (json.dumps({"id": str(one), "prompt": f"row {one // same:03}"}) for one in numbers)
        self.prompts.write_text("".join(f"{line}\n" for line in lines))

    def settings(self, tokens: int | None = None) -> dict[str, Any]:
        return {"db": self.store, "progress": False, "concurrency": 1, "max_tokens_total": tokens}

    def run(self, tokens: int | None = None, call: Any = None, **more: Any) -> tuple[Started, Summary]:
        """Run the file with a budget of tokens, and return what is said at the start and at the end."""
        seen: list[Any] = []
        given = {**self.settings(tokens), **more, "observe": seen.append}
        # a budget that is reached ends it
        with suppress(RunStoppedError):
            if call is None:
                runner.run(self.prompts, model="m", base_url=self.url, max_tokens=MOST, **given)
            else:
                call(1, **given)
        (begun,) = [event for event in seen if isinstance(event, Started)]
        (summary,) = [event.summary for event in seen if isinstance(event, Finished)]
        return begun, summary


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path)
    with in_thread(RawServer(desk)) as server:
        desk.url = server.base_url
        desk.write(range(ROWS))
        yield desk


def agree(begun: Started, end: Summary, before: int, *, failed: int = 0, finished: bool = False) -> None:
    """Assert that a session says at both ends how many rows had an outcome before."""
    assert (begun.restored, begun.restored_failed, end.skipped, end.skipped_failed) == (before, failed, before, failed)
    assert f", {before - failed:,} already done" in words.headline(begun)
    assert end.finished == finished
    one = "answer" if end.answers > 1 else "row"
    said = f"  {before} {one}s were already done{' or failed' if failed else ''}"
    assert (said in ending.summary(end, "r.db").split("\n")) == (end.attempts_now > 0)


def test_after_a_sample_and_after_a_budget(desk: Desk) -> None:
    # rows of a sample are spread over the whole file
    runner.estimate(desk.prompts, model="m", base_url=desk.url, max_tokens=MOST, sample=10, **desk.settings())
    begun, end = desk.run(20 * 12 + 150)
    agree(begun, end, 10)
    before = end.done
    begun, end = desk.run(20 * 20 + 150)
    agree(begun, end, before)
    begun, end = desk.run(20 * 30 + 150, runner.resume)
    agree(begun, end, end.done - end.done_now)
    before = end.done
    begun, end = desk.run(10**6, runner.resume)
    agree(begun, end, before, finished=True)


def test_broken_rows_that_were_not_read_again_are_not_left(desk: Desk) -> None:
    for first, tokens in ((200, 10**6), (0, 20 * 25 + 150)):
        desk.write(range(first, 220))
        desk.prompts.write_text(desk.prompts.read_text() + '{"id": "odd"}\n')
        begun, end = desk.run(tokens)
    assert (begun.restored, end.skipped, end.done_now, end.broken, end.finished) == (20, 20, end.done - 20, 1, False)
    assert (end.left, *end.settled_rows) == (220 - end.done, end.done, 1)


def test_after_rows_that_failed_and_in_a_retry(desk: Desk) -> None:
    desk.refuses = {f"row {one:03}" for one in range(30, 34)}
    desk.run(limit=34)
    assert (runner.status(db=desk.store)[0].done, runner.status(db=desk.store)[0].failed) == (30, 4)
    begun, end = desk.run(1)
    agree(begun, end, 34, failed=4)
    desk.refuses = set()
    begun, end = desk.run(20 * 31 + 150, runner.retry)
    # a retry does not leave what has failed
    agree(begun, end, 30)
    assert end.failed > 0


@pytest.mark.parametrize(("more", "same"), [({"answers": 2}, 1), ({"dedupe": True}, 2), ({"where": "id | int >= 8"}, 1)])
def test_with_answers_with_equal_requests_and_with_chosen_rows(desk: Desk, more: dict[str, Any], same: int) -> None:
    desk.write(range(ROWS), same)
    runner.estimate(desk.prompts, model="m", base_url=desk.url, max_tokens=MOST, sample=10, **more, **desk.settings())
    begun, end = desk.run(20 * 12 + 150, **more)
    agree(begun, end, 10)
    before = end.done
    begun, end = desk.run(20 * 15 + 150, **more)
    agree(begun, end, before)


def test_answers_that_are_taken_over_count(desk: Desk) -> None:
    desk.run(limit=6)
    desk.write(range(3, ROWS))
    lines = desk.prompts.read_text().splitlines()
    # the rows that have answers come last
    desk.prompts.write_text("".join(f"{line}\n" for line in [*lines[3:], *lines[:3]]).replace('"id": "', '"id": "n'))
    begun, end = desk.run(200)
    assert (end.run, end.reused, begun.restored, end.skipped) == (2, 3, 3, 3)
    assert "were already done" not in ending.summary(end, "r.db")
    before = end.done
    begun, end = desk.run(300)
    agree(begun, end, before)


def test_rows_that_have_left_the_file_are_not_among_them(desk: Desk) -> None:
    desk.run(limit=20)
    desk.write(range(5, ROWS))
    begun, end = desk.run(20 * 22 + 150)
    assert (begun.rows, begun.restored, end.skipped) == (ROWS - 5, 15, 15)
    left = end.left
    assert left == ROWS - 5 - 15 - end.done_now
    # the file is what it was
    begun, end = desk.run(1)
    assert (begun.restored, end.left, end.settled_rows) == (ROWS - 5 - left, left, (ROWS - 5 - left, 0))
    assert desk.run(10**6)[1].missing == 5
    # and the first session that wants more of each row counts only the rows of the file
    assert desk.run(1, answers=2)[0].restored == ROWS - 5
