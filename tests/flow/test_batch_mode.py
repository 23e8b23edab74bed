"""Rows through a provider's batch API, as a person sees it: commands, exit codes, books and exports. Real processes and HTTP.

These are the commands of docs/guides/batches.md.
"""

import csv
import json
import signal
import sqlite3
import time
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any

import json_schemas
import jsonschema_rs
import pytest
from processes import QUICK, Ended, Simulated, get, rows, run, runner, simulator, write_prompts

from runner import api
from runner.batches import BATCH_TIER
from runner.errors import StoreError, UsageError

PRICE = {"m": {"input": 2.0, "output": 8.0, "batch": 0.5}}
PRICES = ("--prices", json.dumps(PRICE))
KEYS = {"OPENAI_API_KEY": "sk-test-0000000000000001", "ANTHROPIC_API_KEY": "sk-ant-test-0000000001"}
WAITS = 7
"""The exit code of a session that leaves rows at the provider."""


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    write_prompts(tmp_path / "prompts.jsonl", range(10))
    return tmp_path


def at(server: Simulated, dialect: str, folder: Path, *more: str, mode: str = "batch") -> Ended:
    """Run the prompts of a folder."""
    where = ("--provider", dialect, "--model", "m", "--base-url", server.base_url(dialect), "--max-tokens", "60")
    return run("run", "prompts.jsonl", *where, *PRICES, "--mode", mode, *more, cwd=folder, env=KEYS)


def told(command: str, folder: Path) -> Ended:
    return run(*command.split(), cwd=folder, env=KEYS)


def exported(folder: Path, number: int) -> list[dict[str, str]]:
    """Return the export of a run without what differs between live and batch: times, tier and cost."""
    told(f"export {number} -o out{number}.csv", folder)
    with (folder / f"out{number}.csv").open(newline="") as file:
        found = list(csv.DictReader(file))
    differs = ("cost", "cost_perhaps", "started_at", "duration_s", "time_to_first_token_s", "tier", "response_id")
    return [{name: value for name, value in row.items() if name not in differs} for row in found]


def spent(folder: Path, run_id: int) -> Decimal:
    ((found,),) = rows(
        folder / "runner.db",
        "SELECT sum(input_tokens * p.input + output_tokens * p.output) FROM attempts a JOIN prices p ON p.id = a.price_id "
        f"WHERE a.run_id = {run_id}",
    )
    return Decimal(found).scaleb(-12)


@pytest.mark.parametrize("dialect", ["openai", "anthropic"])
def test_a_batch_gives_the_export_of_a_live_run_at_half_its_price(prompts: Path, dialect: str) -> None:
    with simulator(*QUICK, *PRICES, "--batch-delay", "0.2") as server:
        ended = at(server, dialect, prompts)
        assert ended.code == 0, ended
        assert "run 1 finished: 10 done" in ended.out
        half = Decimal(server.invoice()["amount"])
    # another server, which draws the same answers again
    with simulator(*QUICK, *PRICES) as server:
        live = at(server, dialect, prompts, "--new", mode="live")
        assert live.code == 0, live
        whole = Decimal(server.invoice()["amount"])
    assert exported(prompts, 1) == exported(prompts, 2)
    # the books are the bill, and the bill is half
    assert (spent(prompts, 1), spent(prompts, 2)) == (half, whole)
    assert half * 2 == whole > 0
    assert api.status(1, db=prompts / "runner.db")[1].tiers == {BATCH_TIER: 10}
    # nothing of it is left beside the store
    assert [path for path in prompts.rglob("*.batches/*") if path.is_file()] == []


def test_a_session_detaches_and_the_next_one_takes_the_answers(prompts: Path) -> None:
    with simulator(*QUICK, "--batch-delay", "3") as server:
        ended = at(server, "openai", prompts, "--detach")
        assert ended.code == WAITS, ended
        assert "10 rows wait at the provider in batch b1" in ended.out
        assert "next: runner resume 1   (takes the answers of 10 rows as they come)" in ended.out
        shown = told("status", prompts).out
        assert "waiting       10 rows in 1 batch at the provider; `runner batches 1` shows it" in shown
        assert "(takes the answers of 10 rows as they come)" in shown
        listed = json.loads(told("batches --json", prompts).out)
        jsonschema_rs.validate(json.loads(json_schemas.text("batches")), listed)
        assert [(one["id"], one["rows"], one["waiting"], one["open"]) for one in listed] == [(1, 10, 10, True)]
        # at the price of a batch: 60 tokens of output for $4 a million each, and some input
        assert 10 * 60 * 4e-6 < listed[0]["cost_most"] < 10 * 60 * 6e-6
        with closing(sqlite3.connect(prompts / "runner.db")) as store, store:
            store.execute("UPDATE batches SET kept_until = ?", (time.time() + 3.01 * 86_400,))
        assert "b1: its results are kept for 3.0 days more; `runner resume 1` takes them" in told("batches", prompts).out
        # a live session leaves what waits alone, and says so
        live = told("resume 1 --mode live", prompts)
        assert live.code in (0, WAITS), live
        ended = told("resume 1", prompts)
        assert ended.code == 0, ended
        assert server.stats()["requests"] == get(f"{server.anthropic}/stats")["requests"]
        lines = server.invoice(lines=True)["lines"]
    assert len(lines) == 10
    summary = json.loads(told("status --json", prompts).out)
    assert (summary["books"]["attempts"], summary["books"]["waiting"], summary["books"]["batches"]) == (10, 0, 0)
    assert "10 done" in told("status", prompts).out


def test_ctrl_c_leaves_a_batch_that_can_be_cancelled_and_fetched(prompts: Path) -> None:
    where = ("--model", "m", "--mode", "batch", "--max-tokens", "60", *PRICES)
    with simulator(*QUICK, *PRICES, "--batch-delay", "100", "--batch-cancel-done", "0.5") as server:
        with runner("run", "prompts.jsonl", "--base-url", server.openai, *where, cwd=prompts, env=KEYS) as process:
            process.until(lambda: open_batches(prompts, "submitted"), "a batch at the provider")
            said = told("batches cancel b1", prompts)
            assert "; the session of run 1 that is at work takes what it has answered, and sends the other rows" in said.out
            assert "(`runner stop 1` ends it before that)" in said.out
            process.until(lambda: open_batches(prompts, "submitted", number=2), "the next batch")
            process.signal(signal.SIGINT)
            ended = process.ended()
        assert ended.code == 130, ended
        assert "to cancel it: `runner batches cancel b2`" in ended.out
        # a live session sends none of the rows that wait, and tells them apart from those that are left
        answered = len(server.invoice(lines=True)["lines"])
        assert told("resume 1 --mode live", prompts).code == WAITS
        assert len(server.invoice(lines=True)["lines"]) == answered
        assert "(takes the answers of" in told("errors 1", prompts).out
        said = told("batches cancel b2", prompts)
        assert (said.code, "batch b2: the provider says" in said.out) == (0, True), said
        assert "; `runner resume 1` takes what it has answered, and sends the other rows\n" in said.out
        fetched = told("batches fetch 1", prompts)
        assert fetched.code in (0, WAITS), fetched
        assert "changed while it was read" not in fetched.out
        run_, books = api.status(1, db=prompts / "runner.db")
        assert 0 < run_.done < 10
        assert books.waiting == 0
        # what the cancelled batch had answered is paid for and kept; the others are sent again, and no row twice
        ended = told("resume 1 --mode live", prompts)
        assert ended.code == 0, ended
        assert len(server.invoice(lines=True)["lines"]) == 10
        assert spent(prompts, 1) == Decimal(server.invoice()["amount"])


def open_batches(folder: Path, state: str, *, number: int = 1) -> bool:
    store = folder / "runner.db"
    return (
        store.exists()
        and bool(rows(store, "SELECT 1 FROM sqlite_master WHERE name = 'batches'"))
        and bool(rows(store, f"SELECT 1 FROM batches WHERE state = '{state}' AND id >= {number}"))
    )


def test_a_kill_buys_nothing_twice(prompts: Path) -> None:
    where = ("--model", "m", "--mode", "batch", *PRICES)
    with simulator(*QUICK, *PRICES, "--batch-delay", "2") as server:
        with runner("run", "prompts.jsonl", "--base-url", server.openai, *where, cwd=prompts, env=KEYS) as process:
            process.until(lambda: open_batches(prompts, "submitted"), "a batch at the provider")
            process.killed()
        ended = told("resume", prompts)
        assert ended.code == 0, ended
        assert len(server.invoice(lines=True)["lines"]) == 10
        assert spent(prompts, 1) == Decimal(server.invoice()["amount"])


def test_what_expires_goes_live_in_a_mixed_run(prompts: Path) -> None:
    with simulator(*QUICK, *PRICES, "--batch-delay", "0.2", "--batch-expire", "0.5") as server:
        ended = at(server, "openai", prompts, mode="mixed")
        assert ended.code == 0, ended
        bill = server.invoice(lines=True)
    run_, books = api.status(1, db=prompts / "runner.db")
    assert run_.done == 10
    assert 0 < books.tiers[BATCH_TIER] < 10
    assert sum(books.tiers.values()) == 10 == len(bill["lines"])
    assert books.failed_attempts == {"batch_expired": 10 - books.tiers[BATCH_TIER]}
    assert books.unsent == books.failed_attempts["batch_expired"]
    assert spent(prompts, 1) == Decimal(bill["amount"])


def test_what_expires_goes_into_the_next_batch_at_once(prompts: Path) -> None:
    with simulator(*QUICK, "--batch-delay", "0.2", "--batch-expire", "0.4") as server:
        ended = at(server, "openai", prompts, "--detach")
        assert ended.code in (0, WAITS), ended
        # the rows that came back do not wait for the next look at a batch, a minute later
        ended = told("resume 1 --json", prompts)
        assert ended.code == 0, ended
    summary = json.loads(ended.out.splitlines()[-1])
    assert (summary["done"], summary["waiting"], summary["batches"]) == (10, 0, [])
    _, books = api.status(1, db=prompts / "runner.db")
    assert books.tiers == {BATCH_TIER: 10}
    assert books.failed_attempts["batch_expired"] == books.unsent > 0
    made = [row for (row,) in rows(prompts / "runner.db", "SELECT rows FROM batches ORDER BY id")]
    assert len(made) > 1
    assert made == sorted(made, reverse=True)


def test_a_budget_holds_for_batches_too(prompts: Path) -> None:
    with simulator(*QUICK, *PRICES, "--batch-delay", "0.2") as server:
        # a row may cost 60 * 4 + its input: $0.0003 at the most
        ended = at(server, "openai", prompts, "--max-cost", "0.0004")
        assert ended.code == 5, ended
        assert Decimal(server.invoice()["amount"]) <= Decimal("0.0004")
        # as many as there is room for go out, a file cut to their number
        assert 0 < api.status(1, db=prompts / "runner.db")[0].done < 10
        ended = told("resume 1 --max-cost 1", prompts)
        assert ended.code == 0, ended
        assert len(server.invoice(lines=True)["lines"]) == 10


def test_equal_requests_of_a_batch_are_bought_once(tmp_path: Path) -> None:
    asks = [{"id": f"a{number}", "prompt": f"say {number % 3}"} for number in range(12)]
    (tmp_path / "prompts.jsonl").write_text("\n".join(map(json.dumps, asks)))
    with simulator(*QUICK, "--batch-delay", "2") as server:
        ended = at(server, "openai", tmp_path, "--dedupe", "--detach")
        assert ended.code == WAITS, ended
        # rows that ask what waits in a batch wait too
        ended = told("resume 1", tmp_path)
        assert ended.code == 0, ended
        assert len(server.invoice(lines=True)["lines"]) == 3
    assert api.status(1, db=tmp_path / "runner.db")[0].done == 12


def test_the_simulator_of_a_session_has_batches_too(prompts: Path) -> None:
    ended = run("run", "prompts.jsonl", "--provider", "simulator", "--mode", "batch", "--answers", "2", cwd=prompts)
    assert ended.code == 0, ended
    assert "20 done" in ended.out
    refused = run("run", "prompts.jsonl", "--provider", "simulator", "--mode", "batch", "--detach", "--new", cwd=prompts)
    assert (refused.code, "ends with the session" in refused.err) == (2, True)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"workers": 2}, "leave out workers"),
        ({"base_url": ["http://127.0.0.1:1/v1", "http://127.0.0.1:2/v1"]}, "several are named"),
        ({"provider": "anthropic", "tier": "flex"}, "a batch is a service tier of its own"),
        ({"base_url": "https://openrouter.ai/api/v1"}, "OpenRouter has no batch API"),
        ({"by": "2020-01-01 07:00"}, "name a time that is to come"),
        ({"mode": "live", "detach": True}, "add --mode batch or mixed"),
    ],
)
def test_what_does_not_go_with_batches_is_one_sentence(prompts: Path, given: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        api.run(prompts / "prompts.jsonl", db=prompts / "r.db", **{"mode": "batch", "model": "m", **given})


def test_files_that_cannot_be_written_are_an_error_of_the_store(prompts: Path) -> None:
    (prompts / "r.db.batches").write_text("in the way")
    with pytest.raises(StoreError, match=r"the files of batches in .*r\.db\.batches cannot be written: File exists"):
        api.run(prompts / "prompts.jsonl", db=prompts / "r.db", mode="batch", provider="simulator")
    assert rows(prompts / "r.db", "SELECT count(*) FROM batches") == [(0,)]


def test_a_lost_batch_is_given_up_by_hand(prompts: Path) -> None:
    with simulator(*QUICK, *PRICES, "--batch-delay", "100") as server:
        assert at(server, "openai", prompts, "--detach").code == WAITS
        refused = told("batches forget b1", prompts)
        assert (refused.code, "`runner batches forget b1 --yes`" in refused.err) == (2, True)
        given_up = told("batches forget b1 --yes", prompts)
        assert "10 rows of run 1 open again, booked as perhaps billed" in given_up.out
        books = api.status(1, db=prompts / "runner.db")[1]
        assert (books.failed_attempts, books.perhaps_billed, books.waiting) == ({"batch_gone": 10}, 10, 0)
        assert told("batches cancel b1", prompts).code == 2
        ended = told("resume 1 --mode live", prompts)
        assert ended.code == 0, ended
        assert api.status(1, db=prompts / "runner.db")[0].done == 10
        assert at(server, "openai", prompts, "--new", "--detach").code == WAITS
        # a run is not deleted while rows wait that may be billed
        refused = told("delete 1 2 --yes", prompts)
        assert (refused.code, "`runner batches forget b2 --yes` gives them up" in refused.err) == (2, True), refused
        assert told("batches forget b2 --yes", prompts).code == 0
    deleted = told("delete 1 2 --yes", prompts)
    assert deleted.code == 0, deleted
    assert json.loads(told("batches --json", prompts).out) == []


def test_an_estimate_of_a_batch_is_half_of_that_of_a_live_run(prompts: Path) -> None:
    def cost(mode: str) -> tuple[float, float]:
        more: dict[str, Any] = {"mode": mode, "model": "m", "prices": PRICE, "max_tokens": 60}
        found = api.estimate(prompts / "prompts.jsonl", db=prompts / "r.db", **more).cost
        assert found is not None
        assert found.high is not None
        return found.mid, found.high

    live, batch, mixed = cost("live"), cost("batch"), cost("mixed")
    assert batch == (live[0] / 2, live[1] / 2)
    # what expires may go live
    assert mixed == (live[0] / 2, live[1])
