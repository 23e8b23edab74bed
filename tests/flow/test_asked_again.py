"""``runner retry``: exactly the rows that are named go out again, and no answer is lost for it."""

import asyncio
import json
import sqlite3
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from processes import assert_clean, piped, rows, run
from raw_server import RawServer, in_thread
from retried import Answering, Bench

import runner
from runner.errors import UsageError
from runner.session.mending import found

KINDS = {
    "r1": ["cut", "ok"],
    "r2": ["refused"],
    "r3": ["empty", "ok"],
    "r4": ["cut", "refused", "cut"],
    "r5": ["busy", "ok"],
    "r6": ["filtered", "ok"],
}


@pytest.fixture(params=["openai", "anthropic"])
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    """Eight rows, of which r1 and r4 are cut, r3 is empty, r6 is filtered, r2 and r5 have failed."""
    asked = Answering(dict(KINDS))
    with in_thread(RawServer(asked)) as server:
        bench = Bench(tmp_path, server, asked, request.param)
        bench.run()
        yield bench


@pytest.fixture
def openai(tmp_path: Path) -> Iterator[Bench]:
    """The same before its first session, in one dialect."""
    asked = Answering(dict(KINDS))
    with in_thread(RawServer(asked)) as server:
        yield Bench(tmp_path, server, asked)


def test_classes_name_failed_rows_and_done_ones(bench: Bench) -> None:
    assert bench.sent(classes="content_policy") == ["r2"]
    # a name that is empty chooses nothing
    assert bench.sent(classes=["", "-content_policy"]) == ["r5"]
    assert bench.sent(classes="length, empty") == ["r1", "r3", "r4"]
    assert bench.sent(classes="content_filter") == ["r6"]
    # what is whole now is of none of these classes any more; r4 has kept its answer
    assert bench.sent(classes="length,empty,content_filter,server") == ["r4"]
    assert bench.sent() == ["r2"]
    assert bench.sent(classes="whole") == ["r0", "r1", "r3", "r5", "r6", "r7"]


def test_the_old_answer_stays_until_a_new_one_is_there_and_in_the_history(bench: Bench) -> None:
    old = bench.texts()
    ended = bench.retry(classes="length", max_tokens=200)
    assert (ended.done_now, ended.failed_now, ended.kept, ended.failed) == (1, 1, 1, 2)
    assert bench.texts() == {**old, "r1": "ok 2: r1"}
    (former,) = runner.results(db=bench.store).former()
    assert (former.id, former.text, former.status) == ("r1", "cut 1: r1", "done")
    assert runner.status(db=bench.store)[1].attempts == 10
    told = json.loads(run("show", "r1", "--json", "--db", str(bench.store), cwd=bench.folder).out)
    assert [one["text"] for one in told["former"]] == ["cut 1: r1"]
    shown = run("show", "r1", "--db", str(bench.store), cwd=bench.folder).out
    assert "answer until " in shown
    assert "cut 1: r1" in shown
    # the settings of the retry were for its rows alone
    assert Counter(body["max_tokens"] for body in bench.asked.bodies) == {50: 8, 200: 2}
    # once more: the failure before has not changed what the row is
    assert bench.sent(classes="length") == ["r4"]
    assert bench.texts()["r4"] == "cut 3: r4"
    assert [one.text for one in runner.results(db=bench.store).former()] == ["cut 1: r1", "cut 1: r4"]


def test_where_and_ids_and_all(bench: Bench) -> None:
    assert bench.sent(where="lang == 'de'") == ["r5"]
    assert bench.sent(classes="length", where="lang == 'de'") == ["r1"]
    assert bench.sent(all_rows=True, where="lang == 'en'") == ["r0", "r2", "r4", "r6"]
    assert bench.sent(ids=["r0", "r2"]) == ["r0", "r2"]
    assert bench.sent(ids=["r0", "r2", "r7"], classes="failed") == ["r2"]
    assert bench.sent(ids=["r0", "r7"], where="lang == 'de'") == ["r7"]
    assert len(bench.sent(all_rows=True)) == 8


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("ids.txt", "r0\n\n r3 \n"),
        ("ids", "id\nr0\nr3\n"),
        ("ids.csv", "id,why\nr0,poor\nr3,poor\n"),
        ("list", "why;id\npoor;r0\npoor;r3\n"),
        ("ids.jsonl", '{"id": "r0", "text": "x"}\n{"id": "r3"}\n'),
        ("bom.txt", "\ufeffr0\r\nr3\r\n"),
    ],
)
def test_a_file_of_ids(openai: Bench, name: str, content: str) -> None:
    openai.run()
    (openai.folder / name).write_text(content)
    assert openai.sent(ids=openai.folder / name) == ["r0", "r3"]


def test_an_export_is_a_file_of_ids_and_so_is_standard_input(openai: Bench) -> None:
    openai.run()
    run("export", "--only", "length", "-o", "cut.csv", cwd=openai.folder)
    assert openai.sent(ids=openai.folder / "cut.csv") == ["r1", "r4"]
    before = Counter(openai.asked)
    assert_clean(piped("retry", "--ids", "-", given=b"r0\nr7\n", cwd=openai.folder))
    assert sorted((openai.asked - before).elements()) == ["r0", "r7"]


def test_what_means_nothing_is_refused_before_anything_is_sent(openai: Bench) -> None:
    openai.run()
    sent = openai.asked.total()
    (openai.folder / "ids.txt").write_text("r0\nnone\nr99\n")
    (openai.folder / "empty.csv").write_text("name\nx\n")
    refused = {
        ("--ids", "ids.txt"): "run 1 has no result for 2 of 3 ids in ids.txt: 'none', 'r99'; nothing was sent",
        ("--ids", "missing.txt"): "there is no file of ids missing.txt",
        ("--ids", "empty.csv"): "empty.csv has no ids",
        ("--class", "lenght"): "--class knows no 'lenght' (did you mean 'length'?)",
        ("--class", "length", "--all"): "--all sends every row again, and --class some of them",
        ("--where", "land == 'de'"): "land",
    }
    for options, words in refused.items():
        ended = run("retry", *options, cwd=openai.folder)
        assert ended.code == 2, (options, ended)
        assert words in ended.err
        assert "Traceback" not in ended.err
    for ids in ("r1", 5, [None], {"r1": 1}):
        with pytest.raises(UsageError, match="ids must be a list of ids"):
            openai.retry(ids=ids)
    assert openai.asked.total() == sent


def test_nothing_chosen_is_no_failure(openai: Bench) -> None:
    openai.run()
    before = rows(openai.store, "SELECT * FROM items")
    ended = run("retry", "--class", "timeout", cwd=openai.folder)
    assert (ended.code, openai.asked.total()) == (0, 8)
    assert "run 1: there are no such rows to send again" in ended.out
    assert rows(openai.store, "SELECT * FROM items") == before
    assert run("retry", "--class", "length", "--where", "lang == 'fr'", cwd=openai.folder).code in (0, 2)


def test_it_says_which_rows_before_it_sends(openai: Bench) -> None:
    openai.run()
    said = run("retry", "--class", "length,failed", cwd=openai.folder).out
    assert "run 1: retrying 4 rows: 2 length, 1 content_policy, 1 server_error (r1, r2, r4, r5)\n" in said
    assert "their old answers stay until the new ones are there\n" in said


def test_exports_show_the_old_answer_while_the_new_one_is_on_its_way(openai: Bench) -> None:
    openai.run()
    openai.asked.kinds |= {"r1": ["cut", "hang"]}
    handle = runner.StopHandle()
    told: list[Any] = []

    def stop_when_it_is_open(event: object) -> None:
        if isinstance(event, runner.Progress) and event.in_flight and not told:
            told.append(openai.texts()["r1"])
            handle.request()
            handle.request()

    ended = openai.retry(classes="length", ids=["r1"], stop=handle, observe=stop_when_it_is_open)
    assert (told, ended.retry_left, ended.finished) == (["cut 1: r1"], 1, False)
    assert openai.texts()["r1"] == "cut 1: r1"
    openai.asked.kinds |= {"r1": ["ok"]}
    sent = Counter(openai.asked)
    assert runner.resume(db=openai.store).finished
    assert openai.asked - sent == {"r1": 1}
    assert openai.texts()["r1"] == "ok 3: r1"


def test_several_answers_are_asked_for_one_by_one(openai: Bench) -> None:
    openai.asked.kinds = {"r0": ["ok", "cut", "ok"], "r1": ["refused", "ok", "cut"]}
    openai.write([{"id": one, "prompt": one} for one in ("r0", "r1")])
    openai.run(answers=2, concurrency=1)
    before = {(one.id, one.answer_number): one.text for one in runner.results(db=openai.store)}
    assert before == {("r0", 1): "ok 1: r0", ("r0", 2): "cut 2: r0", ("r1", 1): None, ("r1", 2): "ok 2: r1"}
    said = run("retry", "--class", "length", cwd=openai.folder).out
    assert "run 1: retrying 1 answer: 1 length (r0 (answer 2))\n" in said
    now = {(one.id, one.answer_number): one.text for one in runner.results(db=openai.store)}
    assert now == {**before, ("r0", 2): "ok 3: r0"}
    assert openai.sent(ids=["r1 (answer 1)"]) == ["r1"]
    assert openai.sent(ids=["r0"]) == ["r0", "r0"]
    with pytest.raises(UsageError, match="has no result for 1 of 1 id"):
        openai.retry(ids=["r0 (answer 3)"])


def test_rows_that_share_an_answer_share_the_new_one(openai: Bench) -> None:
    openai.asked.kinds = {"same": ["cut", "ok"]}
    openai.write([{"id": one, "prompt": "same"} for one in "abc"] + [{"id": "z", "prompt": "other"}])
    openai.run(dedupe=True)
    assert openai.sent(classes="length") == ["same"]
    assert openai.texts() == {**dict.fromkeys("abc", "ok 2: same"), "z": "ok 1: other"}
    # one of them alone gets an answer of its own, and the others keep theirs
    openai.asked.kinds = {}
    assert openai.sent(ids=["b"]) == ["same"]
    assert openai.texts() == {"a": "ok 2: same", "b": "ok 3: same", "c": "ok 2: same", "z": "ok 1: other"}
    assert openai.sent(ids=["a", "c"]) == ["same"]
    assert openai.texts() == {"a": "ok 4: same", "b": "ok 3: same", "c": "ok 4: same", "z": "ok 1: other"}


def test_the_books_and_the_cost_of_a_row_have_all_attempts(openai: Bench) -> None:
    prices = {"m": {"input": 1, "output": 1}}
    openai.run(prices=prices)
    openai.retry(classes="length", ids=["r1"])
    books = runner.status(db=openai.store)[1]
    # each answer has 7 tokens in and 3 out
    assert (books.attempts, books.cost) == (9, pytest.approx(7 * 10e-6))
    costs = {str(one.id): one.cost for one in runner.results(db=openai.store)}
    assert (costs["r0"], costs["r1"]) == (pytest.approx(10e-6), pytest.approx(20e-6))


def test_a_budget_holds_and_resume_goes_on(openai: Bench) -> None:
    prices = {"m": {"input": 1, "output": 1}}
    openai.asked.kinds = {f"r{one}": ["cut", "ok"] for one in range(8)}
    openai.run(prices=prices)
    with pytest.raises(runner.RunStoppedError) as stopped:
        openai.retry(classes="length", max_cost=0.00029, concurrency=1)
    assert "`runner resume 1 --max-cost " in str(stopped.value)
    done = openai.asked.total() - 8
    assert 0 < done < 8
    assert runner.status(db=openai.store)[1].retry_left == 8 - done
    assert runner.resume(db=openai.store, max_cost=1).finished
    assert set(openai.asked.values()) == {2}
    assert runner.status(db=openai.store)[1].retry_left == 0


def test_a_run_takes_over_the_newest_answer(openai: Bench) -> None:
    openai.run()
    openai.retry(classes="length", ids=["r1"])
    openai.write([{"id": "r1", "prompt": "r1"}, {"id": "r9", "prompt": "r9"}])
    openai.run(new=True, reuse=True)
    assert openai.texts() == {"r1": "ok 2: r1", "r9": "ok 1: r9"}
    assert openai.asked["r1"] == 2


def test_rows_that_have_left_the_file_are_told(openai: Bench) -> None:
    openai.run()
    lines = openai.prompts.read_text().splitlines(keepends=True)
    openai.prompts.write_text("".join(line for line in lines if '"r1"' not in line))
    said = run("retry", "--class", "length", cwd=openai.folder).out
    assert "1 of these rows is no longer in the file, and not sent" in said
    assert openai.asked["r1"] == 1
    assert runner.status(db=openai.store)[1].retry_left == 0
    assert openai.texts()["r1"] == "cut 1: r1"


def test_a_done_row_that_is_broken_now_keeps_its_answer(openai: Bench) -> None:
    openai.run()
    openai.prompts.write_text(openai.prompts.read_text().replace('"prompt": "r1"', '"prompt": null'))
    ended = openai.retry(classes="length")
    assert (ended.kept, openai.asked["r1"], openai.texts()["r1"]) == (2, 1, "cut 1: r1")
    assert (ended.failed, runner.status(db=openai.store)[1].retry_left) == (2, 0)


def test_rows_that_were_not_chosen_stay_broken(openai: Bench) -> None:
    broken = openai.prompts.read_text()
    openai.prompts.write_text(broken + '{"id": "x", "prompt": null}\n')
    openai.run()
    openai.prompts.write_text(broken + '{"id": "x", "prompt": "x"}\n')
    assert openai.sent(classes="server") == ["r5"]
    assert openai.sent(classes="bad_row") == ["x"]


def test_a_declined_retry_leaves_no_trace(openai: Bench) -> None:
    openai.run(prices={"m": {"input": 1, "output": 1}})

    def tables() -> list[list[tuple[Any, ...]]]:
        return [rows(openai.store, f"SELECT * FROM {name}") for name in ("items", "retries", "retried", "replaced")]

    openai.retry(classes="length")
    before = tables()
    handle = runner.StopHandle()
    handle.request()
    with pytest.raises(UsageError):
        openai.retry(classes="length", prices={"m": {"input": "x"}}, stop=handle)
    assert tables() == before


def test_a_deleted_run_leaves_nothing_of_its_retries(openai: Bench) -> None:
    openai.run()
    openai.retry(classes="length")
    runner.delete([1], db=openai.store)
    with closing(sqlite3.connect(openai.store)) as connection:
        for table in ("retries", "retried", "replaced"):
            assert connection.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,)


def test_errors_names_what_can_be_asked_again_and_its_commands_work(openai: Bench) -> None:
    openai.run(prices={"m": {"input": 1, "output": 1}})
    told = run("errors", cwd=openai.folder)
    assert max(map(len, told.out.splitlines())) <= 80
    causes = {one["code"]: one for one in json.loads(run("errors", "--json", cwd=openai.folder).out)}
    assert {code: (one["count"], one["ids"], one["status"]) for code, one in causes.items()} == {
        "content_policy": (1, ["r2"], "failed"),
        "server_error": (1, ["r5"], "failed"),
        "length": (2, ["r1", "r4"], "done"),
        "empty": (1, ["r3"], "done"),
        "content_filter": (1, ["r6"], "done"),
    }
    length = causes["length"]
    assert (length["attempts"], length["input_tokens"], length["output_tokens"], length["cost"]) == (
        2,
        14,
        6,
        pytest.approx(2e-5),
    )
    assert (length["share"], causes["server_error"]["share_of_failed"]) == (0.25, 0.5)
    assert length["command"] == "runner retry 1 --class length --max-tokens 100"
    for code, expected in (("length", ["r1", "r4"]), ("content_policy", ["r2"])):
        before = Counter(openai.asked)
        assert f"  command   {causes[code]['command']}\n" in told.out
        assert run(*causes[code]["command"].split()[1:], cwd=openai.folder).code == 1
        assert sorted((openai.asked - before).elements()) == expected


def test_ids_of_errors_can_be_piped_into_a_retry(openai: Bench) -> None:
    openai.run()
    with found(None, str(openai.store)) as causes:
        (refused,) = [one for one in causes.failed if one.code == "content_policy"]
        assert list(causes.reader.ids(refused)) == refused.ids == ["r2"]


def test_ok_failed_of_a_retry(openai: Bench) -> None:
    openai.run()
    assert run("retry", "--class", "content_policy", cwd=openai.folder).code == 1
    ended = run("retry", "--class", "content_policy", "--ok-failed", "25%", cwd=openai.folder)
    assert ended.code == 0
    assert (
        "2 rows failed (1 content_policy, 1 server_error): `runner errors 1` shows why; --ok-failed 25% allows that\n"
        in ended.out
    )


async def _retried(bench: Bench) -> runner.RunSummary:
    return await runner.aretry(db=bench.store, classes="length", ids=["r1", "r2"])


def test_the_same_in_an_event_loop(openai: Bench) -> None:
    openai.run()
    thread = threading.Thread(target=lambda: asyncio.run(_retried(openai)))
    thread.start()
    thread.join()
    assert (openai.asked["r1"], openai.asked["r2"], openai.texts()["r1"]) == (2, 1, "ok 2: r1")
