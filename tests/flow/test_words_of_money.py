"""What is said of money is so, and is the same in each place."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from bought import MOST, PRICES, Desk
from msgspec import structs
from processes import run
from raw_server import RawServer, Received, Reply, delta, in_thread, stream

from runner.cli import estimate

TIER = 'unknown: no price is known for m at the tier priority; priority in [prices."m"] states its factor, such as 2.0'


class Cutting(Desk):
    """Each ninth request is cut off."""

    cut = sent = 0

    def __call__(self, request: Received) -> Reply:
        self.sent += 1
        if self.sent % 9:
            return super().__call__(request)
        self.cut += 1
        return stream(delta("Ro"))


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Cutting]:
    desk = Cutting(tmp_path)
    with in_thread(RawServer(desk)) as server:
        desk.url = server.base_url
        desk.write([f"{number} " + "x" * (10 + number * 7 % 90) for number in range(100)])
        yield desk


def said(desk: Desk, *words: str, most: str = str(MOST), code: int = 0) -> str:
    given = ("--model", "m", "--base-url", desk.url, "--prices", json.dumps(PRICES), "--max-tokens", most)
    ended = run(*words, *(given if words[0] != "status" else ()), cwd=desk.folder)
    assert ended.code == code, ended
    return ended.out + ended.err


def test_a_tier_without_a_factor_is_what_has_no_price(desk: Cutting) -> None:
    asked = ("p.jsonl", "--tier", "priority", "--limit", "10")
    assert f"cost          {TIER}" in said(desk, "estimate", *asked)
    assert f"cost {TIER}" in said(desk, "run", *asked)
    assert f"cost          {TIER}" in said(desk, "status")
    assert f"cost          {TIER}" in said(desk, "estimate", *asked)


def test_a_tier_that_the_list_does_not_have_is_named(desk: Cutting) -> None:
    asked = ("estimate", "p.jsonl", "--base-url", desk.url, "--prices", "list", "--model", "gpt-4", "--tier")
    ways = '; input, output and priority (a factor, such as 2.0) in [prices."gpt-4"] state one'
    for tier, more in (("priority", ways), ("scale", "")):
        ended = run(*asked, tier, cwd=desk.folder)
        assert f"  cost          unknown: the list has no price for gpt-4 at the tier {tier}{more}\n" in ended.out
    stated = '{"list": true, "gpt-4": {"input": 1, "output": 2, "priority": 2.0}}'
    ended = run(*asked[:4], "--prices", stated, "--model", "gpt-4", "--max-tokens", "9", "--tier", "priority", cwd=desk.folder)
    assert "  cost          about $" in ended.out


def test_attempts_of_unknown_usage_are_the_same_number_in_each_place(desk: Cutting) -> None:
    said(desk, "run", "p.jsonl", "--limit", "60", most="500")
    told = "attempts ended without their usage, so they were perhaps billed, as others may be: without them"
    estimated = said(desk, "estimate", "p.jsonl", "--sample", "20", most="500")
    number = desk.cut
    # more than those of the sample
    assert number > 5
    assert f"{number} {told} the highest cost is $" in estimated
    assert f"{number} {told} at most $" in said(desk, "run", "p.jsonl", most="500")


def test_attempts_that_change_no_figure_are_not_told(desk: Cutting) -> None:
    (kind,) = [desk.estimated(limit=100)]
    assert kind.cost is not None
    wide = structs.replace(kind, basis="sample", perhaps_billed=3, cost_high_without=kind.cost.high)
    assert "ended without their usage" not in estimate.text(wide)
    low = structs.replace(wide, cost_high_without=kind.cost.low)
    assert "3 attempts ended without their usage" in estimate.text(low)
    near = structs.replace(wide, cost_high_without=(kind.cost.high or 0.0) * 0.9999)
    assert "ended without their usage" not in estimate.text(near)


def test_a_price_that_a_finished_run_gets_later_is_told_as_its_cost(desk: Cutting) -> None:
    given = ("p.jsonl", "--model", "m", "--base-url", desk.url, "--max-tokens", str(MOST))
    run("run", *given, cwd=desk.folder)
    sent = desk.asked.total()
    assert "  cost          $0.0" in said(desk, "run", "p.jsonl")
    assert desk.asked.total() == sent


@pytest.mark.parametrize(
    ("price", "words"),
    [(1e9, "a number from 0 to 1,000,000, dollars per million tokens, not 1000000000.0"), (-1, "a number of 0 or more")],
)
def test_a_price_that_is_too_high_is_told_apart_from_a_wrong_one(desk: Cutting, price: float, words: str) -> None:
    prices = json.dumps({"m": {"input": price, "output": 4}})
    ended = run("estimate", "p.jsonl", "--model", "m", "--base-url", desk.url, "--prices", prices, cwd=desk.folder)
    assert (ended.code, words in ended.err) == (2, True), ended
