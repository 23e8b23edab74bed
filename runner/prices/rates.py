"""The rates of a model by the size of the request, and what an attempt costs at them. Amounts are in whole picodollars."""

from decimal import ROUND_HALF_EVEN, Decimal

from msgspec import Struct, structs

from runner.model import Attempt, Usage
from runner.money import Rates, Tokens, highest


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

    def worst(self, input_tokens: int) -> Rates:
        """Return the highest rate of each kind that a request with up to so many tokens of input can reach."""
        return highest([self.base, *(rates for beyond, rates in self.steps if input_tokens > beyond)])

    def times(self, factor: Decimal) -> "Schedule":
        """Return the rates times a factor, such as 0.5 for a batch."""
        steps = tuple((beyond, _times(rates, factor)) for beyond, rates in self.steps)
        return Schedule(base=_times(self.base, factor), steps=steps)


def cost_of(usage: Usage | None, rates: Rates) -> int | None:
    """Return what an attempt costs for certain at some rates, in picodollars; None if its tokens are not known."""
    tokens = _by_kind(usage)
    return rates.cost(tokens) if tokens is not None else None


def perhaps_of(attempt: Attempt, rates: Rates, top: Rates | None = None) -> int | None:
    """Return what a billed attempt may cost beyond ``cost_of``, in picodollars; None if that has no limit, 0 if all is known.

    top: the highest rates that it may be billed at; None: ``rates``.
    """
    tokens = _by_kind(attempt.usage)
    known, unsure = (rates.cost(tokens), rates.unsure(tokens, top)) if tokens is not None else (0, 0)
    if attempt.input_bound is None:
        return unsure
    if attempt.output_bound is None:
        return None
    usage = attempt.usage or Usage()
    stored = usage.cache_write_tokens or 0
    # what was reported may be more than the bound
    read = max(attempt.input_bound, _fresh(usage) + (usage.cached_tokens or 0) + stored)
    written = max(attempt.output_bound, usage.output_tokens or 0)
    hour = max(attempt.cache_1h_bound or 0, min(usage.cache_write_1h_tokens or 0, stored))
    return (top or rates).most(read, written, hour) - known


def saved_by(usage: Usage | None, rates: Rates) -> int:
    """Return what a cache has saved of the cost of an attempt, in picodollars; 0 if its tokens are not known."""
    tokens = _by_kind(usage)
    return rates.saved(tokens) if tokens is not None else 0


def _by_kind(usage: Usage | None) -> Tokens | None:
    """Return the tokens of an attempt by their kinds; None if they are not known."""
    if usage is None or usage.input_tokens is None or usage.output_tokens is None:
        return None
    written = usage.output_tokens
    cached, stored = usage.cached_tokens or 0, usage.cache_write_tokens or 0
    hour = min(usage.cache_write_1h_tokens or 0, stored)
    reasoning = min(usage.reasoning_tokens or 0, written)
    told = usage.reasoning_tokens is not None
    return Tokens(
        fresh=_fresh(usage),
        cached=cached,
        cache_write=stored - hour,
        cache_write_1h=hour,
        plain=written - reasoning if told else 0,
        reasoning=reasoning,
        unsplit=0 if told else written,
    )


def input_of(usage: Usage | None) -> int | None:
    """Return all tokens of the input of a request, those of caches included; None if they are not known."""
    if usage is None or usage.input_tokens is None:
        return None
    return _fresh(usage) + (usage.cached_tokens or 0) + (usage.cache_write_tokens or 0)


def _fresh(usage: Usage) -> int:
    """Return the tokens of the input that no cache held or took."""
    read, in_caches = usage.input_tokens or 0, (usage.cached_tokens or 0) + (usage.cache_write_tokens or 0)
    # a server that counts its caches beside the input may tell more of them than input
    return read if in_caches > read else read - in_caches


def hour_rate(read: int, stored: int) -> int:
    """Return what a token costs that is written to a cache which is kept for an hour, where no price says it, in picodollars.

    read, stored: the rates of input, and of a cache that is kept for minutes. Only Anthropic sells caches of an hour, at twice
    the rate of input (guide *Prompt caching*).
    """
    return max(2 * read, stored)


def per_token(dollars_per_million: Decimal) -> int:
    """Return a rate in picodollars per token."""
    return _whole(dollars_per_million * 1_000_000)


def _times(rates: Rates, factor: Decimal) -> Rates:
    return structs.replace(rates, **{name: _whole(value * factor) for name, value in structs.asdict(rates).items()})


def _whole(amount: Decimal) -> int:
    return int(amount.to_integral_value(rounding=ROUND_HALF_EVEN))
