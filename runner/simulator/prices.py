"""What the simulator charges for a token, and the reader of ``--prices``.

Money is whole picodollars: one dollar per million tokens is 1,000,000 picodollars a token. Nothing is rounded; a price that would
need it is refused. This module shares no code with the client's books, which are compared with it.
"""

import json
import tomllib
from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal, get_args

import msgspec

from runner.errors import UsageError

_PICODOLLARS = 1_000_000
"""Picodollars a token that are one dollar per million tokens."""

_HOUR_FACTOR = 2
"""What a token costs that is written to a cache for an hour and has no price of its own, as a multiple of an input token
(Anthropic, guide *Prompt caching*)."""

Billing = Literal["standard", "flex", "priority", "batch"]


class Price(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """The price of one model in dollars per million tokens, with the keys of ``[prices."MODEL"]`` of a job file."""

    input: Decimal
    output: Decimal
    # None: as input
    cached_input: Decimal | None = None
    cache_write: Decimal | None = None
    # into a cache that is kept for an hour; None: twice input, and no less than into another one
    cache_write_1h: Decimal | None = None
    # None: as output
    reasoning: Decimal | None = None
    # factors of all rates
    batch: Decimal = Decimal("0.5")
    flex: Decimal = Decimal(1)
    # the client takes it as unknown where it is not stated; the simulator must charge something
    priority: Decimal = Decimal(2)
    # taken so that one table serves the simulator and the client: the simulator's prices are always valid
    valid_from: date | None = msgspec.field(default=None, name="from")


_PLAIN = Price(input=Decimal(1), output=Decimal(4), cached_input=Decimal("0.1"), flex=Decimal("0.5"))
STANDARD = {"openai": _PLAIN, "anthropic": msgspec.structs.replace(_PLAIN, cache_write=Decimal("1.25"))}
"""Dialect -> the price of every model that has none of its own."""


class Rates(msgspec.Struct, frozen=True, kw_only=True):
    """What a token of each kind costs, in whole picodollars."""

    fresh: int
    cached: int
    written: int
    written_1h: int
    # a token of text; one of reasoning is apart
    output: int
    reasoning: int


def billing_of(tier: str) -> Billing:
    """Return which rates hold for a service tier, as a dialect names it."""
    match tier:
        case "flex" | "priority" | "batch":
            return tier
    return "standard"


def rates(price: Price, billing: Billing) -> Rates:
    """Return the rates of a model. Raises UsageError if one of them is no whole number of picodollars."""
    factor = {"flex": price.flex, "priority": price.priority, "batch": price.batch}.get(billing, Decimal(1))
    cached = price.input if price.cached_input is None else price.cached_input
    written = price.input if price.cache_write is None else price.cache_write
    hour = max(price.input * _HOUR_FACTOR, written) if price.cache_write_1h is None else price.cache_write_1h
    return Rates(
        fresh=_whole("input", price.input * factor),
        cached=_whole("cached_input", cached * factor),
        written=_whole("cache_write", written * factor),
        written_1h=_whole("cache_write_1h", hour * factor),
        output=_whole("output", price.output * factor),
        reasoning=_whole("reasoning", (price.output if price.reasoning is None else price.reasoning) * factor),
    )


def _whole(name: str, dollars: Decimal) -> int:
    picodollars = dollars * _PICODOLLARS
    if picodollars != picodollars.to_integral_value():
        raise UsageError(f"{name} comes to {dollars.normalize():f} dollars per million tokens; at most six decimals are possible")
    return int(picodollars)


def check_prices(prices: Mapping[str, Price]) -> None:
    """Raise UsageError unless every price makes sense and can be charged without rounding."""
    for model, price in prices.items():
        for name, value in msgspec.structs.asdict(price).items():
            if isinstance(value, Decimal) and not (value.is_finite() and value >= 0):
                raise UsageError(f"the price of {model!r}: {name} must be 0 or more, not {value}")
        for billing in get_args(Billing):
            try:
                rates(price, billing)
            except UsageError as error:
                raise UsageError(f"the price of {model!r} ({billing} tier): {error}") from None


def parse_prices(text: str) -> dict[str, Price]:
    """Read the prices by model: a JSON object, or the name of a ``.json`` or ``.toml`` file, where they may lie under ``prices``.

    Raises UsageError if there is no such file, if it cannot be read, or if a price makes no sense.
    """
    given = _table(text)
    tables = given.get("prices", given)
    if not isinstance(tables, dict):
        raise UsageError("prices must be a table of models, each with at least input and output")
    prices = {model: _price(model, table) for model, table in tables.items()}
    check_prices(prices)
    return prices


def _price(model: str, table: Any) -> Price:
    try:
        return msgspec.convert(table, Price)
    except msgspec.ValidationError as error:
        raise UsageError(f"the price of {model!r} cannot be used: {error}; it needs at least input and output") from None


def _table(text: str) -> dict[str, Any]:
    is_file = not text.lstrip().startswith("{")
    try:
        content = Path(text).read_text(encoding="utf-8") if is_file else text
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8"
        raise UsageError(f"the prices in {text!r} cannot be read: {reason}") from None
    where = f"the prices in {text!r} are" if is_file else "the prices are"
    try:
        if is_file and text.endswith(".toml"):
            return tomllib.loads(content, parse_float=Decimal)
        read = json.loads(content, parse_float=Decimal)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{where} not valid: {error}") from None
    if not isinstance(read, dict):
        raise UsageError(f"{where} not a table of models")
    return read
