"""The providers' list prices, from the data that genai-prices carries. Nothing is fetched."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from runner.money import Rates
from runner.prices.rates import Schedule, hour_rate, per_token

if TYPE_CHECKING:
    from genai_prices.data_snapshot import DataSnapshot
    from genai_prices.types import ModelInfo, ModelPrice

HALF = Decimal("0.5")
_SOLD = {
    "flex": ("azure", "google", "openai"),
    "batch": ("anthropic", "azure", "fireworks", "google", "groq", "mistral", "openai", "together"),
}
"""Which vendors sell a tier at half of the standard rates."""
_BESIDE = {"requests_kcount": "a fee for each request", "output_citation_mtok": "a price of citations"}
"""What the list has for some models beside their tokens, in words. No answer tells how much of it is billed."""


class NoListError(Exception):
    """The extra with the list is not installed."""


def vendor(base_url: str | None, dialect: str, *, anywhere: bool) -> str | None:
    """Return whose list prices hold at an address, by the list's name; None if nobody's.

    anywhere: the user says that list prices hold at this address too; then they are those of the vendor of the dialect. Raises
    NoListError if the extra ``prices`` is not installed.
    """
    found = next((one for one in _snapshot().providers if base_url and re.match(one.api_pattern, base_url)), None)
    if found is not None:
        return str(found.id)
    return dialect if anywhere else None


def schedule(vendor: str, model: str, at: float, tier: str = "standard") -> Schedule | None:
    """Return the list prices of a model; None if the list does not have it, or not for this tier, or has more than tokens count.

    vendor: by the list's name. at: instant of the request, in seconds since the epoch. tier: ``standard``, ``flex``, ``batch``,
    or another service tier by the provider's name. Raises NoListError.
    """
    found = _model(vendor, model)
    if found is None:
        return None
    when = datetime.fromtimestamp(at, UTC)
    prices = found.get_prices(when)
    if _beside(prices) is not None:
        return None
    standard = _schedule(prices)
    if tier == "standard" or standard is None:
        return standard
    made = _schedule(found.get_prices(when, _CONTEXTS.get(tier, {"service_tier": tier})))
    if made != standard:
        return made
    # for many models the list has no rates of a tier, and gives the full price (measured with 0.2.3)
    part = factor(vendor, tier)
    return standard.times(part) if part is not None else None


def factor(vendor: str | None, tier: str) -> Decimal | None:
    """Return what a service tier costs at a vendor, as a part of the standard rates, where no price says it; None: not known.

    Flex and batch cost no more than standard anywhere. Other tiers cost more, and how much differs.
    """
    if tier not in _SOLD:
        return None
    return HALF if vendor in _SOLD[tier] else Decimal(1)


def beside(vendor: str, model: str, at: float) -> str | None:
    """Return what the list has of a model beside its tokens, for which its price is not known, in words; None if nothing."""
    found = _model(vendor, model)
    return _beside(found.get_prices(datetime.fromtimestamp(at, UTC))) if found is not None else None


def limit(vendor: str, model: str) -> int | None:
    """Return how many tokens a request and its answer can have together; None if the list does not say. Raises NoListError."""
    found = _model(vendor, model)
    return found.context_window if found is not None else None


def _snapshot() -> "DataSnapshot":
    try:
        from genai_prices import data_snapshot
    except ImportError:
        raise NoListError from None
    return data_snapshot.get_snapshot()


def _model(vendor: str, model: str) -> "ModelInfo | None":
    """Return what the list has of a model. A router's name of it (``openai/gpt-5-mini``) is looked up at the vendor it names."""
    names = [(vendor, model)]
    before, slash, behind = model.partition("/")
    if slash:
        names.append((before, behind))
    for provider, name in names:
        try:
            return _snapshot().find_provider_model(name, None, provider, None)[1]
        except LookupError:
            continue
    return None


_CONTEXTS: Mapping[str, Mapping[str, str]] = {"batch": {"processing": "batch"}, "flex": {"service_tier": "flex"}}
"""What the list wants to be told of a tier: ``service_tier: batch`` silently gives the full price (measured with 0.2.3)."""


def _beside(prices: "ModelPrice") -> str | None:
    return next((words for name, words in _BESIDE.items() if getattr(prices, name, None) is not None), None)


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
    # which prices there are beside these is part of the list's data
    hour, thought = (_at(getattr(prices, name, None), start) for name in ("cache_write_1h_mtok", "output_reasoning_mtok"))
    stored = read if stored is None else stored
    return Rates(
        input=read,
        output=written,
        # without a rate of their own, tokens of a cache cost what other input costs
        cached_input=read if cached is None else cached,
        cache_write=stored,
        cache_write_1h=hour_rate(read, stored) if hour is None else hour,
        reasoning=written if thought is None else thought,
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
