"""Mixed runs: what waits in batches, what goes live and when, and that the books are the bill. Real HTTP, in this process."""

import json
import sqlite3
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import pytest
from simulating import served

import runner
from runner.engine.batch import driving, policy, polling, sending
from runner.engine.batch.outlook import Decision, View
from runner.errors import RunStoppedError
from runner.event_types import Noted, Progress
from runner.session.estimating import Bounds
from runner.simulator.batch_anthropic import AnthropicBatches
from runner.simulator.batch_openai import OpenAIBatches
from runner.simulator.dialect import Refusal
from runner.simulator.prices import Price

DIALECTS = pytest.mark.parametrize("dialect", ["openai", "anthropic"])
PRICE = {"input": 2.0, "output": 8.0, "batch": 0.5}
NEVER = 600.0
ROWS = 60
MOST = Decimal("0.000335")
"""What a row can cost at the most in a batch, and some."""
RPM = 60_000
TRIAL = 1
"""Rows that go live at the start, to tell the speed of the live path."""


class Done(NamedTuple):
    """What a run came to. Books and bill have been compared."""

    done: int
    # attempts that were billed, by tier; live: ""
    tiers: Counter[str]
    told: list[str]
    # lines of the bill, and its amount in dollars
    billed: int
    amount: Decimal
    # the code with which it stopped
    stopped: str | None
    # by the estimate before it
    expected: Bounds | None
    # what the limits let through, as the policy saw them last
    rows_per_s: float | None


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY"):
        monkeypatch.setenv(name, "sk-test-0000000000000001")
    # batches are looked at soon
    for module, name in ((sending, "FIRST_LOOK_S"), (polling, "FIRST_LOOK_S"), (polling, "SECOND_LOOK_S")):
        monkeypatch.setattr(module, name, 0.1)
    # nothing of these runs waits for it
    monkeypatch.setattr(driving, "FULL_S", 600.0)


def ran(dialect: str, folder: Path, behaviour: dict[str, Any], *, flex: float = 1, **more: Any) -> Done:
    """Run the rows, and compare the books with the bill. flex: the price of that tier, as a factor."""
    path, store, told = folder / "in.jsonl", folder / "runner.db", list[str]()
    path.write_text("".join(f"{json.dumps({'prompt': f'p {number}'})}\n" for number in range(ROWS)))
    prices = {"m": {**PRICE, "flex": flex}}
    price = Price(**{name: Decimal(str(value)) for name, value in prices["m"].items()})
    views, decide = list[View](), policy.decide

    def seen(view: View) -> Decision:
        views.append(view)
        return decide(view)

    with served(prices={"m": price}, rpm=RPM, **behaviour) as server, pytest.MonkeyPatch.context() as patched:
        patched.setattr(policy, "decide", seen)
        base = f"{server.url}/v1" if dialect == "openai" else server.url
        at: dict[str, Any] = {"provider": dialect, "model": "m", "base_url": base, "db": store}
        given = {**at, "max_tokens": 60, "prices": prices, "mode": "mixed", **more}
        expected = runner.estimate(
            path, **{name: value for name, value in given.items() if name not in ("within", "detach", "limit")}
        ).cost

        def observe(event: object) -> None:
            if isinstance(event, Noted):
                told.append(event.note)
            # a row counts once, also if a batch and the live path have answered it
            assert not isinstance(event, Progress) or event.done <= ROWS

        stopped = None
        try:
            runner.run(path, observe=observe, **given)
        except RunStoppedError as error:
            stopped = error.code
        bill = server.invoice(lines=True)
    with closing(sqlite3.connect(store)) as connection:
        paid = connection.execute(
            "SELECT coalesce(a.tier, ''), a.input_tokens * p.input + a.output_tokens * p.output FROM attempts a "
            "JOIN prices p ON p.id = a.price_id WHERE a.input_tokens IS NOT NULL"
        ).fetchall()
    tiers = Counter("" if tier in ("default", "standard") else tier for tier, _ in paid)
    # each answer is on the books once, at the price of its way
    assert (tiers.total(), sum(cost for _, cost in paid)) == (bill.requests, int(Decimal(bill.amount) * 10**12)), tiers
    run_, _ = runner.status(1, db=store)
    rows_per_s = views[-1].live.rows_per_s if views else None
    return Done(run_.done, tiers, told, bill.requests, Decimal(bill.amount), stopped, expected, rows_per_s)


def live(done: Done) -> int:
    return done.billed - done.tiers["batch"]


SCENARIOS: dict[str, tuple[dict[str, Any], str | None, Callable[[Done], bool]]] = {
    # how batches go; what --within is; what is to be seen then
    "fast": ({"batch_delay_s": 0.2}, "60s", lambda done: done.billed == ROWS and live(done) <= TRIAL),
    "never": ({"batch_delay_s": NEVER}, "2s", lambda done: done.billed == ROWS and done.tiers["batch"] <= 3),
    "expires": ({"batch_delay_s": 0.2, "batch_expire": 0.3}, "60s", lambda done: done.billed == ROWS and 5 < live(done) < 30),
    "expires, no deadline": ({"batch_delay_s": 0.2, "batch_expire": 0.3}, None, lambda done: 5 < live(done) < 30),
    "cancelled too late": (
        {"batch_delay_s": NEVER, "batch_cancel_s": 0.05, "batch_cancel_done": 1.0}, "4s",
        # all came from the batches, and nothing was bought twice
        lambda done: done.billed == ROWS and live(done) <= TRIAL,
    ),
    "overtaken": (
        {"batch_delay_s": NEVER, "batch_cancel_s": 1.5, "batch_cancel_done": 0.7}, "2s",
        # what is bought twice is on the books
        lambda done: live(done) > 20 and done.tiers["batch"] > 20,
    ),
    "no time": ({"batch_delay_s": NEVER}, "300ms", lambda done: done.billed == ROWS),
}  # fmt: skip


CANCELS = "batches are cancelled from now on, so that the run is done in time: what they have not answered goes live"
OVERTAKES = "batches do not end in time: their rows go live, and what these batches still answer is paid for twice"


@DIALECTS
@pytest.mark.parametrize("name", SCENARIOS)
def test_a_mixed_run_is_done_at_what_it_must_cost(name: str, dialect: str, tmp_path: Path) -> None:
    behaviour, within, holds = SCENARIOS[name]
    done = ran(dialect, tmp_path, behaviour, concurrency=8, **({"within": within} if within is not None else {}))
    assert (done.done, done.stopped) == (ROWS, None)
    assert holds(done), done
    # each kind of decision is told once
    assert done.told.count(CANCELS) == (name in ("never", "cancelled too late", "overtaken"))
    assert done.told.count(OVERTAKES) == (name == "overtaken") or name == "never"
    # the estimate holds, but for what is paid for twice
    assert done.expected is not None
    assert done.expected.high is not None
    assert done.expected.low < done.amount < done.expected.high or done.billed > ROWS
    # answers report the limit, which nobody has set
    assert done.rows_per_s == RPM / 60


@pytest.mark.parametrize("within", ["60s", None])
def test_rows_go_live_at_flex_where_that_is_cheaper_then_at_the_standard_tier(within: str | None, tmp_path: Path) -> None:
    behaviour = {"batch_delay_s": 0.1, "batch_expire": 1.0, "flex_full": 0.4}
    more = {"flex_patience": 0, "flex": 0.5, **({"within": within} if within is not None else {})}
    done = ran("openai", tmp_path, behaviour, **more)
    assert (done.done, done.billed) == (ROWS, ROWS)
    # answers of the standard tier, which was asked for by its name nowhere, name none
    assert set(done.tiers) == {"flex", ""}


@DIALECTS
def test_live_rows_wait_for_what_batches_hold_of_a_budget(dialect: str, tmp_path: Path) -> None:
    slow = {"batch_delay_s": NEVER, "batch_cancel_s": 1.5, "batch_cancel_done": 0.2}
    # there is room for all rows in batches, and for no live one beside them
    done = ran(dialect, tmp_path, slow, within="2s", max_cost=float(ROWS * MOST))
    assert (done.done, done.stopped) == (ROWS, None)
    assert done.amount <= ROWS * MOST


@DIALECTS
@pytest.mark.parametrize("mode", ["batch", "mixed"])
def test_a_budget_below_the_first_file_is_used_to_its_end_and_no_further(
    mode: str, dialect: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driving, "_WAIT_FOR_BUDGET_S", 0.02)
    limit = Decimal("0.0015")
    behaviour = {"batch_delay_s": 0.05, "batch_expire": 0.2 if mode == "mixed" else 0.0}
    done = ran(dialect, tmp_path, behaviour, mode=mode, max_cost=float(limit))
    # a live row costs more than twice as much as one in a batch, as its tier is not known before
    left = MOST * (Decimal("2.25") if mode == "mixed" else 1)
    assert (done.stopped, done.done == done.billed) == ("budget", True)
    assert limit - left < done.amount <= limit, done


@DIALECTS
def test_a_live_session_counts_what_waits_in_batches_of_earlier_ones(dialect: str, tmp_path: Path) -> None:
    limit = 7 * MOST
    left = ran(dialect, tmp_path, {"batch_delay_s": NEVER}, mode="batch", limit=6, detach=True, max_cost=float(limit))
    assert (left.done, left.stopped) == (0, None)
    # there is room for no live row as long as these may be billed, and nobody waits for them
    done = ran(dialect, tmp_path, {}, mode="live", max_cost=float(limit))
    assert (done.done, done.stopped) == (0, "budget")


@DIALECTS
@pytest.mark.parametrize("within", ["3s", None])
def test_rows_go_live_where_no_batch_is_taken(
    within: str | None, dialect: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def none(*_: Any) -> NoReturn:
        raise Refusal(404, "Not Found")

    for api in (OpenAIBatches, AnthropicBatches):
        monkeypatch.setattr(api, "answer", none)
    done = ran(dialect, tmp_path, {}, **({"within": within} if within is not None else {}))
    assert (done.done, live(done)) == (ROWS, ROWS)
    assert len([note for note in done.told if note.endswith("no more batches are made, and the rows go live")]) == 1, done.told
