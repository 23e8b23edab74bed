"""Costs are whole picodollars, by the rules of the providers."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from msgspec import structs

from runner.errors import UsageError
from runner.model import Attempt, Usage
from runner.money import Money, Price, Projection, Rates, dollars, projected, shown
from runner.prices.book import PriceBook
from runner.prices.own import joined
from runner.prices.rates import Schedule, cost_of, input_of, per_token, perhaps_of, saved_by

MINI = Rates(
    input=250_000, output=2_000_000, cached_input=25_000, cache_write=312_500, reasoning=2_000_000, cache_write_1h=500_000
)


TIERS = ("standard", "flex", "batch", "priority", "scale")


def usage(read: int, written: int, *, cached: int = 0, stored: int = 0, reasoning: int = 0) -> Usage:
    return Usage(
        input_tokens=read, output_tokens=written, cached_tokens=cached, cache_write_tokens=stored, reasoning_tokens=reasoning
    )


def test_a_rate_is_picodollars_per_token() -> None:
    assert per_token(Decimal("0.0125")) == 12_500
    assert dollars(per_token(Decimal(2)) * 1_000_000) == 2


def test_cached_and_written_tokens_have_their_own_rates_and_are_part_of_the_input() -> None:
    assert cost_of(usage(1_000, 10), MINI) == 1_000 * 250_000 + 10 * 2_000_000
    assert cost_of(usage(1_000, 0, cached=600, stored=300), MINI) == 100 * 250_000 + 600 * 25_000 + 300 * 312_500
    assert cost_of(Usage(input_tokens=5), MINI) is None
    assert cost_of(Usage(output_tokens=5), MINI) is None


def test_what_a_server_counts_beside_the_input_takes_nothing_from_it() -> None:
    beside = usage(100, 0, cached=600)
    assert cost_of(beside, MINI) == 100 * 250_000 + 600 * 25_000
    assert (input_of(beside), input_of(usage(700, 0, cached=600)), input_of(Usage(output_tokens=1))) == (700, 700, None)
    # all of them tell which rates hold
    book = PriceBook("anthropic", {})
    large = usage(100, 1, stored=200_000)
    price = book.price(structs.replace(an_attempt(model="claude-sonnet-4-5", usage=large), started_at=1_796_000_000.0))
    assert price.rates is not None
    assert price.rates.input == 6_000_000


def test_reasoning_is_a_part_of_the_output() -> None:
    dear = Rates(input=0, output=1, cached_input=0, cache_write=0, reasoning=10, cache_write_1h=0)
    assert cost_of(usage(0, 7, reasoning=3), dear) == 4 + 30
    assert cost_of(usage(0, 2, reasoning=3), dear) == 20


def an_attempt(**fields: Any) -> Attempt:
    return Attempt(key="a", number=1, started_at=0.0, duration_s=1.0, **fields)


@pytest.mark.parametrize(("text", "thought"), [(4, 7), (7, 4), (5, 5)])
def test_output_that_is_not_told_apart_is_an_interval_between_its_rates(text: int, thought: int) -> None:
    rates = Rates(input=1, output=text, cached_input=1, cache_write=1, reasoning=thought, cache_write_1h=1)
    untold = Usage(input_tokens=10, output_tokens=100)
    assert (cost_of(untold, rates), perhaps_of(an_attempt(usage=untold), rates)) == (
        10 + 100 * min(text, thought),
        100 * abs(text - thought),
    )
    told = usage(10, 100, reasoning=30)
    assert (cost_of(told, rates), perhaps_of(an_attempt(usage=told), rates)) == (10 + 70 * text + 30 * thought, 0)
    # an answer that was cut: what it may have come to, and not that plus what is not told apart
    cut = an_attempt(usage=untold, input_bound=10, output_bound=200)
    assert perhaps_of(cut, rates) == 10 + 200 * max(text, thought) - (10 + 100 * min(text, thought))
    # a server that counts more than can be
    assert perhaps_of(an_attempt(usage=untold, input_bound=1, output_bound=1), rates) == 100 * abs(text - thought)
    assert perhaps_of(an_attempt(usage=untold, input_bound=10), rates) is None


def test_an_answer_that_names_no_tier_has_the_rates_of_that_which_was_asked_for_or_of_the_standard_one() -> None:
    book = PriceBook(None, {"m": {"input": 4, "output": 8, "reasoning": 10, "flex": 0.5, "priority": 2}})
    standard = Rates(
        input=4_000_000,
        output=8_000_000,
        cached_input=4_000_000,
        cache_write=4_000_000,
        reasoning=10_000_000,
        cache_write_1h=8_000_000,
    )
    untold = Usage(input_tokens=10, output_tokens=100)
    for asked, factor in (("flex", 0.5), ("priority", 2)):
        price = book.price(an_attempt(model="m", usage=untold, asked_tier=asked))
        other = structs.replace(standard, **{name: int(rate * factor) for name, rate in structs.asdict(standard).items()})
        assert price.rates is not None
        assert (price.tier, {price.rates, price.most}) == (asked, {standard, other})
        low, high = min(1, factor), max(1, factor)
        assert cost_of(untold, price.rates) == low * (10 * 4_000_000 + 100 * 8_000_000)
        most = high * (10 * 4_000_000 + 100 * 10_000_000)
        assert perhaps_of(an_attempt(usage=untold), price.rates, price.most) == most - low * (10 * 4_000_000 + 100 * 8_000_000)
    named = book.price(an_attempt(model="m", usage=untold, tier="default", asked_tier="priority"))
    assert (named.rates, named.most) == (standard, None)
    # nobody knows what it costs at the most
    assert book.price(an_attempt(model="m", usage=untold, asked_tier="scale")) == Price(model="m", tier="scale", rates=None)


def test_an_answer_of_unknown_tier_has_the_rates_of_its_size() -> None:
    book = PriceBook("anthropic", {"claude-sonnet-4-5": {"input": 3, "output": 15, "priority": 2}})
    assert book.price(an_attempt(model="claude-sonnet-4-5", asked_tier="priority")).most is not None
    book = PriceBook("anthropic", {})
    large = an_attempt(model="claude-sonnet-4-5", usage=Usage(input_tokens=200_001, output_tokens=1), asked_tier="batch")
    price = book.price(structs.replace(large, started_at=1_796_000_000.0))
    assert price.rates is not None
    assert price.most is not None
    assert (price.rates.input, price.most.input) == (3_000_000, 6_000_000)


def test_a_cache_that_is_kept_for_an_hour_has_a_rate_of_its_own() -> None:
    written = Usage(input_tokens=100, output_tokens=0, cache_write_tokens=60, cache_write_1h_tokens=40, reasoning_tokens=0)
    assert cost_of(written, MINI) == 40 * 250_000 + 20 * 312_500 + 40 * 500_000
    assert saved_by(written, MINI) == -(20 * 62_500 + 40 * 250_000)
    # a server that says more of a part than of the whole
    odd = Usage(input_tokens=60, output_tokens=0, cache_write_tokens=60, cache_write_1h_tokens=80)
    assert cost_of(odd, MINI) == 60 * 500_000
    assert MINI.most(100, 0, 100) == 100 * 500_000
    assert MINI.most(100, 0, 30) == 70 * 312_500 + 30 * 500_000
    assert MINI.most(100, 0) == 100 * 312_500
    asks = an_attempt(input_bound=100, output_bound=0, cache_1h_bound=100)
    assert perhaps_of(asks, MINI) == 100 * 500_000


def test_writes_that_are_not_told_apart_are_an_interval_between_the_rates_of_both_caches() -> None:
    book = PriceBook(None, {"m": {"input": 4, "output": 8, "cache_write": 5, "cache_write_1h": 8, "priority": 2}})
    written = Usage(input_tokens=100, output_tokens=10, cache_write_tokens=60, reasoning_tokens=0)
    price = book.price(an_attempt(model="m", usage=written, cache_1h_bound=60))
    assert price.rates is not None
    assert cost_of(written, price.rates) == (40 * 4 + 60 * 5 + 10 * 8) * 1_000_000
    assert perhaps_of(an_attempt(usage=written), price.rates, price.most) == 60 * 3 * 1_000_000
    # both are untold: the life of the caches, and the tier
    price = book.price(an_attempt(model="m", usage=written, cache_1h_bound=60, asked_tier="priority"))
    assert price.rates is not None
    most = 2 * (40 * 4 + 60 * 8 + 10 * 8) * 1_000_000
    assert perhaps_of(an_attempt(usage=written), price.rates, price.most) == most - cost_of(written, price.rates)  # type: ignore[operator]
    # what bounds an attempt of unknown usage makes no other price
    assert book.price(an_attempt(model="m", input_bound=60, cache_1h_bound=60)).most is None


def test_the_rate_of_a_cache_of_an_hour_is_that_of_the_list_then_twice_the_input() -> None:
    at = 1_796_000_000.0
    listed = PriceBook("anthropic", {}).schedule("claude-sonnet-4-5", at)
    assert listed is not None
    assert (listed.base.cache_write_1h, listed.of(200_001).cache_write_1h) == (6_000_000, 12_000_000)
    own = {
        "stated": {"input": 1, "output": 4, "cache_write": 1.25, "cache_write_1h": 3, "batch": 0.5},
        "not": {"input": 1, "output": 4, "cache_write": 1.25},
        "dear": {"input": 1, "output": 4, "cache_write": 5},
    }
    book = PriceBook(None, own)
    schedules = {(model, tier): book.schedule(model, at, tier) for model in own for tier in ("standard", "batch")}
    hours = {name: found.base.cache_write_1h for name, found in schedules.items() if found is not None}
    assert hours["stated", "standard"] == 2 * hours["stated", "batch"] == 3_000_000
    assert (hours["not", "standard"], hours["dear", "standard"]) == (2_000_000, 5_000_000)


def test_reasoning_has_the_rate_of_the_list() -> None:
    listed = PriceBook("openrouter", {}).schedule("perplexity/sonar-deep-research", 1_796_000_000.0)
    assert listed is not None
    assert (listed.base.output, listed.base.reasoning) == (8_000_000, 3_000_000)


def test_beyond_a_step_all_tokens_have_its_rates() -> None:
    double = Rates(
        **{name: 2 * rate for name, rate in structs.asdict(MINI).items()} | {"output": 3_000_000, "reasoning": 3_000_000}
    )
    schedule = Schedule(base=MINI, steps=((200_000, double),))
    assert [schedule.of(tokens) for tokens in (200_000, 200_001)] == [MINI, double]
    # the bound of a request knows no cache, and takes the dearest kind of token
    assert schedule.worst(100).most(100, 10) == 100 * 312_500 + 10 * 2_000_000
    assert schedule.worst(200_001).most(200_001, 10) == 200_001 * 625_000 + 10 * 3_000_000


def test_list_prices_by_tier_and_day() -> None:
    book = PriceBook("openai", {})
    at = 1_796_000_000.0  # November 2026
    standard, flex, batch = (book.schedule("gpt-5-mini", at, tier) for tier in ("standard", "flex", "batch"))
    assert standard is not None
    assert flex is not None
    assert batch is not None
    assert (standard.base.input, standard.base.output, standard.base.cached_input) == (250_000, 2_000_000, 25_000)
    for half in (flex, batch):
        assert (half.base.input, half.base.output, half.base.cached_input) == (125_000, 1_000_000, 12_500)
    # before the day from which on the list has rates of these tiers: half all the same
    early = book.schedule("gpt-5-mini", 1_760_000_000.0, "batch")
    assert early is not None
    assert early.base.input == 125_000
    assert book.schedule("gpt-5-mini-of-mine", at) is None
    assert book.of("alias", "gpt-5-mini", at, None) == standard


def test_a_tier_without_rates_of_its_own_has_no_price() -> None:
    at = 1_796_000_000.0
    for book in (PriceBook("openai", {"m": {"input": 1, "output": 4}}), PriceBook(None, {"m": {"input": 1, "output": 4}})):
        assert [book.schedule("m", at, tier) is None for tier in TIERS] == [False, False, False, True, True]
    for vendor, model in (("google", "gemini-2.5-pro"), ("anthropic", "claude-sonnet-4-5")):
        assert [PriceBook(vendor, {}).schedule(model, at, tier) is None for tier in TIERS] == [False, False, False, True, True]
    # where a tier is not sold, it is not half as dear
    book = PriceBook("anthropic", {})
    standard, flex, batch = (book.schedule("claude-sonnet-4-5", at, tier) for tier in ("standard", "flex", "batch"))
    assert standard is not None
    assert (flex, batch) == (standard, standard.times(Decimal("0.5")))
    own = PriceBook(None, {"m": {"input": 1, "output": 4, "priority": 1.75}})
    dear = own.schedule("m", at, "priority")
    assert dear is not None
    assert (dear.base.input, dear.base.output) == (1_750_000, 7_000_000)
    # the list has rates of this tier, and what is asked for by the names of a standard one is no tier
    book = PriceBook("openai", {})
    listed = book.schedule("gpt-5-mini", at, "priority")
    assert listed is not None
    assert listed.base.input == 450_000
    for word in ("", "auto", "default", "standard_only", "on_demand"):
        assert book.of("gpt-5-mini", None, at, word) == book.schedule("gpt-5-mini", at)


def test_prices_that_change_at_half_hours() -> None:
    times = [1_796_085_000.0 + 60 * minute for minute in (-20, 20)]
    for order in (times, times[::-1]):
        book = PriceBook("deepseek", {})
        found = {at: schedule.base.input for at in order if (schedule := book.schedule("deepseek-chat", at)) is not None}
        assert [found[at] for at in times] == [135_000, 270_000]


@pytest.mark.parametrize("model", ["sonar", "sonar-pro", "sonar-deep-research"])
def test_a_model_that_costs_more_than_its_tokens_has_no_price(model: str) -> None:
    book = PriceBook("perplexity", {})
    assert book.schedule(model, 1_796_000_000.0) is None
    assert book.highest(model, 1_796_000_000.0, None, 10) is None
    assert book.beside(model, 1_796_000_000.0) in ("a fee for each request", "a price of citations")


def test_list_prices_with_a_step() -> None:
    book = PriceBook("anthropic", {})
    schedule = book.schedule("claude-sonnet-4-5", 1_796_000_000.0)
    assert schedule is not None
    # of an attempt of unknown usage, what it may have had decides
    cut = structs.replace(an_attempt(model="claude-sonnet-4-5"), started_at=1_796_000_000.0)
    found = [book.price(structs.replace(cut, input_bound=most)).rates for most in (200_000, 200_001)]
    assert found == [schedule.base, schedule.steps[0][1]]
    assert [beyond for beyond, _ in schedule.steps] == [200_000]
    assert (schedule.of(200_000).input, schedule.of(200_001).input) == (3_000_000, 6_000_000)
    assert (schedule.base.cache_write, schedule.base.cached_input) == (3_750_000, 300_000)


def test_no_list_price_at_an_address_of_ones_own() -> None:
    assert PriceBook(None, {}).of("gpt-5-mini", "gpt-5-mini", 1_796_000_000.0, None) is None


def test_prices_of_ones_own_come_first() -> None:
    own = {"gpt-5-mini": {"input": 0.1, "output": 1, "flex": 0.25, "from": "2026-01-01"}}
    book = PriceBook("openai", own)
    now, before = 1_796_000_000.0, 1_760_000_000.0
    mine = book.schedule("gpt-5-mini", now)
    assert mine is not None
    assert (mine.base.input, mine.base.cached_input, mine.base.reasoning) == (100_000, 100_000, 1_000_000)
    flex = book.schedule("gpt-5-mini", now, "flex")
    assert flex is not None
    assert flex.base.input == 25_000
    batch = book.schedule("gpt-5-mini", now, "batch")
    assert batch is not None
    assert batch.base.input == 50_000
    listed = book.schedule("gpt-5-mini", before)
    assert listed is not None
    assert listed.base.input == 250_000


def test_prices_that_a_run_is_given_replace_those_of_the_same_models_alone() -> None:
    one, other = {"input": 1, "output": 4}, {"input": 2, "output": 8}
    assert joined({"a": one, "b": one}, {"b": other}) == {"a": one, "b": other}
    assert joined("list", {"a": one}) == joined({"a": one}, "list") == {"list": True, "a": one}
    assert joined(None, {"a": one}) == {"a": one}


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"input": 1}, "needs output"),
        ({"input": 1, "outptu": 2}, "did you mean output?"),
        ({"input": -1, "output": 2}, "input in"),
        ({"input": float("nan"), "output": 2}, "input in"),
        ({"input": True, "output": 2}, "input in"),
        ({"input": "1", "output": 2}, "input in"),
        ({"input": 1, "output": 2, "from": "soon"}, "a date such as"),
        ({"input": 1, "output": 2, "from": datetime(2026, 10, 1, 18, tzinfo=UTC)}, "a date such as"),
        ({"input": 1, "output": 2, "priority": "2"}, "a factor of the standard rates"),
        (5, "must be a table"),
    ],
)
def test_prices_that_are_none(table: object, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        PriceBook(None, {"m": table})


def test_the_highest_rates_that_a_request_can_reach() -> None:
    at = 1_796_000_000.0
    book = PriceBook("openai", {})
    # the tier of a project may be a dearer one than the request asks for
    highest = book.highest("gpt-5-mini", at, None, 1000)
    assert highest is not None
    assert (highest.input, highest.output) == (450_000, 3_600_000)
    assert book.highest("gpt-5-mini", at, "flex", 1000) == highest
    assert book.highest("gpt-5-mini-of-mine", at, None, 1000) is None
    # a tier without a price has no highest one, and is no reason not to send what asks for another
    own = PriceBook(None, {"m": {"input": 1, "output": 4}})
    assert [own.highest("m", at, tier, 10) is None for tier in (None, "default", "flex", "priority")] == [
        False,
        False,
        False,
        True,
    ]
    # an answer of more than 200,000 tokens of input costs twice as much
    small, large = (PriceBook("anthropic", {}).highest("claude-sonnet-4-5", at, None, size) for size in (200_000, 200_001))
    assert small is not None
    assert large is not None
    assert (small.highest_input, large.highest_input) == (3_750_000, 7_500_000)


def test_the_highest_rates_hold_what_is_about_to_change_and_what_an_answer_may_name() -> None:
    midnight = 1_767_225_600.0
    own = {"gpt-5-mini": {"input": 1, "output": 9, "from": "2026-01-01"}, "gpt-5": {"input": 20, "output": 1}}
    book = PriceBook("openai", own)
    before, soon = (book.highest("gpt-5-mini", midnight - ago, None, 10) for ago in (7200, 60))
    assert before is not None
    assert soon is not None
    assert (before.output, soon.output) == (2_000_000, 9_000_000)
    # a name that only the list knows may be answered by one with a stated price
    listed = book.highest("gpt-5-nano", midnight, None, 10)
    assert listed is not None
    assert listed.input == 20_000_000
    # a price that begins later than in an hour is none yet
    assert PriceBook(None, {"m": {"input": 1, "output": 1, "from": "2026-01-01"}}).highest("m", midnight - 7200, None, 1) is None


def test_rows_that_are_left_cost_what_a_sample_says_until_half_have_an_outcome_and_then_what_the_others_did() -> None:
    money, expected = Money(spent=900, priced=30), Projection(left=10, cost=200)
    assert [projected(money, 30, left, expected) for left in (10, 6, 5, 0)] == [900 + 200, 900 + 120, 900 + 150, 900]
    # fewer rows than ten tell nothing
    assert [projected(money, rows, 6) for rows in (30, 10, 9, 0)] == [900 + 180, 900 + 540, None, None]
    # that refusals cost nothing tells of no answer, and free answers do
    assert [projected(Money(), 19, 6, answered=answered) for answered in (True, False)] == [0, None]
    # of the rows with an outcome, nobody knows how many are part of the sum
    assert projected(structs.replace(money, unpriced=1), 30, 5) is None
    assert projected(Money(unpriced=1), 1, 9, expected) is None


@pytest.mark.parametrize(
    ("amount", "text"),
    [(0, "$0.00"), (1, "$0.000000000001"), (4_200_000_000, "$0.0042"), (1_204 * 10**12, "$1,204.00"), (-5 * 10**12, "-$5.00")],
)
def test_amounts_as_a_person_reads_them(amount: int, text: str) -> None:
    assert shown(amount) == text
