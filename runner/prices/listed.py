"""The providers' list prices, from the data that genai-prices carries. Nothing is fetched."""

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from runner.errors import UsageError
from runner.prices.rates import Rates, Schedule, per_token

if TYPE_CHECKING:
    from genai_prices.types import ModelPrice

HALF = Decimal("0.5")
"""What flex and batch cost, as a part of the standard rates, where the list does not say it."""


def schedule(provider: str, model: str, at: float, tier: str = "standard") -> Schedule | None:
    """Return the list prices of a model; None if the list does not have it.

    provider: ``openai``, ``anthropic`` or another one by the list's name. at: instant of the request, in seconds since the epoch.
    tier: ``standard``, ``flex``, ``batch``, or another service tier by the provider's name. Raises UsageError if the extra
    ``prices`` is not installed.
    """
    try:
        from genai_prices import data_snapshot
    except ImportError:
        raise UsageError("list prices need the extra: pip install 'prompt-runner[prices]'; or give your own ([prices])") from None
    when = datetime.fromtimestamp(at, UTC)
    try:
        _, found = data_snapshot.get_snapshot().find_provider_model(model, None, provider, None)
    except LookupError:
        return None
    standard = found.get_prices(when)
    if tier == "standard":
        return _schedule(standard)
    varied = found.get_prices(when, _CONTEXTS.get(tier, {"service_tier": tier}))
    made = _schedule(varied)
    if made is not None and tier in _CONTEXTS and made == _schedule(standard):
        # for many models the list has no rates of these tiers, and gives the full price (measured with 0.2.3)
        return made.times(HALF)
    return made


_CONTEXTS: Mapping[str, Mapping[str, str]] = {"batch": {"processing": "batch"}, "flex": {"service_tier": "flex"}}
"""What the list wants to be told of a tier: with ``service_tier: batch`` it silently gives the full price (measured with 0.2.3)."""


def _schedule(prices: "ModelPrice") -> Schedule | None:
    """Return the prices of texts; None if the list has none for input or output."""
    starts = sorted({tier.start for value in vars(prices).values() for tier in getattr(value, "tiers", ())})
    base = _rates(prices, -1)
    if base is None:
        return None
    steps = ((start, _rates(prices, start)) for start in starts)
    return Schedule(base=base, steps=tuple((start, rates) for start, rates in steps if rates is not None))


def _rates(prices: "ModelPrice", start: int) -> Rates | None:
    """Return the rates that hold beyond so many tokens of input."""
    read, written = _at(prices.input_mtok, start), _at(prices.output_mtok, start)
    if read is None or written is None:
        return None
    cached, stored = _at(prices.cache_read_mtok, start), _at(prices.cache_write_mtok, start)
    return Rates(
        input=read,
        output=written,
        # without a rate of their own, tokens of a cache cost what other input costs
        cached_input=read if cached is None else cached,
        cache_write=read if stored is None else stored,
        reasoning=written,
    )


def _at(price: Any, start: int) -> int | None:
    if price is None:
        return None
    if isinstance(price, Decimal):
        return per_token(price)
    rate = price.base
    for tier in price.tiers:
        if tier.start <= start:
            rate = tier.price
    return per_token(rate)
