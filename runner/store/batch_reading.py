"""Reads batches from a store, also without the lock of their run."""

from typing import Any

import msgspec
import sqlalchemy as sa

from runner.batches import OPEN_STATES, StoredBatch
from runner.money import Price, Rates
from runner.store.cost import most_of
from runner.store.schema import batches, prices, reasks
from runner.store.spending import Fetch

_RATES = Rates.__struct_fields__
_FIELDS = tuple(name for name in StoredBatch.__struct_fields__ if name != "price")


def select_batches(run_id: int | None = None, *, all_states: bool = False) -> sa.Select[Any]:
    """Return the statement that selects batches in the order of their creation. run_id: None for all runs of the store.

    all_states: False for those in an open state.
    """
    b, p = batches.c, prices.c
    price = (p.model.label("price_model"), p.tier, *(p[name] for rate in _RATES for name in (rate, most_of(rate))))
    joined = batches.outerjoin(prices, p.id == b.price_id)
    found = sa.select(*(b[name] for name in _FIELDS), *price).select_from(joined).order_by(b.id)
    found = found.where(b.run_id == run_id) if run_id is not None else found
    return found if all_states else found.where(b.state.in_(OPEN_STATES))


def batch_of(row: Any) -> StoredBatch:
    """Return the batch of a row of ``select_batches``."""
    values = {name: getattr(row, name) for name in _FIELDS}
    values["results"] = tuple(msgspec.json.decode(values["results"]))
    return StoredBatch(**values, price=_price(row))


def read_batches(fetch: Fetch, run_id: int | None = None, *, all_states: bool = False) -> list[StoredBatch]:
    """Return the batches of a run, or of all runs of a store, in the order of their creation. fetch: as of ``StoreReader``."""
    return [batch_of(row) for row in fetch(select_batches(run_id, all_states=all_states))]


def in_batches(fetch: Fetch, run_id: int) -> dict[str, Any]:
    """Return how many rows of a run wait in batches, and how many batches these are. fetch: as of ``StoreReader``."""
    mine = (batches.c.run_id == run_id, batches.c.state.in_(OPEN_STATES))
    ((waiting, number),) = fetch(sa.select(sa.func.coalesce(sa.func.sum(batches.c.waiting), 0), sa.func.count()).where(*mine))
    return {"waiting": int(waiting), "batches": number}


def waiting_in(run_id: int) -> sa.Select[Any]:
    """Return the statement that counts the rows of a run that wait in open batches."""
    mine = (batches.c.run_id == run_id, batches.c.state.in_(OPEN_STATES))
    return sa.select(sa.func.coalesce(sa.func.sum(batches.c.waiting), 0)).where(*mine)


def has_reasks(run_id: int) -> sa.Exists:
    """Tell whether rows of a run are to be asked again with other messages."""
    return sa.exists().where(reasks.c.run_id == run_id)


def _price(row: Any) -> Price | None:
    if row.price_model is None:
        return None
    least, most = ({rate: getattr(row, name(rate)) for rate in _RATES} for name in (str, most_of))
    rates, top = (Rates(**one) if one["input"] is not None else None for one in (least, most))
    return Price(model=row.price_model, tier=row.tier, rates=rates, most=top)
