"""What a run costs, as the summary, ``status``, an export and a program see it: facts are stored, money is computed."""

import csv
import io
import json
import re
import shlex
import sqlite3
from pathlib import Path

import pytest
from processes import assert_clean, run
from raw_server import DONE, USAGE, RawServer, Received, Reply, delta, finish, in_thread, sse, stream

import runner
from runner.errors import UsageError

PRICES = {"m": {"input": 1, "output": 4, "cached_input": 0.5}}
# what the server says of each answer
READ, WRITTEN = 3, 2
EACH = (READ * 1 + WRITTEN * 4) / 1e6


def answer(_: Received) -> Reply:
    return stream(delta("Rome"), finish(), sse({"id": "c", "model": "m", "choices": [], "usage": usage()}), DONE)


def cut_once(request: Received) -> Reply:
    return stream(delta("Ro")) if request.number == 1 else answer(request)


def usage() -> dict[str, int]:
    return {"prompt_tokens": READ, "completion_tokens": WRITTEN}


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "s.db"


def ask(store: Path, rows: object, base_url: str, **settings: object) -> runner.RunSummary:
    return runner.run(rows, db=store, model="m", base_url=base_url, progress=False, **settings)  # type: ignore[arg-type]


def test_the_cost_of_a_run_is_in_the_summary_the_books_and_beside_each_answer(store: Path) -> None:
    with in_thread(RawServer(answer)) as server:
        end = ask(store, ["a", "b", "c"], server.base_url, prices=PRICES)
    _, books = runner.status(db=store)
    assert end.cost == books.cost == pytest.approx(3 * EACH, abs=1e-15)
    assert (end.cost_now, end.cost_failed_attempts, end.cost_perhaps, end.cost_projected) == (end.cost, 0.0, 0.0, end.cost)
    assert (end.unpriced_attempts, end.currency, books.currency) == (0, "USD", "USD")
    assert [(one.cost, one.cost_perhaps) for one in runner.results(db=store)] == [(pytest.approx(EACH, abs=1e-15), 0.0)] * 3
    assert "cost of the run" in end._repr_html_()


def test_an_attempt_of_unknown_usage_is_an_interval_up_to_its_bound(store: Path) -> None:
    with in_thread(RawServer(cut_once)) as server:
        end = ask(store, ["a"], server.base_url, prices=PRICES, max_tokens=50)
    (row,) = runner.results(db=store)
    assert (row.attempts, row.cost) == (2, pytest.approx(EACH, abs=1e-15))
    # 50 tokens of output, and no more input than the bytes of the request
    assert row.cost_perhaps is not None
    assert 50 * 4 / 1e6 < row.cost_perhaps < (50 * 4 + 400) / 1e6
    assert end.cost_perhaps == pytest.approx(row.cost_perhaps, abs=1e-15)
    assert "perhaps up to $" in run("status", "--db", str(store), cwd=store.parent).out


def test_without_a_limit_of_the_answer_the_interval_is_open(store: Path) -> None:
    with in_thread(RawServer(cut_once)) as server:
        end = ask(store, ["a"], server.base_url, prices=PRICES)
    (row,) = runner.results(db=store)
    assert (row.cost_perhaps, end.cost_perhaps) == (None, None)
    assert end.cost == pytest.approx(EACH, abs=1e-15)


def test_a_model_without_a_price_costs_an_unknown_amount_and_never_zero(store: Path) -> None:
    with in_thread(RawServer(answer)) as server:
        end = ask(store, ["a", "b"], server.base_url)
    _, books = runner.status(db=store)
    assert (end.cost, books.cost, end.unpriced_attempts, books.unpriced_attempts) == (None, None, 2, 2)
    assert [one.cost for one in runner.results(db=store)] == [None, None]
    shown = run("status", "--db", str(store), cwd=store.parent).out
    assert 'cost          unknown: no price is known for m; [prices."MODEL"] in the job file states one' in shown


@pytest.mark.parametrize(("model", "prices"), [("m", None), ("it's m", {"other": {"input": 1, "output": 1}})])
def test_a_session_says_once_that_its_cost_is_unknown_and_what_it_says_to_do_works(
    tmp_path: Path, model: str, prices: object
) -> None:
    (tmp_path / "p.jsonl").write_text('{"id": "a", "prompt": "a"}\n')
    with in_thread(RawServer(answer)) as server:
        words = ["run", "p.jsonl", "--model", model, "--base-url", server.base_url]
        ended = run(*words, *(["--prices", json.dumps(prices)] if prices else []), cwd=tmp_path)
        assert_clean(ended)
        sentence = r"^cost unknown: no price is known for (.*); state one, such as (.*) \(dollars"
        (said,) = re.findall(sentence, ended.out, re.MULTILINE)
        assert (said[0], ended.out.count("unknown")) == (model, 2)
        assert "\n  cost          unknown: no price is known\n" in ended.out
        shown = json.loads(run("status", "--json", cwd=tmp_path).out)["books"]
        assert (shown["cost"], shown["unpriced_attempts"]) == (None, 1)
        (tmp_path / "p.jsonl").write_text('{"id": "a", "prompt": "a"}\n{"id": "b", "prompt": "b"}\n')
        again = run(*words, *shlex.split(said[1]), cwd=tmp_path)
    assert_clean(again)
    assert "unknown" not in again.out
    assert "\n  cost          $0.0000095 in all, " in again.out


def test_a_price_that_is_known_later_holds_for_what_was_sent_before(store: Path) -> None:
    file = store.with_name("p.jsonl")
    with in_thread(RawServer(answer)) as server:
        file.write_text('{"id": "a", "prompt": "a"}\n')
        ask(store, file, server.base_url)
        file.write_text('{"id": "a", "prompt": "a"}\n{"id": "b", "prompt": "b"}\n')
        end = ask(store, file, server.base_url, prices=PRICES)
    assert (end.run, end.done, end.done_now) == (1, 2, 1)
    assert (end.cost, end.cost_now) == (pytest.approx(2 * EACH, abs=1e-15), pytest.approx(EACH, abs=1e-15))
    assert [one.cost for one in runner.results(db=store)] == [pytest.approx(EACH, abs=1e-15)] * 2


def test_a_tier_without_a_price_costs_an_unknown_amount_until_it_is_stated(store: Path) -> None:
    def served(_: Received) -> Reply:
        last = {"id": "c", "model": "m", "service_tier": "priority", "choices": [], "usage": usage()}
        return stream(delta("Rome"), finish(), sse(last), DONE)

    file = store.with_name("p.jsonl")
    file.write_text('{"id": "a", "prompt": "a"}\n')
    with in_thread(RawServer(served)) as server:
        end = ask(store, file, server.base_url, prices=PRICES)
        assert (end.cost, end.unpriced_attempts) == (None, 1)
        file.write_text('{"id": "a", "prompt": "a"}\n{"id": "b", "prompt": "b"}\n')
        end = ask(store, file, server.base_url, prices={"m": {**PRICES["m"], "priority": 1.75}})
    assert (end.cost, end.unpriced_attempts) == (pytest.approx(2 * 1.75 * EACH, abs=1e-15), 0)


def test_input_that_is_counted_beside_a_cache_is_paid(store: Path) -> None:
    beside = {"prompt_tokens": READ, "completion_tokens": WRITTEN, "prompt_tokens_details": {"cached_tokens": 10}}

    def counted(_: Received) -> Reply:
        return stream(delta("Rome"), finish(), sse({"id": "c", "model": "m", "choices": [], "usage": beside}), DONE)

    with in_thread(RawServer(counted)) as server:
        end = ask(store, ["a"], server.base_url, prices=PRICES)
    _, books = runner.status(db=store)
    (row,) = runner.results(db=store)
    with sqlite3.connect(store) as connection:
        ((spend,),) = connection.execute("SELECT cost FROM spend").fetchall()
    assert [end.cost, books.cost, row.cost, spend] == [pytest.approx(EACH + 10 * 0.5 / 1e6, abs=1e-15)] * 4


def test_rows_with_a_model_of_their_own_have_its_price_or_none(store: Path) -> None:
    rows = [{"id": "a", "prompt": "a"}, {"id": "b", "prompt": "b", "model": "dear"}, {"id": "c", "prompt": "c", "model": "x"}]
    prices = {**PRICES, "dear": {"input": 100, "output": 100}}
    with in_thread(RawServer(lambda _: stream(delta("Rome"), finish(), USAGE, DONE))) as server:
        end = ask(store, rows, server.base_url, prices=prices)
    costs = [one.cost for one in runner.results(db=store)]
    assert costs[0] is not None
    assert costs[1] is not None
    assert costs[0] < costs[1]
    assert costs[2] is None
    assert end.cost == pytest.approx(costs[0] + costs[1], abs=1e-15)
    assert end.unpriced_attempts == 1
    assert "; 1 attempt of unknown price" in run("status", "--db", str(store), cwd=store.parent).out


def test_list_prices_hold_at_an_address_of_ones_own_only_if_that_is_said(store: Path) -> None:
    with in_thread(RawServer(answer)) as server:
        settings = {"model": "gpt-5-mini", "base_url": server.base_url, "progress": False}
        assert runner.run(["a"], db=store, **settings).cost is None  # type: ignore[arg-type]
        end = runner.run(["b"], db=store, prices="list", **settings)  # type: ignore[arg-type]
    assert end.cost == pytest.approx((READ * 0.25 + WRITTEN * 2) / 1e6, abs=1e-15)


def test_a_finished_run_still_says_what_it_cost(store: Path) -> None:
    with in_thread(RawServer(answer)) as server:
        first = ask(store, [{"id": "a", "prompt": "a"}], server.base_url, prices=PRICES)
        again = ask(store, [{"id": "a", "prompt": "a"}], server.base_url, prices=PRICES)
    assert (again.attempts_now, again.cost) == (0, first.cost)


def test_the_command_with_prices_of_a_job_file(tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_text('{"id": "a", "prompt": "a"}\n')
    with in_thread(RawServer(answer)) as server:
        lines = (
            'input = "p.jsonl"', 'model = "m"', f'base_url = "{server.base_url}"',
            '[prices."m"]', "input = 1", "output = 4", "from = 2025-01-01",
        )  # fmt: skip
        (tmp_path / "job.toml").write_text("\n".join(lines))
        ended = run("run", "job.toml", "--trust", cwd=tmp_path)
        assert_clean(ended)
        assert "cost          $0.000011" in ended.out
        books = json.loads(run("status", "--json", cwd=tmp_path).out)["books"]
        assert books["cost"] == pytest.approx(EACH, abs=1e-15)
    (row,) = csv.DictReader(io.StringIO(run("export", "-o", "-", cwd=tmp_path).out))
    assert (float(row["cost"]), float(row["cost_perhaps"])) == (pytest.approx(EACH, abs=1e-15), 0.0)


@pytest.mark.parametrize(
    ("prices", "said"),
    [
        ({"m": {"input": 1}}, r'\[prices."m"\] needs output, in dollars per million tokens'),
        ({"m": 3}, r'\[prices."m"\] must be a table such as'),
        ("listed", "prices must be list or a table of prices by model"),
    ],
)
def test_prices_that_are_none_are_refused_before_anything_is_sent(store: Path, prices: object, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        ask(store, ["a"], "http://127.0.0.1:9/v1", prices=prices)
    assert not store.exists()
