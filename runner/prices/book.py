"""Which rates hold for an attempt: the prices that the user states, then the list of the provider, else none."""

from collections.abc import Mapping

from msgspec import structs

from runner.batches import BATCH_TIER
from runner.model import Attempt, Json
from runner.money import STANDARD, Price, Rates, highest, lowest, tier_of
from runner.prices import listed
from runner.prices.own import stated
from runner.prices.rates import Schedule, input_of

_TIERS = ("standard", "flex", "batch", "priority")
_SOON_S = 3600.0
"""Seconds that may pass between the look at the prices and the request."""
_MOST_KNOWN = 10_000
"""Rates of minutes that are kept, so that memory stays flat."""


class PriceBook:
    """The rates of models, looked up once for each model, tier and minute.

    vendor: whose list prices hold, as ``listed.vendor`` returns it; None: nobody's, so only the stated ones. own: tables of
    ``[prices]`` by model. Raises UsageError for one that cannot be read.
    """

    def __init__(self, vendor: str | None, own: Mapping[str, Json]) -> None:
        self._vendor = vendor
        self._own = {model: stated(model, table) for model, table in own.items()}
        self._known: dict[tuple[str, str, int], Schedule | None] = {}
        self._prices: dict[tuple[str, str, Schedule | None], Price] = {}

    def begins(self, model: str, at: float) -> float | None:
        """Return when the stated price of a model begins to hold, if later than ``at``. Both in seconds since the epoch."""
        own = self._own.get(model)
        return own.since if own is not None and not own.holds(at) else None

    def schedule(self, model: str, at: float, tier: str = STANDARD) -> Schedule | None:
        """Return the rates of a model at an instant (seconds since the epoch); None if its price is not known, which is not 0.

        tier: by the provider's name, or ``standard``. One without rates of its own has none: it may cost more than standard.
        """
        return self.of(model, None, at, tier)

    def of(self, asked: str, served: str | None, at: float, tier: str | None) -> Schedule | None:
        """Return the rates of an attempt: those of the model that was asked for, else of the model that the answer names.

        An alias of a gateway is known only by what it leads to; a price that the user states for either name comes first.
        """
        tier = tier_of(tier)
        names = [asked] if served is None or served == asked else [asked, served]
        for name in names:
            own = self._own.get(name)
            if own is not None and own.holds(at):
                return own.of_tier(tier, listed.factor(self._vendor, tier))
        return next((found for name in names if (found := self._listed(name, at, tier)) is not None), None)

    def price(self, attempt: Attempt) -> Price:
        """Return the price of an attempt. One whose tokens are not known has the highest rates that it can reach.

        Where the answer does not name its tier, it is the one that was asked for or the standard one: the price spans both. Where
        it does not tell for how long its caches are kept, it spans the rates of both kinds.
        """
        price = self._of_its_tier(attempt)
        if attempt.cache_1h_bound is None or attempt.input_bound is not None or price.rates is None:
            return price
        top = price.most or price.rates
        return structs.replace(price, most=structs.replace(top, cache_write=max(top.cache_write, top.cache_write_1h)))

    def _of_its_tier(self, attempt: Attempt) -> Price:
        tier = tier_of(attempt.tier or attempt.asked_tier)
        schedule = self.of(attempt.model, attempt.served_model, attempt.started_at, tier)
        if tier != STANDARD and attempt.tier is None:
            return self._spanning(attempt, tier, schedule)
        if schedule is None or not schedule.steps:
            key = (attempt.model, tier, schedule)
            if (known := self._prices.get(key)) is None:
                known = Price(model=attempt.model, tier=tier, rates=schedule.base if schedule is not None else None)
                self._prices[key] = known
            return known
        return Price(model=attempt.model, tier=tier, rates=_reached(schedule, attempt))

    def _spanning(self, attempt: Attempt, tier: str, asked: Schedule | None) -> Price:
        """Return the price of an attempt that a tier was asked for and that does not name the one which served it."""
        standard = self.of(attempt.model, attempt.served_model, attempt.started_at, STANDARD)
        if asked is None or standard is None:
            return Price(model=attempt.model, tier=tier, rates=None)
        both = [_reached(asked, attempt), _reached(standard, attempt)]
        return Price(model=attempt.model, tier=tier, rates=lowest(both), most=highest(both))

    def highest(self, model: str, at: float, tier: str | None, input_tokens: int) -> Rates | None:
        """Return the highest rates that a request which goes out now can reach; None if its price is not known.

        at: the instant, in seconds since the epoch; prices that hold within an hour of it count too. tier: the service tier that
        it asks for, whose price must be known. It may be served by another one: those with a price count. input_tokens: the most
        that it can have.
        """
        asked, times = tier_of(tier), (at, at + _SOON_S)
        if any(self.of(model, None, when, one) is None for one in (STANDARD, asked) for when in times):
            return None
        # what goes through a batch is billed as that, whatever tier its answer names
        tiers = {BATCH_TIER} if asked == BATCH_TIER else {*_TIERS, asked}
        found = [self.of(model, None, when, one) for one in tiers for when in times]
        if model not in self._own:
            # the answer may name another model, which has a stated price
            part = listed.factor(self._vendor, asked) if asked == BATCH_TIER else None
            found += [stated.of_tier(asked, part) if asked == BATCH_TIER else stated.standard for stated in self._own.values()]
        return highest([schedule.worst(input_tokens) for schedule in found if schedule is not None])

    def beside(self, model: str, at: float) -> str | None:
        """Return what the list has of a model beside its tokens, for which its price is not known, in words; None if nothing."""
        return listed.beside(self._vendor, model, at) if self._vendor is not None and model not in self._own else None

    def limit(self, model: str) -> int | None:
        """Return the most tokens that an answer of a model can have, by the list; None if that is not known."""
        return listed.limit(self._vendor, model) if self._vendor is not None else None

    def _listed(self, model: str, at: float, tier: str) -> Schedule | None:
        if self._vendor is None:
            return None
        # the list's prices begin and end with days, and some at half hours
        key = (model, tier, int(at // 60))
        if key not in self._known:
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            self._known[key] = listed.schedule(self._vendor, model, at, tier)
        return self._known[key]


def _reached(schedule: Schedule, attempt: Attempt) -> Rates:
    """Return the rates that an attempt has reached by its size; the highest that it can reach if that is not known."""
    read = input_of(attempt.usage)
    return schedule.of(read) if read is not None else schedule.worst(attempt.input_bound or 0)
