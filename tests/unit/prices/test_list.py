"""What the list says that models cost, by our arithmetic and by that of the package which carries the list."""

from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from genai_prices import Usage as ListUsage
from genai_prices.data_snapshot import get_snapshot
from genai_prices.types import ModelInfo, Provider

from runner.model import Usage
from runner.prices import listed
from runner.prices.rates import Schedule, cost_of

DATES = [datetime(2026, 3, 1, 12, tzinfo=UTC), datetime(2026, 11, 30, 16, 40, tzinfo=UTC)]
SIZES = (900, 250_000)
"""Tokens of input: below and above the steps of prices."""
CONTEXTS = {
    "standard": {},
    "batch": {"processing": "batch"},
    "flex": {"service_tier": "flex"},
    "priority": {"service_tier": "priority"},
}
SOLD_AT_HALF = ("batch", "flex")


def models() -> Iterator[tuple[Provider, ModelInfo]]:
    """Yield each model that is found by its name."""
    for provider in get_snapshot().providers:
        for model in provider.models:
            if listed._model(provider.id, model.id) is model:
                yield provider, model


def costs(provider: Provider, model: ModelInfo, when: datetime, context: dict[str, str], read: int) -> tuple[Usage, Decimal]:
    """Return the tokens of a request, and what it costs by the package, in picodollars."""
    prices = model.get_prices(when, context)
    # a cache of an hour is priced by us where the list does not
    hour = 20 if getattr(prices, "cache_write_1h_mtok", None) is not None else 0
    theirs = ListUsage(
        input_tokens=read,
        output_tokens=300,
        cache_read_tokens=100,
        cache_write_tokens=50,
        cache_write_1h_tokens=hour,
        output_reasoning_tokens=200,
    )
    ours = Usage(
        input_tokens=read,
        output_tokens=300,
        cached_tokens=100,
        cache_write_tokens=50,
        cache_write_1h_tokens=hour,
        reasoning_tokens=200,
    )
    found = model.calc_price(theirs, provider, genai_request_timestamp=when, price_context=context)
    return ours, found.total_price * 10**12


def schedules(provider: Provider, model: ModelInfo, when: datetime) -> Iterator[tuple[str, Schedule]]:
    for tier in CONTEXTS:
        found = listed.schedule(provider.id, model.id, when.timestamp(), tier)
        if found is not None:
            yield tier, found


@pytest.mark.parametrize("when", DATES, ids=str)
def test_every_model_costs_what_the_list_says(when: datetime) -> None:
    compared = dict.fromkeys(CONTEXTS, 0)
    wrong = []
    for provider, model in models():
        standard = listed.schedule(provider.id, model.id, when.timestamp())
        for tier, schedule in schedules(provider, model, when):
            for read in SIZES:
                usage, expected = costs(provider, model, when, CONTEXTS[tier], read)
                if tier in SOLD_AT_HALF and standard is not None and _has_no_rates(model, when, tier):
                    expected *= listed.factor(provider.id, tier) or 0
                # a rate with more than six decimals is rounded to a whole picodollar
                cost = cost_of(usage, schedule.of(read))
                if cost is None or abs(cost - expected) > (read + 300) / 2 * (expected != round(expected)):
                    wrong.append((provider.id, model.id, tier, read, cost, expected))
                compared[tier] += 1
    assert wrong == []
    assert compared["standard"] > 3_000
    assert compared["batch"] > 300
    assert compared["priority"] > 20 or when == DATES[0]


def _has_no_rates(model: ModelInfo, when: datetime, tier: str) -> bool:
    """Return True if the list gives the full price for a tier."""
    return model.get_prices(when, CONTEXTS[tier]) == model.get_prices(when)


def test_models_with_a_fee_or_citations_are_the_only_ones_with_tokens_and_no_price() -> None:
    unknown = {
        model.id
        for provider, model in models()
        if listed.schedule(provider.id, model.id, DATES[1].timestamp()) is None
        and None not in (getattr(model.get_prices(DATES[1]), name, None) for name in ("input_mtok", "output_mtok"))
    }
    assert unknown == {"sonar", "sonar-deep-research", "sonar-pro", "sonar-reasoning", "sonar-reasoning-pro"}
