"""Which rates hold for an attempt: the prices that the user states, then the provider's list, else none."""

from collections.abc import Mapping

from msgspec import Struct

from runner.model import Json
from runner.prices import listed
from runner.prices.own import Stated, stated
from runner.prices.rates import Schedule

STANDARD = "standard"
"""The service tier of an ordinary request."""


class Vendor(Struct, frozen=True):
    """Whose list prices hold. name: by the list's name; None: the address is not the vendor's, so no list price holds."""

    name: str | None


class PriceBook:
    """The rates of models, looked up once for each model, tier and day."""

    def __init__(self, vendor: Vendor, own: Mapping[str, Json]) -> None:
        self._vendor = vendor
        self._own = {model: stated(model, table) for model, table in own.items()}
        self._known: dict[tuple[str, str, int], Schedule | None] = {}

    def schedule(self, model: str, at: float, tier: str = STANDARD) -> Schedule | None:
        """Return the rates of a model at an instant (seconds since the epoch); None if its price is not known, which is not 0."""
        own = self._own.get(model)
        if own is not None and own.holds(at):
            return _of_tier(own, tier)
        if self._vendor.name is None:
            return None
        # the list's prices begin and end with days, and some with hours
        key = (model, tier, int(at // 3600))
        if key not in self._known:
            self._known[key] = listed.schedule(self._vendor.name, model, at, tier)
        return self._known[key]

    def of(self, asked: str, served: str | None, at: float, tier: str = STANDARD) -> Schedule | None:
        """Return the rates of an attempt: those of the model that was asked for, else of the model that the answer names.

        An alias of a gateway is known only by what it leads to; a price that the user states for either name comes first.
        """
        names = [asked] if served is None or served == asked else [asked, served]
        for name in names:
            own = self._own.get(name)
            if own is not None and own.holds(at):
                return _of_tier(own, tier)
        for name in names:
            if (found := self.schedule(name, at, tier)) is not None:
                return found
        return None


def _of_tier(own: Stated, tier: str) -> Schedule:
    factor = {"batch": own.batch, "flex": own.flex}.get(tier)
    if factor is None and tier in ("batch", "flex"):
        factor = listed.HALF
    return own.standard if factor is None else own.standard.times(factor)
