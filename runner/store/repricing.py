"""Gives attempts whose price was not known when they were made the price that is known now. Synchronous."""

import sqlite3
from collections.abc import Callable, Sequence
from typing import Any

from runner.model import Attempt, Usage
from runner.money import Price
from runner.store.statements import number_prices

_PAGE = 1_000
_UNPRICED = """
SELECT a.id, a.item_key, a.number, a.started_at, a.duration_s, a.input_tokens, a.output_tokens, a.served_model, a.tier,
       a.input_bound, p.model, a.price_id
FROM attempts a JOIN prices p ON p.id = a.price_id
WHERE a.id > ? AND a.run_id + 0 = ? AND a.price_id IN ({}) ORDER BY a.id LIMIT ?
"""


def price_again(
    driver: sqlite3.Connection, run_id: int, unknown: Sequence[int], price: Callable[[Attempt], Price]
) -> list[tuple[int, int]]:
    """Look the prices of attempts up again. unknown: entries of prices without rates. price: returns the price of an attempt.

    Return the attempts that have a price now, as (former entry of prices, attempt).
    """
    query = _UNPRICED.format(",".join("?" * len(unknown)))
    last, before = 0, list[tuple[int, int]]()
    while rows := driver.execute(query, (last, run_id, *unknown, _PAGE)).fetchall():
        prices = {row[0]: price(_attempt(row[1:-1])) for row in rows}
        numbers = number_prices(driver, run_id, {found for found in prices.values() if found.rates is not None})
        changed = [(numbers[found], number) for number, found in prices.items() if found in numbers]
        driver.executemany("UPDATE attempts SET price_id = ? WHERE id = ?", changed)
        before += [(row[-1], row[0]) for row in rows if prices[row[0]] in numbers]
        last = rows[-1][0]
    return before


def _attempt(values: Sequence[Any]) -> Attempt:
    key, number, started_at, duration_s, read, written, served, tier, bound, model = values
    return Attempt(
        key=key,
        number=number,
        started_at=started_at,
        duration_s=duration_s,
        usage=Usage(input_tokens=read, output_tokens=written),
        model=model,
        served_model=served,
        tier=tier,
        input_bound=bound,
    )
