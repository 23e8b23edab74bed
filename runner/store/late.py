"""Books what attempts have used, where that is known only after they were given up. Synchronous."""

import sqlite3
from collections.abc import Sequence

from runner.entries import price_of
from runner.model import Attempt, Usage
from runner.store.statements import number_prices

_BOOK = """
UPDATE attempts SET sent = ?, input_tokens = ?, output_tokens = ?, cached_tokens = ?, cache_write_tokens = ?,
    cache_write_1h_tokens = ?, reasoning_tokens = ?, served_model = ?, tier = ?, response_id = ?, price_id = ?,
    input_bound = NULL, output_bound = NULL, cache_1h_bound = NULL
WHERE run_id = ? AND item_key = ? AND number = ? AND error_code = 'worker_lost' AND input_tokens IS NULL
"""


def book_late(driver: sqlite3.Connection, run_id: int, late: Sequence[Attempt]) -> None:
    """Write down attempts as they are known now: with what they have used, or as never sent."""
    numbers = number_prices(driver, run_id, {price_of(attempt) for attempt in late})
    for attempt in late:
        usage = attempt.usage or Usage()
        values = (
            attempt.sent, usage.input_tokens, usage.output_tokens, usage.cached_tokens, usage.cache_write_tokens,
            usage.cache_write_1h_tokens, usage.reasoning_tokens, attempt.served_model, attempt.tier, attempt.response_id,
            numbers[price_of(attempt)],
        )  # fmt: skip
        driver.execute(_BOOK, (*values, run_id, attempt.key, attempt.number))
