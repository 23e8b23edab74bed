"""Rows that a program has in memory are an input like any other: kept beside the store, continued, retried, deleted."""

import asyncio
import signal
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import count as count_up
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from processes import QUICK, Simulated, Started, count, environment, piped, simulator
from programs import run_texts
from pyarrow import dataset

import runner
from runner.session.sources import job_of_async

ROWS = [{"id": f"r{number}", "prompt": f"number {number}", "n": number} for number in range(6)]


@pytest.fixture
def call(server: Simulated, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., runner.RunSummary]:
    monkeypatch.chdir(tmp_path)
    return lambda source, **given: runner.run(source, **{"model": "m", "base_url": server.openai, **given})


def kept(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("runner.db-memory-*"))


def command(folder: Path, *arguments: str) -> str:
    ended = piped(*arguments, given=b"", cwd=folder)
    assert ended.code == 0, ended
    return ended.out


def one_by_one(rows: list[Any]) -> Iterator[Any]:
    yield from rows


async def slowly(rows: list[Any]) -> AsyncIterator[Any]:
    for row in rows:
        await asyncio.sleep(0)
        yield row


def test_the_same_rows_go_on_whatever_holds_them_and_nothing_is_sent_twice(call: Any, tmp_path: Path) -> None:
    before = call(ROWS, limit=2)
    assert (before.rows, before.done, before.left) == (6, 2, 4)
    (name,) = kept(tmp_path)
    assert name.startswith("runner.db-memory-rows-6-")
    assert (tmp_path / name).stat().st_mode & 0o777 == 0o600
    sent = 2
    for source in (ROWS, tuple(ROWS), one_by_one(ROWS), slowly(ROWS), pd.DataFrame(ROWS), pl.DataFrame(ROWS)):
        ended = call(source)
        sent += ended.attempts_now
        assert (ended.run, ended.finished, ended.done) == (1, True, 6)
    assert sent == 6
    assert count(tmp_path / "runner.db", "attempts") == 6
    assert [result.metadata["n"] for result in ended.results()] == list(range(6))
    # copies of other kinds, which no run needs, are gone
    assert kept(tmp_path) == [name]
    assert list(tmp_path.glob("*.tmp")) == []


def hugging_face() -> Any:
    """Return a data set. The library is imported here, since only one worker of the tests needs it and it takes a second."""
    import datasets

    return datasets.Dataset.from_list(ROWS)


@pytest.mark.parametrize("form", [None, "pandas", "polars", "arrow", "numpy"])
def test_a_data_set_of_hugging_face_gives_its_rows_whatever_its_format(call: Any, form: str | None) -> None:
    whole = hugging_face()
    assert call(ROWS).done == 6
    for source in (whole.with_format(form), whole.to_iterable_dataset().with_format(form)):
        assert (call(source).run, call(source).attempts_now) == (1, 0)
    part = whole.with_format(form, columns=["prompt"])
    assert [result.metadata for result in call(part).results()] == [{}] * 6


def test_what_a_program_makes_of_the_rows_of_a_data_set_stays(call: Any) -> None:
    source = hugging_face().with_transform(lambda rows: {"prompt": [f"{text}!" for text in rows["prompt"]]})
    assert [result.prompt for result in call(source).results()] == [f"number {number}!" for number in range(6)]


def test_a_data_set_of_arrow_is_a_table(call: Any) -> None:
    # nothing can go over it with ``for``
    assert call(dataset.dataset(pa.Table.from_pylist(ROWS))).done == 6


def test_a_list_that_has_grown_takes_over_its_answers(call: Any) -> None:
    assert call(["a", "b"]).attempts_now == 2
    ended = call(["a", "b", "c"])
    assert (ended.run, ended.done, ended.attempts_now) == (2, 3, 1)


def test_the_command_goes_on_with_them_names_them_and_deletes_them(call: Any, tmp_path: Path) -> None:
    call(pd.DataFrame({"text": ["a", "b", "c"]}), prompt="Say {{ text }}", limit=1)
    words = "DataFrame (3 rows \N{MULTIPLICATION SIGN} 1 column)"
    assert words in command(tmp_path, "list")
    assert words in command(tmp_path, "status", "1")
    assert f"run 1: {words}, 3 rows, 1 already done" in command(tmp_path, "resume", "1")
    assert [result.prompt for result in runner.results(db=tmp_path / "runner.db")] == ["Say a", "Say b", "Say c"]
    command(tmp_path, "delete", "1", "--yes")
    assert kept(tmp_path) == []


def endless() -> Iterator[str]:
    yield from map("number {}".format, count_up())


async def endless_async() -> AsyncIterator[str]:
    for text in endless():
        yield text


@pytest.mark.parametrize("source", [endless, endless_async])
def test_of_a_source_that_may_have_no_end_the_limit_is_taken(call: Any, server: Simulated, source: Callable[[], Any]) -> None:
    ended = call(source(), limit=3)
    assert (ended.rows, ended.done, ended.finished) == (3, 3, True)
    again = asyncio.run(runner.arun(source(), limit=4, model="m", base_url=server.openai))
    # another run, which takes over what the first has answered
    assert (again.run, again.rows, again.reused, again.attempts_now) == (2, 4, 3, 1)
    # of an iterator no row is taken that is not sent
    rows = one_by_one(["a", "b", "c"])
    call(rows, limit=2)
    assert list(rows) == ["c"]


def endless_rows() -> Iterator[dict[str, Any]]:
    yield from ({"nr": f"r{number}", "prompt": f"number {number}", "lang": ["de", "en"][number % 2]} for number in count_up())


async def endless_async_rows() -> AsyncIterator[dict[str, Any]]:
    for row in endless_rows():
        yield row


@pytest.mark.parametrize("source", [endless_rows, endless_async_rows])
def test_of_a_source_that_may_have_no_end_rows_are_taken_until_enough_are_chosen(call: Any, source: Callable[[], Any]) -> None:
    ended = call(source(), limit=3, where="lang == 'en'")
    assert (ended.rows, ended.done, ended.finished) == (3, 3, True)
    assert [result.metadata["nr"] for result in runner.results()] == ["r1", "r3", "r5"]
    # the condition sees a row as it is read: with its id, and a value that JSON has not
    for where, given in (("id == 'r4'", {"id_column": "nr"}), ("nr == 'r4' and not odd", {})):
        rows = ({**row, "odd": float("nan")} for row in endless_rows())
        assert call(rows, limit=1, where=where, **given).rows == 1
        assert next(rows)["nr"] == "r5"
    in_loop = asyncio.run(runner.arun(source(), limit=2, where="lang == 'de'", provider="simulator", model="m"))
    assert (in_loop.rows, in_loop.done) == (2, 2)


def test_failed_rows_are_retried_from_the_copy(call: Any, server: Simulated) -> None:
    with simulator(*QUICK, "--fault", "empty=1") as silent:
        assert call(["a", "b"], base_url=silent.openai, finish_fail="empty").failed == 2
    ended = runner.retry(base_url=server.openai)
    assert (ended.done, ended.failed) == (2, 0), ended


def test_what_a_generator_raises_is_raised_and_nothing_is_sent(call: Any, tmp_path: Path) -> None:
    def broken() -> Iterator[str]:
        yield "a"
        raise LookupError("the table is gone")

    with pytest.raises(LookupError, match="the table is gone"):
        call(broken())
    assert list(tmp_path.iterdir()) == []


def test_settings_are_checked_before_a_generator_gives_a_row(call: Any, tmp_path: Path) -> None:
    rows = one_by_one(["a", "b"])
    for given in ({"modle": "m"}, {"rpm": -1}, {"prompt": "{{ a"}, {"input_format": "csv"}):
        with pytest.raises(runner.UsageError):
            call(rows, **given)
    assert call(rows).done == 2


CHAT = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why?"}]


def function() -> Iterator[str]:
    yield "a"


async def coroutine() -> list[str]:
    return ["a"]


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ([], "the list has no rows"), (one_by_one([]), "the generator has no rows.*; was it read before"),
        (pd.DataFrame({"prompt": []}), "has no rows"), ({"prompt": "a"}, r"a dict is one row; a row goes into a list: \[row\]"),
        ({"a"}, "a set has no order"), (b"a", "bytes are neither a path nor rows"), (function, r"call it: function\(\)"),
        (slowly, r"call it: slowly\(\)"), (coroutine, "await it first"), (5, "^source must be a path, or rows"),
        (pl.LazyFrame({"a": [1]}), r"frame\.collect\(\)"), (["a", 5], "^row 2 is a value of type int; a row is a text or a dict"),
        ([["a"]], r"messages of a chat go into a dict"), (["a", None], "^row 2 is a value of type NoneType"),
        ([{"prompt": "a", "x": object()}], "^field 'x' of row 1 is a value of type object"), (["\ud800"], "half of a surrogate"),
        ("Why is it blue?", r"there is no file 'Why is it blue\?'; a prompt goes into a list: \[prompt\]"),
        ("none.jsonl", r"there is no file 'none.jsonl'; a prompt goes into a list"), ("x" * 5_000, "too long"),
        (pd.DataFrame({"id": [1], "text": ["a"]}), r"no column prompt; .* id, text\. .* prompt='Summarize: \{\{ text \}\}'"),
        ([{"text": "a"}], "a list of 1 row in memory has no column prompt"),
        ([{"id": 1, "prompt": "a"}, {"id": 1, "prompt": "b"}], "a list of 2 rows in memory: duplicate id '1'"),
        ({"text": ["a", "b"]}, "a dict of lists is no table"), (np.array("a"), "of no dimension"),
        ({"text": {"0": "a", "1": "b"}}, "a dict of dicts is no table; pass pandas.DataFrame"),
        (CHAT, r"^a list of 2 rows in memory has a message of a chat in each row .* one row, \[\{\"messages\": .* prompt='"),
        (one_by_one(CHAT), r"a chat is one row, \[\{\"messages\""), (pd.DataFrame(CHAT), r"a chat is one row, \[\{\"messages\""),
        ([{}, {}], "a list of 2 rows in memory has no column prompt, nor any other: its rows have no fields"),
        (pd.DataFrame(index=[0, 1]), "has no column prompt, nor any other: its rows have no fields"),
        (pd.DataFrame({"text": ["a"]}).iterrows(), "^row 1 is a value of type tuple.*; make it a dict, .* or pass the table"),
    ],
    ids=[*map(str, range(31))],
)  # fmt: skip
def test_one_sentence_says_what_is_wrong(call: Any, tmp_path: Path, source: Any, words: str) -> None:
    with pytest.raises(runner.UsageError, match=words) as refused:
        call(source)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 300
    assert list(tmp_path.iterdir()) == []


def test_patterns_and_names_with_brackets_are_files(call: Any, tmp_path: Path) -> None:
    for name in ("a[1].jsonl", "b.jsonl"):
        (tmp_path / name).write_text(f'{{"prompt": "{name}"}}\n')
    assert [result.prompt for result in call("a[1].jsonl").results()] == ["a[1].jsonl"]
    assert [result.prompt for result in call("b*.jsonl").results()] == ["b.jsonl"]
    assert call([tmp_path / "a[1].jsonl", tmp_path / "b.jsonl"]).rows == 2


def test_names_of_files_are_no_prompts(call: Any, tmp_path: Path) -> None:
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_text("prompt\nhello\n")
    with pytest.raises(runner.UsageError, match="names of files; for the rows of files pass paths"):
        call(["a.csv", "b.csv"])
    assert call(["a.csv", "a prompt"]).done == 2


def test_in_an_event_loop_rows_are_taken_in_its_thread_and_others_have_their_turn(call: Any, tmp_path: Path) -> None:
    threads: set[int] = set()
    turns: list[int] = []
    seen: set[int] = set()

    def rows() -> Iterator[str]:
        for number in range(1_000):
            threads.add(threading.get_ident())
            seen.add(len(turns))
            yield f"number {number}"

    async def others() -> None:
        while True:
            turns.append(1)
            await asyncio.sleep(0)

    async def main() -> Path:
        other = asyncio.create_task(others())
        async with job_of_async(rows(), {"provider": "simulator"}, tmp_path / "runner.db") as job:
            assert job.input.read_text().count("\n") == 1_000
        other.cancel()
        async with job_of_async(slowly(["a"]), {}, tmp_path / "runner.db") as job:
            assert job.input.read_text() == '{"prompt":"a"}\n'
            (tmp_path / "p.jsonl").write_text('{"prompt":"a"}\n')
        async with job_of_async(tmp_path / "p.jsonl", {}, tmp_path / "runner.db") as job:
            return job.input

    assert asyncio.run(main()) == tmp_path / "p.jsonl"
    assert threads == {threading.get_ident()}
    assert len(seen) > 3
    # no run needs them
    assert kept(tmp_path) == []


def test_a_list_that_holds_itself_is_refused(call: Any) -> None:
    row: dict[str, Any] = {"prompt": "a"}
    row["self"] = row
    with pytest.raises(runner.UsageError, match="row 1 is nested too deeply"):
        call([row])


def test_a_row_without_a_prompt_among_others_is_a_broken_row(call: Any) -> None:
    ended = call([{"prompt": "a"}, {"text": "b"}])
    assert (ended.done, ended.broken) == (1, 1)


def test_settings_of_rows_choice_of_rows_and_names_of_columns(call: Any, tmp_path: Path) -> None:
    frame = pd.DataFrame({"key": ["k1", "k2", "k3"], "text": ["a", "b", "c"], "stars": [1, 5, 4], "other": [0, 0, 0]})
    call(frame, prompt="Say {{ text }}", id_column="key", where="stars > 3", columns=["stars"])
    table = runner.results().to_pandas()
    assert [list(row) for row in table[["id", "stars", "prompt"]].values] == [["k2", 5, "Say b"], ["k3", 4, "Say c"]]
    assert {"text", "other"}.isdisjoint(table.columns[:3])
    named = pd.Series(["a"], name="review")
    assert [result.prompt for result in call(named, prompt="Rate: {{ review }}").results()] == ["Rate: a"]
    assert [result.prompt for result in call(named).results()] == ["a"]


def test_a_check_takes_them_too_and_leaves_nothing(call: Any, tmp_path: Path) -> None:
    checked = runner.check(["a", "a"], model="m", provider="simulator")
    assert (checked.rows, checked.identical, checked.refusal) == (2, 1, None)
    assert list(tmp_path.iterdir()) == []


def test_in_a_running_event_loop_and_in_a_thread(call: Any) -> None:
    async def main() -> tuple[int, int]:
        return call(slowly(["a", "b"])).done, (await asyncio.to_thread(call, one_by_one(["c"]))).done

    assert asyncio.run(main()) == (2, 1)
    done: list[int] = []
    thread = threading.Thread(target=lambda: done.append(call(["d"]).done))
    thread.start()
    thread.join()
    assert done == [1]


def test_in_the_processes_of_a_pool(call: Any, server: Simulated) -> None:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        assert list(pool.map(run_texts, [["a"], ["b", "c"]], [server.openai] * 2)) == [1, 2]


KILLED = """
import os, signal, sys, runner
def rows():
    for number in range(1000):
        if number == 500:
            print("half", flush=True)
            os.kill(os.getpid(), getattr(signal, sys.argv[1]))
        yield "x" * 5000
runner.run(rows(), provider="simulator")
"""


@pytest.mark.parametrize("name", ["SIGINT", "SIGKILL"])
def test_what_ends_the_program_in_the_middle_of_the_rows_leaves_nothing_that_stays(call: Any, tmp_path: Path, name: str) -> None:
    with Started([sys.executable, "-c", KILLED, name], cwd=tmp_path, env=environment()) as process:
        ended = process.ended()
    assert ended.out == "half\n"
    assert ended.code == (-signal.SIGKILL if name == "SIGKILL" else -signal.SIGINT), ended
    assert not (tmp_path / "runner.db").exists()
    # the next call removes what a kill has left
    assert call(["a"]).done == 1
    assert list(tmp_path.glob("*.tmp")) == []
    assert len(kept(tmp_path)) == 1
