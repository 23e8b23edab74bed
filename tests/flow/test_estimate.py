"""``runner estimate``: what a run will cost, from sizes and from rows that are really sent, and never twice."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from processes import Ended, count, run, until
from processes import runner as start
from raw_server import DONE, HANG, RawServer, Received, Reply, anthropic_answer, delta, finish, in_thread, sse, stream, whole

import runner
from benchmarks.estimate_runs import compare, metered
from runner.errors import RunStoppedError, UsageError

PRICES = {"m": {"input": 1, "output": 4}}
ROWS = 60


class Server:
    """Answers with as many tokens as the prompt has bytes, and notes which prompts were answered."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        # after so many answers it says nothing more
        self.most = 10**9
        # the numbers of the prompts whose first request is cut off
        self.cuts: frozenset[int] = frozenset()
        self.anthropic = False
        # whether every seventh answer fails for good, and is billed
        self.refuses = False

    def __call__(self, request: Received) -> Reply:
        prompt = request.json["messages"][-1]["content"]
        if len(self.asked) >= self.most:
            return Reply((HANG,))
        first = prompt not in self.asked
        self.asked.append(prompt)
        if first and self.cuts and int(prompt.split()[0]) in self.cuts:
            return stream(delta("Ro"))
        if self.anthropic:
            return anthropic_answer("Rome")
        usage = {"prompt_tokens": len(prompt), "completion_tokens": 2 * len(prompt)}
        ending = finish("length" if self.refuses and int(prompt.split()[0]) % 7 == 3 else "stop")
        return stream(delta("Rome"), ending, sse({"id": "c", "model": "m", "choices": [], "usage": usage}), DONE)


class Desk:
    def __init__(self, folder: Path, server: RawServer, answers: Server) -> None:
        self.folder, self.server, self.answers = folder, server, answers
        self.store = folder / "runner.db"
        self.rows = [{"id": str(number), "prompt": f"{number} " + "x" * (10 + number * 7 % 90)} for number in range(ROWS)]
        (folder / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in self.rows))
        self.job()

    def job(self, *, prices: bool = True, more: str = "", flex: str = "1") -> None:
        text = f'model = "m"\nbase_url = "{self.server.base_url}"\nconcurrency = 4\n{more}\n'
        (self.folder / "p.toml").write_text(text + (f"[prices.m]\ninput = 1\noutput = 4\nflex = {flex}\n" if prices else ""))

    def run(self, *words: str) -> Ended:
        return run(*words, cwd=self.folder)

    def estimated(self, *options: str) -> dict[str, Any]:
        ended = self.run("estimate", "p.jsonl", "--json", *options)
        assert ended.code == 0, ended
        found: dict[str, Any] = json.loads(ended.out)
        return found

    @property
    def settings(self) -> dict[str, Any]:
        return {"model": "m", "base_url": self.server.base_url, "db": self.store, "prices": PRICES, "progress": False}


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    answers = Server()
    with in_thread(RawServer(answers)) as server:
        yield Desk(tmp_path, server, answers)


def assert_holds(bounds: dict[str, float], truth: float) -> None:
    assert bounds["low"] * (1 - 1e-9) <= bounds["mid"], bounds
    assert bounds["low"] * (1 - 1e-9) <= truth <= bounds["high"] * (1 + 1e-9), (bounds, truth)


def test_sizes_alone_send_nothing_need_no_store_and_bound_what_the_run_costs(desk: Desk) -> None:
    found = desk.estimated("--max-tokens", "300")
    assert (desk.server.requests, desk.store.exists()) == ([], False)
    assert (found["rows"], found["rows_left"], found["basis"], found["run"], found["seconds"]) == (
        ROWS,
        ROWS,
        "sizes",
        None,
        None,
    )
    assert (found["output_tokens"]["low"], found["output_tokens"]["high"]) == (ROWS, 300 * ROWS)
    size = sum(len(row["prompt"]) for row in desk.rows)
    assert found["input_tokens"]["low"] == pytest.approx(size / 6)
    assert found["input_tokens"]["high"] > size / 2
    assert found["cost"]["low"] == pytest.approx((size / 6 + 4 * ROWS) / 1e6)
    words = desk.run("estimate", "p.jsonl").out
    # without a limit of the answers there is no highest cost
    assert "or more)" in words
    assert "--max-tokens sets one" in words


def test_the_sample_belongs_to_the_run_that_is_then_finished_for_what_was_said(desk: Desk) -> None:
    found = desk.estimated("--sample", "20")
    assert (found["rows"], found["rows_left"], found["basis"], found["rows_sent"], found["run"]) == (
        ROWS,
        ROWS - 20,
        "sample",
        20,
        1,
    )
    assert len(desk.answers.asked) == 20
    # nothing is sent a second time, and what was learned is still known
    assert desk.estimated("--sample", "20") == found
    assert desk.estimated()["cost"] == found["cost"]
    assert len(desk.answers.asked) == 20
    # the mean of the rows in the sample, which are longer than most, would say more
    books = json.loads(desk.run("status", "--json").out)["books"]
    assert books["cost_projected"] == pytest.approx(found["cost"]["mid"], rel=1e-6)
    # of rows from which it was not drawn, a sample tells no more than that they may be like them
    text = (desk.folder / "p.jsonl").read_text()
    (desk.folder / "p.jsonl").write_text(text + '{"id": "more", "prompt": "more"}\n')
    more = desk.estimated()
    assert (more["rows_left"], more["basis"]) == (ROWS - 19, "like_sample")
    (desk.folder / "p.jsonl").write_text(text)
    ended = desk.run("run", "p.jsonl")
    assert "expected cost of 40 rows: about $" in ended.out
    assert sorted(desk.answers.asked) == sorted(row["prompt"] for row in desk.rows)
    cost = json.loads(desk.run("status", "--json").out)["books"]["cost"]
    assert_holds(found["cost"], cost)
    # tokens are a line of the size, which 20 rows tell
    assert found["cost"]["mid"] == pytest.approx(cost, rel=1e-3)
    last = desk.estimated()
    assert (last["rows_left"], last["cost_spent"]) == (0, pytest.approx(cost))
    assert (last["cost"]["low"], last["cost"]["high"]) == (pytest.approx(cost), pytest.approx(cost))


def test_a_kill_in_the_sample_costs_no_answer_and_the_same_rows_go_on(desk: Desk) -> None:
    desk.answers.most = 14
    with start("estimate", "p.jsonl", "--sample", "20", cwd=desk.folder) as process:
        process.until(lambda: desk.store.exists() and count(desk.store, where="status = 'done'") == 14, "some answers")
        process.killed()
    # what the killed one has sent is read before the server answers again
    until(lambda: desk.server.open == 0, "the end of its connections")
    desk.answers.most = 10**9
    # rows that were drawn are larger than most, and a part of them tells nothing of the others
    assert desk.estimated()["basis"] == "sizes"
    found = desk.estimated("--sample", "20")
    assert (found["basis"], found["rows_left"], len(desk.answers.asked)) == ("sample", ROWS - 20, 20)
    assert len(set(desk.answers.asked)) == 20


def test_a_run_that_is_under_way_is_estimated_by_what_was_answered(desk: Desk) -> None:
    desk.run("run", "p.jsonl", "--limit", "15")
    found = desk.estimated()
    assert (found["basis"], found["rows_left"], found["rows_sent"]) == ("answers", ROWS - 15, 15)
    spent = json.loads(desk.run("status", "--json").out)["books"]["cost"]
    assert found["cost_spent"] == pytest.approx(spent)
    assert found["cost"]["mid"] == pytest.approx(spent * ROWS / 15)
    # a sample is then drawn from the rows that are left
    asked = desk.answers.asked[:]
    sampled = desk.estimated("--sample", "10")
    assert (sampled["rows_left"], sampled["basis"]) == (ROWS - 25, "sample")
    assert not set(asked).intersection(desk.answers.asked[15:])
    desk.run("run", "p.jsonl")
    assert_holds(sampled["cost"], json.loads(desk.run("status", "--json").out)["books"]["cost"])
    assert len(desk.answers.asked) == ROWS


def test_a_model_without_a_price_has_tokens_and_no_cost(desk: Desk) -> None:
    desk.job(prices=False)
    for options in ((), ("--sample", "10")):
        found = desk.estimated(*options)
        assert (found["cost"], found["cost_left"]) == (None, None)
        assert found["input_tokens"]["mid"] > 0
    assert "cost          unknown: no price is known for m" in desk.run("estimate", "p.jsonl").out
    assert "expected cost" not in desk.run("run", "p.jsonl").out


def test_an_attempt_that_may_have_been_billed_raises_the_high_bound_alone(desk: Desk) -> None:
    desk.answers.cuts = frozenset(range(0, ROWS, 2))
    found = desk.estimated("--sample", "20", "--max-tokens", "500")
    cut = [prompt for prompt in desk.answers.asked if desk.answers.asked.count(prompt) == 2]
    size = sum(len(row["prompt"]) for row in desk.rows)
    # each row costs its answer; many were cut once, which may have cost as much again
    assert len(cut) > 8
    assert found["cost"]["mid"] == pytest.approx(size * 9 / 1e6, rel=1e-3)
    assert 1.3 * found["cost"]["mid"] < found["cost"]["high"] < 2.3 * found["cost"]["mid"]
    assert found["cost"]["low"] == pytest.approx(found["cost"]["mid"], rel=1e-2)


@pytest.mark.parametrize("limit", [[], ["--max-tokens", "5000"], ["--max-tokens", "250"]])
def test_one_attempt_that_is_perhaps_billed_counts_as_an_answer_and_not_as_its_limit(desk: Desk, limit: list[str]) -> None:
    desk.estimated("--sample", "20", *limit, "--temperature", "1", "--db", "clean.db")
    drawn = int(desk.answers.asked[4].split()[0])
    desk.answers.asked.clear()
    clean = desk.estimated("--sample", "20", *limit, "--temperature", "1", "--db", "clean.db")
    desk.answers.cuts = frozenset([drawn])
    found = desk.estimated("--sample", "20", *limit)
    assert (found["perhaps_billed"], clean["perhaps_billed"]) == (1, 0)
    # it raises the high bound by what a few such rows cost. A sample without one cannot tell that no row is like that, either
    assert found["cost"]["mid"] == pytest.approx(clean["cost"]["mid"])
    assert clean["cost"]["high"] < found["cost"]["high"] < 1.45 * found["cost"]["mid"]
    assert found["cost_high_without"] < found["cost"]["high"]
    if limit == ["--max-tokens", "250"]:
        # no row costs more than its limit, and one in twenty is sent twice
        size = sum(len(row["prompt"]) for row in desk.rows)
        assert found["cost"]["high"] <= (1.4 * size + ROWS * 21 / 20 * 250 * 4) / 1e6
    words = desk.run("estimate", "p.jsonl", *limit).out
    assert "1 attempt ended without its usage, so it was perhaps billed, as others may be: without them" in words
    ended = desk.run("run", "p.jsonl", *limit)
    assert "1 attempt ended without its usage" in ended.out
    # the books have no more than the limit of that attempt, which is told once all is sent
    last = desk.run("estimate", "p.jsonl", *limit).out
    assert ("perhaps up to $" in last) is bool(limit)
    assert "nothing is left to send" in last


def test_an_answer_that_fails_for_good_and_is_billed_is_the_outcome_of_its_row(desk: Desk) -> None:
    desk.answers.refuses = True
    found = desk.estimated("--sample", "20", "--finish-fail", "length")
    assert json.loads(desk.run("status", "--json").out)["run"]["failed"] > 0
    # it costs what an answer of its size costs, and that is no rare event
    assert found["cost"]["low"] == pytest.approx(found["cost"]["mid"], rel=1e-3)
    # a person is told before the others are sent
    failed = json.loads(desk.run("status", "--json").out)["run"]["failed"]
    said = desk.run("estimate", "p.jsonl", "--sample", "20", "--finish-fail", "length").out
    assert said.endswith(f"{failed} of 20 rows failed: `runner errors 1` shows why\n")


def test_failed_attempts_of_a_sample_without_any_are_not_excluded(desk: Desk) -> None:
    found = desk.estimated("--sample", "20")
    low, mid, high = (found["cost"][name] for name in ("low", "mid", "high"))
    # 3.7 of 20 rows at the most, for the rows that were not drawn
    assert low == pytest.approx(mid, rel=1e-3)
    assert 1.05 * mid < high < 1.2 * mid


def test_rows_with_other_models_are_estimated_apart_and_one_of_them_may_have_no_price(desk: Desk) -> None:
    rows = [{**row, "model": "dear" if number % 2 else "m"} for number, row in enumerate(desk.rows)]
    prices = {**PRICES, "dear": {"input": 100, "output": 400}}
    settings = {**desk.settings, "prices": prices}
    found = runner.estimate(rows, sample=20, **settings)
    end = runner.run(rows, **settings)
    assert found.cost is not None
    assert end.cost is not None
    assert found.cost.high is not None
    assert found.cost.low <= end.cost <= found.cost.high
    assert end.cost == pytest.approx(found.cost.mid, rel=0.2)
    rows = [
        {**row, "prompt": f"again {row['prompt']}", "model": "free" if number % 2 else "m"} for number, row in enumerate(rows)
    ]
    by_size = runner.estimate(rows, **settings)
    assert (by_size.unpriced_rows, by_size.cost is None) == (ROWS // 2, False)


def test_the_time_follows_from_the_limits_of_the_job_and_of_the_server(desk: Desk) -> None:
    desk.job(more="rpm = 6000")
    assert desk.estimated()["seconds"]["mid"] == pytest.approx(ROWS / 100)
    found = desk.estimated("--sample", "10", "--rpm", "60000", "--tpm", "60000")
    size = sum(len(row["prompt"]) for row in desk.rows)
    assert found["limited_by"] == "tpm"
    assert found["seconds"]["mid"] == pytest.approx(3 * size * 50 / 60 / 1000, rel=0.1)


def test_the_other_dialect_is_sampled_too(desk: Desk) -> None:
    desk.answers.anthropic = True
    found = runner.estimate(desk.rows, sample=10, provider="anthropic", max_tokens=50, **desk.settings)
    # 7 tokens in and 3 out
    assert found.cost is not None
    assert found.cost.mid == pytest.approx(ROWS * (7 + 3 * 4) / 1e6)
    assert found.cost.low == pytest.approx(found.cost.mid)


def test_a_program_gets_a_struct_that_a_notebook_shows(desk: Desk) -> None:
    found = runner.estimate(desk.rows, **desk.settings)
    assert desk.server.requests == []
    assert repr(found).startswith("<Estimate: 60 rows, about $")
    assert "by sizes alone" in repr(found)
    assert "<td" in found._repr_html_()
    assert "output tokens" in found._repr_html_()
    # a run from a program asks nobody
    end = runner.run(desk.rows, confirm_above=1e-9, **desk.settings)
    assert end.done == ROWS


def test_the_rates_of_the_tier_that_is_asked_for_count_and_those_of_the_standard_one_bound_them(desk: Desk) -> None:
    limit = ("--max-tokens", "100")
    desk.job(flex="0.5")
    standard, flex = desk.estimated(*limit), desk.estimated(*limit, "--tier", "flex")
    assert flex["cost"]["mid"] == pytest.approx(standard["cost"]["mid"] / 2)
    assert flex["cost"]["low"] == pytest.approx(standard["cost"]["low"] / 2)
    assert flex["cost"]["high"] == pytest.approx(standard["cost"]["high"], rel=0.05)
    assert "to which rows may fall back" in desk.run("estimate", "p.jsonl", "--tier", "flex").out
    # the same from a job file, with a price of its own for flex, and in the line before a run
    desk.job(more='tier = "flex"', flex="0.1")
    cheap = desk.estimated(*limit)["cost"]["mid"]
    assert cheap == pytest.approx(standard["cost"]["mid"] / 10)
    ended = desk.run("run", "p.jsonl", *limit)
    assert f"expected cost of {ROWS} rows: about ${cheap:.4f} (" in ended.out


def test_a_sample_of_another_tier_is_converted(desk: Desk) -> None:
    desk.job(flex="0.5")
    found = desk.estimated("--sample", "20")
    flex = desk.estimated("--tier", "flex")
    assert flex["cost_left"]["mid"] == pytest.approx(found["cost_left"]["mid"] / 2)
    assert flex["cost_left"]["high"] == pytest.approx(found["cost_left"]["high"])
    assert flex["cost_spent"] == found["cost_spent"]


def test_answers_that_are_taken_over_are_taken_off(desk: Desk) -> None:
    desk.run("run", "p.jsonl", "--limit", "40")
    (desk.folder / "q.jsonl").write_text((desk.folder / "p.jsonl").read_text() + '{"id": "new", "prompt": "new"}\n')
    (desk.folder / "q.toml").write_text((desk.folder / "p.toml").read_text())
    # another template that makes the same requests is another run
    words = ("q.jsonl", "--prompt", "{{ prompt }}")
    ended = desk.run("estimate", *words)
    assert f"{ROWS + 1} rows, 21 left to send" in ended.out
    assert "40 of 61 rows have the same request as in run 1: their answers are taken over" in ended.out
    assert json.loads(desk.run("estimate", *words, "--json").out)["reused"] == {"1": 40}
    for more in (["--new"], ["--no-reuse"]):
        assert json.loads(desk.run("estimate", *words, *more, "--json").out)["rows_left"] == ROWS + 1
    # of rows that ask the same, one is sent or none
    again = "".join(json.dumps({"id": f"{row['id']}-2", "prompt": row["prompt"]}) + "\n" for row in desk.rows)
    (desk.folder / "q.jsonl").write_text((desk.folder / "p.jsonl").read_text() + again)
    found = json.loads(desk.run("estimate", *words, "--dedupe", "--json").out)
    assert found["rows_left"] == 20
    asked = len(desk.answers.asked)
    desk.run("run", *words, "--dedupe")
    assert len(desk.answers.asked) == asked + 20


def test_what_is_left_is_counted_without_rows_that_cannot_be_sent(desk: Desk) -> None:
    (desk.folder / "b.jsonl").write_text('{"prompt": "1 a"}\n{"prompt": "2 b"}\n{\n')
    (desk.folder / "b.toml").write_text((desk.folder / "p.toml").read_text())
    assert "expected cost of 2 rows: about" in desk.run("run", "b.jsonl", "--max-tokens", "9").out
    # what the run has cost, once nothing is left of it
    ended = desk.run("estimate", "b.jsonl", "--max-tokens", "9")
    assert ended.out.splitlines() == [
        "run 1: 3 rows, nothing is left to send",
        "  tokens        6 in, 12 out",
        "  cost          $0.000054 was spent",
    ]
    (desk.folder / "b.jsonl").write_text("{\n")
    assert "1 row, of which none can be sent; `runner check` says why" in desk.run("estimate", "b.jsonl").out


def test_the_same_inside_an_event_loop(desk: Desk) -> None:
    asyncio.run(_estimated_inside(desk))


async def _estimated_inside(desk: Desk) -> None:
    async def rows() -> AsyncIterator[dict[str, Any]]:
        for row in desk.rows:
            yield row

    assert await runner.aestimate(desk.rows, **desk.settings) == runner.estimate(desk.rows, **desk.settings)
    assert desk.server.requests == []
    found = await runner.aestimate(rows(), sample=20, **desk.settings)
    assert (found.rows_left, found.basis, len(desk.answers.asked)) == (ROWS - 20, "sample", 20)
    # it is the run of these rows, and nothing is paid twice
    assert (await runner.aestimate(desk.rows, **desk.settings)).cost == found.cost
    assert (await runner.arun(desk.rows, **desk.settings)).done == ROWS
    assert len(desk.answers.asked) == ROWS
    assert (await runner.aestimate(desk.folder / "p.jsonl", limit=2, new=True, **desk.settings)).rows == 2
    with pytest.raises(UsageError, match="of 10 or more"):
        await runner.aestimate(desk.rows, sample=3, **desk.settings)


@pytest.mark.parametrize(
    ("sample", "told"), [(3, "of 10 or more"), (-1, "of 10 or more"), ("5", "of 10 or more"), (True, "of 10 or more")]
)
def test_a_sample_that_tells_nothing_is_refused(desk: Desk, sample: Any, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        runner.estimate(desk.rows, sample=sample, **desk.settings)
    assert desk.server.requests == []


def test_a_sample_larger_than_the_file_is_the_file(desk: Desk) -> None:
    found = desk.estimated("--sample", "500")
    assert (found["rows_left"], len(desk.answers.asked)) == (0, ROWS)
    size = sum(len(row["prompt"]) for row in desk.rows)
    assert found["cost"]["low"] == found["cost"]["high"] == pytest.approx(size * 9 / 1e6)
    assert "nothing is sent" in desk.run("run", "p.jsonl").out or len(desk.answers.asked) == ROWS


def test_an_error_that_stops_a_run_stops_the_sample(tmp_path: Path) -> None:
    refusal = whole("401 Unauthorized", {"error": {"message": "wrong key", "code": "invalid_api_key"}})
    with in_thread(RawServer(refusal)) as server:
        rows = [f"prompt {number}" for number in range(20)]
        with pytest.raises(RunStoppedError):
            runner.estimate(rows, sample=10, model="m", base_url=server.base_url, db=tmp_path / "s.db", progress=False)
        (tmp_path / "p.txt").write_text("\n".join(rows))
        ended = run("estimate", "p.txt", "--sample", "10", "--model", "m", "--base-url", server.base_url, cwd=tmp_path)
    assert ended.code == 3
    assert ended.out.count("\n") <= 3


def test_rows_that_cannot_be_sent_cost_nothing_and_an_empty_file_is_refused(desk: Desk) -> None:
    lines = [json.dumps(row) for row in desk.rows[:30]]
    (desk.folder / "p.jsonl").write_text("\n".join([*lines, "{", '{"id": "e"}', ""]))
    assert desk.estimated("--max-tokens", "5")["output_tokens"]["low"] == 30
    assert desk.estimated("--sample", "10")["rows_sent"] == 10
    (desk.folder / "p.jsonl").write_text("")
    ended = desk.run("estimate", "p.jsonl")
    assert (ended.code, "has no rows" in ended.err) == (2, True)


def test_standard_input_and_a_setting_called_sample(desk: Desk) -> None:
    desk.job(more="sample = 25")
    assert desk.estimated()["rows"] == 25
    assert desk.estimated("--sample", "10")["rows_left"] == 15
    assert len(desk.answers.asked) == 10


def test_a_generated_set_costs_what_was_estimated(tmp_path: Path) -> None:
    with metered() as base_url:
        found = compare(5, 200, 0.1, base_url, tmp_path)
    assert found.holds, found
    assert found.half_width < 0.5


def test_a_run_says_what_the_estimate_says_by_sizes_though_it_looks_at_fewer_rows(desk: Desk) -> None:
    # the examples of all rows are ten times as large as others
    rows = ({"id": str(number), "prompt": "x" * (9_000 if number % 8 == 7 else 900)} for number in range(1_601))
    (desk.folder / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    desk.job(more="params = {max_tokens = 200}")
    (said,) = (line for line in desk.run("estimate", "p.jsonl").out.splitlines() if "  cost " in line)
    # nothing answers there, so nothing is sent
    ended = desk.run("run", "p.jsonl", "--base-url", "http://127.0.0.1:1/v1", "--deadline", "0.1s")
    (told,) = (line for line in ended.out.splitlines() if line.startswith("expected cost"))
    one, other = ([float(amount) for amount in re.findall(r"\$([\d.]+)", words)] for words in (said, told))
    assert len(one) == 3
    assert other == pytest.approx(one, rel=0.01)
