"""What the simulator charges: prices, the arithmetic of the invoice, and how far an answer was made. No socket, no clock."""

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from runner.errors import UsageError
from runner.prices.book import PriceBook
from runner.simulator import Behaviour, Line, Price, parse_prices
from runner.simulator.anthropic import Anthropic
from runner.simulator.dialect import Ask, Dialect
from runner.simulator.draw import Chance, Draw
from runner.simulator.invoice import Invoice, Used, dollars
from runner.simulator.openai import OpenAI
from runner.simulator.prices import STANDARD, Rates, rates
from runner.simulator.script import answer, ending, made, script

DIALECTS: list[Dialect] = [OpenAI(), Anthropic()]
DEAR = Price(
    input=Decimal("2.5"),
    output=Decimal(10),
    cached_input=Decimal("0.625"),
    cache_write=Decimal("3.125"),
    reasoning=Decimal(20),
    flex=Decimal("0.4"),
)


def bill(invoice: Invoice, used: Used, **changes: Any) -> None:
    given = {"number": 1, "body": b"body", "model": "m", "tier": "default", "dialect": "openai"}
    invoice.bill(used=used, **{**given, "reported": True, "ending": "whole", **changes})


def test_a_dollar_per_million_tokens_is_a_million_picodollars_a_token() -> None:
    assert rates(STANDARD["openai"], "standard") == Rates(
        fresh=1_000_000, cached=100_000, written=1_000_000, written_1h=2_000_000, output=4_000_000, reasoning=4_000_000
    )
    assert rates(STANDARD["anthropic"], "standard").written == 1_250_000
    assert rates(STANDARD["openai"], "flex") == Rates(
        fresh=500_000, cached=50_000, written=500_000, written_1h=1_000_000, output=2_000_000, reasoning=2_000_000
    )
    assert rates(DEAR, "standard") == Rates(
        fresh=2_500_000, cached=625_000, written=3_125_000, written_1h=5_000_000, output=10_000_000, reasoning=20_000_000
    )
    assert (rates(DEAR, "flex").fresh, rates(DEAR, "priority").fresh) == (1_000_000, 5_000_000)


@pytest.mark.parametrize("table", [{"input": 1, "output": 4}, {"input": 1, "output": 4, "cache_write": 3, "reasoning": 5}])
def test_a_table_of_prices_means_the_same_to_the_client(table: dict[str, float]) -> None:
    ours, theirs = rates(parse_prices(json.dumps({"m": table}))["m"], "standard"), PriceBook(None, {"m": table})
    for tier in ("standard", "flex"):
        schedule = theirs.schedule("m", 0.0, tier)
        assert schedule is not None
        found = schedule.base
        assert (found.input, found.cached_input, found.cache_write, found.cache_write_1h, found.output, found.reasoning) == (
            ours.fresh,
            ours.cached,
            ours.written,
            ours.written_1h,
            ours.output,
            ours.reasoning,
        )


def test_amounts_are_exact_and_each_kind_of_token_has_its_rate() -> None:
    invoice = Invoice({"dear": DEAR})
    bill(invoice, Used(fresh=1000, cached=200, written=30, written_1h=10, output=50, reasoning=40), model="dear")
    bill(invoice, Used(fresh=7, output=3), number=5, body=b"other", reported=False, ending="cut")
    dear = 1000 * 2_500_000 + 200 * 625_000 + 20 * 3_125_000 + 10 * 5_000_000 + 10 * 10_000_000 + 40 * 20_000_000
    cheap = 7 * 1_000_000 + 3 * 4_000_000
    found = invoice.statement(lines=True, open_requests=2)
    assert (found.requests, found.open, found.lines_dropped) == (2, 2, 0)
    assert (found.input_tokens, found.fresh_tokens, found.cached_tokens, found.written_tokens) == (1237, 1007, 200, 30)
    assert (found.written_1h_tokens, found.output_tokens, found.reasoning_tokens) == (10, 53, 40)
    assert Decimal(found.amount) * 10**12 == dear + cheap
    assert (Decimal(found.amount_reported), found.amount_unreported) == (Decimal(dear).scaleb(-12), "0.000019000000")
    assert isinstance(found.lines, list)
    assert [line.amount_picodollars for line in found.lines] == [dear, cheap]
    assert found.lines[1] == Line(
        number=5,
        model="m",
        tier="default",
        fresh_tokens=7,
        cached_tokens=0,
        written_tokens=0,
        written_1h_tokens=0,
        output_tokens=3,
        reasoning_tokens=0,
        amount_picodollars=cheap,
        reported=False,
        ending="cut",
        body="d9298a10d1b0735837dc4bd85dac641b0f3cef27a47e5d53a54f2f3f5b2fcffa",
    )
    assert "lines" not in json.loads(msgspec.json.encode(invoice.statement()))


@pytest.mark.parametrize(
    ("picodollars", "text"),
    [(0, "0.000000000000"), (1, "0.000000000001"), (10**12, "1.000000000000"), (12_345 * 10**12 + 67, "12345.000000000067")],
)
def test_amounts_are_written_whole(picodollars: int, text: str) -> None:
    assert dollars(picodollars) == text


def test_the_tier_that_served_decides_the_rate() -> None:
    invoice = Invoice({})
    for tier in ("default", "flex", "priority", "standard"):
        bill(invoice, Used(fresh=10, output=0), tier=tier)
    lines = invoice.statement(lines=True).lines
    assert isinstance(lines, list)
    assert [line.amount_picodollars // 1_000_000 for line in lines] == [10, 5, 20, 10]


def test_bodies_that_are_billed_again_and_answers_that_are_paid_again() -> None:
    invoice = Invoice({})
    for body, reported in ((b"a", False), (b"a", True), (b"b", True), (b"b", True), (b"b", True), (b"c", True)):
        bill(invoice, Used(fresh=1, output=1), body=body, reported=reported)
    found = invoice.statement()
    assert (found.doubled, found.reported_twice) == (2, 1)


def test_old_lines_and_bodies_are_forgotten_but_not_their_amounts() -> None:
    invoice = Invoice({}, lines=2, bodies=2)
    for number, body in enumerate((b"a", b"b", b"c", b"a"), start=1):
        bill(invoice, Used(fresh=1, output=0), number=number, body=body)
    found = invoice.statement(lines=True)
    assert isinstance(found.lines, list)
    assert ([line.number for line in found.lines], found.lines_dropped) == ([3, 4], 2)
    assert (found.requests, found.amount, found.doubled) == (4, "0.000004000000", 0)


PRICES = (
    '{"a/b": {"input": 0.15, "output": 0.6, "cached_input": 0.075, "flex": 0.5, "from": "2026-01-01"}, '
    '"c": {"input": 1, "output": 2}}'
)


def test_prices_are_read_from_json_and_from_files(tmp_path: Path) -> None:
    prices = parse_prices(PRICES)
    assert prices["a/b"].input == Decimal("0.15")
    assert prices["c"] == Price(input=Decimal(1), output=Decimal(2))
    listed = tmp_path / "prices.json"
    listed.write_text(f'{{"prices": {PRICES}}}')
    assert parse_prices(str(listed)) == prices
    job = tmp_path / "job.toml"
    job.write_text(
        'model = "c"\n[prices."a/b"]\ninput = 0.15\noutput = 0.6\ncached_input = 0.075\nflex = 0.5\nfrom = 2026-01-01\n'
        "[prices.c]\ninput = 1\noutput = 2\n"
    )
    assert parse_prices(str(job)) == prices


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('{"m": {"input": 1}}', "missing required field `output`"),
        ('{"m": {"input": 1, "output": 2, "imput": 3}}', "unknown field `imput`"),
        ('{"m": {"input": "one", "output": 2}}', "the price of 'm' cannot be used: Invalid decimal string - at `$.input`"),
        ('{"m": 3}', "the price of 'm' cannot be used: Expected `object`"),
        ('{"prices": 3}', "a table of models"),
        ('{"m": {"input": -1, "output": 2}}', "'m': input must be 0 or more, not -1"),
        ('{"m": {"input": 1, "output": NaN}}', "'m': output must be 0 or more"),
        (
            '{"m": {"input": 1, "output": 0.0000001}}',
            "output comes to 0.0000001 dollars per million tokens; at most six decimals",
        ),
        ('{"m": {"input": 0.000001, "output": 1, "priority": 1.5}}', "input comes to 0.0000015"),
        ('{"m": ', "the prices are not valid"),
        ("nowhere.toml", "'nowhere.toml' cannot be read: No such file"),
        (".", "'.' cannot be read: Is a directory"),
    ],
)
def test_wrong_prices_are_one_clear_sentence(text: str, sentence: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_prices(text)
    assert sentence in str(caught.value)


@pytest.mark.parametrize(("name", "content"), [("p.toml", b"a = "), ("p.json", b"[1]"), ("p.json", b"\xff")])
def test_wrong_files_of_prices_are_one_clear_sentence(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UsageError, match=name):
        parse_prices(str(tmp_path / name))


@pytest.mark.parametrize(
    "wrong",
    [
        {"cache": "redis"},
        {"cache_s": -1.0},
        {"flex_full": 1.1},
        {"flex_downgrade": float("nan")},
        {"flex_status": 500},
        {"flex_delay_s": float("inf")},
        {"reasoning_tokens": -1},
        {"fill_limit": True, "echo": True},
        {"prices": {"m": Price(input=Decimal(-1), output=Decimal(1))}},
    ],
)
def test_a_behaviour_with_senseless_money_cannot_be_built(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        Behaviour(**wrong)


def draw(fault: str | None = None, *, tokens: int = 8, reasoning: int | None = None) -> Draw:
    return Draw(answer_id="ab" * 16, fault=fault, wait_s=0.0, tokens=tokens, cut=0.5, root=b"root", reasoning=reasoning)


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize(
    ("fault", "stream", "tokens", "known", "end"),
    [
        (None, True, 8, True, "whole"),
        (None, False, 8, True, "whole"),
        ("json", True, 8, True, "whole"),
        ("length", True, 8, True, "whole"),
        ("empty", True, 0, True, "whole"),
        # a client cannot be asked to read on behind a line that is no JSON
        ("malformed", True, 8, False, "whole"),
        ("malformed", False, 8, False, "whole"),
        ("truncate", True, 5, False, "cut"),
        ("disconnect", True, 5, False, "cut"),
        ("stall", True, 5, False, "cut"),
        ("error_event", True, 5, False, "cut"),
        # what is not streamed was made before the first byte went out
        ("truncate", False, 8, False, "cut"),
        ("disconnect", False, 8, False, "cut"),
        ("error_event", False, 5, False, "cut"),
    ],
)
def test_what_a_fault_leaves_of_an_answer(
    dialect: Dialect, fault: str | None, stream: bool, tokens: int, known: bool, end: str
) -> None:
    ask = Ask(model="m", stream=stream, max_tokens=None, with_usage=True)
    whole = answer(ask, draw(fault), input_tokens=3, created=0)
    played = script(dialect, ask, draw(fault), whole, "req")
    every = len(played.parts)
    assert (made(played, every), played.with_usage) == (tokens, known)
    assert ending(played, every, complete=played.ending == "end") == end
    # the client is gone before the first part, and in the middle
    assert made(played, 0) == (0 if played.streamed else tokens)
    assert made(played, 3) == (min(3, tokens) if played.streamed else tokens)
    if every > 1:
        assert ending(played, 1, complete=False) == "abandoned"


def test_a_stream_without_usage_reports_none() -> None:
    ask = Ask(model="m", stream=True, max_tokens=None)
    assert not script(OpenAI(), ask, draw(), answer(ask, draw(), input_tokens=3, created=0), "req").with_usage


@pytest.mark.parametrize(
    ("limit", "reasoning", "fill", "shown", "thought", "finish"),
    [
        (None, None, False, 8, None, "stop"),
        (None, 5, False, 8, 5, "stop"),
        (13, 5, False, 8, 5, "stop"),
        (12, 5, False, 7, 5, "length"),
        (5, 5, False, 0, 5, "length"),
        (4, 5, False, 0, 4, "length"),
        (100, None, True, 100, None, "length"),
        (100, 5, True, 95, 5, "length"),
        (4, 5, True, 0, 4, "length"),
        (8, None, True, 8, None, "length"),
        (None, None, True, 8, None, "stop"),
        # the limit of the model itself
        (10**9, None, True, 131_072, None, "length"),
    ],
)
def test_reasoning_and_text_share_the_limit(
    limit: int | None, reasoning: int | None, fill: bool, shown: int, thought: int | None, finish: str
) -> None:
    ask = Ask(model="m", stream=False, max_tokens=limit)
    found = answer(ask, draw(reasoning=reasoning), input_tokens=1, created=0, fill=fill)
    assert (len(found.chunks), found.reasoning_tokens, found.finish) == (shown, thought, finish)


def test_an_empty_answer_fills_nothing() -> None:
    ask = Ask(model="m", stream=False, max_tokens=50)
    found = answer(ask, draw("empty"), input_tokens=1, created=0, fill=True)
    assert (found.chunks, found.finish) == ([], "stop")


def test_draws_about_money_leave_all_others_as_they_are() -> None:
    calm = Chance(Behaviour())
    money = Chance(Behaviour(reasoning_tokens=100, flex_full=0.3, flex_downgrade=0.2))
    bodies = [b"%d" % number for number in range(2000)]
    drawn = [money.draw(body) for body in bodies]
    bare = [msgspec.structs.replace(one, reasoning=None, flex_full=False, flex_downgrade=False) for one in drawn]
    assert bare == [calm.draw(body) for body in bodies]
    thought = [one.reasoning or 0 for one in drawn]
    assert min(thought) >= 50
    assert max(thought) <= 150
    assert sum(thought) / 2000 == pytest.approx(100, abs=3)
    assert sum(one.flex_full for one in drawn) / 2000 == pytest.approx(0.3, abs=0.04)
    assert sum(one.flex_downgrade for one in drawn) / 2000 == pytest.approx(0.2, abs=0.04)
    assert Chance(Behaviour(flex_full=1.0)).draw(b"x").reasoning is None
