"""A budget that holds: what is billed stays below it, whatever becomes of requests and processes; and what is said about it."""

import asyncio
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import budgeted
import pytest
from billing import PRICES, THINKING, THINKS, Biller
from processes import count, rows, run
from processes import runner as started
from raw_server import HANG, STREAM, RawServer, Received, Reply, chunk, delta, in_thread, whole

import runner
from runner.cli.money import amount

PROMPT = "Tell me about it."
MOST = 10
"""Tokens of an answer, at most; each answer has as many."""


class Desk:
    """A folder with rows, and a server that bills them to the run ``r``."""

    def __init__(self, folder: Path, server: RawServer, biller: Biller) -> None:
        self.folder, self.server, self.biller = folder, server, biller
        self.store = folder / "runner.db"
        self.url = f"{server.origin}/r/v1"

    def write(self, number: int, **fields: Any) -> None:
        lines = (json.dumps({"id": f"row-{one}", "prompt": PROMPT, **fields}) for one in range(number))
        (self.folder / "p.jsonl").write_text("".join(f"{line}\n" for line in lines))

    def run(self, *options: str, code: int = 0, priced: bool = True, most: int | None = MOST) -> tuple[str, str]:
        """Run the file, and return standard output and error."""
        words = ["run", "p.jsonl", "--model", "m", "--concurrency", "4"]
        # two of them would be two servers
        words += [] if "--base-url" in options else ["--base-url", self.url]
        words += ["--prices", json.dumps(PRICES)] if priced else []
        words += ["--max-tokens", str(most)] if most is not None else []
        return self.command(*words, *options, code=code)

    def command(self, *words: str, code: int = 0) -> tuple[str, str]:
        ended = run(*words, cwd=self.folder)
        assert ended.code == code, ended
        return ended.out, ended.err

    @property
    def billed(self) -> float:
        """Dollars."""
        return self.biller.bills["r"] / 1e12


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    biller = Biller(faults={})
    with in_thread(RawServer(biller)) as server:
        desk = Desk(tmp_path, server, biller)
        desk.write(12)
        yield desk


def advised(said: str) -> list[str]:
    """Return the words of the command that the message of the stop advises."""
    (command,) = re.findall(r"`runner (resume [^`]*)`", said)
    return shlex.split(command)


def test_a_reached_budget_is_a_clean_stop_and_the_command_that_it_names_finishes_the_run(desk: Desk) -> None:
    out, err = desk.run("--max-cost", "0.0004", code=5)
    assert "the budget of $0.0004 (--max-cost) is reached: $0.000" in err
    assert "to finish: `runner resume 1 --max-cost 0.00" in err
    assert 0 < desk.billed <= 0.0004
    command = advised(err)
    assert f"next: runner {' '.join(command)}" in out
    said, _ = desk.command("status")
    assert "; the budget is $0.0004" in said
    assert "the budget of $0.0004 (--max-cost) is reached" in said
    assert f"next: runner {' '.join(command)}" in said
    run_ = json.loads(desk.command("status", "--json")[0])["run"]
    assert run_["stop_code"] == "budget"
    sent = desk.biller.requests["r"]
    # the same words, and nothing is sent
    assert f"`runner {' '.join(command)}`" in desk.command("resume", "1", code=5)[1]
    assert desk.biller.requests["r"] == sent
    desk.command(*command)
    assert (count(desk.store, where="status = 'done'"), count(desk.store, "reservations")) == (12, 0)
    assert desk.billed <= float(command[-1])
    assert rows(desk.store, "SELECT what, old FROM history") == [("max_cost", "0.0004")]


def test_a_run_keeps_its_budget_where_a_later_session_does_not_name_it(desk: Desk) -> None:
    desk.run("--max-cost", "0.0004", code=5)
    out, err = desk.run(code=5)
    assert "run 1 has a budget of $0.0004 (--max-cost), which holds for this session too" in out
    assert "the budget of $0.0004 (--max-cost) is reached" in err
    out, _ = desk.command("resume", "1", "--max-cost", "1", "--max-tokens-total", "20000")
    assert "run 1 goes on with max_cost $1.00 (before: $0.0004)" in out
    assert "run 1 goes on with max_tokens_total 20,000 (before: unset)" in out
    assert json.loads(rows(desk.store, "SELECT settings FROM runs")[0][0])["max_cost"] == 1.0


def test_a_summary_tells_the_figures_of_the_session_from_those_of_the_run(desk: Desk) -> None:
    first, _ = desk.run("--limit", "4")
    assert "in this session" not in first
    before = runner.status(db=desk.store)[1].cost
    out, _ = desk.command("resume", "1")
    assert re.search(r"\n  tokens        [\d,]+ in, [\d,]+ out in this session\n", out)
    cost = runner.status(db=desk.store)[1].cost
    assert cost is not None
    assert before is not None
    assert f"\n  cost          {amount(cost)} in all, {amount(cost - before)} of it in this session" in out
    said, _ = desk.command("status")
    assert "in this session" not in said


def test_a_finished_run_of_unknown_cost_says_so_to_who_asks_for_its_cost(desk: Desk) -> None:
    desk.run(priced=False)
    other = json.dumps({"other": PRICES["m"]})
    for asked in (("--max-cost", "1"), ("--prices", other), ("--max-cost", "1", "--prices", other)):
        out, _ = desk.run(*asked, priced=False)
        assert "nothing is sent" in out
        assert "cost unknown: no price is known for m; state one, such as --prices" in out
    assert "cost unknown" not in desk.run(priced=False)[0]
    # with its price it is known
    assert "cost unknown" not in desk.run("--max-cost", "1")[0]


def test_events_say_that_the_budget_is_reached(desk: Desk) -> None:
    out, _ = desk.run("--max-cost", "0.0004", "--json", code=5)
    events = {event["event"]: event for event in map(json.loads, out.splitlines())}
    assert (events["stopping"]["code"], events["finished"]["stop_code"]) == ("budget", "budget")
    assert events["finished"]["cost"] == pytest.approx(desk.billed)


@pytest.mark.parametrize("command", ["run", "retry"])
def test_a_limit_of_a_session_that_no_request_fits_is_advised_to_be_raised(desk: Desk, command: str) -> None:
    desk.write(2)
    if command == "retry":
        desk.run()
        billed = desk.billed
        _, err = desk.command("retry", "--all", "--max-cost-session", "0.000001", code=5)
    else:
        billed = 0.0
        _, err = desk.run("--max-cost-session", "0.000001", code=5)
    assert (desk.billed, "this session has spent $0.00, and the next row may cost up to $0.0" in err) == (billed, True), err
    words = advised(err)
    assert words[2] == "--max-cost-session"
    # a request goes out in each session: with the same limit again, the run comes to its end
    for _ in range(2):
        before = desk.billed
        ended = run(*words, cwd=desk.folder)
        assert desk.billed > before
        if ended.code == 0:
            break
        words = advised(ended.err)
    assert ended.code == 0


def test_a_session_has_a_budget_of_its_own_and_the_next_one_spends_as_much_again(desk: Desk) -> None:
    out, err = desk.run("--max-cost-session", "0.0004", code=5)
    assert "this session has spent $0.000" in err
    assert "The next session may spend as much again: `runner resume 1`." in err
    assert "next: runner resume 1 " in out
    first = desk.billed
    desk.command(*advised(err), code=5)
    assert 0.0004 < desk.billed <= first + 0.0004


def test_a_budget_of_tokens_needs_no_price(desk: Desk) -> None:
    out, err = desk.run("--max-tokens-total", "400", priced=False, code=5)
    assert "the budget of 400 tokens (--max-tokens-total) is reached: " in err
    assert 0 < desk.biller.tokens["r"] <= 400
    command = advised(err)
    used = json.loads(desk.command("status", "--json")[0])["books"]["tokens_of_budget"]
    assert used == desk.biller.tokens["r"]
    assert f"; the budget is 400 tokens, {used} used\n" in desk.command("status")[0]
    assert command[:3] == ["resume", "1", "--max-tokens-total"]
    assert f"next: runner {' '.join(command)}" in out
    desk.command(*command)
    assert desk.biller.tokens["r"] <= int(command[-1])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"priced": False}, 'needs the price of every model, and none is known for m: state it in [prices."m"] of the job file'),
        ({"most": None}, "needs a limit of every answer, and no limit is known for m: set --max-tokens"),
    ],
)
def test_a_budget_that_cannot_hold_is_refused_before_anything_is_sent(desk: Desk, options: dict[str, Any], words: str) -> None:
    _, err = desk.run("--max-cost", "1", code=2, **options)
    assert words in err
    assert (desk.biller.requests["r"], desk.store.exists()) == (0, False)
    given = {"model": "m", "base_url": desk.url, "max_cost": 1.0}
    given |= {"prices": PRICES} if options.get("priced", True) else {"max_tokens": MOST}
    assert words in str(runner.check(desk.folder / "p.jsonl", **given).refusal)


def test_the_limit_of_the_model_bounds_answers_that_nothing_else_does(desk: Desk) -> None:
    words = ["run", "p.jsonl", "--model", "gpt-5-mini", "--base-url", desk.url, "--prices", "list", "--max-cost"]
    out, _ = desk.command(*words, "4")
    # 400,000 tokens at the price of the dearest tier
    assert "no max_tokens limits the answers, so each request holds up to $1.44 of the budget until it has ended" in out
    assert count(desk.store, where="status = 'done'") == 12
    _, err = desk.command(*words, "1", "--new", code=5)
    assert "the budget of $1.00 (--max-cost) is reached: $0.00 is spent, and the next row may cost up to $1.44" in err
    assert desk.biller.requests["r"] == 12


def test_rows_that_limit_their_own_answers_need_no_limit_of_the_job(desk: Desk) -> None:
    desk.write(3, max_tokens=5)
    desk.run("--max-cost", "1", most=None)
    assert desk.biller.requests["r"] == 3


def test_a_row_without_a_price_or_a_limit_fails_unsent_and_the_others_go_on(desk: Desk) -> None:
    lines = [
        {"id": "a", "max_tokens": 5},
        {"id": "b", "model": "other", "max_tokens": 5},
        {"id": "c"},
        {"id": "d", "max_tokens": 5},
    ]
    (desk.folder / "p.jsonl").write_text("".join(json.dumps({**line, "prompt": PROMPT}) + "\n" for line in lines))
    out, _ = desk.run("--max-cost", "1", most=None, code=1)
    assert desk.biller.requests["r"] == 2
    assert rows(desk.store, "SELECT key, error_code, attempts FROM items WHERE status = 'failed' ORDER BY key") == [
        ("b", "unpriced", 0),
        ("c", "unbounded", 0),
    ]
    assert "next: runner errors 1" in out
    said, _ = desk.command("errors")
    assert "`runner retry 1 --max-tokens N`" in said
    assert """`runner retry 1 --prices '{"other": {"input": X, "output": Y}}'`""" in said
    desk.command("retry", "1", "--max-tokens", "5", "--prices", json.dumps({"other": PRICES["m"]}))
    assert count(desk.store, where="status = 'done'") == 4


def test_a_tier_that_is_asked_for_needs_a_price(desk: Desk) -> None:
    _, err = desk.run("--max-cost", "1", "--tier", "priority", code=2)
    assert "--max-cost needs the price of the tier 'priority', and none is known for m" in err
    assert 'state priority in [prices."m"] of the job file, such as 2.0 (a factor of input and output)' in err
    _, err = desk.run("--max-cost", "1", "--tier", "scale", code=2)
    assert "none is known for m: ask for no tier, or for another one (--tier)" in err
    assert (desk.biller.requests["r"], desk.store.exists()) == (0, False)
    prices = json.dumps({"m": {**PRICES["m"], "priority": 2.0}})
    desk.run("--max-cost", "1", "--tier", "priority", "--prices", prices)
    assert count(desk.store, where="status = 'done'") == 12


def test_a_row_that_asks_for_a_tier_without_a_price_fails_unsent(desk: Desk) -> None:
    lines = [{"id": "a"}, {"id": "b", "params": {"extra_body": {"service_tier": "priority"}}}]
    (desk.folder / "p.jsonl").write_text("".join(json.dumps({**line, "prompt": PROMPT}) + "\n" for line in lines))
    desk.run("--max-cost", "1", code=1)
    assert desk.biller.requests["r"] == 1
    failed = rows(desk.store, "SELECT key, error_code, error FROM items WHERE status = 'failed'")
    assert [one[:2] for one in failed] == [("b", "unpriced")]
    assert 'state priority in [prices."m"]' in failed[0][2]


def test_what_was_open_when_the_process_was_killed_counts_as_the_most_that_it_can_cost(tmp_path: Path) -> None:
    open_ones: list[Received] = []

    def hangs(request: Received) -> Reply:
        open_ones.append(request)
        return Reply((STREAM, chunk(delta("word")), HANG))

    biller = Biller(faults={})
    with in_thread(RawServer(hangs)) as server:
        desk = Desk(tmp_path, server, biller)
        desk.write(12)
        words = ["run", "p.jsonl", "--model", "m", "--base-url", desk.url, "--prices", json.dumps(PRICES), "--max-tokens", "10"]
        with started(*words, "--concurrency", "8", "--max-cost", "0.0008", "--json", cwd=tmp_path) as process:
            process.until(lambda: "waiting for room in the budget ($0.0008 left, $0.000" in process.out, "a short budget")
            assert len(open_ones) == count(desk.store, "reservations") < 8
            # in a second terminal
            alive = json.loads(desk.command("status", "--json")[0])["books"]
            assert f"for {len(open_ones)} open requests" in desk.command("status")[0]
            process.killed()
    dead = json.loads(desk.command("status", "--json")[0])["books"]
    assert f"more, for {len(open_ones)} requests that were open when the process ended" in desk.command("status")[0]
    assert ", perhaps up to $" in desk.command("estimate", "p.jsonl", *words[2:])[0]
    most = sum(len(request.body) * 1.25e-6 + 10 * 4e-6 for request in open_ones)
    assert most <= 0.0008
    for books in (alive, dead):
        assert (books["cost"], books["cost_perhaps"]) == (0.0, pytest.approx(most))
        assert (books["open_requests"], books["cost_open_requests"]) == (len(open_ones), pytest.approx(most))
    with in_thread(RawServer(biller, port=server.port)):
        # nothing is left of the budget, since all that was open may have been billed
        _, err = desk.command("resume", "1", code=5)
        assert biller.requests["r"] == 0
        killed = rows(desk.store, "SELECT input_bound, output_bound, sent, price_id FROM attempts WHERE error_code = 'killed'")
        assert set(killed) == {(len(request.body), 10, 1, 1) for request in open_ones}
        assert (len(killed), count(desk.store, "reservations")) == (len(open_ones), 0)
        command = advised(err)
        desk.command(*command, code=5)
    assert biller.requests["r"] > 0
    assert biller.bills["r"] / 1e12 + most <= float(command[-1])
    books = json.loads(desk.command("status", "--json")[0])["books"]
    assert (books["cost"], books["cost_perhaps"]) == (pytest.approx(biller.bills["r"] / 1e12), pytest.approx(most))
    assert books["failed_attempts"] == {"killed": len(open_ones)}


@pytest.mark.parametrize("dialect", ["openai", "anthropic"])
def test_reasoning_that_no_answer_tells_apart_counts_at_its_own_rate(tmp_path: Path, dialect: str) -> None:
    biller, name = Biller(faults={}), f"r{THINKS}"
    with in_thread(RawServer(biller)) as server:
        desk = Desk(tmp_path, server, biller)
        desk.write(40)
        words = ["--provider", dialect, "--base-url", f"{server.origin}/{name}" + ("/v1" if dialect == "openai" else "")]
        _, err = desk.run(*words, "--prices", json.dumps(THINKING), "--max-cost", "0.0015", priced=False, code=5)
    billed, sent = biller.bills[name] / 1e12, biller.requests[name]
    assert "the next row may cost up to" in err
    assert 0 < billed <= 0.0015
    # 3 dollars for a million lie between the two rates
    books = json.loads(desk.command("status", "--json")[0])["books"]
    assert books["cost_perhaps"] == pytest.approx(sent * MOST * 3e-6)
    assert books["cost"] == pytest.approx(billed - sent * MOST / 2 * 3e-6)
    exported = [json.loads(line) for line in desk.command("export", "-o", "-", "--format", "jsonl")[0].splitlines()]
    assert sum(row["cost_perhaps"] or 0 for row in exported) == pytest.approx(books["cost_perhaps"])
    assert sum(row["cost"] or 0 for row in exported) == pytest.approx(books["cost"])


def test_a_cache_that_is_kept_for_an_hour_holds_and_costs_its_own_rate(tmp_path: Path) -> None:
    biller, most = Biller(faults={}), 0.02
    given: dict[str, Any] = {"db": tmp_path / "s.db", "provider": "anthropic", "model": "m", "prices": PRICES, "max_tokens": MOST}
    given["extra_body"] = {"cache_control": {"type": "ephemeral", "ttl": "1h"}}
    with (
        in_thread(RawServer(biller)) as server,
        pytest.raises(runner.RunStoppedError, match=r"the next row may cost up to \$0.004"),
    ):
        runner.run([f"{one} {'x' * 2000}" for one in range(20)], base_url=f"{server.origin}/r", max_cost=most, **given)
    billed = biller.bills["r"] / 1e12
    assert 0 < billed <= most
    _, books = runner.status(db=given["db"])
    assert (books.cost, books.cost_perhaps) == (pytest.approx(billed), 0.0)
    assert books.cache_write_1h_tokens == books.cache_write_tokens
    assert books.cache_write_tokens


def test_the_python_api_raises_and_names_the_budget(desk: Desk) -> None:
    given: dict[str, Any] = {"db": desk.store, "model": "m", "base_url": desk.url, "prices": PRICES, "max_tokens": MOST}
    with pytest.raises(runner.RunStoppedError, match="the budget of") as caught:
        runner.run(desk.folder / "p.jsonl", max_cost=0.0004, **given)
    assert (caught.value.code, caught.value.exit_code) == ("budget", 5)
    assert runner.resume(db=desk.store, max_cost=1.0).finished


def test_a_program_s_session_has_a_budget(desk: Desk) -> None:
    given: dict[str, Any] = {"db": desk.store, "model": "m", "base_url": desk.url, "prices": PRICES}

    async def work() -> list[Any]:
        async with runner.Session(max_cost=0.0004, max_tokens=MOST, **given) as session:
            return await asyncio.gather(*(session.ask(f"{PROMPT} {one}") for one in range(12)), return_exceptions=True)

    results = asyncio.run(work())
    refused = [one for one in results if isinstance(one, runner.RunStoppedError)]
    assert 0 < sum(isinstance(one, runner.Result) for one in results) == 12 - len(refused) < 12
    assert {one.code for one in refused} == {"budget"}
    assert re.search(r"the budget of .* to go on: a new Session\(max_cost=\.\.\.\)\.", str(refused[0]))
    assert 0 < desk.billed <= 0.0004
    with pytest.raises(runner.UsageError, match="needs a limit of every answer"), runner.Session(max_cost=1.0, name="b", **given):
        pass


@pytest.mark.parametrize(
    ("more", "answers"),
    [({}, 11), ({"dedupe": True, "answers": 2, "concurrency": 2}, 22), ({"warm_prefix": True}, 11)],
)
def test_a_row_that_is_too_large_stops_no_other(desk: Desk, more: dict[str, Any], answers: int) -> None:
    """The server asks for a pause at once, in which nothing is held."""
    shared = {"role": "system", "content": "Say it in one word. " * 20}
    asked = ["x" * 100_000, *(f"{PROMPT} {one}" for one in range(11))]
    lines = ({"id": str(at), "messages": [shared, {"role": "user", "content": text}]} for at, text in enumerate(asked))
    (desk.folder / "p.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    refused = 0

    def server(request: Received) -> Reply:
        nonlocal refused
        if refused < 2:
            refused += 1
            return whole("429 Too Many Requests", {"error": {"message": "slow down"}}, retry_after_ms="400")
        return desk.biller(request)

    given: dict[str, Any] = {"db": desk.store, "model": "m", "prices": PRICES, "max_tokens": MOST, "max_cost": 0.05, **more}
    with in_thread(RawServer(server)) as busy, pytest.raises(runner.RunStoppedError) as caught:
        runner.run(desk.folder / "p.jsonl", base_url=f"{busy.origin}/r/v1", **given)
    assert caught.value.code == "budget"
    assert count(desk.store, where="status = 'done'") == answers


def test_rows_get_the_answers_of_equal_ones_though_the_budget_is_reached(desk: Desk) -> None:
    asked = ["x" * 100_000, *(f"{PROMPT} {one % 3}" for one in range(12)), "x" * 100_000]
    lines = ({"id": str(at), "prompt": text} for at, text in enumerate(asked))
    (desk.folder / "p.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    out, _ = desk.run("--max-cost", "0.05", "--dedupe", code=5)
    assert desk.biller.requests["r"] == 3
    assert count(desk.store, where="status = 'done'") == 12
    assert "12 done, 0 failed, 2 left of 14 rows" in out
    desk.command("resume", "--max-cost", "1")
    assert desk.biller.requests["r"] == 4
    assert count(desk.store, where="status = 'done'") == 14


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"max_tokens": -1}, "needs a limit of every answer"),
        ({"max_tokens": 0}, "needs a limit of every answer"),
        ({"max_tokens": 10, "n": 0}, "needs a limit of every answer"),
    ],
)
def test_a_limit_that_is_none_cannot_hold_a_budget(desk: Desk, body: dict[str, Any], words: str) -> None:
    given = {"db": desk.store, "model": "m", "base_url": desk.url, "prices": PRICES, "max_cost": 1.0, "extra_body": body}
    with pytest.raises(runner.UsageError, match=words):
        runner.run(desk.folder / "p.jsonl", **given)
    assert desk.biller.requests["r"] == 0


def test_several_answers_of_a_request_hold_as_much_each_where_the_model_limits_them(desk: Desk) -> None:
    words = ["run", "p.jsonl", "--model", "gpt-5-mini", "--base-url", desk.url, "--prices", "list", "--max-cost", "4"]
    _, err = desk.command(*words, "--extra-body", '{"n": 5}', code=5)
    assert "and the next row may cost up to $7.20" in err
    assert desk.biller.requests["r"] == 0


@pytest.mark.parametrize("seed", [1, 8, 10, 27])
def test_no_fault_stop_or_cancel_exceeds_a_budget(tmp_path: Path, seed: int) -> None:
    """The short form of ``python -m benchmarks.budget``."""

    async def work() -> budgeted.Result:
        biller = Biller(seed=seed)
        async with RawServer(biller) as server:
            case = budgeted.prepared(tmp_path, seed)
            return await budgeted.played(tmp_path, case, server, biller, disturbed=seed)

    result = asyncio.run(work())
    assert result.over == 0
    assert result.low <= result.billed <= result.high


def test_no_kill_exceeds_a_budget(tmp_path: Path) -> None:
    async def work() -> budgeted.Result:
        biller = Biller(seed=1)
        async with RawServer(biller) as server:
            case = budgeted.prepared(tmp_path, 4, rows=120, most=60)
            return await budgeted.killed(tmp_path, case, server, biller, 4)

    result = asyncio.run(work())
    assert (result.over, result.kills) == (0, 4)
    assert result.low <= result.billed <= result.high


def test_ordinary_answers_use_nearly_all_of_a_budget(tmp_path: Path) -> None:
    async def work() -> budgeted.Result:
        biller = Biller(seed=1, faults={}, ordinary=True, pause_s=0.0)
        async with RawServer(biller) as server:
            case = budgeted.prepared(tmp_path, 4, rows=500, most=60, told=True)
            return await budgeted.played(tmp_path, case, server, biller)

    result = asyncio.run(work())
    assert result.reached
    assert 0.95 * result.budget <= result.answered == result.billed <= result.budget
