"""Service tiers end to end: what is asked for, a full flex tier, and what is billed."""

import asyncio
import json
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs
from processes import QUICK, rows, run, simulator, write_prompts
from raw_server import DONE, RST, RawServer, Received, Reply, delta, finish, in_thread, openai_answer, sse, stream, whole

from runner import api
from runner.cli import ending
from runner.config.endpoint import find_endpoint
from runner.config.job import load_job
from runner.errors import AttemptTimeoutError, UsageError
from runner.model import Request
from runner.session import wiring

PRICE = {"m": {"input": 2.0, "output": 8.0, "flex": 0.5}}
PRICES = ("--prices", json.dumps(PRICE))


def settings(folder: Path, base_url: str, **more: Any) -> dict[str, Any]:
    return {"db": folder / "r.db", "model": "m", "base_url": base_url, "prices": PRICE, **more}


def spent(folder: Path) -> Decimal:
    """What the run has cost, to the picodollar."""
    sums = (
        "SELECT sum((input_tokens * p.input) + (output_tokens * p.output)) FROM attempts a JOIN prices p ON p.id = a.price_id "
        "WHERE a.error_code IS NULL"
    )
    ((found,),) = rows(folder / "r.db", sums)
    return Decimal(found).scaleb(-12)


@pytest.mark.parametrize("status", ["429", "498"])
def test_a_full_flex_tier_costs_no_attempt_and_the_books_are_the_bill(tmp_path: Path, status: str) -> None:
    write_prompts(tmp_path / "p.jsonl", range(40))
    options = (*PRICES, "--flex-full", "0.4", "--flex-status", status)
    with simulator(*QUICK, *options) as server:
        told = settings(tmp_path, server.openai, tier="flex", flex_patience=0)
        # no row may fail even if one attempt is all it has
        summary = api.run(tmp_path / "p.jsonl", attempts=1, **told)
        bill = server.invoice()
    assert (summary.done, summary.failed) == (40, 0)
    assert spent(tmp_path) == Decimal(bill["amount"])
    _, books = api.status(db=tmp_path / "r.db")
    full = books.failed_attempts["no_capacity"]
    assert books.tiers == {"flex": 40 - full, "": full}
    assert books.retries == {"no_capacity": full}
    assert books.refused == full > 0
    shown = run("status", "1", "--db", "r.db", cwd=tmp_path).out
    assert f"  service tier  flex {40 - full}, not named {full}; {full} answers at the standard price\n" in shown
    assert f"\n  service tier  {full} answers came from the standard tier, at its price\n" in ending.summary(summary, "r.db")
    assert summary.standard_tier == books.standard_tier == full


def test_an_answer_that_another_tier_gave_is_billed_at_that_tier(tmp_path: Path) -> None:
    write_prompts(tmp_path / "p.jsonl", range(20))
    with simulator(*QUICK, *PRICES, "--flex-downgrade", "0.5") as server:
        api.run(tmp_path / "p.jsonl", **settings(tmp_path, server.openai, tier="flex"))
        bill = server.invoice()
    assert spent(tmp_path) == Decimal(bill["amount"])
    books = api.status(db=tmp_path / "r.db")[1]
    assert books.tiers.keys() == {"flex", "default"}
    assert books.standard_tier == books.tiers["default"]


@pytest.mark.parametrize("asked", [{"tier": "flex"}, {"extra_body": {"service_tier": "flex"}}, {}])
def test_answers_of_the_standard_tier_are_named_where_flex_was_asked_for(tmp_path: Path, asked: dict[str, Any]) -> None:
    write_prompts(tmp_path / "p.jsonl", range(5))
    # some answers do not name their tier: nobody knows which it was. ``auto`` names none
    answers = [*[in_tier("default")] * 3, openai_answer("yes"), in_tier("auto")]
    with in_thread(RawServer(answers)) as server:
        summary = api.run(tmp_path / "p.jsonl", **settings(tmp_path, server.base_url, concurrency=1, **asked))
    number = 3 if asked else 0
    assert (summary.standard_tier, api.status(db=tmp_path / "r.db")[1].standard_tier) == (number, number)
    shown = run("status", "1", "--db", "r.db", cwd=tmp_path).out
    said = "; 3 answers at the standard price" if asked else ""
    assert f"  service tier  default 3, not named 2{said}\n" in shown
    assert ("standard tier" in ending.summary(summary, "r.db")) == bool(asked)


def in_tier(tier: str) -> Reply:
    """Return an answer that names its service tier."""
    usage = {"prompt_tokens": 7, "completion_tokens": 3}
    return stream(delta("yes"), finish(), sse({"choices": [], "usage": usage, "service_tier": tier}), DONE)


class Named:
    """A server that keeps what tier each request asks for."""

    def __init__(self) -> None:
        self.tiers: dict[str, str | None] = {}

    def __call__(self, request: Received) -> Reply:
        self.tiers[request.json["messages"][0]["content"]] = request.json.get("service_tier")
        return openai_answer("yes")


def test_what_a_row_or_extra_body_says_holds(tmp_path: Path) -> None:
    lines = [
        {"prompt": "a"},
        {"prompt": "b", "params": {"extra_body": {"service_tier": "priority"}}},
        {"prompt": "c", "extra_body": {"top_k": 3}},
        {"prompt": "d", "extra_body": {"service_tier": None}},
    ]
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    with in_thread(RawServer(asked := Named())) as server:
        api.run(tmp_path / "p.jsonl", **settings(tmp_path, server.base_url, tier="flex"))
        assert asked.tiers == {"a": "flex", "b": "priority", "c": "flex", "d": None}
        told = settings(tmp_path, server.base_url, tier="flex", extra_body={"service_tier": "default"}, reuse=False)
        api.run(tmp_path / "p.jsonl", **told)
        assert asked.tiers == {"a": "default", "b": "priority", "c": "flex", "d": None}


# picodollars of a first attempt that is cut, and of an answer of 7 tokens in and 3 out; a request has BODY bytes at the most
STANDARD = 7 * 2_000_000 + 3 * 8_000_000


@pytest.mark.parametrize("budget", [{}, {"max_cost": 1}])
@pytest.mark.parametrize(
    ("more", "tier", "known", "most"),
    [
        ({"tier": "priority"}, "priority", 1, 2),
        ({"extra_body": {"service_tier": "priority"}}, "priority", 1, 2),
        ({"tier": "flex"}, "flex", Decimal("0.5"), 1),
        ({"tier": "auto"}, "standard", 1, 1),
        ({}, "standard", 1, 1),
    ],
)
def test_an_answer_that_names_no_tier_is_an_interval_between_those_that_may_have_served_it(
    tmp_path: Path, more: dict[str, Any], tier: str, known: Decimal, most: int, budget: dict[str, Any]
) -> None:
    write_prompts(tmp_path / "p.jsonl", range(1))
    prices = {"m": {**PRICE["m"], "priority": 2}}
    told = {**settings(tmp_path, "", **more, **budget), "prices": prices, "max_tokens": 5}
    with in_thread(RawServer([stream(delta("He"), end=(RST,)), openai_answer("yes")])) as server:
        summary = api.run(tmp_path / "p.jsonl", **{**told, "base_url": server.base_url})
    found = rows(
        tmp_path / "r.db",
        "SELECT a.error_code, a.tier, p.tier FROM attempts a JOIN prices p ON p.id = a.price_id ORDER BY number",
    )
    assert found == [("cut", None, tier), (None, None, tier)]
    ((size,),) = rows(tmp_path / "r.db", "SELECT input_bound FROM attempts WHERE error_code = 'cut'")
    cut = (size * 2_000_000 + 5 * 8_000_000) * (2 if budget else most)
    books = api.status(db=tmp_path / "r.db")[1]
    for of in (summary, books):
        assert of.cost is not None
        assert of.cost_perhaps is not None
        assert round(of.cost * 1e12) == STANDARD * known
        assert round(of.cost_perhaps * 1e12) == cut + STANDARD * (most - known)
    ((of_view,),) = rows(tmp_path / "r.db", "SELECT round(1e12 * sum(cost_perhaps)) FROM spend")
    assert of_view == cut + STANDARD * (most - known)


def test_a_tier_is_no_other_run(tmp_path: Path) -> None:
    write_prompts(tmp_path / "p.jsonl", range(4))
    with in_thread(RawServer(asked := Named())) as server:
        api.run(tmp_path / "p.jsonl", limit=2, **settings(tmp_path, server.base_url))
        summary = api.run(tmp_path / "p.jsonl", **settings(tmp_path, server.base_url, tier="flex"))
    assert (summary.run, summary.done, summary.skipped) == (1, 4, 2)
    assert Counter(asked.tiers.values()) == {None: 2, "flex": 2}


def test_flex_is_refused_where_the_provider_has_none(tmp_path: Path) -> None:
    write_prompts(tmp_path / "p.jsonl", range(2))
    told = ("p.jsonl", "--provider", "anthropic", "--model", "m", "--base-url", "http://127.0.0.1:9", "--tier", "flex")
    for command in ("run", "check"):
        ended = run(command, *told, cwd=tmp_path)
        assert ended.code == 2
        said = "provider anthropic has no service tier 'flex', only auto and standard_only; leave tier out"
        assert said in (ended.err + ended.out)
    assert not (tmp_path / "runner.db").exists()


@pytest.mark.parametrize("tier", ["auto", "standard_only"])
def test_the_tiers_of_anthropic_are_passed_on(tmp_path: Path, tier: str) -> None:
    write_prompts(tmp_path / "p.jsonl", range(2))
    with simulator(*QUICK) as server:
        summary = api.run(tmp_path / "p.jsonl", provider="anthropic", **settings(tmp_path, server.anthropic, tier=tier))
    assert summary.done == 2
    assert api.status(db=tmp_path / "r.db")[1].tiers == {"standard": 2}


@pytest.mark.parametrize("value", ["-1", "soon"])
def test_a_patience_that_is_no_time_is_refused(tmp_path: Path, value: str) -> None:
    write_prompts(tmp_path / "p.jsonl", range(2))
    with pytest.raises(UsageError, match="flex_patience must be a number of seconds or a duration such as 30m, of 0 or more"):
        load_job(tmp_path / "p.jsonl", {"model": "m", "flex_patience": value}, {})


@pytest.mark.parametrize(
    ("told", "first_byte_s", "silence_s", "attempt_s"),
    [
        ({}, 300, 60, 600),
        ({"tier": "flex"}, 900, 60, 1200),
        ({"extra_body": {"service_tier": "flex"}}, 900, 60, 1200),
        ({"tier": "priority"}, 300, 60, 600),
        ({"tier": "flex", "first_byte_s": 20.0}, 20, 60, 1200),
        ({"tier": "flex", "attempt_s": 700.0, "silence_s": 5.0}, 900, 5, 700),
        ({"tier": "flex", "stream": False}, 1200, 1200, 1200),
        ({"stream": False}, 600, 600, 600),
        ({"stream": False, "silence_s": 5.0}, 600, 5, 600),
    ],
)
def test_flex_has_a_first_byte_time_of_its_own(
    tmp_path: Path, told: dict[str, Any], first_byte_s: float, silence_s: float, attempt_s: float
) -> None:
    write_prompts(tmp_path / "p.jsonl", range(2))
    found = wiring._timeouts(load_job(tmp_path / "p.jsonl", {"model": "m", **told}, {}))
    assert (found.first_byte_s, found.silence_s, found.attempt_s) == (first_byte_s, silence_s, attempt_s)


class Held:
    """A server whose flex tier refuses each second row. The others wait for so many answers of the standard one."""

    def __init__(self, answers: int) -> None:
        self.left, self.enough = answers, asyncio.Event()

    def __call__(self, request: Received) -> Reply:
        if request.json.get("service_tier") == "flex":
            if int(request.json["messages"][0]["content"].split()[-1]) % 2 == 0:
                return whole("429 Too Many Requests", {"error": {"code": "resource_unavailable", "message": "full"}})
            return Reply((self.enough, *openai_answer("flex").steps))
        self.left -= 1
        if self.left <= 0:
            self.enough.set()
        return openai_answer("standard")


@pytest.mark.parametrize(("more", "answers"), [({}, 6), ({"concurrency": 2}, 1), ({"max_cost": 1.0, "max_tokens": 9}, 6)])
def test_a_row_falls_back_while_slow_flex_requests_hold_every_slot(tmp_path: Path, more: dict[str, Any], answers: int) -> None:
    (tmp_path / "p.jsonl").write_text("".join(json.dumps({"prompt": f"row {number}"}) + "\n" for number in range(24)))
    with in_thread(RawServer(Held(answers))) as server:
        told = settings(tmp_path, server.base_url, tier="flex", flex_patience=0.2, first_byte_s=20, **more)
        # a flex request that waits for ever fails its row
        summary = api.run(tmp_path / "p.jsonl", attempts=1, **told)
    assert (summary.done, summary.failed) == (24, 0)
    texts = rows(tmp_path / "r.db", "SELECT text, count(*) FROM items GROUP BY text ORDER BY text")
    assert texts == [("flex", 12), ("standard", 12)]


@pytest.mark.anyio
@pytest.mark.parametrize(("fallback", "code"), [(True, "timeout_first_byte"), (False, None)])
async def test_a_row_that_fell_back_has_the_usual_timeouts(tmp_path: Path, *, fallback: bool, code: str | None) -> None:
    write_prompts(tmp_path / "p.jsonl", range(1))
    async with RawServer(stream(1.0, delta("Hi"), finish())) as server:
        job = load_job(tmp_path / "p.jsonl", {"model": "m", "tier": "flex", "base_url": server.base_url}, {})
        usual = wiring._timeouts(job, flex=False)
        assert (usual.first_byte_s, usual.attempt_s) == (300, 600)
        async with wiring.open_provider(job, find_endpoint(job, {"OPENAI_API_KEY": "k"})) as (made, client):
            assert client._fallback == usual
            client._fallback = structs.replace(usual, first_byte_s=0.2)
            decoder, failed = made.decoder(), None
            call = made.encode(Request(model="m", messages=({"role": "user", "content": "Hi"},)))
            try:
                await client.stream(call, decoder, client.exchange(fallback=fallback), made.error)
            except AttemptTimeoutError as error:
                failed = error.code
    assert failed == code
