"""With which settings, and at which prices, rows got their outcomes; and the answers of the rows that a retry asks again."""

from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import sqlalchemy as sa

from runner.money import Price, Rates
from runner.store import database
from runner.store.cost import most_of
from runner.store.schema import attempts, items, prices, retried, retries

_BATCH = 500
_RATES = Rates.__struct_fields__


class Made(NamedTuple):
    """What made an outcome. variant: the entry of the settings; None: those of the run. price: None: it was not kept."""

    variant: int | None
    price: Price | None


class Old(NamedTuple):
    """The answer that a row has, as far as it is known."""

    finish_reason: str | None
    output_tokens: int | None


def made_with(store: Path, run_id: int, keys: Iterable[str]) -> dict[str, Made]:
    """Return what made the outcomes of these rows, without those for which nothing was sent."""
    rates = (prices.c[name] for name in (*_RATES, *(most_of(name) for name in _RATES)))
    joined = items.join(attempts, attempts.c.id == items.c.attempt_id).outerjoin(prices, prices.c.id == attempts.c.price_id)
    columns = (items.c.key, attempts.c.variant_id, prices.c.model, prices.c.tier, *rates)
    found, left = dict[str, Made](), iter(keys)
    with database.transaction(store, write=False) as connection:
        while batch := list(islice(left, _BATCH)):
            those = sa.select(*columns).select_from(joined).where(items.c.run_id == run_id, items.c.key.in_(batch))
            for key, variant, *price in connection.execute(those):
                found[key] = Made(variant, _price(*price))
    return found


def asked_again(store: Path, run_id: int, most: int) -> dict[str, Old]:
    """Return the answers of the first rows that the newest retry of a run is still to ask again. most: so many rows."""
    newest = sa.select(sa.func.max(retries.c.id)).where(retries.c.run_id == run_id).scalar_subquery()
    mine = (retried.c.run_id == run_id, retried.c.retry_id == newest, retried.c.outcome.is_(None))
    joined = retried.join(items, sa.and_(items.c.run_id == retried.c.run_id, items.c.key == retried.c.item_key)).outerjoin(
        attempts, attempts.c.id == items.c.attempt_id
    )
    columns = (items.c.key, items.c.finish_reason, attempts.c.output_tokens)
    first = sa.select(*columns).select_from(joined).where(*mine).order_by(items.c.position, items.c.id).limit(most)
    with database.transaction(store, write=False) as connection:
        return {key: Old(reason, tokens) for key, reason, tokens in connection.execute(first)}


def _price(model: str | None, tier: str | None, *rates: Any) -> Price | None:
    if model is None or tier is None:
        return None
    own, top = (rates[: len(_RATES)], rates[len(_RATES) :])
    return Price(model=model, tier=tier, rates=_rates(own), most=_rates(top))


def _rates(values: tuple[Any, ...]) -> Rates | None:
    return Rates(**dict(zip(_RATES, values, strict=True))) if None not in values else None
