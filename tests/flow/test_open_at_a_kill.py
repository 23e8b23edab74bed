"""Without a budget: what is open when a process is killed is on the books, and nothing is left there by a session that ends.

``python -m benchmarks.invoices`` kills many more.
"""

import asyncio
import csv
import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from bought import MOST, PRICES, Desk
from half_answering import Half
from processes import count, run
from processes import runner as started
from raw_server import RawServer, in_thread, whole

import runner
from benchmarks.killed import killed_runs, missed
from runner.event_types import Event, Progress, Stopping
from runner.simulator import Behaviour, Simulator

SEEDS = (5, 6)
"""Both dialects, with slots of a fixed number and not."""
MORE = range(7, 17)
"""Further runs, made one by one until a kill has lost something: on a busy machine a kill may come between two answers."""


def test_after_each_kill_the_books_contain_the_invoice_at_once(tmp_path: Path) -> None:
    looks = asyncio.run(killed_runs(SEEDS, tmp_path, kills=2))
    assert len(looks) == 3 * len(SEEDS)
    for seed in MORE:
        if not all(one.right for one in looks) or not missed(looks):
            break
        looks += asyncio.run(killed_runs([seed], tmp_path, kills=2))
    assert missed(looks) == []


def test_what_was_open_is_said_in_each_place_and_counts_for_a_later_budget(tmp_path: Path) -> None:
    desk = Half(tmp_path)
    with in_thread(RawServer(desk)) as server:
        desk.url = server.base_url
        desk.write([f"{number} " + "x" * (number % 30) for number in range(20)])
        words = ["run", "p.jsonl", "--model", "m", "--base-url", desk.url, "--prices", json.dumps(PRICES)]
        words += ["--max-tokens", str(MOST), "--concurrency", "4"]
        for session in (0, 1):
            killed_when(desk, 4 * (session + 1), words, before=4 * session)
            found = books(tmp_path)
            assert (found["open_requests"], found["killed_requests"]) == (4 * session + 4, 4 * session + 4)
        least = sum(len(request.body) + 4 * MOST for request in desk.hanging) / 1e6
        assert least <= found["cost_open_requests"] == found["cost_perhaps"] <= 1.5 * least
        told = "more, for up to 8 requests that were open when the process ended"
        assert told in run("status", cwd=tmp_path).out
        desk.hangs = False
        # what it may have cost is used up
        assert run(*words, "--max-cost", f"{found['cost'] + found['cost_perhaps']:.6f}", cwd=tmp_path).code == 5
        assert books(tmp_path)["cost"] == found["cost"]
        ended = run(*words, "--max-cost", "1", cwd=tmp_path)
        assert (ended.code, told in ended.out) == (0, True)
        assert count(desk.store, "reservations") == 2
    # a session that has nothing to do says the same
    summary = runner.run(desk.prompts, **desk.settings)
    assert (summary.done_now, summary.open_requests, summary.cost_open_requests) == (0, 8, found["cost_open_requests"])
    assert summary.cost_perhaps == found["cost_perhaps"]


def test_one_dear_row_makes_no_other_dear_and_an_export_says_what_is_in_no_row(tmp_path: Path) -> None:
    desk, dear = Half(tmp_path, first=20), {name: 100 * each for name, each in PRICES["m"].items()}
    prompt, most = "x" * 40, 160
    lines = ({"id": str(number), "prompt": prompt, **({"model": "dear"} if number == 0 else {})} for number in range(120))
    desk.prompts.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    with in_thread(RawServer(desk)) as server:
        words = ["run", "p.jsonl", "--model", "m", "--base-url", server.base_url, "--max-tokens", str(most)]
        words += ["--prices", json.dumps({**PRICES, "dear": dear}), "--concurrency", "20"]
        killed_when(desk, 20, words, before=0)
        found = books(tmp_path)
        one = (len(desk.hanging[0].body) + 10 + 4 * most) / 1e6
        # with the highest rates of any row for all it was a hundred times as much
        assert 20 * one * 0.9 < found["cost_perhaps"] < 1.5 * 20 * one + 150 * one < 0.2
        assert found["killed_requests"] == 21
        assert_export_tells(tmp_path, desk)
        desk.hangs = False
        assert run(*words, "--max-cost", "1", "-o", "end.csv", cwd=tmp_path).code == 0
    rows = list(csv.DictReader((tmp_path / "end.csv").read_text().splitlines()))
    after = books(tmp_path)
    assert sum(float(row["cost"]) for row in rows) == pytest.approx(after["cost"])
    assert sum(float(row["cost_perhaps"]) for row in rows) == pytest.approx(after["cost_perhaps"] - after["cost_open_requests"])
    assert after["cost_open_requests"] == pytest.approx(found["cost_open_requests"])


def assert_export_tells(folder: Path, desk: Half) -> None:
    """Check that exports say what is in no row, where a sum of the rows would lack it."""
    told = "for up to 21 requests that were open when the process ended: it is in no row, and `runner status` counts it"
    said = run("export", "-o", "a.csv", "-o", "b.jsonl", cwd=folder).out
    assert said.count(told) == 1
    assert "beside the rows, perhaps up to $0.1" in said
    to_pipe = run("export", "-o", "-", "--format", "jsonl", cwd=folder)
    assert (told in to_pipe.out, told in to_pipe.err) == (False, True)
    for words in (["c.csv", "--columns", "id,text"], ["c.jsonl", "--format", "openai-batch"], ["c.csv", "--quiet"]):
        assert "beside the rows" not in run("export", "-o", *words, cwd=folder).out
    runner.export(folder / "d.csv", db=desk.store, notes=(notes := []))
    assert told in notes[-1]


def killed_when(desk: Half, hanging: int, words: list[str], before: int) -> None:
    """Kill a session once so many requests hang, in all. before: what was open at earlier kills."""
    with started(*words, cwd=desk.folder) as process:
        process.until(lambda: len(desk.hanging) == hanging, "all slots")
        # beside a session, nothing is said of what it has open
        assert books(desk.folder)["open_requests"] == before
        process.killed()


def test_without_a_price_it_is_counted_and_priced_later(tmp_path: Path) -> None:
    desk = Half(tmp_path)
    with in_thread(RawServer(desk)) as server:
        desk.url = server.base_url
        desk.write([f"{number}" for number in range(10)])
        words = ["run", "p.jsonl", "--model", "m", "--base-url", desk.url, "--max-tokens", str(MOST), "--concurrency", "2"]
        killed_when(desk, 2, words, before=0)
        found, said = books(tmp_path), run("status", cwd=tmp_path).out
        assert (found["cost"], found["cost_perhaps"], found["open_requests"]) == (None, None, 2)
        assert "up to 2 requests were open when the process ended, perhaps billed" in said
        assert "unknown: no price is known" in said
        words_of_export = "perhaps an amount that is not known for up to 2 requests that were open when the process ended"
        assert words_of_export in run("export", "-o", "a.csv", cwd=tmp_path).out
        desk.hangs = False
        assert run(*words, "--prices", json.dumps(PRICES), cwd=tmp_path).code == 0
    found = books(tmp_path)
    assert (found["unpriced_attempts"], found["open_requests"]) == (0, 2)
    assert found["cost_perhaps"] == pytest.approx(found["cost_open_requests"])
    assert found["cost_perhaps"] > 0


def books(folder: Path) -> dict[str, Any]:
    """What ``status --json`` says of the attempts."""
    found: dict[str, Any] = json.loads(run("status", "--json", cwd=folder).out)["books"]
    return found


@pytest.mark.parametrize("ending", ["all done", "limit", "stop", "cancelled"])
def test_however_a_session_ends_it_leaves_nothing(tmp_path: Path, ending: str) -> None:
    store, stop, tasks = tmp_path / "r.db", runner.StopHandle(), list[asyncio.Task[Any]]()
    reserved = list[int]()

    def observe(event: Event) -> None:
        underway = isinstance(event, Progress) and event.in_flight and count(store, "reservations")
        if underway or isinstance(event, Stopping):
            reserved.append(count(store, "reservations"))
            # the second one drops what is open
            stop.request() if ending == "stop" else tasks[0].cancel() if ending == "cancelled" else None

    async def play() -> None:
        slow = 30.0 if ending in ("stop", "cancelled") else 0.0
        async with Simulator(Behaviour(first_token_s=slow, tokens=3)) as simulator:
            prompts = [{"prompt": str(number)} for number in range(8)]
            settings: dict[str, Any] = {"model": "m", "base_url": simulator.base_url("openai"), "db": store, "concurrency": 4}
            settings |= {"limit": 3} if ending == "limit" else {}
            work = runner.arun(prompts, stop=stop, observe=observe, progress=False, **settings)
            tasks.append(asyncio.get_running_loop().create_task(work))
            await asyncio.wait(tasks)

    asyncio.run(play())
    assert tasks[0].cancelled() == (ending == "cancelled")
    assert ending not in ("stop", "cancelled") or reserved[0] == 1
    assert count(store, "reservations") == 0
    assert count(store, "attempts") == {"all done": 8, "limit": 3}.get(ending, 4)


def test_a_session_that_is_refused_leaves_nothing(tmp_path: Path) -> None:
    refusal = whole("401 Unauthorized", {"error": {"message": "no"}})
    with in_thread(RawServer(lambda _: refusal)) as server, pytest.raises(runner.RunStoppedError):
        runner.run([{"prompt": "hi"}], db=tmp_path / "r.db", model="m", base_url=server.base_url, progress=False)
    assert count(tmp_path / "r.db", "attempts") == 1
    assert count(tmp_path / "r.db", "reservations") == 0


def test_what_could_not_be_saved_stays_on_the_books(tmp_path: Path) -> None:
    store = tmp_path / "r.db"
    with in_thread(RawServer(Desk(tmp_path))) as server:
        settings: dict[str, Any] = {"db": store, "model": "m", "base_url": server.base_url, "progress": False}
        runner.run([{"prompt": "first"}], **settings)
        with closing(sqlite3.connect(store)) as connection:
            connection.execute("CREATE TRIGGER t BEFORE INSERT ON attempts BEGIN SELECT RAISE(ABORT, 'on fire'); END")
        with pytest.raises(runner.StoreError):
            runner.run([{"prompt": "second"}], **settings)
    _, found = runner.status(2, db=store)
    assert (found.open_requests, found.killed_requests) == (1, 1)
