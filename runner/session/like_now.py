"""What answered rows tell of others: those of the same settings do, at the prices and in the service tier of now."""

from collections.abc import Collection, Mapping
from collections.abc import Set as AbstractSet
from pathlib import Path

from msgspec import structs

from runner.batches import BATCH_TIER
from runner.money import FLEX, STANDARD, Price, Rates, lowest, tier_of
from runner.prices.rates import Schedule
from runner.session.learned import Now
from runner.store.made_with import made_with
from runner.store.samples import RowSpent, Spent


def of_settings(store: Path, run_id: int, rows: Mapping[str, RowSpent], variant: int | None) -> dict[str, RowSpent]:
    """Return the rows whose outcomes were made with the settings of a session. variant: their entry; None: those of the run."""
    made = made_with(store, run_id, rows)
    return {key: row for key, row in rows.items() if key not in made or made[key].variant == variant}


def as_now(store: Path, run_id: int, rows: Mapping[str, RowSpent], variant: int | None, now: Now) -> dict[str, RowSpent]:
    """Return these rows with what their tokens cost now, in the service tier that is asked for; those whose price is known."""
    mine = of_settings(store, run_id, rows, variant)
    made = made_with(store, run_id, mine)
    tiers = _tiers(now, {one.price.tier for one in made.values() if one.price is not None})
    found = {key: _priced(row, made[key].price if key in made else None, tiers, now) for key, row in mine.items()}
    return {key: row for key, row in found.items() if row is not None}


def _tiers(now: Now, seen: AbstractSet[str]) -> Collection[str]:
    """Return the tiers that tell of requests which ask for that of ``now``. seen: those of the rows."""
    asked = tier_of(now.tier)
    if now.alone:
        return (asked,)
    if asked != STANDARD:
        # some of the requests that ask for another tier are served by the standard one
        return (asked, STANDARD) if asked in seen else ()
    # a server may have put all of them into a tier of its own
    return (STANDARD,) if STANDARD in seen else seen - {FLEX, BATCH_TIER}


def _priced(row: RowSpent, price: Price | None, tiers: Collection[str], now: Now) -> RowSpent | None:
    """Return a row with what it costs now; None if that is not known. price: at which it was billed."""
    if price is None or price.rates is None:
        # that they have no price is seen elsewhere
        return row
    tier = price.tier if price.tier in tiers else tier_of(now.tier)
    schedule = now.rates(price.model, tier)
    if tier == price.tier and (schedule is None or _holds(price, schedule, now.rates(price.model, STANDARD))):
        return row
    then = _cost(row.last, price.rates)
    return _times(row, _cost(row.last, schedule.of(row.last.input_tokens)) / then) if schedule is not None and then else None


def _holds(price: Price, schedule: Schedule, standard: Schedule | None) -> bool:
    """Tell whether a price is one of those of a schedule. It may span that and the standard tier, if neither was named."""
    known = [schedule.base, *(rates for _, rates in schedule.steps)]
    if price.most is not None and standard is not None:
        known += [lowest([one, other]) for one in known for other in (standard.base, *(rates for _, rates in standard.steps))]
    return price.rates in known


def _cost(spent: Spent, rates: Rates) -> int:
    return spent.input_tokens * rates.input + spent.output_tokens * rates.output


def _times(row: RowSpent, ratio: float) -> RowSpent:
    """Return a row whose attempts cost so many times as much. Caches are taken to save the same part."""
    last, others = (Spent(one.input_tokens, one.output_tokens, round(one.cost * ratio)) for one in (row.last, row.others))
    perhaps = round(row.perhaps * ratio) if row.perhaps is not None else None
    return structs.replace(row, last=last, others=others, perhaps=perhaps, unsure=round(row.unsure * ratio))
