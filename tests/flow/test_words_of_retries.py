"""What ``runner retry`` and its neighbours say: counts that are true, commands that are right, no empty wish taken for all."""

import asyncio
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from processes import rows, run
from raw_server import RawServer, in_thread
from retried import Answering, Bench

import runner
from runner.errors import StoreError, UsageError
from runner.event_types import Saved, Started


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """Eight rows: r1 and r4 are cut, r3 is empty, r2 and r5 have failed."""
    asked = Answering({"r1": ["cut"], "r2": ["refused"], "r3": ["empty", "ok"], "r4": ["cut"], "r5": ["refused"]})
    with in_thread(RawServer(asked)) as server:
        bench = Bench(tmp_path, server, asked)
        bench.run()
        yield bench


def test_the_first_line_counts_the_rows_that_were_chosen(bench: Bench) -> None:
    said = run("retry", "--class", "length,empty", "--where", "lang == 'de'", cwd=bench.folder).out
    assert "p.jsonl, 4 rows, 1 already done, 1 already failed\n" in said
    # so does a session that uses a part of the rows
    bench.write([{"id": f"r{one}", "prompt": f"r{one}"} for one in range(9)])
    begun: list[Started] = []
    bench.run(limit=5, observe=lambda event: begun.append(event) if isinstance(event, Started) else None)
    assert [(one.rows, one.restored, one.restored_failed) for one in begun] == [(5, 5, 1)]


@pytest.mark.parametrize(
    ("rows", "options", "begun", "ended"),
    [
        # rows with a condition, where the run has others too
        (8, ["--where", "lang == 'en'"], "4 rows, 3 already done, 1 already failed", "6 done, 2 failed of 8 rows"),
        # rows that have left the file
        (3, [], "3 rows, 2 already done, 1 already failed", "6 done, 2 failed of 8 rows"),
        # rows that have come, behind those whose outcomes are not looked at again
        (10, ["--accept-changes"], "10 rows, 6 already done, 2 already failed", "8 done, 2 failed of 10 rows"),
    ],
)
def test_what_is_done_and_failed_is_that_of_the_rows_that_are_read(
    bench: Bench, rows: int, options: list[str], begun: str, ended: str
) -> None:
    bench.write([{"id": f"r{one}", "prompt": f"r{one}", "lang": "de" if one % 2 else "en"} for one in range(rows)])
    job = ("--model", "m", "--base-url", bench.job["base_url"], "--attempts", "1", "--max-tokens", "50")
    said = run("run", "p.jsonl", *job, *options, cwd=bench.folder).out
    assert (f"p.jsonl, {begun}\n" in said, f"run 1 finished: {ended} " in said) == (True, True), said
    # the same once more: there is nothing to look at
    said = run("run", "p.jsonl", *job, *options, cwd=bench.folder).out
    assert f"run 1 finished: {ended} " in said
    assert ", 2 already failed\n" in said


def test_a_condition_that_fits_no_row_is_no_failure(bench: Bench) -> None:
    sent = bench.asked.total()
    ended = run("retry", "--where", "lang == 'xx'", "--ok-failed", "2", cwd=bench.folder)
    assert (ended.code, bench.asked.total()) == (0, sent)
    assert "run 1: there are no such rows to send again\n" in ended.out
    # a new run has nothing to do then
    ended = run(
        "run", "p.jsonl", "--where", "lang == 'xx'", "--model", "m", "--base-url", bench.job["base_url"], cwd=bench.folder
    )
    assert ended.code == 2
    assert """has no row for which --where "lang == 'xx'" holds""" in ended.err


def test_the_limit_that_is_advised_is_above_all_that_were_tried(bench: Bench) -> None:
    bench.retry(classes="length", max_tokens=400)
    assert "runner retry 1 --class length --max-tokens 800\n" in run("errors", cwd=bench.folder).out


@pytest.mark.parametrize("empty", ["", " ", ",", [], (), [""], (" ", "")], ids=repr)
def test_an_empty_name_is_no_wish_for_everything(bench: Bench, empty: str | list[str] | tuple[str, ...]) -> None:
    bench.run(new=True)
    sent = bench.asked.total()
    commands = {
        "--class": [
            lambda: runner.retry(db=bench.store, classes=empty),
            lambda: asyncio.run(runner.aretry(db=bench.store, classes=empty)),
        ],
        "--only": [lambda: runner.export(bench.folder / "x.csv", db=bench.store, only=empty)],
        "--columns": [lambda: runner.export(bench.folder / "x.csv", db=bench.store, columns=empty)],
        "--on": [lambda: runner.compare(1, 2, db=bench.store, on=empty)],
    }
    for option, of in commands.items():
        for command in of:
            with pytest.raises(UsageError, match=f"^{option} names nothing; name what you want, or leave {option} out"):
                command()
    # no row is what an empty list of them names
    assert bench.sent(ids=[]) == []
    assert bench.asked.total() == sent
    assert not (bench.folder / "x.csv").exists()


def test_empty_options_are_refused_by_the_commands(bench: Bench) -> None:
    refused = {
        ("retry", "--class", ""): "--class names nothing",
        ("retry", "--ids", ""): "--ids names no file",
        ("export", "--only", "", "-o", "x.csv"): "--only names nothing",
        ("export", "--columns", ",", "-o", "x.csv"): "--columns names nothing",
    }
    for command, words in refused.items():
        ended = run(*command, cwd=bench.folder)
        assert (ended.code, words in ended.err) == (2, True), ended


def test_resume_has_the_settings_of_its_retry(bench: Bench) -> None:
    handle = runner.StopHandle()

    def stop(event: object) -> None:
        if isinstance(event, Saved):
            handle.request()

    left = bench.retry(all_rows=True, max_tokens=70, concurrency=1, stop=handle, observe=stop).retry_left
    words = f"run 1 has {left} rows of a retry left, which has begun with max_tokens 70: `runner resume 1 "
    with pytest.raises(UsageError, match=words):
        runner.resume(db=bench.store, max_tokens=99)
    # what the retry has already is no change
    assert runner.resume(db=bench.store, max_tokens=70).retry_left == 0


def test_after_a_failure_of_the_store_a_retry_is_resumed(bench: Bench) -> None:
    """The same command would choose its rows anew."""

    def lose(event: object) -> None:
        if isinstance(event, Saved):
            bench.store.with_name("runner.db-wal").unlink(missing_ok=True)

    with pytest.raises(StoreError, match=r"and `runner resume 1 .*` continues from there$"):
        bench.retry(all_rows=True, concurrency=1, observe=lose)
    with pytest.raises(StoreError, match=r"and the same command continues from there$"):
        bench.run(new=True, concurrency=1, observe=lose)


def test_the_summary_names_answers_of_doubtful_shape(bench: Bench) -> None:
    ended = run("retry", "--class", "length,empty", cwd=bench.folder)
    assert "  of doubtful shape: 2 length; `runner errors 1` shows these answers\n" in ended.out
    assert "doubtful" not in run("retry", "--class", "empty", cwd=bench.folder).out


def interrupted(bench: Bench, **more: Any) -> list[str]:
    """Begin a retry, end it behind its first outcome, and return the rows that it has left."""
    handle = runner.StopHandle()

    def stop(event: object) -> None:
        if isinstance(event, Saved):
            handle.request()

    assert bench.retry(concurrency=1, stop=handle, observe=stop, **more).retry_left
    left = rows(bench.store, "SELECT item_key FROM retried WHERE outcome IS NULL ORDER BY item_key")
    return [key for (key,) in left]


@pytest.mark.parametrize("more", [{}, {"where": "id != 'r7'"}], ids=["all", "its own condition"])
@pytest.mark.parametrize("part", [{"where": "lang == 'de'"}, {"sample": 4}], ids=["where", "sample"])
def test_a_resume_that_chooses_leaves_the_others_of_its_retry(bench: Bench, more: dict[str, Any], part: dict[str, Any]) -> None:
    left = interrupted(bench, all_rows=True, **more)
    before, begun = Counter(bench.asked), list[Any]()
    ended = runner.resume(db=bench.store, observe=begun.append, **part)
    sent = sorted((bench.asked - before).elements())
    assert 0 < len(sent) < len(left)
    assert set(sent) < set(left)
    (note,) = (note for note in begun[0].notes if "chosen now" in note)
    assert note.startswith(f"{len(sent)} of these rows {'is' if len(sent) == 1 else 'are'} chosen now; `runner resume 1 ")
    others = len(left) - len(sent)
    assert (ended.finished, ended.retry_left, runner.status(db=bench.store)[1].retry_left) == (False, others, others)
    assert runner.runs(db=bench.store)[0].finished_at is None
    # none of them is lost, and none is asked twice
    assert runner.resume(db=bench.store).finished
    assert sorted((bench.asked - before).elements()) == left


def test_a_resume_gives_up_only_rows_that_are_no_longer_in_the_file(bench: Bench) -> None:
    left = interrupted(bench, all_rows=True)
    bench.write([{"id": one, "prompt": one, "lang": "en"} for one in (f"r{number}" for number in range(8)) if one != left[0]])
    assert runner.resume(db=bench.store, where="lang == 'xx'").retry_left == len(left)
    before = Counter(bench.asked)
    ended = runner.resume(db=bench.store)
    assert (ended.finished, ended.retry_left) == (True, 0)
    assert sorted((bench.asked - before).elements()) == left[1:]


@pytest.mark.parametrize("command", ["run", "retry"])
def test_a_session_beside_an_interrupted_retry_ends_with_the_way_on(bench: Bench, command: str) -> None:
    """It is told to ask what the retry has left first: another retry would take its place, and lose its answered rows."""
    left = len(interrupted(bench, classes=["length", "empty", "failed"]))
    job = ("p.jsonl", "--model", "m", "--base-url", bench.job["base_url"], "--attempts", "1", "--max-tokens", "50")
    words = [command, *(job if command == "run" else ("--where", "lang == 'xx'"))]
    said = run(*words, cwd=bench.folder)
    assert "finished:" not in said.out.replace("not finished:", ""), said.out
    assert f"{left} rows of an interrupted retry are still to be asked again: `runner resume 1` does that" in said.out
    assert f"  {left} rows of the retry are still to be asked again, and keep their results until then\n" in said.out
    assert re.search(rf"^next: runner resume 1 +\(sends {left} rows that the retry has left\)$", said.out, re.MULTILINE)
    ended = bench.run() if command == "run" else bench.retry(where="lang == 'xx'")
    assert (ended.finished, ended.retry_left, ended.left) == (False, left, 0)
    assert runner.resume(db=bench.store).finished
    assert bench.asked.total() == 8 + 5


def test_rows_that_set_it_themselves_keep_it_and_that_is_told(bench: Bench) -> None:
    bench.write([{"id": f"r{one}", "prompt": f"r{one}", **({"max_tokens": 6} if one % 2 else {})} for one in range(6)])
    bench.run(new=True)
    begun, sent = list[Any](), bench.asked.total()
    # r1 has a limit of its own, and r4 has not
    bench.retry(classes="length", max_tokens=90, observe=begun.append)
    assert "1 of these 2 rows sets max_tokens itself, and it keeps that" in begun[0].notes
    assert [body["max_tokens"] for body in sorted(bench.asked.bodies[sent:], key=lambda body: body["max_tokens"])] == [6, 90]
    sent = bench.asked.total()
    words = "all 3 rows that are chosen set max_tokens themselves, so --max-tokens would change nothing"
    with pytest.raises(UsageError, match=words):
        bench.retry(ids=["r1", "r3", "r5"], max_tokens=400)
    assert bench.asked.total() == sent
    # what else is changed is sent
    assert bench.sent(ids=["r1", "r3"], max_tokens=400, model="other") == ["r1", "r3"]


def test_a_dropped_request_of_a_retry_decides_nothing(bench: Bench) -> None:
    bench.asked.kinds |= {"r2": ["refused", "hang"]}
    handle = runner.StopHandle()

    def drop(event: object) -> None:
        if isinstance(event, runner.Progress) and event.in_flight:
            handle.request()
            handle.request()

    assert bench.retry(ids=["r2"], stop=handle, observe=drop).retry_left == 1
    books = runner.status(db=bench.store)[1]
    assert (books.deciding, books.failed_attempts["cancelled"]) == ({"content_policy": 2}, 1)
