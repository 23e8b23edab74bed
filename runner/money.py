"""What tokens cost, in whole numbers: a sum of a million costs has no rounding error.

The unit is the picodollar. A rate of 1 dollar per million tokens is 1,000,000 picodollars per token, so each rate with up to six
decimals is a whole number. Below ``model``, like ``pace``: an attempt has its price.
"""

from collections.abc import Mapping
from decimal import Decimal
from typing import TypedDict

from msgspec import Struct

PICO = 10**12
"""Picodollars in a dollar."""
CURRENCY = "USD"
STANDARD = "standard"
"""The service tier of an ordinary request."""
FLEX = "flex"
"""The service tier that costs less, answers later and may be full; the word of all providers that have one."""


class Rates(Struct, frozen=True, kw_only=True):
    """Picodollars per token."""

    input: int
    output: int
    # tokens that came from a cache, and tokens that were written to one
    cached_input: int
    cache_write: int
    # of the output: tokens that were spent on reasoning
    reasoning: int

    @property
    def highest_input(self) -> int:
        """The most that one token of the input can cost."""
        return max(self.input, self.cached_input, self.cache_write)

    @property
    def highest_output(self) -> int:
        """The most that one token of the output can cost."""
        return max(self.output, self.reasoning)

    def cost(self, *, fresh: int, cached: int, cache_write: int, plain: int, reasoning: int) -> int:
        """Return what tokens cost, in picodollars. fresh: input from no cache and for none. plain: output but reasoning."""
        return (
            fresh * self.input
            + cached * self.cached_input
            + cache_write * self.cache_write
            + plain * self.output
            + reasoning * self.reasoning
        )

    def saved(self, *, cached: int, cache_write: int) -> int:
        """Return how much less tokens cost because of a cache, in picodollars; below 0 if writing to it cost more."""
        return cached * (self.input - self.cached_input) - cache_write * (self.cache_write - self.input)

    def most(self, input_tokens: int, output_tokens: int) -> int:
        """Return the most that so many tokens can cost, in picodollars."""
        return input_tokens * self.highest_input + output_tokens * self.highest_output


class Price(Struct, frozen=True, kw_only=True):
    """At what rates an attempt is billed. rates: None if they are not known, which is not 0."""

    # the model that was asked for, and the tier that served it
    model: str
    tier: str
    rates: Rates | None


class Money(Struct, frozen=True, kw_only=True):
    """What attempts cost, in picodollars."""

    # of attempts whose tokens and rates are known
    spent: int = 0
    # of that, on attempts that ended in an error
    failed: int = 0
    # what attempts may cost in addition, whose tokens are not known; None: some have no upper bound
    perhaps: int | None = 0
    # attempts that were billed, or may have been, at rates that are not known
    unpriced: int = 0
    # attempts at known rates that were billed, or may have been
    priced: int = 0
    # what caches have saved: what is read from them costs less than other input, and what is written to them may cost more
    saved: int = 0
    # True: there are attempts of which nothing is known; they are not counted
    unknown: bool = False

    @property
    def known(self) -> bool:
        """False if all that was billed was billed at rates that are not known."""
        return self.priced > 0 or not (self.unpriced or self.unknown)

    def plus(self, other: "Money") -> "Money":
        """Return both together."""
        return Money(
            spent=self.spent + other.spent,
            failed=self.failed + other.failed,
            perhaps=None if self.perhaps is None or other.perhaps is None else self.perhaps + other.perhaps,
            unpriced=self.unpriced + other.unpriced,
            priced=self.priced + other.priced,
            saved=self.saved + other.saved,
            unknown=self.unknown or other.unknown,
        )


class Projection(Struct, frozen=True, kw_only=True):
    """What the rows that were left at some time were expected to cost, in picodollars."""

    left: int
    cost: int


def projected(money: Money, rows: int, left: int, expected: Projection | None = None) -> int | None:
    """Return what a run will have cost, in picodollars, if the rows that are left cost what the others did; None if unknown.

    rows: those with an outcome for which something was sent. left: those without one. expected: by a sample, in which long rows
    are more frequent than in the rest; it counts until half of what was left then has an outcome.
    """
    if not left:
        return money.spent
    if expected is not None and 2 * left > expected.left and money.known:
        return money.spent + expected.cost * left // expected.left
    return money.spent + money.spent * left // rows if rows > 0 and money.known else None


class Costs(TypedDict):
    """An amount of money as the fields of a summary have it, in dollars. None: not known."""

    cost: float | None
    cost_failed_attempts: float | None
    cost_perhaps: float | None
    cost_projected: float | None
    cost_saved_by_cache: float | None
    unpriced_attempts: int


def costs(money: Money, projected: int | None) -> Costs:
    """Return the fields of a summary."""
    return {
        "cost": _float(money.spent if money.known else None),
        "cost_failed_attempts": _float(money.failed if money.known else None),
        "cost_perhaps": _float(money.perhaps if money.known else None),
        "cost_projected": _float(projected if money.known else None),
        "cost_saved_by_cache": _float(money.saved if money.known else None),
        "unpriced_attempts": money.unpriced,
    }


def _float(picodollars: int | None) -> float | None:
    return None if picodollars is None else picodollars / PICO


def dollars(picodollars: int) -> Decimal:
    """Return an amount in dollars, without rounding."""
    return Decimal(picodollars).scaleb(-12)


def shown(picodollars: int) -> str:
    """Return an amount as a person reads it: ``$0.0042``, ``$12.30``, ``$1,204.00``. Two digits of a small one are shown."""
    amount = dollars(picodollars)
    if amount == 0 or amount >= Decimal("0.995"):
        return f"${amount:,.2f}"
    digits = max(2, 1 - amount.adjusted())
    return f"${amount:.{min(digits, 8)}f}"


def tier_asked(tier: str | None, extra_body: Mapping[str, object] | None) -> str | None:
    """Return the service tier that a request asks for, by its own or in its ``extra_body``; None if it asks for none."""
    asked = tier or (extra_body or {}).get("service_tier")
    return asked if isinstance(asked, str) else None
