"""Gives attempts whose price was not known when they were made the price that is known now; and open requests. Synchronous."""

import sqlite3
from collections.abc import Callable, Sequence
from typing import Any

from runner.admission import TOGETHER
from runner.model import Attempt, Usage
from runner.money import STANDARD, Price, Rates
from runner.store.statements import number_prices

_PAGE = 1_000
# in the order of the table: CROSS keeps SQLite from sorting all for each page, adding 0 from the index in the order of the keys
_MINE = "FROM attempts a CROSS JOIN prices p ON p.id = a.price_id WHERE a.run_id + 0 = ? AND a.price_id IN ({})"
_GROUPS = f"""
SELECT a.price_id, p.model, p.tier, a.tier, a.served_model, a.endpoint, min(a.started_at),
       max(a.started_at) {_MINE}
GROUP BY a.price_id, a.tier, a.served_model, a.endpoint
"""
_UNPRICED = f"""
SELECT a.id, p.model, p.tier, a.tier, a.served_model, a.endpoint, a.started_at, a.item_key, a.number, a.duration_s,
       a.input_tokens, a.output_tokens, a.cached_tokens, a.cache_write_tokens, a.input_bound, a.cache_1h_bound, a.price_id
{_MINE} AND a.id > ? ORDER BY a.id LIMIT ?
"""

_OPEN = """
SELECT r.id, r.price_id, p.model, p.tier, r.started_at, r.input_bound FROM reservations r JOIN prices p ON p.id = r.price_id
WHERE r.run_id = ? AND r.item_key = ? AND r.price_id IN ({})
"""
_IN_BATCHES = """
SELECT b.id, b.price_id, p.model, p.tier, b.created_at FROM batches b JOIN prices p ON p.id = b.price_id
WHERE b.run_id = ? AND b.waiting + b.released > 0 AND b.price_id IN ({})
"""
Highest = Callable[[str, float, str | None, int], Rates | None]
"""Returns the highest rates that a request can reach: ``PriceBook.highest``."""


def price_again(
    driver: sqlite3.Connection, run_id: int, unknown: Sequence[int], price: Callable[[Attempt], Price]
) -> list[tuple[int, int]]:
    """Look the prices of attempts up again. unknown: entries of prices without rates. price: returns the price of an attempt.

    Return the attempts that have a price now, as (former entry of prices, attempt).

    SQLite alone looks at every attempt: of those with the same names and without rates, the first and the last are tried.
    """
    groups = driver.execute(_GROUPS.format(_placeholders(unknown)), (run_id, *unknown))
    hopeful = sorted(
        {
            entry
            for entry, model, asked, tier, served, where, *times in groups
            if any(price(_attempt(model, asked, tier, served, where, at)).rates is not None for at in times)
        }
    )
    if not hopeful:
        return []
    query = _UNPRICED.format(_placeholders(hopeful))
    last_id, before = 0, list[tuple[int, int]]()
    while rows := driver.execute(query, (run_id, *hopeful, last_id, _PAGE)).fetchall():
        prices = {row[0]: price(_attempt(*row[1:-1])) for row in rows}
        numbers = number_prices(driver, run_id, {found for found in prices.values() if found.rates is not None})
        changed = [(numbers[found], number) for number, found in prices.items() if found in numbers]
        driver.executemany("UPDATE attempts SET price_id = ? WHERE id = ?", changed)
        before += [(row[-1], row[0]) for row in rows if prices[row[0]] in numbers]
        last_id = rows[-1][0]
    return before


def price_open_again(driver: sqlite3.Connection, run_id: int, unknown: Sequence[int], highest: Highest) -> list[tuple[int, int]]:
    """Look up the price of requests that were open when a session without a budget was killed.

    unknown: as for ``price_again``. Return what has a price now, as (former entry of prices, reservation).
    """
    query = _OPEN.format(_placeholders(unknown))
    before = []
    for number, former, model, tier, at, bound in driver.execute(query, (run_id, TOGETHER, *unknown)).fetchall():
        if (rates := highest(model, at, tier, bound)) is not None:
            price = Price(model=model, tier=STANDARD, rates=rates)
            entry = number_prices(driver, run_id, [price])[price]
            driver.execute("UPDATE reservations SET price_id = ? WHERE id = ?", (entry, number))
            before.append((former, number))
    return before


def price_batches_again(
    driver: sqlite3.Connection, run_id: int, unknown: Sequence[int], price: Callable[[Attempt], Price]
) -> list[tuple[int, int]]:
    """Look up the price of requests that wait in batches. unknown, price: as for ``price_again``.

    Return what has a price now, as (former entry of prices, batch).
    """
    before = []
    query = _IN_BATCHES.format(_placeholders(unknown))
    for number, former, model, tier, at in driver.execute(query, (run_id, *unknown)).fetchall():
        if (found := price(_attempt(model, tier, None, None, None, at))).rates is not None:
            entry = number_prices(driver, run_id, [found])[found]
            driver.execute("UPDATE batches SET price_id = ? WHERE id = ?", (entry, number))
            before.append((former, number))
    return before


def _attempt(model: str, asked: str, tier: str | None, served: str | None, where: str | None, at: float, *rest: Any) -> Attempt:
    """Return what the price of an attempt depends on. rest: the other columns of ``_UNPRICED``; none: nothing else is known."""
    key, number, duration_s, read, written, cached, stored, bound, hour = rest or ("", 1, 0.0, *(None,) * 6)
    return Attempt(
        key=key,
        number=number,
        started_at=at,
        duration_s=duration_s,
        usage=Usage(input_tokens=read, output_tokens=written, cached_tokens=cached, cache_write_tokens=stored),
        model=model,
        endpoint=where,
        served_model=served,
        tier=tier,
        asked_tier=asked,
        input_bound=bound,
        cache_1h_bound=hour,
    )


def _placeholders(values: Sequence[int]) -> str:
    return ",".join("?" * len(values))
