"""What tokens cost, in whole numbers: a sum of a million costs has no rounding error.

The unit is the picodollar. A rate of 1 dollar per million tokens is 1,000,000 picodollars per token, so each rate with up to six
decimals is a whole number; one with more is rounded to it. Below ``model``, like ``pace``: an attempt has its price.
"""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import TypedDict

from msgspec import Struct

PICO = 10**12
"""Picodollars in a dollar."""
CURRENCY = "USD"
COSTS = ("max_cost", "max_cost_session")
"""The settings that are amounts of a budget, in dollars."""
LEAST_ROWS = 10
"""Answered rows, at the least, that tell what others will take."""
STANDARD = "standard"
"""The service tier of an ordinary request."""
FLEX = "flex"
"""The service tier that costs less, answers later and may be full; the word of all providers that have one."""
_ORDINARY = ("", "auto", "default", "standard", "standard_only", "on_demand")
"""What providers call the standard tier, in requests and answers; ``auto`` is it in a request."""
_CENTS = 2
"""Decimals of a dollar that are always shown."""


def tier_of(word: str | None) -> str:
    """Return the name of a service tier, as it is here: ``standard`` for what every provider words in its own way."""
    return STANDARD if word is None or word in _ORDINARY else word


def asks_for_flex(tier: object, extra_body: object) -> bool:
    """Return True if requests ask for the flex tier. tier, extra_body: the settings."""
    return FLEX in (tier, extra_body.get("service_tier") if isinstance(extra_body, Mapping) else None)


class Tokens(Struct, frozen=True, kw_only=True):
    """The tokens of one attempt, or of several together, by the kinds that have rates of their own."""

    # of the input: from no cache and for none, read from a cache, written to one, written to one that is kept for an hour
    fresh: int = 0
    cached: int = 0
    cache_write: int = 0
    cache_write_1h: int = 0
    # of the output: text, reasoning, and what the server does not tell apart
    plain: int = 0
    reasoning: int = 0
    unsplit: int = 0

    @property
    def read(self) -> int:
        """All input."""
        return self.fresh + self.cached + self.cache_write + self.cache_write_1h

    @property
    def written(self) -> int:
        """All output."""
        return self.plain + self.reasoning + self.unsplit


class Rates(Struct, frozen=True, kw_only=True):
    """Picodollars per token."""

    input: int
    output: int
    # tokens that came from a cache, and tokens that were written to one
    cached_input: int
    cache_write: int
    # of the output: tokens that were spent on reasoning
    reasoning: int
    # tokens that were written to a cache that is kept for an hour
    cache_write_1h: int

    @property
    def highest_input(self) -> int:
        """The most that one token of the input can cost, unless it is written to a cache for an hour."""
        return max(self.input, self.cached_input, self.cache_write)

    @property
    def highest_output(self) -> int:
        """The most that one token of the output can cost."""
        return max(self.output, self.reasoning)

    def cost(self, tokens: Tokens) -> int:
        """Return what tokens cost, in picodollars. What is not told apart counts at the lower rate: so much is certain."""
        return (
            tokens.fresh * self.input
            + tokens.cached * self.cached_input
            + tokens.cache_write * self.cache_write
            + tokens.cache_write_1h * self.cache_write_1h
            + tokens.plain * self.output
            + tokens.reasoning * self.reasoning
            + tokens.unsplit * min(self.output, self.reasoning)
        )

    def unsure(self, tokens: Tokens, most: "Rates | None" = None) -> int:
        """Return what tokens may cost beyond ``cost``, in picodollars, as they or their tier are not told apart.

        most: the highest rates that they may be billed at; None: these.
        """
        top = most or self
        return top.cost(tokens) + tokens.unsplit * abs(top.reasoning - top.output) - self.cost(tokens)

    def saved(self, tokens: Tokens) -> int:
        """Return how much less tokens cost because of a cache, in picodollars; below 0 if writing to it cost more."""
        written = tokens.cache_write * (self.cache_write - self.input)
        written_1h = tokens.cache_write_1h * (self.cache_write_1h - self.input)
        return tokens.cached * (self.input - self.cached_input) - written - written_1h

    def most(self, input_tokens: int, output_tokens: int, hour_tokens: int = 0) -> int:
        """Return the most that so many tokens can cost, in picodollars.

        hour_tokens: of the input, those that may be written to a cache that is kept for an hour.
        """
        hour = min(hour_tokens, input_tokens) * max(0, self.cache_write_1h - self.highest_input)
        return input_tokens * self.highest_input + hour + output_tokens * self.highest_output


def highest(rates: Sequence[Rates]) -> Rates:
    """Return the highest rate of each kind."""
    return Rates(**{name: max(getattr(one, name) for one in rates) for name in Rates.__struct_fields__})


def lowest(rates: Sequence[Rates]) -> Rates:
    """Return the lowest rate of each kind."""
    return Rates(**{name: min(getattr(one, name) for one in rates) for name in Rates.__struct_fields__})


class Price(Struct, frozen=True, kw_only=True):
    """At what rates an attempt is billed. rates: None if they are not known, which is not 0."""

    # the model that was asked for, and the tier that served it; where an answer names none, the tier that was asked for
    model: str
    tier: str
    rates: Rates | None
    # the highest rates that it may be billed at, if it is not known which tier served it; None: ``rates`` hold
    most: Rates | None = None


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
    # requests that are open, or may have been when their session was killed, and what of ``perhaps`` is for them
    open_requests: int = 0
    held: int | None = 0
    # of ``open_requests``: those of sessions without a budget that were killed, at most
    killed_requests: int = 0
    # what of ``perhaps`` is for tokens that are not told apart, and for answers that do not name their tier
    unsure: int = 0

    @property
    def known(self) -> bool:
        """False if all that was billed was billed at rates that are not known."""
        return self.priced > 0 or not (self.unpriced or self.unknown)

    def plus(self, other: "Money") -> "Money":
        """Return both together."""
        return Money(
            spent=self.spent + other.spent,
            failed=self.failed + other.failed,
            perhaps=_plus(self.perhaps, other.perhaps),
            unpriced=self.unpriced + other.unpriced,
            priced=self.priced + other.priced,
            saved=self.saved + other.saved,
            unknown=self.unknown or other.unknown,
            open_requests=self.open_requests + other.open_requests,
            held=_plus(self.held, other.held),
            killed_requests=self.killed_requests + other.killed_requests,
            unsure=self.unsure + other.unsure,
        )


def _plus(one: int | None, other: int | None) -> int | None:
    return None if one is None or other is None else one + other


class Projection(Struct, frozen=True, kw_only=True):
    """What the rows that were left at some time were expected to cost, in picodollars. drawn_from: rows of which it is known."""

    left: int
    cost: int
    drawn_from: int = 0

    def counts(self, left: int) -> bool:
        """Return True until half of what was left then has an outcome. left: rows without one now."""
        return 2 * left > self.left


def projected(
    money: Money, rows: int, left: int, expected: Projection | None = None, *, answered: bool = True, again: int = 0
) -> int | None:
    """Return what a run will have cost, in picodollars, if the rows that are left cost what the others did; None if unknown.

    rows: those with an outcome for which something was sent. left: those without one. expected: by a sample, in which long rows
    are more frequent than in the rest; it counts until half of what was left then has an outcome. answered: a row is done; that
    refusals cost nothing tells of no answer. again: what of the money newer answers of rows cost, which no row needs.
    """
    if not left:
        return money.spent
    if expected is not None and expected.counts(left) and money.known:
        return money.spent + expected.cost * left // expected.left
    # where some were billed at unknown prices, their share of the rows is not known
    known = money.known and not money.unpriced and (answered or money.spent > 0)
    return money.spent + max(0, money.spent - again) * left // rows if rows >= LEAST_ROWS and known else None


class Costs(TypedDict):
    """An amount of money as the fields of a summary have it, in dollars. None: not known."""

    cost: float | None
    cost_failed_attempts: float | None
    cost_perhaps: float | None
    cost_projected: float | None
    cost_saved_by_cache: float | None
    unpriced_attempts: int
    open_requests: int
    cost_open_requests: float | None


def costs(money: Money, projected: int | None) -> Costs:
    """Return the fields of a summary."""
    return {
        "cost": _float(money.spent if money.known else None),
        "cost_failed_attempts": _float(money.failed if money.known else None),
        "cost_perhaps": _float(money.perhaps if money.known else None),
        "cost_projected": _float(projected if money.known else None),
        "cost_saved_by_cache": _float(money.saved if money.known else None),
        "unpriced_attempts": money.unpriced,
        "open_requests": money.open_requests,
        "cost_open_requests": _float(money.held if money.known else None),
    }


def _float(picodollars: int | None) -> float | None:
    return None if picodollars is None else picodollars / PICO


def dollars(picodollars: int) -> Decimal:
    """Return an amount in dollars, without rounding."""
    return Decimal(picodollars).scaleb(-12)


def picodollars(amount: float) -> int:
    """Return an amount in picodollars. The text of a float is what a person wrote; a fraction of a picodollar is left out."""
    return int(Decimal(str(amount)) * PICO)


def shown(picodollars: int) -> str:
    """Return a sum as a person reads it: ``$0.0042``, ``$12.30``, ``$1,204.00``.

    It is rounded to the cent, and below a dollar to two digits, if these say more. Like ``exact``, it ends at the cent or at the
    last digit that is not 0.
    """
    if picodollars < 0:
        return f"-{shown(-picodollars)}"
    amount = dollars(picodollars)
    small = 0 < amount < Decimal("0.995")
    return _written(round(amount, max(_CENTS, 1 - amount.adjusted()) if small else _CENTS))


def exact(picodollars: int) -> str:
    """Return an amount that a person has typed, without rounding: ``$5.00``, ``$0.01``, ``$0.0125``."""
    return _written(dollars(picodollars))


def _written(amount: Decimal) -> str:
    exponent = amount.normalize().as_tuple().exponent
    assert isinstance(exponent, int)
    return f"${amount:,.{max(_CENTS, -exponent)}f}"


def tier_asked(tier: str | None, extra_body: Mapping[str, object] | None) -> str | None:
    """Return the service tier that a request asks for, by its own or in its ``extra_body``; None if it asks for none."""
    asked = tier or (extra_body or {}).get("service_tier")
    return asked if isinstance(asked, str) else None
