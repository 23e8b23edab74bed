"""The prices that a person states: ``[prices."MODEL"]`` of a job file, in dollars per million tokens."""

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import TypeGuard

from msgspec import Struct

from runner.errors import UsageError
from runner.model import Json
from runner.money import STANDARD, Rates
from runner.prices.rates import Schedule, hour_rate, per_token
from runner.text import nearest

_RATES = ("input", "output", "cached_input", "cache_write", "cache_write_1h", "reasoning")
FACTORS = ("batch", "flex", "priority")
"""Service tiers whose prices are stated as factors of the standard rates."""
NAMES = (*_RATES, *FACTORS, "from")
LIST = "list"
"""The value of the setting for the provider's list prices at any address; among stated prices, the key for these too."""
_LARGEST = 1_000_000
"""Dollars per million tokens: a thousand times the dearest price on the lists. More is a price per token, or a slip."""


class Stated(Struct, frozen=True, kw_only=True):
    """The prices of one model."""

    standard: Schedule
    # what these tiers cost, as factors of the standard rates
    batch: Decimal | None = None
    flex: Decimal | None = None
    priority: Decimal | None = None
    # seconds since the epoch from which on they hold; None: always
    since: float | None = None

    def holds(self, at: float) -> bool:
        """Return True if the prices hold at an instant, in seconds since the epoch."""
        return self.since is None or at >= self.since

    def of_tier(self, tier: str, factor: Decimal | None) -> Schedule | None:
        """Return the rates of a service tier; None if they are not known.

        factor: what it costs where that is not stated; None: not known.
        """
        if tier == STANDARD:
            return self.standard
        said: Decimal | None = getattr(self, tier) if tier in FACTORS else None
        part = factor if said is None else said
        return self.standard.times(part) if part is not None else None


def stated(model: str, table: Json) -> Stated:
    """Read the prices of a model. Raises UsageError."""
    where = f'[prices."{model}"]'
    if not isinstance(table, Mapping):
        raise UsageError(f"{where} must be a table such as {{input = 0.25, output = 2.0}}, in dollars per million tokens")
    if (found := stray(table, NAMES)) is not None:
        name, hint = found
        raise UsageError(f"{where} has no price called {name!r}; {hint}")
    given = {name: _amount(where, name, table[name]) for name in (*_RATES, *FACTORS) if name in table}
    missing = [name for name in ("input", "output") if name not in given]
    if missing:
        raise UsageError(f"{where} needs {' and '.join(missing)}, in dollars per million tokens")
    read, written = given["input"], given["output"]
    rates = {
        "input": read,
        "output": written,
        "cached_input": given.get("cached_input", read),
        "cache_write": given.get("cache_write", read),
        "reasoning": given.get("reasoning", written),
    }
    whole = {name: per_token(amount) for name, amount in rates.items()}
    hour = per_token(given["cache_write_1h"]) if "cache_write_1h" in given else hour_rate(whole["input"], whole["cache_write"])
    return Stated(
        standard=Schedule(base=Rates(**whole, cache_write_1h=hour)),
        batch=given.get("batch"),
        flex=given.get("flex"),
        priority=given.get("priority"),
        since=_instant(where, table["from"]) if "from" in table else None,
    )


def check(tables: Mapping[str, Json]) -> None:
    """Raise UsageError if the prices of a model cannot be read."""
    for model, table in models_of(tables).items():
        stated(model, table)


def stray(table: Mapping[str, object], known: Sequence[str]) -> tuple[str, str] | None:
    """Return the first key of a table that it cannot have, and a hint what was meant; None if there is none."""
    name = next((str(name) for name in table if name not in known), None)
    if name is None:
        return None
    near = nearest(name, known)
    return name, f"did you mean {near}?" if near else f"it may have {', '.join(known)}"


def models_of(prices: Json) -> Mapping[str, Json]:
    """Return the tables of a setting ``prices``, by model."""
    tables = prices if isinstance(prices, Mapping) else {}
    return {model: table for model, table in tables.items() if not (model == LIST and table is True)}


def has_list(prices: Json) -> bool:
    """Return True if a setting ``prices`` asks for list prices at any address."""
    return prices == LIST or (isinstance(prices, Mapping) and prices.get(LIST) is True)


def joined(before: Json, prices: Json) -> Json:
    """Return the prices of a run to which others are given: those of other models stay. before: None for no prices."""
    if before is None or prices == before:
        return prices
    asked = {LIST: True} if has_list(before) or has_list(prices) else {}
    return {**asked, **models_of(before), **models_of(prices)}


def _amount(where: str, name: str, value: Json) -> Decimal:
    if not _is_number(value) or not 0 <= value <= _LARGEST:
        unit = "a factor of the standard rates, such as 0.5" if name in FACTORS else "dollars per million tokens"
        numbers = f"from 0 to {_LARGEST:,}" if _is_number(value) and value > 0 else "of 0 or more"
        raise UsageError(f"{name} in {where} must be a number {numbers}, {unit}, not {value!r}")
    # the text of a float is what the person wrote
    return Decimal(str(value))


def _is_number(value: Json) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _instant(where: str, value: Json) -> float:
    day = value
    if isinstance(value, str):
        try:
            day = date.fromisoformat(value)
        except ValueError:
            day = None
    # a time of day is a date too, whose time would be lost
    if not isinstance(day, date) or isinstance(day, datetime):
        raise UsageError(
            f"from in {where} must be a date such as 2026-10-01, from whose beginning in UTC it holds, not {str(value)!r}"
        )
    return datetime.combine(day, time(), UTC).timestamp()
