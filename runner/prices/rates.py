"""The rates of a model, and what an attempt costs at them. Whole numbers only: a sum of a million costs has no rounding error.

The unit is the picodollar. A rate of 1 dollar per million tokens is 1,000,000 picodollars per token, so each rate with up to six
decimals is a whole number.
"""

from decimal import ROUND_HALF_EVEN, Decimal

from msgspec import Struct, structs

from runner.model import Usage

PICO = 10**12
"""Picodollars in a dollar."""


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


class Schedule(Struct, frozen=True, kw_only=True):
    """The rates of a model by the size of the request."""

    base: Rates
    # (tokens, rates), by tokens: with more tokens of input than that, these rates hold for all tokens of the request
    steps: tuple[tuple[int, Rates], ...] = ()

    def of(self, input_tokens: int) -> Rates:
        """Return the rates of a request with so many tokens of input."""
        found = self.base
        for beyond, rates in self.steps:
            if input_tokens > beyond:
                found = rates
        return found

    def cost(self, usage: Usage) -> int | None:
        """Return what an attempt costs, in picodollars; None if its tokens are not known."""
        read, written = usage.input_tokens, usage.output_tokens
        if read is None or written is None:
            return None
        rates = self.of(read)
        cached, stored = usage.cached_tokens or 0, usage.cache_write_tokens or 0
        reasoning = min(usage.reasoning_tokens or 0, written)
        # a server that counts its cache beside the input says less input than cache
        fresh = max(0, read - cached - stored)
        return (
            fresh * rates.input
            + cached * rates.cached_input
            + stored * rates.cache_write
            + (written - reasoning) * rates.output
            + reasoning * rates.reasoning
        )

    def most(self, input_tokens: int, output_tokens: int) -> int:
        """Return the most that a request with up to so many tokens can cost, in picodollars."""
        reached = [self.base, *(rates for beyond, rates in self.steps if input_tokens > beyond)]
        read, written = max(rates.highest_input for rates in reached), max(rates.highest_output for rates in reached)
        return input_tokens * read + output_tokens * written

    def times(self, factor: Decimal) -> "Schedule":
        """Return the rates times a factor, such as 0.5 for a batch."""
        return Schedule(base=_times(self.base, factor), steps=tuple((beyond, _times(rates, factor)) for beyond, rates in self.steps))


def per_token(dollars_per_million: Decimal) -> int:
    """Return a rate in picodollars per token."""
    return _whole(dollars_per_million * 1_000_000)


def dollars(picodollars: int) -> Decimal:
    """Return an amount in dollars, without rounding."""
    return Decimal(picodollars).scaleb(-12)


def _times(rates: Rates, factor: Decimal) -> Rates:
    return structs.replace(rates, **{name: _whole(value * factor) for name, value in structs.asdict(rates).items()})


def _whole(amount: Decimal) -> int:
    return int(amount.to_integral_value(rounding=ROUND_HALF_EVEN))
